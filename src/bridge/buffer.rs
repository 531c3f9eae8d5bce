//! How full the memory of Redis is, how fast it fills, and when that is told.

use std::time::{Duration, Instant};

use super::notice::Notice;

/// Percent of `maxmemory` at which a line warns, each once.
const FULL: [f64; 2] = [80.0, 95.0];
/// It is told again only after it fell so far below: around a limit it goes up and down.
const CLEARLY: f64 = 5.0;
/// The rate is that of the last one to two of these: buffers of connections come and go.
const SPAN: Duration = Duration::from_secs(300);
/// What takes longer than a year is not filling.
const NEVER: f64 = 365.0 * 86_400.0;

#[derive(Debug, Default)]
pub struct Buffer {
    /// Of `maxmemory`, where there is one.
    pub used_percent: Option<f64>,
    /// When it will be full at the present rate; `None`: it does not fill.
    pub full_in: Option<Duration>,
    /// What the rate is measured against, and what comes after it.
    since: Option<(Instant, f64)>,
    next: Option<(Instant, f64)>,
    /// The most since then: a fall begins a new rate, because what was freed says nothing about
    /// what comes in.
    peak: f64,
    /// Limits that are reached and told.
    told: usize,
}

impl Buffer {
    /// Takes in what Redis says; gives a line where a limit was reached.
    pub fn seen(&mut self, now: Instant, used_percent: Option<f64>) -> Option<Notice> {
        self.used_percent = used_percent;
        let Some(percent) = used_percent else {
            *self = Buffer::default();
            return None;
        };
        self.full_in = self.full_in(now, percent);
        let reached = FULL.iter().filter(|limit| percent >= **limit).count();
        while self.told > reached && percent < FULL[self.told - 1] - CLEARLY {
            self.told -= 1;
        }
        if reached <= self.told {
            return None;
        }
        self.told = reached;
        Some(Notice::BufferFills {
            percent,
            full_in: self.full_in,
        })
    }

    fn full_in(&mut self, now: Instant, percent: f64) -> Option<Duration> {
        let falls_on =
            self.since.is_some_and(|(_, begun)| self.peak <= begun) && percent < self.peak;
        if percent < self.peak - CLEARLY || falls_on {
            (self.since, self.next, self.peak) = (None, None, percent);
        }
        self.peak = self.peak.max(percent);
        let (at, before) = *self.since.get_or_insert((now, percent));
        let (begun, _) = *self.next.get_or_insert((now, percent));
        if now.saturating_duration_since(begun) >= SPAN {
            (self.since, self.next) = (self.next, Some((now, percent)));
        }
        let time = now.saturating_duration_since(at).as_secs_f64();
        let rate = (percent - before) / time;
        let seconds = (100.0 - percent).max(0.0) / rate;
        (time > 0.0 && rate > 0.0 && seconds < NEVER).then(|| Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits at which a line comes, of looks a minute apart.
    fn told(looks: &[f64]) -> Vec<f64> {
        let (mut buffer, mut now) = (Buffer::default(), Instant::now());
        let mut told = Vec::new();
        for percent in looks {
            now += Duration::from_secs(60);
            if let Some(Notice::BufferFills { percent, .. }) = buffer.seen(now, Some(*percent)) {
                told.push(percent);
            }
        }
        told
    }

    #[test]
    fn each_limit_is_told_once_and_again_after_it_fell_clearly_below() {
        assert_eq!(told(&[10.0, 79.9, 81.0, 85.0, 96.0, 97.0]), [81.0, 96.0]);
        assert_eq!(told(&[96.0]), [96.0], "the warning is passed over");
        assert_eq!(told(&[81.0, 79.0, 81.0, 75.0, 81.0]), [81.0]);
        assert_eq!(told(&[81.0, 74.9, 81.0]), [81.0, 81.0]);
        assert_eq!(told(&[96.0, 91.0, 96.0, 89.9, 96.0]), [96.0, 96.0]);
        assert_eq!(told(&[96.0, 85.0, 10.0, 80.0]), [96.0, 80.0]);
    }

    #[test]
    fn the_time_until_full_follows_the_present_rate() {
        let (mut buffer, begun) = (Buffer::default(), Instant::now());
        let minute = |n: u32| begun + Duration::from_secs(60) * n;
        buffer.seen(begun, Some(50.0));
        assert_eq!(buffer.full_in, None, "one look has no rate");
        // One percent a minute.
        for n in 1..=20 {
            buffer.seen(minute(n), Some(50.0 + f64::from(n)));
        }
        assert_eq!(buffer.full_in.map(|time| time.as_secs() / 60), Some(30));
        // Where it comes in leaps, it is the mean that counts.
        let mut leaping = Buffer::default();
        for n in 0..=20 {
            leaping.seen(minute(n), Some(50.0 + f64::from(n / 4)));
            assert!(n < 10 || leaping.full_in.is_some(), "minute {n}");
        }
        // It stands still: after two spans nothing is left of the old rate.
        for n in 21..=31 {
            buffer.seen(minute(n), Some(70.0));
        }
        assert_eq!(buffer.full_in, None);
        // It is emptied.
        buffer.seen(minute(32), Some(20.0));
        assert_eq!(buffer.full_in, None);
        // Without a limit there is nothing to fill.
        buffer.seen(minute(33), None);
        assert_eq!((buffer.used_percent, buffer.full_in), (None, None));
    }

    #[test]
    fn a_fall_begins_a_new_rate() {
        let (mut buffer, mut now) = (Buffer::default(), Instant::now());
        let mut full_in = |percent: f64| {
            now += Duration::from_secs(10);
            buffer.seen(now, Some(percent));
            buffer.full_in.map(|time| time.as_secs())
        };
        // One percent in ten seconds, emptied within a minute, and the same again.
        for percent in 31..=80 {
            full_in(f64::from(percent));
        }
        for percent in [70.0, 60.0, 50.0, 49.0, 30.0] {
            assert_eq!(full_in(percent), None);
        }
        for percent in 31..=80_u32 {
            let seconds = full_in(f64::from(percent)).expect("it fills");
            assert!(
                seconds.abs_diff(u64::from(100 - percent) * 10) <= 1,
                "{percent}: {seconds}"
            );
        }
        // What comes and goes with a connection is no fall.
        full_in(78.0);
        assert!(full_in(81.0).is_some_and(|seconds| seconds > 150));
    }

    #[test]
    fn what_fills_within_a_year_is_told_and_a_single_moment_has_no_rate() {
        let begun = Instant::now();
        let days = |days: u64| Duration::from_secs(86_400 * days);
        for (rest, fills) in [(364, true), (366, false)] {
            let mut buffer = Buffer::default();
            buffer.seen(begun, Some(50.0));
            buffer.seen(begun, Some(51.0));
            assert_eq!(buffer.full_in, None);
            let mut buffer = Buffer::default();
            buffer.seen(begun, Some(50.0));
            buffer.seen(begun + days(rest), Some(75.0));
            assert_eq!(buffer.full_in.is_some(), fills, "in {rest} days");
        }
    }
}
