//! Sizes: of lists behind an outage, of what Redis is asked for, of this program's memory.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::scripted::{Answer, Kind, Scripted};
use support::stream::{dead_letters, fill_fast, length, long, status};
use support::{Mosquitto, Redis, Service, World, holds_within, wait_until};

const VALUES: &str = "iot-projekt/device/u1/values";

#[test]
fn lists_are_full_again_soon_after_many_that_were_not_answered() {
    thread::scope(|scope| {
        // While nothing else is answered either, the time for a list doubles each time.
        let (silent, answered) = if long() { (6, 13) } else { (3, 6) };
        scope.spawn(move || full_again_after(silent, &Answer::Nothing, &[]));
        // While all else is, neither that time grows nor the one between two connections.
        let status = ("MQTT_TOPIC_STATUS", "status");
        scope.spawn(move || full_again_after(answered, &Answer::Honest, &[status]));
    });
}

/// So many lists in a row are not answered, and what else comes meanwhile like this.
fn full_again_after(unanswered: usize, other: &Answer, more: &[(&'static str, &str)]) {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    fill_fast(&redis, 1, 40_000, 100);
    let (mut lists, other) = (0, other.clone());
    broker.script(move |packet| match packet.kind {
        Kind::Publish if packet.topic == VALUES => {
            lists += 1;
            if lists <= unanswered {
                Answer::Nothing
            } else {
                Answer::after(Duration::from_millis(20), Answer::Honest)
            }
        }
        Kind::Publish | Kind::Pingreq if lists <= unanswered => other.clone(),
        _ => Answer::Honest,
    });
    let mut settings = vec![("MQTT_ACK_TIMEOUT_SECONDS", "1")];
    settings.extend(more);
    let service = Service::of_device(&redis, broker.port, &settings);
    assert!(holds_within(Duration::from_secs(900), || {
        broker.messages(VALUES).len() > unanswered
    }));
    let good = Instant::now();
    wait_until("a list is full again", || {
        broker
            .messages(VALUES)
            .iter()
            .skip(unanswered)
            .any(|list| list.payload.len() > 60_000)
    });
    assert!(good.elapsed() < Duration::from_secs(30));
    redis.wait_for_cursor("(40000-0");
    assert!(support::stream::dead_letters(&redis).is_empty());
    assert_eq!(service.count_log("ERROR"), 0);
}

/// Asks Redis again and again; the longest wait for an answer.
fn longest_wait(redis: &Redis, stop: &AtomicBool) -> Duration {
    let mut connection = redis.connection();
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        redis::cmd("PING")
            .query::<String>(&mut connection)
            .expect("PING");
        longest = longest.max(begun.elapsed());
        thread::sleep(Duration::from_millis(1));
    }
    longest
}

fn memory(redis: &Redis, field: &str) -> u64 {
    let info: String = redis.command(&["INFO", "memory"]);
    let value = info.split(&format!("{field}:")).nth(1).unwrap_or_default();
    let value = value.lines().next().unwrap_or_default();
    value.trim().parse().expect("a number")
}

#[test]
fn a_million_sent_entries_do_not_keep_redis_busy() {
    // To remove them is work, and to find the first of those that stay as well. Neither waits
    // until as many were sent as an earlier run has left behind.
    trim_a_million(1000);
    trim_a_million(800_000);
}

fn trim_a_million(keep: u64) {
    let (redis, broker) = (Redis::start(&["--appendonly", "no"]), Mosquitto::start(""));
    fill_fast(&redis, 1, 1_000_000, 20);
    redis.set("mqtt_sender:last_id", "(900000-0");
    let before = memory(&redis, "used_memory");
    // A machine that is busy with other tests keeps Redis waiting as well.
    let micros = if long() { "50000" } else { "250000" };
    redis.command::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", micros]);
    redis.command::<()>(&["SLOWLOG", "RESET"]);
    let stop = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let asking = scope.spawn(|| longest_wait(&redis, &stop));
        let kept = keep.to_string();
        let settings = [("KEEP_SENT", kept.as_str()), ("INTERVAL_SECONDS", "0.1")];
        let _service = Service::of_device(&redis, broker.port, &settings);
        redis.fill(1_000_001, 2000);
        redis.wait_for_cursor("(1002000-0");
        let trimmed = holds_within(Duration::from_secs(50), || {
            length(&redis) <= keep + 110_000.min(keep / 10 + 2000)
                && status(&redis, "backlog") == "0"
        });
        stop.store(true, Ordering::Relaxed);
        assert!(trimmed, "{} are left", length(&redis));
        asking.join().expect("PING")
    });
    let slow: u64 = redis.command(&["SLOWLOG", "LEN"]);
    assert_eq!(
        slow, 0,
        "commands of more than {micros} µs; PING took {longest:?}"
    );
    let grown = memory(&redis, "used_memory_peak").saturating_sub(before);
    assert!(grown < 10_000_000, "Redis has grown by {grown} bytes");
    println!("longest PING {longest:?}, Redis grew by {grown} bytes");
}

#[test]
fn memory_does_not_follow_the_size_of_the_entries() {
    let count = if long() { 400 } else { 150 };
    let (redis, broker) = (Redis::start(&["--appendonly", "no"]), Mosquitto::start(""));
    // Small ones lead to large pages.
    fill_fast(&redis, 1, 5000, 10);
    fill_fast(&redis, 5001, count, 500_000);
    let settings = [("INTERVAL_SECONDS", "0")];
    let service = Service::of_device(&redis, broker.port, &settings);
    redis.wait_for_cursor(&format!("({}-0", 5000 + count));
    let peak = service.peak_memory();
    assert!(peak < 24 * 1024, "{peak} KiB");
    println!("{peak} KiB at the peak");
}

#[test]
fn nor_the_size_of_what_they_become_on_the_wire() {
    let (count, bytes) = if long() {
        (400, 1_000_000)
    } else {
        (8, 900_000)
    };
    // 3 and 6 bytes for each.
    for byte in ["\\255", "\\1"] {
        let (redis, broker) = (Redis::start(&["--appendonly", "no"]), Mosquitto::start(""));
        redis.fill(1, 100);
        let fill = format!(
            "local value = string.rep('{byte}', {bytes}) \
            for id = 101, {} do redis.call('XADD', KEYS[1], id .. '-0', 'n', value) end",
            100 + count
        );
        redis.command::<()>(&["EVAL", &fill, "1", "measurement:values"]);
        redis.fill(101 + count, 100);
        for interval in ["0", "0.1"] {
            redis.command::<()>(&["DEL", "mqtt_sender:last_id"]);
            let settings = [("INTERVAL_SECONDS", interval)];
            let service = Service::of_device(&redis, broker.port, &settings);
            let patience = Duration::from_secs(60 + 3 * count);
            let end = format!("({}-0", 200 + count);
            let sent = || redis.cursor().as_ref() == Some(&end);
            assert!(holds_within(patience, sent), "{:#?}", service.log());
            peak_is_small(&service, byte);
            println!("{byte}, {interval}: {} KiB", service.peak_memory());
        }
    }
}

/// One entry, as a client writes it.
fn add(redis: &Redis, id: &str, fields: impl Iterator<Item = (String, String)>) {
    let mut command = redis::cmd("XADD");
    command.arg("measurement:values").arg(id);
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command
        .query::<String>(&mut redis.connection())
        .expect("XADD");
}

fn peak_is_small(service: &Service, what: &str) {
    let peak = service.peak_memory();
    assert!(peak < 24 * 1024, "{what}: {peak} KiB");
}

/// A measurement as it has arrived.
fn measurement(world: &World, id: &str) -> HashMap<String, String> {
    let lists = world.receiver.lists();
    let mut all = lists.iter().flat_map(|list| {
        serde_json::from_slice::<Vec<HashMap<String, String>>>(&list.payload).expect("a list")
    });
    all.find(|entry| entry["_id"] == id)
        .expect("it has arrived")
}

const MANY: u64 = 100_000;

/// Fields with names that differ, that are all the same, and of which each comes twice.
fn many(kind: &str) -> impl Iterator<Item = (String, String)> {
    let of = match kind {
        "different" => |n: u64| n,
        "equal" => |_| 0,
        _ => |n| n % (MANY / 2),
    };
    (0..MANY).map(move |n| (format!("f{:05}", of(n)), (n % 10).to_string()))
}

#[test]
fn entries_of_a_hundred_thousand_fields_cost_little_more_than_they_are() {
    for kind in ["different", "equal", "twice"] {
        let world = World::new();
        world.redis.fill(1, 10);
        for id in ["11-0", "12-0", "13-0"] {
            add(&world.redis, id, many(kind));
        }
        world.redis.fill(14, 10);
        let service = world.start_with(&[("INTERVAL_SECONDS", "0")]);
        world.redis.wait_for_cursor("(23-0");
        world.wait_for(23);
        let expected: Vec<_> = (1..=23).map(|ms| (ms, 0)).collect();
        assert_eq!(world.receiver.ids(), expected);
        let mut sent = measurement(&world, "12-0");
        sent.retain(|name, _| !name.starts_with('_'));
        assert_eq!(sent, many(kind).collect());
        let request = r#"{"command":"send_measurements","min_id":"12-0","max_id":"12-0"}"#;
        world
            .receiver
            .publish("iot-projekt/device/u1/request", request, false);
        wait_until("it was sent again", || world.receiver.total() == 24);
        peak_is_small(&service, kind);
    }
}

#[test]
fn an_entry_of_a_hundred_thousand_fields_that_no_broker_takes_is_copied() {
    let world = World::with_broker("max_packet_size 100000");
    world.redis.fill(1, 10);
    add(
        &world.redis,
        "11-0",
        many("different").chain([("_id".into(), "own".into())]),
    );
    world.redis.fill(12, 10);
    let service = world.start_with(&[("INTERVAL_SECONDS", "0")]);
    world.redis.wait_for_cursor("(21-0");
    world.wait_for(20);
    let letters = dead_letters(&world.redis);
    let mut fields: HashMap<String, String> = many("different").collect();
    fields.insert("_id".into(), "11-0".into());
    fields.insert("__id".into(), "own".into());
    fields.insert("_reason".into(), letters[0]["_reason"].clone());
    assert_eq!((letters.len(), &letters[0]), (1, &fields));
    let expected: Vec<_> = (1..=10).chain(12..=21).map(|ms| (ms, 0)).collect();
    assert_eq!(world.receiver.ids(), expected);
    peak_is_small(&service, "the copy");
}
