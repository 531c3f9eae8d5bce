//! What the answers of Redis mean.

use std::time::Instant;

use super::cursor::CursorState;
use super::messages::{Answer, RedisFailure, Request, Save};
use super::notice::Notice;
use super::{Bridge, Pending};
use crate::model::quote::Quoted;
use crate::model::settings::{Raw, RawSettings, unusable};
use crate::model::stream::{Copied, Former, Position, Remembered, Saved, Stream};
use crate::model::stream_id::{Cursor, StreamId};

impl Bridge {
    pub(super) fn redis_answered(&mut self, now: Instant, result: Result<Answer, RedisFailure>) {
        let Some(asked) = self.redis.asked.take() else {
            return;
        };
        match result {
            Ok(answer) => self.answered(now, asked, answer),
            Err(RedisFailure::Refused(reason)) if asked != Request::Connect => {
                self.refused(now, &asked, reason);
            }
            Err(RedisFailure::Lost(reason) | RedisFailure::Refused(reason)) => {
                self.redis_lost(now, reason);
            }
        }
    }

    fn redis_lost(&mut self, now: Instant, reason: String) {
        let wait = self.redis.lost(now);
        self.tell(Notice::RedisLost { reason, wait });
        self.counting = None;
        self.drop_list();
        self.overview.forget_written();
    }

    fn refused(&mut self, now: Instant, asked: &Request, reason: String) {
        let what = match asked {
            Request::Save(_) => {
                // Measurements go on: holding them back would not help Redis.
                if self.cursor.save == Pending::Now {
                    self.tell(Notice::CursorRefused(reason));
                }
                return self.cursor.save.refused(now);
            }
            Request::Copy { id, .. } => {
                if self.cursor.copy == Pending::Now {
                    self.tell(Notice::CopyRefused { id: *id, reason });
                }
                return self.cursor.copy.refused(now);
            }
            Request::Trim { .. } => {
                if self.cursor.trim == Pending::Now {
                    self.tell(Notice::TrimRefused(reason));
                }
                return self.cursor.trim.refused(now);
            }
            Request::NoteAccount(_) => {
                return self.overview.note.refused(now);
            }
            Request::WriteStatus(_) => return self.status_answered(now, Some(reason)),
            Request::Settings => {
                self.redis.settings_read = Some(now);
                "the settings"
            }
            Request::Hazards | Request::Remember | Request::Connect => "what it was asked at first",
            Request::Page { .. }
            | Request::Await { .. }
            | Request::Look { .. }
            | Request::Newest
            | Request::Count { .. } => "the stream",
        };
        if self.redis.refused(now, what, &reason) {
            self.tell(Notice::RedisRefuses { what, reason });
        }
    }

    fn answered(&mut self, now: Instant, asked: Request, answer: Answer) {
        match (asked, answer) {
            (Request::Connect, _) => {
                self.redis.connected(now);
                self.begin_again();
                self.tell(Notice::RedisConnected);
            }
            (_, Answer::Hazards(hazards)) => {
                self.redis.hazards_are_told();
                for hazard in hazards {
                    self.tell(Notice::Hazard(hazard));
                }
            }
            (_, Answer::Remembered(remembered)) => self.remembered(remembered),
            (_, Answer::Settings(raw)) => {
                self.apply(now, raw);
            }
            (Request::Page { after, .. }, Answer::Page(page)) => {
                self.reading.round_began = Some(now);
                self.take_page(now, after, page, true);
            }
            (Request::Await { after, .. }, Answer::Page(page)) => {
                // While it waited, the stream may have become another one.
                let with_state = page.entries > 0;
                self.take_page(now, after, page, with_state);
            }
            (Request::Look { after }, Answer::Look(look)) => self.take_look(now, after, look),
            (_, Answer::Newest(newest)) => self.take_newest(now, newest),
            (_, Answer::Counted { count, end }) => self.counted(count, end),
            (Request::Save(save), Answer::Saved(Saved::Yes)) => self.saved(save),
            (_, Answer::Saved(Saved::Foreign(raw))) => self.not_saved(now, raw),
            (_, Answer::Copied(copied)) => self.copied(now, copied),
            (Request::Trim { sent, .. }, Answer::Trimmed { more }) => {
                self.cursor.trim = if more { Pending::Now } else { Pending::No };
                // Where the cursor is not stored yet, nothing was trimmed.
                if self.cursor.raw == Raw::Text(Cursor::written(sent.cursor)) {
                    self.cursor.passed_since_trim = Some(0);
                }
            }
            (Request::NoteAccount(_), _) => self.overview.note = Pending::No,
            (Request::WriteStatus(_), _) => self.status_answered(now, None),
            _ => debug_assert!(false, "an answer to something else"),
        }
    }

    /// The status was written, or Redis has refused it.
    pub(super) fn status_answered(&mut self, now: Instant, refused: Option<String>) {
        self.overview.wrote(now, self.view());
        let Some(reason) = refused else {
            return self.redis.status_written();
        };
        if self.redis.status_refused(&reason) {
            let what = "the status";
            self.tell(Notice::RedisRefuses { what, reason });
        }
    }

    fn remembered(&mut self, remembered: Remembered) {
        let counters = &mut self.overview.counters;
        // What Redis has forgotten over a restart is still known here.
        counters.lost = counters.lost.max(remembered.lost);
        counters.dead_letters = counters.dead_letters.max(remembered.dead_letters);
        self.redis.remembered = Some(remembered);
        self.redis.accepted();
    }

    /// Takes over the settings. Whether what was read along with them can still be used.
    pub(super) fn apply(&mut self, now: Instant, raw: RawSettings) -> bool {
        self.redis.settings_read = Some(now);
        if self.cursor.is_known() && self.redis.rests(now).is_some() {
            return self.settings.enabled;
        }
        let notices = self.settings.apply(&raw);
        if !notices.is_empty() {
            self.redis.obeys(now);
            self.overview.touch();
        }
        for notice in notices {
            self.tell(Notice::Setting(notice));
        }
        if self.cursor.differs(&raw.last_id) {
            self.cursor_was_set(now, raw.last_id);
        }
        if !self.settings.enabled {
            self.drop_list();
        }
        // A value that nobody understands has moved nothing.
        self.cursor.is_known() && self.settings.enabled
    }

    /// The key holds something else than this program read or wrote last: that counts.
    fn cursor_was_set(&mut self, now: Instant, raw: Raw) {
        self.redis.obeys(now);
        let at_start = self.cursor.state == CursorState::Unknown;
        let understood = raw.last_id();
        if raw == Raw::Missing && !at_start {
            self.tell(Notice::CursorGone);
        }
        let to = match understood {
            Ok(cursor) => Some(cursor),
            Err(error) => {
                self.tell(Notice::Setting(unusable("mqtt_sender:last_id", &error.0)));
                None
            }
        };
        self.cursor.raw = raw;
        let to = match to {
            Some(to) => to,
            None if at_start => Cursor::After(StreamId::ZERO),
            // The last good value stays in force, and is stored again: after a restart nobody
            // would know it.
            None => {
                self.cursor.save.wanted();
                return;
            }
        };
        if !at_start && self.cursor.mismatch(now) {
            self.tell(Notice::SecondInstance);
        }
        // Whatever is in flight or was to be stored no longer counts.
        self.delivery.rewind(self.delivery.frontier());
        self.drop_list();
        self.cursor.forget_pending();
        self.counting = None;
        self.cursor.state = CursorState::Adopting { to, at_start };
    }

    /// There is a connection to Redis, perhaps a new process that has forgotten the last moments:
    /// what counts is what is stored, and IDs may be given again. It repeats one list at most.
    fn begin_again(&mut self) {
        self.delivery.rewind(self.delivery.frontier());
        self.drop_list();
        if self.cursor.uncopied() > 0 {
            self.account.distrust();
        }
        self.cursor.forget_pending();
        self.cursor.state = CursorState::Unknown;
        self.counting = None;
        self.redis.remembered = None;
    }

    /// What somebody has set is understood, now that the stream was looked at.
    pub(super) fn adopt(&mut self, to: Cursor, at_start: bool, stream: Stream) {
        let id = match (to, stream) {
            (Cursor::After(id), _) => id,
            (Cursor::Now, Stream::Present(extent)) => extent.newest,
            (Cursor::Now, Stream::Absent) => StreamId::ZERO,
        };
        self.tell(Notice::Cursor {
            at_start,
            stored: stored_in_words(&self.cursor.raw),
            after: id,
        });
        let same_place = |text: &str| text.parse() == Ok(Cursor::After(id));
        let position = self
            .redis
            .remembered
            .as_ref()
            .and_then(|remembered| remembered.position.clone())
            .filter(|position| at_start && same_place(&position.cursor));
        let own = |position: &Position| self.cursor.raw == Raw::Text(position.cursor.clone());
        self.cursor.state = match &position {
            Some(position) if own(position) && !position.foreign => CursorState::Own,
            // What nobody understands has set nothing.
            _ if self.cursor.raw.last_id().is_err() => CursorState::Own,
            _ => CursorState::Foreign,
        };
        let before = self.delivery.frontier();
        self.delivery.rewind(id);
        self.overview.forget_catch_up();
        self.account_at(id, position, stream, before);
        // "From now on" must keep its meaning over a restart.
        if to == Cursor::Now {
            self.cursor.save = Pending::Now;
        }
        self.reading.round_began = None;
        self.overview.touch();
        // Nothing may come that would ask for it: a full Redis takes no measurements.
        self.cursor.passed_since_trim = None;
        self.trim_when_due();
    }

    /// The account of the stream up to the place from which it is sent: what an earlier run has left
    /// behind, or a new one.
    fn account_at(
        &mut self,
        id: StreamId,
        position: Option<Position>,
        stream: Stream,
        before: StreamId,
    ) {
        let former = position.as_ref().and_then(|position| position.former);
        let (accounted, seen) = position.map_or((None, None), |p| (p.accounted, p.seen));
        if accounted.is_some() {
            // What was lost after that is found again from there.
            let remembered = self.redis.remembered.as_ref();
            self.overview.counters.lost = remembered.map_or(0, |remembered| remembered.lost);
            self.account.resume(accounted, seen);
        } else {
            self.leave_stream(stream, before);
            self.begin_account(stream, id);
            // What is removed from now on is a loss, also over a restart.
            self.overview.note.wanted();
            if seen.is_some_and(|seen| seen.added.is_none()) {
                // Its IDs are all by which such a server shows another stream.
                self.account.resume(None, seen);
            }
        }
        // Where somebody else has set the cursor, that counts in a stream that comes back as well.
        let obeyed = |former: &Former| self.cursor.state == CursorState::Own || former.place == id;
        self.account.former = former.filter(obeyed);
    }

    fn saved(&mut self, save: Save) {
        let cursor = save.cursor;
        self.account.stored(save.accounted);
        let place = self
            .cursor
            .storable(self.delivery.frontier(), self.account.accounted());
        self.cursor.raw = Raw::Text(cursor.clone());
        self.cursor.state = CursorState::Own;
        // The frontier may have moved while a refused save was waited out.
        self.cursor.save = if Cursor::written(place.0) == cursor {
            Pending::No
        } else {
            Pending::Now
        };
        self.overview.note = Pending::No;
        self.overview.saved();
    }

    fn not_saved(&mut self, now: Instant, raw: Raw) {
        if raw == self.cursor.raw {
            // Unusable before and still: the cursor lives in memory only.
            return self.cursor.save.refused(now);
        }
        if let Some(until) = self.redis.rests(now) {
            // What is stored counts after the rest, unless it changes again.
            return self.cursor.save = Pending::until(until);
        }
        self.cursor.save = Pending::No;
        self.cursor_was_set(now, raw);
        if self.cursor.is_known() {
            // It is unusable, so the last good one stays in force, and is to be stored.
            self.cursor.save = Pending::Now;
        }
    }

    fn copied(&mut self, now: Instant, copied: Copied) {
        if let Copied::Gone(stream) = copied {
            if self.account.is_another(stream) {
                // It is not the measurement that is gone: the next look tells of the stream.
                return self.cursor.copy.refused(now);
            }
        }
        let Some(poison) = self.cursor.copied() else {
            return;
        };
        match copied {
            Copied::Yes => {
                self.overview.counters.dead_letters += 1;
                self.tell(Notice::DeadLetter {
                    id: poison.id,
                    reason: poison.reason,
                });
            }
            Copied::Gone(_) => {
                self.overview.counters.lost += 1;
                self.tell(Notice::PoisonGone(poison.id));
            }
        }
        self.overview.note.wanted();
        self.overview.touch();
    }
}

fn stored_in_words(raw: &Raw) -> String {
    match raw {
        Raw::Missing => "there is no mqtt_sender:last_id, everything counts".to_string(),
        Raw::Text(text) => format!("mqtt_sender:last_id = {}", Quoted(text)),
        Raw::Bytes(_) | Raw::Unusable(_) => {
            "mqtt_sender:last_id is unusable, everything counts".to_string()
        }
    }
}

#[cfg(test)]
mod tests;
