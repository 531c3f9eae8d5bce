//! `compression = gzip` from outside: what goes over the wire, to brokers of all kinds.

mod support;

use std::process::Command;

use support::receiver::{first_arrivals, unpacked};
use support::scripted::{Answer, Kind, Packet, Scripted};
use support::stream::{assert_arrived, consecutive, dead_letters, fill_fast};
use support::{Mosquitto, Receiver, Redis, Service, World, wait_until};

const VALUES: &str = "iot-projekt/device/u1/values";
const GZIP: (&str, &str) = ("COMPRESSION", "gzip");
/// Content type, user property: their codes, lengths and texts, and the length of both.
const PROPERTIES: &[u8] = b"\x2c\x03\0\x10application/json\x26\0\x10content-encoding\0\x04gzip";

fn is_packed(payload: &[u8]) -> bool {
    payload.starts_with(&[0x1f, 0x8b])
}

/// The first list of two measurements, as the packet of a PUBLISH.
fn first_list(version: u8, compression: &'static str) -> Packet {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    for (id, value) in [("1-0", "20.3"), ("1-1", "ü\"\n")] {
        redis.command::<String>(&["XADD", "measurement:values", id, "t", value]);
    }
    let version = if version == 5 { "5" } else { "3.1.1" };
    let settings = [("COMPRESSION", compression), ("MQTT_VERSION", version)];
    let _service = Service::of_device(&redis, broker.port, &settings);
    redis.wait_for_cursor("(1-1");
    broker.messages(VALUES).remove(0)
}

/// What version 2.0.0 sends.
const LIST: &str = concat!(
    r#"[{"_id":"1-0","_device_uuid":"u1","_device_type":"dummy","_app_id":"-1","_app_name":"Local Test","t":"20.3"},"#,
    r#"{"_id":"1-1","_device_uuid":"u1","_device_type":"dummy","_app_id":"-1","_app_name":"Local Test","t":"ü\"\n"}]"#
);

#[test]
fn without_the_setting_the_bytes_on_the_wire_are_those_of_2_0_0() {
    for (version, no_properties) in [(5, &[0][..]), (4, &[])] {
        for compression in ["", "none"] {
            let packet = first_list(version, compression);
            let topic = [&[0, VALUES.len() as u8][..], VALUES.as_bytes()].concat();
            let id = packet.id.to_be_bytes();
            let body = [&topic, &id[..], no_properties, LIST.as_bytes()].concat();
            assert_eq!((packet.first, packet.body), (0x32, body));
        }
    }
}

#[test]
fn a_list_is_one_gzip_member_of_the_same_bytes_and_mqtt_5_says_so() {
    for version in [5, 4] {
        let packet = first_list(version, "gzip");
        assert!(is_packed(&packet.payload));
        assert_eq!(unpacked(&packet.payload), LIST.as_bytes());
        let told = packet
            .body
            .windows(PROPERTIES.len())
            .any(|part| part == PROPERTIES);
        assert_eq!(told, version == 5);
    }
}

#[test]
fn a_real_broker_passes_the_properties_on() {
    let world = World::new();
    world.redis.fill(1, 3);
    let port = world.broker.port.to_string();
    let _service = world.start_with(&[GZIP]);
    world.wait_for(3);
    let mut child = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-t", VALUES])
        .args(["-F", "%C %P", "-C", "1", "-W", "30"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("mosquitto_sub");
    let mut next = 4;
    wait_until("it has come", || {
        world.redis.fill(next, 1);
        next += 1;
        std::thread::sleep(std::time::Duration::from_millis(100));
        child.try_wait().is_ok_and(|status| status.is_some())
    });
    let output = child.wait_with_output().expect("output");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), "application/json content-encoding:gzip");
}

#[test]
fn lists_obey_the_limits_as_packed() {
    // Below what two measurements take, and above what a hundred do; each limit once by the
    // setting and once by the broker.
    for (count, limit) in [(300, 400), (5000, 2000)] {
        for announced in [false, true] {
            let (redis, broker) = (Redis::start(&[]), Scripted::start());
            redis.fill(1, count);
            let bytes = limit.to_string();
            let mut settings = vec![GZIP, ("INTERVAL_SECONDS", "0")];
            if announced {
                broker.announce_maximum_packet(limit);
            } else {
                settings.push(("BATCH_MAX_BYTES", &bytes));
            }
            let service = Service::of_device(&redis, broker.port, &settings);
            redis.wait_for_cursor(&format!("({count}-0"));
            let lists = broker.messages(VALUES);
            let sizes = lists.iter().map(|list| match announced {
                true => list.body.len() + 3,
                false => list.payload.len(),
            });
            assert!(sizes.max().is_some_and(|most| most <= limit as usize));
            assert!(lists.len() * 10 < count as usize, "{} lists", lists.len());
            for list in &lists {
                assert!(is_packed(&list.payload));
                let limit = if announced { 65536 } else { limit as usize };
                assert!(unpacked(&list.payload).len() <= 16 * limit);
            }
            assert_eq!(broker.ids(), consecutive(1, count));
            assert_eq!(service.count_log("not confirmed"), 0);
        }
    }
}

fn holds(packet: &Packet, id: &str) -> bool {
    let needle = format!("\"_id\":\"{id}\"");
    packet.topic == VALUES && String::from_utf8_lossy(&unpacked(&packet.payload)).contains(&needle)
}

#[test]
fn poison_is_isolated_in_packed_lists_and_packed_probes() {
    // In words, and by hanging up.
    for answer in [Answer::Code(0x99), Answer::Close] {
        let (redis, broker) = (Redis::start(&[]), Scripted::start());
        redis.fill(1, 100);
        broker.script(move |packet| match holds(packet, "50-0") {
            true => answer.clone(),
            false => Answer::Honest,
        });
        let _service = Service::of_device(&redis, broker.port, &[GZIP]);
        redis.wait_for_cursor("(100-0");
        let dead = dead_letters(&redis);
        assert_eq!((dead.len(), dead[0]["_id"].as_str()), (1, "50-0"));
        let lists = broker.messages(VALUES);
        assert!(lists.iter().all(|list| is_packed(&list.payload)));
        assert!(lists.iter().any(|list| unpacked(&list.payload) == b"[]"));
        let mut expected = consecutive(1, 100);
        expected.retain(|id| id.0 != 50);
        let accepted = first_arrivals(&broker.ids());
        let accepted: Vec<_> = accepted.into_iter().filter(|id| id.0 != 50).collect();
        assert_eq!(accepted, expected);
    }
}

#[test]
fn a_broker_that_hangs_up_on_large_packets_gets_smaller_ones() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    redis.fill(1, 3000);
    broker.script(|packet| match packet.kind {
        Kind::Publish if packet.payload.len() > 3000 => Answer::Close,
        _ => Answer::Honest,
    });
    let _service = Service::of_device(&redis, broker.port, &[GZIP]);
    redis.wait_for_cursor("(3000-0");
    assert_eq!(first_arrivals(&broker.ids()), consecutive(1, 3000));
    assert!(dead_letters(&redis).is_empty());
}

#[test]
fn send_measurements_sends_packed_lists() {
    let world = World::new();
    world.redis.set("mqtt_sender:enabled", "0");
    world.redis.fill(1, 3000);
    let service = world.start_with(&[GZIP]);
    service.wait_for_log("connected to 127");
    let request = r#"{"command":"send_measurements","min_id":"11-0","max_id":"2510-0"}"#;
    wait_until("it is answered", || {
        let topic = "iot-projekt/device/u1/request";
        world.receiver.publish(topic, request, false);
        support::holds_within(std::time::Duration::from_millis(500), || {
            !world.receiver.replies().is_empty()
        })
    });
    assert_eq!(world.receiver.replies()[0]["count"], 2500);
    assert_arrived(&world.receiver.ids(), &consecutive(11, 2500));
    let lists = world.receiver.lists();
    assert!(lists.iter().all(|list| is_packed(&list.payload)));
}

#[test]
fn memory_does_not_follow_what_is_packed() {
    let (redis, broker) = (Redis::start(&["--appendonly", "no"]), Mosquitto::start(""));
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    // Small ones that become very small, and then large ones.
    fill_fast(&redis, 1, 50_000, 10);
    fill_fast(&redis, 50_001, 100, 500_000);
    let settings = [
        GZIP,
        ("INTERVAL_SECONDS", "0"),
        ("BATCH_MAX_COUNT", "100000"),
    ];
    let service = Service::of_device(&redis, broker.port, &settings);
    redis.wait_for_cursor("(50100-0");
    let peak = service.peak_memory();
    assert!(peak < 24 * 1024, "{peak} KiB");
    println!("{peak} KiB at the peak");
    wait_until("all has arrived", || receiver.distinct() == 50_100);
}
