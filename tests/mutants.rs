//! Thousands of connections to a broker that sends packets in which a few bytes are wrong: no
//! abort, no growth, and an honest broker is served afterwards.
//!
//! The service waits ever longer between attempts, so this drives the same connection code without
//! the waits. Alone in its file, because it measures its own process. `MUTANTS=10000` makes it
//! as long as a proof wants it; `SEED` repeats a run.

mod support;

use std::time::Duration;

use mqtt_handler::config::Config;
use mqtt_handler::model::connection::Attempt;
use mqtt_handler::model::message::{Message, Protocol};
use mqtt_handler::mqtt::Broker;
use support::config::config;
use support::packet::{self, Kind, Packet};
use support::scripted::{Answer, Scripted};
use support::service::{descriptors, memory_counts, status_field};

/// Mutated packets on one connection: the first that is refused ends it.
const EACH: usize = 5;

/// xorshift64*: the same seed, the same packets.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }
}

/// Something that a broker might send about this packet, or in its place.
fn plausible(random: &mut Random, about: &Packet) -> Vec<u8> {
    let id = about.id.to_be_bytes();
    let v5 = about.version == 5;
    let text = b"\x1f\0\x02no\x26\0\x01k\0\x01v";
    let properties = [&[text.len() as u8][..], text].concat();
    let properties: &[u8] = if v5 { &properties } else { &[] };
    match random.below(9) {
        0 | 1 if v5 => packet::packet(0x40, &[&id, &[0x97], properties]),
        0 | 1 => packet::packet(0x40, &[&id]),
        2 | 3 => packet::packet(0x90, &[&id, properties, &[1]]),
        4 => packet::publish(about.version, b"commands/x", b"{}", 0x32, 5),
        5 => packet::publish(about.version, b"commands/x", &[7; 300], 0x30, 0),
        6 => packet::connack(about.version, 0, b"\x21\0\x14\x27\0\x01\0\0\x24\x01"),
        7 => packet::packet(0xE0, &[&[0x8B], properties]),
        _ => vec![0xD0, 0],
    }
}

fn mutant(random: &mut Random, about: &Packet) -> Vec<u8> {
    let mut bytes = plausible(random, about);
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes.insert(at, random.below(256) as u8),
            1 if bytes.len() > 1 => drop(bytes.remove(at)),
            2 => bytes[at] ^= 1 << random.below(8),
            3 => bytes.truncate(at + 1),
            _ => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
        }
    }
    bytes
}

fn variable(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Connects, subscribes and publishes; whether all of it went well.
fn visit(broker: &Broker, config: &Config, protocol: Protocol) -> bool {
    let attempt = Attempt {
        protocol,
        will: false,
        keep_alive: config.mqtt.keep_alive,
        patience: Duration::from_secs(1),
    };
    let Ok(connection) = broker.connect(&attempt, |_| {}, || false) else {
        return false;
    };
    let patience = Duration::from_millis(100);
    let subscribed = connection.subscribe("commands/#", patience, || false);
    let message = Message::list("t", vec![b'x'; 100]);
    let published = connection.publish(message, patience, || false);
    let well = subscribed.is_ok() && published.is_ok();
    if connection.ended().is_none() {
        connection.close();
    }
    well
}

#[test]
fn mutated_packets_leave_nothing_behind() {
    let rounds = variable("MUTANTS", 1000).div_ceil(EACH as u64);
    let seed = variable("SEED", 20_260_101);
    let broker = Scripted::start();
    let config = config(&[
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &broker.port.to_string()),
    ]);
    let ours = Broker::new(&config.mqtt, None, 1024);
    let (mut well, mut warm) = (0, None);
    for round in 0..rounds {
        let mut random = Random(seed ^ (round + 1) << 20);
        let at = [Kind::Connect, Kind::Subscribe, Kind::Publish, Kind::Publish][random.below(4)];
        broker.script(move |packet| {
            if packet.kind != at {
                return Answer::Honest;
            }
            let mutants = (0..EACH).map(|_| Answer::Raw(mutant(&mut random, packet)));
            let first = Answer::Honest;
            // A CONNECT that is not answered takes longest.
            let honest_first = at == Kind::Connect || packet.id % 2 == 0;
            let mut answers: Vec<Answer> = mutants.collect();
            answers.insert(if honest_first { 0 } else { EACH }, first);
            answers.push(Answer::Close);
            Answer::Many(answers)
        });
        let protocol = if round % 2 == 0 {
            Protocol::V5
        } else {
            Protocol::V311
        };
        well += u32::from(visit(&ours, &config, protocol));
        broker.forget();
        if round == rounds / 4 {
            warm = Some(held());
        }
    }
    broker.be_honest();
    for protocol in [Protocol::V5, Protocol::V311] {
        assert!(
            visit(&ours, &config, protocol),
            "an honest broker afterwards"
        );
    }
    let (before, after) = (warm.expect("rounds"), held());
    println!(
        "seed {seed}: {rounds} connections, {well} unharmed; descriptors, KiB: {before:?} then {after:?}"
    );
    assert!(after.0 <= before.0 + 12, "{before:?} then {after:?}");
    assert!(
        !memory_counts() || after.1 <= before.1 + 8 * 1024,
        "{before:?} then {after:?}"
    );
}

/// Descriptors and KiB of memory that this process holds.
fn held() -> (usize, u64) {
    let own = std::process::id();
    (descriptors(own), status_field(own, "VmRSS:"))
}
