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

/// What is stored about an earlier run, in the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The cursor that this program wrote last, and the entries accounted for up to it.
    pub position: Option<(String, Option<u64>)>,
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
