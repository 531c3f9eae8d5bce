//! What docs/protocol.md promises of the commands, to the letter.

use serde_json::{Value, json};

use super::support::World;
use super::{BROADCAST, REQUEST, ask, ask_raw, ask_raw_on, error_of, hears, start};

#[test]
fn get_and_set_work_on_both_topics_in_any_case() {
    for (topic, get, set) in [
        (REQUEST, "get_config", "set_config"),
        (BROADCAST, "GET_CONFIG", "SET_CONFIG"),
        (REQUEST, "Get_Config", "sEt_cOnFiG"),
    ] {
        // Ten values a second are taken, and these are more.
        let world = World::new();
        let _service = start(&world, &[]);
        let reply = ask(
            &world,
            topic,
            json!({"command": set, "key": "sensor:rate", "value": "5 Hz"}),
        );
        assert_eq!(
            reply,
            json!({"command": "set_config", "key": "sensor:rate", "value": "5 Hz"})
        );
        let reply = ask(&world, topic, json!({"command": get, "key": "sensor:rate"}));
        assert_eq!(
            reply,
            json!({"command": "get_config", "key": "sensor:rate", "value": "5 Hz"})
        );
        let reply = ask(&world, topic, json!({"command": get, "key": "missing"}));
        assert_eq!(
            reply,
            json!({"command": "get_config", "key": "missing", "value": null})
        );
        for (given, stored) in [
            (json!(7), Some("7")),
            (json!(2.5), Some("2.5")),
            (json!(true), Some("1")),
            (json!(false), Some("0")),
            (json!(null), None),
        ] {
            let reply = ask(
                &world,
                topic,
                json!({"command": set, "key": "k", "value": given}),
            );
            assert_eq!(
                reply,
                json!({"command": "set_config", "key": "k", "value": given})
            );
            assert_eq!(world.redis.get("k").as_deref(), stored);
        }
    }
}

#[test]
fn a_reply_is_exact_to_the_byte() {
    let world = World::new();
    let _service = start(&world, &[]);
    world.redis.set("sensor:rate", "5 Hz");
    // Without an ID there is none in the reply.
    let reply = ask_raw(&world, br#"{"command":"get_config","key":"sensor:rate"}"#);
    assert_eq!(
        reply,
        json!({"command": "get_config", "key": "sensor:rate", "value": "5 Hz"})
    );
    let last = world
        .receiver
        .messages("iot-projekt/device/u1/response")
        .pop()
        .expect("a reply");
    assert_eq!(
        last.payload,
        br#"{"command":"get_config","key":"sensor:rate","value":"5 Hz"}"#
    );
}

/// What is wrong with a request: the command that the reply names, and a part of its words.
type Failing = (&'static [u8], Option<&'static str>, &'static str);

const FAILING: &[Failing] = &[
    (b"reboot", None, "not JSON"),
    (b"", None, "not JSON"),
    (b"\xff\xfe{}", None, "not UTF-8"),
    (b"\xef\xbb\xbf{}", None, "not JSON"),
    (b"\0", None, "not JSON"),
    (b"{\"id\":7,", None, "not JSON"),
    (
        br#"{"command":"\ud800"}"#,
        None,
        "\"command\" is not a string",
    ),
    (b"{\"command\":\"reboot\xc3\"}", None, "not UTF-8"),
    (b"[]", None, "not a JSON object"),
    (b"\"reboot\"", None, "not a JSON object"),
    (b"{}", None, "\"command\" is missing"),
    (br#"{"command":5}"#, None, "\"command\" is not a string"),
    (
        br#"{"command":"dance"}"#,
        Some("dance"),
        "unknown command; known are reboot, get_config, set_config, get_status, cancel, send_measurements",
    ),
    (
        br#"{"command":"get_config"}"#,
        Some("get_config"),
        "\"key\" is missing",
    ),
    (
        br#"{"command":"get_config","key":""}"#,
        Some("get_config"),
        "\"key\" is empty",
    ),
    (
        br#"{"command":"GET_CONFIG","key":7}"#,
        Some("get_config"),
        "\"key\" is not a string",
    ),
    (
        br#"{"command":"set_config","key":"sensor:x"}"#,
        Some("set_config"),
        "\"value\" is missing",
    ),
    (
        br#"{"command":"set_config","key":"sensor:x","value":{"a":1}}"#,
        Some("set_config"),
        "neither a string nor a number",
    ),
    (
        br#"{"command":"get_config","key":"list"}"#,
        Some("get_config"),
        "does not hold a string",
    ),
    (
        br#"{"command":"set_config","key":"list","value":1}"#,
        Some("set_config"),
        "holds a list and is left alone",
    ),
    (
        br#"{"command":"set_config","key":"list","value":null}"#,
        Some("set_config"),
        "holds a list and is left alone",
    ),
    (
        br#"{"command":"get_config","key":"other"}"#,
        Some("get_config"),
        "main.config_keys",
    ),
    (
        br#"{"command":"set_config","key":"other","value":1}"#,
        Some("set_config"),
        "main.config_keys",
    ),
    (
        br#"{"command":"set_config","key":"measurement:values","value":"x"}"#,
        Some("set_config"),
        "cannot be set",
    ),
    (
        br#"{"command":"set_config","key":"mqtt_sender:status","value":"x"}"#,
        Some("set_config"),
        "cannot be set",
    ),
    (
        br#"{"command":"set_config","key":"mqtt_sender:interval","value":"abc"}"#,
        Some("set_config"),
        "unusable",
    ),
    (
        br#"{"command":"set_config","key":"mqtt_sender:interval","value":-3}"#,
        Some("set_config"),
        "unusable",
    ),
    (
        br#"{"command":"set_config","key":"mqtt_sender:last_id","value":"foo"}"#,
        Some("set_config"),
        "unusable",
    ),
    (
        br#"{"command":"send_measurements","min_id":"x"}"#,
        Some("send_measurements"),
        "\"min_id\" is no stream ID",
    ),
    (
        br#"{"command":"send_measurements","count":"many"}"#,
        Some("send_measurements"),
        "\"count\" is no whole number",
    ),
    (
        br#"{"command":"reboot"}"#,
        Some("reboot"),
        "no balena supervisor here",
    ),
];

#[test]
fn every_failure_is_answered() {
    let world = World::new();
    world.redis.fill(1, 10);
    world.redis.command::<()>(&["RPUSH", "list", "x"]);
    let _service = start(
        &world,
        &[(
            "CONFIG_KEYS",
            "list, sensor:*, mqtt_sender:*, measurement:*",
        )],
    );
    hears(&world, BROADCAST);
    let deep = format!(
        r#"{{"command":"set_config","key":"sensor:x","value":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let answered = |payload: &[u8], command: Option<&str>, error: &str| {
        for topic in [REQUEST, BROADCAST] {
            let reply = ask_raw_on(&world, topic, payload);
            assert_eq!(reply["command"], json!(command), "{reply}");
            assert!(error_of(&reply).contains(error), "{reply}");
        }
    };
    for (payload, command, error) in FAILING {
        answered(payload, *command, error);
    }
    answered(
        deep.as_bytes(),
        Some("set_config"),
        "neither a string nor a number",
    );
    let padded = |bytes: usize| ["{}", &" ".repeat(bytes - 2)].concat();
    answered(padded(64 * 1024 + 1).as_bytes(), None, "65537 bytes");
    answered(padded(64 * 1024).as_bytes(), None, "missing");
    answered(&[b'x'; 500_000], None, "500000 bytes");
    answered("[".repeat(60_000).as_bytes(), None, "not JSON");
    for id in [
        "[".repeat(9) + &"]".repeat(9),
        format!("\"{}\"", "x".repeat(1023)),
    ] {
        let with_id = |rest: &str| format!(r#"{{"id":{id}{rest}}}"#).into_bytes();
        answered(
            &with_id(r#","command":"dance""#),
            Some("dance"),
            "\"id\" has",
        );
        answered(&with_id(""), None, "\"id\" has");
        answered(&with_id(r#","command":7"#), None, "\"id\" has");
    }
    // Nothing of it has changed anything.
    assert_eq!(
        world.redis.command::<u64>(&["XLEN", "measurement:values"]),
        10
    );
    assert_eq!(world.redis.command::<u64>(&["LLEN", "list"]), 1);
    assert_eq!(world.redis.get("mqtt_sender:interval"), None);
}

#[test]
fn the_stream_cannot_be_set_even_before_it_exists() {
    let world = World::new();
    let _service = start(&world, &[]);
    let reply = ask(
        &world,
        REQUEST,
        json!({"command": "set_config", "key": "measurement:values", "value": "x"}),
    );
    assert!(error_of(&reply).contains("cannot be set"));
    assert_eq!(
        world
            .redis
            .command::<String>(&["TYPE", "measurement:values"]),
        "none"
    );
}

#[test]
fn commands_that_are_not_allowed_are_refused() {
    let world = World::new();
    let _service = start(&world, &[("ALLOWED_COMMANDS", "get_config")]);
    for command in ["reboot", "set_config", "SEND_measurements"] {
        let reply = ask(
            &world,
            BROADCAST,
            json!({"command": command, "key": "k", "value": 1}),
        );
        assert!(
            error_of(&reply).contains("main.allowed_commands"),
            "{reply}"
        );
    }
    assert_eq!(world.redis.get("k"), None);
    assert_eq!(
        ask(
            &world,
            REQUEST,
            json!({"command": "get_config", "key": "k"})
        )["value"],
        Value::Null
    );
}

#[test]
fn a_redis_that_is_away_is_told() {
    let mut world = World::new();
    let _service = start(&world, &[]);
    world.redis.stop();
    for command in ["get_config", "set_config", "send_measurements"] {
        let reply = ask(
            &world,
            REQUEST,
            json!({"command": command, "key": "k", "value": 1}),
        );
        assert!(
            error_of(&reply).contains("Redis is out of reach"),
            "{reply}"
        );
    }
    world.redis.start_again();
    let reply = ask(
        &world,
        REQUEST,
        json!({"command": "set_config", "key": "k", "value": 1}),
    );
    assert_eq!(reply["value"], json!(1));
}

#[test]
fn a_changed_setting_counts_at_once_also_in_push_mode() {
    for interval in ["0", "3600"] {
        let world = World::new();
        let service = start(&world, &[("INTERVAL_SECONDS", interval)]);
        ask(
            &world,
            REQUEST,
            json!({"command": "set_config", "key": "mqtt_sender:enabled", "value": false}),
        );
        service.wait_for_log("sending is off");
        ask(
            &world,
            BROADCAST,
            json!({"command": "set_config", "key": "mqtt_sender:interval", "value": 0.1}),
        );
        service.wait_for_log("the interval is 0.1 s");
        ask(
            &world,
            BROADCAST,
            json!({"command": "set_config", "key": "mqtt_sender:enabled", "value": true}),
        );
        world.redis.fill(1, 1);
        world.wait_for(1);
    }
}

#[test]
fn a_connection_to_redis_that_has_ended_unnoticed_costs_no_command() {
    let world = World::new();
    let _service = start(&world, &[]);
    let get = json!({"command": "get_config", "key": "mqtt_sender:enabled"});
    for _ in 0..3 {
        let reply = ask(&world, REQUEST, get.clone());
        assert!(reply.get("error").is_none(), "{reply}");
        world
            .redis
            .command::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let reply = ask(&world, REQUEST, get.clone());
        assert!(reply.get("error").is_none(), "{reply}");
    }
}

#[test]
fn a_setting_that_would_be_too_long_is_not_set() {
    let world = World::new();
    let _service = start(&world, &[]);
    for key in ["mqtt_sender:enabled", "mqtt_sender:interval"] {
        let long = format!("1{}", " ".repeat(2000));
        let reply = ask(
            &world,
            REQUEST,
            json!({"command": "set_config", "key": key, "value": long}),
        );
        assert!(error_of(&reply).contains("at most 1024"), "{reply}");
        assert_eq!(world.redis.get(key), None);
    }
}
