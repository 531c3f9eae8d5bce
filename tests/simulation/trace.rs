//! What happens in a run, line by line, where somebody wants to read it.

use std::fmt::{Debug, Write};
use std::time::Instant;

use mqtt_handler::{bridge, link};

use crate::ledger::clock;

pub struct Trace {
    base: Instant,
    pub text: String,
}

impl Trace {
    pub fn new(base: Instant) -> Trace {
        Trace {
            base,
            text: String::new(),
        }
    }

    pub fn line(&mut self, now: Instant, who: &str, what: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{} {who:8} {what}", clock(self.base, now));
    }

    pub fn input(&mut self, who: &str, now: Instant, input: &impl Debug) {
        let mut what = format!("<- {input:?}");
        shorten_payloads(&mut what);
        self.line(now, who, &what);
    }

    pub fn bridge(&mut self, now: Instant, action: &bridge::Action) {
        match action {
            bridge::Action::Wait(until) => self.wait("bridge", now, *until),
            bridge::Action::Tell(notice) => self.told("bridge", now, notice.level(), notice),
            other => self.output("bridge", now, other),
        }
    }

    pub fn link(&mut self, now: Instant, action: &link::Action) {
        match action {
            link::Action::Wait(until) => self.wait("link", now, *until),
            link::Action::Tell(notice) => self.told("link", now, notice.level(), notice),
            other => self.output("link", now, other),
        }
    }

    fn wait(&mut self, who: &str, now: Instant, until: Instant) {
        let what = format!("-> wait until {}", clock(self.base, until));
        self.line(now, who, &what);
    }

    fn told(&mut self, who: &str, now: Instant, level: impl Debug, notice: impl ToString) {
        let what = format!("-> {level:?}: {}", notice.to_string());
        self.line(now, who, &what);
    }

    fn output(&mut self, who: &str, now: Instant, action: &impl Debug) {
        let mut what = format!("-> {action:?}");
        shorten_payloads(&mut what);
        self.line(now, who, &what);
    }
}

/// Bytes as numbers are of no use to a reader.
pub fn shorten_payloads(text: &mut String) {
    let Some(at) = text.find("payload: [") else {
        return;
    };
    if let Some(end) = text[at..].find(']') {
        text.replace_range(at + 10..at + end, "…");
    }
}
