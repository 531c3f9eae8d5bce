//! What to ask Redis next, and when there will be something to ask.

use std::time::{Duration, Instant};

use super::cursor::{CursorState, Pending};
use super::{Bridge, BrokerLink, FIRST_PAGE, MOST_BESIDE, Request, SHORTEST_WAIT};
use crate::model::measurement::BatchLimits;
use crate::model::stream::Sent;
use crate::model::stream_id::StreamId;

/// The status waits so long for a page that takes it along.
const SOON: Duration = Duration::from_secs(1);

impl Bridge {
    /// The request that is most urgent now.
    pub(super) fn next_request(&mut self, now: Instant) -> Option<Request> {
        if let Some(request) = self.redis.greeting(now) {
            return Some(request);
        }
        if !self.redis.is_up() {
            return None;
        }
        if self.redis.settings_due(now, self.page_along(now)) <= now {
            return Some(Request::Settings);
        }
        if self.redis.refused_until.is_some_and(|until| now < until) {
            return None;
        }
        if let Some(request) = self.urgent_request(now) {
            return Some(request);
        }
        if let Some(counting) = &mut self.counting {
            if counting.turn() {
                return Some(counting.request());
            }
        }
        let page = self.next_page(now).is_some_and(|at| at <= now);
        if let Some(request) = self.latest_request(now, page) {
            return Some(request);
        }
        if page {
            return Some(self.page_request(now));
        }
        if let Some(counting) = &self.counting {
            return Some(counting.request());
        }
        let idle = self.reading.list.is_none() && !self.delivery.in_flight();
        (self.sending(now) && self.pushes() && idle).then(|| self.await_request(now))
    }

    /// What comes before the next page.
    fn urgent_request(&self, now: Instant) -> Option<Request> {
        if matches!(self.cursor.state, CursorState::Adopting { .. }) {
            return Some(Request::Look {
                after: StreamId::ZERO,
            });
        }
        if self.cursor.copy.is_due(now) {
            if let Some(poison) = self.cursor.next_copy() {
                return Some(Request::Copy {
                    id: poison.id,
                    reason: poison.reason.clone(),
                });
            }
        }
        if let Some(request) = self.trim_request(now) {
            return Some(request);
        }
        let settled = self.is_settled();
        if self.overview.note.is_due(now) && settled {
            return Some(Request::NoteAccount(self.to_save()));
        }
        if self.cursor.is_known() && self.overview.look_due(now) <= now
            || self.pausing.is_ending() && self.overview.last_look_is_due()
        {
            return Some(Request::Look {
                after: self.delivery.frontier(),
            });
        }
        let along = settled && self.page_along(now).is_some_and(|at| at <= now + SOON);
        let writes = !along && self.overview.write_is_due(now, || self.view());
        writes.then(|| Request::WriteStatus(settled.then(|| self.to_save())))
    }

    /// What another place is known by must not be stored beside the cursor that is there.
    fn is_settled(&self) -> bool {
        self.cursor.is_known() && self.cursor.save == Pending::No
    }

    /// Redis trims only up to the cursor that is stored, and would have nothing to do before.
    fn trim_request(&self, now: Instant) -> Option<Request> {
        let keep = self.rules.keep_sent?;
        if !self.cursor.trim.is_due(now) || self.cursor.save != Pending::No {
            return None;
        }
        let (frontier, accounted) = (self.delivery.frontier(), self.account.accounted());
        let (cursor, accounted) = self.cursor.storable(frontier, accounted);
        let sent = Sent {
            cursor,
            accounted,
            oldest: self.account.oldest(),
        };
        Some(Request::Trim { sent, keep })
    }

    /// There is room for another list.
    fn has_room(&self) -> bool {
        let flying = self.delivery.flying().map_or(0, |span| span.bytes);
        self.reading.list.is_none() && flying <= MOST_BESIDE
    }

    /// When the next page is to be read; `None`: not before something else has happened.
    fn next_page(&self, now: Instant) -> Option<Instant> {
        if !self.sending(now) || !self.has_room() {
            return None;
        }
        if self.reading.more {
            return Some(now);
        }
        (!self.pushes()).then(|| self.round_due(now))
    }

    /// When the next page takes along what would need a round trip of its own: not where the last
    /// one was refused.
    fn page_along(&self, now: Instant) -> Option<Instant> {
        let refused = self.redis.refused_until.is_some();
        self.next_page(now).filter(|_| !refused)
    }

    /// How many entries to read so that the next list is full, going by the size of the last.
    fn wanted(&self, limits: BatchLimits) -> usize {
        match self.reading.bytes_per_entry {
            0 => FIRST_PAGE.min(limits.max_count),
            bytes => (limits.max_bytes / bytes + 2).clamp(1, limits.max_count),
        }
    }

    fn limits(&self) -> BatchLimits {
        let limit = match self.link {
            BrokerLink::Up { limit, .. } => limit,
            BrokerLink::Down => usize::MAX,
        };
        self.delivery.limits(BatchLimits {
            max_bytes: self.rules.batch.max_bytes.min(limit),
            ..self.rules.batch
        })
    }

    fn page_request(&self, now: Instant) -> Request {
        let limits = self.limits();
        let writes = self.is_settled() && self.overview.write_is_due(now, || self.view());
        Request::Page {
            after: self.delivery.read_after(),
            count: self.wanted(limits),
            limits,
            status: writes.then(|| self.to_save()),
        }
    }

    fn await_request(&self, now: Instant) -> Request {
        let limits = self.limits();
        Request::Await {
            after: self.delivery.read_after(),
            count: self.wanted(limits),
            limits,
            patience: self
                .due(now)
                .saturating_duration_since(now)
                .max(SHORTEST_WAIT),
        }
    }

    /// When there will be something to do without anything else happening.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let mut due = vec![self.redis.due(now, self.page_along(now))];
        due.extend(self.overview.notices.due());
        due.extend(self.pausing.until().filter(|until| *until > now));
        if self.reading.list.is_some() {
            due.extend(self.pausing.pace.until(now));
        }
        if self.redis.is_up() {
            // What cannot be asked for must not be waited for either.
            let known = self.cursor.is_known();
            due.extend(self.cursor.save.due_at().filter(|_| known));
            if self.redis.refused_until.is_none_or(|until| now >= until) {
                due.extend(self.cursor.copy.due_at());
                if known {
                    let settled = self.is_settled();
                    due.extend(self.overview.note.due_at().filter(|_| settled));
                    due.push(self.overview.look_due(now));
                }
                due.extend(self.latest_due(now));
                due.extend(self.next_page(now));
            } else {
                due.extend(self.redis.refused_until);
            }
        }
        due.into_iter().min().unwrap_or(now)
    }
}
