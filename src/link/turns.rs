//! Who is next on the line, and when.

use std::time::{Duration, Instant};

use super::duties::Duty;
use super::{
    Action, Attempt, Busy, CONNECT_PATIENCE, LAST_PATIENCE, Letter, Link, Notice, Origin,
    PRECEDENCE, SUBSCRIBE_PATIENCE, State, VERSION_PATIENCE, answer, not_sent,
};
use crate::model::failure::{Cause, Undelivered};
use crate::model::packet::{largest_payload, packet_size};

impl Link {
    pub(super) fn next_idle(&mut self, now: Instant, retry: Instant) -> Action {
        if self.stopping.is_some() {
            self.return_offers("the service ends");
            return self.first.pop_front().unwrap_or(Action::Done);
        }
        if now < retry {
            return Action::Wait(retry);
        }
        if self.rules.insecure && !self.announcing.insecure_told {
            self.announcing.insecure_told = true;
            return Action::Tell(Notice::Insecure);
        }
        self.announcing.insecure_told = false;
        let attempt = Attempt {
            protocol: self.version.next(now),
            keep_alive: self.keep_alive(),
            patience: if self.version.is_open() {
                VERSION_PATIENCE
            } else {
                CONNECT_PATIENCE
            },
            will: self.rules.status.is_some() && self.announcing.will_is_taken(now),
        };
        self.state = State::Connecting(attempt);
        Action::Connect(attempt)
    }

    /// Longer where the line was too slow for a message and the answer to a ping behind it.
    fn keep_alive(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1200);
        let longer = self.rules.keep_alive.saturating_mul(1 << self.retry.slow);
        longer.min(LONGEST.max(self.rules.keep_alive))
    }

    pub(super) fn next_up(&mut self, now: Instant) -> Action {
        if let Some(until) = self.stopping {
            if self.outbox.is_closed() || now >= until {
                return self.goodbye();
            }
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.stopping.is_none() {
            let mut subscriptions = self.subscriptions.iter();
            let due = |duty: &Duty| is_due(self.after_measurements(duty, duty.due(now)));
            if let Some(nth) = subscriptions.position(due) {
                return self.subscribe(now, nth);
            }
            if is_due(self.status_due(now)) {
                if let Some(action) = self.announce(now) {
                    return action;
                }
            }
        }
        let turn = self.outbox.turn_of_measurements(now);
        let free = turn.is_some() || self.outbox.is_idle();
        if let Some(action) = self.publish_latest(now, free) {
            return action;
        }
        if let Some(until) = turn {
            return Action::Wait(until.min(self.due(now)));
        }
        if let Some((origin, letter)) = self.outbox.take() {
            return self.publish(origin, letter);
        }
        Action::Wait(self.due(now))
    }

    /// When a duty is to be done that is due at `at`: what has cost a connection before does not
    /// come before a measurement.
    pub(super) fn after_measurements(&self, duty: &Duty, at: Option<Instant>) -> Option<Instant> {
        match &self.state {
            State::Up(up) if duty.is_doubtful() && !up.acknowledged => {
                let waits = self.outbox.has_measurements();
                at.filter(|_| !waits)
                    .map(|at| at.max(up.since + PRECEDENCE))
            }
            _ => at,
        }
    }

    fn status_due(&self, now: Instant) -> Option<Instant> {
        self.rules.status.as_ref()?;
        self.after_measurements(&self.announcing.duty, self.announcing.due(now))
    }

    /// When there will be something to do without anything else happening.
    fn due(&self, now: Instant) -> Instant {
        let due = |duty: &Duty| self.after_measurements(duty, duty.due(now));
        let subscriptions = self.subscriptions.iter().filter_map(due);
        let status = self.status_due(now);
        let idle = now + Duration::from_secs(60);
        subscriptions
            .chain(status)
            .chain(self.latest_due(now))
            .chain(self.stopping)
            .filter(|at| *at > now)
            .fold(idle, Instant::min)
    }

    /// What waits to be sent does not wait for the answer.
    fn subscribe(&mut self, now: Instant, nth: usize) -> Action {
        self.set_busy(Busy::Subscribing { nth, since: now });
        if let State::Up(up) = &mut self.state {
            up.subscribed = Some(now);
        }
        Action::Subscribe {
            filter: self.rules.filters[nth].clone(),
            patience: match self.outbox.is_idle() {
                true => SUBSCRIBE_PATIENCE,
                false => Duration::ZERO,
            },
        }
    }

    fn publish(&mut self, origin: Origin, letter: Letter) -> Action {
        let State::Up(up) = &mut self.state else {
            return answer(origin, Err(not_sent("there is no connection")));
        };
        let bytes = packet_size(&letter.message, up.protocol);
        if let Some(maximum) = up.maximum_packet.filter(|maximum| bytes > *maximum) {
            let limit = largest_payload(&letter.message, up.protocol, maximum);
            let limit = Some(limit.unwrap_or(0));
            let reason =
                format!("a packet of {bytes} bytes, and the broker takes at most {maximum}");
            return answer(
                origin,
                Err(Undelivered::new(Cause::TooLarge { limit }, reason)),
            );
        }
        up.busy = Busy::Publishing {
            origin,
            confirmed: letter.message.qos > 0,
            bytes: letter.message.payload.len(),
        };
        let patience = letter.patience.unwrap_or(self.rules.ack_timeout);
        Action::Publish {
            patience: self.before_the_end(patience),
            message: letter.message,
        }
    }

    /// At the end nothing may take longer than the rest of the time.
    fn before_the_end(&self, patience: Duration) -> Duration {
        if self.stopping.is_some() {
            patience.min(LAST_PATIENCE)
        } else {
            patience
        }
    }
}
