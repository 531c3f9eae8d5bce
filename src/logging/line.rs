//! The form of a line: one event is one line, whatever text from outside it holds.
//!
//! A newline in a command must not forge a line, an escape sequence must not reach a terminal,
//! and 60 kB of input must not fill the log: control characters are escaped, and what is too
//! long is cut, here and nowhere else.

use std::fmt::{self, Write};

use log::Level;

/// Bytes of a line with its line end.
pub const MAX_LINE: usize = 1000;
/// Room for the note about what was cut off, and the line end.
const NOTE: usize = 40;

/// What a line begins with.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub time: bool,
    pub colour: bool,
}

impl Style {
    /// The bytes of a line, with its line end. `limit` is in bytes.
    pub fn line(self, level: Level, thread: &str, text: &fmt::Arguments, limit: usize) -> Vec<u8> {
        let time = match self.time {
            true => format!("{:.3} ", jiff::Timestamp::now()),
            false => String::new(),
        };
        let (on, off) = match self.colour {
            true => (colour(level), "\x1b[0m"),
            false => ("", ""),
        };
        let mut line = Line {
            out: format!("{time}{on}{level:5}{off} "),
            limit: limit.saturating_sub(NOTE),
            left_out: 0,
        };
        // What text there was until it failed is good enough.
        let _ = write!(line, "{thread}: {text}");
        if line.left_out > 0 {
            line.out += &format!(" … ({} bytes left out)", line.left_out);
        }
        line.out.push('\n');
        line.out.into_bytes()
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Error => "\x1b[1;31m",
        Level::Warn => "\x1b[33m",
        Level::Info => "\x1b[32m",
        Level::Debug => "\x1b[34m",
        Level::Trace => "\x1b[36m",
    }
}

/// Takes text up to its limit, escaped, and counts the rest.
struct Line {
    out: String,
    limit: usize,
    left_out: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            let before = self.out.len();
            if self.left_out == 0 {
                match is_harmless(letter) {
                    true => self.out.push(letter),
                    false => self.out.extend(letter.escape_default()),
                }
            }
            // From here on nothing more, or the end would look like a part of the middle.
            if self.left_out > 0 || self.out.len() > self.limit {
                self.out.truncate(before);
                self.left_out += letter.len_utf8();
            }
        }
        Ok(())
    }
}

/// Neither a control character nor one that makes other text look different.
fn is_harmless(letter: char) -> bool {
    let turns_text = matches!(
        letter,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    );
    !letter.is_control() && !turns_text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        time: false,
        colour: false,
    };

    fn line(text: &str, limit: usize) -> String {
        let line = PLAIN.line(Level::Warn, "poller", &format_args!("{text}"), limit);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn text_from_outside_forges_no_line_and_reaches_no_terminal() {
        assert_eq!(
            line("a\nERROR x\r\t\x1b[2J\u{9b}1m\0\u{202e}ü\\", MAX_LINE),
            "WARN  poller: a\\nERROR x\\r\\t\\u{1b}[2J\\u{9b}1m\\u{0}\\u{202e}ü\\\n"
        );
    }

    #[test]
    fn a_line_is_cut_at_its_limit_between_two_characters() {
        for text in ["x".repeat(60_000), "ü".repeat(30_000), "\n".repeat(60_000)] {
            let line = line(&text, MAX_LINE);
            assert!(line.len() <= MAX_LINE, "{}", line.len());
            assert!(line.len() > MAX_LINE - 60, "{}", line.len());
            assert!(line.ends_with(" bytes left out)\n"), "{line}");
        }
        let line = line(&"x".repeat(5000), usize::MAX);
        assert!(line.len() > 5000 && !line.contains("left out"));
    }

    #[test]
    fn a_line_has_a_time_stamp_and_a_colour_where_they_are_wanted() {
        let style = Style {
            time: true,
            colour: true,
        };
        let line = style.line(Level::Error, "main", &format_args!("x"), MAX_LINE);
        let line = String::from_utf8(line).unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == 24, "{time}");
        assert_eq!(rest, "\x1b[1;31mERROR\x1b[0m main: x\n");
    }
}
