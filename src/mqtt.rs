//! Every call of the Paho library, and no other place has one.
//!
//! The library is sound as long as it is used in a narrow way, and this module is that way:
//! - exactly one message is in flight; more than one and a closing broker crash the process;
//! - a client is used for one connection and thrown away with it, so that nothing that it
//!   still holds is sent later out of order; nothing is persisted;
//! - the library never reconnects by itself;
//! - one idle client always exists, because destroying the last one leaks descriptors;
//! - name resolution and the TCP connection are tried before, with a time-out of our own: the
//!   library does the first under a global lock, and its errors do not say what went wrong; it
//!   then goes to the address that was reached, and to no other;
//! - what arrives passes a gate before the library sees it;
//! - no wait is without an end, on the monotonic clock;
//! - callbacks run under a global lock and only `try_send`.
//!
//! Nothing is decided here: which version to speak, when to try again, whose turn it is.

mod connection;
pub mod gate;
mod library;
pub mod line;
mod options;
mod registry;
mod socket;
pub mod tls;
mod unanswered;
mod waiting;
mod words;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use paho::{AsyncClient, ConnectToken, PropertyCode, ServerResponse};
use paho_mqtt as paho;

pub use self::connection::Connection;

use self::connection::Client;
use self::gate::Stage;
use self::library::Registration;
use self::line::{How, Line};
use crate::config::Mqtt;
use crate::model::connection::{Attempt, NoConnection, NoConnectionKind};
use crate::model::failure::By;
use crate::model::message::{Incoming, Message, Protocol};
use crate::net;

/// For the TCP connection that is tried first, for each address of the host.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// For the name and all addresses together.
const REACH_TIMEOUT: Duration = Duration::from_secs(60);
/// The diagnosis of a TLS failure, all steps together.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(20);
/// What the library may need to notice that it has been cut off.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

impl NoConnection {
    fn given_up() -> NoConnection {
        NoConnection::new(NoConnectionKind::GivenUp, "the attempt was given up")
    }
}

/// Makes connections, and remembers nothing of them.
pub struct Broker {
    config: Mqtt,
    will: Option<Message>,
    /// Bytes of an incoming payload that are kept.
    keep: usize,
}

impl Broker {
    /// Of incoming messages, payloads of up to `keep` bytes are kept.
    pub fn new(config: &Mqtt, will: Option<Message>, keep: usize) -> Broker {
        Broker {
            config: config.clone(),
            will,
            keep,
        }
    }

    /// Makes one attempt to connect. Messages that arrive are passed to `on_message`, which
    /// must not block. `give_up` is asked at least four times a second.
    ///
    /// # Errors
    /// What kind of failure it is, and the reason in words.
    pub fn connect(
        &self,
        attempt: &Attempt,
        on_message: impl FnMut(Incoming) + Send + 'static,
        mut give_up: impl FnMut() -> bool,
    ) -> Result<Connection, NoConnection> {
        let address = self.reach(&mut give_up)?;
        if let Some(tls) = &self.config.tls {
            // Read anew at every connect: a renewed certificate needs no restart.
            tls::check_files(tls)
                .map_err(|reason| NoConnection::new(NoConnectionKind::NeedsPerson, reason))?;
        }
        let line = Arc::new(Line::new(
            address,
            attempt.protocol,
            self.config.tls.is_some(),
            attempt.keep_alive,
        ));
        let result = self.shake_hands(attempt, &line, on_message, &mut give_up);
        result.map_err(|error| self.tls_in_words(error, address, &mut give_up))
    }

    /// Finds the address to go to.
    fn reach(&self, give_up: &mut dyn FnMut() -> bool) -> Result<SocketAddr, NoConnection> {
        let (host, port) = (self.config.host.clone(), self.config.port);
        let begun = Instant::now();
        match net::aside(REACH_TIMEOUT, give_up, move || {
            net::reach(&host, port, TCP_TIMEOUT)
        }) {
            Some(reached) => reached.map_err(|why| words::unreached(&self.config.host, why)),
            None if begun.elapsed() < REACH_TIMEOUT => Err(NoConnection::given_up()),
            None => Err(NoConnection::new(
                NoConnectionKind::Unreachable,
                format!(
                    "the name {:?} was not resolved, or its addresses not reached, within {} s (see mqtt.host, and the DNS of the device)",
                    self.config.host,
                    REACH_TIMEOUT.as_secs()
                ),
            )),
        }
    }

    /// Finds out whether TLS is the reason, where the library does not say.
    fn tls_in_words(
        &self,
        error: NoConnection,
        address: SocketAddr,
        give_up: &mut dyn FnMut() -> bool,
    ) -> NoConnection {
        let Some(tls) = self.config.tls.clone() else {
            return error;
        };
        if error.kind != NoConnectionKind::Closed {
            return error;
        }
        let host = self.config.host.clone();
        let diagnosis = net::aside(DIAGNOSIS_TIMEOUT, give_up, move || {
            tls::diagnose(&host, address, &tls)
        });
        match diagnosis.flatten() {
            Some(reason) => NoConnection::new(NoConnectionKind::NeedsPerson, reason),
            None => error,
        }
    }

    /// TCP, TLS and CONNECT, to an address that is known to answer.
    fn shake_hands(
        &self,
        attempt: &Attempt,
        line: &Arc<Line>,
        on_message: impl FnMut(Incoming) + Send + 'static,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<Connection, NoConnection> {
        let registration = Registration::new(line.clone());
        let client = Client(self.client(attempt, &registration)?);
        // The other way round: the line is taken from the library before the client goes.
        let registration = registration;
        let will = self.will.clone().filter(|_| attempt.will);
        let password = self
            .config
            .password
            .read()
            .map_err(|reason| NoConnection::new(NoConnectionKind::NeedsPerson, reason))?;
        let options =
            options::connect(&self.config, attempt, &password, will).map_err(words::internal)?;
        self.listen(&client.0, line, on_message);
        // Takes the library's lock once, so that whatever went before has come to an end.
        client.0.is_connected();
        let mut token = client.0.connect(options);
        let answer = await_connack(&mut token, &registration, attempt.patience, give_up)?;
        let response = answer.map_err(|_| self.no_connack(attempt.protocol, line))?;
        if line.stage() != Stage::Connected {
            let reason =
                "what arrives does not pass the gate: the program was not linked as build.rs says";
            return Err(NoConnection::new(NoConnectionKind::Gate, reason));
        }
        let announced = response.properties();
        if announced.get_int(PropertyCode::MaximumQos) == Some(0) {
            return Err(words::no_qos_1());
        }
        let maximum_packet = announced
            .get_int(PropertyCode::MaximumPacketSize)
            .and_then(|size| usize::try_from(size as u32).ok());
        // Where it says nothing, it does.
        let retains = response.properties().get_int(PropertyCode::RetainAvailable) != Some(0);
        Ok(Connection::new(
            registration,
            line.clone(),
            client,
            attempt.protocol,
            (maximum_packet, retains),
        ))
    }

    /// The library has given up without a CONNACK that says yes: what was it?
    fn no_connack(&self, version: Protocol, line: &Line) -> NoConnection {
        if let Some(code) = line.connack().filter(|code| *code != 0) {
            return words::connack(version, code, self.config.password.setting());
        }
        line.over();
        match (line.ended(), line.end().map(|end| end.how)) {
            (Some(ended), _) if matches!(ended.by, By::Gate | By::GateMessage) => {
                NoConnection::new(NoConnectionKind::Gate, ended.reason.clone())
            }
            (_, Some(How::Network(kind))) => NoConnection::new(
                NoConnectionKind::Unreachable,
                format!("the network gave up: {kind}"),
            ),
            _ => NoConnection::new(
                NoConnectionKind::Closed,
                "the connection was closed before the broker answered the connect request; does this port speak TLS, or another protocol? (see mqtt.port, mqtt.tls_enable)",
            ),
        }
    }

    /// Leads what the library tells to those who wait for it.
    fn listen(
        &self,
        client: &AsyncClient,
        line: &Arc<Line>,
        mut on_message: impl FnMut(Incoming) + Send + 'static,
    ) {
        let keep = self.keep;
        let ended = line.clone();
        client.set_connection_lost_callback(move |_| ended.over());
        let ended = line.clone();
        client.set_disconnected_callback(move |_, _, _| ended.over());
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
    }

    fn client(
        &self,
        attempt: &Attempt,
        registration: &Registration,
    ) -> Result<AsyncClient, NoConnection> {
        static ANCHOR: OnceLock<Option<AsyncClient>> = OnceLock::new();
        ANCHOR.get_or_init(|| {
            library::stop_trace();
            let options = paho::CreateOptionsBuilder::new()
                .persistence(None)
                .client_id("anchor")
                .finalize();
            AsyncClient::new(options).ok()
        });
        let options = options::create(&self.config, attempt.protocol, registration.number);
        AsyncClient::new(options).map_err(words::internal)
    }
}

/// Waits for what becomes of a connect request, for `patience` and as long as it is wanted.
fn await_connack(
    token: &mut ConnectToken,
    registration: &Registration,
    patience: Duration,
    give_up: &mut dyn FnMut() -> bool,
) -> Result<paho::Result<ServerResponse>, NoConnection> {
    let begun = Instant::now();
    let failure = loop {
        if let Some(result) = waiting::wait(token, net::SLICE) {
            return Ok(result);
        }
        if give_up() {
            break NoConnection::given_up();
        }
        if begun.elapsed() >= patience {
            break silent(patience);
        }
    };
    // The library forgets what belongs to the attempt only when it has failed.
    registration.cut();
    drop(waiting::wait(token, CUT_TIMEOUT));
    Err(failure)
}

fn silent(patience: Duration) -> NoConnection {
    let seconds = patience.as_secs();
    NoConnection::new(
        NoConnectionKind::Silent,
        format!("the broker did not answer the connect request within {seconds} s"),
    )
}
