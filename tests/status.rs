//! What the service tells: the record in Redis, the topic with its last will, `--status`, the log.

mod support;

use std::collections::HashMap;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::service::command;
use support::{Mosquitto, Receiver, Redis, Service, World, holds_within, wait_until};

const TOPIC: (&str, &str) = (
    "MQTT_TOPIC_STATUS",
    "iot-projekt/device/%(device_uuid)s/status",
);
const STATUS_TOPIC: &str = "iot-projekt/device/u1/status";

fn record(redis: &Redis) -> HashMap<String, String> {
    redis.command(&["HGETALL", "mqtt_sender:status"])
}

/// Waits until a field of the record has a value.
fn wait_for(redis: &Redis, field: &str, value: &str) {
    wait_until(&format!("{field} is {value}"), || {
        record(redis).get(field).map(String::as_str) == Some(value)
    });
}

fn ask(world: &World, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("app.conf"), "").expect("app.conf");
    let mut command = command();
    command
        .current_dir(folder.path())
        .arg("--status")
        .args(arguments);
    command.envs(world.settings()).output().expect("the binary")
}

/// `--status --json` and its exit code.
fn json_status(world: &World) -> (Value, i32) {
    let output = ask(world, &["--json"]);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (value, output.status.code().unwrap_or(-1))
}

fn text_status(world: &World) -> String {
    String::from_utf8(ask(world, &[]).stdout).expect("UTF-8")
}

/// Messages on the status topic.
fn announced(receiver: &Receiver) -> Vec<Value> {
    let messages = receiver.messages(STATUS_TOPIC);
    messages
        .iter()
        .map(|message| serde_json::from_slice(&message.payload).expect("JSON"))
        .collect()
}

#[test]
fn the_first_connection_is_told_at_once_and_that_nothing_waits() {
    let world = World::new();
    let service = world.start_with(&[]);
    service.wait_for_log("connected to 127");
    wait_until("there is a status", || !record(&world.redis).is_empty());
    let text = text_status(&world);
    let row = "backlog           0 measurements\n";
    assert!(text.contains(row), "{text}");
    // Every further change is written after five seconds at the earliest.
    let well = || json_status(&world).1 == 0;
    assert!(holds_within(Duration::from_secs(4), well));
}

#[test]
fn the_rate_of_a_backlog_that_is_held_back_is_the_limit() {
    let world = World::new();
    world.redis.fill(1, 5000);
    let limits = [
        ("CATCH_UP_BYTES_PER_SECOND", "2000"),
        ("BATCH_MAX_BYTES", "10000"),
    ];
    let _service = world.start_with(&limits);
    wait_for(&world.redis, "connected", "1");
    wait_until("the first list is told", || {
        record(&world.redis)["sent_messages"] != "0"
    });
    let ask = |arguments: &[&str]| {
        let mut command = command();
        command.arg("--status").args(arguments);
        command.envs(world.settings()).envs(limits);
        let output = command.output().expect("the binary");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for _ in 0..3 {
        let told: Value = serde_json::from_str(&ask(&["--json"])).expect("JSON");
        let number = |name: &str| told[name].as_f64().unwrap_or(-1.0);
        let bytes = number("sent_bytes") / number("sent_measurements");
        assert_eq!((number("rate") * bytes).round(), 2000.0, "{told}");
    }
}

#[test]
fn the_record_follows_what_happens() {
    let mut world = World::new();
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.2")]);
    world.redis.fill(1, 100);
    wait_for(&world.redis, "sent_measurements", "100");
    let first = record(&world.redis);
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (first["connected"].as_str(), first["enabled"].as_str()),
        ("1", "1")
    );
    assert_eq!(
        (first["interval"].as_str(), first["backlog"].as_str()),
        ("0.2", "0")
    );
    assert_eq!(first["last_id"], "(100-0");
    assert!(
        first["sent_bytes"]
            .parse::<u64>()
            .is_ok_and(|bytes| bytes > 10_000)
    );
    for field in [
        "started",
        "updated",
        "sent_messages",
        "retries",
        "reconnects",
        "lost",
        "dead_letters",
    ] {
        assert!(first[field].parse::<u64>().is_ok(), "{field}");
    }

    // Paused: what waits is counted.
    world.redis.set("mqtt_sender:enabled", "0");
    world.redis.fill(101, 50);
    wait_for(&world.redis, "backlog", "50");
    assert_eq!(record(&world.redis)["enabled"], "0");
    world.redis.set("mqtt_sender:enabled", "1");
    wait_for(&world.redis, "backlog", "0");

    // Disconnected, with the reason, and connected again.
    world.broker.stop();
    wait_for(&world.redis, "connected", "0");
    assert!(
        record(&world.redis)["last_error"].contains("closed the connection")
            || record(&world.redis)["last_error"].contains("refused")
    );
    let text = text_status(&world);
    assert!(text.contains("not connected: "), "{text}");
    assert_eq!(json_status(&world).1, 1);
    world.broker.start_again();
    wait_for(&world.redis, "connected", "1");
    assert_eq!(record(&world.redis)["reconnects"], "1");

    // A rewind, and a loss.
    world.redis.set("mqtt_sender:last_id", "-");
    wait_for(&world.redis, "sent_measurements", "300");
    world.redis.set("mqtt_sender:enabled", "0");
    service.wait_for_log("sending is off");
    world.redis.fill(151, 20);
    world
        .redis
        .command::<u64>(&["XTRIM", "measurement:values", "MAXLEN", "5"]);
    world.redis.set("mqtt_sender:enabled", "1");
    wait_for(&world.redis, "lost", "15");
    assert!(text_status(&world).contains("15 measurements were removed before they were sent"));
}

#[test]
fn the_orderly_end_and_the_hard_one_show_in_the_status() {
    let world = World::new();
    assert_eq!(json_status(&world), (json!({"running": false}), 3));
    assert!(text_status(&world).contains("has never run here"));
    let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.2"), TOPIC]);
    world.redis.fill(1, 10);
    wait_for(&world.redis, "sent_measurements", "10");
    let (value, code) = json_status(&world);
    assert_eq!(
        (value["running"].clone(), value["well"].clone(), code),
        (json!(true), json!(true), 0)
    );
    assert_eq!(
        (value["backlog"].clone(), value["last_id"].clone()),
        (json!(0), json!("(10-0"))
    );
    wait_until("it is announced", || !announced(&world.receiver).is_empty());
    let online = announced(&world.receiver).remove(0);
    assert_eq!(
        (online["state"].clone(), online["connected"].clone()),
        (json!("online"), json!(true))
    );

    // Killed: the last will arrives, and --status says stale at once.
    service.kill();
    wait_until("the last will arrives", || {
        announced(&world.receiver)
            .last()
            .is_some_and(|status| status["state"] == "offline")
    });
    assert_eq!(json_status(&world).1, 3);
    assert!(text_status(&world).contains("not running; it last wrote"));

    let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.2"), TOPIC]);
    wait_until("it is announced again", || {
        announced(&world.receiver)
            .last()
            .is_some_and(|status| status["state"] == "online")
    });
    assert!(service.terminate().0.success());
    wait_until("the goodbye arrives", || {
        announced(&world.receiver)
            .last()
            .is_some_and(|status| status["state"] == "offline" && status["reason"] == "stopped")
    });
    wait_for(&world.redis, "connected", "0");
    // Retained: who comes later sees it, too.
    let late = Receiver::start_as(world.broker.port, &["iot-projekt/device/+/status"], None);
    wait_until("the retained one arrives", || {
        announced(&late)
            .last()
            .is_some_and(|status| status["reason"] == "stopped")
    });
}

#[test]
fn the_backlog_is_exact_while_measurements_arrive() {
    let world = World::new();
    let _service = world.start_with(&[("INTERVAL_SECONDS", "0.5")]);
    world.redis.fill(1, 10);
    wait_for(&world.redis, "sent_measurements", "10");
    // Producer of 200 a second, for as long as the comparison takes.
    let port = world.redis.port;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let producer = std::thread::spawn(move || {
        let client = redis::Client::open(("127.0.0.1", port)).expect("client");
        let mut connection = client.get_connection().expect("connection");
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let _: String = redis::cmd("XADD")
                .arg(&["measurement:values", "*", "n", "1"])
                .query(&mut connection)
                .expect("XADD");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut connection = world.redis.connection();
    let mut compared = 0;
    let mut seen = 0;
    wait_until("it was compared often enough", || {
        // Of one moment: the account that goes with the cursor, and the rest by counting.
        let (cursor, position, info): (String, String, Vec<redis::Value>) = redis::pipe()
            .atomic()
            .cmd("GET")
            .arg("mqtt_sender:last_id")
            .cmd("HGET")
            .arg(&["mqtt_sender:status", "position"])
            .cmd("XINFO")
            .arg(&["STREAM", "measurement:values"])
            .query(&mut connection)
            .expect("transaction");
        let newest: String = redis::from_redis_value(info[7].clone()).expect("last-generated-id");
        let at = info
            .iter()
            .position(|field| *field == redis::Value::BulkString(b"entries-added".to_vec()))
            .expect("entries-added");
        let added: u64 = redis::from_redis_value(info[at + 1].clone()).expect("a number");
        let rest: Vec<redis::Value> = redis::cmd("XRANGE")
            .arg(&["measurement:values", &cursor, &newest])
            .query(&mut connection)
            .expect("XRANGE");
        let position: Vec<&str> = position.split(' ').collect();
        let (of, accounted) = (position[0], position[1]);
        assert_eq!(of, cursor);
        assert_eq!(
            added - accounted.parse::<u64>().expect("a number"),
            rest.len() as u64
        );
        seen = seen.max(rest.len());
        compared += 1;
        compared >= 200
    });
    assert!(seen > 10, "there was a backlog to compare");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    producer.join().expect("producer");
}

#[test]
fn the_record_is_written_seldom() {
    let world = World::new();
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    service.wait_for_log("connected to 127");
    let writes = || {
        record(&world.redis)
            .get("updated")
            .cloned()
            .unwrap_or_default()
    };
    let mut seen = vec![writes()];
    // With something new all the time: a write every 5 s.
    let (begun, mut id) = (Instant::now(), 1);
    wait_until("some time has passed", || {
        world.redis.fill(id, 1);
        id += 1;
        let now = writes();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        begun.elapsed() > Duration::from_secs(13)
    });
    assert!(seen.len() <= 5, "{seen:?}");
    // With nothing new: none.
    wait_until("all is told", || {
        record(&world.redis).get("last_id") == Some(&format!("({}-0", id - 1))
    });
    let last = writes();
    assert!(!holds_within(Duration::from_secs(12), || writes() != last));
}

#[test]
fn a_broker_that_forbids_the_status_does_not_disturb_the_measurements() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(
        folder.path().join("acl"),
        "topic read #\ntopic write iot-projekt/device/u1/values\ntopic write iot-projekt/device/u1/response\n",
    )
    .expect("acl");
    for extra in [
        "acl_file {folder}/acl",
        "acl_file {folder}/acl\nmax_queued_messages 0",
    ] {
        let keep = tempfile::tempdir().expect("folder");
        std::fs::copy(folder.path().join("acl"), keep.path().join("acl")).expect("acl");
        let broker = Mosquitto::start_in(keep, extra);
        let receiver = Receiver::start(broker.port, &["#"]);
        let redis = Redis::start(&[]);
        let service = Service::between(
            redis.port,
            broker.port,
            &[
                ("BALENA_DEVICE_UUID", "u1".into()),
                ("INTERVAL_SECONDS", "0.1".into()),
                (TOPIC.0, TOPIC.1.into()),
            ],
        );
        service.wait_for_log("no status on \"iot-projekt/device/u1/status\"");
        redis.fill(1, 500);
        wait_until("the measurements arrive", || receiver.distinct() == 500);
        assert!(
            service.count_log("disconnected") <= 4,
            "{:?}",
            service.log()
        );
    }
}

#[test]
fn a_catch_up_is_told_in_the_log() {
    let world = World::new();
    world.redis.fill(1, 20_000);
    let proxy = support::proxy::Proxy::start(world.broker.port);
    proxy.set(support::proxy::Behaviour {
        rate: 60_000,
        ..Default::default()
    });
    let service = world.start_with(&[
        ("MQTT_PORT", &proxy.port.to_string()),
        ("BATCH_MAX_COUNT", "50"),
    ]);
    service.wait_for_log("catching up: ");
    let line = service
        .log()
        .into_iter()
        .find(|line| line.contains("catching up: "))
        .expect("the line");
    for part in [
        " measurements sent, ",
        " left, ",
        " a second, about ",
        " to go",
    ] {
        assert!(line.contains(part), "{line}");
    }
    wait_until("the status tells it as well", || {
        text_status(&world).contains(" a second, about ")
    });
    proxy.heal();
    service.wait_for_log("caught up: ");
    assert!(service.count_log("catching up: ") <= 5);
}

#[test]
fn the_log_suits_the_collector_of_balena() {
    let world = World::new();
    let mut settings = world.settings();
    let plain = Service::start(&settings);
    plain.wait_for_log("connected to Redis");
    assert!(
        plain.log()[0].starts_with("20"),
        "a time stamp: {}",
        plain.log()[0]
    );
    drop(plain);
    settings.push(("BALENA", "1".into()));
    let service = Service::start(&settings);
    service.wait_for_log("connected to Redis");
    for line in service.log() {
        assert!(
            ["INFO", "WARN", "ERROR"]
                .iter()
                .any(|level| line.starts_with(level)),
            "{line}"
        );
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}
