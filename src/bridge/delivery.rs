//! What is in flight and what is confirmed, and which measurement is poison.
//!
//! The one rule that everything else serves: the frontier moves only over what the broker has
//! confirmed without a gap, or over poison. (The cursor that is stored follows it, but waits
//! before poison that could not be copied yet; see `cursor`.)
//!
//! # Poison
//! A measurement that the broker refuses must not hold up the others for ever, and a network
//! that flaps must never get a measurement thrown out. So a single measurement is *held back*
//! only
//! - after the broker has refused it in words, or
//! - after the broker has closed the connection in answer to it `CLOSES` times in a row, or
//! - after the broker has left it unanswered `SILENCES` times in a row while it answered what was
//!   sent behind it.
//!
//! And it is *poison* only when the broker then accepts the measurement behind it. Whatever the
//! line did or this side gave up counts for nothing, and a connection that breaks while nothing
//! is in flight speaks for a bad network and clears every suspicion that rests on closes.
//!
//! A broker may also take nothing for a while, and everything afterwards. So each attempt is
//! preceded, on the same connection, by a probe: an empty list. Only where the broker answers that
//! does the attempt count; where the answer has changed, the trial begins anew.

use std::time::Duration;

use super::list_size::{Hint, ListSize};
use crate::model::failure::Cause;
use crate::model::measurement::BatchLimits;
use crate::model::stream_id::StreamId;

/// Closes in a row by which a single measurement is held back.
const CLOSES: u32 = 5;
/// Silences in a row, each on a line that was alive, by which it is held back.
const SILENCES: u32 = 3;
/// So many measurements in a row are held back at most. A broker that refuses more than that
/// refuses everything, which is no measurement's fault.
const MAX_HELD: usize = 16;
/// The longest wait for the acknowledgement of one list.
pub const MAX_PATIENCE: Duration = Duration::from_secs(600);

/// The part of a list that matters after it has been encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: StreamId,
    pub last: StreamId,
    pub count: usize,
    /// Bytes of the payload.
    pub bytes: usize,
}

/// What a confirmation brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The frontier before.
    pub before: StreamId,
    /// Measurements that are now proven to be poison, oldest first; they come before `sent`.
    pub poison: Vec<Poison>,
    /// What was confirmed.
    pub sent: Span,
}

/// A measurement that the broker refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    pub id: StreamId,
    pub reason: String,
}

/// The state of the delivery of one stream.
#[derive(Debug)]
pub struct Delivery {
    frontier: StreamId,
    flight: Option<Flight>,
    size: ListSize,
    /// Measurements behind the frontier that wait for their proof; the next one read is behind
    /// the last of them.
    held: Vec<Held>,
    suspect: Option<Suspect>,
    probe: Probe,
    /// Silences in a row of the list that begins with this ID: its deadline doubles.
    silences: (StreamId, u32),
    /// What the broker takes.
    limit: usize,
    /// It was seen to take a measurement right after it had refused an empty list.
    refuses_empty: bool,
}

/// What the broker has said to the empty list ahead of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Probe {
    /// It has answered on this connection, and nothing has been attempted since.
    fresh: bool,
    /// Whether it took the last one of this trial, or refused it in words.
    taken: Option<bool>,
}

#[derive(Debug)]
enum Flight {
    Counts(Span),
    /// The probe ahead of an attempt.
    Probe,
    /// The cursor was moved meanwhile: the answer to so many no longer matters.
    Forgotten(u64),
}

#[derive(Debug)]
struct Held {
    poison: Poison,
    /// The broker has said so; no bad network can make that undone.
    in_words: bool,
}

/// The single measurement that has failed last.
#[derive(Debug)]
struct Suspect {
    id: StreamId,
    closes: u32,
    silences: u32,
}

impl Delivery {
    /// Starts behind `frontier`, with lists of up to `max_bytes`.
    pub fn new(frontier: StreamId, max_bytes: usize) -> Delivery {
        Delivery {
            frontier,
            flight: None,
            size: ListSize::new(max_bytes),
            held: Vec::new(),
            suspect: None,
            probe: Probe::default(),
            silences: (StreamId::ZERO, 0),
            limit: usize::MAX,
            refuses_empty: false,
        }
    }

    /// Everything up to here is confirmed or poison.
    pub fn frontier(&self) -> StreamId {
        self.frontier
    }

    /// The next list begins behind this ID.
    pub fn read_after(&self) -> StreamId {
        let held = || self.held.last().map(|held| held.poison.id);
        let flying = self.flying().map(|span| span.last);
        flying.or_else(held).unwrap_or(self.frontier)
    }

    /// Whether a list waits for its answer.
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// The list in flight, where its answer counts.
    pub fn flying(&self) -> Option<&Span> {
        match &self.flight {
            Some(Flight::Counts(span)) => Some(span),
            _ => None,
        }
    }

    /// Measurements in the list in flight, where its answer no longer matters.
    pub fn forgotten(&self) -> u64 {
        match self.flight {
            Some(Flight::Forgotten(count)) => count,
            _ => 0,
        }
    }

    /// Measurements behind the frontier that were handed over or held back.
    pub fn unconfirmed(&self) -> usize {
        self.flying().map_or(0, |span| span.count) + self.held.len()
    }

    /// The limits for the next list.
    pub fn limits(&self, configured: BatchLimits) -> BatchLimits {
        let max_count = if self.on_trial() {
            1
        } else {
            configured.max_count
        };
        BatchLimits {
            max_bytes: configured.max_bytes.min(self.size.allowed()),
            max_count,
            ..configured
        }
    }

    fn on_trial(&self) -> bool {
        self.suspect.is_some() || !self.held.is_empty()
    }

    /// Whether an empty list has to go ahead of the next one.
    pub fn needs_probe(&self) -> bool {
        self.on_trial() && !self.probe.fresh
    }

    /// Notes that an empty list was handed over.
    pub fn hand_over_probe(&mut self) {
        debug_assert!(self.flight.is_none(), "one list in flight");
        self.flight = Some(Flight::Probe);
    }

    /// Whether it is an empty list that waits for its answer.
    pub fn is_probing(&self) -> bool {
        matches!(self.flight, Some(Flight::Probe))
    }

    /// The answer to the empty list.
    pub fn probed(&mut self, result: Result<(), Cause>) {
        self.flight = None;
        let taken = match result {
            Ok(()) => true,
            Err(Cause::Refused | Cause::TooLarge { .. }) => false,
            Err(Cause::NotSent | Cause::RefusesAll) => return,
            // It takes nothing at all now, or the line is bad: no measurement is to blame.
            Err(_) => return self.end_trial(),
        };
        if self.probe.taken.is_some_and(|before| before != taken) {
            return self.end_trial();
        }
        self.probe = Probe {
            fresh: true,
            taken: Some(taken),
        };
    }

    /// Why the last measurement that is held back is.
    pub fn held_for(&self) -> Option<&str> {
        self.held.last().map(|held| held.poison.reason.as_str())
    }

    /// Whether a confirmation proves nothing, behind a refused empty list: the broker either
    /// refuses such lists always, or has just begun to take anything.
    pub fn is_in_doubt(&self) -> bool {
        self.probe.taken == Some(false) && !self.held.is_empty() && !self.refuses_empty
    }

    /// It goes again, behind what was held back: if that is refused then as well, it is poison.
    pub fn confirmed_in_doubt(&mut self) {
        self.flight = None;
        self.refuses_empty = true;
        self.end_trial();
    }

    /// What was held back is tried again.
    pub fn end_trial(&mut self) {
        self.held.clear();
        self.suspect = None;
        self.probe = Probe::default();
    }

    /// How long to wait for the acknowledgement of the list that begins with `first`, where an
    /// ordinary one has `ordinary`.
    pub fn patience(&self, first: StreamId, ordinary: Duration) -> Duration {
        ordinary
            .saturating_mul(1 << self.silences_of(first).min(16))
            .min(MAX_PATIENCE.max(ordinary))
    }

    /// Notes that a list was handed over.
    pub fn hand_over(&mut self, span: Span) {
        debug_assert!(self.flight.is_none(), "one list in flight");
        self.flight = Some(Flight::Counts(span));
    }

    /// The broker has confirmed the list in flight, `quickly` if well within the deadline.
    /// `None`: it no longer counts.
    pub fn confirmed(&mut self, quickly: bool) -> Option<Progress> {
        let Some(Flight::Counts(sent)) = self.flight.take() else {
            return None;
        };
        self.size.confirmed(quickly);
        self.suspect = None;
        self.probe = Probe::default();
        self.silences.1 = 0;
        self.refuses_empty &= !self.held.is_empty();
        let before = std::mem::replace(&mut self.frontier, sent.last);
        let poison = self.held.drain(..).map(|held| held.poison).collect();
        Some(Progress {
            before,
            poison,
            sent,
        })
    }

    /// The list in flight was not confirmed: it is read again from the frontier. `reason` is kept
    /// for what turns out to be poison.
    pub fn failed(&mut self, cause: Cause, reason: &str) {
        debug_assert!(!self.is_probing(), "see `probed`");
        let Some(Flight::Counts(span)) = self.flight.take() else {
            return;
        };
        let alone = span.count == 1;
        let proven = std::mem::take(&mut self.probe.fresh);
        match cause {
            Cause::NotSent | Cause::RefusesAll => {}
            Cause::Unclear => self.size.failed(span, Hint::Perhaps),
            Cause::Lost => {
                self.clear_suspicion();
                self.size.failed(span, Hint::Perhaps);
            }
            Cause::Silent { answers: false } => {
                self.silences = (span.first, self.silences_of(span.first) + 1);
                self.size.failed(span, Hint::Perhaps);
            }
            Cause::Closed if alone => self.suspected(span.first, cause, proven, reason),
            Cause::Closed => self.size.failed(span, Hint::PerhapsClosed),
            Cause::Silent { answers: true } if alone => {
                self.suspected(span.first, cause, proven, reason);
            }
            Cause::Silent { answers: true } => self.size.failed(span, Hint::Divide),
            Cause::Refused if alone => self.suspected(span.first, cause, proven, reason),
            // The size is known: nothing else has to be found out.
            Cause::TooLarge { .. } if alone => self.hold_back(span.first, reason, true),
            Cause::Refused => self.size.failed(span, Hint::Divide),
            Cause::TooLarge { limit } => self.size.failed(span, Hint::Named { limit }),
        }
    }

    /// There is a connection to a broker that takes so many bytes. Where that is another number than
    /// before, what was too large may not be so any more.
    pub fn connected(&mut self, limit: usize) {
        if std::mem::replace(&mut self.limit, limit) != limit {
            self.end_trial();
        }
    }

    /// The connection broke while nothing was in flight.
    pub fn connection_lost(&mut self) {
        self.probe.fresh = false;
        if self.flight.is_none() {
            self.clear_suspicion();
        }
    }

    /// Starts again behind another place: somebody else has moved the cursor, or there is
    /// another stream.
    pub fn rewind(&mut self, frontier: StreamId) {
        self.frontier = frontier;
        let flying = self.flying().map(|span| span.count as u64);
        let count = flying.unwrap_or(self.forgotten());
        self.flight = self.flight.take().map(|_| Flight::Forgotten(count));
        self.end_trial();
    }

    fn silences_of(&self, first: StreamId) -> u32 {
        match self.silences {
            (id, count) if id == first => count,
            _ => 0,
        }
    }

    /// What rests on closes or silences alone is forgotten, and with it what was held back
    /// behind it: it has to be sent again in order.
    fn clear_suspicion(&mut self) {
        self.suspect = None;
        let certain = self.held.iter().take_while(|held| held.in_words).count();
        self.held.truncate(certain);
    }

    /// A single measurement has failed. `proven`: the broker had answered right before.
    fn suspected(&mut self, id: StreamId, cause: Cause, proven: bool, reason: &str) {
        let mut suspect = match self.suspect.take() {
            Some(suspect) if suspect.id == id => suspect,
            _ => Suspect {
                id,
                closes: 0,
                silences: 0,
            },
        };
        let in_words = cause == Cause::Refused;
        suspect.closes += u32::from(cause == Cause::Closed);
        suspect.silences += u32::from(matches!(cause, Cause::Silent { .. }));
        let enough = in_words || suspect.closes >= CLOSES || suspect.silences >= SILENCES;
        if proven && enough {
            self.hold_back(id, reason, in_words);
        } else {
            self.suspect = Some(suspect);
        }
    }

    fn hold_back(&mut self, id: StreamId, reason: &str, in_words: bool) {
        self.suspect = None;
        let poison = Poison {
            id,
            reason: reason.chars().take(200).collect(),
        };
        self.held.push(Held { poison, in_words });
        if self.held.len() > MAX_HELD {
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests;
