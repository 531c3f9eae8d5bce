//! The orderly end: what is in flight, the cursor, the exit code.

mod support;

use std::time::Duration;

use support::{World, signal, wait_until};

/// Five seconds for what is in flight and one for all the rest.
const END: Duration = Duration::from_secs(6);

#[test]
fn sigterm_under_load_saves_what_is_confirmed_and_repeats_nothing() {
    let world = World::new();
    world.redis.fill(1, 60_000);
    let settings = [("BATCH_MAX_COUNT", "50")];
    let mut service = world.start_with(&settings);
    wait_until("the catch-up runs", || world.receiver.distinct() > 2000);
    let (status, time) = service.terminate();
    assert!(status.success(), "{status}");
    assert!(time < END, "{time:?}");
    let cursor = world.redis.cursor().expect("a cursor");
    let sent: u64 = cursor
        .trim_start_matches('(')
        .trim_end_matches("-0")
        .parse()
        .expect("an ID");
    assert!(sent < 60_000, "stopped in the catch-up");
    service.wait_for_log(&format!("stopped; the cursor is \"{cursor}\""));
    wait_until("what was confirmed has arrived", || {
        world.receiver.distinct() as u64 == sent
    });
    let _service = world.start_with(&settings);
    world.wait_for(60_000);
    assert_eq!(world.receiver.total(), 60_000);
}

#[test]
fn sigterm_with_a_frozen_broker_ends_in_time_and_keeps_the_cursor() {
    let world = World::new();
    let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    world.redis.fill(1, 10);
    world.redis.wait_for_cursor("(10-0");
    world.broker.freeze();
    world.redis.fill(11, 10);
    let begun = std::time::Instant::now();
    wait_until("a list is in flight", || {
        begun.elapsed() > Duration::from_millis(500)
    });
    let (status, time) = service.terminate();
    assert!(status.success(), "{status}");
    assert!(time < END, "{time:?}");
    assert_eq!(world.redis.cursor().as_deref(), Some("(10-0"));
    world.broker.thaw();
}

#[test]
fn sigterm_without_servers_ends_at_once() {
    let mut world = World::new();
    world.redis.stop();
    world.broker.stop();
    let mut service = world.start();
    service.wait_for_log("no connection to");
    let (status, time) = service.terminate();
    assert!(status.success(), "{status}");
    assert!(time < END, "{time:?}");
}

#[test]
fn sigint_ends_as_well_and_a_second_signal_ends_at_once() {
    let world = World::new();
    let mut service = world.start();
    service.wait_for_log("connected to 127");
    signal("INT", service.pid());
    assert!(service.wait_for_end().success());

    let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    service.wait_for_log("connected to 127");
    world.broker.freeze();
    world.redis.fill(1, 10);
    let begun = std::time::Instant::now();
    wait_until("a list is in flight", || {
        begun.elapsed() > Duration::from_millis(500)
    });
    signal("TERM", service.pid());
    service.wait_for_log("stopping");
    signal("TERM", service.pid());
    assert_eq!(service.wait_for_end().code(), Some(1));
    world.broker.thaw();
}
