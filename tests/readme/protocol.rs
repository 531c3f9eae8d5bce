//! What docs/protocol.md says of keys, payloads and commands.

use std::process::{Command, Stdio};
use std::time::Duration;

use mqtt_handler::model::status::Record;
use mqtt_handler::store;
use serde_json::{Map, Value};

use super::pages::{blocks, page, rows};
use super::support::{World, wait_until};

const PAGE: &str = "docs/protocol.md";

#[test]
fn every_key_and_every_field_is_listed() {
    let text = page(PAGE);
    let rows = rows(&text);
    let names: Vec<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    let keys = store::SETTINGS.iter().chain(&store::OWN_KEYS).copied();
    let fields = Record::default().fields();
    for name in keys.chain(fields.iter().map(|(name, _)| *name)) {
        assert!(names.contains(&format!("`{name}`").as_str()), "{name}");
    }
}

#[test]
fn every_command_is_listed() {
    let (text, file) = (page(PAGE), page("app.conf"));
    let rows = rows(&text);
    for name in mqtt_handler::config::COMMANDS {
        let listed = rows.iter().any(|row| row[0] == format!("`{name}`"));
        assert!(listed, "{name} has no row in {PAGE}");
        assert!(file.contains(&format!(" {name}")), "{name}: app.conf");
    }
}

#[test]
fn the_example_of_a_payload_is_what_is_sent() {
    let world = World::new();
    let shown = &blocks(PAGE, "json")[0];
    let list: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(shown).expect("a list");
    for measurement in &list {
        let id = measurement["_id"].as_str().expect("an ID");
        let mut words = vec!["XADD", "measurement:values", id];
        let fields = measurement
            .iter()
            .filter(|(name, _)| !name.starts_with('_'));
        words.extend(
            fields.flat_map(|(name, value)| [name.as_str(), value.as_str().expect("text")]),
        );
        world.redis.command::<String>(&words);
    }
    let _service = world.start();
    world.wait_for(list.len());
    let payload = world.receiver.lists().remove(0).payload;
    assert_eq!(String::from_utf8_lossy(&payload), *shown);
}

#[test]
fn compressed_lists_are_read_as_printed() {
    let world = World::new();
    let folder = tempfile::tempdir().expect("folder");
    let program = folder.path().join("measurements.py");
    std::fs::write(&program, blocks(PAGE, "python").remove(0)).expect("program");
    let shown = blocks(PAGE, "sh");
    let lines = shown.iter().flat_map(|block| block.lines());
    let recipes: Vec<&str> = lines.filter(|line| line.contains(" | ")).collect();
    let address = format!("mosquitto_sub -h 127.0.0.1 -p {} -W 30 ", world.broker.port);
    let mut running = Vec::new();
    for recipe in &recipes {
        let recipe = recipe.replace("mosquitto_sub ", &address);
        let recipe = recipe.replace(" -t ", " -C 1 -t ");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &recipe]).current_dir(&folder);
        running.push(shell.stdout(Stdio::piped()).spawn().expect("sh"));
    }
    // Whenever they have subscribed, the next list is there.
    let _service = world.start_with(&[("COMPRESSION", "gzip")]);
    let mut next = 1;
    wait_until("the recipes have ended", || {
        world.redis.fill(next, 10);
        next += 10;
        std::thread::sleep(Duration::from_millis(100));
        let mut ended = running
            .iter_mut()
            .map(|child| child.try_wait().expect("status"));
        ended.all(|status| status.is_some())
    });
    let texts: Vec<String> = running
        .into_iter()
        .map(|child| child.wait_with_output().expect("output").stdout)
        .map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
        .collect();
    assert_eq!(texts.len(), 2);
    let list: Vec<Map<String, Value>> = serde_json::from_str(&texts[0]).expect("a list");
    assert!(
        list.iter()
            .all(|measurement| measurement["temperature_celsius"] == "20.3")
    );
    let lines: Vec<Value> = texts[1]
        .lines()
        .map(|line| serde_json::from_str(line).expect("a measurement"))
        .collect();
    assert!(!list.is_empty() && !lines.is_empty());
    assert!(
        lines
            .iter()
            .all(|measurement| measurement["_device_uuid"] == "u1")
    );
}

#[test]
fn the_examples_of_commands_are_answered_as_printed() {
    let world = World::new();
    world.redis.set("mqtt_sender:interval", "5");
    world.redis.fill(1_621_122_796_939, 200);
    let service = world.start();
    service.wait_for_log("connected to 127");
    world.wait_for(200);
    let text = page(PAGE);
    let blocks = blocks(PAGE, "sh");
    let lines = blocks.iter().flat_map(|block| block.lines());
    let mut examples = 0;
    for line in lines.filter_map(|line| line.strip_prefix("mosquitto_pub ")) {
        let before = world.receiver.replies().len();
        let port = world.broker.port;
        let command = format!("mosquitto_pub -h 127.0.0.1 -p {port} -q 1 {line}");
        let status = Command::new("sh").args(["-c", &command]).status();
        assert!(status.is_ok_and(|status| status.success()));
        wait_until(&format!("{line} is answered"), || {
            world.receiver.replies().len() > before
        });
        let replies = world.receiver.messages("iot-projekt/device/u1/response");
        let reply = String::from_utf8(replies[before].payload.clone()).expect("UTF-8");
        // There is no supervisor in this test; that, too, is answered.
        let printed = text.contains(&format!("`{reply}`"))
            || reply.contains("no balena supervisor")
            || line.contains("get_status")
                && reply.starts_with(r#"{"command":"get_status","status":{"#);
        assert!(printed, "{line}\n{reply}");
        examples += 1;
    }
    assert!(examples >= 4, "{examples}");
}
