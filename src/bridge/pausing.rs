//! Why nothing is sent for a while: the broker refuses, the device is about to reboot, the end was
//! asked for, or a backlog is sent at a limited rate.

use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::model::backoff::Backoff;
use crate::model::failure::Cause;

/// Ahead of a reboot nothing is sent for so long; then it evidently did not come.
const QUIET: Duration = Duration::from_secs(20);
/// More refusals in a row than it takes to isolate poison: halvings, and what is held back.
const MANY_REFUSED: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    No,
    /// The broker refuses what would hit any list, or everything.
    Refused {
        until: Instant,
    },
    /// The device is about to reboot. `told`: whoever asked for quiet knows that it is quiet.
    Reboot {
        until: Instant,
        told: bool,
    },
    /// The end was asked for.
    Ending {
        until: Instant,
    },
}

#[derive(Debug)]
pub struct Pausing {
    pub pause: Pause,
    /// Holds back what was read; reading goes on.
    pub pace: Pace,
    refusals: Backoff,
    /// Lists in a row that the broker has refused for what they hold.
    refused_in_a_row: u32,
    /// When that is tried again which was refused, and behind which nothing has come.
    alone_until: Option<Instant>,
}

/// What to do about that which was refused, and behind which nothing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// Tell that it is tried again in so long.
    Told(Duration),
    Waits,
    TriedAgain,
}

impl Pausing {
    /// `catch_up`: bytes a second while a backlog is sent; 0: no limit.
    pub fn new(catch_up: u64) -> Pausing {
        Pausing {
            pause: Pause::No,
            pace: Pace::new(catch_up),
            refusals: Backoff::default(),
            refused_in_a_row: 0,
            alone_until: None,
        }
    }

    pub fn is_paused(&self, now: Instant) -> bool {
        match self.pause {
            Pause::No => false,
            Pause::Refused { until } | Pause::Reboot { until, .. } => now < until,
            Pause::Ending { .. } => true,
        }
    }

    /// When the pause ends.
    pub fn until(&self) -> Option<Instant> {
        match self.pause {
            Pause::No => None,
            Pause::Refused { until } | Pause::Reboot { until, .. } | Pause::Ending { until } => {
                Some(until)
            }
        }
    }

    pub fn is_ending(&self) -> bool {
        matches!(self.pause, Pause::Ending { .. })
    }

    pub fn quiesce(&mut self, now: Instant) {
        if !self.is_ending() {
            self.pause = Pause::Reboot {
                until: now + QUIET,
                told: false,
            };
        }
    }

    pub fn resume(&mut self) {
        if matches!(self.pause, Pause::Reboot { .. }) {
            self.pause = Pause::No;
        }
    }

    /// Whether it is time to say that it is quiet; it is said once.
    pub fn quiet_is_due(&mut self, settled: bool) -> bool {
        match &mut self.pause {
            Pause::Reboot { told, .. } if settled && !*told => {
                *told = true;
                true
            }
            _ => false,
        }
    }

    /// The broker has accepted a list.
    pub fn accepted(&mut self) {
        self.refusals.reset();
        self.refused_in_a_row = 0;
        self.alone_until = None;
    }

    /// Nothing has come behind that which was refused, so that nothing shows whose fault it is.
    pub fn alone(&mut self, now: Instant, random: f64) -> Alone {
        let Some(until) = self.alone_until else {
            let wait = self.refusals.next_slowed(now, random);
            self.alone_until = Some(now + wait);
            return Alone::Told(wait);
        };
        if now < until {
            return Alone::Waits;
        }
        self.alone_until = None;
        Alone::TriedAgain
    }

    /// A list was not confirmed. Where that would go on for any list, how long to wait: a refusal
    /// of one list is the list's, a long row of them is the broker's, and without a wait it would
    /// go round as fast as the network allows.
    pub fn refused(&mut self, now: Instant, cause: Cause, random: f64) -> Option<Duration> {
        match cause {
            Cause::Refused | Cause::TooLarge { .. } => self.refused_in_a_row += 1,
            Cause::NotSent => return None,
            _ => self.refused_in_a_row = 0,
        }
        if cause != Cause::RefusesAll && self.refused_in_a_row < MANY_REFUSED {
            return None;
        }
        let wait = self.refusals.next_slowed(now, random);
        if matches!(self.pause, Pause::No | Pause::Refused { .. }) {
            self.pause = Pause::Refused { until: now + wait };
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_takes_nothing_is_waited_for() {
        let (mut pausing, now) = (Pausing::new(0), Instant::now());
        let wait = pausing.refused(now, Cause::RefusesAll, 0.5);
        let wait = wait.expect("a wait");
        assert_eq!(pausing.until(), Some(now + wait));
        assert!(wait > Duration::ZERO && pausing.is_paused(now));
        assert!(!pausing.is_paused(now + wait));
    }

    /// Whether the last one of so many refusals in a row leads to a pause; something else may come
    /// before it.
    fn pauses(refusals: u32, before: impl Fn(&mut Pausing, Instant)) -> bool {
        let (mut pausing, now) = (Pausing::new(0), Instant::now());
        for _ in 1..refusals {
            assert_eq!(pausing.refused(now, Cause::Refused, 0.5), None);
        }
        before(&mut pausing, now);
        let limit = None;
        pausing
            .refused(now, Cause::TooLarge { limit }, 0.5)
            .is_some()
    }

    #[test]
    fn a_long_row_of_refusals_is_the_fault_of_the_broker() {
        assert!(pauses(MANY_REFUSED, |_, _| {}));
        assert!(!pauses(MANY_REFUSED - 1, |_, _| {}));
        assert!(!pauses(MANY_REFUSED, |pausing, _| pausing.accepted()));
        let other = |cause| {
            move |pausing: &mut Pausing, now| {
                assert_eq!(pausing.refused(now, cause, 0.5), None);
            }
        };
        assert!(pauses(MANY_REFUSED, other(Cause::NotSent)));
        assert!(!pauses(MANY_REFUSED, other(Cause::Lost)));
    }
}
