//! `reboot`, with the supervisor as a real HTTP server, and what must never reboot a device.

use serde_json::json;

use super::support::supervisor::Supervisor;
use super::support::{self, World, wait_until};
use super::{BROADCAST, REQUEST, ask, error_of, hears, replies, start};

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
