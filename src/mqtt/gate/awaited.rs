//! What is awaited on one connection: it follows from what was sent on it and what has arrived.

use std::collections::VecDeque;

use super::fields::Fields;
use super::{CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, kind};
use crate::mqtt::Protocol;

const CONNECT: u8 = 1;
/// Answers to pings that were not asked for: some brokers ping by themselves.
const SPARE_PINGS: u8 = 3;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Silent,
    /// CONNECT was sent.
    Connecting,
    Connected,
    /// The broker has refused or ended the connection: nothing may follow.
    Over,
}

/// A packet that wants an answer.
#[derive(Clone, Debug)]
struct Asked {
    id: u16,
    /// Filters of a SUBSCRIBE; 0: a PUBLISH.
    filters: usize,
    /// Which packet of this connection it was.
    number: u64,
}

/// What is awaited, and what the answers so far prove.
#[derive(Clone, Debug)]
pub struct Awaited {
    version: Protocol,
    stage: Stage,
    asked: Vec<Asked>,
    filters: Vec<String>,
    /// The numbers of the pings that have no answer yet.
    pings: VecDeque<u64>,
    spare_pings: u8,
    /// Messages of QoS 1 that have arrived and whose acknowledgement was not yet written.
    unacknowledged: usize,
    /// Packets sent, and messages among them.
    sent: u64,
    published: u64,
    /// The last packet is not written to its end.
    half_written: bool,
    /// The last packet that the broker must have received, for it has answered it.
    answered: u64,
}

impl Awaited {
    pub fn new(version: Protocol) -> Awaited {
        Awaited {
            version,
            stage: Stage::Silent,
            asked: Vec::new(),
            filters: Vec::new(),
            pings: VecDeque::new(),
            spare_pings: SPARE_PINGS,
            unacknowledged: 0,
            sent: 0,
            published: 0,
            half_written: false,
            answered: 0,
        }
    }

    /// A packet is about to be written; `parts` make up what follows its head. A packet that this
    /// client never sends changes nothing.
    pub fn sending(&mut self, first: u8, parts: &[&[u8]]) {
        self.sent += 1;
        let number = self.sent;
        if kind(first) == PUBLISH {
            self.published += 1;
        }
        match kind(first) {
            CONNECT => self.stage = Stage::Connecting,
            PUBLISH if first & 6 != 0 => {
                // Length of the topic, topic, packet identifier and properties, payload.
                if let Some(&[high, low, ..]) = parts.get(2) {
                    self.asked.push(Asked {
                        id: u16::from_be_bytes([*high, *low]),
                        filters: 0,
                        number,
                    });
                }
            }
            PUBACK => self.unacknowledged = self.unacknowledged.saturating_sub(1),
            SUBSCRIBE => {
                if let Some((id, filters)) = parts.first().and_then(|body| self.filters_in(body)) {
                    self.asked.push(Asked {
                        id,
                        filters: filters.len(),
                        number,
                    });
                    for filter in filters {
                        if !self.filters.contains(&filter) {
                            self.filters.push(filter);
                        }
                    }
                }
            }
            PINGREQ => self.pings.push_back(number),
            _ => {}
        }
    }

    fn filters_in(&self, body: &[u8]) -> Option<(u16, Vec<String>)> {
        let mut fields = Fields(body);
        let id = fields.two().ok()?;
        if self.version == Protocol::V5 {
            let length = fields.varint().ok()?;
            fields.take(length).ok()?;
        }
        let mut filters = Vec::new();
        while !fields.is_empty() {
            filters.push(fields.text().ok()?.to_string());
            fields.byte().ok()?;
        }
        Some((id, filters))
    }

    /// What has become of the last packet: whether it is written to its end.
    pub fn written(&mut self, whole: bool) {
        self.half_written = !whole;
    }

    /// A packet that was checked has arrived.
    pub fn received(&mut self, first: u8, body: &[u8]) {
        let id = match body {
            [high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        match kind(first) {
            CONNACK if body.get(1) == Some(&0) => self.stage = Stage::Connected,
            CONNACK | DISCONNECT => self.stage = Stage::Over,
            PUBLISH if first & 2 != 0 => self.unacknowledged += 1,
            PUBACK => self.answer(id, true),
            SUBACK => self.answer(id, false),
            PINGRESP => match self.pings.pop_front() {
                Some(number) => self.answered = self.answered.max(number),
                None => self.spare_pings = self.spare_pings.saturating_sub(1),
            },
            _ => {}
        }
    }

    fn answer(&mut self, id: u16, publish: bool) {
        let fits = |asked: &Asked| asked.id == id && (asked.filters == 0) == publish;
        if let Some(position) = self.asked.iter().position(fits) {
            let number = self.asked.remove(position).number;
            self.answered = self.answered.max(number);
        }
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(String::as_str)
    }

    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// The library frees a message with its acknowledgement: one for what is still being written
    /// would leave it with memory that is gone.
    fn is_out(&self, asked: &Asked) -> bool {
        !(self.half_written && asked.number == self.sent)
    }

    pub fn takes_puback(&self, id: u16) -> bool {
        self.asked
            .iter()
            .any(|asked| asked.id == id && asked.filters == 0 && self.is_out(asked))
    }

    /// The number of filters for which an answer is awaited.
    pub fn takes_suback(&self, id: u16) -> Option<usize> {
        self.asked
            .iter()
            .find(|asked| asked.id == id && asked.filters > 0 && self.is_out(asked))
            .map(|asked| asked.filters)
    }

    /// A ping has no answer yet.
    pub fn is_pinged(&self) -> bool {
        !self.pings.is_empty()
    }

    pub fn takes_pingresp(&self) -> bool {
        self.is_pinged() || self.spare_pings > 0
    }

    /// The number of the PUBLISH of QoS 1 that is not acknowledged yet.
    pub fn unconfirmed(&self) -> Option<u64> {
        self.asked
            .iter()
            .rfind(|asked| asked.filters == 0)
            .map(|asked| asked.number)
    }

    /// Messages sent so far.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Whether a packet that was sent later has been answered: TCP keeps the order.
    pub fn answered_after(&self, number: u64) -> bool {
        self.answered > number
    }

    /// Whether a packet was only written in part.
    pub fn is_half_written(&self) -> bool {
        self.half_written
    }
}
