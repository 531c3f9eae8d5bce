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
const SERVERS: &str = "| server | version | MQTT | 100,000 measurements | backlog of 9,999, 10,000, 10,001 and 100,000 or 100,001 | commands |";

/// Both tables, in Markdown.
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
    text
}
