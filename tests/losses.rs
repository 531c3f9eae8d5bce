//! Hundreds of connections lost under load, in one process: no abort, no leak, no growth.
//!
//! The service waits ever longer between attempts, so this drives the same connection code
//! without the waits. Alone in its file, because it measures its own process.

mod support;

use std::time::{Duration, Instant};

use mqtt_handler::model::connection::Attempt;
use mqtt_handler::model::message::{Message, Protocol};
use mqtt_handler::mqtt::Broker;
use support::Mosquitto;
use support::config::config;
use support::proxy::{Behaviour, Proxy};
use support::service::{descriptors, memory_counts, status_field};

/// What this process holds: descriptors, threads, memory in KiB.
fn held() -> (usize, u64, u64) {
    let own = std::process::id();
    (
        descriptors(own),
        status_field(own, "Threads:"),
        status_field(own, "VmRSS:"),
    )
}

#[test]
fn lost_connections_leave_nothing_behind() {
    let losses: u32 = std::env::var("LOSSES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(400);
    let mosquitto = Mosquitto::start("log_type error");
    let proxy = Proxy::start(mosquitto.port);
    let config = config(&[
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &proxy.port.to_string()),
    ]);
    let broker = Broker::new(&config.mqtt, None, 1024);
    let attempt = Attempt {
        protocol: Protocol::V5,
        will: false,
        keep_alive: config.mqtt.keep_alive,
        patience: Duration::from_secs(30),
    };
    let (mut lost, mut refused, mut confirmed, mut warm) = (0u32, 0u32, 0u64, None);
    let mut late = 0;
    while lost + refused < losses {
        let round = lost + refused;
        let behaviour = match round % 5 {
            // Cut in the middle of a packet, at another byte each time.
            0 | 1 => Behaviour {
                cut_after_bytes: Some(200 + u64::from(round) * 7919 % 150_000),
                ..Behaviour::default()
            },
            2 => Behaviour {
                cut_after: Some(Duration::from_millis(u64::from(round) % 40 + 5)),
                ..Behaviour::default()
            },
            // A black hole with half a packet written.
            3 => Behaviour {
                cut_after_bytes: None,
                swallow_down: false,
                ..Behaviour::default()
            },
            _ => Behaviour {
                refuse: true,
                ..Behaviour::default()
            },
        };
        proxy.set(behaviour);
        let Ok(connection) = broker.connect(&attempt, |_| {}, || false) else {
            refused += 1;
            continue;
        };
        // Every other time the messages go out ahead of the answer.
        let patience = Duration::from_secs(if round / 5 % 2 == 0 { 10 } else { 0 });
        for filter in &config.mqtt.topics.commands {
            drop(connection.subscribe(filter, patience, || false));
        }
        let mut messages = 0;
        loop {
            if round % 5 == 3 && messages == 3 {
                proxy.set(Behaviour {
                    swallow_up: true,
                    swallow_down: true,
                    ..Behaviour::default()
                });
            }
            let begun = Instant::now();
            let message = Message::list("t", vec![b'x'; 60_000]);
            match connection.publish(message, Duration::from_millis(300), || false) {
                Ok(()) => confirmed += 1,
                Err(_) => break,
            }
            late += usize::from(connection.subscribed_late().is_some());
            messages += 1;
            assert!(begun.elapsed() < Duration::from_secs(30), "a publish hangs");
        }
        lost += 1;
        connection.close();
        // After the first ones everything that is made once has been made.
        if round >= losses / 10 && warm.is_none() {
            warm = Some(held());
        }
    }
    let (before, after) = (warm.expect("warm"), held());
    println!(
        "{lost} lost, {refused} refused, {confirmed} confirmed; descriptors, threads, KiB: {before:?} then {after:?}"
    );
    assert!(confirmed > u64::from(losses / 10), "under load");
    assert!(late > 0, "no subscription was answered late");
    // The proxy is in this process, too, and may still be closing the last connection.
    assert!(
        after.0 <= before.0 + 12,
        "descriptors: {before:?} then {after:?}"
    );
    assert!(
        after.1 <= before.1 + 8,
        "threads: {before:?} then {after:?}"
    );
    // With fewer losses it runs under valgrind, whose own books grow.
    assert!(
        losses < 400 || !memory_counts() || after.2 <= before.2 + 8 * 1024,
        "memory: {before:?} then {after:?}"
    );
}
