//! The status as it goes to its topic.

use crate::config::Config;
use crate::link::Announcement;
use crate::model::message::Message;
use crate::model::status::{Record, offline};

/// What the broker publishes when the service is gone without a word.
pub fn last_will(config: &Config) -> Option<Message> {
    let topic = config.mqtt.topics.status.as_ref()?;
    Some(Message::status(topic, offline("the connection was lost")))
}

/// The record while the service is there.
pub fn online(record: &Record) -> Announcement {
    Announcement {
        payload: record.online(),
        state: record.state(),
    }
}
