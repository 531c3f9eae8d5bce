//! The status as it goes to its topic.

use crate::config::Config;
use crate::link::Announcement;
use crate::model::message::Message;
use crate::model::status::{Record, offline};

/// What the broker publishes when the service is gone without a word.
pub fn last_will(config: &Config) -> Option<Message> {
    config.mqtt.topics.status.as_ref().map(|topic| Message {
        topic: topic.clone(),
        payload: offline("the connection was lost"),
        qos: 1,
        retained: true,
        correlation: None,
    })
}

/// The record while the service is there.
pub fn online(record: &Record) -> Announcement {
    Announcement {
        payload: record.online(),
        state: record.state(),
    }
}
