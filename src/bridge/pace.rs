//! How fast a backlog is sent, where that is limited: `catch_up_bytes_per_second`.
//!
//! A bucket that is never more than empty: a list goes when nothing is owed, whatever its size,
//! and its bytes are owed from then on. So the mean is the rate, lists stay as large as they are,
//! and no burst is larger than one list. What is owed has nothing to do with the connection: a
//! new one brings no credit. Where one list takes all that waits, nothing is owed for it, unless
//! it had to wait itself: that is what ends a catch-up.

use std::time::{Duration, Instant};

/// A list that goes so much later than it might have lets the next one go earlier: waking up is
/// never exact, and the mean is to be.
const LATE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub struct Pace {
    /// Bytes a second; 0: no limit.
    rate: u64,
    /// When nothing is owed any more.
    free_at: Option<Instant>,
    /// The next list would have gone already.
    held: bool,
}

impl Pace {
    pub fn new(rate: u64) -> Pace {
        Pace {
            rate,
            ..Pace::default()
        }
    }

    /// Until when a list has to wait.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.free_at.filter(|at| *at > now)
    }

    /// Whether a list that is ready may go.
    pub fn may_go(&mut self, now: Instant) -> bool {
        let waits = self.until(now).is_some();
        self.held |= waits;
        !waits
    }

    /// A list was handed over. `more`: it does not take all that waits.
    pub fn sent(&mut self, now: Instant, bytes: usize, more: bool) {
        let held = std::mem::take(&mut self.held);
        if self.rate == 0 || !(more || held) {
            self.free_at = None;
            return;
        }
        let begun = self.free_at.filter(|at| *at + LATE >= now).unwrap_or(now);
        let owed = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.free_at = Some(begun + owed);
    }

    /// Bytes a second, where it is this that holds measurements up.
    pub fn limit(&self) -> Option<f64> {
        self.free_at.map(|_| self.rate as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1000;

    /// Sends lists of so many bytes as soon as they may go, on a line that takes `line` for each;
    /// when they went.
    fn sent(
        pace: &mut Pace,
        begin: Instant,
        bytes: usize,
        lists: u32,
        line: Duration,
    ) -> Vec<Duration> {
        let mut now = begin;
        let mut went = Vec::new();
        for _ in 0..lists {
            if !pace.may_go(now) {
                // Never quite on time.
                now = pace.until(now).unwrap_or(now) + Duration::from_millis(7);
                assert!(pace.may_go(now));
            }
            pace.sent(now, bytes, true);
            went.push(now - begin);
            now += line;
        }
        went
    }

    #[test]
    fn the_mean_is_the_rate_and_no_burst_is_larger_than_a_list() {
        let (mut pace, begin) = (Pace::new(RATE), Instant::now());
        let went = sent(&mut pace, begin, 100, 101, Duration::from_millis(30));
        assert!(went[100].abs_diff(Duration::from_secs(10)) < Duration::from_millis(60));
        for pair in went.windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_millis(90), "{pair:?}");
        }
    }

    #[test]
    fn a_line_that_was_slower_or_away_leaves_no_credit() {
        let (mut pace, begin) = (Pace::new(RATE), Instant::now());
        sent(&mut pace, begin, 100, 10, Duration::from_secs(2));
        let back = begin + Duration::from_secs(100);
        let went = sent(&mut pace, back, 1000, 3, Duration::ZERO);
        assert!(went[2] >= Duration::from_millis(1990), "{went:?}");
    }

    #[test]
    fn what_a_single_list_takes_waits_only_for_what_is_owed() {
        let (mut pace, now) = (Pace::new(RATE), Instant::now());
        assert!(pace.may_go(now) && pace.limit().is_none());
        pace.sent(now, 5000, false);
        assert!(pace.may_go(now), "one list took all that waited");
        pace.sent(now, 2000, true);
        assert!(!pace.may_go(now));
        let paid = now + Duration::from_secs(2);
        assert!(pace.may_go(paid));
        // It had to wait, so what came meanwhile waits as well.
        pace.sent(paid, 500, false);
        assert!(!pace.may_go(paid) && pace.limit() == Some(1000.0));
        pace.sent(paid + Duration::from_secs(1), 500, false);
        let later = paid + Duration::from_secs(2);
        assert!(pace.may_go(later));
        pace.sent(later, 500, false);
        assert!(pace.may_go(later) && pace.limit().is_none());
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let (mut pace, now) = (Pace::new(0), Instant::now());
        pace.sent(now, 1 << 30, true);
        assert!(pace.may_go(now) && pace.limit().is_none());
    }
}
