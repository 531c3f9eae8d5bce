//! Which version of the protocol to speak.
//!
//! MQTT 3.1.1 confirms even what the broker throws away, so it may carry measurements only where
//! MQTT 5 does not work: the broker has said so, or MQTT 5 has failed twice without a word and a
//! handshake of 3.1.1 between the two has worked. One connection that was cut at the start proves
//! nothing. The fall-back is remembered for a day, then MQTT 5 is tried again.

use std::time::{Duration, Instant};

use crate::model::connection::NoConnectionKind;
use crate::model::message::Protocol;

const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Auto,
    Only(Protocol),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fixed(Protocol),
    Five,
    /// MQTT 5 has failed without a word: does a handshake of 3.1.1 work?
    TryOld,
    /// It does: does MQTT 5 fail again?
    FiveAgain,
    Old {
        until: Instant,
    },
}

#[derive(Debug)]
pub struct Version(State);

impl Version {
    pub fn new(wanted: Wanted) -> Version {
        Version(match wanted {
            Wanted::Auto => State::Five,
            Wanted::Only(protocol) => State::Fixed(protocol),
        })
    }

    /// What the next attempt speaks.
    pub fn next(&mut self, now: Instant) -> Protocol {
        if let State::Old { until } = self.0 {
            if now >= until {
                self.0 = State::Five;
            }
        }
        match self.0 {
            State::Fixed(protocol) => protocol,
            State::Five | State::FiveAgain => Protocol::V5,
            State::TryOld | State::Old { .. } => Protocol::V311,
        }
    }

    /// Another version would be tried where this one is met by silence.
    pub fn is_open(&self) -> bool {
        matches!(self.0, State::Five | State::FiveAgain)
    }

    /// An attempt has worked. Whether its connection may carry measurements; otherwise it was a
    /// trial and is closed again.
    pub fn worked(&mut self) -> bool {
        match self.0 {
            State::TryOld => {
                self.0 = State::FiveAgain;
                false
            }
            State::FiveAgain => {
                self.0 = State::Five;
                true
            }
            _ => true,
        }
    }

    /// An attempt has failed. Whether another version is to be tried at once.
    pub fn failed(&mut self, now: Instant, kind: NoConnectionKind) -> bool {
        use NoConnectionKind::{Closed, OtherVersion, Silent};
        let until = now + REMEMBERED;
        let next = match (self.0, kind) {
            (State::Fixed(_), _) => return false,
            (State::Five | State::FiveAgain, OtherVersion) => State::Old { until },
            (State::Five, Closed | Silent) => State::TryOld,
            (State::FiveAgain, Closed | Silent) => State::Old { until },
            (State::Old { .. }, OtherVersion) => {
                // It speaks neither: nothing is gained by haste.
                self.0 = State::Five;
                return false;
            }
            (State::Old { .. }, _) => return false,
            // The way to the broker is bad: nothing is proven.
            (State::Five | State::TryOld | State::FiveAgain, _) => {
                self.0 = State::Five;
                return false;
            }
        };
        self.0 = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::NoConnectionKind::{Closed, OtherVersion, Silent, Unreachable};
    use super::*;

    #[test]
    fn one_handshake_that_was_cut_does_not_lead_to_the_old_version() {
        let now = Instant::now();
        let mut version = Version::new(Wanted::Auto);
        for kind in [Closed, Silent] {
            assert_eq!(version.next(now), Protocol::V5);
            assert!(version.failed(now, kind));
            assert_eq!(version.next(now), Protocol::V311);
            assert!(!version.worked(), "a trial carries nothing");
            assert_eq!(version.next(now), Protocol::V5);
            assert!(version.worked());
        }
        assert_eq!(version, Version(State::Five));
    }

    #[test]
    fn two_silent_failures_around_a_handshake_that_worked_lead_to_it_for_a_day() {
        let now = Instant::now();
        let mut version = Version::new(Wanted::Auto);
        version.failed(now, Silent);
        version.worked();
        assert!(version.failed(now, Closed));
        assert_eq!(version.next(now), Protocol::V311);
        assert!(version.worked());
        assert!(!version.failed(now, Closed) && !version.failed(now, Unreachable));
        let almost = now + Duration::from_secs(86_399);
        assert_eq!(version.next(almost), Protocol::V311);
        assert_eq!(
            version.next(now + Duration::from_secs(86_400)),
            Protocol::V5
        );
    }

    #[test]
    fn a_broker_that_is_out_of_reach_proves_nothing() {
        let now = Instant::now();
        for failures in [
            vec![Unreachable],
            vec![Closed, Closed],
            vec![Closed, Unreachable],
        ] {
            let mut version = Version::new(Wanted::Auto);
            for kind in failures {
                version.failed(now, kind);
            }
            assert_eq!(version, Version(State::Five));
        }
        let mut version = Version::new(Wanted::Auto);
        version.failed(now, Closed);
        version.worked();
        assert!(!version.failed(now, Unreachable));
        assert_eq!(version, Version(State::Five));
    }

    #[test]
    fn a_broker_that_says_so_is_believed_at_once() {
        let now = Instant::now();
        let mut version = Version::new(Wanted::Auto);
        assert!(version.is_open() && version.failed(now, OtherVersion));
        assert_eq!(version.next(now), Protocol::V311);
        assert!(!version.is_open());
        assert!(!version.failed(now, OtherVersion), "it speaks neither");
        assert_eq!(version.next(now), Protocol::V5);
    }

    #[test]
    fn a_version_that_is_set_is_kept() {
        let now = Instant::now();
        for protocol in [Protocol::V5, Protocol::V311] {
            let mut version = Version::new(Wanted::Only(protocol));
            assert!(!version.failed(now, Closed) && !version.failed(now, OtherVersion));
            assert_eq!(version.next(now), protocol);
            assert!(version.worked() && !version.is_open());
        }
    }

    impl PartialEq for Version {
        fn eq(&self, other: &Version) -> bool {
            self.0 == other.0
        }
    }
}
