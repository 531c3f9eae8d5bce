//! What is told of a catch-up: how far it is, how long it will take, and that it never will.

use std::time::{Duration, Instant};

use super::notice::Notice;

/// Between two lines.
const TELL: Duration = Duration::from_secs(10);

/// Whether more waits than one list takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    No,
    Yes,
    /// Yes, and nothing is sent at present.
    Paused,
}

/// How far it was at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub at: Instant,
    /// Measurements sent.
    pub sent: u64,
    /// Measurements that wait, where that is known exactly.
    pub left: Option<u64>,
}

#[derive(Debug, Default)]
pub struct CatchUp {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    begun: Mark,
    told: Mark,
    /// That more comes in than is sent was told.
    grows_told: bool,
}

impl CatchUp {
    /// What is to be told. `limit`: measurements a second, where they are held back to that.
    pub fn tell(&mut self, mark: Mark, behind: Behind, limit: Option<f64>) -> Vec<Notice> {
        match (&mut self.running, behind) {
            (None, Behind::Yes) => {
                self.running = Some(Running {
                    begun: mark,
                    told: mark,
                    grows_told: false,
                });
                Vec::new()
            }
            (Some(running), Behind::Yes) => running.goes_on(mark, limit),
            (Some(_), Behind::No) => {
                self.running = None;
                vec![Notice::CaughtUp(mark.sent)]
            }
            _ => Vec::new(),
        }
    }
}

impl Running {
    fn goes_on(&mut self, mark: Mark, limit: Option<f64>) -> Vec<Notice> {
        if mark.at.saturating_duration_since(self.told.at) < TELL {
            return Vec::new();
        }
        let told = std::mem::replace(&mut self.told, mark);
        let per_second = limit.unwrap_or_else(|| mark.sent_since(&told));
        let shrinks = per_second - mark.came_since(&told);
        let time = |left| (left as f64 / shrinks) as u64;
        let mut notices = vec![Notice::CatchingUp {
            sent: mark.sent,
            left: mark.left,
            per_second,
            seconds: mark.left.map(time).filter(|_| shrinks >= 0.1),
        }];
        // Since its begin: lists may be further apart than these lines.
        let comes = mark.came_since(&self.begun);
        if let Some(goes) = limit.filter(|goes| comes > *goes && !self.grows_told) {
            self.grows_told = true;
            notices.push(Notice::TooSlow { comes, goes });
        }
        notices
    }
}

impl Mark {
    fn rate(&self, earlier: &Mark, count: u64) -> f64 {
        let time = self.at.saturating_duration_since(earlier.at);
        count as f64 / time.as_secs_f64().max(0.001)
    }

    /// Measurements a second that were sent.
    fn sent_since(&self, earlier: &Mark) -> f64 {
        self.rate(earlier, self.sent.saturating_sub(earlier.sent))
    }

    /// Measurements a second that came in; 0 where that is not known.
    fn came_since(&self, earlier: &Mark) -> f64 {
        let ever = |mark: &Mark| mark.left.map(|left| left + mark.sent);
        match (ever(self), ever(earlier)) {
            (Some(after), Some(before)) => self.rate(earlier, after.saturating_sub(before)),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A catch-up over so many ticks of ten seconds: what is told.
    fn caught_up(ticks: u64, sends: u64, comes: u64, limit: Option<f64>) -> Vec<Notice> {
        let (mut catch_up, begin) = (CatchUp::default(), Instant::now());
        let tick = |tick: u64| Mark {
            at: begin + TELL * tick as u32,
            sent: tick * sends,
            left: Some(10_000 + tick * comes - tick * sends),
        };
        (0..=ticks)
            .flat_map(|n| catch_up.tell(tick(n), Behind::Yes, limit))
            .collect()
    }

    #[test]
    fn the_time_to_go_heeds_what_comes_in() {
        let told = caught_up(1, 1000, 500, None);
        let line = Notice::CatchingUp {
            sent: 1000,
            left: Some(9500),
            per_second: 100.0,
            seconds: Some(190),
        };
        assert_eq!(told, [line]);
        // Nothing was sent in these seconds, but the rate is known.
        assert!(matches!(
            caught_up(1, 0, 0, Some(50.0))[..],
            [Notice::CatchingUp {
                seconds: Some(200),
                ..
            }]
        ));
        assert!(matches!(
            caught_up(1, 0, 0, None)[..],
            [Notice::CatchingUp { seconds: None, .. }]
        ));
    }

    #[test]
    fn lines_are_ten_seconds_apart() {
        let (mut catch_up, begin) = (CatchUp::default(), Instant::now());
        let lines = [0, 9, 10, 19, 20].map(|seconds| {
            let mark = Mark {
                at: begin + Duration::from_secs(seconds),
                sent: 0,
                left: None,
            };
            catch_up.tell(mark, Behind::Yes, None).len()
        });
        assert_eq!(lines, [0, 0, 1, 0, 1]);
    }

    #[test]
    fn its_end_is_told_once() {
        let (mut catch_up, at) = (CatchUp::default(), Instant::now());
        let left = Some(0);
        let mut tell = |behind| catch_up.tell(Mark { at, sent: 7, left }, behind, None);
        assert_eq!(tell(Behind::No), []);
        assert_eq!(tell(Behind::Yes), []);
        assert_eq!(tell(Behind::Paused), []);
        assert_eq!(tell(Behind::No), [Notice::CaughtUp(7)]);
        assert_eq!(tell(Behind::No), []);
    }

    #[test]
    fn that_more_comes_in_than_may_be_sent_is_told_once() {
        let grows = |told: &[Notice]| {
            let grows = |notice: &&Notice| matches!(notice, Notice::TooSlow { .. });
            told.iter().filter(grows).count()
        };
        assert_eq!(grows(&caught_up(5, 100, 110, Some(10.0))), 1);
        assert_eq!(grows(&caught_up(5, 100, 100, Some(10.0))), 0);
        assert_eq!(grows(&caught_up(5, 100, 110, None)), 0);
    }
}
