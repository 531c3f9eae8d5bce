//! `send_measurements` and what may happen beside it.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::proxy::{Behaviour, Proxy};
use super::support::receiver::ids_of;
use super::support::{World, wait_until};
use super::{BROADCAST, REQUEST, ask, error_of, replies, start};

#[test]
fn send_measurements_sends_ranges_without_moving_the_cursor() {
    let world = World::new();
    world.redis.fill(1, 3000);
    world.redis.set("mqtt_sender:enabled", "0");
    let service = start(
        &world,
        &[("BATCH_MAX_COUNT", "70"), ("BATCH_MAX_BYTES", "20000")],
    );
    service.wait_for_log("sending is off");
    let send = |request: Value, expected: Vec<u64>| {
        let before = world.receiver.total();
        let reply = ask(&world, REQUEST, request.clone());
        assert_eq!(
            reply,
            json!({"command": "send_measurements", "count": expected.len()}),
            "{request}"
        );
        let ids: Vec<u64> = world.receiver.ids()[before..]
            .iter()
            .map(|id| id.0)
            .collect();
        assert_eq!(ids, expected, "{request}");
    };
    let command = "Send_Measurements";
    send(
        json!({"command": command, "min_id": "10-0", "max_id": "13"}),
        (10..=13).collect(),
    );
    send(
        json!({"command": command, "min_id": 2998}),
        (2998..=3000).collect(),
    );
    send(
        json!({"command": command, "max_id": 3, "count": "2"}),
        vec![1, 2],
    );
    send(
        json!({"command": command, "min_id": "(5-0", "max_id": "(8-0", "count": 10}),
        vec![6, 7],
    );
    send(json!({"command": command, "count": 0}), vec![]);
    send(json!({"command": command, "min_id": 9000}), vec![]);
    send(
        json!({"command": command, "min_id": "-", "max_id": "+"}),
        (1..=3000).collect(),
    );
    for list in world.receiver.lists() {
        assert!(list.payload.len() <= 20_000 && ids_of(&list.payload).len() <= 70);
    }
    assert_eq!(world.redis.cursor(), None);
}

#[test]
fn a_long_send_measurements_does_not_hold_up_live_measurements_and_ends_with_the_service() {
    let world = World::new();
    world.redis.fill(1, 50_000);
    world.redis.set("mqtt_sender:last_id", "(50000-0");
    let mut service = start(
        &world,
        &[("BATCH_MAX_COUNT", "20"), ("INTERVAL_SECONDS", "0")],
    );
    world
        .receiver
        .publish(REQUEST, r#"{"command":"send_measurements"}"#, false);
    wait_until("it runs", || world.receiver.distinct() > 500);
    for id in 60_001..=60_020 {
        world.redis.fill(id, 1);
        let at = world.receiver.total();
        wait_until("the live measurement came", || {
            world.receiver.ids().contains(&(id, 0))
        });
        // Not behind the whole range: only a part of it came meanwhile.
        assert!(world.receiver.total() - at < 40_000);
    }
    assert!(
        world.receiver.distinct() < 50_000,
        "the range was still being sent"
    );
    assert!(service.terminate().0.success());
}

/// A long `send_measurements` in small lists, begun, with sending of live measurements off.
fn begun(world: &World, measurements: u64) -> super::Service {
    world.redis.fill(1, measurements);
    world.redis.set("mqtt_sender:enabled", "0");
    let settings = [
        ("BATCH_MAX_COUNT", "5"),
        // So that replies and lists arrive in the order in which they were sent.
        ("MQTT_REPLY_QOS", "1"),
    ];
    let service = start(world, &settings);
    service.wait_for_log("sending is off");
    let request = r#"{"command":"send_measurements","id":"long"}"#;
    world.receiver.publish(REQUEST, request, false);
    wait_until("it runs", || world.receiver.total() > 100);
    service
}

/// How the long one has ended.
fn end(world: &World) -> Option<Value> {
    let replies = replies(world);
    replies.into_iter().find(|reply| reply["id"] == "long")
}

#[test]
fn cancel_ends_it_within_one_list_and_both_are_answered() {
    let world = World::new();
    let _service = begun(&world, 50_000);
    let reply = ask(&world, BROADCAST, json!({"command": "CANCEL"}));
    assert_eq!(reply, json!({"command": "cancel"}));
    let at_cancel = world.receiver.lists().len();
    wait_until("it has ended", || end(&world).is_some());
    let total = world.receiver.total();
    assert!(total < 50_000);
    assert_eq!(
        end(&world),
        Some(
            json!({"command": "send_measurements", "count": total, "cancelled": true, "id": "long"})
        )
    );
    assert_eq!(world.receiver.lists().len(), at_cancel);
    let reply = ask(&world, REQUEST, json!({"command": "cancel"}));
    assert_eq!(error_of(&reply), "no send_measurements is running");
    // Nothing more came, and the next one is welcome.
    assert_eq!(world.receiver.total(), total);
    let next = json!({"command": "send_measurements", "count": 1});
    assert_eq!(ask(&world, REQUEST, next)["count"], json!(1));
}

#[test]
fn while_it_runs_a_second_one_is_refused_and_other_commands_are_answered() {
    let world = World::new();
    let _service = begun(&world, 50_000);
    let second = json!({"command": "send_measurements", "count": 1});
    let error = error_of(&ask(&world, REQUEST, second));
    assert!(error.contains("another send_measurements is running"));
    for n in 0..10 {
        let set = json!({"command": "set_config", "key": "k", "value": n});
        assert_eq!(ask(&world, REQUEST, set)["value"], json!(n));
    }
    assert_eq!(end(&world), None, "it was still running");
    ask(&world, REQUEST, json!({"command": "cancel"}));
}

#[test]
fn live_measurements_keep_half_of_a_long_line() {
    live_measurements_keep_half(Duration::from_millis(15));
}

#[test]
fn live_measurements_keep_half_of_a_short_line() {
    live_measurements_keep_half(Duration::ZERO);
}

fn live_measurements_keep_half(latency: Duration) {
    let world = World::new();
    world.redis.fill(1, 3000);
    world.redis.set("mqtt_sender:last_id", "(1000-0");
    world.redis.set("mqtt_sender:enabled", "0");
    // A line of which the lists take up all the time.
    let line = Proxy::start(world.broker.port);
    let port = line.port.to_string();
    let settings = [("BATCH_MAX_COUNT", "20"), ("MQTT_PORT", port.as_str())];
    let _service = start(&world, &settings);
    line.set(Behaviour {
        latency,
        ..Behaviour::default()
    });
    // Both begin now, and the live flow has twice as much to send.
    let on = json!({"command": "set_config", "key": "mqtt_sender:enabled", "value": 1});
    world.receiver.publish(REQUEST, on.to_string(), false);
    let request = json!({"command": "send_measurements", "max_id": 1000, "id": "long"});
    world.receiver.publish(REQUEST, request.to_string(), false);
    wait_until("it has ended", || end(&world).is_some());
    let lists = world.receiver.lists();
    let live: Vec<bool> = lists
        .iter()
        .map(|list| ids_of(&list.payload)[0].0 > 1000)
        .collect();
    let begin = live.iter().position(|live| *live).expect("a live list");
    let last = live.iter().rposition(|live| !live).expect("its last list");
    let contested = &live[begin..=last];
    let lives = contested.iter().filter(|live| **live).count();
    assert!(contested.len() > 50, "{live:?}");
    // Now and then the next live list is not ready in time.
    assert!(20 * lives >= 9 * contested.len(), "{live:?}");
}
