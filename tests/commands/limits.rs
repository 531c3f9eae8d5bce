//! Whoever may publish a command can cost neither a measurement nor the memory, the log or the
//! line.

use serde_json::{Value, json};

use super::support::{World, wait_until};
use super::{BROADCAST, REQUEST, ask, ask_raw, error_of, hears, replies, start};

#[test]
fn a_burst_is_done_or_told_and_measurements_keep_flowing() {
    let world = World::new();
    let begun = std::time::Instant::now();
    let service = start(&world, &[("INTERVAL_SECONDS", "0.1")]);
    let before = replies(&world).len();
    for n in 0..5000 {
        world.receiver.publish(
            BROADCAST,
            format!(r#"{{"command":"get_config","key":"k{n}"}}"#),
            false,
        );
        if n % 250 == 0 {
            world.redis.fill(n + 1, 1);
        }
    }
    let count = || -> u64 {
        replies(&world)[before..]
            .iter()
            .map(|reply| match reply["error"].as_str() {
                None => 1,
                Some(error) => error
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok())
                    .expect("a number"),
            })
            .sum()
    };
    wait_until("5000 are done or told as dropped", || count() >= 5000);
    assert_eq!(count(), 5000);
    world.wait_for(20);
    // A flood of commands is no flood of lines.
    let lines = service.log().len() as f64;
    assert!(
        lines < 40.0 + 10.0 * begun.elapsed().as_secs_f64(),
        "{lines} lines"
    );
}

#[test]
fn get_status_tells_the_record_of_this_moment_on_both_topics() {
    let world = World::new();
    world.redis.fill(1, 7);
    let _service = start(&world, &[]);
    for topic in [REQUEST, BROADCAST] {
        let mut status = Value::Null;
        wait_until("the status tells the cursor", || {
            let mut reply = ask(&world, topic, json!({"command": "GET_status"}));
            assert_eq!(reply["command"], "get_status");
            status = reply["status"].take();
            status["last_id"] == "(7-0"
        });
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["connected"], json!(true));
        assert_eq!(status["sent_measurements"], json!(7));
    }
}

#[test]
fn no_reply_is_larger_than_the_broker_takes() {
    let world = World::with_broker("max_packet_size 600");
    let service = start(&world, &[("INTERVAL_SECONDS", "0")]);
    world.redis.set("fits", &"x".repeat(300));
    for (key, length) in [("large", 600), ("escaped", 200)] {
        world.redis.set(key, &"\u{1}".repeat(length));
    }
    let get = |key: &str| {
        ask(
            &world,
            REQUEST,
            json!({"command": "get_config", "key": key}),
        )
    };
    assert_eq!(get("fits")["value"], "x".repeat(300));
    for n in 1..=20 {
        world.redis.fill(n, 1);
        for key in ["large", "escaped"] {
            assert!(error_of(&get(key)).contains("does not fit"), "{key}");
        }
        // Known commands are listed, which is long.
        let payload = r#"{"command":"dance"}"#;
        assert!(error_of(&ask_raw(&world, payload.as_bytes())).len() < 600);
    }
    world.wait_for(20);
    let status = ask(&world, REQUEST, json!({"command": "get_status"}));
    assert!(status.get("status").is_some() || error_of(&status).contains("fit into a message"));
    assert_eq!(service.count_log("disconnected"), 0);
}

#[test]
fn what_not_even_a_short_error_fits_for_is_told_in_the_log() {
    let world = World::with_broker("max_packet_size 110");
    let service = world.start_with(&[("BATCH_MAX_COUNT", "1")]);
    service.wait_for_log("connected to 127");
    wait_until("it is told", || {
        let request = r#"{"command":"dance"}"#;
        world.receiver.publish(REQUEST, request, false);
        service.count_log("a reply could not be sent") > 0
    });
    assert_eq!(service.count_log("disconnected"), 0);
    assert!(replies(&world).is_empty());
}

#[test]
fn a_measurement_that_the_broker_does_not_take_is_told_and_not_sent() {
    let world = World::with_broker("max_packet_size 600");
    world.redis.set("mqtt_sender:enabled", "0");
    world.redis.fill(1, 10);
    let large = "x".repeat(600);
    world
        .redis
        .command::<()>(&["XADD", "measurement:values", "11-0", "a", &large]);
    let service = start(&world, &[]);
    let reply = ask(&world, REQUEST, json!({"command": "send_measurements"}));
    let error = error_of(&reply);
    assert!(
        error.starts_with("stopped after 10 measurements: the measurement 11-0 has"),
        "{error}"
    );
    assert_eq!(world.receiver.total(), 10);
    assert_eq!(service.count_log("disconnected"), 0);
}

#[test]
fn a_value_of_60_mb_is_refused_and_not_read() {
    let world = World::new();
    let service = start(&world, &[]);
    world
        .redis
        .command::<u64>(&["SETRANGE", "huge", "60000000", "x"]);
    for _ in 0..10 {
        let reply = ask(
            &world,
            REQUEST,
            json!({"command": "get_config", "key": "huge"}),
        );
        assert!(error_of(&reply).contains("does not fit into a reply of at most"));
    }
    let peak = service.peak_memory();
    assert!(peak < 24 * 1024, "{peak} KiB");
}

/// Sends many commands at once and gives the replies to them.
fn burst(world: &World, count: usize, request: impl Fn(usize) -> Value) -> Vec<Value> {
    let before = replies(world).len();
    for n in 0..count {
        world
            .receiver
            .publish(REQUEST, request(n).to_string(), false);
    }
    wait_until("all are answered", || {
        replies(world).len() >= before + count
    });
    replies(world).split_off(before)
}

#[test]
fn set_config_stores_ten_values_a_second_and_none_above_4_kib() {
    let world = World::new();
    let _service = start(&world, &[]);
    let begun = std::time::Instant::now();
    let set = |n: usize| json!({"command": "set_config", "key": format!("k{n}"), "value": "x".repeat(4096)});
    let (mut stored, mut refused) = (0, 0);
    for _ in 0..4 {
        for reply in burst(&world, 25, set) {
            match reply["error"].as_str() {
                None => stored += 1,
                Some(error) if error.contains("at most 10 values a second") => refused += 1,
                Some(error) => panic!("{error}"),
            }
        }
    }
    let allowed = 11.0 + 10.0 * begun.elapsed().as_secs_f64();
    assert!(
        stored >= 10 && f64::from(stored) <= allowed && refused > 0,
        "{stored} {refused}"
    );
    let large = json!({"command": "set_config", "key": "large", "value": "x".repeat(4097)});
    assert!(error_of(&ask(&world, REQUEST, large)).contains("4097 bytes"));
    assert_eq!(world.redis.get("large"), None);
}

#[test]
fn set_config_leaves_the_last_fifth_of_redis_to_measurements() {
    let world = World::new();
    let service = start(&world, &[("INTERVAL_SECONDS", "0")]);
    let info = world.redis.command::<String>(&["INFO", "memory"]);
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used
        .and_then(|used| used.trim().parse().ok())
        .expect("bytes");
    // A little below 80 %.
    let maximum = (used + 20_000) * 100 / 80;
    let maximum = maximum.to_string();
    world
        .redis
        .command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    world
        .redis
        .command::<()>(&["CONFIG", "SET", "maxmemory", &maximum]);
    let mut told = None;
    let mut n = 0;
    wait_until("it is refused", || {
        n += 1;
        let value = "x".repeat(4096);
        let set = json!({"command": "set_config", "key": format!("k{n}"), "value": value});
        let reply = ask(&world, REQUEST, set);
        told = reply["error"].as_str().map(str::to_string);
        told.as_ref()
            .is_some_and(|error| error.contains("of its maxmemory"))
    });
    // Sensors still write, what they write is sent, and deleting makes room.
    world.redis.fill(1, 10);
    world.wait_for(10);
    wait_until("deleting is allowed", || {
        let delete = json!({"command": "set_config", "key": "k1", "value": null});
        ask(&world, REQUEST, delete).get("error").is_none()
    });
    assert_eq!(world.redis.get("k1"), None);
    assert_eq!(service.count_log("panicked"), 0);
}

#[test]
fn foreign_text_neither_forges_a_line_nor_comes_back_multiplied() {
    let world = World::new();
    let long = "iot-projekt/device/u1/request/".to_string() + &"ü".repeat(30_000);
    let settings = [("MQTT_TOPIC_REQUEST", "iot-projekt/device/u1/request/#")];
    let service = world.start_with(&settings);
    hears(&world, "iot-projekt/device/u1/request/x");
    let hostile = [
        "\n2026-01-01T00:00:00Z ERROR forged",
        "\u{1b}[2J\u{202e}",
        "😀",
    ];
    let before = replies(&world).len();
    let mut sent = 0;
    for text in hostile {
        let text = text.repeat(60_000 / text.len() / 2);
        for request in [
            json!({"command": text}),
            json!({"command": "get_config", "key": text}),
            json!({"command": "set_config", "key": "k", "value": text}),
            json!({"command": "set_config", "key": "mqtt_sender:interval", "value": text}),
            json!({"command": "set_config", "key": "mqtt_sender:last_id", "value": &text[..text.len().min(4000) / 4 * 4]}),
            json!({"command": "send_measurements", "min_id": text}),
            json!({"command": "get_status", "id": text}),
            json!(text),
        ] {
            // Not every one is told in a line of its own, only so many in a second.
            let told = service.count_log(" refused: ");
            wait_until("it is answered and told", || {
                world.receiver.publish(&long, request.to_string(), false);
                sent += 1;
                wait_until("it is answered", || replies(&world).len() >= before + sent);
                service.count_log(" refused: ") > told
            });
        }
    }
    for reply in world.receiver.messages("iot-projekt/device/u1/response") {
        assert!(
            reply.payload.len() < 1000,
            "{:?}",
            String::from_utf8(reply.payload)
        );
    }
    for line in service.log() {
        let dated = line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T');
        let settings = line.contains("settings: ");
        assert!(dated && (line.len() <= 1000 || settings), "{line}");
        assert!(
            !line.contains(|letter: char| letter.is_control()),
            "{line:?}"
        );
    }
}

#[test]
fn an_id_that_would_break_a_reader_is_left_out() {
    let world = World::new();
    let _service = start(&world, &[]);
    for id in [
        ["[".repeat(30_000), "]".repeat(30_000)].concat(),
        ["[".repeat(9), "]".repeat(9)].concat(),
        format!("\"{}\"", "x".repeat(1023)),
        "\"\\udead\"".into(),
    ] {
        let request = format!(r#"{{"id":{id},"command":"get_status"}}"#);
        let reply = ask_raw(&world, request.as_bytes());
        assert!(error_of(&reply).starts_with("\"id\" "), "{reply}");
        assert_eq!(
            (reply.get("id"), &reply["command"]),
            (None, &json!("get_status"))
        );
    }
}
