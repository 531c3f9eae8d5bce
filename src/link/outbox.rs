//! Who is next on the line: one message of each origin waits at most, and they take turns.
//!
//! While measurements flow, a reply that follows a reply waits a moment for the next list, which
//! is not ready before the cursor behind the last one is stored: they keep half of the line.

use std::time::{Duration, Instant};

use super::messages::{Letter, Origin};

#[derive(Debug, Default)]
pub struct Outbox {
    measurements: Place,
    commands: Place,
    /// The last one that went was a reply.
    reply_was_last: bool,
    /// When the last one of each was answered.
    list_answered: Option<Instant>,
    reply_answered: Option<Instant>,
}

/// So long a reply waits for a list to be ready.
const TURN: Duration = Duration::from_millis(20);
/// Measurements flow if a list was answered so recently.
const FLOWING: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
enum Place {
    #[default]
    Empty,
    Waits(Letter),
    /// Nothing more will come.
    Closed,
}

impl Place {
    fn take(&mut self) -> Option<Letter> {
        match std::mem::take(self) {
            Place::Waits(letter) => Some(letter),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Outbox {
    fn place(&mut self, origin: Origin) -> &mut Place {
        match origin {
            Origin::Measurements => &mut self.measurements,
            Origin::Commands => &mut self.commands,
        }
    }

    pub fn has_room(&self, origin: Origin) -> bool {
        let place = match origin {
            Origin::Measurements => &self.measurements,
            Origin::Commands => &self.commands,
        };
        matches!(place, Place::Empty)
    }

    pub fn has_measurements(&self) -> bool {
        matches!(self.measurements, Place::Waits(_))
    }

    /// Nothing waits.
    pub fn is_idle(&self) -> bool {
        let waits = |place: &Place| matches!(place, Place::Waits(_));
        !waits(&self.measurements) && !waits(&self.commands)
    }

    /// A message was answered, in whatever way.
    pub fn answered(&mut self, origin: Origin, now: Instant) {
        match origin {
            Origin::Measurements => self.list_answered = Some(now),
            Origin::Commands => self.reply_answered = Some(now),
        }
    }

    /// Until when a reply waits because it is the turn of the measurements.
    pub fn turn_of_measurements(&self, now: Instant) -> Option<Instant> {
        let reply_waits = self.reply_was_last
            && matches!(self.commands, Place::Waits(_))
            && matches!(self.measurements, Place::Empty);
        let recent = |at: &Instant| now.saturating_duration_since(*at) < FLOWING;
        self.list_answered.filter(recent).filter(|_| reply_waits)?;
        let until = self.reply_answered? + TURN;
        (now < until).then_some(until)
    }

    pub fn put(&mut self, origin: Origin, letter: Letter) {
        *self.place(origin) = Place::Waits(letter);
    }

    pub fn close(&mut self, origin: Origin) {
        let place = self.place(origin);
        if matches!(place, Place::Empty) {
            *place = Place::Closed;
        }
    }

    /// Nothing waits and nothing will come.
    pub fn is_closed(&self) -> bool {
        matches!(self.measurements, Place::Closed) && matches!(self.commands, Place::Closed)
    }

    /// The next message: neither origin waits for more than one message of the other.
    pub fn take(&mut self) -> Option<(Origin, Letter)> {
        let order = if self.reply_was_last {
            [Origin::Measurements, Origin::Commands]
        } else {
            [Origin::Commands, Origin::Measurements]
        };
        for origin in order {
            if let Some(letter) = self.place(origin).take() {
                self.reply_was_last = origin == Origin::Commands;
                return Some((origin, letter));
            }
        }
        None
    }

    /// Takes what waits of one origin.
    pub fn take_from(&mut self, origin: Origin) -> Option<Letter> {
        self.place(origin).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::Message;

    fn letter() -> Letter {
        Letter {
            message: Message::list("t", Vec::new()),
            patience: None,
            link: None,
        }
    }

    #[test]
    fn measurements_and_replies_take_turns() {
        let mut outbox = Outbox::default();
        let mut order = Vec::new();
        for _ in 0..4 {
            for origin in [Origin::Measurements, Origin::Commands] {
                if outbox.has_room(origin) {
                    outbox.put(origin, letter());
                }
            }
            order.extend(outbox.take().map(|(origin, _)| origin));
        }
        use Origin::{Commands, Measurements};
        assert_eq!(order, [Commands, Measurements, Commands, Measurements]);
    }

    #[test]
    fn a_second_reply_waits_a_moment_while_measurements_flow() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let reply = |outbox: &mut Outbox, at| {
            outbox.put(Origin::Commands, letter());
            let until = outbox.turn_of_measurements(at);
            outbox.take();
            outbox.answered(Origin::Commands, at);
            until
        };
        assert_eq!(reply(&mut outbox, now), None);
        assert_eq!(reply(&mut outbox, now), None, "nothing flows");
        outbox.put(Origin::Measurements, letter());
        outbox.take();
        outbox.answered(Origin::Measurements, now);
        assert_eq!(reply(&mut outbox, now), None, "it is their turn");
        assert_eq!(reply(&mut outbox, now), Some(now + TURN));
        assert_eq!(reply(&mut outbox, now + TURN), None, "it has waited");
        reply(&mut outbox, now + FLOWING - TURN / 2);
        assert_eq!(reply(&mut outbox, now + FLOWING), None, "nothing flows");
    }

    #[test]
    fn measurements_wait_until_they_are_taken() {
        let mut outbox = Outbox::default();
        outbox.put(Origin::Commands, letter());
        assert!(!outbox.has_measurements());
        outbox.put(Origin::Measurements, letter());
        assert!(outbox.has_measurements());
        outbox.take_from(Origin::Measurements);
        assert!(!outbox.has_measurements());
    }

    #[test]
    fn it_is_closed_when_nothing_waits_and_nothing_will_come() {
        let mut outbox = Outbox::default();
        outbox.close(Origin::Measurements);
        outbox.put(Origin::Commands, letter());
        outbox.close(Origin::Commands);
        assert!(!outbox.is_closed());
        assert!(outbox.take().is_some());
        outbox.close(Origin::Commands);
        assert!(outbox.is_closed() && !outbox.has_room(Origin::Commands));
    }
}
