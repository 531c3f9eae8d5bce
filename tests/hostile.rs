//! A broker, or anyone on the line, that sends what it must not: the service survives it, says so,
//! grows by nothing, and delivers to the next honest broker on the same port.

mod support;

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use support::packet::{self, Kind, Packet, head};
use support::scripted::{Answer, Scripted};
use support::service::{memory_counts, status_field};
use support::{PATIENCE, Redis, Service, holds_within};

const VALUES: &str = "iot-projekt/device/u1/values";
const REQUEST: &[u8] = b"iot-projekt/device/u1/request";
const TOLD: &str = "the broker sent what it must not: ";
/// The service may grow by so much, in KiB.
const GROWTH: u64 = 8 * 1024;
const FLOOD: usize = 50_000_000;
/// Services that are attacked at the same time.
const AT_ONCE: usize = 6;

/// What is sent when a list of measurements has arrived, or a SUBSCRIBE where it is about that.
type Attack = (&'static str, fn(&Packet) -> Option<Answer>);

fn on_list(packet: &Packet, answer: impl FnOnce() -> Answer) -> Option<Answer> {
    (packet.kind == Kind::Publish && packet.topic == VALUES).then(answer)
}

fn raw(packet: &Packet, bytes: impl FnOnce() -> Vec<u8>) -> Option<Answer> {
    on_list(packet, || {
        Answer::Many(vec![Answer::Raw(bytes()), Answer::Honest])
    })
}

/// What an acknowledgement of a SUBSCRIBE looks like, for the ID of the packet in flight.
fn suback_for(packet: &Packet) -> Vec<u8> {
    let rest: &[u8] = if packet.version == 5 { &[0, 1] } else { &[1] };
    packet::packet(0x90, &[&packet.id.to_be_bytes(), rest])
}

fn unsuback_for(packet: &Packet) -> Vec<u8> {
    let rest: &[u8] = if packet.version == 5 { &[0, 0] } else { &[] };
    packet::packet(0xB0, &[&packet.id.to_be_bytes(), rest])
}

fn then_close(packet: &Packet, bytes: fn(&Packet) -> Vec<u8>) -> Option<Answer> {
    on_list(packet, || {
        Answer::Many(vec![Answer::Raw(bytes(packet)), Answer::Close])
    })
}

/// The same packet again and again.
fn flood(packet: &Packet, one: impl FnOnce() -> Vec<u8>) -> Option<Answer> {
    on_list(packet, || {
        let one = one();
        let many = one.repeat(64 * 1024 / one.len() + 1);
        Answer::write(move |stream| {
            (0..FLOOD / many.len()).try_for_each(|_| stream.write_all(&many))
        })
    })
}

fn message(version: u8, topic: &[u8], first: u8) -> Vec<u8> {
    packet::publish(version, topic, b"{}", first, 77)
}

const PACKETS: &[Attack] = &[
    ("a SUBACK without codes", |packet| {
        (packet.kind == Kind::Subscribe).then(|| {
            let rest: &[u8] = if packet.version == 5 { &[0] } else { &[] };
            Answer::Raw(packet::packet(0x90, &[&packet.id.to_be_bytes(), rest]))
        })
    }),
    ("a SUBACK for the message, then its PUBACK", |packet| {
        raw(packet, || suback_for(packet))
    }),
    ("a SUBACK for the message, then the end", |packet| {
        then_close(packet, suback_for)
    }),
    ("an UNSUBACK for the message, then its PUBACK", |packet| {
        raw(packet, || unsuback_for(packet))
    }),
    ("an UNSUBACK for the message, then the end", |packet| {
        then_close(packet, unsuback_for)
    }),
    ("NUL in a topic", |packet| {
        let topic = b"iot-projekt/device/u1/request\0";
        raw(packet, || message(packet.version, topic, 0x30))
    }),
    ("no UTF-8 in a topic", |packet| {
        raw(packet, || {
            message(packet.version, b"iot-projekt/\xff\xfe", 0x32)
        })
    }),
    ("a topic that nobody asked for", |packet| {
        raw(packet, || message(packet.version, b"elsewhere", 0x32))
    }),
    ("AUTH", |packet| raw(packet, || vec![0xF0, 2, 0x18, 0])),
    ("QoS 2", |packet| {
        raw(packet, || message(packet.version, REQUEST, 0x34))
    }),
    ("PUBREC", |packet| {
        raw(packet, || packet::packet(0x50, &[&packet.id.to_be_bytes()]))
    }),
    ("PUBREL", |packet| {
        raw(packet, || packet::packet(0x62, &[&packet.id.to_be_bytes()]))
    }),
    ("PUBCOMP", |packet| {
        raw(packet, || packet::packet(0x70, &[&packet.id.to_be_bytes()]))
    }),
    ("property lengths out of bounds", |packet| {
        let id = packet.id.to_be_bytes();
        raw(packet, || {
            packet::packet(0x40, &[&id, &[0, 0xFF, 0x7F, 0x1F, 0xFF, 0xFF]])
        })
    }),
    ("a second CONNACK", |packet| {
        raw(packet, || packet::connack(packet.version, 0, &[]))
    }),
    ("a length of five bytes", |packet| {
        raw(packet, || vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01])
    }),
    ("a length that is longer than it has to be", |packet| {
        on_list(packet, || {
            let [high, low] = packet.id.to_be_bytes();
            Answer::Raw(vec![0x40, 0x82, 0, high, low])
        })
    }),
    ("more acknowledgements than messages", |packet| {
        let puback = packet::packet(0x40, &[&packet.id.to_be_bytes()]);
        on_list(packet, || Answer::Raw(puback.repeat(3)))
    }),
];

const FLOODS: &[Attack] = &[
    ("200 MiB in one message", |packet| {
        let version = packet.version;
        on_list(packet, || {
            Answer::write(move |stream| {
                let body = packet::publish(version, REQUEST, b"", 0x30, 0);
                stream.write_all(&head(0x30, 200 << 20))?;
                stream.write_all(&body[2..])?;
                let piece = vec![b'x'; 1 << 16];
                (0..3200).try_for_each(|_| stream.write_all(&piece))
            })
        })
    }),
    ("a flood of AUTH", |packet| {
        flood(packet, || {
            [&head(0xF0, 1026)[..], &[0x18], &[0; 1025]].concat()
        })
    }),
    ("a flood of QoS 2", |packet| {
        flood(packet, || message(packet.version, REQUEST, 0x34))
    }),
    ("a flood of PUBREC", |packet| {
        flood(packet, || packet::packet(0x50, &[&packet.id.to_be_bytes()]))
    }),
    ("a flood of PUBREL", |packet| {
        flood(packet, || packet::packet(0x62, &[&[0, 9]]))
    }),
    ("a flood of PUBCOMP", |packet| {
        flood(packet, || packet::packet(0x70, &[&[0, 9]]))
    }),
    ("a flood of SUBACK", |packet| {
        flood(packet, || suback_for(packet))
    }),
    ("a flood of UNSUBACK", |packet| {
        flood(packet, || unsuback_for(packet))
    }),
    ("a flood of PINGRESP", |packet| {
        flood(packet, || vec![0xD0, 0])
    }),
    ("a flood of messages to no filter", |packet| {
        flood(packet, || message(packet.version, b"elsewhere", 0x30))
    }),
];

fn resident(service: &Service) -> u64 {
    status_field(service.pid(), "VmRSS:")
}

/// One service under one attack, and what became of it.
fn survives(version: &str, (name, attack): Attack) {
    let what = format!("{name} under MQTT {version}");
    let (redis, broker) = (Redis::start(&["--appendonly", "no"]), Scripted::start());
    let more = [("INTERVAL_SECONDS", "0"), ("MQTT_VERSION", version)];
    redis.fill(1, 100);
    let mut service = Service::of_device(&redis, broker.port, &more).at_a_hostile_broker();
    redis.wait_for_cursor("(100-0");
    let (pid, before) = (service.pid(), resident(&service));
    broker.script(move |packet| attack(packet).unwrap_or(Answer::Honest));
    if name.contains("without codes") {
        // It is about the SUBSCRIBE of the next connection.
        broker.cut();
    }
    redis.fill(101, 100);
    let told = holds_within(PATIENCE, || service.count_log(TOLD) > 0);
    assert!(told, "{what}: {}", service.log().join("\n"));
    assert!(
        service.count_log("; the connection is made anew") > 0,
        "{what}"
    );
    broker.be_honest();
    redis.fill(201, 100);
    let arrived = holds_within(PATIENCE, || redis.cursor().as_deref() == Some("(300-0"));
    assert!(arrived, "{what}: {}", service.log().join("\n"));
    let mut ids = broker.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300, "{what}");
    assert!(service.is_running() && service.pid() == pid, "{what}");
    let after = resident(&service);
    assert!(
        !memory_counts() || after < before + GROWTH,
        "{what}: {before} KiB, then {after}"
    );
    let (status, _) = service.terminate();
    assert!(status.success(), "{what}: {status}");
}

/// All attacks under both versions, a few services at a time.
fn all_survive(attacks: &[Attack]) {
    let both = ["5", "3.1.1"].into_iter();
    let todo = both.flat_map(|version| attacks.iter().map(move |attack| (version, *attack)));
    let todo = Mutex::new(todo.collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().expect("attacks").pop();
                    let Some((version, attack)) = next else {
                        return;
                    };
                    survives(version, attack);
                }
            });
        }
    });
}

#[test]
fn no_packet_hurts_the_service() {
    all_survive(PACKETS);
}

#[test]
fn half_a_million_identifiers_of_subscriptions_hurt_nothing() {
    survives(
        "5",
        ("three messages full of identifiers", |packet| {
            raw(packet, || {
                let identifiers = [0x0B, 1].repeat(500_000);
                let length = &head(0, identifiers.len())[1..];
                let topic = (REQUEST.len() as u16).to_be_bytes();
                let parts = [&topic, REQUEST, &[0, 9], length, &identifiers];
                packet::packet(0x32, &parts).repeat(3)
            })
        }),
    );
}

#[test]
fn no_flood_hurts_the_service() {
    all_survive(FLOODS);
}

#[test]
fn what_comes_over_a_subscription_at_each_connect_costs_the_subscription_alone() {
    // A retained message above the limit: MQTT 3.1.1 cannot ask the broker to keep it.
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(|packet| {
        if packet.kind != Kind::Subscribe {
            return Answer::Honest;
        }
        let giant = packet::publish(packet.version, REQUEST, &vec![b'x'; 2 << 20], 0x31, 0);
        Answer::Many(vec![Answer::Honest, Answer::Raw(giant)])
    });
    let more = [("INTERVAL_SECONDS", "0"), ("MQTT_VERSION", "3.1.1")];
    let mut service = Service::of_device(&redis, broker.port, &more).at_a_hostile_broker();
    service.wait_for_log("for an hour: the subscription has cost the connection");
    redis.fill(1, 100);
    redis.wait_for_cursor("(100-0");
    let connects = broker.connects();
    let later = |service: &Service| service.count_log("disconnected from");
    let ends = later(&service);
    assert!(!holds_within(Duration::from_secs(2), || later(&service) > ends));
    assert_eq!(broker.connects(), connects);
    assert!(service.is_running());
}

#[test]
fn what_no_subscription_can_have_brought_costs_none() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(|packet| match packet.kind {
        Kind::Subscribe => {
            let bad = message(packet.version, b"elsewhere", 0x32);
            Answer::Many(vec![Answer::Honest, Answer::Raw(bad)])
        }
        _ => Answer::Honest,
    });
    let more = [("INTERVAL_SECONDS", "0")];
    let service = Service::of_device(&redis, broker.port, &more).at_a_hostile_broker();
    assert!(holds_within(PATIENCE, || service.count_log(TOLD) >= 3));
    broker.be_honest();
    broker.forget();
    let log = || service.log().join("\n");
    let subscribed = || {
        let packets = broker.packets();
        packets
            .iter()
            .any(|packet| packet.kind == Kind::Subscribe && packet.nth == 1)
    };
    assert!(holds_within(PATIENCE, subscribed), "{}", log());
    let command = b"{\"command\":\"get_status\"}";
    broker.send(&packet::publish(5, REQUEST, command, 0x30, 0));
    let replied = || !broker.messages("iot-projekt/device/u1/response").is_empty();
    assert!(holds_within(PATIENCE, replied), "{}", log());
    assert_eq!(service.count_log("for an hour"), 0, "{}", log());
}

#[test]
fn a_large_message_below_the_limit_is_answered_as_too_large() {
    for version in ["5", "3.1.1"] {
        let (redis, broker) = (Redis::start(&[]), Scripted::start());
        let more = [
            ("BALENA_DEVICE_UUID", "u1".to_string()),
            ("MQTT_VERSION", version.into()),
        ];
        let service = Service::between(redis.port, broker.port, &more).at_a_hostile_broker();
        let subscribed = || broker.count(Kind::Subscribe) == 2;
        assert!(holds_within(PATIENCE, subscribed));
        let level = broker.packets()[0].version;
        for bytes in [70_000, 1_000_000] {
            let giant = packet::publish(level, REQUEST, &vec![b'x'; bytes], 0x32, 1);
            broker.send(&giant);
        }
        let replies = || broker.messages("iot-projekt/device/u1/response");
        assert!(holds_within(PATIENCE, || replies().len() == 2));
        for (reply, bytes) in replies().iter().zip(["70000", "1000000"]) {
            let text = String::from_utf8_lossy(&reply.payload);
            assert!(
                text.contains(&format!("the request has {bytes} bytes")),
                "{text}"
            );
        }
        assert_eq!(service.count_log(TOLD), 0);
        assert_eq!(broker.connects(), 1);
    }
}

#[test]
fn a_yes_in_the_older_version_leads_to_that_version() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(|packet| match (packet.kind, packet.version) {
        (Kind::Connect, 5) => Answer::Raw(packet::connack(4, 0, &[])),
        _ => Answer::Honest,
    });
    redis.fill(1, 100);
    let more = [("BALENA_DEVICE_UUID", "u1".to_string())];
    let service = Service::between(redis.port, broker.port, &more).at_a_hostile_broker();
    service.wait_for_log("MQTT 3.1.1 is tried next");
    redis.wait_for_cursor("(100-0");
    assert_eq!(service.count_log(TOLD), 0);
}
