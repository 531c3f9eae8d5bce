//! The newest measurement on its own topic: right at once while a backlog is sent, seldom, and at
//! nobody's cost. `LONG=1` lets a million wait.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::proxy::{Behaviour, Proxy};
use support::scripted::{Answer, Kind, Scripted};
use support::{Mosquitto, Redis, Service, World, holds_within, wait_until};

const TOPIC: &str = "iot-projekt/device/u1/latest";
const LATEST: (&str, &str) = ("MQTT_TOPIC_LATEST", TOPIC);

/// What a dashboard gets that comes just now.
fn kept(broker: u16) -> Option<Value> {
    let output = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.to_string(), "-t", TOPIC])
        .args(["-C", "1", "-W", "2", "--retained-only"])
        .output()
        .expect("mosquitto_sub");
    serde_json::from_slice(&output.stdout).ok()
}

fn kept_id(broker: u16) -> Option<String> {
    Some(kept(broker)?["_id"].as_str()?.to_string())
}

fn add(redis: &Redis, id: &str) {
    redis.command::<()>(&["XADD", "measurement:values", id, "n", "1"]);
}

/// IDs of what was published as the newest one, with the time of its arrival.
fn published(world: &World) -> Vec<(String, Instant)> {
    let messages = world.receiver.messages(TOPIC);
    let id = |payload: &[u8]| {
        let value: Value = serde_json::from_slice(payload).expect("an object");
        value["_id"].as_str().expect("an ID").to_string()
    };
    messages
        .iter()
        .map(|message| (id(&message.payload), message.at))
        .collect()
}

/// How often Redis was asked for the newest entry.
fn asked(redis: &Redis) -> u64 {
    let stats: String = redis.command(&["INFO", "commandstats"]);
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_xrevrange:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok())
        .unwrap_or(0)
}

fn wait_until_kept(world: &World, id: &str) {
    wait_until(&format!("{id} is kept"), || {
        kept_id(world.broker.port).as_deref() == Some(id)
    });
}

#[test]
fn it_is_right_within_an_interval_of_a_connect_while_a_backlog_is_sent() {
    let count = if support::stream::long() {
        1_000_000
    } else {
        50_000
    };
    const INTERVAL: Duration = Duration::from_secs(5);
    let world = World::new();
    world.redis.fill(1, count);
    let proxy = Proxy::start(world.broker.port);
    let slow = Behaviour {
        rate: 40_000,
        ..Behaviour::default()
    };
    proxy.set(slow.clone());
    let port = proxy.port.to_string();
    let service = world.start_with(&[LATEST, ("MQTT_PORT", &port), ("INTERVAL_SECONDS", "5")]);
    service.wait_for_log("connected to 127");
    let connected = Instant::now();
    wait_until("it is published", || !published(&world).is_empty());
    let (id, at) = published(&world).remove(0);
    assert_eq!(id, format!("{count}-0"));
    assert!(at <= connected + INTERVAL, "{:?}", at - connected);
    assert_eq!(
        kept(world.broker.port),
        Some(json!({
            "_id": id,
            "_device_uuid": "u1",
            "_device_type": "dummy",
            "_app_id": "-1",
            "_app_name": "Local Test",
            "n": count.to_string(),
            "temperature_celsius": "20.3",
        }))
    );

    // Another one comes, and goes out between two lists.
    let next = format!("{}-0", count + 1);
    add(&world.redis, &next);
    wait_until("the next one is published", || {
        published(&world).last().is_some_and(|(id, _)| *id == next)
    });
    assert_eq!(kept_id(world.broker.port), Some(next.clone()));

    // What the broker holds after an outage need not be what it was told.
    proxy.cut();
    wait_until("it is connected again", || {
        service.count_log("connected to 127") == 2
    });
    wait_until("it is published again", || published(&world).len() == 3);
    assert!(
        world.receiver.distinct() < count as usize,
        "the backlog is not sent yet"
    );
    let arrived = world.receiver.ids();
    assert!(arrived.windows(2).all(|two| two[1].0 <= two[0].0 + 1));
}

#[test]
fn it_costs_nothing_when_nothing_changes_and_no_command_when_it_is_off() {
    let world = World::new();
    world.redis.fill(1, 3000);
    let settings = [("INTERVAL_SECONDS", "0.1")];
    let mut service = world.start_with(&settings);
    world.wait_for(3000);
    add(&world.redis, "3001-0");
    world.redis.wait_for_cursor("(3001-0");
    assert!(service.terminate().0.success());
    assert_eq!(asked(&world.redis), 0, "it is off");
    assert!(published(&world).is_empty());

    let service = world.start_with(&[settings[0], LATEST]);
    wait_until_kept(&world, "3001-0");
    // A measurement that comes by itself is known from its page.
    add(&world.redis, "3002-0");
    wait_until_kept(&world, "3002-0");
    service.wait_for_log("connected to 127");
    let before = asked(&world.redis);
    assert!(!holds_within(Duration::from_secs(3), || {
        asked(&world.redis) > before || published(&world).len() > 2
    }));
    assert_eq!(before, 1, "at the connect");
}

#[test]
fn it_goes_out_once_a_second_in_push_mode_and_stays_although_the_stream_is_trimmed() {
    let world = World::new();
    let settings = [LATEST, ("INTERVAL_SECONDS", "0"), ("KEEP_SENT", "0")];
    let service = world.start_with(&settings);
    service.wait_for_log("connected to 127");
    for n in 1..=60 {
        add(&world.redis, &format!("{n}-0"));
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_until_kept(&world, "60-0");
    wait_until("the stream is trimmed", || {
        support::stream::length(&world.redis) == 0
    });
    let times: Vec<Instant> = published(&world).into_iter().map(|(_, at)| at).collect();
    // A second from one to the next, as seen from behind a broker and a busy machine.
    let close = |two: &[Instant]| two[1] - two[0] < Duration::from_millis(500);
    assert!(!times.windows(2).any(close), "{times:?}");
    assert_eq!(kept_id(world.broker.port).as_deref(), Some("60-0"));
}

#[test]
fn while_sending_is_off_it_is_off_as_well() {
    let world = World::new();
    world.redis.set("mqtt_sender:enabled", "0");
    let settings = [LATEST, ("INTERVAL_SECONDS", "0.1")];
    let service = world.start_with(&settings);
    service.wait_for_log("sending is off");
    add(&world.redis, "1-0");
    assert!(!holds_within(Duration::from_secs(2), || {
        !published(&world).is_empty()
    }));
    world.redis.set("mqtt_sender:enabled", "1");
    wait_until_kept(&world, "1-0");
}

#[test]
fn a_broker_that_does_not_want_it_gets_the_measurements_all_the_same() {
    let acl = "topic read #\ntopic write iot-projekt/device/u1/values\n";
    for (extra, told) in [
        ("acl_file {folder}/acl", 0),
        ("retain_available false", 1),
        ("max_packet_size 120", 1),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("acl"), acl).expect("acl");
        let broker = Mosquitto::start_in(folder, extra);
        let redis = Redis::start(&[]);
        add(&redis, "1-0");
        let short = ("BALENA_APP_NAME", "a");
        let settings = [LATEST, ("MQTT_TOPIC_VALUES", "v"), short];
        let values = ("MQTT_TOPIC_VALUES", "iot-projekt/device/u1/values");
        let settings = match told {
            0 => [LATEST, values, short],
            _ => settings,
        };
        let service = Service::of_device(&redis, broker.port, &settings);
        redis.wait_for_cursor("(1-0");
        for n in 2..=4 {
            // Each would be published, if it were wanted.
            std::thread::sleep(Duration::from_millis(600));
            add(&redis, &format!("{n}-0"));
        }
        redis.wait_for_cursor("(4-0");
        let line = format!("no latest measurement on {TOPIC:?}");
        wait_until("it is told", || service.count_log(&line) >= told);
        assert_eq!(service.count_log(&line), told, "{:?}", service.log());
        assert_eq!(service.count_log("disconnected"), 0, "{extra}");
        assert_eq!(kept(broker.port), None, "{extra}");
    }
}

#[test]
fn one_that_is_too_large_is_left_out_and_told_once() {
    let world = World::new();
    let settings = [LATEST, ("INTERVAL_SECONDS", "0.1")];
    let service = world.start_with(&settings);
    add(&world.redis, "1-0");
    wait_until_kept(&world, "1-0");
    let large = "x".repeat(70_000);
    for id in ["2-0", "3-0"] {
        world
            .redis
            .command::<()>(&["XADD", "measurement:values", id, "n", &large]);
        world.redis.wait_for_cursor(&format!("({id}"));
    }
    let line = "the newest measurement 2-0 has more than 64 KiB";
    service.wait_for_log(line);
    assert_eq!(kept_id(world.broker.port).as_deref(), Some("1-0"));
    add(&world.redis, "4-0");
    wait_until_kept(&world, "4-0");
    assert_eq!(service.count_log("has more than 64 KiB"), 1);
}

/// The one line of the log that would blame it.
fn blamed(service: &Service) -> usize {
    service.count_log("no latest measurement on")
}

#[test]
fn it_is_not_blamed_for_poison_behind_it() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(|packet| {
        let poison = b"\"n\":\"150\"";
        let holds = packet.payload.windows(poison.len()).any(|at| at == poison);
        match packet.kind == Kind::Publish && holds {
            true => Answer::Close,
            false => Answer::Honest,
        }
    });
    redis.fill(1, 300);
    let service = Service::of_device(&redis, broker.port, &[LATEST]);
    redis.wait_for_cursor("(300-0");
    assert_eq!(support::stream::dead_letters(&redis).len(), 1);
    add(&redis, "301-0");
    wait_until("the next one is published", || {
        let messages = broker.messages(TOPIC);
        let last = messages.last().map(|packet| packet.payload.clone());
        last.is_some_and(|payload| String::from_utf8_lossy(&payload).contains("301-0"))
    });
    assert_eq!(blamed(&service), 0, "{:?}", service.log());
}

#[test]
fn it_is_not_blamed_for_a_limit_that_the_broker_does_not_name() {
    let (redis, broker) = (Redis::start(&[]), Mosquitto::start("max_packet_size 2000"));
    redis.fill(1, 400);
    let large = "x".repeat(6000);
    for id in ["401-0", "501-0"] {
        redis.command::<()>(&["XADD", "measurement:values", id, "n", &large]);
        redis.fill(id[..3].parse::<u64>().expect("a number") + 1, 99);
    }
    let settings = [LATEST, ("MQTT_VERSION", "3.1.1")];
    let service = Service::of_device(&redis, broker.port, &settings);
    wait_until("both are out of the way", || {
        support::stream::dead_letters(&redis).len() == 2
    });
    redis.wait_for_cursor("(600-0");
    add(&redis, "601-0");
    wait_until("the next one is kept", || {
        kept_id(broker.port).as_deref() == Some("601-0")
    });
    assert_eq!(blamed(&service), 0, "{:?}", service.log());
}

#[test]
fn it_is_fresh_while_a_list_waits_for_the_rate_of_a_catch_up() {
    let world = World::new();
    world.redis.fill(1, 5000);
    let rate = ("CATCH_UP_BYTES_PER_SECOND", "1000");
    let service = world.start_with(&[LATEST, rate, ("INTERVAL_SECONDS", "1")]);
    service.wait_for_log("connected to 127");
    wait_until_kept(&world, "5000-0");
    let begun = Instant::now();
    for id in 5001..=5008 {
        let id = format!("{id}-0");
        add(&world.redis, &id);
        wait_until("it is published", || {
            published(&world)
                .last()
                .is_some_and(|(last, _)| *last == id)
        });
    }
    // An interval each. It was five seconds each where only a look at the stream told.
    assert!(begun.elapsed() < Duration::from_secs(24));
    assert!(world.receiver.distinct() < 5000, "the backlog is not sent");
}
