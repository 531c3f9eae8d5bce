//! Every command that a page prints.

use std::process::{Command, Output};

use super::pages::{blocks, page, pages, root};
use super::support::{World, compose_accepts, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_mqtt-handler");

fn shell(line: &str, world: &World) -> Output {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(root())
        .env("REDIS_PORT", world.redis.port.to_string())
        .env("MQTT_PORT", world.broker.port.to_string())
        .env("BALENA_DEVICE_UUID", "u1");
    command.output().expect("sh")
}

#[test]
fn every_command_works_as_printed() {
    let mut ran = 0;
    for path in pages() {
        let world = World::new();
        let blocks = blocks(&path, "sh");
        for line in blocks.iter().flat_map(|block| block.lines()) {
            ran += usize::from(works(line, &world));
        }
    }
    assert!(ran >= 15, "{ran}");
}

/// Whether a command could be tried here.
///
/// # Panics
/// When it does not work.
fn works(line: &str, world: &World) -> bool {
    let (redis, broker) = (world.redis.port, world.broker.port);
    let (program, rest) = line.split_once(' ').unwrap_or((line, ""));
    let run = match program {
        // What they do takes minutes, or is this very test: that there is such a target.
        "make" => format!("make --dry-run {rest}"),
        "redis-cli" => format!("redis-cli -p {redis} {rest}"),
        "mosquitto_pub" => format!("mosquitto_pub -h 127.0.0.1 -p {broker} {rest}"),
        // It reads compressed lists: see `protocol`.
        "mosquitto_sub" if rest.contains('|') => return false,
        // Until a message comes, or for a second.
        "mosquitto_sub" => {
            format!("mosquitto_sub -h 127.0.0.1 -p {broker} -W 1 {rest} || [ $? = 27 ]")
        }
        "mqtt-handler" if rest.contains("--status") => {
            let _service = world.start();
            let status = format!("{BINARY} {rest}");
            wait_until(line, || shell(&status, world).status.success());
            return true;
        }
        // The service runs until it is told to end.
        "target/release/mqtt-handler" if !rest.contains("--") => {
            format!("timeout --foreground --preserve-status 2 {BINARY} {rest}")
        }
        "mqtt-handler" | "target/release/mqtt-handler" => format!("{BINARY} {rest}"),
        // What it would start, not that it does.
        "docker" => {
            compose_accepts(&root().join("docker-compose.yml"));
            return true;
        }
        // They need a device and an account, or change this machine.
        "balena" | "apt-get" | "cd" | "tar" | "install" | "systemctl" => return false,
        _ => panic!("a page prints a command that is not tested: {line}"),
    };
    let output = shell(&run, world);
    assert!(output.status.success(), "{line}: {output:?}");
    true
}

#[test]
fn every_target_of_make_that_is_named_exists() {
    let mut seen = 0;
    for path in pages() {
        let text = page(&path);
        let named = text.split("`make ").skip(1);
        for rest in named.filter_map(|rest| rest.split('`').next()) {
            // `…` and capitals stand for what the reader puts there.
            let words = rest.split_whitespace().filter(|word| !word.contains('…'));
            let output = Command::new("make")
                .arg("--dry-run")
                .args(words)
                .current_dir(root())
                .output()
                .expect("make");
            assert!(output.status.success(), "{path}: make {rest}: {output:?}");
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn every_ring_of_tests_that_is_named_exists() {
    let text = page("CONTRIBUTING.md");
    let named = text.split("--test ").skip(1);
    let names = named.filter_map(|rest| rest.split([' ', '`']).next());
    let mut seen = 0;
    for name in names {
        let places = [format!("tests/{name}.rs"), format!("tests/{name}/main.rs")];
        assert!(
            places.iter().any(|place| root().join(place).exists()),
            "{name}"
        );
        seen += 1;
    }
    assert!(seen > 3, "{seen}");
}
