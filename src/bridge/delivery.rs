//! What is in flight and what is confirmed; how large a list may be; which measurement is
//! poison.
//!
//! Pure: no I/O and no clock of its own. The poller tells what happened and asks what to do
//! next. The one rule that everything else serves: the cursor moves only over what the broker
//! has confirmed without a gap, or over poison that has been copied to safety.
//!
//! # Poison
//! A measurement that the broker refuses must not hold up the others for ever, and a network
//! that flaps must never get a measurement thrown out. So a single measurement is *held back*
//! only after the broker has closed the connection in answer to it `STRIKES + 1` times in a
//! row, all but the first on a connection that had stood for at least twice as long as the one
//! before (or after the broker has refused it in words). And it is *poison*
//! only when the broker then accepts the measurement behind it. A connection that breaks while
//! nothing is in flight speaks for a bad network and acquits every suspect.

use std::time::Duration;

use crate::model::measurement::BatchLimits;
use crate::model::stream_id::StreamId;

/// Connections that a single measurement must have ended, beyond the first, to be held back.
const STRIKES: u32 = 4;
/// So many measurements in a row are held back at most. A broker that refuses more than that
/// refuses everything, which is no measurement's fault.
const MAX_HELD: usize = 16;
/// Bounds of how long a connection must have stood before a suspect is sent over it.
const MIN_UPTIME: Duration = Duration::from_secs(1);
const MAX_UPTIME: Duration = Duration::from_secs(30);

/// The part of a list that matters after it has been encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: StreamId,
    pub last: StreamId,
    pub count: usize,
    /// Bytes of the payload.
    pub bytes: usize,
}

/// Why a list was not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not leave the device.
    NotSent,
    /// The broker closed the connection while the list was waiting for its acknowledgement.
    /// `uptime`: how long that connection had stood.
    Closed { uptime: Duration },
    /// No acknowledgement in time, or a connection lost for a reason that is not the list's.
    Silent,
    /// The broker said no to this very content: too large, or not to its taste.
    Refused,
    /// The broker said no for a reason that would hit any list: not authorized, quota.
    Unwelcome,
}

/// What a confirmation brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here is confirmed or poison.
    pub cursor: StreamId,
    /// Measurements that are now proven to be poison, oldest first.
    pub poison: Vec<Poison>,
    /// Measurements that the cursor has moved over, poison included.
    pub passed: usize,
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
    cursor: StreamId,
    in_flight: Option<InFlight>,
    size: ListSize,
    /// Measurements behind the cursor that wait for their proof; the next one read is behind
    /// the last of them.
    held: Vec<Poison>,
    /// The single measurement that has failed last, and how often in a row.
    suspect: Option<Suspect>,
    min_uptime: Duration,
}

#[derive(Debug)]
struct InFlight {
    span: Span,
    /// The cursor was moved by somebody else meanwhile: the answer no longer matters.
    forgotten: bool,
}

#[derive(Debug)]
struct Suspect {
    id: StreamId,
    strikes: u32,
}

impl Delivery {
    /// Starts behind `cursor`, with lists of up to `max_bytes`.
    pub fn new(cursor: StreamId, max_bytes: usize) -> Delivery {
        Delivery {
            cursor,
            in_flight: None,
            size: ListSize::new(max_bytes),
            held: Vec::new(),
            suspect: None,
            min_uptime: Duration::ZERO,
        }
    }

    /// Everything up to here is done with.
    pub fn cursor(&self) -> StreamId {
        self.cursor
    }

    /// The next list to encode begins behind this ID.
    pub fn read_after(&self) -> StreamId {
        match &self.in_flight {
            Some(flight) if !flight.forgotten => flight.span.last,
            _ => self.held.last().map_or(self.cursor, |poison| poison.id),
        }
    }

    /// Whether a list waits for its answer.
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Measurements behind the cursor that were handed over or held back.
    pub fn unconfirmed(&self) -> usize {
        let in_flight = self.in_flight.as_ref().filter(|flight| !flight.forgotten);
        in_flight.map_or(0, |flight| flight.span.count) + self.held.len()
    }

    /// The limits for the next list.
    pub fn limits(&self, configured: BatchLimits) -> BatchLimits {
        BatchLimits {
            max_bytes: configured.max_bytes.min(self.size.allowed),
            max_count: if self.on_trial() {
                1
            } else {
                configured.max_count
            },
        }
    }

    /// How long the connection must have stood before the next list is published over it.
    pub fn min_uptime(&self) -> Duration {
        if self.on_trial() {
            self.min_uptime
        } else {
            Duration::ZERO
        }
    }

    fn on_trial(&self) -> bool {
        self.suspect.is_some() || !self.held.is_empty()
    }

    /// Notes that a list was handed to the publisher.
    pub fn hand_over(&mut self, span: Span) {
        debug_assert!(self.in_flight.is_none(), "one list in flight");
        self.in_flight = Some(InFlight {
            span,
            forgotten: false,
        });
    }

    /// The broker has confirmed the list in flight. `None`: it no longer counts.
    pub fn confirmed(&mut self) -> Option<Progress> {
        let flight = self.in_flight.take().filter(|flight| !flight.forgotten)?;
        self.size.confirmed();
        self.suspect = None;
        self.cursor = flight.span.last;
        let poison = std::mem::take(&mut self.held);
        Some(Progress {
            cursor: self.cursor,
            passed: flight.span.count + poison.len(),
            sent: flight.span,
            poison,
        })
    }

    /// The list in flight was not confirmed: it is read again from the cursor.
    /// `reason` is kept for what turns out to be poison.
    pub fn failed(&mut self, failure: Failure, reason: &str) {
        let Some(flight) = self.in_flight.take().filter(|flight| !flight.forgotten) else {
            return;
        };
        let span = flight.span;
        match failure {
            Failure::NotSent => self.acquit(),
            Failure::Unwelcome => {}
            Failure::Silent => self.size.failed(span, false),
            Failure::Refused if span.count == 1 => self.hold_back(span.first, reason),
            Failure::Refused => self.size.failed(span, true),
            Failure::Closed { .. } if span.count > 1 => self.size.failed(span, false),
            Failure::Closed { uptime } => self.strike(span.first, uptime, reason),
        }
    }

    /// The connection broke while nothing was in flight.
    pub fn connection_lost(&mut self) {
        if self.in_flight.is_none() {
            self.acquit();
        }
    }

    /// Somebody else has moved the cursor.
    pub fn rewind(&mut self, cursor: StreamId) {
        self.cursor = cursor;
        if let Some(flight) = &mut self.in_flight {
            flight.forgotten = true;
        }
        self.acquit();
    }

    fn acquit(&mut self) {
        self.held.clear();
        self.suspect = None;
    }

    fn strike(&mut self, id: StreamId, uptime: Duration, reason: &str) {
        if !self.on_trial() {
            self.min_uptime = (uptime * 2).clamp(MIN_UPTIME, MAX_UPTIME);
        }
        let strikes = match &self.suspect {
            Some(suspect) if suspect.id == id => suspect.strikes + 1,
            // The successor of a held one is on trial from its first failure on: it, too, was
            // sent over a connection that had stood.
            _ => u32::from(!self.held.is_empty()),
        };
        if strikes >= STRIKES {
            self.hold_back(id, reason);
        } else {
            self.suspect = Some(Suspect { id, strikes });
        }
    }

    fn hold_back(&mut self, id: StreamId, reason: &str) {
        self.suspect = None;
        self.held.push(Poison {
            id,
            reason: reason.into(),
        });
        if self.held.len() > MAX_HELD {
            self.acquit();
        }
    }
}

/// How large a list may be: halved after failures, grown again after successes.
///
/// A list is halved when it fails twice in a row (a cut connection alone says nothing about a
/// size), or at once when the broker says that it is too large. The size that failed is then
/// stayed below for a number of lists that grows each time, so that a fixed limit of a broker
/// costs a reconnect now and then and not a reconnect every few lists.
#[derive(Debug)]
struct ListSize {
    full: usize,
    allowed: usize,
    /// The smallest size known to fail.
    ceiling: Option<usize>,
    /// Confirmed lists after which the ceiling is tried again.
    patience: u32,
    confirmed: u32,
    failed: Option<StreamId>,
}

impl ListSize {
    const PATIENCE: u32 = 16;
    const MAX_PATIENCE: u32 = 4096;

    fn new(full: usize) -> ListSize {
        ListSize {
            full,
            allowed: full,
            ceiling: None,
            patience: Self::PATIENCE,
            confirmed: 0,
            failed: None,
        }
    }

    fn failed(&mut self, span: Span, certain: bool) {
        let again = self.failed == Some(span.first);
        self.failed = Some(span.first);
        if (certain || again) && span.count > 1 {
            self.failed = None;
            self.allowed = (span.bytes / 2).max(1);
            self.ceiling = Some(span.bytes);
            self.patience = (self.patience * 4).min(Self::MAX_PATIENCE);
            self.confirmed = 0;
        }
    }

    fn confirmed(&mut self) {
        self.failed = None;
        self.confirmed = self.confirmed.saturating_add(1);
        if self.confirmed >= self.patience {
            if self.ceiling.take().is_none() {
                self.patience = Self::PATIENCE;
            }
            self.confirmed = 0;
        }
        let larger = self.allowed.saturating_mul(2).min(self.full);
        // Doubling what was halved would lead straight back to what failed.
        if self.ceiling.is_none_or(|ceiling| larger <= ceiling / 4 * 3) {
            self.allowed = larger;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: BatchLimits = BatchLimits {
        max_bytes: 65536,
        max_count: 1000,
    };
    const CLOSED: Failure = Failure::Closed {
        uptime: Duration::from_millis(1500),
    };

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn ids(poison: &[Poison]) -> Vec<StreamId> {
        poison.iter().map(|poison| poison.id).collect()
    }

    /// Hands over the next list as the poller would: measurements are 1, 2, 3 … of 100 bytes.
    fn send(delivery: &mut Delivery) -> Span {
        let limits = delivery.limits(FULL);
        let first = delivery.read_after().ms + 1;
        let count = (limits.max_bytes / 100).clamp(1, limits.max_count);
        let last = id(first + count as u64 - 1);
        let span = Span {
            first: id(first),
            last,
            count,
            bytes: count * 100,
        };
        delivery.hand_over(span);
        span
    }

    fn fail(delivery: &mut Delivery, failure: Failure) -> Span {
        let span = send(delivery);
        delivery.failed(failure, "why");
        span
    }

    #[test]
    fn the_cursor_follows_confirmations_and_reading_runs_ahead() {
        let mut delivery = Delivery::new(id(0), 65536);
        let span = send(&mut delivery);
        assert_eq!(
            (delivery.cursor(), delivery.read_after()),
            (id(0), span.last)
        );
        assert_eq!(delivery.confirmed().map(|p| p.cursor), Some(span.last));
        assert_eq!(delivery.read_after(), span.last);
    }

    #[test]
    fn after_a_loss_reading_goes_back_to_the_cursor() {
        let mut delivery = Delivery::new(id(7), 65536);
        fail(&mut delivery, Failure::Silent);
        assert_eq!((delivery.cursor(), delivery.read_after()), (id(7), id(7)));
    }

    #[test]
    fn one_cut_does_not_halve_and_the_second_of_the_same_list_does() {
        let mut delivery = Delivery::new(id(0), 65536);
        let first = fail(&mut delivery, CLOSED);
        assert_eq!(fail(&mut delivery, CLOSED), first);
        assert_eq!(send(&mut delivery).bytes, 32700);
    }

    #[test]
    fn a_refusal_in_words_halves_at_once_and_sizes_stay_below_it() {
        let mut delivery = Delivery::new(id(0), 65536);
        let refused = fail(&mut delivery, Failure::Refused).bytes;
        for _ in 0..60 {
            assert!(send(&mut delivery).bytes <= refused / 2);
            delivery.confirmed();
        }
    }

    #[test]
    fn sizes_grow_back_after_success() {
        let mut delivery = Delivery::new(id(0), 65536);
        fail(&mut delivery, Failure::Refused);
        for _ in 0..200 {
            send(&mut delivery);
            delivery.confirmed();
        }
        assert_eq!(delivery.limits(FULL), FULL);
    }

    /// A broker that closes the connection on one measurement, with all the rest accepted.
    fn isolate(poison: u64) -> (Delivery, u32, Vec<StreamId>) {
        let mut delivery = Delivery::new(id(0), 65536);
        let mut closes = 0;
        for _ in 0..200 {
            let span = send(&mut delivery);
            if (span.first.ms..=span.last.ms).contains(&poison) {
                closes += 1;
                delivery.failed(CLOSED, "why");
            } else if let Some(progress) = delivery.confirmed() {
                if !progress.poison.is_empty() {
                    return (delivery, closes, ids(&progress.poison));
                }
            }
        }
        panic!("not isolated after {closes} closes");
    }

    #[test]
    fn poison_is_found_by_halving_and_proven_by_its_successor() {
        let (delivery, closes, poison) = isolate(333);
        assert_eq!(poison, [id(333)]);
        assert_eq!(delivery.cursor(), id(334));
        assert!(closes <= 30, "{closes}");
    }

    #[test]
    fn a_refusal_of_a_single_measurement_needs_one_successor_only() {
        let mut delivery = Delivery::new(id(0), 1);
        fail(&mut delivery, Failure::Refused);
        assert_eq!(delivery.cursor(), id(0));
        assert_eq!(send(&mut delivery).first, id(2));
        let progress = delivery.confirmed().unwrap();
        assert_eq!(
            (progress.cursor, ids(&progress.poison), progress.passed),
            (id(2), vec![id(1)], 2)
        );
    }

    #[test]
    fn a_connection_that_breaks_before_the_suspect_is_sent_acquits() {
        let mut delivery = Delivery::new(id(0), 1);
        for _ in 0..50 {
            fail(&mut delivery, CLOSED);
            fail(&mut delivery, CLOSED);
            assert!(delivery.min_uptime() >= Duration::from_secs(3));
            fail(&mut delivery, Failure::NotSent);
        }
        send(&mut delivery);
        assert_eq!(delivery.confirmed().map(|p| p.poison), Some(vec![]));
    }

    #[test]
    fn a_broker_that_refuses_everything_convicts_nothing() {
        let mut delivery = Delivery::new(id(0), 1);
        for _ in 0..1000 {
            fail(&mut delivery, CLOSED);
        }
        assert_eq!(delivery.cursor(), id(0));
    }

    #[test]
    fn a_rewind_forgets_what_is_in_flight() {
        let mut delivery = Delivery::new(id(5), 65536);
        send(&mut delivery);
        delivery.rewind(id(2));
        assert!(delivery.in_flight());
        assert_eq!(delivery.read_after(), id(2));
        assert_eq!(delivery.confirmed(), None);
        assert_eq!(delivery.cursor(), id(2));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Confirm,
        Fail(Failure),
        ConnectionLost,
        Rewind(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Confirm),
            1 => Just(Event::Fail(Failure::NotSent)),
            3 => Just(Event::Fail(CLOSED)),
            1 => Just(Event::Fail(Failure::Silent)),
            1 => Just(Event::Fail(Failure::Refused)),
            1 => Just(Event::Fail(Failure::Unwelcome)),
            1 => Just(Event::ConnectionLost),
            1 => (0u64..50).prop_map(Event::Rewind),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn the_cursor_never_passes_an_unconfirmed_measurement(events in prop::collection::vec(event(), 1..400)) {
            let mut delivery = Delivery::new(id(0), 400);
            let mut done = std::collections::HashSet::new();
            // Below this, somebody else has declared everything as done.
            let mut given = 0;
            let mut span = None;
            for event in events {
                if !delivery.in_flight() {
                    span = Some(send(&mut delivery));
                }
                match event {
                    Event::Confirm => {
                        let counts = delivery.in_flight.as_ref().is_some_and(|flight| !flight.forgotten);
                        let before = delivery.cursor();
                        let progress = delivery.confirmed();
                        prop_assert_eq!(progress.is_some(), counts);
                        if let (Some(progress), Some(span)) = (progress, span) {
                            done.extend(span.first.ms..=span.last.ms);
                            // Poison lies between the old cursor and the proof, without a gap.
                            let poison: Vec<u64> = progress.poison.iter().map(|poison| poison.id.ms).collect();
                            prop_assert_eq!(&poison, &(before.ms + 1..span.first.ms).collect::<Vec<_>>());
                            done.extend(poison);
                        }
                    }
                    Event::Fail(failure) => delivery.failed(failure, "why"),
                    Event::ConnectionLost => delivery.connection_lost(),
                    Event::Rewind(to) => {
                        delivery.rewind(id(to));
                        given = given.max(to);
                    }
                }
                let cursor = delivery.cursor().ms;
                prop_assert!((given + 1..=cursor).all(|ms| done.contains(&ms)));
                prop_assert!(delivery.read_after() >= delivery.cursor());
            }
        }
    }
}
