//! Packets of MQTT as bytes, both ways, for the scripted broker. It shares no code with what
//! is tested.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

/// The type of a packet that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connect,
    Publish,
    Puback,
    Subscribe,
    Unsubscribe,
    Pingreq,
    Disconnect,
    Other,
}

/// A packet as it has arrived. What its kind does not have is empty.
#[derive(Clone, Debug)]
pub struct Packet {
    pub kind: Kind,
    /// The level of the protocol: 4 is MQTT 3.1.1, 5 is MQTT 5.
    pub version: u8,
    /// Which connection, counted from 0, those without a packet included.
    pub connection: usize,
    /// How many of its kind came before it on this connection.
    pub nth: usize,
    /// The address that the client has reached.
    pub at: SocketAddr,
    pub when: Instant,
    pub first: u8,
    pub body: Vec<u8>,
    /// PUBLISH with QoS, PUBACK, SUBSCRIBE, UNSUBSCRIBE.
    pub id: u16,
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retained: bool,
    /// SUBSCRIBE and UNSUBSCRIBE.
    pub filters: Vec<String>,
    /// CONNECT: with a last will.
    pub will: bool,
    pub client_id: String,
    pub keep_alive: u16,
}

impl Packet {
    /// `version` is what the CONNECT of the connection has said.
    pub fn decode(first: u8, body: Vec<u8>, version: u8) -> Packet {
        let kind = match first >> 4 {
            1 => Kind::Connect,
            3 => Kind::Publish,
            4 => Kind::Puback,
            8 => Kind::Subscribe,
            10 => Kind::Unsubscribe,
            12 => Kind::Pingreq,
            14 => Kind::Disconnect,
            _ => Kind::Other,
        };
        let mut packet = Packet {
            kind,
            version,
            connection: 0,
            nth: 0,
            at: (Ipv4Addr::UNSPECIFIED, 0).into(),
            when: Instant::now(),
            first,
            body: Vec::new(),
            id: 0,
            topic: String::new(),
            payload: Vec::new(),
            qos: 0,
            retained: false,
            filters: Vec::new(),
            will: false,
            client_id: String::new(),
            keep_alive: 0,
        };
        packet.fill(&mut Bytes(&body));
        packet.body = body;
        packet
    }

    fn fill(&mut self, bytes: &mut Bytes<'_>) {
        match self.kind {
            Kind::Connect => {
                bytes.text();
                self.version = bytes.byte();
                self.will = bytes.byte() & 4 != 0;
                self.keep_alive = bytes.two();
                bytes.properties(self.version);
                self.client_id = bytes.text();
            }
            Kind::Publish => {
                self.qos = self.first >> 1 & 3;
                self.retained = self.first & 1 != 0;
                self.topic = bytes.text();
                if self.qos > 0 {
                    self.id = bytes.two();
                }
                bytes.properties(self.version);
                self.payload = bytes.0.to_vec();
            }
            Kind::Puback => self.id = bytes.two(),
            Kind::Subscribe | Kind::Unsubscribe => {
                self.id = bytes.two();
                bytes.properties(self.version);
                while !bytes.0.is_empty() {
                    self.filters.push(bytes.text());
                    if self.kind == Kind::Subscribe {
                        bytes.byte();
                    }
                }
            }
            Kind::Pingreq | Kind::Disconnect | Kind::Other => {}
        }
    }

    /// What a broker answers, with another code than success where the version has one. Empty:
    /// nothing is to be answered.
    pub fn answer(&self, code: Option<u8>) -> Vec<u8> {
        let id = self.id.to_be_bytes();
        let granted = code.unwrap_or(1);
        match (self.kind, self.version) {
            (Kind::Connect, version) => connack(version, code.unwrap_or(0), &[]),
            (Kind::Publish, _) if self.qos == 0 => Vec::new(),
            (Kind::Publish, 5) if code.is_some() => packet(0x40, &[&id[..], &[granted, 0]]),
            (Kind::Publish, _) => packet(0x40, &[&id]),
            (Kind::Subscribe, version) => {
                let properties: &[u8] = if version == 5 { &[0] } else { &[] };
                packet(0x90, &[&id, properties, &vec![granted; self.filters.len()]])
            }
            (Kind::Unsubscribe, 5) => {
                let codes = vec![code.unwrap_or(0); self.filters.len()];
                packet(0xB0, &[&id, &[0], &codes])
            }
            (Kind::Unsubscribe, _) => packet(0xB0, &[&id]),
            (Kind::Pingreq, _) => packet(0xD0, &[]),
            (Kind::Puback | Kind::Disconnect | Kind::Other, _) => Vec::new(),
        }
    }
}

/// A packet: its first byte, its length, and the parts of its body.
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut bytes = head(first, length);
    bytes.extend(parts.concat());
    bytes
}

/// The first byte and the length of what is to follow.
pub fn head(first: u8, mut length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    loop {
        let more = if length > 127 { 128 } else { 0 };
        bytes.push((length & 127) as u8 | more);
        length >>= 7;
        if length == 0 {
            return bytes;
        }
    }
}

/// `properties` count under MQTT 5 only.
pub fn connack(version: u8, code: u8, properties: &[u8]) -> Vec<u8> {
    if version != 5 {
        return packet(0x20, &[&[0, code]]);
    }
    let length = &head(0, properties.len())[1..];
    packet(0x20, &[&[0, code], length, properties])
}

/// A PUBLISH without properties; `first` holds QoS and retain, `id` counts with QoS above 0.
pub fn publish(version: u8, topic: &[u8], payload: &[u8], first: u8, id: u16) -> Vec<u8> {
    let length = u16::try_from(topic.len()).expect("a topic").to_be_bytes();
    let id = id.to_be_bytes();
    let id: &[u8] = if first & 6 != 0 { &id } else { &[] };
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(first, &[&length, topic, id, properties, payload])
}

/// Reads a number of up to four bytes.
pub fn varint<E>(mut byte: impl FnMut() -> Result<u8, E>) -> Result<usize, E> {
    let mut value = 0;
    for position in 0..4 {
        let byte = byte()?;
        value |= usize::from(byte & 127) << (7 * position);
        if byte & 128 == 0 {
            break;
        }
    }
    Ok(value)
}

/// Reads from the front; what is not there reads as 0. The client under test is no attacker.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn text(&mut self) -> String {
        let length = usize::from(self.two());
        String::from_utf8_lossy(self.take(length)).into_owned()
    }

    fn properties(&mut self, version: u8) {
        if version == 5 {
            let length = varint(|| Ok::<u8, ()>(self.byte())).unwrap_or(0);
            self.take(length);
        }
    }
}
