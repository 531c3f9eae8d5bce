//! What is known of `mqtt_sender:last_id`, what is still to be stored there, and the poison that
//! it may not pass yet.
//!
//! The stored cursor follows the frontier of the delivery, and waits before the first poison
//! that could not be copied: a restart then repeats what lies behind it, and nothing is lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::delivery::{Poison, Progress};
use super::messages::Save;
use crate::model::settings::Raw;
use crate::model::stream::{Extent, Former};
use crate::model::stream_id::{Cursor, StreamId};

/// So many foreign cursors within this time point to a second instance.
const MANY_MISMATCHES: u32 = 3;
const MISMATCH_WINDOW: Duration = Duration::from_secs(60);
/// Poison that may wait for its copy; beyond that nothing more is sent.
pub const MAX_UNCOPIED: usize = 1000;
/// Waits after a refusal of Redis: doubled up to the limit.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Whose cursor it is.
#[derive(Clone, Debug, PartialEq)]
pub enum CursorState {
    /// It has not been read since the start.
    Unknown,
    /// Somebody has set it: what that means is looked up.
    Adopting { to: Cursor, at_start: bool },
    /// Somebody else has set it, and measurements are sent from there.
    Foreign,
    /// This program wrote it, and nobody has moved it since.
    Own,
}

/// Something to be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    #[default]
    No,
    Now,
    /// Redis has refused it.
    Later {
        at: Instant,
        wait: Duration,
    },
}

impl Pending {
    pub fn is_due(self, now: Instant) -> bool {
        match self {
            Pending::No => false,
            Pending::Now => true,
            Pending::Later { at, .. } => now >= at,
        }
    }

    /// When it will be due without anything else happening.
    pub fn due_at(self) -> Option<Instant> {
        match self {
            Pending::Later { at, .. } => Some(at),
            _ => None,
        }
    }

    /// It waits until then, and nothing waits for it.
    pub fn until(at: Instant) -> Pending {
        Pending::Later {
            at,
            wait: FIRST_RETRY,
        }
    }

    pub fn refused(&mut self, now: Instant) {
        let wait = match *self {
            Pending::Later { wait, .. } => (wait * 2).min(LAST_RETRY),
            _ => FIRST_RETRY,
        };
        *self = Pending::Later {
            at: now + wait,
            wait,
        };
    }

    /// There is something new to store; a refusal is waited out all the same.
    pub fn wanted(&mut self) {
        if *self == Pending::No {
            *self = Pending::Now;
        }
    }
}

/// A measurement that is poison and has no copy yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Uncopied {
    poison: Poison,
    /// The place before it, and the entries accounted for up to there.
    before: StreamId,
    accounted: Option<u64>,
}

#[derive(Debug)]
pub struct StoredCursor {
    pub state: CursorState,
    /// What the key holds as far as this program knows.
    pub raw: Raw,
    pub save: Pending,
    pub copy: Pending,
    uncopied: VecDeque<Uncopied>,
    /// When the first of the present mismatches came, and how many there were.
    mismatches: Option<(Instant, u32)>,
    /// Measurements passed since the stream was trimmed last, where it was in this run, and whether
    /// to trim now.
    pub passed_since_trim: Option<u64>,
    pub trim: Pending,
}

impl Default for StoredCursor {
    fn default() -> StoredCursor {
        StoredCursor {
            state: CursorState::Unknown,
            raw: Raw::Missing,
            save: Pending::No,
            copy: Pending::No,
            uncopied: VecDeque::new(),
            mismatches: None,
            passed_since_trim: None,
            trim: Pending::No,
        }
    }
}

impl StoredCursor {
    /// Measurements can be sent from here.
    pub fn is_known(&self) -> bool {
        matches!(self.state, CursorState::Own | CursorState::Foreign)
    }

    /// Whether the key holds something else than what was read or written last.
    pub fn differs(&self, raw: &Raw) -> bool {
        self.state == CursorState::Unknown || *raw != self.raw
    }

    /// Notes that the cursor was moved from outside; whether that happens strangely often.
    pub fn mismatch(&mut self, now: Instant) -> bool {
        let (since, count) = self
            .mismatches
            .filter(|(since, _)| now.saturating_duration_since(*since) < MISMATCH_WINDOW)
            .unwrap_or((now, 0));
        self.mismatches = Some((since, count + 1));
        count + 1 == MANY_MISMATCHES
    }

    /// The frontier has moved: notes what is to be stored. `accounted`: entries up to the
    /// frontier as it was before.
    pub fn progressed(&mut self, progress: &Progress, accounted: Option<u64>) {
        let mut before = progress.before;
        for (nth, poison) in progress.poison.iter().enumerate() {
            self.uncopied.push_back(Uncopied {
                poison: poison.clone(),
                before,
                accounted: accounted.map(|n| n + nth as u64),
            });
            before = poison.id;
            self.copy.wanted();
        }
        if let Some(passed) = &mut self.passed_since_trim {
            *passed += (progress.sent.count + progress.poison.len()) as u64;
        }
        self.save.wanted();
    }

    /// Somebody else has moved the cursor: what was to be stored no longer counts.
    pub fn forget_pending(&mut self) {
        self.uncopied.clear();
        (self.save, self.copy) = (Pending::No, Pending::No);
    }

    /// The poison to copy next.
    pub fn next_copy(&self) -> Option<&Poison> {
        self.uncopied.front().map(|uncopied| &uncopied.poison)
    }

    /// The poison that was to be copied next has a copy, or is gone.
    pub fn copied(&mut self) -> Option<Poison> {
        let done = self.uncopied.pop_front();
        self.copy = if self.uncopied.is_empty() {
            // The trim had stopped before it, and nothing else may come that would ask for one.
            self.trim.wanted();
            Pending::No
        } else {
            Pending::Now
        };
        self.save.wanted();
        done.map(|uncopied| uncopied.poison)
    }

    /// So many were lost behind the poison: the stream is read from there after a restart, and they
    /// are not to be counted again.
    pub fn lost(&mut self, count: u64) {
        for uncopied in &mut self.uncopied {
            if let Some(accounted) = &mut uncopied.accounted {
                *accounted += count;
            }
        }
    }

    /// Poison without a copy is gone with the stream that it was in. Returns how many there were.
    pub fn give_up_copies(&mut self) -> u64 {
        let count = self.uncopied.len() as u64;
        if count > 0 {
            self.uncopied.clear();
            self.copy = Pending::No;
            self.save.wanted();
        }
        count
    }

    pub fn uncopied(&self) -> usize {
        self.uncopied.len()
    }

    /// The place that may be stored: the frontier, or the place before poison without a copy.
    pub fn storable(&self, frontier: StreamId, accounted: Option<u64>) -> (StreamId, Option<u64>) {
        match self.uncopied.front() {
            Some(first) => (first.before, first.accounted),
            None => (frontier, accounted),
        }
    }

    /// What to store.
    pub fn to_save(
        &self,
        place: (StreamId, Option<u64>),
        (seen, former): (Option<Extent>, Option<Former>),
        (lost, dead_letters): (u64, u64),
    ) -> Save {
        Save {
            expected: self.raw.clone(),
            cursor: Cursor::written(place.0),
            accounted: place.1,
            seen,
            former,
            foreign: self.state != CursorState::Own,
            lost,
            dead_letters,
        }
    }

    /// The cursor as it is stored, for people; empty where there is none.
    pub fn text(&self) -> &str {
        match &self.raw {
            Raw::Text(text) => text,
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::delivery::Span;
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    /// Behind 1-0, where ten entries are accounted for: two that are poison, and one that is sent.
    fn with_poison() -> StoredCursor {
        let poison = |ms| Poison {
            id: id(ms),
            reason: String::new(),
        };
        let progress = Progress {
            before: id(1),
            poison: vec![poison(2), poison(3)],
            sent: Span {
                first: id(4),
                last: id(4),
                count: 1,
                bytes: 1,
            },
        };
        let mut cursor = StoredCursor {
            passed_since_trim: Some(0),
            ..StoredCursor::default()
        };
        cursor.progressed(&progress, Some(10));
        cursor
    }

    #[test]
    fn a_refusal_is_waited_out_twice_as_long_each_time_up_to_a_limit() {
        let now = Instant::now();
        let mut pending = Pending::Now;
        assert!(pending.is_due(now) && !Pending::No.is_due(now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            pending.refused(now);
            // Something new to store does not change that.
            pending.wanted();
            let at = now + Duration::from_secs(seconds);
            assert_eq!(pending.due_at(), Some(at));
            assert!(pending.is_due(at) && !pending.is_due(at - Duration::from_millis(1)));
        }
        assert_eq!((Pending::No.due_at(), Pending::Now.due_at()), (None, None));
    }

    #[test]
    fn the_third_foreign_cursor_within_a_minute_points_to_a_second_instance() {
        let now = Instant::now();
        let mut cursor = StoredCursor::default();
        let seconds = [0, 30, 59, 59, 60, 119, 119, 200];
        let strange = seconds.map(|second| cursor.mismatch(now + Duration::from_secs(second)));
        let expected = [false, false, true, false, false, false, true, false];
        assert_eq!(strange, expected);
    }

    #[test]
    fn the_stored_place_stays_before_the_first_poison_without_a_copy() {
        let mut cursor = with_poison();
        assert_eq!((cursor.uncopied(), cursor.passed_since_trim), (2, Some(3)));
        assert_eq!(cursor.storable(id(4), Some(13)), (id(1), Some(10)));
        cursor.copied();
        assert_eq!(cursor.storable(id(4), Some(13)), (id(2), Some(11)));
        cursor.copied();
        assert_eq!(cursor.storable(id(4), Some(13)), (id(4), Some(13)));
    }

    #[test]
    fn what_was_lost_behind_poison_is_accounted_for_before_it() {
        let mut cursor = with_poison();
        cursor.lost(4);
        assert_eq!(cursor.storable(id(4), Some(17)), (id(1), Some(14)));
        cursor.copied();
        assert_eq!(cursor.storable(id(4), Some(17)), (id(2), Some(15)));
    }

    #[test]
    fn a_foreign_cursor_ends_all_that_was_to_be_stored() {
        let mut cursor = with_poison();
        cursor.forget_pending();
        assert_eq!((cursor.save, cursor.copy), (Pending::No, Pending::No));
        assert_eq!(cursor.uncopied(), 0);
    }

    #[test]
    fn a_cursor_is_known_when_it_is_understood_and_differs_by_its_text() {
        let mut cursor = StoredCursor::default();
        assert!(!cursor.is_known() && cursor.differs(&Raw::Missing));
        cursor.state = CursorState::Adopting {
            to: Cursor::Now,
            at_start: true,
        };
        assert!(!cursor.is_known() && !cursor.differs(&Raw::Missing));
        assert!(cursor.differs(&Raw::Text("$".into())));
        for (state, foreign) in [(CursorState::Own, false), (CursorState::Foreign, true)] {
            cursor.state = state;
            assert!(cursor.is_known());
            let save = cursor.to_save((id(1), None), (None, None), (0, 0));
            assert_eq!(save.foreign, foreign);
        }
    }

    #[test]
    fn poison_is_copied_in_its_order() {
        let mut cursor = with_poison();
        for ms in [2, 3] {
            assert_eq!(cursor.next_copy().map(|poison| poison.id), Some(id(ms)));
            cursor.copied();
        }
        assert_eq!(cursor.next_copy(), None);
    }

    #[test]
    fn what_waits_for_a_moment_is_due_then() {
        let at = Instant::now();
        assert_eq!(Pending::until(at).due_at(), Some(at));
    }

    #[test]
    fn people_see_the_cursor_as_it_is_stored() {
        let mut cursor = StoredCursor::default();
        assert_eq!(cursor.text(), "");
        cursor.raw = Raw::Text("(1-0".into());
        assert_eq!(cursor.text(), "(1-0");
    }

    #[test]
    fn the_last_copy_asks_for_the_save_and_the_trim_that_waited_for_it() {
        let mut cursor = with_poison();
        (cursor.save, cursor.trim) = (Pending::No, Pending::No);
        cursor.copied();
        assert_eq!((cursor.save, cursor.trim), (Pending::Now, Pending::No));
        cursor.copied();
        assert_eq!((cursor.save, cursor.trim), (Pending::Now, Pending::Now));
    }
}
