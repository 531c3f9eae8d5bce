//! A broker in memory: what it takes, what it refuses and how, and what it never answers.

use mqtt_handler::link::{Attempt, NoConnectionKind};
use mqtt_handler::model::failure::Cause;
use mqtt_handler::model::message::Protocol;

use crate::client::{Kind, Packet, Publication, Reply};
use crate::ledger::Poison;
use crate::schedule::{Fault, Trigger};
use crate::stream::Uid;
use crate::world::World;

/// How it takes MQTT 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Five,
    /// 3.1.1 alone: it says so, closes the connection, or does not answer.
    OldSays,
    OldCloses,
    OldSilent,
}

/// The largest packet that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    None,
    /// Announced where the protocol can do that.
    Announced(usize),
    /// Not announced: it closes the connection, or says 0x95 and closes.
    Closes(usize),
    Says(usize),
    /// Not announced: it does not take the message, and goes on; MQTT 3.1.1 has no word for that.
    Refuses(usize),
}

impl Limit {
    pub fn bytes(self) -> usize {
        match self {
            Limit::None => usize::MAX,
            Limit::Announced(bytes)
            | Limit::Closes(bytes)
            | Limit::Says(bytes)
            | Limit::Refuses(bytes) => bytes,
        }
    }
}

/// How it answers what it does not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Refuses,
    Closes,
    Silent,
}

/// What is wrong at the moment; each is counted, because faults overlap.
#[derive(Debug, Default)]
pub struct Mood {
    pub down: u32,
    pub frozen: u32,
    /// Takes everything and acknowledges nothing.
    pub deaf: u32,
    pub forbids_values: u32,
    pub refuses: u32,
    pub quota: u32,
    /// Handshakes that will be cut.
    pub cuts: u32,
    /// Handshakes of MQTT 5 are not answered.
    pub silent_to_five: u32,
    pub bad_credentials: u32,
    pub unavailable: u32,
    pub refuses_subscriptions: u32,
    /// After each list that it has taken: sends what it must not, or ends the connection.
    pub misbehaves: u32,
    pub hangs_up: u32,
}

pub struct Broker {
    pub speaks: Speaks,
    pub limit: Limit,
    pub status: Option<Manner>,
    /// It closes the connection on the newest measurement; what it keeps of that.
    pub latest_closes: bool,
    pub latest: Option<Uid>,
    pub subscriptions: Option<Manner>,
    pub mood: Mood,
    /// The connection that it serves.
    pub session: Option<(u64, Protocol)>,
    /// Filters that are subscribed there.
    pub subscribed: usize,
    /// What has arrived while it was frozen.
    pub stalled: Vec<(u64, Packet)>,
}

impl Broker {
    pub fn new(speaks: Speaks, limit: Limit) -> Broker {
        Broker {
            speaks,
            limit,
            status: None,
            latest_closes: false,
            latest: None,
            subscriptions: None,
            mood: Mood::default(),
            session: None,
            subscribed: 0,
            stalled: Vec::new(),
        }
    }

    /// Answers a CONNECT; `None`: never.
    pub fn greets(&mut self, attempt: &Attempt) -> Option<Result<(), NoConnectionKind>> {
        let five = attempt.protocol == Protocol::V5;
        if self.mood.cuts > 0 {
            self.mood.cuts -= 1;
            return Some(Err(NoConnectionKind::Closed));
        }
        if five && self.mood.silent_to_five > 0 {
            return None;
        }
        match self.speaks {
            Speaks::OldSays if five => return Some(Err(NoConnectionKind::OtherVersion)),
            Speaks::OldCloses if five => return Some(Err(NoConnectionKind::Closed)),
            Speaks::OldSilent if five => return None,
            _ => {}
        }
        if self.mood.bad_credentials > 0 {
            return Some(Err(NoConnectionKind::NeedsPerson));
        }
        if self.mood.unavailable > 0 {
            return Some(Err(NoConnectionKind::Refused));
        }
        Some(Ok(()))
    }

    /// What the CONNACK announces.
    pub fn announces(&self, protocol: Protocol) -> Option<usize> {
        match self.limit {
            Limit::Announced(bytes) if protocol == Protocol::V5 => Some(bytes),
            _ => None,
        }
    }
}

impl World {
    pub fn broker_receives(&mut self, conn: u64, packet: Packet) {
        if self.net.hole_up > 0 {
            return self.net.stalled_up.push((conn, packet));
        }
        if self.broker.mood.down > 0 {
            return;
        }
        if self.broker.mood.frozen > 0 {
            return self.broker.stalled.push((conn, packet));
        }
        let session = self.broker.session.filter(|(session, _)| *session == conn);
        let Some((_, protocol)) = session else {
            if let Packet::Publish(publication) = &packet {
                self.is_hung_up_on(publication);
            }
            return self.client_hears(conn, end(Cause::Closed, "reset by the broker"));
        };
        let reply = match &packet {
            Packet::Publish(publication) => self.takes(publication, protocol),
            Packet::Subscribe { operation } => self.subscribes(*operation),
            Packet::Probe { operation } => Some(Reply::Probed(*operation)),
        };
        if let Some(reply) = reply {
            if matches!(reply, Reply::End { .. }) {
                self.broker.session = None;
            }
            self.client_hears(conn, reply);
        }
        if matches!(packet, Packet::Publish(publication) if publication.kind == Kind::Values) {
            self.misbehaves(conn);
        }
    }

    /// A broker that ends each connection behind a list turns the next one away with it.
    fn is_hung_up_on(&mut self, publication: &Publication) {
        let hangs_up = |fault: &Fault| *fault == Fault::BrokerMisbehaves { hangs_up: true };
        if self.plan.has(hangs_up) {
            self.condemn(publication);
        }
    }

    fn misbehaves(&mut self, conn: u64) {
        let last = match (self.broker.mood.misbehaves, self.broker.mood.hangs_up) {
            (0, 0) => return,
            (0, _) => end(Cause::Closed, "closed behind a list"),
            _ => Reply::Forbidden,
        };
        self.broker.session = None;
        self.client_hears(conn, last);
    }

    fn subscribes(&mut self, operation: u64) -> Option<Reply> {
        if self.broker.mood.refuses_subscriptions > 0 {
            return Some(Reply::Subscribed(operation, false));
        }
        match self.broker.subscriptions {
            None => {
                self.broker.subscribed += 1;
                Some(Reply::Subscribed(operation, true))
            }
            Some(Manner::Refuses) => Some(Reply::Subscribed(operation, false)),
            Some(Manner::Closes) => Some(end(Cause::Closed, "closed on a SUBSCRIBE")),
            Some(Manner::Silent) => None,
        }
    }

    fn takes(&mut self, publication: &Publication, protocol: Protocol) -> Option<Reply> {
        let operation = publication.operation;
        let ack = (publication.qos > 0).then_some(Reply::Acknowledged(operation));
        if publication.bytes > self.broker.limit.bytes() {
            return Some(self.too_large(publication, protocol));
        }
        let refuse = |cause, words: &str| {
            Some(match protocol {
                Protocol::V5 => Reply::Refused(operation, cause, words.into()),
                Protocol::V311 => end(Cause::Closed, words),
            })
        };
        match publication.kind {
            Kind::Reply => return ack,
            Kind::Latest if self.broker.latest_closes => {
                return Some(end(Cause::Closed, "closed on the newest measurement"));
            }
            Kind::Latest => {
                self.broker.latest = publication.latest;
                return None;
            }
            Kind::Status => {
                return match self.broker.status {
                    None => ack,
                    Some(Manner::Refuses) if protocol == Protocol::V311 => ack,
                    Some(Manner::Refuses) => refuse(Cause::RefusesAll, "0x87"),
                    Some(Manner::Closes) => Some(end(Cause::Closed, "closed on the status")),
                    Some(Manner::Silent) => None,
                };
            }
            Kind::Values => {}
        }
        self.trip(Trigger::Arrived);
        if self.broker.mood.forbids_values > 0 {
            // MQTT 3.1.1 acknowledges what it throws away.
            if protocol == Protocol::V5 {
                return refuse(Cause::RefusesAll, "0x87 not authorized");
            }
            for uid in &publication.uids {
                // Where nothing else works, this cannot be helped.
                let fact = &mut self.ledger.facts[*uid];
                fact.thrown_away |= self.ledger.old_version_is_right;
                fact.was_skipped |= fact.thrown_away;
            }
            return ack;
        }
        if self.broker.mood.refuses > 0 {
            if let [uid] = publication.uids[..] {
                // Where it ends between two attempts, what comes behind may be tried first.
                self.ledger.facts[uid].was_skipped = true;
                self.ledger.refused.push(uid);
            }
            return refuse(Cause::Refused, "0x80");
        }
        if self.broker.mood.quota > 0 {
            if let (Protocol::V311, [uid]) = (protocol, &publication.uids[..]) {
                // Nobody can tell that from poison: what comes behind may be tried first.
                self.ledger.facts[*uid].was_skipped = true;
            }
            return refuse(Cause::RefusesAll, "0x97 quota exceeded");
        }
        let facts = &self.ledger.facts;
        if let Some(poison) = publication.uids.iter().find_map(|uid| facts[*uid].poison) {
            self.condemn(publication);
            return match poison {
                Poison::Refused => refuse(Cause::Refused, "0x99 payload format"),
                Poison::Closed => Some(end(Cause::Closed, "closed on poison")),
                // Without a subscription there is nothing to find out with that it answers.
                Poison::Silent if self.broker.subscriptions.is_some() => {
                    Some(end(Cause::Closed, "closed on poison"))
                }
                Poison::Silent => None,
            };
        }
        self.ledger.arrived(&publication.uids);
        ack.filter(|_| self.broker.mood.deaf == 0)
    }

    fn too_large(&mut self, publication: &Publication, protocol: Protocol) -> Reply {
        self.condemn(publication);
        match self.broker.limit {
            Limit::Announced(limit) if protocol == Protocol::V5 => {
                let what = format!("{} bytes, {limit} announced", publication.bytes);
                self.ledger.broken("4 never larger than allowed", what);
                end(Cause::Closed, "0x95")
            }
            Limit::Refuses(_) if protocol == Protocol::V5 => {
                let cause = Cause::TooLarge { limit: None };
                Reply::Refused(publication.operation, cause, "0x95".into())
            }
            Limit::Says(_) if protocol == Protocol::V5 => {
                end(Cause::TooLarge { limit: None }, "0x95")
            }
            _ => end(Cause::Closed, "closed on a large packet"),
        }
    }

    /// The broker turns this away for what it is.
    fn condemn(&mut self, publication: &Publication) {
        if let [uid] = publication.uids[..] {
            self.ledger.facts[uid].condemned = true;
        }
    }

    pub fn broker_thaws(&mut self) {
        for (conn, packet) in std::mem::take(&mut self.broker.stalled) {
            let event = crate::queue::Event::ToBroker(conn, packet);
            self.queue.push(self.now, event);
        }
    }
}

pub fn end(cause: Cause, reason: &str) -> Reply {
    Reply::End {
        cause,
        reason: reason.into(),
    }
}
