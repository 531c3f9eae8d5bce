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

/// A stream that was left because it is gone, or because another one stands in its place. It may come
/// back: who renames it away can rename it back, and a copy can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// It was sent up to here, with so many entries ever added up to there, where known.
    pub place: StreamId,
    pub accounted: Option<u64>,
    /// The stream as it was seen last.
    pub seen: Extent,
    /// Measurements that were told as lost with it.
    pub told: u64,
}

impl Former {
    /// Whether this is that stream: it has only grown, begins with the same entry, or with a later
    /// one where as many were removed as that takes, and what was sent of it is there or was removed. A
    /// stream that others have written anew must
    /// never be taken for it: its entries would be passed over.
    pub fn is(&self, extent: &Extent) -> bool {
        let seen = &self.seen;
        if extent.newest < seen.newest {
            return false;
        }
        let (Some(before), Some(added)) = (seen.added, extent.added) else {
            // Only IDs tell, where nothing is counted.
            let same = extent.first == seen.first && seen.first.is_some();
            return seen.added == extent.added && (same || extent.newest == seen.newest);
        };
        let removed = added.saturating_sub(extent.length);
        let removed_before = before.saturating_sub(seen.length);
        if added < before || removed < removed_before {
            return false;
        }
        let all_gone = extent.first.is_none_or(|first| first > self.place);
        if self
            .accounted
            .is_some_and(|sent| added < sent || all_gone && removed < sent)
        {
            return false;
        }
        match extent.first {
            Some(first) if first <= seen.newest => seen
                .first
                .is_some_and(|one| first == one || first > one && removed > removed_before),
            // All that was seen is gone.
            _ => removed >= before,
        }
    }
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
    /// The stream before this one.
    pub former: Option<Former>,
    /// It was not this program: somebody else has set that cursor.
    pub foreign: bool,
}

/// The word before a former stream.
const FORMER: &str = " was ";
/// The last word of a position with a cursor of somebody else.
const FOREIGN: &str = " foreign";

impl fmt::Display for Position {
    /// Words, `-` for what is not known: the cursor, the account, and of the stream the newest ID,
    /// the length, the entries added and the first ID. The same of a former stream, and what was
    /// told as lost with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cursor, word(self.accounted))?;
        if let Some(seen) = self.seen {
            write!(f, " {}", words(&seen))?;
        }
        if let Some(former) = self.former {
            let (accounted, seen) = (word(former.accounted), words(&former.seen));
            write!(
                f,
                "{FORMER}{} {accounted} {seen} {}",
                former.place, former.told
            )?;
        }
        f.write_str(if self.foreign { FOREIGN } else { "" })
    }
}

impl Position {
    /// Reads what `Display` writes; what an earlier version has written lacks the stream.
    pub fn parse(text: &str) -> Option<Position> {
        let foreign = text.strip_suffix(FOREIGN);
        let own = foreign.unwrap_or(text);
        let (own, was) = own.split_once(FORMER).unwrap_or((own, ""));
        let mut words = own.split(' ');
        Some(Position {
            cursor: words.next().filter(|cursor| !cursor.is_empty())?.into(),
            accounted: words.next().and_then(|word| word.parse().ok()),
            seen: seen(&mut words),
            former: former(&mut was.split(' ')),
            foreign: foreign.is_some(),
        })
    }
}

fn word(known: Option<impl ToString>) -> String {
    known.map_or("-".into(), |value| value.to_string())
}

fn words(seen: &Extent) -> String {
    let (added, first) = (word(seen.added), word(seen.first));
    format!("{} {} {added} {first}", seen.newest, seen.length)
}

fn former<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Former> {
    Some(Former {
        place: words.next()?.parse().ok()?,
        accounted: words.next()?.parse().ok(),
        seen: seen(words)?,
        told: words.next()?.parse().ok()?,
    })
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
    /// The measurement is no longer in the stream, which is this one now.
    Gone(Stream),
}

/// What is to be told about the stream behind a place, without its entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub stream: Stream,
    /// The first entry behind the place.
    pub oldest: Option<StreamId>,
    /// Entries behind the place, only on servers that do not count what is added.
    pub waiting: Option<Waiting>,
    /// How much of `maxmemory` is used; `None` without such a limit.
    pub used_percent: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_so_is_one_of_an_earlier_version() {
        let id = |ms| StreamId::new(ms, 1);
        for (foreign, added, first) in [(false, Some(7), Some(id(3))), (true, None, None)] {
            let seen = Extent {
                newest: id(9),
                length: 4,
                added,
                first,
                deleted: StreamId::ZERO,
            };
            let former = Former {
                place: id(4),
                accounted: added,
                seen,
                told: 3,
            };
            for seen in [None, Some(seen)] {
                for former in [None, Some(former)] {
                    let position = Position {
                        cursor: "(5-1".into(),
                        accounted: added,
                        seen,
                        former,
                        foreign,
                    };
                    assert_eq!(Position::parse(&position.to_string()), Some(position));
                }
            }
        }
        let old = Position::parse("(5-1 12").expect("a position");
        assert_eq!((old.accounted, old.seen), (Some(12), None));
        assert_eq!(Position::parse(""), None);
    }

    /// A stream with so many entries ever added, so many in it, and these IDs.
    fn extent(added: u64, length: u64, first: u64, newest: u64) -> Extent {
        Extent {
            newest: StreamId::new(newest, 0),
            length,
            added: Some(added),
            first: (length > 0).then_some(StreamId::new(first, 0)),
            deleted: StreamId::ZERO,
        }
    }

    fn former(seen: Extent) -> Former {
        Former {
            place: StreamId::ZERO,
            accounted: None,
            seen,
            told: 0,
        }
    }

    #[test]
    fn a_former_stream_is_known_again_whatever_came_and_went_in_it_meanwhile() {
        let some = former(extent(50, 40, 11, 50));
        // As it was, longer, shorter, empty.
        for same in [
            (50, 40, 11, 50),
            (53, 43, 11, 60),
            (50, 30, 21, 50),
            (50, 0, 0, 50),
        ] {
            let (added, length, first, newest) = same;
            assert!(some.is(&extent(added, length, first, newest)), "{same:?}");
        }
        let emptied = former(extent(50, 0, 0, 50));
        assert!(emptied.is(&extent(50, 0, 0, 50)) && emptied.is(&extent(52, 2, 60, 61)));
        let old = |extent| Extent {
            added: None,
            ..extent
        };
        assert!(former(old(extent(50, 40, 11, 50))).is(&old(extent(60, 50, 11, 60))));
    }

    #[test]
    fn a_stream_that_was_written_anew_is_no_former_one() {
        let some = former(extent(50, 40, 11, 50));
        // Newer, older, older and newer, with the same IDs but for some, far longer.
        let others = [
            (3, 3, 60, 62),
            (60, 60, 1, 45),
            (60, 50, 12, 70),
            (20, 20, 11, 50),
            (39, 39, 11, 50),
            (900, 851, 60, 910),
        ];
        for other in others {
            let (added, length, first, newest) = other;
            assert!(!some.is(&extent(added, length, first, newest)), "{other:?}");
        }
        let emptied = former(extent(50, 0, 0, 50));
        for other in [(60, 60, 51, 110), (60, 11, 51, 110), (60, 10, 40, 110)] {
            let (added, length, first, newest) = other;
            assert!(
                !emptied.is(&extent(added, length, first, newest)),
                "{other:?}"
            );
        }
        // What was sent of it would be there or removed.
        let sent = |place, accounted| Former {
            place: StreamId::new(place, 0),
            accounted: Some(accounted),
            ..former(extent(94, 88, 15, 94))
        };
        let grown = extent(112, 106, 15, 112);
        for (place, accounted, same) in [
            (20, 12, true),
            (8, 6, true),
            (8, 7, false),
            (20, 113, false),
        ] {
            assert_eq!(sent(place, accounted).is(&grown), same, "{place}");
        }
        // Where nothing is counted, an empty one says nothing.
        let old = |extent| Extent {
            added: None,
            ..extent
        };
        assert!(!former(old(extent(0, 0, 0, 50))).is(&old(extent(0, 2, 60, 61))));
        assert!(!some.is(&old(extent(0, 40, 11, 50))));
    }
}
