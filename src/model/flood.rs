//! A flood of events is no flood of lines: a few in a second are told, the others are counted.

use std::time::{Duration, Instant};

/// Lines of one kind in a second.
pub const LINES_PER_SECOND: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// Which lines of one kind are told.
#[derive(Debug, Default)]
pub struct Flood {
    since: Option<Instant>,
    told: u32,
    left_out: u64,
}

impl Flood {
    /// Whether one more is told; otherwise it is counted.
    pub fn passes(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + SECOND) {
            (self.since, self.told) = (Some(now), 0);
        }
        let passes = self.told < LINES_PER_SECOND;
        if passes {
            self.told += 1;
        } else {
            self.left_out += 1;
        }
        passes
    }

    /// When it is time to tell how many were left out, if any were.
    pub fn ends(&self) -> Option<Instant> {
        self.since
            .filter(|_| self.left_out > 0)
            .map(|since| since + SECOND)
    }

    /// How many were left out, once their second is over.
    pub fn left_out(&mut self, now: Instant) -> Option<u64> {
        let over = self.ends().is_some_and(|end| now >= end);
        over.then(|| std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_each_second_are_told_and_the_others_counted() {
        let begin = Instant::now();
        let mut flood = Flood::default();
        let mut at = |ms: u64| {
            let now = begin + Duration::from_millis(ms);
            (
                flood.left_out(now),
                (0..10).filter(|_| flood.passes(now)).count(),
            )
        };
        assert_eq!([at(0), at(999)], [(None, 5), (None, 0)]);
        assert_eq!([at(1000), at(5000)], [(Some(15), 5), (Some(5), 5)]);
        assert_eq!(flood.ends(), Some(begin + Duration::from_secs(6)));
        assert_eq!(flood.left_out(begin + Duration::from_secs(6)), Some(5));
        assert_eq!(flood.ends(), None);
    }
}
