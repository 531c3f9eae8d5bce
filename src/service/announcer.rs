//! Publishes the status, retained, on a topic of its own; says goodbye there.
//!
//! Never at the cost of measurements: where the broker forbids the topic, or closes the
//! connection in answer, the status is given up and the measurements go on.

use std::time::{Duration, Instant};

use log::error;

use crate::model::message::Message;
use crate::model::status::{self, Record, Status};
use crate::mqtt::{Connection, PublishError};

/// A change of state is published after this time at the earliest.
const CHANGE: Duration = Duration::from_secs(5);
/// And so often when nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// A broker that does not take it is left alone for so long, over reconnects: some close the
/// connection in answer, and that must not go on for ever.
const REFUSED: Duration = Duration::from_secs(3600);
/// The goodbye may not hold up the end.
const GOODBYE: Duration = Duration::from_millis(300);

pub struct Announcer {
    topic: Option<String>,
    last: Option<(Instant, Record)>,
    /// The broker does not take it: not tried again before.
    refused_until: Option<Instant>,
}

impl Announcer {
    /// `None`: nothing is published.
    pub fn new(topic: Option<String>) -> Announcer {
        Announcer {
            topic,
            last: None,
            refused_until: None,
        }
    }

    /// What the broker publishes when the service is gone without a word.
    pub fn last_will(&self) -> Option<Message> {
        self.topic
            .as_ref()
            .map(|topic| message(topic, status::offline("the connection was lost")))
    }

    /// How often `announce` wants to be called.
    pub fn period(&self) -> Option<Duration> {
        self.topic.as_ref().map(|_| CHANGE)
    }

    /// A new connection: it is announced at once.
    pub fn connected(&mut self) {
        self.last = None;
    }

    /// Publishes the status if it is due.
    pub fn announce(&mut self, connection: &mut Connection, status: &Status, patience: Duration) {
        let Some(topic) = self.topic.clone().filter(|_| self.is_welcome()) else {
            return;
        };
        let record = status.snapshot();
        let due = self.last.as_ref().is_none_or(|(at, last)| {
            let wait = if record.state_differs(last) {
                CHANGE
            } else {
                HEARTBEAT
            };
            at.elapsed() >= wait
        });
        if !due {
            return;
        }
        let result = connection.publish(message(&topic, record.online()), patience, || false);
        self.last = Some((Instant::now(), record));
        let (Err(PublishError::Refused(reason))
        | Err(PublishError::Unwelcome(reason))
        | Err(PublishError::Closed(reason))) = result
        else {
            return;
        };
        self.refused_until = Some(Instant::now() + REFUSED);
        error!(
            "no status on {topic:?}: {reason} (see mqtt.topic_status and the ACL of the broker); tried again in {} min, measurements go on",
            REFUSED.as_secs() / 60
        );
    }

    fn is_welcome(&self) -> bool {
        self.refused_until
            .is_none_or(|until| Instant::now() >= until)
    }

    /// Says that the service ends on purpose.
    pub fn goodbye(&self, connection: &mut Connection) {
        if let Some(topic) = self.topic.as_ref().filter(|_| self.is_welcome()) {
            drop(
                connection.publish(message(topic, status::offline("stopped")), GOODBYE, || {
                    false
                }),
            );
        }
    }
}

fn message(topic: &str, payload: Vec<u8>) -> Message {
    Message {
        topic: topic.into(),
        payload,
        qos: 1,
        retained: true,
        correlation: None,
    }
}
