//! One connection as it is on the wire: what went over it, what may still come, and how it ended.
//!
//! The threads of the library report every byte (see `library`), the gate judges, and the owner
//! of the connection asks here what the library does not tell.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::gate::{self, Awaited, Reason, Stage};
use super::unanswered::Unanswered;
use crate::model::failure::{By, Ended};
use crate::model::message::Protocol;

/// The code of a CONNACK for a version that the broker does not speak.
const OTHER_VERSION: u8 = 1;

/// The line of one connection.
#[derive(Debug)]
pub struct Line {
    /// Where the connection goes, whatever the name resolves to by then.
    pub address: SocketAddr,
    /// It is encrypted.
    pub tls: bool,
    version: Protocol,
    traffic: Mutex<Traffic>,
    ended: OnceLock<Ended>,
    tell: Sender<Ended>,
    told: Receiver<Ended>,
}

/// What the wire has shown.
#[derive(Debug)]
struct Traffic {
    awaited: Awaited,
    /// First byte and remaining length of the packet that is arriving.
    head: Vec<u8>,
    /// The code of the CONNACK.
    connack: Option<u8>,
    end: Option<End>,
    unanswered: Unanswered,
}

/// The end of a connection as it was seen on the wire.
#[derive(Clone, Debug)]
pub struct End {
    pub how: How,
    /// All that was sent had reached the broker's side by then.
    pub drained: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// FIN, or the end of the TLS session.
    Closed,
    Reset,
    /// A DISCONNECT with this code.
    Disconnect(u8),
    /// The network said so, after it had tried for long.
    Network(io::ErrorKind),
    /// The broker sent what it must not.
    Gate {
        by: By,
        reason: Reason,
    },
    /// A packet could not be written.
    NotWritten,
    /// A ping was not answered, and what arrives instead does not explain it.
    Unanswered,
}

impl Line {
    pub fn new(address: SocketAddr, version: Protocol, tls: bool, keep_alive: Duration) -> Line {
        let (tell, told) = bounded(1);
        Line {
            address,
            tls,
            version,
            traffic: Mutex::new(Traffic {
                awaited: Awaited::new(version),
                head: Vec::with_capacity(5),
                connack: None,
                end: None,
                unanswered: Unanswered::new(keep_alive),
            }),
            ended: OnceLock::new(),
            tell,
            told,
        }
    }

    /// The address as the library takes it in the place of a name.
    pub fn host(&self) -> String {
        match self.address {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                format!("{}%{}", address.ip(), address.scope_id())
            }
            address => address.ip().to_string(),
        }
    }

    /// A panic inside is no reason for a second one in a thread of the library.
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A packet is about to be written.
    pub fn sending(&self, first: u8, parts: &[&[u8]]) {
        self.traffic().awaited.sending(first, parts);
    }

    /// The last packet was written: as a whole, or in part.
    pub fn written(&self, whole: bool) {
        self.traffic().awaited.written(whole);
    }

    pub fn is_half_written(&self) -> bool {
        self.traffic().awaited.is_half_written()
    }

    /// A byte of the head of a packet has arrived. `false`: it must not go on.
    pub fn head_byte(&self, byte: u8) -> bool {
        let mut traffic = self.traffic();
        traffic.head.push(byte);
        let first_byte = traffic.head[0];
        let (remaining, verdict) = match traffic.head[..] {
            [_, _, .., 0] => {
                let words = "a length that is longer than it has to be";
                (0, Err(Reason(words.into())))
            }
            [first, .., last] if last & 128 == 0 => {
                let remaining = traffic.head[1..]
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 7 | usize::from(byte & 127));
                let verdict = if remaining == 0 {
                    // Nothing else will be read: the library takes it at once.
                    traffic.head.clear();
                    traffic.take(self.version, first, &[], false)
                } else {
                    gate::check_head(self.version, &traffic.awaited, first, remaining)
                };
                (remaining, verdict)
            }
            [_, _, _, _, _] => (0, Err(Reason("a length of more than four bytes".into()))),
            _ => (0, Ok(())),
        };
        traffic.refuse(first_byte, remaining, verdict)
    }

    /// Nothing more is there for now; the library begins again with the head.
    pub fn head_again(&self) {
        self.traffic().head.clear();
    }

    /// A whole packet has arrived, and is made light. `drained`: all that was sent has reached the
    /// other side. `false`: the packet must not go on.
    pub fn body(&self, body: &mut [u8], drained: impl FnOnce() -> bool) -> bool {
        let mut traffic = self.traffic();
        let Some(first) = traffic.head.first().copied() else {
            return false;
        };
        traffic.head.clear();
        let drained = gate::kind(first) == gate::DISCONNECT && drained();
        let verdict = traffic.take(self.version, first, body, drained);
        if verdict.is_ok() && self.version == Protocol::V5 {
            gate::lighten(first, body);
        }
        traffic.refuse(first, body.len(), verdict)
    }

    /// The connection has come to an end on the wire. The first report is the cause.
    pub fn ends(&self, how: How, drained: bool) {
        self.traffic().end.get_or_insert(End { how, drained });
    }

    pub fn end(&self) -> Option<End> {
        self.traffic().end.clone()
    }

    pub fn stage(&self) -> Stage {
        self.traffic().awaited.stage()
    }

    /// The code of the CONNACK, if it came.
    pub fn connack(&self) -> Option<u8> {
        self.traffic().connack
    }

    /// Something may be read, or was written. Whether the connection is to be given up because a ping
    /// is unanswered for too long. `moved`: bytes on the connection so far, both ways.
    pub fn is_unanswered(&self, now: Instant, moved: impl FnOnce() -> Option<u64>) -> bool {
        let mut traffic = self.traffic();
        if !traffic.awaited.is_pinged() || traffic.awaited.unconfirmed().is_some() {
            // A message that is not acknowledged in time ends the connection as well.
            traffic.unanswered.over();
            return false;
        }
        let too_long = moved().is_some_and(|moved| traffic.unanswered.is_too_long(now, moved));
        if too_long {
            let how = How::Unanswered;
            let drained = false;
            traffic.end.get_or_insert(End { how, drained });
        }
        too_long
    }

    /// Messages sent so far.
    pub fn published(&self) -> u64 {
        self.traffic().awaited.published()
    }

    /// The number of the PUBLISH that waits for its acknowledgement.
    pub fn unconfirmed(&self) -> Option<u64> {
        self.traffic().awaited.unconfirmed()
    }

    /// Whether a packet that was sent later has been answered.
    pub fn answered_after(&self, number: u64) -> bool {
        self.traffic().awaited.answered_after(number)
    }

    /// The library has given the connection up: says so to whoever waits for it.
    pub fn over(&self) {
        let ended = self.ended.get_or_init(|| self.in_words());
        drop(self.tell.try_send(ended.clone()));
    }

    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// Gets the end, once.
    pub fn told(&self) -> &Receiver<Ended> {
        &self.told
    }

    fn in_words(&self) -> Ended {
        let (by, reason) = match self.end().map(|end| end.how) {
            Some(How::Closed) => (By::Broker, "the broker closed the connection".into()),
            Some(How::Reset) => (By::Broker, "the broker reset the connection".into()),
            Some(How::Disconnect(code)) => {
                let words = super::words::disconnect(code);
                (
                    By::Broker,
                    format!("the broker ended the connection: {words}"),
                )
            }
            Some(How::Gate { by, reason }) => (
                by,
                format!("the broker sent what it must not: {reason}; the connection is made anew"),
            ),
            Some(How::Network(kind)) => (By::Line, format!("the network gave up: {kind}")),
            Some(How::Unanswered) => (
                By::Line,
                "the broker did not answer a ping within the keep alive time, whatever else it sent (see mqtt.keepalive_seconds)"
                    .into(),
            ),
            Some(How::NotWritten) => (By::Line, "the connection to the broker broke".into()),
            None if self.is_half_written() => {
                (By::Line, "the connection to the broker broke".into())
            }
            None => (
                By::Line,
                "the broker was not heard within the keep alive time (see mqtt.keepalive_seconds)"
                    .into(),
            ),
        };
        Ended { by, reason }
    }
}

impl Traffic {
    fn take(
        &mut self,
        version: Protocol,
        first: u8,
        body: &[u8],
        drained: bool,
    ) -> Result<(), Reason> {
        if gate::kind(first) == gate::CONNACK && version == Protocol::V5 && matches!(body, [_, 0]) {
            // It says yes, but in the older version.
            self.connack = Some(OTHER_VERSION);
        }
        gate::check(version, &self.awaited, first, body)?;
        self.awaited.received(first, body);
        match gate::kind(first) {
            gate::CONNACK => self.connack = body.get(1).copied(),
            gate::DISCONNECT => {
                let how = How::Disconnect(body.first().copied().unwrap_or(0));
                self.end.get_or_insert(End { how, drained });
            }
            _ => {}
        }
        Ok(())
    }

    /// `remaining`: the length that its head has announced.
    fn refuse(&mut self, first: u8, remaining: usize, verdict: Result<(), Reason>) -> bool {
        let Err(reason) = verdict else {
            return true;
        };
        self.head.clear();
        let by = match gate::may_be_subscribed(&self.awaited, first, remaining) {
            true => By::GateMessage,
            false => By::Gate,
        };
        self.end.get_or_insert(End {
            how: How::Gate { by, reason },
            drained: false,
        });
        false
    }
}
