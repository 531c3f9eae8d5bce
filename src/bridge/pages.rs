//! What a page or a look says about the stream.

use std::time::Instant;

use super::catch_up::Behind;
use super::cursor::CursorState;
use super::delivery::Delivery;
use super::losses::Seen;
use super::messages::Page;
use super::notice::Notice;
use super::pausing::Alone;
use super::{Bridge, UNMATCHED};
use crate::model::measurement::Oddities;
use crate::model::stream::{Look, Stream, Waiting};
use crate::model::stream_id::StreamId;

impl Bridge {
    pub(super) fn take_page(
        &mut self,
        now: Instant,
        after: StreamId,
        mut page: Page,
        with_state: bool,
    ) {
        self.redis.accepted();
        if let Some(written) = page.written.take() {
            self.status_answered(now, written.refused);
            self.overview.looked(now, written.used_percent);
        }
        if !self.apply(now, std::mem::take(&mut page.settings))
            || after != self.delivery.read_after()
        {
            return;
        }
        if !self.page_agrees(now, after, &page, with_state) {
            return;
        }
        self.page_ends_with(page.newest);
        let count = page.list.as_ref().map_or(0, |list| list.count);
        self.reading.more = page.entries > count || page.entries > 0 && !page.at_end;
        if let Some(list) = &page.list {
            self.reading.bytes_per_entry = (list.payload.len() / list.count.max(1)).max(1);
        }
        self.reading.list = page.list;
        self.tell_oddities(page.oddities);
        if page.entries == 0 && !self.delivery.in_flight() {
            self.heed_held_alone(now);
        }
    }

    /// Compares it with the state of the stream. `false`: it is of no use.
    fn page_agrees(
        &mut self,
        now: Instant,
        after: StreamId,
        page: &Page,
        with_state: bool,
    ) -> bool {
        let first = page.list.as_ref().map(|list| list.first);
        match page.stream {
            Some(stream) => {
                self.reading.unmatched = 0;
                self.reading.latest.saw(now, stream);
                let seen = Seen {
                    stream,
                    place: after,
                    entries: page.entries,
                    at_end: page.at_end,
                    first,
                };
                if !self.audit(&seen) {
                    return false;
                }
                if page.entries == 0 && !self.delivery.in_flight() {
                    self.waits(now, Some(Waiting::Exactly(0)), None);
                }
            }
            None if with_state && self.reading.unmatched < UNMATCHED => {
                self.reading.unmatched += 1;
                self.reading.more = true;
                return false;
            }
            None => self.reading.unmatched = 0,
        }
        true
    }

    fn tell_oddities(&mut self, oddities: Oddities) {
        let before = std::mem::replace(&mut self.reading.oddities, oddities);
        if oddities.not_utf8 > 0 && before.not_utf8 == 0 {
            self.tell(Notice::NotUtf8);
        }
        if oddities.double_field > 0 && before.double_field == 0 {
            self.tell(Notice::DoubleField);
        }
    }

    fn heed_held_alone(&mut self, now: Instant) {
        let Some(reason) = self.delivery.held_for() else {
            return;
        };
        let reason = reason.to_string();
        match self.pausing.alone(now, self.redis.jitter.fraction()) {
            Alone::Told(wait) => self.tell_not_accepted(reason, wait),
            Alone::Waits => {}
            Alone::TriedAgain => self.change_trial(Delivery::end_trial),
        }
    }

    pub(super) fn take_look(&mut self, now: Instant, after: StreamId, look: Look) {
        self.redis.accepted();
        if let CursorState::Adopting { to, at_start } = self.cursor.state {
            self.adopt(to, at_start, look.stream);
            self.audit_from(self.delivery.frontier(), look.stream);
            return;
        }
        self.overview.looked(now, look.used_percent);
        self.reading.latest.saw(now, look.stream);
        let idle = self.reading.list.is_none() && self.delivery.unconfirmed() == 0;
        if idle && after == self.delivery.frontier() {
            let seen = Seen {
                stream: look.stream,
                place: after,
                entries: 0,
                at_end: look.oldest.is_none(),
                first: look.oldest,
            };
            self.audit(&seen);
        } else if self.is_replaced(look.stream) {
            // What is in flight may take long, and who has written it anew may do so again.
            self.audit_from(self.delivery.read_after(), look.stream);
        } else if let Stream::Present(extent) = look.stream {
            self.account.waits(&extent);
        }
        self.see(now, &look);
    }

    /// The same where nothing was read behind that place.
    fn audit_from(&mut self, place: StreamId, stream: Stream) {
        let first = match stream {
            Stream::Present(extent) => extent.first.filter(|first| *first > place),
            Stream::Absent => None,
        };
        self.audit(&Seen {
            stream,
            place,
            entries: 0,
            at_end: false,
            first,
        });
    }

    /// Another stream stands in the place of the one that was seen last, or the one before is back.
    fn is_replaced(&self, stream: Stream) -> bool {
        let is_back = |extent| self.account.come_back(&extent, self.ahead()).is_some();
        self.account.is_another(stream)
            || matches!(stream, Stream::Present(extent) if is_back(extent))
    }

    /// Notes what waits.
    fn see(&mut self, now: Instant, look: &Look) {
        let added = match look.stream {
            Stream::Present(extent) => extent.added,
            Stream::Absent => self.account.accounted(),
        };
        let counted = added
            .zip(self.account.accounted())
            .map(|(added, accounted)| added.saturating_sub(accounted));
        let backlog = match (look.oldest, counted) {
            (None, _) => Some(Waiting::Exactly(0)),
            (Some(_), Some(count)) => Some(Waiting::Exactly(count)),
            (Some(_), None) => look.waiting,
        };
        self.waits(now, backlog, look.oldest);
    }

    /// So much waits: an empty page, or the confirmation of a list that took all, says as much as a
    /// look.
    pub(super) fn waits(
        &mut self,
        now: Instant,
        backlog: Option<Waiting>,
        oldest: Option<StreamId>,
    ) {
        self.overview.seen(now, backlog, oldest);
        let behind = match backlog {
            Some(Waiting::Exactly(count) | Waiting::AtLeast(count)) => {
                count > self.rules.batch.max_count as u64
            }
            None => self.reading.more,
        };
        let behind = match (behind, self.sending(now)) {
            (false, _) => Behind::No,
            (true, true) => Behind::Yes,
            (true, false) => Behind::Paused,
        };
        let limit = self.pausing.pace.limit();
        let limit = limit.map(|bytes| bytes / self.reading.bytes_per_entry.max(1) as f64);
        self.overview.tell_catch_up(now, behind, limit);
    }
}

#[cfg(test)]
mod tests;
