//! The newest measurement, for a topic of its own: when to ask for it, and when to hand it over.
//!
//! It costs a command only while a backlog is sent or waits for its rate, once an interval: the
//! last entry of a page that reaches to the end of the stream is it. It is never asked for before
//! a page, but for the first one of a connection.

use std::time::{Duration, Instant};

use super::messages::Newest;
use super::{Action, Bridge, BrokerLink, Notice, Request};
use crate::model::stream::Stream;
use crate::model::stream_id::StreamId;
use crate::model::told::ToldOnce;

/// Not more often, however short the interval: nobody reads faster, and each one costs bytes.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Latest {
    /// The largest ID of the stream as it was seen last, and when that was.
    seen: Option<(Instant, StreamId)>,
    /// The largest ID when it was read last; `None`: not yet on this connection.
    read: Option<StreamId>,
    /// Read and not handed over.
    waits: Option<(StreamId, Vec<u8>)>,
    /// Handed over last on this connection.
    handed: Option<(Instant, StreamId)>,
    too_large: ToldOnce<()>,
}

impl Latest {
    /// There is a new connection. What the broker has kept of the last one is not known.
    pub fn begins_again(&mut self) {
        (self.read, self.waits, self.handed) = (None, None, None);
    }

    pub fn saw(&mut self, now: Instant, stream: Stream) {
        if let Stream::Present(extent) = stream {
            self.seen = Some((now, extent.newest));
        }
    }

    /// It was read. Its ID where it is too large, once.
    pub fn came(&mut self, newest: Newest) -> Option<StreamId> {
        let Newest { id, payload } = newest;
        let seen = self.seen.map_or(id, |(_, seen)| seen.max(id));
        self.read = Some(seen);
        let is_new = self.handed.is_none_or(|(_, handed)| handed != id);
        let too_large = payload.is_none() && is_new && self.too_large.news(());
        self.waits = payload.filter(|_| is_new).map(|payload| (id, payload));
        too_large.then_some(id)
    }

    /// It was asked for: the answer is as fresh as a look at the stream.
    fn answered(&mut self, now: Instant, newest: Option<Newest>) -> Option<StreamId> {
        let known = self.seen.map_or(StreamId::ZERO, |(_, id)| id);
        let id = newest.as_ref().map_or(known, |newest| newest.id);
        self.seen = Some((now, known.max(id)));
        self.read = Some(known.max(id));
        newest.and_then(|newest| self.came(newest))
    }

    fn rested_at(&self, now: Instant, pause: Duration) -> Instant {
        self.handed.map_or(now, |(at, _)| at + pause)
    }

    /// When to ask for it. `busy`: a list is in flight or waits for the rate of a catch-up, so that
    /// nothing else may tell for long.
    fn read_due(&self, now: Instant, pause: Duration, busy: bool) -> Option<Instant> {
        let rested = self.rested_at(now, pause);
        match (self.read, self.seen) {
            (None, _) => Some(now),
            _ if self.waits.is_some() => None,
            (Some(read), Some((_, newest))) if read != newest => Some(rested),
            (_, Some((at, _))) if busy => Some(rested.max(at + pause)),
            _ => None,
        }
    }

    /// When the one that was read may be handed over.
    fn hand_over_due(&self, now: Instant, pause: Duration) -> Option<Instant> {
        self.waits.as_ref().map(|_| self.rested_at(now, pause))
    }

    fn hand_over(&mut self, now: Instant, pause: Duration) -> Option<Vec<u8>> {
        self.hand_over_due(now, pause).filter(|at| *at <= now)?;
        let (id, payload) = self.waits.take()?;
        self.handed = Some((now, id));
        Some(payload)
    }
}

impl Bridge {
    fn latest_pause(&self) -> Duration {
        self.settings.interval.max(SHORTEST)
    }

    pub(super) fn hand_over_latest(&mut self, now: Instant) -> Option<Action> {
        let BrokerLink::Up { link, .. } = self.link else {
            return None;
        };
        if !self.sending(now) {
            return None;
        }
        let pause = self.latest_pause();
        let payload = self.reading.latest.hand_over(now, pause)?;
        Some(Action::PublishLatest {
            link,
            payload,
            pause,
        })
    }

    /// The request for it, if it is due. `before_page`: a page is due, too, and only the first one
    /// of a connection may hold that up.
    pub(super) fn latest_request(&self, now: Instant, before_page: bool) -> Option<Request> {
        let first = self.reading.latest.read.is_none();
        let due = self.latest_read_due(now).is_some_and(|at| at <= now);
        (due && (first || !before_page)).then_some(Request::Newest)
    }

    fn latest_read_due(&self, now: Instant) -> Option<Instant> {
        if !self.rules.latest || !self.sending(now) {
            return None;
        }
        let waits = self.reading.list.is_some() && self.pausing.pace.until(now).is_some();
        let busy = waits || self.delivery.in_flight();
        self.reading.latest.read_due(now, self.latest_pause(), busy)
    }

    /// When there will be something to do for it.
    pub(super) fn latest_due(&self, now: Instant) -> Option<Instant> {
        let pause = self.latest_pause();
        let hand_over = self.reading.latest.hand_over_due(now, pause);
        self.latest_read_due(now)
            .into_iter()
            .chain(hand_over.filter(|_| self.sending(now)))
            .min()
    }

    pub(super) fn take_newest(&mut self, now: Instant, newest: Option<Newest>) {
        self.redis.accepted();
        let too_large = self.reading.latest.answered(now, newest);
        self.tell_too_large(too_large);
    }

    /// The last entry of a page that reaches to the end of the stream.
    pub(super) fn page_ends_with(&mut self, newest: Option<Newest>) {
        let too_large = newest.and_then(|newest| self.reading.latest.came(newest));
        self.tell_too_large(too_large);
    }

    fn tell_too_large(&mut self, too_large: Option<StreamId>) {
        if let Some(id) = too_large {
            self.tell(Notice::LatestTooLarge(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stream::Extent;

    const PAUSE: Duration = Duration::from_secs(10);

    fn newest(ms: u64) -> Newest {
        Newest {
            id: StreamId::new(ms, 0),
            payload: Some(ms.to_string().into_bytes()),
        }
    }

    fn stream(ms: u64) -> Stream {
        Stream::Present(Extent {
            newest: StreamId::new(ms, 0),
            length: 1,
            added: None,
            first: None,
            deleted: StreamId::ZERO,
        })
    }

    #[test]
    fn it_is_asked_for_once_an_interval_and_only_where_there_is_another_one() {
        let (mut latest, now) = (Latest::default(), Instant::now());
        assert_eq!(latest.read_due(now, PAUSE, false), Some(now), "at first");
        latest.answered(now, Some(newest(7)));
        assert_eq!(latest.hand_over(now, PAUSE), Some(b"7".to_vec()));
        latest.saw(now, stream(7));
        assert_eq!(latest.read_due(now, PAUSE, false), None);
        latest.saw(now, stream(8));
        assert_eq!(latest.read_due(now, PAUSE, false), Some(now + PAUSE));
        let later = now + PAUSE;
        latest.answered(later, Some(newest(9)));
        assert_eq!(latest.hand_over(later, PAUSE), Some(b"9".to_vec()));
        latest.begins_again();
        assert_eq!(latest.read_due(later, PAUSE, false), Some(later));
    }

    #[test]
    fn while_a_list_is_in_flight_it_is_asked_for_although_nothing_was_seen() {
        let (mut latest, now) = (Latest::default(), Instant::now());
        latest.answered(now, Some(newest(7)));
        latest.hand_over(now, PAUSE);
        assert_eq!(latest.read_due(now, PAUSE, true), Some(now + PAUSE));
        let later = now + PAUSE;
        latest.answered(later, Some(newest(7)));
        assert_eq!(latest.hand_over(later, PAUSE), None, "it is the same");
        assert_eq!(latest.read_due(later, PAUSE, true), Some(later + PAUSE));
    }

    #[test]
    fn what_pages_end_with_waits_for_the_interval_and_gives_way_to_a_newer_one() {
        let (mut latest, now) = (Latest::default(), Instant::now());
        latest.came(newest(1));
        assert!(latest.hand_over(now, PAUSE).is_some());
        latest.came(newest(2));
        latest.came(newest(3));
        assert_eq!(latest.hand_over(now, PAUSE), None);
        assert_eq!(latest.hand_over_due(now, PAUSE), Some(now + PAUSE));
        latest.saw(now, stream(4));
        assert_eq!(latest.read_due(now, PAUSE, false), None, "one waits");
        assert_eq!(latest.hand_over(now + PAUSE, PAUSE), Some(b"3".to_vec()));
    }

    #[test]
    fn a_newest_one_that_was_deleted_or_is_too_large_is_not_asked_for_again_and_again() {
        let (mut latest, now) = (Latest::default(), Instant::now());
        latest.saw(now, stream(9));
        latest.answered(now, Some(newest(8)));
        latest.hand_over(now, PAUSE);
        assert_eq!(latest.read_due(now, PAUSE, false), None);
        let large = |ms| Newest {
            payload: None,
            ..newest(ms)
        };
        latest.saw(now, stream(10));
        assert!(latest.answered(now, Some(large(10))).is_some());
        assert_eq!(latest.read_due(now, PAUSE, false), None);
        assert_eq!(latest.answered(now, Some(large(11))), None, "told once");
        latest.answered(now, None);
        assert_eq!(latest.read_due(now, PAUSE, false), None);
    }
}
