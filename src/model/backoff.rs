//! How long to wait before the next attempt to connect: exponential, with full jitter.
//!
//! Pure: random numbers and times are passed in. No wait is longer than the outage has lasted so
//! far, so that after an outage everything is back within twice its length.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);
/// Wrong credentials do not become right within a second.
const SLOWED: Duration = Duration::from_secs(16);
const SHORT: Duration = Duration::from_secs(4);
/// A connection that broke sooner says nothing good about the way to the server.
pub const LASTED: Duration = Duration::from_secs(10);

/// The state of one series of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    ceiling: Duration,
    /// When the outage began that the series belongs to.
    since: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            ceiling: FIRST,
            since: None,
        }
    }
}

impl Backoff {
    /// The next wait: evenly distributed between zero and a ceiling of 1 s, 2 s, 4 s … 60 s that
    /// is never above the length of the outage. `random` lies in 0.0..1.0.
    pub fn next(&mut self, now: Instant, random: f64) -> Duration {
        let since = *self.since.get_or_insert(now);
        let outage = now.saturating_duration_since(since).max(FIRST);
        let wait = self.ceiling.min(outage).mul_f64(random.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(LIMIT);
        wait
    }

    /// The next wait where each attempt so far has led to a connection, and what was sent over
    /// it ended it: such a series is short, and delivery must not stand still for it.
    pub fn next_short(&mut self, now: Instant, random: f64) -> Duration {
        self.next(now, random)
            .min(SHORT.mul_f64(random.clamp(0.0, 1.0)))
    }

    /// The next wait after a refusal that only a person can end: at least half of a ceiling
    /// of 16 s and more, however short the outage.
    pub fn next_slowed(&mut self, now: Instant, random: f64) -> Duration {
        self.since.get_or_insert(now);
        self.ceiling = self.ceiling.max(SLOWED);
        let wait = self.ceiling.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        self.ceiling = (self.ceiling * 2).min(LIMIT);
        wait
    }

    /// A connection has ended that stood for so long. Only one that stood longer than the waits
    /// before it ends the series, so that a flapping network is not hammered.
    pub fn connection_lasted(&mut self, uptime: Duration) {
        if uptime >= self.ceiling.max(LASTED) {
            self.reset();
        }
    }

    /// The server has done what it is there for, and not only said so: whatever comes now is another
    /// outage, although the series goes on.
    pub fn outage_is_over(&mut self) {
        self.since = None;
    }

    /// Starts the series over.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Full waits, as if each outage had lasted for long.
    fn seconds(backoff: &mut Backoff, count: usize) -> Vec<u64> {
        let begun = Instant::now();
        backoff.next(begun, 0.0);
        let later = begun + LIMIT * 10;
        (0..count)
            .map(|_| backoff.next(later, 1.0).as_secs())
            .collect()
    }

    #[test]
    fn the_ceiling_doubles_from_one_second_to_sixty() {
        let ceilings = seconds(&mut Backoff::default(), 7);
        assert_eq!(ceilings, [2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn no_wait_is_longer_than_the_outage_has_lasted() {
        let mut backoff = Backoff::default();
        let begun = Instant::now();
        assert_eq!(backoff.next(begun, 1.0).as_secs(), 1);
        assert_eq!(backoff.next(begun, 1.0).as_secs(), 1);
        let later = begun + Duration::from_secs(3);
        assert_eq!(backoff.next(later, 1.0).as_secs(), 3);
        assert_eq!(backoff.next(later, 0.5).as_millis(), 1500);
    }

    #[test]
    fn jitter_reaches_down_to_zero() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Instant::now(), 0.0), Duration::ZERO);
    }

    #[test]
    fn a_short_connection_does_not_start_the_series_over() {
        let mut backoff = Backoff::default();
        seconds(&mut backoff, 4);
        backoff.connection_lasted(Duration::from_secs(31));
        assert_eq!(backoff.ceiling.as_secs(), 32);
        backoff.connection_lasted(Duration::from_secs(32));
        assert_eq!(backoff.ceiling, FIRST);
        backoff.next(Instant::now(), 1.0);
        backoff.connection_lasted(Duration::from_millis(9_999));
        assert_eq!(backoff.ceiling, FIRST * 2);
        backoff.connection_lasted(Duration::from_secs(10));
        assert_eq!(backoff.ceiling, FIRST);
    }

    #[test]
    fn after_some_success_a_wait_is_short_although_the_series_goes_on() {
        let mut backoff = Backoff::default();
        seconds(&mut backoff, 7);
        backoff.outage_is_over();
        let now = Instant::now();
        assert_eq!(backoff.next(now, 1.0), FIRST);
        assert_eq!(backoff.next(now + LIMIT * 2, 1.0), LIMIT);
    }

    #[test]
    fn a_refusal_for_a_person_is_slowed_at_once() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        assert_eq!(backoff.next_slowed(now, 0.0).as_secs(), 8);
        assert_eq!(backoff.next_slowed(now, 1.0).as_secs(), 32);
        assert_eq!(backoff.next_slowed(now, 1.0).as_secs(), 60);
    }
}
