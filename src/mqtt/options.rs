//! From the settings to the options of the library.

use std::time::Duration;

use paho::PropertyCode;
use paho_mqtt as paho;

use super::{Attempt, gate};
use crate::config::{Mqtt, Tls};
use crate::model::compression::{Compression, properties};
use crate::model::message::Message;
use crate::model::message::Protocol;
use crate::mqtt::tls;

/// The library looks after its own time-out every three seconds; ours comes first.
const MARGIN: Duration = Duration::from_secs(3);

/// A client, which is no connection yet. Where it connects to, the socket finds out by `number`,
/// which stands in the place of the port; the name is what TLS checks.
pub fn create(config: &Mqtt, version: Protocol, number: i32) -> paho::CreateOptions {
    let scheme = if config.tls.is_some() { "ssl" } else { "tcp" };
    let host = if config.host.contains(':') {
        format!("[{}]", config.host)
    } else {
        config.host.clone()
    };
    paho::CreateOptionsBuilder::new()
        .server_uri(format!("{scheme}://{host}:{number}"))
        .client_id(&config.client_id)
        .mqtt_version(paho_version(version))
        .persistence(None)
        .finalize()
}

/// A connection.
///
/// # Errors
/// A file of the TLS settings that the library does not take.
pub fn connect(
    config: &Mqtt,
    attempt: &Attempt,
    password: &str,
    will: Option<Message>,
) -> paho::Result<paho::ConnectOptions> {
    let version = attempt.protocol;
    let mut options = paho::ConnectOptionsBuilder::with_mqtt_version(paho_version(version));
    options
        .keep_alive_interval(attempt.keep_alive)
        .connect_timeout(attempt.patience + MARGIN)
        .max_inflight(1);
    if version == Protocol::V5 {
        options.clean_start(true).properties(receive_limits());
    } else {
        options.clean_session(true);
    }
    if !config.username.is_empty() {
        options.user_name(&config.username);
    }
    // MQTT 3.1.1 has no password without a user name: a broker would just hang up.
    let may_send = version == Protocol::V5 || !config.username.is_empty();
    if !password.is_empty() && may_send {
        options.password(password);
    }
    if let Some(will) = will {
        options.will_message(message(will));
    }
    if let Some(tls) = &config.tls {
        options.ssl_options(tls_options(tls)?);
    }
    Ok(options.finalize())
}

/// A message as the library wants it.
pub fn message(message: Message) -> paho::Message {
    let mut builder = paho::MessageBuilder::new()
        .topic(message.topic)
        .payload(message.payload)
        .qos(message.qos)
        .retained(message.retained);
    let mut told = paho::Properties::new();
    // Cannot fail: the properties exist and take such values.
    if let Some(correlation) = message.correlation {
        drop(told.push_binary(PropertyCode::CorrelationData, correlation));
    }
    if message.compression == Compression::Gzip {
        let (name, value) = properties::CONTENT_ENCODING;
        drop(told.push_string(PropertyCode::ContentType, properties::CONTENT_TYPE));
        drop(told.push_string_pair(PropertyCode::UserProperty, name, value));
    }
    if !told.is_empty() {
        builder = builder.properties(told);
    }
    builder.finalize()
}

fn tls_options(tls: &Tls) -> paho::Result<paho::SslOptions> {
    let mut options = paho::SslOptionsBuilder::new();
    // The library checks the name of the host only when it is told to.
    options
        .enable_server_cert_auth(!tls.insecure)
        .verify(!tls.insecure)
        .enabled_cipher_suites(tls::CIPHERS);
    if let Some(ca) = &tls.ca {
        options.trust_store(ca.path())?;
    }
    if let Some((certificate, key)) = &tls.client {
        options
            .key_store(certificate.path())?
            .private_key(key.path())?;
    }
    Ok(options.finalize())
}

/// What the broker may send to this device: a hostile payload is not even received.
fn receive_limits() -> paho::Properties {
    let mut properties = paho::Properties::new();
    // Cannot fail: the properties exist and take such numbers.
    drop(properties.push_u32(PropertyCode::MaximumPacketSize, gate::MAX_PACKET as u32));
    drop(properties.push_u16(
        PropertyCode::ReceiveMaximum,
        gate::MAX_UNACKNOWLEDGED as u16,
    ));
    properties
}

fn paho_version(version: Protocol) -> paho::MqttVersion {
    if version == Protocol::V311 {
        paho::MqttVersion::V3_1_1
    } else {
        paho::MqttVersion::V5
    }
}
