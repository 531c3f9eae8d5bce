//! The client of the broker as the link sees it, and the network between: what the MQTT library
//! and the room around it would report.

use std::io::Read;
use std::time::{Duration, Instant};

use mqtt_handler::link::{Attempt, Input, NoConnection, NoConnectionKind, NotSubscribed};
use mqtt_handler::model::failure::{By, Cause, Ended, Undelivered};
use mqtt_handler::model::message::{Message, Protocol};
use mqtt_handler::model::packet::packet_size;

use crate::queue::Event;
use crate::schedule::Trigger;
use crate::stream::Uid;
use crate::world::World;

/// How long the room waits for the answer to a probe, if not less for the message itself.
const PROBE: Duration = Duration::from_secs(10);

/// What is wrong with the network; each is counted, because faults overlap.
#[derive(Debug, Default)]
pub struct Net {
    pub refused: u32,
    pub hole_up: u32,
    pub hole_down: u32,
    pub late: u32,
    pub slow: u32,
    pub times_out: u32,
    pub stalled_up: Vec<(u64, Packet)>,
    pub stalled_down: Vec<(u64, Reply)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Values,
    Latest,
    Status,
    Reply,
}

#[derive(Clone, Debug)]
pub struct Publication {
    pub operation: u64,
    pub kind: Kind,
    pub uids: Vec<Uid>,
    /// The newest measurement, by itself.
    pub latest: Option<Uid>,
    /// Of the whole packet.
    pub bytes: usize,
    pub qos: i32,
}

#[derive(Clone, Debug)]
pub enum Packet {
    Publish(Publication),
    Subscribe { operation: u64 },
    Probe { operation: u64 },
}

#[derive(Clone, Debug)]
pub enum Reply {
    Acknowledged(u64),
    Refused(u64, Cause, String),
    Subscribed(u64, bool),
    Probed(u64),
    /// What a broker must not send: this side ends the connection.
    Forbidden,
    /// The broker ends the connection; what that means for what is in flight.
    End {
        cause: Cause,
        reason: String,
    },
}

#[derive(Default)]
pub struct Client {
    number: u64,
    pub connection: Option<Connection>,
    pub operation: Option<Operation>,
    /// What there was no link for.
    pub heard: Vec<Input>,
    /// Subscriptions on this connection that are not waited for any longer, and answers to them.
    open: Vec<(u64, String)>,
    late: Vec<Input>,
    /// Nothing overtakes on a connection.
    last_up: Option<Instant>,
    last_down: Option<Instant>,
}

pub struct Connection {
    pub id: u64,
    pub protocol: Protocol,
    keep_alive: Duration,
    heard: Instant,
    ended: Option<Ended>,
    /// The link knows of its end.
    told: bool,
}

pub struct Operation {
    pub number: u64,
    pub doing: Doing,
}

pub enum Doing {
    Connecting(Attempt),
    Subscribing(String),
    Publishing {
        publication: Publication,
        patience: Duration,
        written: bool,
        probe: bool,
        probing: bool,
    },
}

impl World {
    fn latency(&mut self) -> Duration {
        let late = if self.net.late > 0 { 150_000 } else { 0 };
        self.random.micros(500 + late, 20_000 + late)
    }

    fn begin(&mut self, doing: Doing, patience: Duration) -> u64 {
        self.client.number += 1;
        let number = self.client.number;
        self.client.operation = Some(Operation { number, doing });
        let at = self.now + patience;
        self.queue.push(at, Event::OperationPatience(number));
        number
    }

    fn doing(&mut self, number: u64) -> Option<&mut Doing> {
        let operation = self.client.operation.as_mut()?;
        (operation.number == number).then_some(&mut operation.doing)
    }

    pub fn connect(&mut self, attempt: Attempt) {
        self.watch_attempt();
        let number = self.begin(Doing::Connecting(attempt), attempt.patience);
        let at = self.now + self.latency() * 2;
        self.queue.push(at, Event::Handshake(number));
    }

    pub fn handshake(&mut self, number: u64) {
        let Some(Doing::Connecting(attempt)) = self.doing(number) else {
            return;
        };
        let attempt = *attempt;
        self.trip(Trigger::Handshake);
        if self.net.refused > 0 || self.broker.mood.down > 0 {
            return self.no_connection(NoConnectionKind::Unreachable);
        }
        if self.net.hole_up + self.net.hole_down + self.broker.mood.frozen > 0 {
            // TCP tries again, and a broker that was stopped finds what has come meanwhile.
            let at = self.now + Duration::from_millis(700);
            return self.queue.push(at, Event::Handshake(number));
        }
        match self.broker.greets(&attempt) {
            None => {}
            Some(Err(kind)) => self.no_connection(kind),
            Some(Ok(())) => self.is_connected(&attempt),
        }
    }

    pub fn no_connection(&mut self, kind: NoConnectionKind) {
        if let Some(Doing::Connecting(attempt)) = self.client.operation.as_ref().map(|o| &o.doing) {
            let protocol = attempt.protocol;
            self.handshake_failed(protocol, kind);
        }
        let reason = format!("{kind:?}");
        self.finish(Input::NotConnected(NoConnection { kind, reason }));
    }

    fn is_connected(&mut self, attempt: &Attempt) {
        self.client.number += 1;
        let id = self.client.number;
        self.broker.session = Some((id, attempt.protocol));
        self.broker.subscribed = 0;
        // Another connection of the same client: what was on its way on the old one is void.
        self.net.stalled_up.clear();
        self.net.stalled_down.clear();
        self.broker.stalled.clear();
        self.client.connection = Some(Connection {
            id,
            protocol: attempt.protocol,
            keep_alive: attempt.keep_alive,
            heard: self.now,
            ended: None,
            told: false,
        });
        let at = self.now + attempt.keep_alive / 2;
        self.queue.push(at, Event::KeepAlive(id));
        self.handshake_worked(attempt.protocol);
        let maximum_packet = self.broker.announces(attempt.protocol);
        self.finish(Input::Connected {
            maximum_packet,
            retains: true,
        });
    }

    pub fn subscribe(&mut self, filter: String, patience: Duration) {
        let operation = self.begin(Doing::Subscribing(filter), patience);
        self.send(Packet::Subscribe { operation });
    }

    /// A message that waits ends the wait for a subscription.
    pub fn a_message_waits(&mut self) {
        match self.client.operation.as_ref().map(|o| &o.doing) {
            Some(Doing::Subscribing(_)) => self.subscription_stays_open(),
            _ => self.publisher_runs(),
        }
    }

    fn subscription_stays_open(&mut self) {
        let operation = self.client.operation.take();
        if let Some(Operation {
            number,
            doing: Doing::Subscribing(filter),
        }) = operation
        {
            self.client.open.push((number, filter));
        }
        self.finish(Input::Subscribed(Err(NotSubscribed::Silent)));
    }

    pub fn take_in_late(&mut self) {
        for input in std::mem::take(&mut self.client.late) {
            self.link_takes(input);
        }
    }

    fn send(&mut self, packet: Packet) {
        let at = self.now + self.latency();
        let at = self.client.last_up.map_or(at, |last| at.max(last));
        self.client.last_up = Some(at);
        if let Some(connection) = &self.client.connection {
            self.queue.push(at, Event::ToBroker(connection.id, packet));
        }
    }

    pub fn publish(&mut self, message: &Message, patience: Duration, probe: bool) {
        let connection = self.client.connection.as_ref();
        let Some(protocol) = connection.map(|connection| connection.protocol) else {
            return;
        };
        let kind = match message.topic.as_str() {
            "values" => Kind::Values,
            "latest" => Kind::Latest,
            "status" => Kind::Status,
            _ => Kind::Reply,
        };
        self.watch_protocol(protocol, kind);
        if kind == Kind::Latest {
            self.watch_latest();
        }
        let bytes = packet_size(message, protocol);
        let publication = Publication {
            operation: self.client.number + 1,
            kind,
            uids: match kind {
                Kind::Values => uids(&message.payload),
                _ => Vec::new(),
            },
            latest: match kind {
                Kind::Latest => uids(&message.payload).first().copied(),
                _ => None,
            },
            bytes,
            qos: message.qos,
        };
        let doing = Doing::Publishing {
            publication,
            patience,
            written: false,
            probe,
            probing: false,
        };
        let number = self.begin(doing, patience);
        let time = if self.net.slow > 0 {
            Duration::from_secs_f64(bytes as f64 / 2000.0)
        } else {
            Duration::from_micros(20)
        };
        self.queue.push(self.now + time, Event::Written(number));
        if kind == Kind::Values {
            self.trip(Trigger::Published);
        }
    }

    /// The whole packet is on its way.
    pub fn written(&mut self, number: u64) {
        let Some(Doing::Publishing {
            publication,
            written,
            ..
        }) = self.doing(number)
        else {
            return;
        };
        if std::mem::replace(written, true) {
            return;
        }
        let publication = publication.clone();
        if self.net.times_out > 0 && publication.uids.len() == 1 {
            return self.ends(By::Line, Cause::Lost, "keep-alive time-out");
        }
        let qos = publication.qos;
        self.send(Packet::Publish(publication));
        if qos == 0 {
            self.finish(Input::Published(Ok(())));
        }
    }

    /// The line is as fast as before: what was being written is through.
    pub fn line_is_fast(&mut self) {
        if let Some(operation) = &self.client.operation {
            self.queue.push(self.now, Event::Written(operation.number));
        }
    }

    pub fn client_hears(&mut self, conn: u64, reply: Reply) {
        let at = self.now + self.latency();
        let at = self.client.last_down.map_or(at, |last| at.max(last));
        self.client.last_down = Some(at);
        self.queue.push(at, Event::ToClient(conn, reply));
    }

    pub fn client_receives(&mut self, conn: u64, reply: Reply) {
        if self.net.hole_down > 0 {
            return self.net.stalled_down.push((conn, reply));
        }
        let now = self.now;
        let Some(connection) = &mut self.client.connection else {
            return;
        };
        if connection.id != conn || connection.ended.is_some() {
            return;
        }
        connection.heard = now;
        match reply {
            Reply::Acknowledged(number) => self.acknowledged(number),
            Reply::Refused(number, cause, words) => {
                if self.doing(number).is_some() {
                    self.not_published(cause, &words);
                }
            }
            Reply::Subscribed(number, yes) => {
                let result = if yes {
                    Ok(())
                } else {
                    Err(NotSubscribed::Refused("0x87".into()))
                };
                if self.doing(number).is_some() {
                    return self.finish(Input::Subscribed(result));
                }
                let mut open = self.client.open.iter();
                if let Some(nth) = open.position(|(open, _)| *open == number) {
                    let (_, filter) = self.client.open.remove(nth);
                    let late = Input::SubscribedLate { filter, result };
                    self.client.late.push(late);
                }
            }
            Reply::Probed(number) => {
                if self.doing(number).is_some() {
                    self.not_published(Cause::Silent { answers: true }, "no acknowledgement");
                }
            }
            Reply::Forbidden => self.ends(By::Gate, Cause::Lost, "what it must not"),
            Reply::End { cause, reason } => self.ends(By::Broker, cause, &reason),
        }
    }

    fn acknowledged(&mut self, number: u64) {
        let Some(Doing::Publishing { publication, .. }) = self.doing(number) else {
            return;
        };
        for uid in std::mem::take(&mut publication.uids) {
            self.ledger.confirmed(uid);
        }
        self.trip(Trigger::Acknowledged);
        self.finish(Input::Published(Ok(())));
    }

    fn not_published(&mut self, cause: Cause, reason: &str) {
        self.note_repeat(cause);
        self.finish(Input::Published(Err(Undelivered::new(cause, reason))));
    }

    /// The connection has ended. `cause`: for what is in flight and was written.
    pub fn ends(&mut self, by: By, cause: Cause, reason: &str) {
        let Some(connection) = &mut self.client.connection else {
            return;
        };
        if connection.ended.is_some() {
            return;
        }
        let ended = Ended {
            by,
            reason: reason.into(),
        };
        connection.ended = Some(ended.clone());
        match self.client.operation.as_ref().map(|o| &o.doing) {
            Some(Doing::Publishing { written, .. }) => {
                let cause = if *written { cause } else { Cause::Lost };
                self.not_published(cause, reason);
            }
            Some(Doing::Subscribing(_)) => {
                self.finish(Input::Subscribed(Err(NotSubscribed::Ended(ended))));
            }
            Some(Doing::Connecting(_)) => {}
            None => self.publisher_runs(),
        }
    }

    /// The client has given up waiting.
    pub fn out_of_patience(&mut self, number: u64) {
        let hole = self.net.hole_up + self.net.hole_down > 0;
        let stopping = self.device.stopping.is_some();
        match self.doing(number) {
            None => {}
            Some(Doing::Connecting(_)) if hole => {
                self.no_connection(NoConnectionKind::Unreachable);
            }
            Some(Doing::Connecting(_)) => self.no_connection(NoConnectionKind::Silent),
            Some(Doing::Subscribing(_)) => self.subscription_stays_open(),
            Some(Doing::Publishing {
                probe: true,
                probing,
                patience,
                written: true,
                ..
            }) if !*probing && !stopping => {
                *probing = true;
                let patience = PROBE.min(*patience);
                self.send(Packet::Probe { operation: number });
                let at = self.now + patience;
                self.queue.push(at, Event::OperationPatience(number));
            }
            Some(Doing::Publishing { .. }) => {
                self.not_published(Cause::Silent { answers: false }, "no acknowledgement");
            }
        }
    }

    /// Tells the link what became of what it wanted, after an end that came meanwhile.
    fn finish(&mut self, input: Input) {
        self.client.operation = None;
        if matches!(input, Input::Published(_)) {
            self.take_in_late();
        }
        self.take_in_end();
        self.link_takes(input);
        self.publisher_runs();
    }

    pub fn take_in_end(&mut self) {
        if let Some(connection) = &mut self.client.connection {
            if let Some(ended) = connection.ended.clone().filter(|_| !connection.told) {
                connection.told = true;
                self.link_takes(Input::Ended(ended));
            }
        }
    }

    /// Pings: whether anything was heard of the broker.
    pub fn keep_alive(&mut self, conn: u64) {
        let writing = matches!(
            self.client.operation.as_ref().map(|o| &o.doing),
            Some(Doing::Publishing { written: false, .. })
        );
        let session = self.broker.session.is_some_and(|(id, _)| id == conn);
        let good = self.net.hole_up + self.net.hole_down + self.broker.mood.frozen == 0
            && session
            && !writing;
        let now = self.now;
        let Some(connection) = &mut self.client.connection else {
            return;
        };
        if connection.id != conn || connection.ended.is_some() {
            return;
        }
        if good {
            connection.heard = now;
        }
        let keep_alive = connection.keep_alive;
        if now - connection.heard >= keep_alive.mul_f64(1.5) {
            return self.ends(By::Line, Cause::Lost, "keep-alive time-out");
        }
        self.queue
            .push(now + keep_alive / 2, Event::KeepAlive(conn));
    }

    /// The link gives the connection up.
    pub fn close(&mut self) {
        (self.client.open, self.client.late) = (Vec::new(), Vec::new());
        if let Some(connection) = self.client.connection.take() {
            let at = self.now + self.latency();
            let at = self.client.last_up.map_or(at, |last| at.max(last));
            self.queue.push(at, Event::BrokerSeesEnd(connection.id));
        }
    }

    pub fn broker_sees_end(&mut self, conn: u64) {
        if self.net.hole_up == 0 && self.broker.session.is_some_and(|(id, _)| id == conn) {
            self.broker.session = None;
        }
    }

    /// The path is whole again: what was underway arrives.
    pub fn heal(&mut self) {
        if self.net.hole_up == 0 {
            for (conn, packet) in std::mem::take(&mut self.net.stalled_up) {
                self.queue.push(self.now, Event::ToBroker(conn, packet));
            }
        }
        if self.net.hole_down == 0 {
            for (conn, reply) in std::mem::take(&mut self.net.stalled_down) {
                self.queue.push(self.now, Event::ToClient(conn, reply));
            }
        }
    }
}

/// The measurements in a payload, by the number that each carries.
pub fn uids(payload: &[u8]) -> Vec<Uid> {
    let mut unpacked = Vec::new();
    if payload.starts_with(&[0x1f, 0x8b]) {
        let mut member = flate2::read::GzDecoder::new(payload);
        member.read_to_end(&mut unpacked).expect("a gzip member");
    }
    if unpacked.is_empty() {
        unpacked.extend_from_slice(payload);
    }
    marked(&unpacked)
}

fn marked(payload: &[u8]) -> Vec<Uid> {
    const MARK: &[u8] = b"\"n\":\"";
    let mut found = Vec::new();
    let mut at = 0;
    while at + MARK.len() < payload.len() {
        if !payload[at..].starts_with(MARK) {
            at += 1;
            continue;
        }
        at += MARK.len();
        let mut uid = 0;
        while payload[at].is_ascii_digit() {
            uid = uid * 10 + usize::from(payload[at] - b'0');
            at += 1;
        }
        found.push(uid);
    }
    found
}
