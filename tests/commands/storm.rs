//! Thousands of random commands, valid, broken and hostile, beside a live flow. `COMMANDS=20000`
//! sends more than a plain run of the tests does, `SEED` repeats a storm.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::random::Random;
use super::support::receiver::ids_of;
use super::support::{World, wait_until};
use super::{BROADCAST, REQUEST, start};

/// A measurement comes within this time, whatever else is asked for.
const IN_TIME: Duration = Duration::from_secs(3);

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    text.parse().unwrap_or(default)
}

fn text(random: &mut Random) -> String {
    let word = [
        "storm:1",
        "x",
        "\n",
        "\u{1b}[2J",
        "\u{202e}",
        "😀",
        "\"",
        "\\",
        "\0",
    ][random.below(9) as usize];
    let times = [1, 1, 1, 3, 200, 6000][random.below(6) as usize];
    word.repeat(times)
}

fn value(random: &mut Random) -> Value {
    match random.below(8) {
        0 => json!(null),
        1 => json!(random.below(2) == 0),
        2 => json!(random.below(u64::MAX)),
        3 => json!(-1.5e300),
        4 => json!([[], {"a": [1]}]),
        _ => json!(text(random)),
    }
}

/// One request; what a dropped or an answered one counts for is the same.
fn request(random: &mut Random) -> Vec<u8> {
    let command = [
        "get_config",
        "SET_config",
        "get_status",
        "cancel",
        "send_measurements",
        "reboot",
        "dance",
    ][random.below(7) as usize];
    let mut request = json!({"command": command});
    for field in ["key", "value", "id", "min_id", "max_id", "count", "force"] {
        match random.below(4) {
            0 => request[field] = value(random),
            1 if field == "key" => request[field] = json!(format!("storm:{}", random.below(50))),
            _ => {}
        }
    }
    if random.below(10) == 0 {
        request["command"] = value(random);
    }
    let mut bytes = request.to_string().into_bytes();
    match random.below(20) {
        0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
        1 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        2 => bytes.resize(64 * 1024 + random.below(3) as usize - 1, b' '),
        3 => bytes = [&b"["[..]; 30_000].concat(),
        4 => {
            bytes = (0..random.below(300))
                .map(|_| random.below(256) as u8)
                .collect()
        }
        _ => {}
    }
    bytes
}

/// How many commands these replies account for.
fn accounted(replies: &[Value]) -> u64 {
    let of = |reply: &Value| {
        let error = reply["error"].as_str().unwrap_or_default();
        let dropped = error.split_once(" commands were dropped");
        dropped.map_or(1, |(count, _)| count.parse().expect("a number"))
    };
    replies.iter().map(of).sum()
}

#[test]
fn a_storm_of_commands_costs_no_measurement_and_each_is_answered() {
    let commands = number("COMMANDS", 3000);
    let seed = number("SEED", 15);
    println!("{commands} commands, seed {seed}");
    let world = World::new();
    let settings = [
        ("INTERVAL_SECONDS", "0"),
        ("MQTT_REPLY_QOS", "1"),
        ("BATCH_MAX_COUNT", "100"),
        // Its own settings would be changed, lawfully.
        ("CONFIG_KEYS", "storm:*"),
    ];
    let mut service = start(&world, &settings);
    let mut random = Random::new(seed);
    let mut seen = world.receiver.replies_from(0).len();
    let (mut sent, mut answered, mut produced) = (0, 0, HashMap::new());
    let mut early = 0;
    while sent < commands {
        // A few at a time, or more than may wait.
        for _ in 0..[1, 10, 50, 150][random.below(4) as usize].min(commands - sent) {
            let topic = [REQUEST, BROADCAST][random.below(2) as usize];
            world.receiver.publish(topic, request(&mut random), false);
            sent += 1;
            if sent % 10 == 0 {
                let id = 1_000_000 + sent;
                world.redis.fill(id, 1);
                produced.insert((id, 0), Instant::now());
            }
        }
        // Its end is only answered when no command waits any more.
        wait_until("all are answered or counted", || {
            let replies = world.receiver.replies_from(seen);
            seen += replies.len();
            answered += accounted(&replies);
            answered >= sent
        });
        assert_eq!(answered, sent, "one reply for each command");
        if early == 0 && sent > commands / 4 {
            early = service.peak_memory();
        }
    }
    wait_until("all measurements came", || {
        let ids = world.receiver.ids();
        produced.keys().all(|id| ids.contains(id))
    });
    let mut arrived = HashMap::new();
    for list in world.receiver.lists() {
        for id in ids_of(&list.payload) {
            arrived.entry(id).or_insert(list.at);
        }
    }
    for (id, at) in &produced {
        let late = arrived[id].duration_since(*at);
        assert!(late < IN_TIME, "{id:?} came after {late:?}");
    }
    assert!(service.is_running());
    assert_eq!(
        service.count_log("panicked") + service.count_log("disconnected"),
        0
    );
    let grown = service.peak_memory() - early;
    assert!(grown < 4 * 1024, "{grown} KiB");
}
