//! What is told about commands in the log: a flood of commands is no flood of lines, and no
//! line is longer or other than a line.

use std::time::Instant;

use log::Level;

use super::limits::MAX_LINE;
use crate::model::flood::Flood;

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub struct Lines {
    flood: Flood,
    waiting: Vec<Line>,
}

impl Lines {
    /// Tells something, unless too much was told in this second.
    pub fn tell(&mut self, now: Instant, level: Level, text: &str) {
        self.tell_left_out(now);
        if self.flood.passes(now) {
            self.always(level, text);
        }
    }

    fn tell_left_out(&mut self, now: Instant) {
        if let Some(count) = self.flood.left_out(now) {
            let left_out = format!("{count} lines about commands were left out");
            self.always(Level::Warn, &left_out);
        }
    }

    /// Tells what is rare by itself.
    pub fn always(&mut self, level: Level, text: &str) {
        let text = one_line(text);
        self.waiting.push(Line { level, text });
    }

    /// When there will be a line without anything else happening.
    pub fn due(&self) -> Option<Instant> {
        self.flood.ends()
    }

    /// What is to be written now.
    pub fn take(&mut self, now: Instant) -> Vec<Line> {
        self.tell_left_out(now);
        std::mem::take(&mut self.waiting)
    }
}

/// What is quoted is escaped already; words of servers in a reason are not.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_LINE));
    for letter in text.chars() {
        let shown = if letter.is_control() {
            letter.escape_default().to_string()
        } else {
            letter.to_string()
        };
        if line.len() + shown.len() > MAX_LINE {
            line.push('…');
            break;
        }
        line.push_str(&shown);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_is_told_in_part_and_the_rest_as_a_number() {
        let begin = Instant::now();
        let mut lines = Lines::default();
        for n in 0..100 {
            lines.tell(begin, Level::Info, &n.to_string());
        }
        assert_eq!(lines.take(begin).len(), 5);
        let end = begin + Duration::from_secs(1);
        assert_eq!(lines.due(), Some(end));
        let texts: Vec<String> = lines.take(end).into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["95 lines about commands were left out"]);
        assert_eq!(lines.due(), None);
    }

    #[test]
    fn a_line_is_one_line_and_not_long() {
        assert_eq!(one_line("a\r\nb\u{1b}ü"), "a\\r\\nb\\u{1b}ü");
        for text in ["x".repeat(5000), "\n".repeat(5000), "😀".repeat(5000)] {
            let line = one_line(&text);
            assert!((890..=903).contains(&line.len()) && line.ends_with('…'));
        }
    }
}
