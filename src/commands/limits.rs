//! What a remote side may cost, in one place, and how rates are counted.

use std::time::{Duration, Instant};

/// A larger request is not read.
pub const MAX_REQUEST: usize = 64 * 1024;
/// A larger `id` is not repeated.
pub const MAX_ID: usize = 1024;
/// Nor is one that is nested deeper: parsers of other people give up at some depth.
pub const MAX_ID_LEVELS: usize = 8;
/// Keys of Redis that are looked at.
pub const MAX_KEY: usize = 1024;
/// A larger value is not stored.
pub const MAX_VALUE: usize = 4096;
/// A larger reply is not sent, even where the broker would take it.
pub const MAX_REPLY: usize = 48 * 1024;
/// Commands that may wait.
pub const QUEUE: usize = 64;
/// From here on nothing is stored for a remote side: the rest is for measurements.
pub const MEMORY_PERCENT: f64 = 80.0;
/// `set_config` in a second, on average, and at once after a pause.
pub const SETS_PER_SECOND: u32 = 10;
/// A device that reboots again and again can no longer be reached.
pub const REBOOT_PAUSE: Duration = Duration::from_secs(60);
/// Bytes of such a line; with the time stamp in front it stays below 1000.
pub const MAX_LINE: usize = 900;
/// A message that fails so often in a row is given up.
pub const TRIES: u32 = 5;
/// Commands that were dropped are told when there is time for it, at the latest after this.
const DROPS: Duration = Duration::from_secs(10);
/// The same trouble with replies is told once in this time.
const HOUR: Duration = Duration::from_secs(3600);

/// A rate with a burst: a bucket of tokens that fills by itself.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: u32,
    tokens: f64,
    at: Option<Instant>,
}

impl TokenBucket {
    /// Full at first, with the tokens of one second.
    pub fn new(per_second: u32) -> TokenBucket {
        TokenBucket {
            per_second,
            tokens: per_second.into(),
            at: None,
        }
    }

    /// Whether there is one to be taken.
    pub fn take(&mut self, now: Instant) -> bool {
        let rate = f64::from(self.per_second);
        let since = self.at.map_or(Duration::ZERO, |at| now.duration_since(at));
        self.at = Some(now);
        self.tokens = (self.tokens + since.as_secs_f64() * rate).min(rate);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// Lets something pass once in a while.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    last: Option<Instant>,
}

impl Seldom {
    pub fn hourly() -> Seldom {
        Seldom {
            pause: HOUR,
            last: None,
        }
    }

    /// For what was dropped; the first time counts from the first look.
    pub fn drops() -> Seldom {
        Seldom {
            pause: DROPS,
            last: None,
        }
    }

    /// Whether it is time; asked for it, it counts as done.
    pub fn passes(&mut self, now: Instant) -> bool {
        let due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= self.pause);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let begin = Instant::now();
        let mut bucket = TokenBucket::new(10);
        let taken = |bucket: &mut TokenBucket, ms: u64| {
            let now = begin + Duration::from_millis(ms);
            (0..1000).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(taken(&mut bucket, 0), 10);
        assert_eq!(taken(&mut bucket, 90), 0);
        assert_eq!(taken(&mut bucket, 510), 5);
        assert_eq!(taken(&mut bucket, 60_000), 10);
        let mut slow = TokenBucket::new(10);
        let steady = (0..20_000).filter(|ms| {
            let now = begin + Duration::from_millis(*ms);
            slow.take(now)
        });
        assert!((200..=211).contains(&steady.count()));
    }

    #[test]
    fn what_is_seldom_passes_once_in_its_time() {
        let begin = Instant::now();
        let mut seldom = Seldom::hourly();
        let passes = [0, 1, 3599, 3600, 3601, 7200]
            .map(|seconds| seldom.passes(begin + Duration::from_secs(seconds)));
        assert_eq!(passes, [true, false, false, true, false, true]);
    }
}
