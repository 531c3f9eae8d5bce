//! What other containers change in Redis while the service runs: on and off, the interval, the
//! cursor.

mod support;

use std::time::Duration;

use support::receiver::first_arrivals;
use support::{World, holds_within, wait_until};

/// A second, and some time for a slow machine; the intervals of these tests are far longer.
const SOON: Duration = Duration::from_secs(10);

const HOUR: (&str, &str) = ("INTERVAL_SECONDS", "3600");

fn ms(world: &World) -> Vec<u64> {
    world.receiver.ids().iter().map(|id| id.0).collect()
}

#[test]
fn every_form_of_the_cursor_is_understood_at_the_start() {
    for (cursor, expected) in [
        ("(11-0", vec![12, 13]),
        ("12-0", vec![12, 13]),
        ("(11", vec![12, 13]),
        ("12", vec![12, 13]),
        ("-", vec![10, 11, 12, 13]),
    ] {
        let world = World::new();
        world.redis.fill(10, 4);
        world.redis.set("mqtt_sender:last_id", cursor);
        let _service = world.start();
        world.redis.wait_for_cursor("(13-0");
        world.wait_for(expected.len());
        assert_eq!(ms(&world), expected, "{cursor}");
    }
}

#[test]
fn a_tiny_interval_counts_as_a_hundredth_of_a_second() {
    let world = World::new();
    let service = world.start_with(&[("INTERVAL_SECONDS", "5")]);
    service.wait_for_log("connected to 127");
    world.redis.set("mqtt_sender:interval", " 1e-9\n");
    service.wait_for_log("the interval is 0.01 s");
    let before = service.cpu();
    std::thread::sleep(Duration::from_secs(2));
    let used = service.cpu() - before;
    assert!(used < Duration::from_millis(600), "{used:?} in 2 s");
}

#[test]
fn the_dollar_sign_means_only_what_comes_from_now_on() {
    let world = World::new();
    world.redis.fill(10, 4);
    world.redis.set("mqtt_sender:last_id", "$");
    let mut service = world.start();
    // It is made durable at once: a restart must not move "now".
    world.redis.wait_for_cursor("(13-0");
    service.kill();
    world.redis.fill(14, 2);
    let _service = world.start();
    world.wait_for(2);
    assert_eq!(ms(&world), [14, 15]);
}

#[test]
fn the_dollar_sign_on_an_empty_stream_sends_what_comes() {
    let world = World::new();
    world.redis.set("mqtt_sender:last_id", "$");
    let _service = world.start();
    world.redis.wait_for_cursor("(0-0");
    world.redis.fill(1, 3);
    world.wait_for(3);
}

#[test]
fn a_rewind_in_the_middle_of_a_catch_up_is_obeyed_and_not_overwritten() {
    let world = World::new();
    world.redis.fill(1, 30_000);
    let service = world.start_with(&[("BATCH_MAX_COUNT", "50")]);
    wait_until("the catch-up runs", || world.receiver.distinct() > 5000);
    world.redis.set("mqtt_sender:last_id", "101-0");
    world.redis.wait_for_cursor("(30000-0");
    world.wait_for(30_000);
    let ids = ms(&world);
    let back = ids
        .windows(2)
        .position(|pair| pair[1] <= pair[0])
        .expect("it went back");
    assert_eq!(ids[back + 1], 101);
    assert_eq!(&ids[back + 1..], (101..=30_000).collect::<Vec<u64>>());
    assert_eq!(service.count_log("second instance"), 0);
}

#[test]
fn two_instances_are_noticed() {
    let world = World::new();
    world.redis.fill(1, 40_000);
    let one = world.start_with(&[("BATCH_MAX_COUNT", "20"), ("MQTT_CLIENT_ID", "one")]);
    let two = world.start_with(&[("BATCH_MAX_COUNT", "20"), ("MQTT_CLIENT_ID", "two")]);
    wait_until("one of them warns", || {
        one.count_log("second instance") + two.count_log("second instance") > 0
    });
    world.wait_for(40_000);
    assert_eq!(first_arrivals(&world.receiver.ids()).len(), 40_000);
}

#[test]
fn enabled_interval_and_cursor_take_effect_under_a_long_interval() {
    let world = World::new();
    world.redis.fill(1, 1);
    let _service = world.start_with(&[HOUR]);
    world.wait_for(1);
    world.redis.fill(2, 1);

    // Off, then a short interval: nothing may come.
    world.redis.set("mqtt_sender:enabled", "0");
    wait_until("the service has seen it", || {
        _service.count_log("sending is off") == 1
    });
    world.redis.set("mqtt_sender:interval", "0.2");
    wait_until("the service has seen it", || {
        _service.count_log("the interval is 0.2 s") == 1
    });
    assert!(!holds_within(Duration::from_secs(1), || world
        .receiver
        .total()
        > 1));

    world.redis.set("mqtt_sender:enabled", "1");
    assert!(holds_within(SOON, || world.receiver.total() == 2), "on");

    world.redis.set("mqtt_sender:interval", "3600");
    wait_until("the service has seen it", || {
        _service.count_log("the interval is 3600 s") == 1
    });
    world.redis.fill(3, 1);
    world.redis.set("mqtt_sender:interval", "0.5");
    assert!(
        holds_within(SOON, || world.receiver.total() == 3),
        "interval"
    );

    // A cursor is obeyed at once, but sends no earlier than the interval says.
    world.redis.set("mqtt_sender:last_id", "-");
    assert!(holds_within(SOON, || world.receiver.total() == 6), "cursor");
}

#[test]
fn garbage_is_warned_about_once_and_changes_nothing() {
    let world = World::new();
    world.redis.set("mqtt_sender:interval", "0.1");
    let service = world.start();
    world.redis.fill(1, 1);
    world.wait_for(1);
    world.redis.wait_for_cursor("(1-0");
    let garbage = [
        ("mqtt_sender:interval", "abc"),
        ("mqtt_sender:interval", "-3"),
        ("mqtt_sender:interval", "NaN"),
        ("mqtt_sender:interval", "inf"),
        ("mqtt_sender:last_id", "foo"),
    ];
    for (n, (key, value)) in garbage.into_iter().enumerate() {
        world.redis.set(key, value);
        service.wait_for_log(&format!("{key} is unusable and ignored: \"{value}\""));
        let id = n as u64 + 2;
        world.redis.fill(id, 1);
        world.wait_for(n + 2);
    }
    world.redis.wait_for_cursor("(6-0");

    // Keys of another type: sending goes on, and the keys are not destroyed.
    for key in [
        "mqtt_sender:enabled",
        "mqtt_sender:interval",
        "mqtt_sender:last_id",
    ] {
        world.redis.command::<()>(&["DEL", key]);
        world.redis.command::<()>(&["RPUSH", key, "x"]);
        service.wait_for_log(&format!("{key} is unusable and ignored: the key"));
    }
    world.redis.fill(7, 100);
    wait_until("the last one has arrived", || ms(&world).contains(&106));
    for key in [
        "mqtt_sender:enabled",
        "mqtt_sender:interval",
        "mqtt_sender:last_id",
    ] {
        assert_eq!(world.redis.command::<String>(&["TYPE", key]), "list");
        assert_eq!(
            service.count_log(&format!("{key} is unusable and ignored: the key")),
            1
        );
    }
    for (key, value) in garbage {
        assert_eq!(
            service.count_log(&format!("{key} is unusable and ignored: \"{value}\"")),
            1
        );
    }
}

#[test]
fn push_mode_sends_at_once_without_polling_the_stream() {
    let world = World::new();
    world.redis.set("mqtt_sender:interval", "0");
    let service = world.start();
    service.wait_for_log("push mode");
    service.wait_for_log("connected to 127");
    world.redis.fill(1, 1);
    world.wait_for(1);
    let calls = |command: &str| -> u64 {
        let stats: String = world.redis.command(&["INFO", "commandstats"]);
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next())
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    };
    let (ranges, reads) = (calls("xrange"), calls("xread"));
    let begun = std::time::Instant::now();
    for id in 2..=20 {
        world.redis.fill(id, 1);
        world.wait_for(usize::try_from(id).expect("small"));
    }
    // One read a measurement, and one for each time the settings are looked at.
    let allowed = 19 + 2 * (begun.elapsed().as_millis() as u64 / 900 + 2);
    assert_eq!(calls("xrange"), ranges);
    assert!(
        calls("xread") - reads <= allowed,
        "{} reads",
        calls("xread") - reads
    );
    // A change of the interval is seen although the service blocks on the stream.
    world.redis.set("mqtt_sender:interval", "3600");
    service.wait_for_log("the interval is 3600 s");
}

#[test]
fn a_cursor_that_nobody_understands_holds_nothing_up_however_often_it_changes() {
    let world = World::new();
    let service = world.start();
    world.redis.fill(1, 1);
    world.wait_for(1);
    world.redis.wait_for_cursor("(1-0");
    for round in 0..100u64 {
        world
            .redis
            .set("mqtt_sender:last_id", &format!("garbage {round}"));
        world.redis.fill(round + 2, 1);
        std::thread::sleep(Duration::from_millis(10));
    }
    // Without a pause of the garbage, everything arrives all the same.
    let mut round = 100;
    wait_until("everything has arrived", || {
        round += 1;
        world
            .redis
            .set("mqtt_sender:last_id", &format!("garbage {round}"));
        world.receiver.distinct() == 101
    });
    world.redis.wait_for_cursor("(101-0");
    assert_eq!(service.count_log("second instance"), 0);
}
