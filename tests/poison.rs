//! Measurements that the broker does not take: isolated, copied, never passed without their
//! copy; and what only looks as if the broker did not take them.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::proxy::{Behaviour, Proxy};
use support::scripted::{Answer, Kind, Packet, Scripted};
use support::stream::{assert_arrived, consecutive, dead_letters, fill_fast, length, long, status};
use support::{Mosquitto, Receiver, Redis, Service, holds_within, wait_until};

const DEAD_LETTER: &str = "mqtt_sender:dead_letter";

fn holds_poison(packet: &Packet, id: &str) -> bool {
    let needle = format!("\"_id\":\"{id}\"");
    packet.kind == Kind::Publish
        && packet
            .payload
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
}

/// A broker that answers lists with this measurement in its own way.
fn allergic(id: &'static str, answer: Answer) -> Scripted {
    let broker = Scripted::start();
    broker.script(move |packet| match holds_poison(packet, id) {
        true => answer.clone(),
        false => Answer::Honest,
    });
    broker
}

/// What has arrived and was accepted, each once.
fn accepted(broker: &Scripted, without: u64) -> Vec<(u64, u64)> {
    let ids = support::receiver::first_arrivals(&broker.ids());
    ids.into_iter().filter(|id| id.0 != without).collect()
}

fn all_but(poison: u64, count: u64) -> Vec<(u64, u64)> {
    let mut ids = consecutive(1, count);
    ids.retain(|id| id.0 != poison);
    ids
}

#[test]
fn poison_of_5000_fields_is_copied_whole() {
    let (redis, broker) = (Redis::start(&[]), allergic("50-0", Answer::Code(0x99)));
    redis.fill(1, 49);
    let mut words = vec![
        "XADD".to_string(),
        "measurement:values".into(),
        "50-0".into(),
    ];
    for field in 0..5000 {
        words.extend([format!("field{field}"), format!("value{field}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    redis.command::<String>(&words);
    redis.fill(51, 50);
    let service = Service::of_device(&redis, broker.port, &[]);
    redis.wait_for_cursor("(100-0");
    let dead = dead_letters(&redis);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].len(), 5002);
    assert_eq!(dead[0]["field4999"], "value4999");
    assert_eq!(dead[0]["_id"], "50-0");
    assert_eq!(accepted(&broker, 50), all_but(50, 100));
    assert_eq!(service.count_log("ERROR"), 1);
}

#[test]
fn poison_without_a_copy_holds_the_cursor_and_the_trim_but_not_the_delivery() {
    for interval in ["0.1", "0"] {
        let (redis, broker) = (Redis::start(&[]), allergic("50-0", Answer::Code(0x99)));
        redis.set(DEAD_LETTER, "of another type");
        redis.fill(1, 100);
        let settings = [("INTERVAL_SECONDS", interval), ("KEEP_SENT", "0")];
        let mut service = Service::of_device(&redis, broker.port, &settings);
        let wait_for = |last: u64| {
            wait_until("what lies behind is delivered", || {
                accepted(&broker, 50).last() == Some(&(last, 0))
            });
        };
        wait_for(100);
        redis.wait_for_cursor("(49-0");
        wait_until("what lies before is trimmed", || length(&redis) == 51);
        redis.fill(101, 100);
        wait_for(200);
        service.wait_for_log("the measurement 50-0 is refused by the broker and cannot be copied");
        assert!(!holds_within(Duration::from_secs(3), || {
            redis.cursor().as_deref() != Some("(49-0") || length(&redis) != 151
        }));
        assert_eq!(service.count_log("ERROR"), 1, "{:?}", service.log());
        assert_eq!(status(&redis, "lost"), "0");

        // A restart repeats what lies behind it, and still does not pass it.
        service.kill();
        let service = Service::of_device(&redis, broker.port, &settings);
        redis.fill(201, 100);
        wait_for(300);
        assert_eq!(redis.cursor().as_deref(), Some("(49-0"));
        redis.command::<u64>(&["DEL", DEAD_LETTER]);
        redis.wait_for_cursor("(300-0");
        wait_until("all is trimmed", || length(&redis) == 0);
        let dead = dead_letters(&redis);
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0]["_id"], "50-0");
        assert_eq!(accepted(&broker, 50), all_but(50, 300));
        wait_until("it is counted", || status(&redis, "dead_letters") == "1");
        assert_eq!(status(&redis, "lost"), "0", "{:?}", service.log());
    }
}

#[test]
fn poison_at_a_full_redis_is_copied_when_there_is_room() {
    let redis = Redis::start(&[]);
    let broker = allergic("50-0", Answer::Code(0x99));
    redis.fill(1, 100);
    let limit = |bytes: &str| redis.command::<()>(&["CONFIG", "SET", "maxmemory", bytes]);
    limit("1");
    let service = Service::of_device(&redis, broker.port, &[]);
    wait_until("what lies behind is delivered", || {
        accepted(&broker, 50).last() == Some(&(100, 0))
    });
    redis.wait_for_cursor("(49-0");
    service.wait_for_log("the measurement 50-0 is refused by the broker and cannot be copied");
    limit("0");
    redis.wait_for_cursor("(100-0");
    assert_eq!(dead_letters(&redis).len(), 1);
    assert_eq!(accepted(&broker, 50), all_but(50, 100));
}

#[test]
fn any_code_that_speaks_of_the_content_isolates_the_measurement() {
    for code in [0x80, 0x83, 0x99, 0x95] {
        let (redis, broker) = (Redis::start(&[]), allergic("500-0", Answer::Code(code)));
        redis.fill(1, 1000);
        let service = Service::of_device(&redis, broker.port, &[]);
        redis.wait_for_cursor("(1000-0");
        assert_eq!(dead_letters(&redis).len(), 1, "{code:#x}");
        assert_eq!(accepted(&broker, 500), all_but(500, 1000), "{code:#x}");
        assert_eq!(service.count_log("disconnected"), 0);
    }
}

#[test]
fn a_measurement_that_is_never_acknowledged_is_isolated() {
    // The service has to find out by itself that the broker is alive: its keep alive is long.
    std::thread::scope(|scope| {
        for version in ["5", "3.1.1"] {
            scope.spawn(move || {
                let (redis, broker) = (Redis::start(&[]), allergic("5-0", Answer::Nothing));
                redis.fill(1, 20);
                let settings = [
                    ("MQTT_ACK_TIMEOUT_SECONDS", if long() { "30" } else { "1" }),
                    ("MQTT_VERSION", version),
                ];
                let service = Service::of_device(&redis, broker.port, &settings);
                let patience = Duration::from_secs(if long() { 900 } else { 55 });
                let done = || redis.cursor().as_deref() == Some("(20-0");
                assert!(holds_within(patience, done), "{:?}", service.log());
                let dead = dead_letters(&redis);
                assert_eq!(dead.len(), 1);
                assert_eq!(dead[0]["_id"], "5-0");
                assert_eq!(accepted(&broker, 5), all_but(5, 20));
            });
        }
    });
}

#[test]
fn a_broker_that_is_silent_about_everything_is_no_proof_against_a_measurement() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    redis.fill(1, 20);
    broker.script(|packet| match packet.kind {
        Kind::Publish | Kind::Pingreq => Answer::Nothing,
        _ => Answer::Honest,
    });
    let _service = Service::of_device(&redis, broker.port, &[("MQTT_ACK_TIMEOUT_SECONDS", "1")]);
    wait_until("it was tried often", || broker.count(Kind::Publish) >= 4);
    broker.be_honest();
    redis.wait_for_cursor("(20-0");
    assert!(dead_letters(&redis).is_empty());
}

#[test]
fn black_holes_dead_letter_nothing() {
    let [good, hole, keep_alive] = if long() { [25, 17, 10] } else { [6, 4, 2] };
    std::thread::scope(|scope| {
        for version in ["5", "3.1.1"] {
            scope.spawn(move || {
                let (redis, mosquitto) = (Redis::start(&[]), Mosquitto::start(""));
                let receiver = Receiver::start(mosquitto.port, &["iot-projekt/device/#"]);
                let proxy = Proxy::start(mosquitto.port);
                redis.fill(1, 100);
                let service = Service::of_device(
                    &redis,
                    proxy.port,
                    &[
                        ("MQTT_KEEPALIVE_SECONDS", &keep_alive.to_string()),
                        ("MQTT_VERSION", version),
                    ],
                );
                let mut last = 100;
                let mut flow = |seconds: u64, delivered: bool| {
                    let (begun, before) = (Instant::now(), receiver.distinct());
                    while begun.elapsed() < Duration::from_secs(seconds) {
                        redis.fill(last + 1, 10);
                        last += 10;
                        // The pace of the sensors.
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    assert!(
                        !delivered || receiver.distinct() > before,
                        "nothing in {seconds} s of good line: {:?}",
                        service.log()
                    );
                };
                for _ in 0..5 {
                    flow(good, true);
                    proxy.set(Behaviour {
                        swallow_up: true,
                        swallow_down: true,
                        ..Behaviour::default()
                    });
                    flow(hole, false);
                    proxy.heal();
                    // What was swallowed is a gap in the bytes that no network heals.
                    proxy.cut();
                }
                redis.wait_for_cursor(&format!("({last}-0"));
                wait_until("all have arrived", || receiver.distinct() as u64 == last);
                assert_arrived(&receiver.ids(), &consecutive(1, last));
                assert!(dead_letters(&redis).is_empty());
            });
        }
    });
}

#[test]
fn a_slow_line_is_no_silent_broker() {
    let [bytes, keep_alive, ack_timeout] = if long() {
        [80_000, 5, 30]
    } else {
        [16_000, 2, 2]
    };
    std::thread::scope(|scope| {
        for version in ["5", "3.1.1"] {
            scope.spawn(move || {
                let (redis, broker) = (Redis::start(&[]), Scripted::start());
                let proxy = Proxy::start(broker.port);
                proxy.set(Behaviour {
                    rate: 2000,
                    ..Behaviour::default()
                });
                redis.fill(1, 5);
                fill_fast(&redis, 6, 1, bytes);
                redis.fill(7, 5);
                let service = Service::of_device(
                    &redis,
                    proxy.port,
                    &[
                        ("MQTT_KEEPALIVE_SECONDS", &keep_alive.to_string()),
                        ("MQTT_ACK_TIMEOUT_SECONDS", &ack_timeout.to_string()),
                        ("MQTT_VERSION", version),
                    ],
                );
                let patience = Duration::from_secs(if long() { 900 } else { 120 });
                let done = || redis.cursor().as_deref() == Some("(11-0");
                assert!(holds_within(patience, done), "{:#?}", service.log());
                assert!(dead_letters(&redis).is_empty());
                assert_arrived(&broker.ids(), &consecutive(1, 11));
            });
        }
    });
}

/// A broker that refuses all measurements, the empty list as well, for as long as the flag stands.
fn refusing(code: u8) -> (Scripted, Arc<AtomicBool>) {
    let (broker, refuses) = (Scripted::start(), Arc::new(AtomicBool::new(true)));
    let flag = refuses.clone();
    broker.script(move |packet| match packet.kind {
        Kind::Publish if flag.load(Ordering::Relaxed) => Answer::Code(code),
        _ => Answer::Honest,
    });
    (broker, refuses)
}

#[test]
fn a_broker_that_refuses_everything_for_a_while_convicts_nothing_and_nothing_is_lost() {
    std::thread::scope(|scope| {
        for (code, count) in [(0x80, 60), (0x83, 1), (0x91, 3), (0x99, 40)] {
            scope.spawn(move || refused_for_a_while(code, count));
        }
    });
}

fn refused_for_a_while(code: u8, count: u64) {
    let (redis, (broker, refuses)) = (Redis::start(&[]), refusing(code));
    redis.fill(1, count);
    let settings = [("INTERVAL_SECONDS", "0.1"), ("BATCH_MAX_COUNT", "20")];
    let service = Service::of_device(&redis, broker.port, &settings);
    service.wait_for_log("measurements are not accepted on");
    // It waits for the next attempt; one more comes while they are held back.
    broker.forget();
    refuses.store(false, Ordering::Relaxed);
    redis.fill(count + 1, 1);
    redis.wait_for_cursor(&format!("({}-0", count + 1));
    let arrived = support::receiver::first_arrivals(&broker.ids());
    assert_eq!(arrived, consecutive(1, count + 1), "{code:#x}, in order");
    assert!(dead_letters(&redis).is_empty());
    wait_until("the status is written", || status(&redis, "backlog") == "0");
    assert_eq!(status(&redis, "lost"), "0", "{:?}", service.log());
}
