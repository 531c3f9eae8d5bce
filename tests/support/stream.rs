//! The stream of measurements and its neighbours as a test sees them in Redis.

use std::collections::HashMap;

use super::Redis;
use super::receiver::first_arrivals;

const VALUES: &str = "measurement:values";

/// Tests that stand for long faults are shortened, unless the variable `LONG` is set.
pub fn long() -> bool {
    std::env::var_os("LONG").is_some()
}

/// The IDs `<first>-0`, `<first + 1>-0` … as `Redis::fill` makes them.
pub fn consecutive(first: u64, count: u64) -> Vec<(u64, u64)> {
    (first..first + count).map(|ms| (ms, 0)).collect()
}

/// All entries of the stream by their IDs.
pub fn ids(redis: &Redis) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    loop {
        let from = all
            .last()
            .map_or("-".to_string(), |(ms, seq)| format!("({ms}-{seq}"));
        let page: Vec<(String, Vec<String>)> =
            redis.command(&["XRANGE", VALUES, &from, "+", "COUNT", "10000"]);
        if page.is_empty() {
            return all;
        }
        all.extend(page.iter().map(|(id, _)| {
            let (ms, seq) = id.split_once('-').expect("an ID");
            (ms.parse().expect("ms"), seq.parse().expect("seq"))
        }));
    }
}

pub fn length(redis: &Redis) -> u64 {
    redis.command(&["XLEN", VALUES])
}

/// Appends measurements inside Redis, which is fast: `<first>-0` and on, each of so many bytes.
pub fn fill_fast(redis: &Redis, first: u64, count: u64, bytes: usize) {
    const FILL: &str = "local value = string.rep('x', tonumber(ARGV[3])) \
        for id = tonumber(ARGV[1]), tonumber(ARGV[2]) do \
        redis.call('XADD', KEYS[1], string.format('%d-0', id), 'n', value) end";
    // So that no single script takes long.
    let step = (20_000_000 / (bytes as u64 + 100)).clamp(1, 50_000);
    for from in (first..first + count).step_by(step as usize) {
        let to = (from + step).min(first + count) - 1;
        redis.command::<()>(&[
            "EVAL",
            FILL,
            "1",
            VALUES,
            &from.to_string(),
            &to.to_string(),
            &bytes.to_string(),
        ]);
    }
}

/// The dead letters: fields by name.
pub fn dead_letters(redis: &Redis) -> Vec<HashMap<String, String>> {
    let entries: Vec<(String, Vec<String>)> =
        redis.command(&["XRANGE", "mqtt_sender:dead_letter", "-", "+"]);
    let pairs = |fields: Vec<String>| {
        fields
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect::<HashMap<_, _>>()
    };
    entries
        .into_iter()
        .map(|(_, fields)| pairs(fields))
        .collect()
}

/// A field of the status; empty where there is none.
pub fn status(redis: &Redis, field: &str) -> String {
    let value: Option<String> = redis.command(&["HGET", "mqtt_sender:status", field]);
    value.unwrap_or_default()
}

/// What has arrived, each measurement once, in the order of its first arrival.
///
/// # Panics
/// With what is missing or too much.
pub fn assert_arrived(ids: &[(u64, u64)], expected: &[(u64, u64)]) {
    let arrived = first_arrivals(ids);
    if arrived == expected {
        return;
    }
    let at = arrived
        .iter()
        .zip(expected)
        .position(|(arrived, expected)| arrived != expected);
    panic!(
        "{} arrived, {} expected, the first that differs is number {at:?}",
        arrived.len(),
        expected.len()
    );
}
