//! What the README prints must work as printed.

mod support;

use std::process::Command;

use support::{Mosquitto, Receiver, Redis, Service, World, holds_within, wait_until};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md")
}

/// The blocks of a language, in order.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let fence = format!("```{language}\n");
    let found = text.split(&fence).skip(1);
    found
        .map(|rest| rest.split("\n```").next().unwrap_or_default().to_string())
        .collect()
}

/// Every command that it prints.
fn commands() -> Vec<String> {
    let blocks = blocks("sh");
    let lines = blocks.iter().flat_map(|block| block.lines());
    lines.map(str::to_string).collect()
}

fn shell(line: &str, world: &World) -> std::process::Output {
    let folder = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .env("REDIS_PORT", world.redis.port.to_string())
        .env("MQTT_PORT", world.broker.port.to_string())
        .env("BALENA_DEVICE_UUID", "u1");
    command.output().expect("sh")
}

#[test]
fn every_command_works_as_printed() {
    let world = World::new();
    let (redis, broker) = (world.redis.port, world.broker.port);
    let binary = env!("CARGO_BIN_EXE_mqtt-handler");
    let mut ran = 0;
    for line in commands() {
        let (program, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let run = match program {
            // What they do takes minutes, or is this very test: that there is such a target.
            "make" => format!("make --dry-run {rest}"),
            "redis-cli" => format!("redis-cli -p {redis} {rest}"),
            "mosquitto_pub" => format!("mosquitto_pub -h 127.0.0.1 -p {broker} {rest}"),
            // Until a message comes, or for a second.
            "mosquitto_sub" => {
                format!("mosquitto_sub -h 127.0.0.1 -p {broker} -W 1 {rest} || [ $? = 27 ]")
            }
            "mqtt-handler" => format!("{binary} {rest}"),
            // The service runs until it is told to end; once, for the second time is in earnest.
            "target/release/mqtt-handler" if !rest.contains("--") => {
                format!("timeout --foreground --preserve-status 2 {binary} {rest}")
            }
            "target/release/mqtt-handler" => format!("{binary} {rest}"),
            // What it would start, not that it does.
            "docker" => {
                support::compose_accepts(
                    concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml").as_ref(),
                );
                ran += 1;
                continue;
            }
            // They need a device, or an account.
            "balena" => continue,
            _ => panic!("the README prints a command that is not tested: {line}"),
        };
        let output = shell(&run, &world);
        assert!(output.status.success(), "{line}: {output:?}");
        ran += 1;
    }
    assert!(ran >= 10, "{ran}");
}

#[test]
fn every_example_of_a_file_is_valid() {
    // The entry for an existing fleet: what docker-compose says of it, and the same rights as
    // in the file of this repository.
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("mqtt-handler")).expect("folder");
    for (n, text) in blocks("yaml").iter().enumerate() {
        let file = folder.path().join(format!("{n}.yml"));
        std::fs::write(&file, text).expect("file");
        support::compose_accepts(&file);
        let here =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml"));
        let here = here.expect("docker-compose.yml");
        let own: Vec<&str> = here.lines().map(str::trim).collect();
        for line in text.lines().map(str::trim) {
            assert!(
                own.contains(&line) || line == "build: ./mqtt-handler",
                "{line:?} is not in docker-compose.yml"
            );
        }
    }
    let known = ["sh", "yaml", "acl"];
    for fence in readme().lines().filter_map(|line| line.strip_prefix("```")) {
        assert!(fence.is_empty() || known.contains(&fence), "{fence}");
    }
}

/// The longest part of a text in Rust that is printed as it is.
fn fixed_part(literal: &str) -> String {
    let mut parts: Vec<String> = vec![String::new()];
    let mut inside = false;
    for letter in literal.chars() {
        match letter {
            '{' => inside = true,
            '}' => {
                inside = false;
                parts.push(String::new());
            }
            _ if !inside => parts.last_mut().expect("a part").push(letter),
            _ => {}
        }
    }
    let longest = parts.into_iter().max_by_key(String::len);
    longest
        .unwrap_or_default()
        .trim_matches([' ', ':', ';', ',', '(', ')'])
        .to_string()
}

/// The first text in quotes.
fn literal(code: &str) -> Option<&str> {
    code.split_once('"')?.1.split('"').next()
}

/// What does not vary in a line: the longest piece between marks and numbers.
fn fixed_part_of(line: &str) -> String {
    let pieces = line.split(|letter: char| letter == MARK || letter.is_ascii_digit());
    let longest = pieces.max_by_key(|piece| piece.len()).unwrap_or_default();
    longest
        .split("(see")
        .next()
        .unwrap_or_default()
        .trim_matches([' ', ':', ';', ',', '(', ')', '"', '-', '.'])
        .to_string()
}

/// Stands for a text that varies.
const MARK: char = '§';

#[test]
fn every_warning_and_every_error_is_explained() {
    use mqtt_handler::model::notice::Level;
    let mark = MARK.to_string();
    let bridge = mqtt_handler::bridge::notice::catalogue(&mark);
    let link = mqtt_handler::link::notice::catalogue(&mark);
    let bridge = bridge.iter().map(|line| (line.level(), line.to_string()));
    let link = link.iter().map(|line| (line.level(), line.to_string()));
    let notices = bridge
        .chain(link)
        .filter(|(level, _)| *level >= Level::Warn)
        .map(|(_, line)| fixed_part_of(&line));
    let reasons = code()
        .iter()
        .flat_map(|code| reasons_and_warnings(code))
        .collect::<Vec<_>>();
    let readme = readme();
    let parts: Vec<String> = notices
        .chain(reasons)
        .filter(|part| part.len() >= 8)
        .collect();
    assert!(parts.len() > 40, "{}", parts.len());
    let missing: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !readme.contains(part))
        .collect();
    assert!(missing.is_empty(), "not explained:\n{}", missing.join("\n"));
}

/// What the threads themselves log, and the reasons that name a setting.
fn reasons_and_warnings(code: &str) -> Vec<String> {
    let logged = code
        .split("warn!(")
        .skip(1)
        .chain(code.split("error!(").skip(1));
    let reasons = code.match_indices("(see mqtt.").map(|(at, _)| {
        let begin = code[..at].rfind('"').unwrap_or_default();
        &code[begin..]
    });
    logged
        .chain(reasons)
        .filter_map(literal)
        .map(|text| fixed_part(text.split("(see").next().unwrap_or_default()))
        .collect()
}

/// The sources without their tests.
fn code() -> Vec<String> {
    let mut code = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .expect("src")
            .map_while(Result::ok)
        {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).expect("code");
            code.push(text.split("#[cfg(test)]").next().unwrap_or_default().into());
        }
    }
    code
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
        assert!(
            line.ends_with(&format!(
                "| {}{}|",
                key.about,
                if key.about.is_empty() { "" } else { " " }
            )),
            "{row}: the last column is not {:?}",
            key.about
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
    for line in commands()
        .iter()
        .filter_map(|line| line.strip_prefix("mosquitto_pub "))
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
    std::fs::write(folder.path().join("acl"), format!("{}\n", blocks("acl")[0])).expect("acl");
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
