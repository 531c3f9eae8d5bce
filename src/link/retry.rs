//! How long to wait for the next attempt when a connection has ended.
//!
//! Two things are looked at, and the longer wait counts. The outage: nothing is delivered, and no
//! wait is longer than that has lasted. And the connections: where one after the other ends soon
//! after it began, they come more seldom although each delivers something; much more where the
//! broker sends what it must not. One that has lasted starts both over, so that a broker that
//! restarts, a line that flaps and a connection that was idle for too long are back at once.

use std::time::{Duration, Instant};

use crate::model::backoff::{Backoff, LASTED};
use crate::model::failure::By;
use crate::model::jitter::Jitter;

/// What `LASTED` is otherwise, where the broker sent what it must not: until then it may have been
/// good on purpose.
pub const STOOD: Duration = Duration::from_secs(60);
/// The longest wait while each connection delivers something: the line may be good for moments only,
/// or the limits of the broker narrow.
const DELIVERS: Duration = Duration::from_secs(2);

/// What decides about the next attempt.
#[derive(Debug)]
pub struct Retry {
    pub backoff: Backoff,
    pub jitter: Jitter,
    /// Connections in a row that the broker closed soon, without a word and without a reason.
    pub cut_short: u32,
    /// Connections in a row that ended with a message that must not come.
    pub gate_ends: u32,
    /// How often the keep alive was doubled: the line was too slow for a message and a ping.
    pub slow: u32,
    /// Connections in a row that ended soon.
    brief: Backoff,
}

/// The end of a connection, as far as the next attempt depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    pub by: By,
    pub uptime: Duration,
    /// No message was in flight.
    pub idle: bool,
    /// The broker has acknowledged something on it.
    pub acknowledged: bool,
}

impl Retry {
    pub fn new(seed: u64) -> Retry {
        Retry {
            backoff: Backoff::default(),
            jitter: Jitter::new(seed),
            cut_short: 0,
            gate_ends: 0,
            slow: 0,
            brief: Backoff::default(),
        }
    }

    /// How long to wait now that a connection has ended.
    pub fn after(&mut self, now: Instant, past: Past) -> Duration {
        self.backoff.connection_lasted(past.uptime);
        let random = self.jitter.fraction();
        let answered = !past.idle && past.by == By::Broker;
        let outage = if answered {
            self.backoff.next_short(now, random)
        } else {
            self.backoff.next(now, random)
        };
        outage.max(self.after_brief(now, past, random))
    }

    fn after_brief(&mut self, now: Instant, past: Past, random: f64) -> Duration {
        let misbehaved = matches!(past.by, By::Gate | By::GateMessage);
        if past.uptime >= if misbehaved { STOOD } else { LASTED } {
            self.brief.reset();
            return Duration::ZERO;
        }
        let wait = self.brief.next(now, random);
        match (misbehaved, past.acknowledged) {
            (true, _) => wait,
            (false, true) => wait.min(DELIVERS.mul_f64(random)),
            // The outage goes on.
            (false, false) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many connections there are in ten minutes, where each one ends like that.
    fn connections(past: Past) -> u32 {
        let mut retry = Retry::new(7);
        let begun = Instant::now();
        let (mut now, mut count) = (begun, 0);
        while now - begun < Duration::from_secs(600) {
            now += past.uptime;
            if past.acknowledged {
                retry.backoff.outage_is_over();
            }
            now += retry.after(now, past);
            count += 1;
        }
        count
    }

    fn past(by: By, millis: u64, idle: bool, acknowledged: bool) -> Past {
        Past {
            by,
            uptime: Duration::from_millis(millis),
            idle,
            acknowledged,
        }
    }

    #[test]
    fn a_broker_that_misbehaves_is_left_alone_whatever_it_has_confirmed() {
        for (by, millis, idle, acknowledged, most) in [
            (By::Gate, 50, true, true, 35),
            (By::Gate, 50, false, true, 35),
            (By::Gate, 30_000, true, true, 25),
            (By::GateMessage, 50, true, false, 35),
            (By::Broker, 50, true, true, 700),
            (By::Broker, 50, false, true, 700),
            (By::Broker, 50, false, false, 350),
            (By::Broker, 50, true, false, 35),
            (By::Line, 9000, true, true, 100),
        ] {
            let past = past(by, millis, idle, acknowledged);
            let count = connections(past);
            assert!(count <= most, "{count}: {past:?}");
        }
    }

    #[test]
    fn a_connection_that_has_lasted_is_made_again_at_once() {
        for by in [By::Broker, By::Line] {
            for acknowledged in [false, true] {
                let past = past(by, 10_000, true, acknowledged);
                let count = connections(past);
                assert!(count >= 54, "{count}: {past:?}");
            }
        }
        let second = Duration::from_secs(1);
        let mut retry = Retry::new(7);
        let now = Instant::now();
        for _ in 0..50 {
            retry.after(now, past(By::Gate, 50, true, true));
        }
        retry.backoff.outage_is_over();
        assert!(retry.after(now, past(By::Broker, 10_000, true, true)) <= second);
        assert!(retry.after(now, past(By::Gate, 60_000, true, true)) <= second);
    }

    #[test]
    fn the_first_ones_that_end_soon_are_made_again_within_the_time_they_have_taken() {
        for seed in 0..200 {
            let mut retry = Retry::new(seed);
            let begun = Instant::now();
            let mut now = begun;
            for nth in 1..=6u32 {
                retry.backoff.outage_is_over();
                let wait = retry.after(now, past(By::Broker, 3000, true, true));
                assert!(wait <= Duration::from_secs(1 << (nth - 1)).min(DELIVERS));
                assert!(wait <= (now - begun).max(Duration::from_secs(1)));
                now += wait + Duration::from_secs(3);
            }
        }
    }
}
