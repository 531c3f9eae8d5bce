//! The main job: every measurement once, in order, byte by byte, and nothing lost when the
//! service or the broker is killed.

mod support;

use std::time::{Duration, Instant};

use support::proxy::Proxy;
use support::receiver::{Arrived, first_arrivals, ids_of};
use support::stream::consecutive;
use support::{World, holds_within, wait_until};

#[test]
fn a_backlog_arrives_once_each_in_order_within_both_bounds() {
    let world = World::new();
    world.redis.fill(1000, 20_000);
    let _service = world.start_with(&[("BATCH_MAX_COUNT", "300"), ("BATCH_MAX_BYTES", "30000")]);
    world.wait_for(20_000);
    world.redis.wait_for_cursor("(20999-0");
    assert_eq!(world.receiver.ids(), consecutive(1000, 20_000));
    let lists = world.receiver.lists();
    for list in &lists {
        assert!(list.payload.len() <= 30_000);
        assert!(ids_of(&list.payload).len() <= 300);
    }
    // The bounds are used, too: 20,000 measurements of about 130 bytes, 230 to a list.
    assert!(lists.len() < 110, "{} lists", lists.len());
}

/// What stands before the sensor fields in every measurement of these tests.
fn head(id: &str) -> String {
    format!(
        r#"{{"_id":"{id}","_device_uuid":"u1","_device_type":"pi \"3\"","_app_id":"77","_app_name":"Fürth""#
    )
}

#[test]
fn the_json_is_exact_to_the_byte() {
    let world = World::new();
    let wide: Vec<(String, String)> = (0..200)
        .map(|n| (format!("f{n}"), format!("{n}.5")))
        .collect();
    let large = "x".repeat(10_000);
    let add = |id: &str, fields: &[(&[u8], &[u8])]| {
        let mut command = redis::cmd("XADD");
        command.arg("measurement:values").arg(id);
        for (name, value) in fields {
            command.arg(*name).arg(*value);
        }
        command
            .query::<String>(&mut world.redis.connection())
            .expect("XADD");
    };
    add(
        "1-0",
        &[
            (b"t", "20.3 °C äöüß".as_bytes()),
            (b"empty", b""),
            (b"", b"no name"),
        ],
    );
    add(
        "1-1",
        &[
            (b"quote\"s", b"a\"b\\c/d"),
            (b"control", b"\x00\x01\x08\t\n\x0c\r\x1f\x7f"),
        ],
    );
    add(
        "2-0",
        &[
            (b"bad\xff", b"\xc3("),
            (b"_id", b"mine"),
            (b"_app_name", b"too"),
            (b"_other", b"1"),
        ],
    );
    add("3-0", &[(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]);
    let fields: Vec<(&[u8], &[u8])> = wide
        .iter()
        .map(|(n, v)| (n.as_bytes(), v.as_bytes()))
        .collect();
    add("4-0", &fields);
    add("5-0", &[(b"blob", large.as_bytes())]);
    add("6-0", &[(b"last", b"1")]);

    let service = world.start_with(&[
        ("BATCH_MAX_BYTES", "6000"),
        ("BALENA_DEVICE_TYPE", "pi \"3\""),
        ("BALENA_APP_ID", "77"),
        ("BALENA_APP_NAME", "Fürth"),
    ]);
    world.wait_for(7);
    let lists: Vec<String> = world
        .receiver
        .lists()
        .into_iter()
        .map(|list| String::from_utf8(list.payload).expect("UTF-8"))
        .collect();
    let wide: String = wide
        .iter()
        .map(|(name, value)| format!(r#","{name}":"{value}""#))
        .collect();
    let expected = [
        format!(
            "[{},\"t\":\"20.3 °C äöüß\",\"empty\":\"\",\"\":\"no name\"}},{},\"quote\\\"s\":\"a\\\"b\\\\c/d\",\
             \"control\":\"\\u0000\\u0001\\b\\t\\n\\f\\r\\u001f\u{7f}\"}},{},\"bad\u{fffd}\":\"\u{fffd}(\",\
             \"__id\":\"mine\",\"__app_name\":\"too\",\"_other\":\"1\"}},{},\"a\":\"3\",\"b\":\"2\"}},{}{wide}}}]",
            head("1-0"),
            head("1-1"),
            head("2-0"),
            head("3-0"),
            head("4-0"),
        ),
        format!("[{},\"blob\":\"{large}\"}}]", head("5-0")),
        format!("[{},\"last\":\"1\"}}]", head("6-0")),
    ];
    assert_eq!(lists, expected);
    // Told once each, and nothing else is odd.
    assert_eq!(service.count_log("no UTF-8"), 1);
    assert_eq!(service.count_log("a field twice"), 1);
}

#[test]
fn killing_the_service_loses_nothing_and_repeats_at_most_one_list_a_kill() {
    const COUNT: u64 = 60_000;
    const LIST: usize = 40;
    let world = World::new();
    world.redis.fill(1, COUNT);
    let settings = [("BATCH_MAX_COUNT", "40")];
    for kill in 1..=10u64 {
        let before = world.receiver.distinct();
        let mut service = world.start_with(&settings);
        // A different moment each time, always in the middle of the catch-up.
        let moment = before + usize::try_from(kill * kill * 37 % 1900).expect("small") + 1;
        wait_until("the catch-up has come so far", || {
            world.receiver.distinct() >= moment
        });
        service.kill();
    }
    assert!(
        world.receiver.distinct() < usize::try_from(COUNT).expect("small"),
        "killed in the catch-up"
    );
    let _service = world.start_with(&settings);
    world.wait_for(60_000);
    let ids = world.receiver.ids();
    assert_eq!(first_arrivals(&ids), consecutive(1, COUNT));
    let repeated = ids.len() - 60_000;
    assert!(repeated <= 10 * LIST, "{repeated} repeated");
}

#[test]
fn a_frozen_broker_and_a_killed_service_lose_nothing() {
    let world = World::new();
    world.redis.fill(1, 20_000);
    let mut service = world.start_with(&[("BATCH_MAX_COUNT", "40")]);
    wait_until("the catch-up runs", || world.receiver.distinct() > 1000);
    world.broker.freeze();
    // The list in flight now cannot be confirmed; give the service the time to hand it over.
    let cursor = || world.redis.cursor();
    wait_until("the cursor stands still", || {
        let before = cursor();
        std::thread::sleep(Duration::from_millis(200));
        before == cursor()
    });
    service.kill();
    world.broker.thaw();
    let _service = world.start();
    world.wait_for(20_000);
    assert_eq!(
        first_arrivals(&world.receiver.ids()),
        consecutive(1, 20_000)
    );
}

#[test]
fn memory_does_not_grow_with_the_backlog() {
    let peak = |count: u64| {
        let world = World::new();
        world.redis.fill(1, count);
        let service = world.start();
        let last = format!("({count}-0");
        world.redis.wait_for_cursor(&last);
        service.peak_memory()
    };
    let (small, large) = (peak(10_000), peak(1_000_000));
    assert!(
        large <= small + 4096,
        "{small} KiB at 10,000, {large} KiB at 1,000,000"
    );
    assert!(large < 24 * 1024, "{large} KiB");
}

/// Bytes a second over the last ten seconds, but for the list that begins them.
fn rate(lists: &[Arrived]) -> Option<f64> {
    let last = lists.last()?.at;
    let span = |list: &Arrived| last.duration_since(list.at).as_secs_f64();
    let first = lists.iter().rposition(|list| span(list) >= 10.0)?;
    let bytes: usize = lists[first + 1..]
        .iter()
        .map(|list| list.payload.len())
        .sum();
    Some(bytes as f64 / span(&lists[first]))
}

#[test]
fn a_backlog_is_sent_at_the_rate_that_is_set_over_any_number_of_connections() {
    const RATE: f64 = 20_000.0;
    const LIST: usize = 4000;
    let world = World::new();
    world.redis.fill(1, 20_000);
    let proxy = Proxy::start(world.broker.port);
    let port = proxy.port.to_string();
    let service = world.start_with(&[
        ("MQTT_PORT", &port),
        ("BATCH_MAX_BYTES", "4000"),
        ("CATCH_UP_BYTES_PER_SECOND", "20000"),
        ("MQTT_TOPIC_STATUS", "iot-projekt/device/u1/status"),
    ]);
    for lists in [10, 20, 30] {
        wait_until("some lists have come", || {
            world.receiver.lists().len() >= lists
        });
        proxy.cut();
    }
    wait_until("a command is answered meanwhile", || {
        let request = r#"{"command":"get_config","key":"k"}"#;
        world
            .receiver
            .publish("iot-projekt/device/u1/request", request, false);
        holds_within(Duration::from_millis(300), || {
            !world.receiver.replies().is_empty()
        })
    });
    let online = || {
        world
            .receiver
            .messages("iot-projekt/device/u1/status")
            .len()
    };
    wait_until("the status is published at each connect", || online() >= 3);
    let sent = || -> Option<u64> {
        let field = ["HGET", "mqtt_sender:status", "sent_measurements"];
        let text: Option<String> = world.redis.command(&field);
        text?.parse().ok()
    };
    let before = sent();
    wait_until("the record goes on", || before.is_some() && sent() > before);
    let kept = holds_within(Duration::from_secs(40), || {
        rate(&world.receiver.lists()).is_some_and(|bytes| (bytes / RATE - 1.0).abs() < 0.05)
    });
    let lists = world.receiver.lists();
    assert!(kept, "{:?} bytes a second", rate(&lists));
    // Full lists, and never more than one ahead of the rate. One is for what is late on its way.
    assert!(
        lists[5..]
            .iter()
            .all(|list| list.payload.len() > LIST - 200)
    );
    for (nth, from) in lists.iter().enumerate() {
        let mut bytes = 0;
        for to in &lists[nth..] {
            bytes += to.payload.len();
            let time = to.at.duration_since(from.at).as_secs_f64();
            assert!(
                bytes as f64 <= RATE * time * 1.02 + 2.0 * LIST as f64,
                "{bytes} in {time} s"
            );
        }
    }
    service.wait_for_log(" to go");
}

#[test]
fn that_more_comes_in_than_may_be_sent_is_warned_about() {
    let world = World::new();
    world.redis.fill(1, 3000);
    let service = world.start_with(&[("CATCH_UP_BYTES_PER_SECOND", "2000")]);
    let mut next = 3001;
    let begun = Instant::now();
    while service.count_log("more comes in than is sent") == 0 {
        assert!(begun.elapsed() < support::PATIENCE, "{:?}", service.log());
        // About 6 kB in a tenth of a second.
        world.redis.fill(next, 50);
        next += 50;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(service.count_log("ERROR"), 0);
}
