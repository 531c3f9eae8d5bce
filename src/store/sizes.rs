//! How entries are read without knowing how large they are.
//!
//! XRANGE hands out whatever it finds: a thousand entries may be 30 kB or 500 MB, and Redis
//! makes the whole answer before it sends the first byte. A script that stops at a budget of
//! bytes is safe whatever the stream holds, but costs Redis two to five times as much an entry
//! (1.3 to 3 us against 0.4 us, and 30 us a call). So:
//!
//! - Ordinarily the script reads: a few new measurements a second are no work.
//! - While there is more to read than a page (a backlog), the stream is surveyed once a second:
//!   its length, the ID of its newest entry, and its exact memory (MEMORY USAGE over at most
//!   10,000 nodes, 1.3 ms; of longer streams the memory of the whole server is taken instead).
//!   If the memory leaves no room for large entries beside as many small ones as were just seen
//!   (a quarter and 1 MiB on top), XRANGE reads up to that newest entry, and no further.
//! - An answer that is larger than `MAX_REPLY` all the same is not read to its end, and
//!   the script reads for a minute.
//!
//! The limits of this: in a long backlog of small entries, large ones of up to a quarter of its
//! memory can hide, and cost Redis that once if they lie in one page. The memory of this
//! process is bounded by `MAX_REPLY` or the largest single entry in any case.

use std::time::{Duration, Instant};

use super::page::Page;
use crate::model::stream_id::StreamId;

/// Bytes of an answer to XRANGE before the connection is given up.
pub const MAX_REPLY: usize = 4 << 20;
/// Bytes of an answer of the script, but for a single larger entry.
pub const MAX_BUDGET: usize = 1 << 20;
/// Entries of an answer of the script.
pub const MAX_BOUNDED: usize = 512;
/// Entries that the script reads at a time where none is large: four of 1 MB are 4 MB in Redis.
pub const STEP: usize = 4;
/// Nodes of the stream that a survey looks at.
pub const NODES: u64 = 10_000;

/// A survey is good for so long.
const FRESH: Duration = Duration::from_secs(1);
/// No XRANGE for so long after one that was too large.
const DISTRUST: Duration = Duration::from_secs(60);
/// Bytes of a stream that can be read at once as a whole.
const HARMLESS: u64 = 2 << 20;
/// No list of small ones has such an entry.
const LARGE: usize = 16 << 10;

/// What the stream took in Redis at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Survey {
    /// Entries.
    pub length: u64,
    /// Bytes, at least what they take.
    pub memory: u64,
    pub newest: StreamId,
}

/// What is known about the sizes of entries.
#[derive(Debug, Default)]
pub struct Sizes {
    seen: Option<Seen>,
    survey: Option<(Instant, Option<Survey>)>,
    distrust: Option<Instant>,
}

/// The entries of the last page.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    /// Mean bytes of an entry in an answer.
    sent: f64,
    /// Mean bytes of an entry in the memory of Redis, estimated.
    stored: f64,
    /// Bytes of the largest.
    largest: usize,
    /// There was more behind it.
    more: bool,
}

impl Sizes {
    /// Notes what a page held.
    pub fn saw(&mut self, page: &Page) {
        let measure = page.measure();
        if measure.entries == 0 {
            if let Some(seen) = &mut self.seen {
                seen.more = false;
            }
            // What the survey has seen is gone, or lies behind.
            self.survey = None;
            return;
        }
        let entries = measure.entries as f64;
        self.seen = Some(Seen {
            sent: measure.sent as f64 / entries,
            stored: measure.stored as f64 / entries,
            largest: measure.largest,
            more: page.more(),
        });
    }

    /// An answer was too large.
    pub fn overrun(&mut self, now: Instant) {
        self.distrust = Some(now + DISTRUST);
    }

    /// Whether a survey would help now.
    pub fn survey_due(&self, now: Instant) -> bool {
        let backlog = self
            .seen
            .is_some_and(|seen| seen.more && seen.largest < LARGE);
        let fresh = self
            .survey
            .as_ref()
            .is_some_and(|(at, _)| now - *at < FRESH);
        backlog && !fresh && self.distrust.is_none_or(|until| until <= now)
    }

    /// Notes a survey, `None` where the server does not tell.
    pub fn surveyed(&mut self, now: Instant, survey: Option<Survey>) {
        self.survey = Some((now, survey));
    }

    /// The last entry up to which XRANGE may read behind `after`, and how many entries at most
    /// for `max_bytes`; `None`: only the script may.
    pub fn plain(
        &self,
        now: Instant,
        after: StreamId,
        max_bytes: usize,
    ) -> Option<(StreamId, usize)> {
        let (at, Some(survey)) = self.survey.as_ref()? else {
            return None;
        };
        let seen = self.seen.filter(|seen| seen.largest < LARGE)?;
        let trusted = self.distrust.is_none_or(|until| until <= now);
        let fresh = now - *at < FRESH && after < survey.newest;
        let room = 1.25 * survey.length as f64 * seen.stored + (1 << 20) as f64;
        let fits = survey.memory <= HARMLESS || (survey.memory as f64) <= room;
        let count = max_bytes.min(MAX_REPLY / 4) as f64 / seen.sent.max(1.0);
        (trusted && fresh && fits).then_some((survey.newest, count as usize + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a page of so many bytes an entry, in a backlog.
    fn sizes(stored: f64, largest: usize) -> Sizes {
        Sizes {
            seen: Some(Seen {
                sent: 3.0 * stored,
                stored,
                largest,
                more: true,
            }),
            ..Sizes::default()
        }
    }

    fn may_read_plainly(mut sizes: Sizes, length: u64, memory: u64) -> bool {
        let now = Instant::now();
        sizes.surveyed(
            now,
            Some(Survey {
                length,
                memory,
                newest: StreamId::new(9, 0),
            }),
        );
        sizes.plain(now, StreamId::ZERO, 65536).is_some()
    }

    #[test]
    fn a_backlog_without_room_for_large_entries_is_read_plainly() {
        assert!(may_read_plainly(sizes(27.0, 100), 1_000_000, 26_500_000));
        assert!(may_read_plainly(sizes(27.0, 100), 1000, 1_000_000));
    }

    #[test]
    fn where_large_entries_may_hide_or_were_seen_the_script_reads() {
        assert!(!may_read_plainly(sizes(27.0, 100), 100_400, 203_000_000));
        assert!(!may_read_plainly(sizes(27.0, 20_000), 1000, 1_000_000));
    }

    #[test]
    fn nothing_is_read_plainly_behind_the_newest_entry_of_the_survey() {
        let (mut sizes, now) = (sizes(27.0, 100), Instant::now());
        let newest = StreamId::new(9, 0);
        sizes.surveyed(
            now,
            Some(Survey {
                length: 1,
                memory: 1,
                newest,
            }),
        );
        assert_eq!(
            sizes.plain(now, StreamId::ZERO, 810),
            Some((newest, 11)),
            "as many as fit"
        );
        assert_eq!(sizes.plain(now, newest, 810), None);
        assert_eq!(sizes.plain(now + FRESH, StreamId::ZERO, 810), None);
    }

    #[test]
    fn an_answer_that_was_too_large_is_remembered_for_a_while() {
        let (mut sizes, now) = (sizes(27.0, 100), Instant::now());
        assert!(sizes.survey_due(now));
        sizes.overrun(now);
        assert!(!sizes.survey_due(now));
        assert!(sizes.survey_due(now + DISTRUST));
    }
}
