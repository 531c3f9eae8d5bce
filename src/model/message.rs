//! Messages of MQTT, as they are published and as they arrive.

use std::fmt;

use super::compression::Compression;

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: i32,
    pub retained: bool,
    /// MQTT 5: correlation data of the request that this answers.
    pub correlation: Option<Vec<u8>>,
    /// How the payload is packed, which MQTT 5 tells those who receive it.
    pub compression: Compression,
}

impl Message {
    /// A list of measurements.
    pub fn list(topic: &str, payload: Vec<u8>) -> Message {
        Message {
            topic: topic.into(),
            payload,
            qos: 1,
            retained: false,
            correlation: None,
            compression: Compression::None,
        }
    }

    /// The status, which the broker keeps for those who come later.
    pub fn status(topic: &str, payload: Vec<u8>) -> Message {
        Message {
            retained: true,
            ..Message::list(topic, payload)
        }
    }

    /// The newest measurement, which the broker keeps for those who come later.
    pub fn latest(topic: &str, payload: Vec<u8>) -> Message {
        Message {
            qos: 0,
            ..Message::status(topic, payload)
        }
    }
}

/// A version of the protocol that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V5,
    V311,
}

impl Protocol {
    /// For the status record.
    pub fn number(self) -> &'static str {
        match self {
            Protocol::V5 => "5",
            Protocol::V311 => "3.1.1",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MQTT {}", self.number())
    }
}

/// A message that arrived on one of the subscribed topics.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub topic: String,
    /// Empty where it was larger than what is kept.
    pub payload: Vec<u8>,
    /// How large the payload was.
    pub bytes: usize,
    pub retained: bool,
    pub correlation: Option<Vec<u8>>,
}
