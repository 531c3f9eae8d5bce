//! A Redis that is full: nothing may depend on memory that it does not give.

mod support;

use std::time::Duration;

use support::stream::{assert_arrived, ids, length};
use support::{Redis, World, holds_within, wait_until};

/// What a Redis of a small device has.
const LIMIT: [&str; 4] = ["--maxmemory", "20mb", "--maxmemory-policy", "noeviction"];

/// One measurement, as a sensor writes it.
fn sensor_writes(redis: &Redis) -> bool {
    let mut command = redis::cmd("XADD");
    command
        .arg("measurement:values")
        .arg("*")
        .arg("temperature_celsius")
        .arg("x".repeat(300));
    command.query::<String>(&mut redis.connection()).is_ok()
}

/// Writes until Redis refuses to take more.
fn fill_up(redis: &Redis) {
    let mut connection = redis.connection();
    let value = "x".repeat(300);
    loop {
        let mut pipe = redis::pipe();
        for _ in 0..200 {
            pipe.cmd("XADD")
                .arg("measurement:values")
                .arg("*")
                .arg("temperature_celsius")
                .arg(&value)
                .ignore();
        }
        if pipe.query::<()>(&mut connection).is_err() {
            break;
        }
    }
    drop(connection);
    // A connection less, and a few more fit.
    while sensor_writes(redis) {}
}

/// `--status` says how it stands.
fn status_answers(world: &World) {
    let mut command = support::service::command();
    for (name, value) in world.settings() {
        command.env(name, value);
    }
    let output = command.arg("--status").output().expect("--status");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("backlog") && output.status.code() != Some(2),
        "{output:?}"
    );
}

/// The broker is away until Redis is full, and comes back.
fn overflow(version: &str, keep_sent: Option<&str>) {
    let mut world = World::new();
    world.redis = Redis::start(&LIMIT);
    let mut settings = vec![("INTERVAL_SECONDS", "0.1"), ("MQTT_VERSION", version)];
    settings.extend(keep_sent.map(|keep| ("KEEP_SENT", keep)));
    assert!(sensor_writes(&world.redis));
    let service = world.start_with(&settings);
    world.wait_for(1);
    let first = world.receiver.ids();
    world.broker.stop();
    service.wait_for_log("disconnected from");
    fill_up(&world.redis);
    let mut waiting = first;
    waiting.extend(ids(&world.redis));
    waiting.dedup();
    status_answers(&world);

    world.broker.start_again();
    if keep_sent.is_some() {
        assert!(
            holds_within(Duration::from_secs(30), || sensor_writes(&world.redis)),
            "sensors are still refused"
        );
        wait_until("the sent ones are trimmed", || {
            length(&world.redis) < waiting.len() as u64 / 2
        });
    }
    let (ms, seq) = waiting.last().expect("a stream");
    let last = format!("({ms}-{seq}");
    assert!(
        holds_within(Duration::from_secs(60), || {
            let cursor = world.redis.cursor().unwrap_or_default();
            cursor == last || keep_sent.is_some() && cursor > last
        }),
        "the cursor is {:?} instead of {last}",
        world.redis.cursor()
    );
    wait_until("all have arrived", || {
        world.receiver.distinct() >= waiting.len()
    });
    assert_arrived(&world.receiver.ids(), &everything(&world, &waiting));
    status_answers(&world);
    assert_eq!(service.count_log("were removed"), 0);
    assert_eq!(service.count_log("written anew"), 0);
}

/// What waited, and what sensors have written behind it.
fn everything(world: &World, waiting: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let last = waiting.last().copied();
    let mut all = waiting.to_vec();
    let arrived = world.receiver.ids();
    let mut behind: Vec<_> = arrived.into_iter().filter(|id| Some(*id) > last).collect();
    behind.sort_unstable();
    behind.dedup();
    all.extend(behind);
    all
}

#[test]
fn all_is_delivered_from_a_full_redis_and_the_cursor_is_stored() {
    overflow("5", None);
}

#[test]
fn with_keep_sent_sensors_can_write_again() {
    overflow("5", Some("0"));
}

#[test]
fn with_keep_sent_that_keeps_some_sensors_can_write_again() {
    overflow("3.1.1", Some("1000"));
}

#[test]
fn a_service_that_starts_at_a_full_redis_sends_as_well() {
    let mut world = World::new();
    world.redis = Redis::start(&LIMIT);
    fill_up(&world.redis);
    let waiting = ids(&world.redis);
    let service = world.start_with(&[("INTERVAL_SECONDS", "0"), ("KEEP_SENT", "10")]);
    assert!(
        holds_within(Duration::from_secs(60), || sensor_writes(&world.redis)),
        "sensors are still refused"
    );
    world.wait_for(waiting.len());
    assert_arrived(&world.receiver.ids(), &everything(&world, &waiting));
    wait_until("the rest is trimmed", || length(&world.redis) <= 20);
    status_answers(&world);
    assert_eq!(service.count_log("ERROR"), service.count_log("% full"));
}
