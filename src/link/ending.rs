//! What the end of a message, an attempt or a connection means.

use std::time::{Duration, Instant};

use super::duties::Duty;
use super::messages::Origin;
use super::notice::{Next, Notice};
use super::retry::{Past, STOOD};
use super::{Action, Busy, Link, State, Up, answer, not_sent};
use crate::model::connection::{NoConnection, NoConnectionKind};
use crate::model::failure::{By, Cause, Ended, Undelivered};

/// So many connections in a row that lasted no longer than this point to a second client.
const MANY_CUTS: u32 = 3;
const CUT_SHORT: Duration = Duration::from_secs(15);
/// So many connections in a row ended by a message too large, at once after a subscription, point to
/// a retained one.
const MANY_GATE_ENDS: u32 = 2;
/// The keep alive is doubled so often at most.
const MOST_DOUBLINGS: u32 = 6;

impl Link {
    pub(super) fn not_connected(&mut self, now: Instant, why: &NoConnection) {
        let State::Connecting(attempt) = self.state else {
            return;
        };
        self.state = State::Idle { retry: now };
        if why.kind == NoConnectionKind::GivenUp {
            return;
        }
        self.view.last_error.clone_from(&why.reason);
        use NoConnectionKind::{Closed, NeedsPerson, Refused, Silent};
        let by_broker = matches!(why.kind, Closed | NeedsPerson | Refused | Silent);
        // Where another version is tried next, this one may be the reason.
        let other_version = self.version.failed(now, why.kind);
        let blamed = attempt.will && by_broker && !other_version;
        if blamed && self.announcing.attempt_refused(now) {
            self.status_left_out("the connection is refused; it is tried without the last will");
        }
        let next = if other_version {
            Next::Version(self.version.next(now))
        } else {
            let random = self.retry.jitter.fraction();
            let wait = match why.kind {
                // The last will may be the reason, and without it measurements flow.
                NeedsPerson if !attempt.will => self.retry.backoff.next_slowed(now, random),
                _ => self.retry.backoff.next(now, random),
            };
            self.state = State::Idle { retry: now + wait };
            Next::After(wait)
        };
        self.first.push_back(Action::Tell(Notice::NoConnection {
            address: self.rules.address.clone(),
            reason: why.reason.clone(),
            next,
        }));
        self.first.push_back(Action::Show);
    }

    pub(super) fn published(&mut self, now: Instant, mut result: Result<(), Undelivered>) {
        let unclear = self.may_have_ended_for_something_else(now);
        let State::Up(up) = &mut self.state else {
            return;
        };
        let busy = std::mem::replace(&mut up.busy, Busy::No);
        let ended_by = up.ended.as_ref().map(|ended| ended.by);
        if let Err(why) = &mut result {
            name_the_cause(up, why, unclear);
        }
        match busy {
            Busy::Publishing {
                origin,
                confirmed,
                bytes,
            } => {
                self.outbox.answered(origin, now);
                match &result {
                    Ok(()) if confirmed => {
                        up.acknowledged = true;
                        let list = (origin == Origin::Measurements).then_some(bytes);
                        self.acknowledged(now, list);
                    }
                    Ok(()) => up.unanswerable = true,
                    Err(why) if why.cause == Cause::Lost && ended_by == Some(By::Line) => {
                        self.retry.slow = (self.retry.slow + 1).min(MOST_DOUBLINGS);
                    }
                    _ => {}
                }
                self.first.push_back(answer(origin, result));
            }
            Busy::Announcing => self.announced(now, result, ended_by),
            Busy::Latest => self.latest_published(now),
            Busy::Goodbye => return,
            Busy::No | Busy::Subscribing { .. } => {}
        }
        self.end_if_ended(now, busy);
    }

    /// The newest measurement, or something else that was sent just before, may be what the
    /// broker did not want.
    fn may_have_ended_for_something_else(&self, now: Instant) -> bool {
        let ended = matches!(&self.state, State::Up(up) if up.ended.is_some());
        ended && (self.latest.is_unproven() || self.has_others_unproven(now))
    }

    /// The same of a reply of QoS 0 and a subscription.
    fn has_others_unproven(&self, now: Instant) -> bool {
        let asked = |duty: &Duty| duty.may_be_answered(now);
        matches!(&self.state, State::Up(up) if up.unanswerable)
            || self.subscriptions.iter().any(asked)
    }

    /// The broker has acknowledged a message: it is there, and it answers. `list`: bytes, where it
    /// was measurements.
    fn acknowledged(&mut self, now: Instant, list: Option<usize>) {
        if let Some(bytes) = list {
            self.retry.backoff.outage_is_over();
            self.list_taken(now, bytes);
        }
        if let State::Up(up) = &mut self.state {
            up.unanswerable = false;
        }
        self.latest.proven();
        self.retry.slow = 0;
        let unanswered = |duty: &mut Duty| duty.broker_answers(now);
        self.leave_out(unanswered, "the broker did not answer");
    }

    /// Tells of each subscription that is left out from now on.
    fn leave_out(&mut self, mut is_left_out: impl FnMut(&mut Duty) -> bool, reason: &str) {
        for (duty, filter) in self.subscriptions.iter_mut().zip(&self.rules.filters) {
            if is_left_out(duty) {
                self.first
                    .push_back(Action::Tell(Notice::SubscriptionLeftOut {
                        filter: filter.clone(),
                        reason: reason.to_string(),
                    }));
            }
        }
    }

    /// What became of a status.
    fn announced(&mut self, now: Instant, result: Result<(), Undelivered>, by: Option<By>) {
        let Err(why) = result else {
            self.announcing.duty.done();
            return self.acknowledged(now, None);
        };
        let acknowledged = matches!(&self.state, State::Up(up) if up.acknowledged);
        let duty = &mut self.announcing.duty;
        duty.doubt();
        let left_out = match why.cause {
            Cause::Refused | Cause::TooLarge { .. } | Cause::RefusesAll => {
                duty.leave_out(now);
                true
            }
            Cause::Closed | Cause::Silent { answers: true } => duty.failed(now),
            Cause::Silent { answers: false } => acknowledged && duty.failed(now),
            Cause::Lost => by == Some(By::Broker) && duty.failed(now),
            Cause::NotSent | Cause::Unclear => false,
        };
        if left_out {
            self.status_left_out(&why.reason);
        }
    }

    fn status_left_out(&mut self, reason: &str) {
        if let Some((topic, _)) = &self.rules.status {
            self.first.push_back(Action::Tell(Notice::StatusLeftOut {
                topic: topic.clone(),
                reason: reason.to_string(),
            }));
        }
    }

    /// The connection has ended. What is under way is answered first.
    pub(super) fn ended(&mut self, now: Instant, ended: Ended) {
        let State::Up(up) = &mut self.state else {
            return;
        };
        up.ended.get_or_insert(ended);
        if up.busy == Busy::No {
            self.end_if_ended(now, Busy::No);
        }
    }

    /// `was`: what was under way.
    pub(super) fn end_if_ended(&mut self, now: Instant, was: Busy) {
        let others = self.has_others_unproven(now);
        let idle = was == Busy::No;
        let State::Up(up) = &mut self.state else {
            return;
        };
        let Some(ended) = up.ended.take() else { return };
        let past = Past {
            by: ended.by,
            uptime: now.saturating_duration_since(up.since),
            idle,
            acknowledged: up.acknowledged,
        };
        let at_once = |at: Instant| now.saturating_duration_since(at) < CUT_SHORT;
        let subscribed = up.subscribed.is_some_and(at_once);
        self.return_measurements();
        if ended.by == By::Broker {
            let blamed = |duty: &mut Duty| duty.may_be_answered(now) && duty.failed(now);
            self.leave_out(blamed, &ended.reason);
        }
        self.judge_gate(now, &ended, past.uptime, subscribed);
        self.judge_latest(now, &ended, was, others);
        let unexplained = idle && ended.by == By::Broker && past.uptime < CUT_SHORT;
        self.retry.cut_short = if unexplained {
            self.retry.cut_short + 1
        } else {
            0
        };
        let wait = self.retry.after(now, past);
        self.view.last_error.clone_from(&ended.reason);
        self.view.protocol = None;
        self.state = State::Idle { retry: now + wait };
        self.first.push_back(Action::Close);
        self.first.push_back(Action::Down { idle });
        self.first.push_back(Action::Show);
        self.first.push_back(Action::Tell(Notice::Disconnected {
            address: self.rules.address.clone(),
            reason: ended.reason,
            same_client: self.retry.cut_short >= MANY_CUTS,
            wait,
        }));
    }

    /// What comes again and again over a subscription costs the subscription, not the
    /// measurements. `subscribed`: a subscription was made shortly before.
    fn judge_gate(&mut self, now: Instant, ended: &Ended, uptime: Duration, subscribed: bool) {
        if ended.by != By::GateMessage || !subscribed {
            if uptime >= STOOD {
                self.retry.gate_ends = 0;
            }
            return;
        }
        self.retry.gate_ends += 1;
        if self.retry.gate_ends < MANY_GATE_ENDS {
            return;
        }
        self.retry.gate_ends = 0;
        let wanted = |duty: &mut Duty| {
            let wanted = !duty.is_left_out(now);
            if wanted {
                duty.leave_out(now);
            }
            wanted
        };
        self.leave_out(wanted, &ended.reason);
    }

    /// A list that waits was meant for the connection that has ended.
    fn return_measurements(&mut self) {
        if self.outbox.take_from(Origin::Measurements).is_some() {
            let why = not_sent("the connection it was meant for has ended");
            self.first.push_back(answer(Origin::Measurements, Err(why)));
        }
    }

    /// Nothing that waits will be sent any more.
    pub(super) fn return_offers(&mut self, reason: &str) {
        for origin in [Origin::Measurements, Origin::Commands] {
            if self.outbox.take_from(origin).is_some() {
                self.first.push_back(answer(origin, Err(not_sent(reason))));
            }
        }
    }
}

/// `unclear`: something else that was sent may be the reason.
fn name_the_cause(up: &mut Up, why: &mut Undelivered, unclear: bool) {
    if unclear && matches!(why.cause, Cause::Closed | Cause::TooLarge { .. }) {
        why.cause = Cause::Unclear;
    }
    let in_words = matches!(
        why.cause,
        Cause::Refused | Cause::TooLarge { .. } | Cause::RefusesAll
    );
    if !in_words && up.ended.is_none() {
        // The connection is of no more use with something in flight on it.
        up.ended = Some(Ended {
            by: By::Line,
            reason: why.reason.clone(),
        });
    }
    let ended = up.ended.as_ref();
    why.told = ended.is_some_and(|ended| ended.reason == why.reason);
}
