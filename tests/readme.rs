//! What the README prints must work as printed.

mod support;

use std::process::Command;

use support::{Mosquitto, Receiver, Redis, Service, World, holds_within, wait_until};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md")
}

/// The block between ```<language> and ```.
fn block(language: &str) -> String {
    let text = readme();
    let begin = text.find(&format!("```{language}\n")).expect("the block") + language.len() + 4;
    text[begin..]
        .split("\n```")
        .next()
        .expect("the block")
        .to_string()
}

#[test]
fn the_table_of_settings_is_complete_and_true() {
    let text = readme();
    for key in mqtt_handler::config::KEYS {
        let row = format!("| {}.{} | {} |", key.section, key.name, key.variable);
        let line = text
            .lines()
            .find(|line| line.starts_with(&row))
            .unwrap_or_else(|| panic!("{row} is missing"));
        let shown = line
            .split('|')
            .nth(3)
            .unwrap_or_default()
            .trim()
            .trim_matches('`');
        let default = if key.default.is_empty() {
            "empty"
        } else {
            key.default
        };
        assert!(
            shown.starts_with(default),
            "{row}: {shown:?} and not {default:?}"
        );
    }
}

#[test]
fn the_examples_of_commands_are_answered_as_printed() {
    let world = World::new();
    world.redis.set("mqtt_sender:interval", "5");
    for n in 0..200 {
        world.redis.fill(1_621_122_796_939 + n, 1);
    }
    let service = world.start();
    service.wait_for_log("connected to 127");
    world.wait_for(200);
    let text = readme();
    let mut examples = 0;
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("    mosquitto_pub "))
    {
        let before = world.receiver.replies().len();
        let command = format!(
            "mosquitto_pub -h 127.0.0.1 -p {} -q 1 {line}",
            world.broker.port
        );
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .is_ok_and(|status| status.success())
        );
        wait_until(&format!("{line} is answered"), || {
            world.receiver.replies().len() > before
        });
        let reply = world
            .receiver
            .messages("iot-projekt/device/u1/response")
            .pop()
            .expect("a reply");
        let reply = String::from_utf8(reply.payload).expect("UTF-8");
        // There is no supervisor in this test; that, too, is answered.
        let printed =
            text.contains(&format!("`{reply}`")) || reply.contains("no balena supervisor");
        assert!(printed, "{line}\n{reply}");
        examples += 1;
    }
    assert_eq!(examples, 4);
}

#[test]
fn the_acl_file_lets_a_fleet_work_and_keeps_devices_apart() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("acl"), block("acl") + "\n").expect("acl");
    for (n, user) in ["u1", "u2", "backend"].into_iter().enumerate() {
        let create: &[&str] = if n == 0 { &["-c", "-b"] } else { &["-b"] };
        let status = Command::new("mosquitto_passwd")
            .args(create)
            .arg(folder.path().join("passwords"))
            .args([user, "secret"])
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
    let extra = "allow_anonymous false\npassword_file {folder}/passwords\nacl_file {folder}/acl";
    let broker = Mosquitto::start_in(folder, extra);
    let backend = Receiver::start_as(
        broker.port,
        &["iot-projekt/device/#"],
        Some(("backend", "secret")),
    );
    let redis = Redis::start(&[]);
    redis.fill(1, 10);
    let device = |topics: &str| {
        Service::between(
            redis.port,
            broker.port,
            &[
                ("MQTT_USERNAME", "u1".into()),
                ("MQTT_PASSWORD", "secret".into()),
                ("BALENA_DEVICE_UUID", topics.into()),
            ],
        )
    };
    let service = device("u1");
    wait_until("measurements arrive", || backend.distinct() == 10);
    for topic in [
        "iot-projekt/device/u1/request",
        "iot-projekt/device/broadcast/control",
    ] {
        let before = backend.replies().len();
        wait_until("commands are answered", || {
            backend.publish(topic, r#"{"command":"get_config","key":"k"}"#, false);
            holds_within(std::time::Duration::from_millis(300), || {
                backend.replies().len() > before
            })
        });
    }
    drop(service);
    // A device that poses as another one is not heard.
    redis.fill(11, 5);
    let impostor = device("u2");
    impostor.wait_for_log("measurements are not accepted on \"iot-projekt/device/u2/values\"");
    assert_eq!(backend.distinct(), 10);
}
