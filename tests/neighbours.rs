//! Other containers that write to Redis, careless or hostile: they cost neither a measurement, nor
//! the memory, nor the log.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Redis, Service, World, wait_until};

/// The longest time that a measurement may need from Redis to the receiver.
const LATE: Duration = Duration::from_secs(3);
const FLOOD: Duration = Duration::from_secs(5);

/// Sets a key to one value after the other, about 1000 times a second; gives the last one.
fn flood(redis: &Redis, key: &str, stop: &AtomicBool, value: impl Fn(u64) -> String) -> String {
    let mut connection = redis.connection();
    let (mut last, mut n) = (String::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        last = value(n);
        redis::cmd("SET")
            .arg(key)
            .arg(&last)
            .query::<()>(&mut connection)
            .expect("SET");
        std::thread::sleep(Duration::from_micros(800));
    }
    last
}

/// Under a flood of values of one key: the longest time that a measurement took, and the last value.
fn flooded(
    world: &World,
    key: &str,
    value: impl Fn(u64) -> String + Send + Sync,
) -> (Duration, String) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&world.redis, key, &stop, value));
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        let first = world.receiver.distinct() as u64 + 1;
        let mut id = first;
        while begun.elapsed() < FLOOD {
            let added = Instant::now();
            world.redis.fill(1_000_000 + id, 1);
            wait_until("it has arrived", || world.receiver.distinct() as u64 >= id);
            longest = longest.max(added.elapsed());
            id += 1;
        }
        stop.store(true, Ordering::Relaxed);
        (longest, flood.join().expect("flood"))
    })
}

/// The last line of the log that holds `what` comes to hold `value`.
fn is_told_at_last(service: &Service, what: &str, value: &str) {
    wait_until("the last one is told", || {
        let log = service.log();
        let told = log.iter().rfind(|line| line.contains(what));
        told.is_some_and(|line| line.contains(value))
    });
}

/// Not for each change, and for none at full rate.
fn told_in_a_few_lines(service: &Service, before: usize) {
    let told = service.log().len() - before;
    assert!(told < 60, "{told} lines");
}

fn start(interval: &str) -> (World, Service, usize) {
    let world = World::new();
    let service = world.start_with(&[("INTERVAL_SECONDS", interval)]);
    service.wait_for_log("connected to 127");
    let lines = service.log().len();
    (world, service, lines)
}

#[test]
fn an_interval_that_changes_all_the_time_is_told_in_a_few_lines_and_delays_nothing() {
    let (world, service, before) = start("0.1");
    let value = |n| format!("0.0{}", 10 + n % 80);
    let (longest, last) = flooded(&world, "mqtt_sender:interval", value);
    let seconds: f64 = last.parse().expect("a number");
    is_told_at_last(&service, "the interval is", &format!(" {seconds} s"));
    assert!(longest < LATE, "{longest:?}");
    told_in_a_few_lines(&service, before);
}

#[test]
fn a_switch_that_is_flipped_all_the_time_is_told_in_a_few_lines_and_delays_nothing() {
    let (world, service, before) = start("0");
    let (longest, last) = flooded(&world, "mqtt_sender:enabled", |n| (n % 5).to_string());
    let state = if last == "0" { "off" } else { "on" };
    is_told_at_last(&service, "sending is ", &format!("sending is {state}"));
    assert!(longest < LATE, "{longest:?}");
    told_in_a_few_lines(&service, before);
}

#[test]
fn a_cursor_that_is_moved_all_the_time_is_told_in_a_few_lines_and_delays_nothing() {
    for interval in ["0", "0.1"] {
        let (world, service, before) = start(interval);
        let value = |n| format!("({}-0", 1 + n % 1000);
        let (longest, last) = flooded(&world, "mqtt_sender:last_id", value);
        // What is in force is sent from, and then stored.
        let last_id = world.receiver.ids().last().map_or(0, |id| id.0);
        is_told_at_last(&service, "was set from outside", &last);
        world.redis.wait_for_cursor(&format!("({last_id}-0"));
        assert!(longest < LATE, "{longest:?}");
        told_in_a_few_lines(&service, before);
    }
}

#[test]
fn values_that_nobody_understands_are_told_in_a_few_lines_and_delay_nothing() {
    for key in ["mqtt_sender:last_id", "mqtt_sender:interval"] {
        let (world, service, before) = start("0");
        let (longest, last) = flooded(&world, key, |n| format!("garbage {n}"));
        if key == "mqtt_sender:interval" {
            is_told_at_last(&service, "is unusable", &last);
        }
        assert!(longest < LATE, "{longest:?}");
        told_in_a_few_lines(&service, before);
    }
}

#[test]
fn a_stream_that_loses_something_at_every_moment_is_told_in_a_few_lines() {
    let (world, service, before) = start("0");
    // What was removed before its first look at the stream is no loss that it knows of.
    world.redis.fill(1, 1);
    world.wait_for(1);
    let mut connection = world.redis.connection();
    let script = "redis.call('XADD', KEYS[1], '*', 'n', 1) \
        redis.call('XADD', KEYS[1], 'MAXLEN', 1, '*', 'n', 1)";
    let (begun, mut removals) = (Instant::now(), 0);
    while begun.elapsed() < FLOOD {
        let mut keep = redis::cmd("EVAL");
        keep.arg(script).arg(1).arg("measurement:values");
        keep.query::<()>(&mut connection).expect("EVAL");
        removals += 1;
        std::thread::sleep(Duration::from_micros(800));
    }
    // Each is either sent or told as lost: the numbers of all lines together.
    let told = || -> u64 {
        let log = service.log();
        let numbers = log.iter().filter_map(|line| {
            let (before, _) = line
                .split_once(" measurements were removed from")
                .or_else(|| line.split_once(" more measurements are gone from"))?;
            before.rsplit(' ').next()?.parse::<u64>().ok()
        });
        numbers.sum()
    };
    wait_until("all are sent or told", || {
        world.receiver.distinct() as u64 + told() == 1 + 2 * removals
    });
    told_in_a_few_lines(&service, before);
}
