//! What the link does for itself beside carrying messages: the subscriptions and the status topic.
//!
//! Never at the cost of measurements: what the broker refuses in words is tried again after a
//! while, and what it answers by closing the connection, or not at all, twice in a row, is left
//! out for an hour.

use std::time::{Duration, Instant};

/// A refused subscription is tried again after this time, whatever flows.
pub const AGAIN: Duration = Duration::from_secs(60);
/// What has cost connections is left alone for so long.
pub const LEFT_OUT: Duration = Duration::from_secs(3600);
/// So many failures in a row that cost a connection, or an answer.
const FAILURES: u32 = 2;

/// How it stands with one duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Wanted,
    /// Done on this connection.
    Done,
    /// Asked for, and not answered on this connection yet. `due`: by then it should have been.
    Asked {
        due: Instant,
    },
    /// Not before then; `across`: also not on another connection.
    NotBefore {
        at: Instant,
        across: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Duty {
    standing: Standing,
    failures: u32,
    /// It has cost a connection or an answer when it was tried last.
    doubtful: bool,
}

impl Default for Duty {
    fn default() -> Duty {
        Duty {
            standing: Standing::Wanted,
            failures: 0,
            doubtful: false,
        }
    }
}

impl Duty {
    /// There is a new connection: it has to be done again, unless it is left out.
    pub fn begins_again(&mut self) {
        if !matches!(self.standing, Standing::NotBefore { across: true, .. }) {
            self.standing = Standing::Wanted;
        }
    }

    /// When it is to be done; `None`: it is done.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match self.standing {
            Standing::Wanted => Some(now),
            Standing::Done | Standing::Asked { .. } => None,
            Standing::NotBefore { at, .. } => Some(at),
        }
    }

    /// It is not left alone after a refusal.
    pub fn is_welcome(&self) -> bool {
        !matches!(self.standing, Standing::NotBefore { .. })
    }

    /// It has cost a connection or an answer when it was tried last: a measurement goes first.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    pub fn is_left_out(&self, now: Instant) -> bool {
        matches!(self.standing, Standing::NotBefore { at, across: true } if now < at)
    }

    pub fn done(&mut self) {
        (self.standing, self.failures) = (Standing::Done, 0);
        self.doubtful = false;
    }

    /// The broker has refused it in words: the connection is as good as before.
    pub fn refused(&mut self, now: Instant, pause: Duration, across: bool) {
        (self.failures, self.doubtful) = (0, false);
        self.standing = Standing::NotBefore {
            at: now + pause,
            across,
        };
    }

    /// What it has cost was not its doing, as far as is known now.
    pub fn acquit(&mut self) {
        self.failures = 0;
    }

    /// It has cost an answer, whoever's doing that was.
    pub fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// It is not waited for any longer, and may still be answered. Whether silence is the broker's
    /// doing shows when it answers something else after `due`.
    pub fn asked(&mut self, due: Instant) {
        self.standing = Standing::Asked { due };
        self.doubtful = true;
    }

    /// Asked for, and not answered yet.
    pub fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Asked { .. })
    }

    /// Asked for a short while ago: what happens to the connection may be the answer.
    pub fn may_be_answered(&self, now: Instant) -> bool {
        matches!(self.standing, Standing::Asked { due } if now < due)
    }

    /// The broker has answered something else on this connection: it could have answered this,
    /// too. Whether the duty is left out from now on.
    pub fn broker_answers(&mut self, now: Instant) -> bool {
        if !self.is_open() || self.may_be_answered(now) {
            return false;
        }
        self.standing = Standing::NotBefore {
            at: now + AGAIN,
            across: false,
        };
        self.failed(now)
    }

    /// It has cost the connection, or an answer, by the doing of the broker. Whether it is left
    /// out from now on.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures += 1;
        self.doubtful = true;
        let too_often = self.failures >= FAILURES;
        if too_often {
            self.leave_out(now);
        }
        too_often
    }

    pub fn leave_out(&mut self, now: Instant) {
        self.failures = 0;
        self.standing = Standing::NotBefore {
            at: now + LEFT_OUT,
            across: true,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_in_a_row_leave_a_duty_out_for_an_hour_over_connections() {
        let now = Instant::now();
        let mut duty = Duty::default();
        assert!(!duty.failed(now));
        duty.done();
        assert!(!duty.failed(now) && duty.failed(now));
        duty.begins_again();
        assert!(duty.is_left_out(now + LEFT_OUT - AGAIN) && !duty.is_left_out(now + LEFT_OUT));
        assert_eq!(duty.due(now), Some(now + LEFT_OUT));
    }

    #[test]
    fn silence_counts_only_when_the_broker_answers_something_else() {
        let now = Instant::now();
        let mut duty = Duty::default();
        for _ in 0..5 {
            duty.begins_again();
            duty.asked(now);
            assert_eq!(duty.due(now), None);
        }
        assert!(!duty.broker_answers(now));
        assert!(!duty.broker_answers(now), "it is counted once");
        duty.begins_again();
        duty.asked(now + AGAIN);
        assert!(!duty.broker_answers(now), "the answer may still come");
        assert!(duty.may_be_answered(now) && !duty.may_be_answered(now + AGAIN));
        assert!(duty.broker_answers(now + AGAIN));
    }

    #[test]
    fn what_is_refused_in_words_is_tried_again_on_this_connection_or_the_next() {
        let now = Instant::now();
        let mut duty = Duty::default();
        duty.refused(now, AGAIN, false);
        assert_eq!(duty.due(now), Some(now + AGAIN));
        assert!(!duty.is_left_out(now));
        duty.begins_again();
        assert_eq!(duty.due(now), Some(now));
    }
}
