//! Refusals, poison, and losses that others cause; and seeded schedules of faults.

mod support;

use std::time::{Duration, Instant};

use support::proxy::{Behaviour, Proxy};
use support::receiver::first_arrivals;
use support::stream::{consecutive, dead_letters, status};
use support::{Mosquitto, Receiver, Redis, Service, World, holds_within, wait_until};

/// 5,000 measurements with one of 30,000 bytes in the middle.
fn fill_with_poison(redis: &Redis) {
    redis.fill(1, 2499);
    let large = "x".repeat(30_000);
    redis.command::<String>(&[
        "XADD",
        "measurement:values",
        "2500-0",
        "blob",
        &large,
        "_id",
        "mine",
    ]);
    redis.fill(2501, 2500);
}

fn without_the_poison() -> Vec<(u64, u64)> {
    consecutive(1, 5000)
        .into_iter()
        .filter(|id| id.0 != 2500)
        .collect()
}

fn the_poison_is_kept(redis: &Redis, reason: &str) {
    let dead = dead_letters(redis);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["_id"], "2500-0");
    assert_eq!(dead[0]["__id"], "mine");
    assert_eq!(dead[0]["blob"].len(), 30_000);
    assert!(
        dead[0]["_reason"].contains(reason),
        "{}",
        dead[0]["_reason"]
    );
    assert_eq!(status(redis, "dead_letters"), "1");
}

#[test]
fn lists_keep_to_the_maximum_packet_that_the_broker_announces() {
    let world = World::with_broker("max_packet_size 20000");
    fill_with_poison(&world.redis);
    let service = world.start();
    world.wait_for(4999);
    world.redis.wait_for_cursor("(5000-0");
    assert_eq!(world.receiver.ids(), without_the_poison());
    the_poison_is_kept(&world.redis, "the broker takes at most");
    assert_eq!(service.count_log("ERROR"), 1);
    assert_eq!(service.count_log("disconnected"), 0);
}

#[test]
fn lists_shrink_and_poison_is_isolated_where_the_broker_only_closes() {
    let world = World::with_broker("max_packet_size 20000");
    fill_with_poison(&world.redis);
    let service = world.start_with(&[("MQTT_VERSION", "3.1.1")]);
    assert!(holds_within(Duration::from_secs(300), || world
        .receiver
        .distinct()
        >= 4999));
    world.redis.wait_for_cursor("(5000-0");
    assert_eq!(first_arrivals(&world.receiver.ids()), without_the_poison());
    // It closes with bytes unread, which mostly arrives as a reset.
    the_poison_is_kept(&world.redis, "the connection");
    // Two halvings of two attempts each, five attempts for the poison, and some to spare: a reset that
    // comes while the list is still being written proves nothing.
    let reconnects = service.count_log("disconnected");
    assert!(reconnects <= 25, "{reconnects} reconnects");
}

#[test]
fn a_flapping_network_dead_letters_nothing() {
    let world = World::new();
    world.redis.fill(1, 20_000);
    let proxy = Proxy::start(world.broker.port);
    proxy.set(Behaviour {
        cut_after: Some(Duration::from_millis(300)),
        ..Behaviour::default()
    });
    let service = world.start_with(&[
        ("MQTT_PORT", &proxy.port.to_string()),
        ("BATCH_MAX_COUNT", "5"),
    ]);
    let (mut next, begun) = (20_001, Instant::now());
    wait_until("a minute of cuts is over", || {
        world.redis.fill(next, 5);
        next += 5;
        begun.elapsed() > Duration::from_secs(55)
    });
    // Measurements flow over each of them, so no wait is longer than the second that an outage
    // lasts at least; and none is hammered.
    let cuts = service.count_log("disconnected");
    assert!((30..=120).contains(&cuts), "{cuts} connections in 55 s");
    proxy.heal();
    let last = next - 1;
    assert!(holds_within(Duration::from_secs(120), || {
        world.redis.cursor().as_deref() == Some(&format!("({last}-0"))
    }));
    assert_eq!(first_arrivals(&world.receiver.ids()), consecutive(1, last));
    assert!(dead_letters(&world.redis).is_empty());
}

#[test]
fn trimmed_measurements_are_counted_exactly_and_told_once() {
    let world = World::new();
    let settings = [("INTERVAL_SECONDS", "0.1")];
    world.redis.fill(1, 100);
    let mut service = world.start_with(&settings);
    world.redis.wait_for_cursor("(100-0");

    // While the service is down …
    assert!(service.terminate().0.success());
    world.redis.fill(101, 2000);
    world
        .redis
        .command::<u64>(&["XTRIM", "measurement:values", "MINID", "1335-0"]);
    let mut service = world.start_with(&settings);
    world.redis.wait_for_cursor("(2100-0");
    assert_eq!(status(&world.redis, "lost"), "1234");
    assert_eq!(service.count_log("ERROR"), 1, "{:?}", service.log());
    service.wait_for_log("1234 measurements were removed from measurement:values before they were sent, between 100-0 and 1335-0");

    // … not told again after a restart …
    service.kill();
    let service = world.start_with(&settings);
    world.redis.fill(2101, 10);
    world.redis.wait_for_cursor("(2110-0");
    assert_eq!(service.count_log("ERROR"), 0);

    // … and while it runs but may not send.
    world.redis.set("mqtt_sender:enabled", "0");
    service.wait_for_log("sending is off");
    world.redis.fill(2111, 2000);
    world
        .redis
        .command::<u64>(&["XTRIM", "measurement:values", "MINID", "3345-0"]);
    world.redis.set("mqtt_sender:enabled", "1");
    world.redis.wait_for_cursor("(4110-0");
    assert_eq!(status(&world.redis, "lost"), "2468");
    assert_eq!(service.count_log("ERROR"), 1);
}

#[test]
fn a_single_deleted_measurement_is_counted_too() {
    let world = World::new();
    world.redis.set("mqtt_sender:enabled", "0");
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    service.wait_for_log("sending is off");
    world.redis.fill(1, 500);
    world
        .redis
        .command::<u64>(&["XDEL", "measurement:values", "250-0", "251-0", "252-0"]);
    world.redis.set("mqtt_sender:enabled", "1");
    world.wait_for(497);
    wait_until("the loss is noted", || status(&world.redis, "lost") == "3");
}

#[test]
fn a_stream_written_anew_with_smaller_ids_is_sent_from_its_start() {
    for restart in [false, true] {
        for interval in ["0.1", "0"] {
            let world = World::new();
            let settings = [("INTERVAL_SECONDS", interval)];
            world.redis.fill(1_000_000, 100);
            let mut service = world.start_with(&settings);
            world.redis.wait_for_cursor("(1000099-0");
            if restart {
                service.kill();
            }
            world.redis.command::<u64>(&["DEL", "measurement:values"]);
            world.redis.fill(500, 50);
            if restart {
                service = world.start_with(&settings);
            }
            world.wait_for(150);
            world.redis.wait_for_cursor("(549-0");
            let expected: Vec<(u64, u64)> = consecutive(1_000_000, 100)
                .into_iter()
                .chain(consecutive(500, 50))
                .collect();
            assert_eq!(world.receiver.ids(), expected);
            assert_eq!(service.count_log("ERROR"), 0, "{:?}", service.log());
            service.wait_for_log("written anew with IDs up to 549-0, below the cursor 1000099-0");
        }
    }
}

#[test]
fn a_cursor_set_into_the_future_by_somebody_else_is_obeyed() {
    let world = World::new();
    world.redis.fill(1, 100);
    let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    world.redis.wait_for_cursor("(100-0");
    world.redis.set("mqtt_sender:last_id", "(200-0");
    service.wait_for_log("measurements after 200-0 are sent");
    world.redis.fill(101, 110);
    world.redis.wait_for_cursor("(210-0");
    let expected: Vec<(u64, u64)> = consecutive(1, 100)
        .into_iter()
        .chain(consecutive(201, 10))
        .collect();
    world.wait_for(expected.len());
    assert_eq!(world.receiver.ids(), expected);
    assert_eq!(service.count_log("ERROR"), 0);
    // The same over a restart.
    service.kill();
    world.redis.set("mqtt_sender:last_id", "(300-0");
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    service.wait_for_log("measurements after 300-0 are sent");
    world.redis.fill(211, 91);
    world.redis.wait_for_cursor("(301-0");
    assert_eq!(service.count_log("ERROR"), 0);
}

#[test]
fn an_evicted_stream_is_told() {
    let world = World::new();
    world.redis.fill(1, 5000);
    world.redis.set("mqtt_sender:enabled", "0");
    let service = world.start_with(&[
        ("INTERVAL_SECONDS", "0.1"),
        ("BATCH_MAX_COUNT", "10"),
        ("RUST_LOG", "debug"),
    ]);
    service.wait_for_log("sending is off");
    service.wait_for_log("connected to 127");
    // Let it look at the stream once, so that it knows what waits.
    world.broker.freeze();
    world.redis.set("mqtt_sender:enabled", "1");
    service.wait_for_log("sending is on");
    service.wait_for_log("sending 10 measurements");
    assert_eq!(world.redis.cursor(), None);
    world.redis.command::<u64>(&["DEL", "measurement:values"]);
    world.broker.thaw();
    service.wait_for_log("measurement:values was deleted or evicted with at least");
}

#[test]
fn keep_sent_trims_what_was_sent_and_nothing_else() {
    for keep in [0u64, 100] {
        let mut world = World::new();
        let proxy = Proxy::start(world.broker.port);
        let service = world.start_with(&[
            ("INTERVAL_SECONDS", "0.05"),
            ("KEEP_SENT", &keep.to_string()),
            ("BATCH_MAX_COUNT", "70"),
            ("MQTT_PORT", &proxy.port.to_string()),
        ]);
        service.wait_for_log("connected to 127");
        let mut last = 0;
        for round in 0..6 {
            world.redis.fill(last + 1, 1000);
            last += 1000;
            match round {
                1 | 4 => proxy.cut(),
                2 => {
                    world.broker.stop();
                    world.broker.start_again();
                }
                _ => {}
            }
            wait_until("the catch-up runs", || {
                world.receiver.distinct() as u64 > last - 900
            });
        }
        world.wait_for(6000);
        assert_eq!(first_arrivals(&world.receiver.ids()), consecutive(1, 6000));
        wait_until("only the kept ones stay", || {
            world.redis.cursor().as_deref() == Some("(6000-0")
                && world.redis.command::<u64>(&["XLEN", "measurement:values"]) == keep
        });
        let lost = status(&world.redis, "lost");
        assert!(["", "0"].contains(&lost.as_str()), "{lost}");
        assert_eq!(service.count_log("ERROR"), 0, "{:?}", service.log());
    }
}

#[test]
fn a_forbidden_topic_moves_no_cursor_under_mqtt_5() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("acl"), "topic read #\n").expect("acl");
    let broker = Mosquitto::start_in(folder, "acl_file {folder}/acl");
    let receiver = Receiver::start(broker.port, &["#"]);
    let redis = Redis::start(&[]);
    redis.fill(1, 10);
    let service = Service::between(
        redis.port,
        broker.port,
        &[
            ("BALENA_DEVICE_UUID", "u1".into()),
            ("INTERVAL_SECONDS", "0.1".into()),
        ],
    );
    service.wait_for_log("measurements are not accepted on \"iot-projekt/device/u1/values\": the broker does not authorize it");
    assert!(!holds_within(Duration::from_secs(3), || redis
        .cursor()
        .is_some()));
    // Slow retries, and the connection stays.
    assert_eq!(service.count_log("are not accepted"), 1);
    assert_eq!(service.count_log("disconnected"), 0);
    std::fs::write(broker.folder.path().join("acl"), "topic readwrite #\n").expect("acl");
    support::signal("HUP", broker.pid());
    wait_until("it goes on by itself", || receiver.distinct() == 10);
    redis.wait_for_cursor("(10-0");
}

#[test]
fn a_message_size_limit_of_the_broker_is_kept_to_under_mqtt_5() {
    let world = World::with_broker("message_size_limit 20000");
    fill_with_poison(&world.redis);
    let service = world.start();
    world.wait_for(4999);
    world.redis.wait_for_cursor("(5000-0");
    assert_eq!(world.receiver.ids(), without_the_poison());
    the_poison_is_kept(&world.redis, "too large");
    assert_eq!(service.count_log("disconnected"), 0);
}

#[test]
fn a_broker_that_refuses_everything_is_not_hammered_and_nothing_is_thrown_out() {
    // Large enough for commands, too small for any measurement.
    for limit in ["message_size_limit 60", "max_packet_size 130"] {
        let world = World::with_broker(limit);
        world.redis.fill(1, 1000);
        let service = world.start();
        service.wait_for_log("measurements are not accepted on");
        let (lines, cpu, begun) = (service.log().len(), service.cpu(), Instant::now());
        assert!(lines < 80, "{lines} lines");
        assert!(!holds_within(Duration::from_secs(6), || world
            .redis
            .cursor()
            .is_some()));
        assert!(service.log().len() - lines < 30, "{:?}", service.log());
        let share = (service.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        assert!(share < 0.05, "{share} of a core");
        assert!(dead_letters(&world.redis).is_empty());
    }
}

#[test]
fn a_redis_that_may_forget_is_warned_about() {
    let mut world = World::new();
    world.redis = Redis::start(&["--maxmemory-policy", "allkeys-lru", "--appendonly", "no"]);
    let service = world.start();
    service.wait_for_log("maxmemory-policy is allkeys-lru");
    service.wait_for_log("Redis stores nothing");
}

#[test]
fn a_half_open_connection_is_given_up() {
    let world = World::new();
    let proxy = Proxy::start(world.broker.port);
    let service = world.start_with(&[
        ("MQTT_PORT", &proxy.port.to_string()),
        ("INTERVAL_SECONDS", "0.1"),
        ("MQTT_ACK_TIMEOUT_SECONDS", "2"),
        ("MQTT_KEEPALIVE_SECONDS", "2"),
    ]);
    service.wait_for_log("connected to 127");
    world.redis.fill(1, 10);
    world.wait_for(10);
    // With nothing to send, the keep alive finds it; with a list in flight, our own limit.
    proxy.set(Behaviour {
        swallow_up: true,
        swallow_down: true,
        ..Behaviour::default()
    });
    service.wait_for_log("disconnected from");
    proxy.heal();
    world.redis.fill(11, 10);
    world.wait_for(20);
    proxy.set(Behaviour {
        swallow_down: true,
        ..Behaviour::default()
    });
    world.redis.fill(21, 10);
    service.wait_for_log("no acknowledgement within 2 s");
    proxy.heal();
    world.wait_for(30);
    world.redis.wait_for_cursor("(30-0");
}

#[test]
fn a_seeded_schedule_of_faults_loses_nothing_one() {
    support::schedule::run(1, Duration::from_secs(40), 20_000).check();
}

#[test]
fn a_seeded_schedule_of_faults_loses_nothing_two() {
    support::schedule::run(2, Duration::from_secs(40), 20_000).check();
}

#[test]
fn a_seeded_schedule_of_faults_loses_nothing_three() {
    support::schedule::run(3, Duration::from_secs(40), 20_000).check();
}
