//! From the configuration to what the link has to know.

use crate::commands::limits::MAX_REQUEST;
use crate::config::{self, Config};
use crate::link::{Rules, Wanted};
use crate::model::message::Protocol;
use crate::model::status::offline;

/// Bytes of the payload of an incoming message that are kept.
pub const KEEP: usize = MAX_REQUEST;

pub fn link(config: &Config) -> Rules {
    let mqtt = &config.mqtt;
    Rules {
        address: format!("{}:{}", mqtt.host, mqtt.port),
        wanted: match mqtt.version {
            config::Version::Auto => Wanted::Auto,
            config::Version::V5 => Wanted::Only(Protocol::V5),
            config::Version::V311 => Wanted::Only(Protocol::V311),
        },
        insecure: mqtt.tls.as_ref().is_some_and(|tls| tls.insecure),
        keep_alive: mqtt.keep_alive,
        ack_timeout: mqtt.ack_timeout,
        values: mqtt.topics.values.clone(),
        compression: config.batch.compression,
        filters: mqtt.topics.commands.to_vec(),
        status: mqtt
            .topics
            .status
            .as_ref()
            .map(|topic| (topic.clone(), offline("stopped"))),
        latest: mqtt.topics.latest.clone(),
    }
}
