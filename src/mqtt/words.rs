//! What goes wrong with the broker, in words and with the setting to look at.

use std::io::ErrorKind;
use std::net::ToSocketAddrs;

use paho::ReasonCode;
use paho_mqtt as paho;

use super::{CONNECT_TIMEOUT, ConnectError, OtherVersion, PublishError, TCP_TIMEOUT};
use crate::net;

/// Tries to connect, closes again, and says in words why it does not work.
pub fn reachable(host: &str, port: u16) -> Result<(), String> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("the name {host:?} cannot be resolved: {error} (see mqtt.host, and the DNS of the device)"))?;
    let error = match net::dial(addresses, TCP_TIMEOUT) {
        None => return Err(format!("the name {host:?} has no address")),
        Some(Ok(_)) => return Ok(()),
        Some(Err(error)) => error,
    };
    Err(match error.kind() {
        ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens there (see mqtt.host, mqtt.port)".into()
        }
        ErrorKind::TimedOut => {
            format!(
                "no answer within {} s (see mqtt.host, mqtt.port, and any firewall)",
                TCP_TIMEOUT.as_secs()
            )
        }
        _ => error.to_string(),
    })
}

/// Why there is no connection, in words and with the setting to look at.
pub fn connect_error(error: &paho::Error) -> ConnectError {
    let fault = |reason: &str, needs_person, other_version| ConnectError {
        reason: reason.to_string(),
        needs_person,
        other_version,
    };
    use paho::ConnectReturnCode as V3;
    match error {
        paho::Error::ReasonCode(ReasonCode::UnsupportedProtocolVersion, _)
        | paho::Error::ConnectReturn(V3::UnacceptableProtocolVersion) => fault(
            "the broker does not speak this version of MQTT (see mqtt.version)",
            false,
            OtherVersion::Yes,
        ),
        paho::Error::ReasonCode(ReasonCode::BadUserNameOrPassword, _)
        | paho::Error::ConnectReturn(V3::BadUserNameOrPassword) => fault(
            "the broker refused user name or password (see mqtt.username, mqtt.password)",
            true,
            OtherVersion::No,
        ),
        paho::Error::ReasonCode(ReasonCode::NotAuthorized | ReasonCode::Banned, _)
        | paho::Error::ConnectReturn(V3::NotAuthorized) => fault(
            "the broker does not authorize this client (see mqtt.username, mqtt.password, mqtt.client_id)",
            true,
            OtherVersion::No,
        ),
        paho::Error::ReasonCode(ReasonCode::ClientIdentifierNotValid, _)
        | paho::Error::ConnectReturn(V3::IdentifierRejected) => fault(
            "the broker refused the client ID (see mqtt.client_id)",
            true,
            OtherVersion::No,
        ),
        paho::Error::ConnectReturn(V3::ServerUnavailable) => fault(
            "the broker says that it is unavailable",
            false,
            OtherVersion::No,
        ),
        paho::Error::ReasonCode(code, _) => fault(
            &format!("the broker refused the connection: {code}"),
            false,
            OtherVersion::No,
        ),
        paho::Error::Timeout | paho::Error::TcpConnectTimeout => {
            let seconds = CONNECT_TIMEOUT.as_secs();
            fault(
                &format!("the broker did not answer the connect request within {seconds} s"),
                false,
                OtherVersion::No,
            )
        }
        _ => fault(
            "the connection was closed before the broker answered the connect request; does this port speak TLS, or another protocol? (see mqtt.port, mqtt.tls_enable)",
            false,
            OtherVersion::Perhaps,
        ),
    }
}

pub fn refusal(code: ReasonCode) -> PublishError {
    match code {
        ReasonCode::PacketTooLarge => {
            PublishError::Refused("the broker says that it is too large".into())
        }
        ReasonCode::PayloadFormatInvalid => {
            PublishError::Refused("the broker says that its format is invalid".into())
        }
        ReasonCode::NotAuthorized => {
            PublishError::Unwelcome("the broker does not authorize it".into())
        }
        ReasonCode::QuotaExceeded => {
            PublishError::Unwelcome("the broker says that a quota is exceeded".into())
        }
        code => PublishError::Unwelcome(format!("the broker refused it: {code}")),
    }
}

pub fn disconnect(code: ReasonCode) -> String {
    match code {
        ReasonCode::SessionTakenOver => {
            "another client has connected with the same client ID (see mqtt.client_id)".into()
        }
        ReasonCode::ServerShuttingDown => "it is shutting down".into(),
        ReasonCode::KeepAliveTimeout => "it heard nothing within the keep alive time".into(),
        ReasonCode::PacketTooLarge => "a packet was too large for it".into(),
        ReasonCode::NotAuthorized => {
            "this client is not authorized (see the ACL of the broker)".into()
        }
        code => code.to_string(),
    }
}

pub fn internal(error: paho::Error) -> ConnectError {
    ConnectError {
        reason: format!("the MQTT library refused the settings: {error:?}"),
        needs_person: true,
        other_version: OtherVersion::No,
    }
}
