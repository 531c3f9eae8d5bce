//! Feeds bytes to the gate as a broker would send them, and asks an independent codec about
//! everything that passes. The fuzzer and the property tests share it.

use std::time::Duration;

use bytes::BytesMut;
use mqtt_handler::model::message::Protocol;
use mqtt_handler::mqtt::line::Line;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

/// What has happened on the connection before, one bit for each.
pub const OLD_VERSION: u8 = 1;
pub const CONNECTED: u8 = 2;
pub const SUBSCRIBING: u8 = 4;
pub const PUBLISHING: u8 = 8;
pub const PINGING: u8 = 16;
pub const HALF_WRITTEN: u8 = 32;

/// The packet identifiers that are awaited, and the filters that were subscribed to.
pub const SUBSCRIBE_ID: u16 = 3;
pub const PUBLISH_ID: u16 = 7;
pub const FILTERS: [&str; 2] = ["iot/+/request", "all/#"];

pub fn version(before: u8) -> Protocol {
    if before & OLD_VERSION != 0 {
        Protocol::V311
    } else {
        Protocol::V5
    }
}

/// A line on which that has happened.
pub fn line(before: u8) -> Line {
    let version = version(before);
    let address = ([127, 0, 0, 1], 1883).into();
    let line = Line::new(address, version, false, Duration::from_secs(60));
    let v5 = version == Protocol::V5;
    let properties: &[u8] = if v5 { &[0] } else { &[] };
    line.sending(0x10, &[&[0]]);
    line.written(true);
    if before & CONNECTED != 0 {
        let connack: &[u8] = if v5 { &[0, 0, 0] } else { &[0, 0] };
        let head = [0x20, connack.len() as u8];
        assert!(head.iter().all(|byte| line.head_byte(*byte)));
        assert!(line.body(&mut connack.to_vec(), || true));
    }
    if before & SUBSCRIBING != 0 {
        let filter =
            |name: &str| [&(name.len() as u16).to_be_bytes(), name.as_bytes(), &[1]].concat();
        let filters = FILTERS.map(filter).concat();
        let body = [&SUBSCRIBE_ID.to_be_bytes()[..], properties, &filters].concat();
        line.sending(0x82, &[&body]);
    }
    if before & PINGING != 0 {
        line.sending(0xC0, &[]);
    }
    if before & PUBLISHING != 0 {
        let id = [&PUBLISH_ID.to_be_bytes()[..], properties].concat();
        line.sending(0x32, &[b"\0\x01", b"t", &id, b"[]"]);
    }
    line.written(before & HALF_WRITTEN == 0);
    line
}

/// Sends a stream of packets through the gate until it ends the connection or the bytes are at
/// their end, and gives the number of those that passed.
///
/// # Panics
/// When something passes that the codec does not take.
pub fn feed(line: &Line, version: Protocol, mut stream: &[u8]) -> usize {
    let mut passed = 0;
    while let Some((head, remaining)) = head(line, stream) {
        let Some(body) = stream[head..].get(..remaining) else {
            line.head_again();
            break;
        };
        let mut body = body.to_vec();
        if remaining > 0 && !line.body(&mut body, || true) {
            break;
        }
        ask_codec(version, &stream[..head + remaining]);
        ask_codec(version, &[&stream[..head], &body].concat());
        stream = &stream[head + remaining..];
        passed += 1;
    }
    passed
}

/// Sends the head of a packet: its bytes, and the length of what follows. `None`: it does not
/// pass, or is not all there.
fn head(line: &Line, stream: &[u8]) -> Option<(usize, usize)> {
    let mut remaining = 0;
    for (position, byte) in stream.iter().enumerate() {
        if !line.head_byte(*byte) {
            return None;
        }
        if position > 0 {
            remaining |= usize::from(byte & 127) << (7 * (position - 1));
            if byte & 128 == 0 {
                return Some((position + 1, remaining));
            }
        }
    }
    line.head_again();
    None
}

/// A number in its shortest form.
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = if value > 127 { 128 } else { 0 };
        bytes.push((value & 127) as u8 | more);
        value >>= 7;
        if value == 0 {
            return bytes;
        }
    }
}

/// The codec must take what has passed, apart from what it does not know of the protocol.
fn ask_codec(version: Protocol, packet: &[u8]) {
    let mut stream = BytesMut::from(packet);
    let head = 1 + packet[1..].iter().take_while(|byte| **byte > 127).count() + 1;
    let body = &packet[head..];
    let short_refusal = packet[0] == 0x20 && body.len() == 2 && body[1] != 0;
    if short_refusal && version == Protocol::V5 && body[1] >= 0x80 {
        // A code of the new version in the form of the old one: brokers that refuse do so.
        stream[head + 1] = 1;
    }
    if version == Protocol::V311 || short_refusal {
        let taken = v4::Packet::read(&mut stream, 2 << 20);
        assert!(taken.is_ok(), "{taken:?}: {packet:x?}");
        return;
    }
    // It knows only some of the codes of failure; the gate passes all, as the library does.
    let failure = |codes: &mut [u8]| {
        codes
            .iter_mut()
            .filter(|code| **code >= 0x80)
            .for_each(|code| *code = 0x80);
    };
    match packet[0] >> 4 {
        // It takes no DISCONNECT without properties.
        14 if body.len() < 2 => return,
        2 if body[1] >= 0x80 => stream[head + 1] = 0x80,
        4 if body.len() > 2 => failure(&mut stream[head + 2..=head + 2]),
        9 => {
            let codes = packet.len() - FILTERS.len();
            failure(&mut stream[codes..]);
        }
        14 => failure(&mut stream[head..=head]),
        _ => {}
    }
    let taken = v5::Packet::read(&mut stream, None);
    assert!(taken.is_ok(), "{taken:?}: {packet:x?}");
}
