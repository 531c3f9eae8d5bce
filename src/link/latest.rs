//! The newest measurement on its own topic. It gives way to everything else: it goes out while
//! nothing waits, which is so behind each list, while its cursor is stored. Only the first one of
//! a connection goes before the first list, which may fill a slow line for long.
//!
//! It is not acknowledged, so a broker that does not want it can only close the connection. That
//! is seen by the connection ending soon after, twice in a row; then it is left out for an hour.
//! Whatever else may have been the reason is cleared first: from then on until something is
//! acknowledged behind it, a connection has to stand before it follows. Where it was a list that
//! was in flight, that goes without it, and the one of the two that fails without the other, or
//! is taken, decides.

use std::time::{Duration, Instant};

use super::duties::Duty;
use super::notice::Notice;
use super::{Action, Busy, Letter, Link, Origin, PRECEDENCE, State};
use crate::model::failure::{By, Ended};
use crate::model::told::ToldOnce;

/// An answer by closing comes within this time.
const PROMPTLY: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Latest {
    /// Left out for a while when it has cost connections.
    duty: Duty,
    /// The one to be published, and how long the next waits behind it.
    waits: Option<(Letter, Duration)>,
    /// Not before, after one has gone out on this connection.
    rested: Option<Instant>,
    /// When the last one went out, until something is acknowledged behind it.
    unproven: Option<Instant>,
    doubt: Option<Doubt>,
    told: ToldOnce<&'static str>,
}

/// A list was in flight behind it when the broker ended a connection.
#[derive(Debug)]
struct Doubt {
    /// Bytes of that list that have not been taken yet.
    left: usize,
    reason: String,
}

impl Latest {
    pub fn begins_again(&mut self) {
        (self.waits, self.rested, self.unproven) = (None, None, None);
        self.duty.begins_again();
    }

    /// It was sent, and nothing has been acknowledged since.
    pub fn is_unproven(&self) -> bool {
        self.unproven.is_some()
    }

    /// The broker has acknowledged something: what went before has not disturbed it.
    pub fn proven(&mut self) {
        if self.unproven.take().is_some() {
            self.doubt = None;
            self.duty.done();
            self.duty.begins_again();
        }
    }

    /// A list was taken that went without it. Why it is left out from now on.
    fn list_taken(&mut self, now: Instant, bytes: usize) -> Option<String> {
        let doubt = self.doubt.take_if(|doubt| {
            doubt.left = doubt.left.saturating_sub(bytes);
            doubt.left == 0
        })?;
        self.duty.failed(now).then_some(doubt.reason)
    }

    /// The connection has ended. `others`: something else that was sent may be the reason.
    /// Whether it is left out from now on.
    fn ended(&mut self, now: Instant, ended: &Ended, was: Busy, others: bool) -> bool {
        self.waits = None;
        let sent = self.unproven.take();
        if ended.by != By::Broker {
            return false;
        }
        let Some(sent) = sent else {
            // It ends them without it as well.
            self.doubt = None;
            self.duty.acquit();
            return false;
        };
        match was {
            Busy::Publishing { origin, bytes, .. } => {
                self.duty.doubt();
                self.doubt = (origin == Origin::Measurements).then(|| Doubt {
                    left: bytes,
                    reason: ended.reason.clone(),
                });
                false
            }
            _ if others || was == Busy::Announcing => {
                self.duty.doubt();
                false
            }
            _ if now.saturating_duration_since(sent) <= PROMPTLY => self.duty.failed(now),
            _ => {
                self.duty.acquit();
                false
            }
        }
    }
}

impl Link {
    pub(super) fn latest_offered(&mut self, letter: Letter, pause: Duration) {
        let carries = matches!(&self.state, State::Up(up) if up.ended.is_none());
        if carries && letter.link == Some(self.view.link) {
            self.latest.waits = Some((letter, pause));
        }
    }

    pub(super) fn latest_due(&self, now: Instant) -> Option<Instant> {
        self.latest.waits.as_ref()?;
        let due = self.latest.duty.due(now).max(self.latest.rested);
        let stands = match &self.state {
            State::Up(up) if self.latest.duty.is_doubtful() => Some(up.since + PRECEDENCE),
            _ => None,
        };
        self.after_measurements(&self.latest.duty, due.max(stands))
    }

    /// Publishes it, if it is due. `free`: nothing else may go now.
    pub(super) fn publish_latest(&mut self, now: Instant, free: bool) -> Option<Action> {
        let due = self.latest_due(now).is_some_and(|at| at <= now);
        let first = self.latest.rested.is_none() && !self.latest.duty.is_doubtful();
        if !due || !free && !first {
            return None;
        }
        let (letter, pause) = self.latest.waits.take()?;
        self.latest.rested = Some(now + pause);
        let State::Up(up) = &self.state else {
            return None;
        };
        let topic = letter.message.topic.clone();
        if !up.retains {
            return self.no_latest("the broker keeps no retained messages", topic);
        }
        match self.publish_own(letter.message, self.rules.ack_timeout, Busy::Latest) {
            None => self.no_latest("it has more bytes than the broker takes", topic),
            publish => publish,
        }
    }

    /// It is on its way, or the connection has ended under it.
    pub(super) fn latest_published(&mut self, now: Instant) {
        self.latest.unproven = Some(now);
    }

    /// Tells it once; whatever comes next goes on.
    fn no_latest(&mut self, why: &'static str, topic: String) -> Option<Action> {
        let reason = why.to_string();
        let news = self.latest.told.news(why);
        news.then_some(Action::Tell(Notice::NoLatest { topic, reason }))
    }

    pub(super) fn list_taken(&mut self, now: Instant, bytes: usize) {
        if self.latest.is_unproven() {
            return;
        }
        if let Some(reason) = self.latest.list_taken(now, bytes) {
            self.latest_left_out(&reason);
        }
    }

    pub(super) fn judge_latest(&mut self, now: Instant, ended: &Ended, was: Busy, others: bool) {
        if self.latest.ended(now, ended, was, others) {
            self.latest_left_out(&ended.reason);
        }
    }

    fn latest_left_out(&mut self, reason: &str) {
        let reason = format!(
            "the connection has ended right behind it: {reason}; it is left out for an hour"
        );
        let topic = self.rules.latest.clone().unwrap_or_default();
        let notice = Notice::NoLatest { topic, reason };
        self.first.push_back(Action::Tell(notice));
    }
}
