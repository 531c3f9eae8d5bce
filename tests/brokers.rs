//! Brokers that break off, keep silent or refuse: measurements flow all the same, and no
//! cursor moves over what was thrown away.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType};
use support::proxy::Proxy;
use support::scripted::{Answer, Kind, Packet, Scripted, message};
use support::stream::{assert_arrived, consecutive, dead_letters, fill_fast, long};
use support::{Mosquitto, Redis, Service, holds_within, wait_until};

const STATUS: &str = "iot-projekt/device/u1/status";
const VALUES: &str = "iot-projekt/device/u1/values";
const REQUEST: &str = "iot-projekt/device/u1/request";
const RESPONSE: &str = "iot-projekt/device/u1/response";

/// DISCONNECT of MQTT 5, as a broker sends it, and the end.
fn disconnect(code: u8) -> Answer {
    Answer::Many(vec![Answer::Raw(vec![0xE0, 1, code]), Answer::Close])
}

#[test]
fn a_handshake_that_is_cut_does_not_lead_to_the_version_that_loses_measurements() {
    // The second cut meets whatever is tried after the first.
    for cuts in [1, 2, 3] {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("acl"), "topic read #\n").expect("acl");
        let broker = Mosquitto::start_in(folder, "acl_file {folder}/acl");
        let proxy = Proxy::start(broker.port);
        proxy.cut_next(cuts);
        let redis = Redis::start(&[]);
        redis.fill(1, 100);
        let service = Service::of_device(&redis, proxy.port, &[]);
        service.wait_for_log("measurements are not accepted on");
        assert!(!holds_within(Duration::from_secs(3), || redis
            .cursor()
            .is_some()));
        assert!(dead_letters(&redis).is_empty());
    }
}

#[test]
fn a_broker_that_never_answers_mqtt_5_is_reached_by_the_older_version() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(|packet| match packet.kind {
        Kind::Connect if packet.version == 5 => Answer::Nothing,
        _ => Answer::Honest,
    });
    redis.fill(1, 100);
    let service = Service::of_device(&redis, broker.port, &[]);
    redis.wait_for_cursor("(100-0");
    // It is remembered over the next connections.
    broker.cut();
    redis.fill(101, 100);
    redis.wait_for_cursor("(200-0");
    let connects = broker.packets();
    let connects = connects.iter().filter(|one| one.kind == Kind::Connect);
    let versions: Vec<u8> = connects.map(|one| one.version).collect();
    assert_eq!(versions, [5, 4, 5, 4, 4], "{:?}", service.log());
    assert_arrived(&broker.ids(), &consecutive(1, 200));
}

#[test]
fn a_broker_that_closes_on_mqtt_5_is_not_taken_for_one_that_refuses_the_last_will() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(|packet| match packet.kind {
        Kind::Connect if packet.version == 5 => Answer::Close,
        _ => Answer::Honest,
    });
    redis.fill(1, 100);
    let service = Service::of_device(&redis, broker.port, &[("MQTT_TOPIC_STATUS", STATUS)]);
    redis.wait_for_cursor("(100-0");
    wait_until("the status is published", || {
        !broker.messages(STATUS).is_empty()
    });
    let connects = broker.packets();
    let last = connects.iter().rfind(|one| one.kind == Kind::Connect);
    assert!(last.is_some_and(|connect| connect.will));
    assert_eq!(service.count_log("no status on"), 0, "{:?}", service.log());
}

#[test]
fn a_broker_that_says_that_it_speaks_no_mqtt_5_is_believed_at_once() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    // The CONNACK of MQTT 3.1.1: unacceptable protocol version.
    broker.script(|packet| match packet.kind {
        Kind::Connect if packet.version == 5 => {
            Answer::Many(vec![Answer::Raw(vec![0x20, 2, 0, 1]), Answer::Close])
        }
        _ => Answer::Honest,
    });
    redis.fill(1, 100);
    let _service = Service::of_device(&redis, broker.port, &[]);
    redis.wait_for_cursor("(100-0");
    assert_eq!(broker.connects(), 2);
}

/// What a broker does about the status, or about a subscription.
type Refusal = (&'static str, fn(&Packet) -> bool, Answer);

fn is_status(packet: &Packet) -> bool {
    packet.kind == Kind::Publish && packet.topic == STATUS
}

fn is_subscribe(packet: &Packet) -> bool {
    packet.kind == Kind::Subscribe
}

fn has_will(packet: &Packet) -> bool {
    packet.kind == Kind::Connect && packet.will
}

/// Measurements arrive throughout, one a tenth of a second, and the log names the setting.
fn flows_despite(refusal: Refusal, version: &'static str) {
    let (name, concerns, answer) = refusal;
    let setting = if name.starts_with("subscription") {
        "mqtt.topic_request"
    } else {
        "mqtt.topic_status"
    };
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    let words = answer.clone();
    broker.script(move |packet| match concerns(packet) {
        true => answer.clone(),
        false => Answer::Honest,
    });
    let settings = [
        ("MQTT_VERSION", version),
        ("MQTT_ACK_TIMEOUT_SECONDS", "2"),
        ("MQTT_TOPIC_STATUS", STATUS),
    ];
    let service = Service::of_device(&redis, broker.port, &settings);
    let (begun, mut last, mut stalled) = (Instant::now(), 0, Duration::ZERO);
    let arrived = |id: u64| {
        broker
            .messages(VALUES)
            .last()
            .is_some_and(|list| support::receiver::ids_of(&list.payload).last() >= Some(&(id, 0)))
    };
    while begun.elapsed() < Duration::from_secs(25) {
        last += 1;
        redis.fill(last, 1);
        let written = Instant::now();
        let came = holds_within(Duration::from_secs(20), || arrived(last));
        assert!(came, "{name}, {version}: stopped: {:#?}", service.log());
        stalled = stalled.max(written.elapsed());
    }
    assert!(
        stalled < Duration::from_secs(12),
        "{name}, {version}: {stalled:?} without a measurement: {:#?}",
        service.log()
    );
    redis.wait_for_cursor(&format!("({last}-0"));
    // A plain refusal of a subscription is tried again, and names its filter.
    let refused = matches!(words, Answer::Code(_)) && name.starts_with("subscription");
    let said = if refused {
        "no commands arrive on"
    } else {
        setting
    };
    assert!(
        service.count_log(said) > 0,
        "{name}, {version}: the log does not name {said}: {:#?}",
        service.log()
    );
    let before = broker.connects();
    redis.fill(last + 1, 10);
    redis.wait_for_cursor(&format!("({}-0", last + 10));
    assert_eq!(broker.connects(), before, "{name}, {version}: not steady");
    assert_arrived(&broker.ids(), &consecutive(1, last + 10));
    assert!(dead_letters(&redis).is_empty());
}

#[test]
fn measurements_flow_whatever_the_broker_does_about_status_and_subscriptions() {
    let refusals: [Refusal; 10] = [
        ("status refused", is_status, Answer::Code(0x87)),
        ("status unanswered", is_status, Answer::Nothing),
        ("status closed", is_status, Answer::Close),
        ("status disconnect 0x87", is_status, disconnect(0x87)),
        ("status disconnect 0x9A", is_status, disconnect(0x9A)),
        ("will refused", has_will, Answer::Code(0x87)),
        ("will closed", has_will, Answer::Close),
        ("subscription refused", is_subscribe, Answer::Code(0x87)),
        ("subscription unanswered", is_subscribe, Answer::Nothing),
        ("subscription closed", is_subscribe, Answer::Close),
    ];
    let for_both = ["status unanswered", "status closed", "subscription closed"];
    thread::scope(|scope| {
        for refusal in refusals {
            if for_both.contains(&refusal.0) {
                let same = refusal.clone();
                scope.spawn(move || flows_despite(same, "3.1.1"));
            }
            scope.spawn(move || flows_despite(refusal, "5"));
        }
    });
}

#[test]
fn a_subscription_without_an_answer_delays_no_measurement() {
    thread::scope(|scope| {
        for version in ["5", "3.1.1"] {
            scope.spawn(move || {
                let (redis, broker) = (Redis::start(&[]), Scripted::start());
                broker.on(Kind::Subscribe, Answer::Nothing);
                redis.fill(1, 100);
                let service = Service::of_device(&redis, broker.port, &[("MQTT_VERSION", version)]);
                wait_until("it is connected", || broker.connects() == 1);
                for last in (100..150).step_by(10) {
                    // One after the other, so that each subscription meets measurements.
                    let end = format!("({last}-0");
                    let sent = || redis.cursor().as_ref() == Some(&end);
                    let soon = holds_within(Duration::from_secs(5), sent);
                    assert!(soon, "{version}, {last}: {:#?}", service.log());
                    redis.fill(last + 1, 10);
                }
                redis.wait_for_cursor("(150-0");
                wait_until("both are asked for", || broker.count(Kind::Subscribe) == 2);
                // The answers come after all.
                let packets = broker.packets();
                let asked = packets.iter().filter(|one| one.kind == Kind::Subscribe);
                asked.for_each(|asked| broker.send(&asked.answer(None)));
                let level = packets[0].version;
                let command = br#"{"command":"get_status"}"#;
                broker.send(&message(level, REQUEST, command));
                wait_until("a command is answered", || {
                    broker.messages(RESPONSE).len() == 1
                });
                redis.fill(151, 10);
                redis.wait_for_cursor("(160-0");
                assert_arrived(&broker.ids(), &consecutive(1, 160));
                assert_eq!(broker.connects(), 1);
                assert_eq!(service.count_log("no commands"), 0);
            });
        }
    });
}

#[test]
fn a_refused_subscription_is_tried_again_while_measurements_flow() {
    if !long() {
        return; // It takes a minute.
    }
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.on(Kind::Subscribe, Answer::Code(0x87));
    let _service = Service::of_device(&redis, broker.port, &[]);
    wait_until("both were refused", || broker.count(Kind::Subscribe) == 2);
    broker.be_honest();
    let mut last = 0;
    assert!(
        holds_within(Duration::from_secs(75), || {
            last += 1;
            redis.fill(last, 1);
            broker.count(Kind::Subscribe) == 4
        }),
        "it is not tried again"
    );
    redis.wait_for_cursor(&format!("({last}-0"));
}

/// The variables by which the name `broker.example` has these addresses, for one process.
fn named(folder: &Path, addresses: &[IpAddr]) -> [(&'static str, String); 3] {
    let hosts: Vec<String> = addresses
        .iter()
        .map(|address| format!("{address} broker.example\n"))
        .collect();
    let file = folder.join("hosts");
    std::fs::write(&file, hosts.concat()).expect("hosts");
    [
        ("LD_PRELOAD", "libnss_wrapper.so".into()),
        ("NSS_WRAPPER_HOSTS", file.display().to_string()),
        ("MQTT_HOST", "broker.example".into()),
    ]
}

/// Takes no connection and refuses none, as an address does behind which nothing is.
fn black_hole(address: IpAddr, port: u16) -> (OwnedFd, Vec<OwnedFd>) {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let address = SocketAddr::new(address, port);
    let socket = || net::socket(family, SocketType::STREAM, None).expect("a socket");
    let listener = socket();
    net::sockopt::set_socket_reuseaddr(&listener, true).expect("an option");
    net::bind(&listener, &address).expect("bind");
    net::listen(&listener, 0).expect("listen");
    // Its queue is full: what comes now is dropped.
    let waiting = (0..4).map(|_| {
        let client = socket();
        rustix::io::ioctl_fionbio(&client, true).expect("an option");
        net::connect(&client, &address).ok();
        client
    });
    let waiting = waiting.collect();
    (listener, waiting)
}

#[test]
fn the_address_that_answers_is_the_one_that_is_used() {
    let [v6, v4, other] = [
        IpAddr::from(Ipv6Addr::LOCALHOST),
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(127, 0, 0, 2).into(),
    ];
    for (dead, alive) in [(other, v4), (v4, other), (v6, v4), (v4, v6)] {
        for silent in [false, true] {
            let (redis, broker) = (Redis::start(&[]), Scripted::at(&[alive]));
            let _hole = silent.then(|| black_hole(dead, broker.port));
            redis.fill(1, 10);
            let folder = tempfile::tempdir().expect("folder");
            let mut settings = named(folder.path(), &[dead, alive]).to_vec();
            settings.push(("BALENA_DEVICE_UUID", "u1".into()));
            let service = Service::between(redis.port, broker.port, &settings);
            assert!(
                holds_within(Duration::from_secs(30), || {
                    redis.cursor().as_deref() == Some("(10-0")
                }),
                "{alive} beside {dead}, silent: {silent}: {:#?}",
                service.log()
            );
            assert!(broker.packets().iter().all(|one| one.at.ip() == alive));
        }
    }
}

#[test]
fn the_connection_moves_to_the_address_that_is_left() {
    let [v4, other] = [127, 128].map(|nth| IpAddr::from(Ipv4Addr::new(127, 0, 0, nth)));
    let (redis, broker) = (Redis::start(&[]), Scripted::at(&[v4]));
    let folder = tempfile::tempdir().expect("folder");
    let settings = named(folder.path(), &[v4, other]);
    let service = Service::between(redis.port, broker.port, &settings);
    redis.fill(1, 10);
    redis.wait_for_cursor("(10-0");
    let port = broker.port;
    drop(broker);
    let broker = Scripted::on_port(&[other], port).expect("the other address");
    redis.fill(11, 10);
    redis.wait_for_cursor("(20-0");
    assert!(broker.packets().iter().all(|one| one.at.ip() == other));
    assert_eq!(service.count_log("ERROR"), 0, "{:#?}", service.log());
}

#[test]
fn after_an_outage_all_are_back_within_twice_its_length() {
    let [count, outage] = if long() { [200, 20] } else { [12, 6] };
    let redis = Redis::start(&[]);
    redis.set("mqtt_sender:enabled", "0");
    let port = support::free_port();
    let address = [Ipv4Addr::LOCALHOST.into()];
    let broker = Scripted::on_port(&address, port).expect("a broker");
    let services: Vec<Service> = (0..count)
        .map(|nth| Service::of_device(&redis, port, &[("MQTT_CLIENT_ID", &format!("c{nth}"))]))
        .collect();
    wait_until("all are connected", || broker.connects() as u64 >= count);
    drop(broker);
    let begun = Instant::now();
    let lost = |service: &Service| service.count_log("disconnected from") > 0;
    wait_until("all have noticed", || services.iter().all(lost));
    holds_within(
        Duration::from_secs(outage).saturating_sub(begun.elapsed()),
        || false,
    );
    let broker = Scripted::on_port(&address, port).expect("the broker again");
    let back = Instant::now();
    let within = Duration::from_secs(outage + 3 + outage / 4);
    let all = || broker.connects() as u64 >= count;
    assert!(
        holds_within(within, all),
        "{} of {count} are back after {:?}",
        broker.connects(),
        back.elapsed()
    );
    if count >= 100 {
        let packets = broker.packets();
        let times = packets
            .iter()
            .filter(|one| one.kind == Kind::Connect)
            .map(|one| one.when);
        let times: Vec<Instant> = times.collect();
        let second = Duration::from_secs(1);
        let within = |from: &Instant| {
            let same = |at: &&Instant| *at >= from && **at < *from + second;
            times.iter().filter(same).count()
        };
        let most = times.iter().map(within).max().unwrap_or(0) as u64;
        assert!(most <= count / 4, "{most} of {count} in one second");
    }
}

#[test]
fn nothing_larger_than_the_broker_takes_is_published() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.announce_maximum_packet(2000);
    // Who sends more is cut off.
    broker.script(|packet| match packet.body.len() > 1997 {
        true => disconnect(0x95),
        false => Answer::Honest,
    });
    redis.set("large", &"x".repeat(10_000));
    redis.fill(1, 100);
    fill_fast(&redis, 101, 1, 5000);
    redis.fill(102, 99);
    let service = Service::of_device(&redis, broker.port, &[]);
    redis.wait_for_cursor("(200-0");
    wait_until("it has subscribed", || broker.count(Kind::Subscribe) == 2);
    let replies = || -> Vec<serde_json::Value> {
        let replies = broker.messages(RESPONSE);
        let json = |reply: &Packet| serde_json::from_slice(&reply.payload).expect("JSON");
        replies.iter().map(json).collect()
    };
    for (nth, command) in [
        r#"{"command":"get_config","key":"large"}"#,
        r#"{"command":"send_measurements"}"#,
        r#"{"command":"get_config","key":"none"}"#,
    ]
    .iter()
    .enumerate()
    {
        broker.send(&message(5, REQUEST, command.as_bytes()));
        wait_until(command, || replies().len() > nth);
    }
    let replies = replies();
    assert!(replies[0]["error"].is_string(), "{replies:?}");
    assert_eq!(replies[1]["command"], "send_measurements");
    assert!(replies[2].get("value").is_some(), "{replies:?}");
    assert_eq!(broker.connects(), 1, "{:?}", service.log());
    assert_eq!(service.count_log("client ID"), 0);
    assert_eq!(service.count_log("ACL"), 0, "{:?}", service.log());
    assert_eq!(dead_letters(&redis).len(), 1);
}

#[test]
fn a_broker_without_qos_1_is_told_and_gets_nothing() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.announce(&[0x24, 0]);
    redis.fill(1, 100);
    let service = Service::of_device(&redis, broker.port, &[]);
    service.wait_for_log("the broker takes no messages of QoS 1");
    wait_until("it is tried again", || broker.connects() > 1);
    assert_eq!(broker.count(Kind::Publish), 0);
    assert_eq!(redis.cursor(), None);
    assert_eq!(service.count_log("(MQTT 3.1.1)"), 0, "{:?}", service.log());
}

/// All that a CONNACK of MQTT 5 may hold, as narrow as it may be.
#[test]
fn whatever_a_good_broker_announces_measurements_flow() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    let narrow: [&[u8]; 15] = [
        &[0x11, 0, 0, 0, 0],                   // session expiry: at once
        &[0x12, 0, 4, b'n', b'a', b'm', b'e'], // assigned client ID
        &[0x13, 0, 1],                         // server keep alive
        &[0x1A, 0, 1, b'r'],                   // response information
        &[0x1C, 0, 1, b's'],                   // server reference
        &[0x1F, 0, 2, b'o', b'k'],             // reason
        &[0x21, 0, 1],                         // receive maximum
        &[0x22, 0, 0],                         // topic aliases
        &[0x24, 1],                            // maximum QoS
        &[0x25, 0],                            // no retained messages
        &[0x26, 0, 1, b'a', 0, 1, b'b'],       // user property
        &[0x26, 0, 1, b'a', 0, 1, b'b'],       // and again
        &[0x27, 0, 0, 1, 0],                   // packets of 256 bytes
        &[0x28, 0],                            // no wildcards
        &[0x29, 0, 0x2A, 0],                   // no identifiers, no shared ones
    ];
    broker.announce(&narrow.concat());
    broker.script(|packet| match packet.kind {
        Kind::Publish if packet.retained => disconnect(0x9A),
        Kind::Subscribe if packet.filters[0].contains('+') => Answer::Code(0xA2),
        // The other one is granted with less than was asked for.
        Kind::Subscribe => Answer::Code(0),
        _ if packet.body.len() > 254 => disconnect(0x95),
        _ => Answer::Honest,
    });
    redis.fill(1, 50);
    let settings = [("MQTT_TOPIC_BROADCAST", "iot-projekt/+/control")];
    let service = Service::of_device(&redis, broker.port, &settings);
    redis.wait_for_cursor("(50-0");
    service.wait_for_log("no commands arrive on \"iot-projekt/+/control\"");
    redis.set("large", &"x".repeat(1000));
    for key in ["large", "none"] {
        let before = broker.messages(RESPONSE).len();
        let command = format!(r#"{{"command":"get_config","key":"{key}"}}"#);
        broker.send(&message(5, REQUEST, command.as_bytes()));
        wait_until("a command is answered", || {
            broker.messages(RESPONSE).len() > before
        });
    }
    wait_until("it pings as often as the broker wants", || {
        broker.count(Kind::Pingreq) >= 2
    });
    assert_eq!(broker.connects(), 1, "{:?}", service.log());
    assert_arrived(&broker.ids(), &consecutive(1, 50));
    assert!(dead_letters(&redis).is_empty());
}

#[test]
fn a_broker_that_takes_no_measurement_at_all_makes_no_dead_letters() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.announce_maximum_packet(100);
    redis.fill(1, 100);
    let service = Service::of_device(&redis, broker.port, &[]);
    service.wait_for_log("measurements are not accepted on");
    assert!(!holds_within(Duration::from_secs(3), || redis
        .cursor()
        .is_some()));
    assert!(dead_letters(&redis).is_empty());
    assert!(
        service.count_log("was not confirmed") < 4,
        "{:?}",
        service.log()
    );
    broker.announce(&[]);
    broker.cut();
    redis.wait_for_cursor("(100-0");
    assert_arrived(&broker.ids(), &consecutive(1, 100));
}
