//! What Redis says about the stream as a whole, and what is stored beside it.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::settings::Raw;
use super::stream_id::StreamId;

/// The state of the stream at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Absent,
    Present(Extent),
}

/// The numbers of a stream that exists. It may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The largest ID that was ever generated (`last-generated-id`).
    pub newest: StreamId,
    /// Entries in it now.
    pub length: u64,
    /// Entries ever added; only Redis 7 and later count them.
    pub added: Option<u64>,
    /// The ID of its first entry; `None`: it is empty.
    pub first: Option<StreamId>,
    /// The largest ID that was ever deleted one by one (XDEL); zero on servers before Redis 7.
    pub deleted: StreamId,
}

/// How many measurements wait behind a place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Exactly(u64),
    /// Counting was given up at this number.
    AtLeast(u64),
}

impl Waiting {
    /// The number, whether exact or not.
    pub fn number(self) -> u64 {
        match self {
            Waiting::Exactly(number) | Waiting::AtLeast(number) => number,
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Exactly(number) => write!(f, "{number}"),
            Waiting::AtLeast(number) => write!(f, "at least {number}"),
        }
    }
}

impl FromStr for Waiting {
    type Err = ParseIntError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Waiting, ParseIntError> {
        match text.strip_prefix("at least ") {
            Some(number) => number.parse().map(Waiting::AtLeast),
            None => text.parse().map(Waiting::Exactly),
        }
    }
}

impl Serialize for Waiting {
    /// A number, or the words where counting was given up.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Waiting::Exactly(number) => serializer.serialize_u64(*number),
            Waiting::AtLeast(_) => serializer.collect_str(self),
        }
    }
}

/// The part of a stream that was sent, and by what that stream is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Up to here.
    pub cursor: StreamId,
    /// So many entries were ever added up to there, where known.
    pub accounted: Option<u64>,
    /// It has no older entry.
    pub oldest: StreamId,
}

/// The place of this program in the stream, as it is stored in the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The cursor that it wrote last, or found.
    pub cursor: String,
    /// Entries accounted for up to it, where known.
    pub accounted: Option<u64>,
    /// The stream as it was seen last.
    pub seen: Option<Extent>,
    /// It was not this program: somebody else has set that cursor.
    pub foreign: bool,
}

/// The last word of a position with a cursor of somebody else.
const FOREIGN: &str = " foreign";

impl fmt::Display for Position {
    /// Words, `-` for what is not known: the cursor, the account, and of the stream the newest ID,
    /// the length, the entries added and the first ID.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn word(known: Option<impl ToString>) -> String {
            known.map_or("-".into(), |value| value.to_string())
        }
        write!(f, "{} {}", self.cursor, word(self.accounted))?;
        if let Some(seen) = self.seen {
            let (added, first) = (word(seen.added), word(seen.first));
            write!(f, " {} {} {added} {first}", seen.newest, seen.length)?;
        }
        f.write_str(if self.foreign { FOREIGN } else { "" })
    }
}

impl Position {
    /// Reads what `Display` writes; what an earlier version has written lacks the stream.
    pub fn parse(text: &str) -> Option<Position> {
        let own = text.strip_suffix(FOREIGN);
        let mut words = own.unwrap_or(text).split(' ');
        Some(Position {
            cursor: words.next().filter(|cursor| !cursor.is_empty())?.into(),
            accounted: words.next().and_then(|word| word.parse().ok()),
            seen: seen(&mut words),
            foreign: own.is_some(),
        })
    }
}

fn seen<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Extent> {
    Some(Extent {
        newest: words.next()?.parse().ok()?,
        length: words.next()?.parse().ok()?,
        added: words.next()?.parse().ok(),
        first: words.next()?.parse().ok(),
        deleted: StreamId::ZERO,
    })
}

/// What is stored about an earlier run, in the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    pub position: Option<Position>,
    pub lost: u64,
    pub dead_letters: u64,
}

/// The answer to saving the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    Yes,
    /// Somebody else has written this meanwhile; nothing was changed.
    Foreign(Raw),
}

/// The answer to copying a measurement that the broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    Yes,
    /// The measurement is no longer in the stream.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_so_is_one_of_an_earlier_version() {
        let id = |ms| StreamId::new(ms, 1);
        for (foreign, added, first) in [(false, Some(7), Some(id(3))), (true, None, None)] {
            let position = Position {
                cursor: "(5-1".into(),
                accounted: added,
                seen: Some(Extent {
                    newest: id(9),
                    length: 4,
                    added,
                    first,
                    deleted: StreamId::ZERO,
                }),
                foreign,
            };
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        let old = Position::parse("(5-1 12").expect("a position");
        assert_eq!((old.accounted, old.seen), (Some(12), None));
        assert_eq!(Position::parse(""), None);
    }
}
