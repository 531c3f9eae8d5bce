//! Remote commands from outside: a real broker, and the supervisor as a real HTTP server.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::receiver::ids_of;
use support::supervisor::Supervisor;
use support::{Service, World, holds_within, wait_until};

const REQUEST: &str = "iot-projekt/device/u1/request";
const BROADCAST: &str = "iot-projekt/device/broadcast/control";

/// Starts the service and waits until it hears commands.
fn start(world: &World, settings: &[(&'static str, &str)]) -> Service {
    let service = world.start_with(settings);
    hears(world, REQUEST);
    service
}

/// Publishes a harmless command until it is answered, and forgets the answers.
fn hears(world: &World, topic: &str) {
    let probe = format!("probe-{}", world.receiver.total_messages());
    wait_until("commands are heard", || {
        world.receiver.publish(
            topic,
            json!({"command": "none", "id": probe}).to_string(),
            false,
        );
        holds_within(Duration::from_millis(300), || {
            replies(world)
                .iter()
                .any(|reply| reply["id"] == probe.as_str())
        })
    });
}

/// Replies without those to the probes.
fn replies(world: &World) -> Vec<Value> {
    world.receiver.replies()
}

/// Sends a command and waits for its reply, which is told by its ID.
fn ask(world: &World, topic: &str, mut request: Value) -> Value {
    let id = format!("ask-{}", world.receiver.total_messages());
    request["id"] = json!(id);
    world.receiver.publish(topic, request.to_string(), false);
    let mut found = None;
    wait_until(&format!("{request} is answered"), || {
        found = replies(world)
            .into_iter()
            .find(|reply| reply["id"] == id.as_str());
        found.is_some()
    });
    let mut reply = found.expect("a reply");
    reply.as_object_mut().expect("an object").remove("id");
    reply
}

/// Sends raw bytes and waits for the next reply.
fn ask_raw(world: &World, payload: &[u8]) -> Value {
    let before = replies(world).len();
    world.receiver.publish(REQUEST, payload, false);
    wait_until("raw bytes are answered", || replies(world).len() > before);
    replies(world).swap_remove(before)
}

fn error_of(reply: &Value) -> String {
    reply["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{reply} is no error"))
        .to_string()
}

#[test]
fn get_and_set_work_on_both_topics_in_any_case() {
    let world = World::new();
    let _service = start(&world, &[]);
    for (topic, get, set) in [
        (REQUEST, "get_config", "set_config"),
        (BROADCAST, "GET_CONFIG", "SET_CONFIG"),
        (REQUEST, "Get_Config", "sEt_cOnFiG"),
    ] {
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
    // Without an ID there is none in the reply, and the reply is exact to the byte.
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

#[test]
fn a_wildcard_in_a_command_topic_is_understood() {
    let world = World::new();
    let _service = world.start_with(&[("MQTT_TOPIC_REQUEST", "commands/+/for/#")]);
    hears(&world, "commands/x/for/u1/now");
    let reply = ask(
        &world,
        "commands/y/for/all",
        json!({"command": "get_config", "key": "a"}),
    );
    assert_eq!(reply["value"], Value::Null);
}

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
    let deep = format!(
        r#"{{"command":"set_config","key":"sensor:x","value":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    for (payload, command, error) in [
        (&b"reboot"[..], Value::Null, "not JSON"),
        (b"", Value::Null, "not JSON"),
        (b"\xff\xfe{}", Value::Null, "not UTF-8"),
        (b"[]", Value::Null, "not a JSON object"),
        (b"\"reboot\"", Value::Null, "not a JSON object"),
        (b"{}", Value::Null, "\"command\" is missing"),
        (
            br#"{"command":5}"#,
            Value::Null,
            "\"command\" is not a string",
        ),
        (
            br#"{"command":"dance"}"#,
            json!("dance"),
            "unknown command; known are reboot, get_config, set_config, send_measurements",
        ),
        (
            br#"{"command":"get_config"}"#,
            json!("get_config"),
            "\"key\" is missing",
        ),
        (
            br#"{"command":"get_config","key":""}"#,
            json!("get_config"),
            "\"key\" is empty",
        ),
        (
            br#"{"command":"GET_CONFIG","key":7}"#,
            json!("get_config"),
            "\"key\" is not a string",
        ),
        (
            br#"{"command":"set_config","key":"sensor:x"}"#,
            json!("set_config"),
            "\"value\" is missing",
        ),
        (
            br#"{"command":"set_config","key":"sensor:x","value":{"a":1}}"#,
            json!("set_config"),
            "neither a string nor a number",
        ),
        (
            deep.as_bytes(),
            json!("set_config"),
            "neither a string nor a number",
        ),
        (
            br#"{"command":"get_config","key":"list"}"#,
            json!("get_config"),
            "does not hold a string",
        ),
        (
            br#"{"command":"set_config","key":"list","value":1}"#,
            json!("set_config"),
            "holds a list and is left alone",
        ),
        (
            br#"{"command":"set_config","key":"list","value":null}"#,
            json!("set_config"),
            "holds a list and is left alone",
        ),
        (
            br#"{"command":"get_config","key":"other"}"#,
            json!("get_config"),
            "main.config_keys",
        ),
        (
            br#"{"command":"set_config","key":"other","value":1}"#,
            json!("set_config"),
            "main.config_keys",
        ),
        (
            br#"{"command":"set_config","key":"measurement:values","value":"x"}"#,
            json!("set_config"),
            "cannot be set",
        ),
        (
            br#"{"command":"set_config","key":"mqtt_sender:status","value":"x"}"#,
            json!("set_config"),
            "cannot be set",
        ),
        (
            br#"{"command":"set_config","key":"mqtt_sender:interval","value":"abc"}"#,
            json!("set_config"),
            "unusable",
        ),
        (
            br#"{"command":"set_config","key":"mqtt_sender:interval","value":-3}"#,
            json!("set_config"),
            "unusable",
        ),
        (
            br#"{"command":"set_config","key":"mqtt_sender:last_id","value":"foo"}"#,
            json!("set_config"),
            "unusable",
        ),
        (
            br#"{"command":"send_measurements","min_id":"x"}"#,
            json!("send_measurements"),
            "\"min_id\" is no stream ID",
        ),
        (
            br#"{"command":"send_measurements","count":"many"}"#,
            json!("send_measurements"),
            "\"count\" is no whole number",
        ),
        (
            br#"{"command":"reboot"}"#,
            json!("reboot"),
            "no balena supervisor here",
        ),
    ] {
        let reply = ask_raw(&world, payload);
        assert_eq!(reply["command"], command, "{reply}");
        assert!(error_of(&reply).contains(error), "{reply}");
    }
    let padded = |bytes: usize| ["{}", &" ".repeat(bytes - 2)].concat();
    let large = ask_raw(&world, padded(64 * 1024 + 1).as_bytes());
    assert!(error_of(&large).contains("65537 bytes"), "{large}");
    let fits = ask_raw(&world, padded(64 * 1024).as_bytes());
    assert!(error_of(&fits).contains("missing"), "{fits}");
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

/// The settings that point to a supervisor.
fn at(supervisor: &Supervisor) -> [(&'static str, &str); 2] {
    [
        ("BALENA_SUPERVISOR_ADDRESS", &supervisor.address),
        ("BALENA_SUPERVISOR_API_KEY", "the-key"),
    ]
}

#[test]
fn reboot_replies_first_and_asks_the_supervisor_once_a_minute() {
    let world = World::new();
    let supervisor = Supervisor::start(202, r#"{"Data":"OK","Error":null}"#);
    let service = start(&world, &at(&supervisor));
    world.redis.fill(1, 10);
    world.wait_for(10);
    assert_eq!(
        ask(&world, BROADCAST, json!({"command": "REBOOT"})),
        json!({"command": "reboot"})
    );
    wait_until("the supervisor is asked", || {
        supervisor.requests().len() == 1
    });
    assert_eq!(world.redis.cursor().as_deref(), Some("(10-0"));
    let request = supervisor.requests().remove(0);
    assert_eq!(request.line, "POST /v1/reboot HTTP/1.1");
    assert!(
        request
            .headers
            .iter()
            .any(|header| header.eq_ignore_ascii_case("authorization: bearer the-key"))
    );
    assert_eq!(request.body, "{}");
    let reply = ask(&world, REQUEST, json!({"command": "reboot"}));
    assert!(error_of(&reply).contains("at most once in 60 s"), "{reply}");
    assert_eq!(supervisor.requests().len(), 1);
    assert_eq!(service.count_log("the-key"), 0);
}

#[test]
fn a_refusal_of_the_supervisor_is_told_in_words() {
    for (status, body, expected) in [
        (
            423,
            r#"{"Data":"","Error":"Updates are locked"}"#,
            "an update lock is set: Updates are locked",
        ),
        (401, "Unauthorized", "refuses the key"),
        (500, "oops", "status 500: oops"),
    ] {
        let world = World::new();
        let supervisor = Supervisor::start(status, body);
        let _service = start(&world, &at(&supervisor));
        world.receiver.publish(
            REQUEST,
            r#"{"command":"reboot","force":true,"id":9}"#,
            false,
        );
        let mine = || {
            replies(&world)
                .into_iter()
                .filter(|reply| reply["id"] == 9)
                .collect::<Vec<_>>()
        };
        wait_until("both replies came", || mine().len() == 2);
        assert_eq!(mine()[0], json!({"command": "reboot", "id": 9}));
        assert!(error_of(&mine()[1]).contains(expected), "{:?}", mine()[1]);
        assert_eq!(supervisor.requests()[0].body, r#"{"force":true}"#);
        // The device goes on: measurements flow again.
        world.redis.fill(1, 5);
        world.wait_for(5);
    }
}

#[test]
fn a_supervisor_that_hangs_or_is_not_there_is_told() {
    let world = World::new();
    let hanging = Supervisor::start(0, "");
    let _service = start(&world, &at(&hanging));
    let failed = || {
        replies(&world).into_iter().any(|reply| {
            reply["error"]
                .as_str()
                .is_some_and(|error| error.contains("did not answer"))
        })
    };
    world
        .receiver
        .publish(REQUEST, r#"{"command":"reboot"}"#, false);
    wait_until("the hanging one is told", failed);

    let world = World::new();
    let gone = format!("http://127.0.0.1:{}", support::free_port());
    let settings = [
        ("BALENA_SUPERVISOR_ADDRESS", gone.as_str()),
        ("BALENA_SUPERVISOR_API_KEY", "k"),
    ];
    let _service = start(&world, &settings);
    world
        .receiver
        .publish(REQUEST, r#"{"command":"reboot"}"#, false);
    wait_until("the absent one is told", || {
        replies(&world).iter().any(|reply| {
            reply["error"]
                .as_str()
                .is_some_and(|error| error.contains("did not answer"))
        })
    });
}

#[test]
fn a_retained_reboot_is_never_executed() {
    for version in ["5", "3.1.1"] {
        let mut world = World::new();
        let supervisor = Supervisor::start(202, "{}");
        for topic in [REQUEST, BROADCAST] {
            world
                .receiver
                .publish(topic, r#"{"command":"reboot","id":"retained"}"#, true);
        }
        let mut settings = at(&supervisor).to_vec();
        settings.push(("MQTT_VERSION", version));
        let mut service = start(&world, &settings);
        for reconnect in 1..=3 {
            world.broker.stop();
            world.broker.start_again();
            wait_until("it is connected again", || {
                service.count_log("] connected to 127") + service.count_log("connected to 127")
                    > reconnect
            });
            hears(&world, REQUEST);
        }
        service.kill();
        let _service = start(&world, &settings);
        hears(&world, BROADCAST);
        assert!(supervisor.requests().is_empty(), "MQTT {version}");
        let refused = replies(&world)
            .iter()
            .filter(|reply| reply["id"] == "retained")
            .count();
        if version == "3.1.1" {
            assert!(refused >= 2, "the broker delivers it, and it is answered");
        } else {
            assert_eq!(refused, 0, "retained messages are not asked for");
        }
    }
}

#[test]
fn a_live_message_published_as_retained_is_refused_under_mqtt_5() {
    let world = World::new();
    let supervisor = Supervisor::start(202, "{}");
    let _service = start(&world, &at(&supervisor));
    world
        .receiver
        .publish(REQUEST, r#"{"command":"reboot","id":1}"#, true);
    wait_until("it is answered", || {
        replies(&world).iter().any(|reply| reply["id"] == 1)
    });
    let reply = replies(&world)
        .into_iter()
        .find(|reply| reply["id"] == 1)
        .expect("a reply");
    assert!(error_of(&reply).contains("retained"), "{reply}");
    assert!(supervisor.requests().is_empty());
}

#[test]
fn a_refused_subscription_is_an_error_that_names_the_topic() {
    // The ACL file of Mosquitto does not check subscriptions, its plugin does.
    let folder = tempfile::tempdir().expect("folder");
    let access = json!({
        "defaultACLAccess":
            {"publishClientSend": true, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
        "anonymousGroup": "all",
        "groups": [{"groupname": "all", "roles": [{"rolename": "devices"}]}],
        "roles": [{"rolename": "devices", "acls": [
            {"acltype": "subscribePattern", "topic": "iot-projekt/#", "allow": true},
        ]}],
    });
    std::fs::write(folder.path().join("access.json"), access.to_string()).expect("access.json");
    let plugin = support::servers::plugin("mosquitto_dynamic_security.so");
    let broker = support::Mosquitto::start_in(
        folder,
        &format!(
            "plugin {}\nplugin_opt_config_file {{folder}}/access.json",
            plugin.display()
        ),
    );
    let redis = support::Redis::start(&[]);
    for version in ["5", "3.1.1"] {
        let service = Service::between(
            redis.port,
            broker.port,
            &[
                ("BALENA_DEVICE_UUID", "u1".into()),
                ("MQTT_TOPIC_REQUEST", "forbidden/commands".into()),
                ("MQTT_VERSION", version.into()),
            ],
        );
        service.wait_for_log(
            "no commands arrive on \"forbidden/commands\": the subscription was refused",
        );
        assert_eq!(
            service.count_log("control\": the subscription was refused"),
            0
        );
    }
}

#[test]
fn a_thousand_commands_over_three_restarts_of_the_broker_do_no_harm() {
    let mut world = World::new();
    let service = start(
        &world,
        &[("INTERVAL_SECONDS", "0.1"), ("MQTT_REPLY_QOS", "1")],
    );
    for round in 0..4u64 {
        for n in 0..250 {
            world.receiver.publish(
                REQUEST,
                format!(r#"{{"command":"set_config","key":"k","value":{n}}}"#),
                false,
            );
        }
        world.redis.fill(round * 10 + 1, 10);
        if round < 3 {
            world.broker.stop();
            world.broker.start_again();
        }
    }
    hears(&world, REQUEST);
    world.wait_for(40);
    assert_eq!(service.count_log("panicked"), 0);
}

#[test]
fn replies_have_the_quality_of_service_that_was_set() {
    for qos in [0u8, 1] {
        let world = World::new();
        let _service = start(&world, &[("MQTT_REPLY_QOS", &qos.to_string())]);
        let replies = world.receiver.messages("iot-projekt/device/u1/response");
        assert!(!replies.is_empty() && replies.iter().all(|reply| reply.qos == qos));
    }
}

#[test]
fn correlation_data_comes_back_with_the_reply_under_mqtt_5() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
    use rumqttc::v5::{Client, Event, MqttOptions};

    let world = World::new();
    let _service = start(&world, &[]);
    let (client, mut connection) = Client::new(
        MqttOptions::new("asker", "127.0.0.1", world.broker.port),
        10,
    );
    client
        .subscribe("iot-projekt/device/u1/response", QoS::AtLeastOnce)
        .expect("subscribe");
    let properties = PublishProperties {
        correlation_data: Some("ticket 7".into()),
        ..Default::default()
    };
    client
        .publish_with_properties(
            REQUEST,
            QoS::AtLeastOnce,
            false,
            r#"{"command":"get_config","key":"k"}"#,
            properties,
        )
        .expect("publish");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    for event in connection.iter() {
        if let Ok(Event::Incoming(Packet::Publish(reply))) = event {
            let correlation = reply
                .properties
                .and_then(|properties| properties.correlation_data);
            assert_eq!(correlation.as_deref(), Some(&b"ticket 7"[..]));
            return;
        }
        assert!(std::time::Instant::now() < deadline, "no reply");
    }
}
