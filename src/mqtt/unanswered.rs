//! A ping that is not answered while something else arrives.
//!
//! Where nothing arrives, the library gives up by itself. Where anything does, a byte of a message
//! now and then is enough for it: the answer may stand behind a large message, which takes its time
//! on a slow line. What tells a line that is busy from one that is as good as dead is how much moves
//! on it.
//!
//! Pure: times and numbers are passed in.

use std::time::{Duration, Instant};

/// A line that moves so many bytes a second, both ways together, is busy: a tenth of the slowest
/// that this service is meant for.
const BUSY: f64 = 200.0;
/// What has arrived while this program stood still is read first.
const READ_FIRST: Duration = Duration::from_secs(1);

/// How long a ping is unanswered.
#[derive(Debug)]
pub struct Unanswered {
    /// From the ping, as the library has it.
    patience: Duration,
    /// When the ping was sent, or the line was found busy, and how many bytes had moved by then.
    since: Option<(Instant, u64)>,
    /// When it was found to be too long.
    late: Option<Instant>,
}

impl Unanswered {
    pub fn new(keep_alive: Duration) -> Unanswered {
        Unanswered {
            patience: keep_alive.mul_f64(1.5),
            since: None,
            late: None,
        }
    }

    /// Nothing is awaited, or something else shows whether the broker answers.
    pub fn over(&mut self) {
        (self.since, self.late) = (None, None);
    }

    /// A ping is unanswered, and so many bytes have moved on the connection. Whether it is given up.
    pub fn is_too_long(&mut self, now: Instant, moved: u64) -> bool {
        let (since, before) = *self.since.get_or_insert((now, moved));
        let time = now.saturating_duration_since(since);
        if time < self.patience {
            return false;
        }
        if moved.saturating_sub(before) as f64 >= BUSY * time.as_secs_f64() {
            (self.since, self.late) = (Some((now, moved)), None);
            return false;
        }
        let late = *self.late.get_or_insert(now);
        now.saturating_duration_since(late) >= READ_FIRST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many seconds a connection is given up on which so many bytes move in each; it is
    /// looked at as often.
    fn given_up(keep_alive: u64, bytes: impl Fn(u64) -> u64) -> Option<u64> {
        let mut unanswered = Unanswered::new(Duration::from_secs(keep_alive));
        let (begun, mut moved) = (Instant::now(), 0);
        (0..2000).find(|second| {
            moved += bytes(*second);
            unanswered.is_too_long(begun + Duration::from_secs(*second), moved)
        })
    }

    #[test]
    fn what_trickles_in_keeps_no_connection() {
        for bytes in [1, 10, 100, 199] {
            assert_eq!(given_up(10, |_| bytes), Some(16), "{bytes}");
            assert_eq!(given_up(60, |_| bytes), Some(91), "{bytes}");
        }
    }

    #[test]
    fn a_slow_line_is_waited_for_as_long_as_it_is_busy() {
        for keep_alive in [5, 60] {
            assert_eq!(given_up(keep_alive, |_| 2000), None);
            // A record of TLS at a time.
            let records = |second| if second % 8 == 7 { 16_000 } else { 0 };
            assert_eq!(given_up(keep_alive, records), None);
            let large = |second| if second < 500 { 2000 } else { 1 };
            let after = given_up(keep_alive, large).expect("an end");
            assert!(after > 500 && after < 502 + 4 * keep_alive, "{after}");
        }
    }

    #[test]
    fn an_answer_starts_it_over() {
        let mut unanswered = Unanswered::new(Duration::from_secs(10));
        let begun = Instant::now();
        for second in 0..100 {
            let now = begun + Duration::from_secs(second);
            assert!(!unanswered.is_too_long(now, 0));
            if second % 15 == 14 {
                unanswered.over();
            }
        }
    }

    #[test]
    fn what_came_while_the_program_stood_still_is_read_first() {
        let mut unanswered = Unanswered::new(Duration::from_secs(10));
        let begun = Instant::now();
        assert!(!unanswered.is_too_long(begun, 0));
        let later = begun + Duration::from_secs(300);
        for millis in [0, 1, 999] {
            assert!(!unanswered.is_too_long(later + Duration::from_millis(millis), millis));
        }
        assert!(unanswered.is_too_long(later + Duration::from_secs(1), 1000));
    }
}
