//! What came out, for people.

use std::fmt;

use crate::conversation::{About, Report};

pub enum Outcome {
    Held(Box<Report>),
    /// It cannot be installed or does not start here: no fault of anybody.
    NotToBeHad(String),
    /// The conversation broke off.
    Broken(String),
}

pub struct Row {
    pub about: About,
    pub name: &'static str,
    pub version: String,
    pub outcome: Outcome,
}

impl Row {
    pub fn faults(&self) -> usize {
        match &self.outcome {
            Outcome::Held(report) => report.faults.len(),
            Outcome::NotToBeHad(_) => 0,
            Outcome::Broken(_) => 1,
        }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.name.to_string(), self.version.clone()];
        match &self.outcome {
            Outcome::NotToBeHad(reason) => cells.push(format!("not to be had here: {reason}")),
            Outcome::Broken(reason) => cells.push(format!("broke off: {reason}")),
            Outcome::Held(report) => {
                let result = if report.faults.is_empty() {
                    report.delivery.clone()
                } else {
                    format!("FAULTS: {}", report.faults.join("; "))
                };
                cells.extend([report.speaks.clone(), result]);
                if self.about == About::Broker {
                    cells.extend([
                        report.killed.clone(),
                        report.limit.clone(),
                        report.password.clone(),
                        report.forbidden.clone(),
                    ]);
                } else {
                    cells.push(report.backlog.clone());
                }
                cells.push(report.commands.clone());
            }
        }
        cells
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} |", self.cells().join(" | "))
    }
}

const BROKERS: &str = "| broker | version | MQTT | 100,000 measurements | kill -9 of the broker | a measurement above its limit | a wrong password | a forbidden topic | commands |";
const SERVERS: &str = "| server | version | MQTT | 100,000 measurements | backlog of 9,999, 10,000, 10,001 and 99,991 | commands |";

/// What a broker does not do, in the words of its cell, and how the service copes.
const COPES: [(&str, &str); 11] = [
    (
        " 3.1.1",
        "where the broker refuses MQTT 5, closes or says nothing, the service finds out by itself, and remembers it for a day",
    ),
    (
        "repeated",
        "one list, of up to 1000, whose confirmation got lost with the broker or the connection: a back end tells it by `_id`",
    ),
    (
        "forgets the session of the back end",
        "what a broker has confirmed and keeps in memory alone goes with it. No device can know that: `mqtt_sender:last_id` set back sends it again",
    ),
    ("loses what it holds", "the same, with the session kept"),
    (
        "dead letter",
        "the list is halved until the measurement is alone; its copy is in `mqtt_sender:dead_letter`, and all others arrive",
    ),
    (
        "closes without a word",
        "the log says that it closes before it answers, and which settings to look at",
    ),
    (
        "confirms and throws away",
        "3.1.1 has no word for a refusal, so it is lost without a trace: MQTT 5 where the broker speaks it, and a look at the back end where it does not",
    ),
    (
        "closes, nothing lost",
        "the connection is made again, ever more slowly; the cursor stays, and the log says what the broker did",
    ),
    (
        "no answer, nothing lost",
        "the connection is given up after `ack_timeout_seconds` and made again; the cursor stays",
    ),
    (
        "told, nothing lost",
        "an error in the log names the topic, and it is tried again slowly until the broker takes it",
    ),
    (
        "comes without its mark",
        "a retained command is refused, for it comes again at each connect; without the mark it looks like any other and is executed: have none there",
    ),
];

/// Both tables, in Markdown, and what their words mean.
pub fn of(rows: &[Row]) -> String {
    let mut text = String::new();
    for (about, head) in [(About::Broker, BROKERS), (About::Redis, SERVERS)] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.about == about).collect();
        if rows.is_empty() {
            continue;
        }
        text += head;
        text += "\n|";
        text += &" --- |".repeat(head.matches('|').count() - 1);
        text += "\n";
        for row in rows {
            text += &format!("{row}\n");
        }
        text += "\n";
    }
    for (words, how) in COPES {
        if text.contains(words) {
            text += &format!("- **{}**: {how}.\n", words.trim());
        }
    }
    text
}
