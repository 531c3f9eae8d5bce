//! How long to wait before the next attempt to connect: exponential, with full jitter.
//!
//! Pure: the random number and the time a connection has lasted are passed in.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);
/// Wrong credentials do not become right within a second.
const SLOWED: Duration = Duration::from_secs(16);
const ON_TRIAL: Duration = Duration::from_secs(8);
/// A connection that broke sooner says nothing good about the way to the server.
const LASTED: Duration = Duration::from_secs(10);

/// The state of one series of attempts.
#[derive(Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { ceiling: FIRST }
    }
}

impl Backoff {
    /// The next wait: evenly distributed between zero and a ceiling of 1 s, 2 s, 4 s … 60 s.
    /// `random` lies in 0.0..1.0.
    pub fn next(&mut self, random: f64) -> Duration {
        let wait = self.ceiling.mul_f64(random.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(LIMIT);
        wait
    }

    /// The next wait while a single measurement is on trial: such a series is short, and every
    /// connection of it has stood for a while, so the ceiling may be lower.
    pub fn next_on_trial(&mut self, random: f64) -> Duration {
        self.next(random)
            .min(ON_TRIAL.mul_f64(random.clamp(0.0, 1.0)))
    }

    /// The next wait after a refusal that only a person can end: at least half of a ceiling
    /// of 16 s and more.
    pub fn next_slowed(&mut self, random: f64) -> Duration {
        self.ceiling = self.ceiling.max(SLOWED);
        self.next(0.5 + random / 2.0)
    }

    /// Tells how long the last connection stood. Only one that stood longer than the waits
    /// before it starts the series over, so that a flapping network is not hammered.
    pub fn connection_lasted(&mut self, uptime: Duration) {
        if uptime >= self.ceiling.max(LASTED) {
            self.ceiling = FIRST;
        }
    }

    /// Starts the series over.
    pub fn reset(&mut self) {
        self.ceiling = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: &mut Backoff, count: usize) -> Vec<u64> {
        (0..count).map(|_| backoff.next(1.0).as_secs()).collect()
    }

    #[test]
    fn the_ceiling_doubles_from_one_second_to_sixty() {
        let ceilings = seconds(&mut Backoff::default(), 8);
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn jitter_reaches_down_to_zero() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.25), Duration::from_millis(500));
    }

    #[test]
    fn a_short_connection_does_not_start_the_series_over() {
        let mut backoff = Backoff::default();
        seconds(&mut backoff, 5);
        backoff.connection_lasted(Duration::from_secs(31));
        assert_eq!(backoff.next(1.0).as_secs(), 32);
    }

    #[test]
    fn a_connection_longer_than_the_waits_starts_the_series_over() {
        let mut backoff = Backoff::default();
        seconds(&mut backoff, 5);
        backoff.connection_lasted(Duration::from_secs(32));
        assert_eq!(backoff.next(1.0).as_secs(), 1);
        backoff.connection_lasted(Duration::from_millis(9_999));
        assert_eq!(backoff.next(1.0).as_secs(), 2);
    }

    #[test]
    fn a_refusal_for_a_person_is_slowed_at_once() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_slowed(0.0).as_secs(), 8);
        assert_eq!(backoff.next_slowed(1.0).as_secs(), 32);
    }
}
