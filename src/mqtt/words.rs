//! What goes wrong with the broker, in words and with the setting to look at.

use std::io::ErrorKind;

use paho::ReasonCode;
use paho_mqtt as paho;

use super::TCP_TIMEOUT;
use crate::model::connection::{NoConnection, NoConnectionKind};
use crate::model::failure::{Cause, Undelivered};
use crate::model::message::Protocol;
use crate::net::Unreached;

pub fn unreached(host: &str, why: Unreached) -> NoConnection {
    let reason = match why {
        Unreached::Name(error) => format!(
            "the name {host:?} cannot be resolved: {error} (see mqtt.host, and the DNS of the device)"
        ),
        Unreached::NoAddress => format!("the name {host:?} has no address"),
        Unreached::Refused(error) => match error.kind() {
            ErrorKind::ConnectionRefused => {
                "connection refused: nothing listens there (see mqtt.host, mqtt.port)".into()
            }
            ErrorKind::TimedOut => format!(
                "no answer within {} s (see mqtt.host, mqtt.port, and any firewall)",
                TCP_TIMEOUT.as_secs()
            ),
            _ => error.to_string(),
        },
    };
    NoConnection::new(NoConnectionKind::Unreachable, reason)
}

/// The broker has answered the connect request with a code. `password`: the setting that the
/// password comes from.
pub fn connack(version: Protocol, code: u8, password: &str) -> NoConnection {
    use NoConnectionKind::{NeedsPerson, OtherVersion, Refused};
    // The short answers of a broker that only knows the older version are its own.
    let (kind, reason) = match (version, code) {
        (_, 1) | (Protocol::V5, 0x84) => (
            OtherVersion,
            "the broker does not speak this version of MQTT (see mqtt.version)",
        ),
        (_, 2) | (Protocol::V5, 0x85) => (
            NeedsPerson,
            "the broker refused the client ID (see mqtt.client_id)",
        ),
        (_, 4) | (Protocol::V5, 0x86) => {
            let reason =
                format!("the broker refused user name or password (see mqtt.username, {password})");
            return NoConnection::new(NeedsPerson, reason);
        }
        (_, 5) | (Protocol::V5, 0x87 | 0x8A) => {
            let reason = format!(
                "the broker does not authorize this client (see mqtt.username, {password}, mqtt.client_id)"
            );
            return NoConnection::new(NeedsPerson, reason);
        }
        // The last will is a message as well.
        (Protocol::V5, 0x9B) => return no_qos_1(),
        (_, 3) => (Refused, "the broker says that it is unavailable"),
        (_, code) => {
            let words = code_in_words(code);
            let reason = format!("the broker refused the connection: {words}");
            return NoConnection::new(Refused, reason);
        }
    };
    NoConnection::new(kind, reason)
}

/// Without acknowledgements nothing could ever count as delivered.
pub fn no_qos_1() -> NoConnection {
    NoConnection::new(
        NoConnectionKind::NeedsPerson,
        "the broker takes no messages of QoS 1, and confirms none; measurements need a broker that does (see mqtt.host)",
    )
}

/// The broker has not taken a message. `limit`: of its payload, where the broker has named one.
pub fn refusal(code: ReasonCode, limit: Option<usize>) -> Undelivered {
    match code {
        ReasonCode::PacketTooLarge => Undelivered::new(
            Cause::TooLarge { limit },
            "the broker says that it is too large",
        ),
        ReasonCode::PayloadFormatInvalid => {
            Undelivered::new(Cause::Refused, "the broker says that its format is invalid")
        }
        ReasonCode::NotAuthorized => {
            Undelivered::new(Cause::RefusesAll, "the broker does not authorize it")
        }
        ReasonCode::QuotaExceeded => Undelivered::new(
            Cause::RefusesAll,
            "the broker says that a quota is exceeded",
        ),
        ReasonCode::TopicNameInvalid => {
            Undelivered::new(Cause::RefusesAll, "the broker does not take its topic")
        }
        code => Undelivered::new(Cause::Refused, format!("the broker refused it: {code}")),
    }
}

/// The code of a DISCONNECT.
pub fn disconnect(code: u8) -> String {
    match code {
        0x8E => "another client has connected with the same client ID (see mqtt.client_id)".into(),
        0x8B => "it is shutting down".into(),
        0x8D => "it heard nothing within the keep alive time".into(),
        0x95 => "a packet was too large for it".into(),
        0x9B => "it takes no messages of QoS 1, which measurements need".into(),
        0x87 => "this client is not authorized (see the ACL of the broker)".into(),
        code => code_in_words(code),
    }
}

fn code_in_words(code: u8) -> String {
    format!("{} ({code:#04x})", ReasonCode::from(u32::from(code)))
}

pub fn internal(error: paho::Error) -> NoConnection {
    NoConnection::new(
        NoConnectionKind::NeedsPerson,
        format!("the MQTT library refused the settings: {error:?}"),
    )
}
