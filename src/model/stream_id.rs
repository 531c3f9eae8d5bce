//! IDs of Redis streams and the cursor that is stored as text.
//!
//! The program thinks of a place in the stream as "everything after this ID is still to be
//! sent". The several written forms of the cursor are all brought to that one form here, so
//! that no other module has to tell them apart.

use std::fmt;
use std::str::FromStr;

/// The ID of a stream entry, `<unix milliseconds>-<sequence>`, ordered as Redis orders it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

/// The text is no stream ID.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a stream ID such as 1621122796939-0")]
pub struct InvalidId;

impl StreamId {
    /// No entry can have this ID: "after zero" means the whole stream.
    pub const ZERO: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    pub fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The smallest ID above this one. `MAX` has none and stays what it is.
    pub fn next(self) -> StreamId {
        match (self.ms, self.seq) {
            (u64::MAX, u64::MAX) => StreamId::MAX,
            (ms, u64::MAX) => StreamId::new(ms + 1, 0),
            (ms, seq) => StreamId::new(ms, seq + 1),
        }
    }

    /// The largest ID below this one. `ZERO` has none and stays what it is.
    pub fn before(self) -> StreamId {
        match (self.ms, self.seq) {
            (0, 0) => StreamId::ZERO,
            (ms, 0) => StreamId::new(ms - 1, u64::MAX),
            (ms, seq) => StreamId::new(ms, seq - 1),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for StreamId {
    type Err = InvalidId;

    /// Reads `<ms>-<seq>` or a bare `<ms>`, which Redis takes as `<ms>-0`.
    fn from_str(text: &str) -> Result<StreamId, InvalidId> {
        let text = text.as_bytes();
        let (ms, seq) = match text.iter().position(|byte| *byte == b'-') {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, &b"0"[..]),
        };
        let id = digits(ms).zip(digits(seq)).ok_or(InvalidId)?;
        Ok(StreamId::new(id.0, id.1))
    }
}

/// `u64::from_str` would also take a leading `+`.
fn digits(text: &[u8]) -> Option<u64> {
    text.first()?;
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// What `mqtt_sender:last_id` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cursor {
    /// Everything after this ID is still to be sent.
    After(StreamId),
    /// `$`: only what comes from now on.
    Now,
}

impl Cursor {
    /// The form in which the program itself writes a cursor: `(<id>`.
    pub fn written(id: StreamId) -> String {
        format!("({id}")
    }
}

/// The text is no cursor.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected (<id>, <id>, - for all or $ for only what comes from now on")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Cursor, InvalidCursor> {
        let id = |text: &str| text.parse::<StreamId>().map_err(|_| InvalidCursor);
        match text.trim() {
            "-" => Ok(Cursor::After(StreamId::ZERO)),
            "$" => Ok(Cursor::Now),
            text => match text.strip_prefix('(') {
                Some(exclusive) => id(exclusive).map(Cursor::After),
                None => id(text).map(|first| Cursor::After(first.before())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64, seq: u64) -> Result<Cursor, InvalidCursor> {
        Ok(Cursor::After(StreamId::new(ms, seq)))
    }

    #[test]
    fn every_written_form_of_the_cursor_is_read() {
        assert_eq!("(17-3".parse(), after(17, 3));
        assert_eq!("(17".parse(), after(17, 0));
        assert_eq!("17-3".parse(), after(17, 2));
        assert_eq!("17-0".parse(), after(16, u64::MAX));
        assert_eq!("17".parse(), after(16, u64::MAX));
        assert_eq!("0".parse(), after(0, 0));
        assert_eq!("-".parse(), after(0, 0));
        assert_eq!("$".parse(), Ok(Cursor::Now));
        assert_eq!(" (17-3\n".parse(), after(17, 3));
    }

    #[test]
    fn anything_else_is_no_cursor() {
        for text in [
            "",
            "(",
            "foo",
            "1-",
            "-1",
            "1-2-3",
            "+1",
            "(-",
            "($",
            "1.5",
            "((1-1",
            "1 -1",
            "18446744073709551616",
            "+",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_place() {
        for id in [
            StreamId::ZERO,
            StreamId::new(1, 0),
            StreamId::new(u64::MAX, u64::MAX),
        ] {
            assert_eq!(Cursor::written(id).parse(), Ok(Cursor::After(id)));
        }
    }

    #[test]
    fn order_is_by_time_and_then_by_sequence() {
        assert!(StreamId::new(9, 9) < StreamId::new(10, 0));
        assert!(StreamId::new(10, 9) < StreamId::new(10, 10));
    }
}
