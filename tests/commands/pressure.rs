//! Twenty seconds of pressure by somebody who may publish commands or write to Redis, beside
//! measurements that arrive one at a time: none of them may be late.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{World, wait_until};
use super::{REQUEST, ask, start};

const TIME: Duration = Duration::from_secs(20);
/// The longest time that a measurement may need from Redis to the receiver.
const LATE: Duration = Duration::from_secs(3);

/// Adds a measurement at each turn and waits until it has arrived; what happens in between is
/// the pressure.
fn under(world: &World, mut pressure: impl FnMut(u64)) {
    let begun = Instant::now();
    let mut turn = 0;
    while begun.elapsed() < TIME {
        turn += 1;
        pressure(turn);
        let added = Instant::now();
        world
            .redis
            .command::<String>(&["XADD", "measurement:values", "*", "n", "1"]);
        world.wait_for(turn as usize);
        assert!(added.elapsed() < LATE, "{:?}", added.elapsed());
    }
}

#[test]
fn errors_that_would_exceed_the_limit_of_the_broker_delay_no_measurement() {
    let world = World::with_broker("max_packet_size 400");
    let settings = [
        ("INTERVAL_SECONDS", "0"),
        ("MQTT_REPLY_QOS", "1"),
        ("BALENA_APP_NAME", "a"),
    ];
    let service = start(&world, &settings);
    world.redis.set("large", &"\u{1}".repeat(5000));
    let second = Duration::from_secs(1);
    let mut last = Instant::now() - second;
    under(&world, |turn| {
        wait_until("a second has passed", || last.elapsed() >= second);
        last = Instant::now();
        let noise = "\u{1b}\n".repeat(60);
        for request in [
            json!({"command": "get_config", "key": "large", "id": turn}),
            json!({"command": noise, "id": noise}),
            json!({"command": "get_config", "key": noise}),
        ] {
            world.receiver.publish(REQUEST, request.to_string(), false);
        }
    });
    assert_eq!(service.count_log("disconnected"), 0);
}

#[test]
fn setting_values_all_the_time_fills_no_redis() {
    let world = World::new();
    let settings = [("INTERVAL_SECONDS", "0"), ("MQTT_REPLY_QOS", "1")];
    let service = start(&world, &settings);
    for (name, value) in [("maxmemory-policy", "noeviction"), ("maxmemory", "30mb")] {
        world.redis.command::<()>(&["CONFIG", "SET", name, value]);
    }
    under(&world, |turn| {
        for n in 0..60 {
            let key = format!("fill:{turn}:{n}");
            let set = json!({"command": "set_config", "key": key, "value": "x".repeat(60_000)});
            world.receiver.publish(REQUEST, set.to_string(), false);
            let set = json!({"command": "set_config", "key": key, "value": "x".repeat(4000)});
            world.receiver.publish(REQUEST, set.to_string(), false);
        }
    });
    let memory: String = world.redis.command(&["INFO", "memory"]);
    let used = memory
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .expect("used_memory");
    assert!(used < 24_000_000, "{used}");
    assert_eq!(service.count_log("panicked"), 0);
}

#[test]
fn an_interval_of_a_hundred_megabytes_costs_neither_memory_nor_the_log() {
    let world = World::new();
    let service = start(&world, &[("INTERVAL_SECONDS", "0.2")]);
    world
        .redis
        .command::<()>(&["CONFIG", "SET", "proto-max-bulk-len", "200mb"]);
    world
        .redis
        .set("mqtt_sender:interval", &"7\u{1b}\n".repeat(33_000_000));
    service.wait_for_log("mqtt_sender:interval is unusable");
    world.redis.fill(1, 100);
    world.wait_for(100);
    let get = json!({"command": "get_config", "key": "mqtt_sender:interval"});
    assert!(ask(&world, REQUEST, get)["error"].is_string());
    assert!(
        service.peak_memory() < 24 * 1024,
        "{} KiB",
        service.peak_memory()
    );
    for line in service.log().iter().filter(|l| !l.contains("settings:")) {
        assert!(line.len() <= 1000, "{} bytes", line.len());
        assert!(line.starts_with("20"), "{line}");
    }
}
