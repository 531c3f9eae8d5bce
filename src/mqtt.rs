//! Every call of the Paho library, and no other place has one.
//!
//! The library is sound as long as it is used in a narrow way, and this module is that way:
//! - exactly one message is in flight; more than one and a closing broker crash the process;
//! - a client is used for one connection and thrown away with it, so that nothing that it
//!   still holds is sent later out of order; nothing is persisted;
//! - the library never reconnects by itself;
//! - one idle client always exists, because destroying the last one leaks descriptors;
//! - name resolution and the TCP connection are tried before, with a time-out of our own: the
//!   library does the first under a global lock, and its errors do not say what went wrong;
//! - no wait is without an end, on the monotonic clock;
//! - callbacks run under a global lock and only `try_send`.

mod library;
mod options;
pub mod tls;
mod words;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use paho::{AsyncClient, PropertyCode, ReasonCode};
use paho_mqtt as paho;

use crate::config::{Mqtt, Version};
use crate::model::message::{Incoming, Message};

/// For the TCP connection that is tried first, for each address of the host.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// From the TCP connection to the CONNACK, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a wait looks whether it has become pointless.
const SLICE: Duration = Duration::from_millis(250);
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ConnectError {
    /// In words, with the setting to look at.
    pub reason: String,
    /// Only a person can end it: wrong credentials, a TLS error.
    pub needs_person: bool,
    /// The broker may speak the other version of the protocol.
    other_version: OtherVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherVersion {
    No,
    /// Closed without a word.
    Perhaps,
    /// The broker said so.
    Yes,
}

/// Why a message was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker ended the connection while the message waited for its acknowledgement.
    #[error("{0}")]
    Closed(String),
    /// The connection was lost for a reason that is not the message's.
    #[error("{0}")]
    Lost(String),
    #[error("no acknowledgement within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The broker refused this content.
    #[error("{0}")]
    Refused(String),
    /// The broker refused for a reason that would hit any content.
    #[error("{0}")]
    Unwelcome(String),
}

/// The end of a connection.
#[derive(Clone, Debug)]
pub struct Loss {
    pub reason: String,
    code: Option<ReasonCode>,
}

impl Loss {
    /// An end that this side has brought about.
    pub fn new(reason: String) -> Loss {
        Loss { reason, code: None }
    }
}

/// Makes connections, one after the other, and remembers what the broker speaks.
pub struct Broker {
    config: Mqtt,
    will: Option<Message>,
    /// Bytes of an incoming payload that are kept.
    keep: usize,
    version: Version,
    v5_has_worked: bool,
}

/// An established connection.
pub struct Connection {
    client: AsyncClient,
    lost: Receiver<Loss>,
    loss: Option<Loss>,
    since: Instant,
    version: Version,
    /// Bytes; what the broker announced in its CONNACK.
    maximum_packet: Option<usize>,
}

impl Broker {
    /// Of incoming messages, payloads of up to `keep` bytes are kept.
    pub fn new(config: &Mqtt, will: Option<Message>, keep: usize) -> Broker {
        let version = if config.version == Version::V311 {
            Version::V311
        } else {
            Version::V5
        };
        Broker {
            config: config.clone(),
            will,
            keep,
            version,
            v5_has_worked: false,
        }
    }

    /// Makes one attempt to connect. Messages that arrive are passed to `on_message`, which
    /// must not block.
    ///
    /// # Errors
    /// The reason in words.
    pub fn connect(
        &mut self,
        on_message: impl FnMut(Incoming) + Send + 'static,
    ) -> Result<Connection, ConnectError> {
        words::reachable(&self.config.host, self.config.port).map_err(|reason| ConnectError {
            reason,
            needs_person: false,
            other_version: OtherVersion::No,
        })?;
        if let Some(tls) = &self.config.tls {
            // Read anew at every connect: a renewed certificate needs no restart.
            tls::check_files(tls).map_err(|reason| ConnectError {
                reason,
                needs_person: true,
                other_version: OtherVersion::No,
            })?;
        }
        let result = self
            .attempt(self.version, on_message)
            .map_err(|error| self.tls_in_words(error));
        if self.config.version == Version::Auto {
            self.version = match &result {
                Ok(connection) if connection.version == Version::V5 => {
                    self.v5_has_worked = true;
                    Version::V5
                }
                Ok(_) => self.version,
                Err(error) => match (self.version, error.other_version) {
                    (Version::V5, OtherVersion::Yes) => Version::V311,
                    // A restart of a broker that is known to speak MQTT 5 closes
                    // connections, too: that is no reason to fall back.
                    (Version::V5, OtherVersion::Perhaps) if !self.v5_has_worked => Version::V311,
                    (Version::V311, OtherVersion::No) => Version::V311,
                    _ => Version::V5,
                },
            };
        }
        result
    }

    /// Finds out whether TLS is the reason, where the library does not say.
    fn tls_in_words(&self, error: ConnectError) -> ConnectError {
        let Some(tls) = self
            .config
            .tls
            .as_ref()
            .filter(|_| error.other_version == OtherVersion::Perhaps)
        else {
            return error;
        };
        match tls::diagnose(&self.config.host, self.config.port, tls) {
            Some(reason) => ConnectError {
                reason,
                needs_person: true,
                other_version: OtherVersion::No,
            },
            None => error,
        }
    }

    /// The version that the next attempt speaks.
    pub fn next_version(&self) -> Version {
        self.version
    }

    fn attempt(
        &self,
        version: Version,
        mut on_message: impl FnMut(Incoming) + Send + 'static,
    ) -> Result<Connection, ConnectError> {
        let client = self.client(version)?;
        let will = self.will.clone();
        let password = self.config.password.read().map_err(|reason| ConnectError {
            reason,
            needs_person: true,
            other_version: OtherVersion::No,
        })?;
        let options =
            options::connect(&self.config, version, &password, will).map_err(words::internal)?;
        let keep = self.keep;
        let (lost_tx, lost) = bounded(1);
        let also_lost = lost_tx.clone();
        client.set_connection_lost_callback(move |_| {
            drop(lost_tx.try_send(Loss {
                reason: "the broker closed the connection".into(),
                code: None,
            }));
        });
        client.set_disconnected_callback(move |_, _, code| {
            let reason = format!(
                "the broker ended the connection: {}",
                words::disconnect(code)
            );
            drop(also_lost.try_send(Loss {
                reason,
                code: Some(code),
            }));
        });
        client.set_message_callback(move |_, message| {
            if let Some(message) = message {
                let payload = message.payload();
                on_message(Incoming {
                    topic: message.topic().to_string(),
                    payload: if payload.len() > keep {
                        Vec::new()
                    } else {
                        payload.to_vec()
                    },
                    bytes: payload.len(),
                    retained: message.retained(),
                    correlation: message
                        .properties()
                        .get_binary(PropertyCode::CorrelationData),
                });
            }
        });
        // Takes the library's lock once, so that whatever went before has come to an end.
        client.is_connected();
        let mut token = client.connect(options);
        let response = library::wait(&mut token, CONNECT_TIMEOUT + TCP_TIMEOUT)
            .unwrap_or(Err(paho::Error::Timeout))
            .map_err(|error| {
                let mut error = words::connect_error(&error);
                let setting = self.config.password.setting();
                error.reason = error.reason.replace("mqtt.password", setting);
                close(&client);
                error
            })?;
        let maximum_packet = response
            .properties()
            .get_int(PropertyCode::MaximumPacketSize);
        Ok(Connection {
            client,
            lost,
            loss: None,
            since: Instant::now(),
            version,
            maximum_packet: maximum_packet
                .and_then(|size| usize::try_from(size).ok())
                .filter(|size| *size > 0),
        })
    }

    fn client(&self, version: Version) -> Result<AsyncClient, ConnectError> {
        static ANCHOR: OnceLock<Option<AsyncClient>> = OnceLock::new();
        ANCHOR.get_or_init(|| {
            library::stop_trace();
            let options = paho::CreateOptionsBuilder::new()
                .persistence(None)
                .client_id("anchor")
                .finalize();
            AsyncClient::new(options).ok()
        });
        AsyncClient::new(options::create(&self.config, version)).map_err(words::internal)
    }
}

impl Connection {
    /// What the broker allows for the payload of a message of QoS 1 to `topic`, in bytes.
    pub fn maximum_payload(&self, topic: &str) -> usize {
        // Fixed header 5, length of the topic 2, packet identifier 2, properties 1.
        self.maximum_packet
            .map_or(usize::MAX, |packet| packet.saturating_sub(topic.len() + 10))
    }

    /// The protocol that is spoken, for people.
    pub fn protocol(&self) -> &'static str {
        if self.version == Version::V5 {
            "MQTT 5"
        } else {
            "MQTT 3.1.1"
        }
    }

    /// How long the connection has stood.
    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// Gets the end of the connection, once. `loss` keeps it.
    pub fn lost(&self) -> &Receiver<Loss> {
        &self.lost
    }

    /// Notes a loss that was taken from `lost`.
    pub fn note_loss(&mut self, loss: Loss) {
        self.loss = Some(loss);
    }

    /// The end of the connection, if it has come.
    pub fn loss(&mut self) -> Option<&Loss> {
        if self.loss.is_none() {
            self.loss = self.lost.try_recv().ok();
        }
        self.loss.as_ref()
    }

    /// Publishes and waits for the confirmation (QoS 1) or until it is written (QoS 0), at
    /// most for `patience`, and no longer than `give_up` allows.
    ///
    /// # Errors
    /// Why the message is not confirmed.
    pub fn publish(
        &mut self,
        message: Message,
        patience: Duration,
        mut give_up: impl FnMut() -> bool,
    ) -> Result<(), PublishError> {
        let begun = Instant::now();
        let large = message.payload.len() > library::UNDIVIDED;
        let slice = if large { library::NUDGE_EVERY } else { SLICE };
        let mut token = self.client.publish(options::message(message));
        loop {
            match library::wait(&mut token, slice) {
                Some(Ok(())) => return Ok(()),
                None => {
                    if large {
                        library::nudge();
                    }
                    if self.loss().is_some() {
                        return Err(self.closed());
                    }
                    if begun.elapsed() >= patience || give_up() {
                        return Err(PublishError::Timeout(begun.elapsed()));
                    }
                }
                Some(Err(paho::Error::ReasonCode(code, _))) => return Err(words::refusal(code)),
                Some(Err(_)) => return Err(self.closed()),
            }
        }
    }

    /// The connection has ended with a message in flight.
    fn closed(&mut self) -> PublishError {
        // The library fails the token before it reports the end of the connection.
        if self.loss.is_none() {
            self.loss = self.lost.recv_timeout(SLICE).ok();
        }
        let (reason, code) = match &self.loss {
            Some(loss) => (loss.reason.clone(), loss.code),
            None => ("the connection to the broker broke".into(), None),
        };
        match code {
            None => PublishError::Closed(reason),
            Some(
                ReasonCode::UnspecifiedError
                | ReasonCode::MalformedPacket
                | ReasonCode::ProtocolError
                | ReasonCode::ImplementationSpecificError,
            ) => PublishError::Closed(reason),
            Some(ReasonCode::PacketTooLarge | ReasonCode::PayloadFormatInvalid) => {
                PublishError::Refused(reason)
            }
            Some(_) => PublishError::Lost(reason),
        }
    }

    /// Subscribes with QoS 1. Under MQTT 5 retained messages are not asked for, and a message
    /// keeps the mark with which it was published.
    ///
    /// # Errors
    /// The reason in words.
    pub fn subscribe(&mut self, filter: &str) -> Result<(), String> {
        let mut token = if self.version == Version::V5 {
            let options =
                paho::SubscribeOptions::new(false, true, paho::RetainHandling::DontSendRetained);
            self.client.subscribe_with_options(filter, 1, options, None)
        } else {
            self.client.subscribe(filter, 1)
        };
        let begun = Instant::now();
        loop {
            match library::wait(&mut token, SLICE) {
                Some(Ok(response))
                    if response
                        .subscribe_response()
                        .is_some_and(|code| code >= 0x80) =>
                {
                    return Err("not authorized".into());
                }
                Some(Ok(_)) => return Ok(()),
                None if self.loss().is_none() && begun.elapsed() < SUBSCRIBE_TIMEOUT => {}
                None => return Err("the broker did not answer".into()),
                Some(Err(paho::Error::ReasonCode(code, _))) => return Err(code.to_string()),
                Some(Err(error)) => return Err(format!("{error:?}")),
            }
        }
    }

    /// Ends the connection in an orderly way if it still stands, within a few seconds.
    pub fn close(self) {
        close(&self.client);
    }
}

fn close(client: &AsyncClient) {
    if client.is_connected() {
        drop(library::wait(
            &mut client.disconnect(None),
            DISCONNECT_TIMEOUT,
        ));
    }
}
