//! When the status goes to its topic. It gives way to everything else.

use std::time::{Duration, Instant};

use super::duties::{Duty, LEFT_OUT};
use super::messages::Announcement;
use super::{Action, Busy, Link, State};
use crate::model::message::Message;
use crate::model::packet::packet_size;

/// A change of state is published after this time at the earliest.
const CHANGE: Duration = Duration::from_secs(5);
/// And so often when nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// For the acknowledgement of a status.
const PATIENCE: Duration = Duration::from_secs(10);
/// The goodbye may not hold up the end.
const GOODBYE: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
pub struct Announcing {
    pub duty: Duty,
    /// The record as it is now.
    pub latest: Option<Announcement>,
    /// When it was published last on this connection, and which state.
    last: Option<(Instant, String)>,
    /// Attempts with the last will that the broker refused, in a row.
    will_refused: u32,
    /// Attempts go without the last will until then.
    no_will_until: Option<Instant>,
    /// The warning about this attempt has been told.
    pub insecure_told: bool,
}

impl Announcing {
    pub fn begins_again(&mut self, now: Instant, with_will: bool) {
        self.last = None;
        self.duty.begins_again();
        if with_will {
            self.will_refused = 0;
        } else if self.no_will_until.is_some() && !self.duty.is_left_out(now) {
            self.duty.leave_out(now);
        }
    }

    pub fn will_is_taken(&self, now: Instant) -> bool {
        self.no_will_until.is_none_or(|until| now >= until)
    }

    /// The broker has refused an attempt that had the last will. Twice in a row, and it is tried
    /// without: a topic that is forbidden must not keep measurements from flowing.
    pub fn attempt_refused(&mut self, now: Instant) -> bool {
        self.will_refused += 1;
        let too_often = self.will_refused >= 2;
        if too_often {
            self.will_refused = 0;
            self.no_will_until = Some(now + LEFT_OUT);
        }
        too_often
    }

    pub fn published(&mut self, now: Instant) {
        if let Some(latest) = &self.latest {
            self.last = Some((now, latest.state.clone()));
        }
    }

    /// When the status is to be published; `None`: there is none.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let latest = self.latest.as_ref()?;
        if self.duty.is_left_out(now) {
            return self.duty.due(now);
        }
        Some(match &self.last {
            None => now,
            Some((at, state)) if *state == latest.state => *at + HEARTBEAT,
            Some((at, _)) => *at + CHANGE,
        })
    }
}

impl Link {
    pub(super) fn announce(&mut self, now: Instant) -> Option<Action> {
        let (topic, _) = self.rules.status.as_ref()?;
        let payload = self.announcing.latest.as_ref()?.payload.clone();
        let message = Message::status(topic, payload);
        self.announcing.published(now);
        let patience = PATIENCE.min(self.rules.ack_timeout);
        self.publish_own(message, patience, Busy::Announcing)
    }

    /// Says that the service ends on purpose, and ends the connection.
    pub(super) fn goodbye(&mut self) -> Action {
        self.return_offers("the service ends");
        self.first.push_back(Action::Close);
        self.first.push_back(Action::Done);
        let welcome = self.announcing.duty.is_welcome();
        let last_words = self.rules.status.clone().filter(|_| welcome);
        last_words
            .and_then(|(topic, payload)| {
                self.publish_own(Message::status(&topic, payload), GOODBYE, Busy::Goodbye)
            })
            .or_else(|| self.first.pop_front())
            .unwrap_or(Action::Done)
    }

    /// Publishes what is no list and no reply; `None`: it is larger than the broker takes.
    pub(super) fn publish_own(
        &mut self,
        message: Message,
        patience: Duration,
        busy: Busy,
    ) -> Option<Action> {
        let State::Up(up) = &mut self.state else {
            return None;
        };
        let bytes = packet_size(&message, up.protocol);
        if up.maximum_packet.is_some_and(|maximum| bytes > maximum) {
            return None;
        }
        up.busy = busy;
        Some(Action::Publish { message, patience })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(state: &str) -> Option<Announcement> {
        Some(Announcement {
            payload: Vec::new(),
            state: state.into(),
        })
    }

    #[test]
    fn a_change_goes_out_after_five_seconds_and_a_sign_of_life_after_a_minute() {
        let now = Instant::now();
        let mut announcing = Announcing::default();
        assert_eq!(announcing.due(now), None);
        announcing.latest = announcement("a");
        assert_eq!(announcing.due(now), Some(now));
        announcing.published(now);
        assert_eq!(announcing.due(now), Some(now + HEARTBEAT));
        announcing.latest = announcement("b");
        assert_eq!(announcing.due(now), Some(now + CHANGE));
        announcing.begins_again(now, true);
        assert_eq!(announcing.due(now), Some(now));
    }

    #[test]
    fn without_a_will_the_status_goes_out_unless_that_is_why() {
        let now = Instant::now();
        let mut announcing = Announcing {
            latest: announcement("a"),
            ..Announcing::default()
        };
        announcing.begins_again(now, false);
        assert_eq!(announcing.due(now), Some(now));
    }

    #[test]
    fn a_will_that_is_refused_twice_is_left_out_for_an_hour_with_the_status() {
        let now = Instant::now();
        let mut announcing = Announcing {
            latest: announcement("a"),
            ..Announcing::default()
        };
        assert!(!announcing.attempt_refused(now) && announcing.attempt_refused(now));
        assert!(!announcing.will_is_taken(now) && announcing.will_is_taken(now + LEFT_OUT));
        announcing.begins_again(now, false);
        assert_eq!(announcing.due(now), Some(now + LEFT_OUT));
    }
}
