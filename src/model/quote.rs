//! What others have written, fit to be shown: in a log line, in an error, on a terminal.
//!
//! A newline would forge a log line, an escape sequence would drive a terminal, and a long text
//! would come back multiplied. So everything foreign is escaped and shortened before it is shown.

use std::fmt::{self, Display, Formatter, Write};

/// Characters of foreign text that are shown at most.
pub const SHOWN: usize = 100;

/// A foreign text in quotes: escaped, and at most `SHOWN` characters between the quotes.
pub struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let (kept, whole) = fitting(self.0.chars().map(escaped));
        f.write_char('"')?;
        for piece in self.0.chars().take(kept).map(escaped) {
            piece
                .into_iter()
                .try_for_each(|letter| f.write_char(letter))?;
        }
        if !whole {
            f.write_char('…')?;
        }
        f.write_char('"')
    }
}

/// A foreign text without quotes around it: escaped and shortened in the same way.
pub fn plain(text: &str) -> String {
    let quoted = Quoted(text).to_string();
    quoted[1..quoted.len() - 1].to_string()
}

/// A foreign text as it is, at most `SHOWN` characters of it: for JSON, which escapes by itself.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_string(),
        Some(_) => text.chars().take(SHOWN - 1).chain(['…']).collect(),
    }
}

/// As Rust writes it in a string: an apostrophe needs no escape there.
fn escaped(letter: char) -> Vec<char> {
    if letter == '\'' {
        vec![letter]
    } else {
        letter.escape_debug().collect()
    }
}

/// How many pieces are shown, and whether these are all. An escape is never cut in two.
fn fitting(pieces: impl Iterator<Item = Vec<char>>) -> (usize, bool) {
    let (mut length, mut kept) = (0, 0);
    for piece in pieces {
        length += piece.len();
        if length > SHOWN {
            return (kept, false);
        }
        // Room stays for the sign that something is missing.
        if length < SHOWN {
            kept += 1;
        }
    }
    (usize::MAX, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_shown_whole() {
        assert_eq!(Quoted("grün 'x'").to_string(), "\"grün 'x'\"");
        let text = "x".repeat(SHOWN);
        assert_eq!(Quoted(&text).to_string(), format!("\"{text}\""));
        assert_eq!(shortened(&text), text);
    }

    #[test]
    fn what_drives_a_terminal_or_forges_a_line_is_escaped() {
        assert_eq!(
            Quoted("a\nb\u{1b}[2J\"\u{202e}").to_string(),
            r#""a\nb\u{1b}[2J\"\u{202e}""#
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        for text in ["x".repeat(200), "\u{1b}".repeat(60_000), "ü\n".repeat(99)] {
            let quoted = Quoted(&text).to_string();
            let inner = quoted.trim_matches('"');
            assert!(inner.chars().count() <= SHOWN, "{quoted}");
            assert!(inner.ends_with('…'));
        }
        assert_eq!(shortened(&"ü".repeat(101)).chars().count(), SHOWN);
    }
}
