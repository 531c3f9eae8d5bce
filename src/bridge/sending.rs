//! Hands lists over, and what it means that they were confirmed or not.

use std::time::{Duration, Instant};

use super::cursor::{MAX_UNCOPIED, Pending};
use super::delivery::{Delivery, Span};
use super::{Action, Bridge, BrokerLink, Notice};
use crate::model::failure::{Cause, Undelivered};
use crate::model::measurement::Batch;
use crate::model::stream::Waiting;

impl Bridge {
    /// Hands the list over that was read, if it may go.
    pub(super) fn publish(&mut self, now: Instant) -> Option<Action> {
        let BrokerLink::Up { link, limit } = self.link else {
            return None;
        };
        let may_go = self.sending(now)
            && !self.delivery.in_flight()
            && (self.cursor.save == Pending::No || self.cursor.save.due_at().is_some());
        if !may_go || self.reading.list.is_none() || !self.pausing.pace.may_go(now) {
            return None;
        }
        if self.delivery.needs_probe() {
            return Some(self.publish_probe(link));
        }
        let list = self.reading.list.take()?;
        let span = Span {
            first: list.first,
            last: list.last,
            count: list.count,
            bytes: list.payload.len(),
        };
        self.delivery.hand_over(span);
        if span.bytes > limit {
            let reason = format!("{} bytes, and the broker takes at most {limit}", span.bytes);
            let cause = Cause::TooLarge { limit: Some(limit) };
            self.failed(now, &Undelivered::new(cause, reason));
            return Some(Action::Wait(now));
        }
        self.pausing.pace.sent(now, span.bytes, self.reading.more);
        self.tell(Notice::Sending {
            count: span.count,
            first: span.first,
            last: span.last,
            bytes: span.bytes,
        });
        let patience = self.delivery.patience(span.first, self.rules.ack_timeout);
        self.reading.handed_over = Some((now, patience));
        Some(Action::Publish {
            link,
            list,
            patience,
        })
    }

    /// An empty list, to find out whether the broker takes anything right now.
    fn publish_probe(&mut self, link: u64) -> Action {
        let place = self.delivery.read_after();
        self.delivery.hand_over_probe();
        Action::Publish {
            link,
            list: Batch {
                payload: self.rules.batch.compression.pack(b"[]"),
                first: place,
                last: place,
                count: 0,
            },
            patience: self.rules.ack_timeout,
        }
    }

    fn probed(&mut self, now: Instant, result: Result<(), Undelivered>) {
        let result = result.map_err(|why| {
            self.overview.counters.retries += 1;
            if why.cause == Cause::RefusesAll {
                self.refused_by_broker(now, &why);
            }
            why.cause
        });
        self.change_trial(|delivery| delivery.probed(result));
        if result.is_err() {
            self.drop_list();
        }
    }

    pub(super) fn delivered(&mut self, now: Instant, result: Result<(), Undelivered>) {
        if self.delivery.is_probing() {
            return self.probed(now, result);
        }
        let handed_over = self.reading.handed_over.take();
        if let Err(undelivered) = result {
            return self.failed(now, &undelivered);
        }
        self.pausing.accepted();
        if self.delivery.is_in_doubt() {
            self.overview.counters.retries += 1;
            return self.change_trial(Delivery::confirmed_in_doubt);
        }
        let quickly = handed_over
            .is_some_and(|(at, patience)| now.saturating_duration_since(at) <= patience / 4);
        let Some(progress) = self.delivery.confirmed(quickly) else {
            self.account.forgotten_answered(true);
            return;
        };
        let passed = (progress.sent.count + progress.poison.len()) as u64;
        self.cursor.progressed(&progress, self.account.accounted());
        let all = self.cursor.uncopied() == 0;
        self.account
            .passed(passed, progress.before, all.then_some(progress.sent.last));
        if let Some(counting) = &mut self.counting {
            counting.passed += passed;
        }
        self.overview.sent(&progress.sent);
        let more = self.reading.list.is_some() || self.reading.more;
        if all && !more && !self.pushes() {
            self.waits(now, Some(Waiting::Exactly(0)), None);
        }
        self.trim_when_due();
        if self.cursor.uncopied() >= MAX_UNCOPIED {
            self.tell(Notice::TooManyUncopied(MAX_UNCOPIED));
        }
    }

    /// Finding the place to cut costs as much as there is to keep.
    pub(super) fn trim_when_due(&mut self) {
        let passed = self.cursor.passed_since_trim;
        if self.rules.keep_sent.is_some_and(|keep| {
            let slack = if keep > 1000 { keep / 10 } else { 0 };
            passed.is_none_or(|passed| passed > slack)
        }) {
            self.cursor.trim.wanted();
        }
    }

    /// The list in flight was not confirmed.
    fn failed(&mut self, now: Instant, undelivered: &Undelivered) {
        let Undelivered { cause, reason, .. } = undelivered;
        let counted = self.delivery.unconfirmed() > 0;
        let ahead = self.ahead();
        self.delivery.failed(*cause, reason);
        self.drop_list_of(ahead);
        if !counted {
            let lost = self.account.forgotten_answered(false);
            return self.lost_in_flight(lost);
        }
        if !self.refused_by_broker(now, undelivered) {
            let frontier = self.delivery.frontier();
            self.overview.not_confirmed(frontier, undelivered);
        }
        self.overview.touch();
    }

    /// Pauses where the broker would refuse any list, and tells it.
    fn refused_by_broker(&mut self, now: Instant, why: &Undelivered) -> bool {
        let fraction = self.redis.jitter.fraction();
        let wait = self.pausing.refused(now, why.cause, fraction);
        if let Some(wait) = wait {
            self.tell_not_accepted(why.reason.clone(), wait);
        }
        wait.is_some()
    }

    pub(super) fn tell_not_accepted(&mut self, reason: String, wait: Duration) {
        let topic = self.rules.topic.clone();
        self.tell(Notice::NotAccepted {
            topic,
            reason,
            wait,
        });
    }
}

#[cfg(test)]
mod tests;
