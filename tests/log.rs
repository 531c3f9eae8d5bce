//! The log as somebody sees it who reads it late, never, or on a terminal.

mod support;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::service::command;
use support::{World, holds_within, signal, wait_until};

/// The service with the smallest pipe there is as its stderr, which is full and nobody reads.
struct Unread {
    child: Child,
    log: std::fs::File,
    _folder: tempfile::TempDir,
}

impl Unread {
    fn start(world: &World, more: &[(&str, &str)]) -> Unread {
        Unread::start_with(world, full_pipe(), more)
    }

    /// What is to be read, and what is written to.
    fn start_with(
        world: &World,
        (log, stderr): (OwnedFd, OwnedFd),
        more: &[(&str, &str)],
    ) -> Unread {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("app.conf"), "").expect("app.conf");
        let child = command()
            .current_dir(folder.path())
            .envs(world.settings())
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the binary");
        Unread {
            child,
            log: log.into(),
            _folder: folder,
        }
    }

    fn terminate(&mut self) -> Duration {
        let begun = Instant::now();
        signal("TERM", self.child.id());
        wait_until("the service has ended", || {
            self.child.try_wait().is_ok_and(|status| status.is_some())
        });
        assert!(self.child.wait().is_ok_and(|status| status.success()));
        begun.elapsed()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = rustix::pipe::pipe().expect("pipe");
    let size = rustix::pipe::fcntl_setpipe_size(&write, 4096).expect("size");
    rustix::io::write(&write, &vec![b'\n'; size]).expect("fill");
    (read, write)
}

/// A terminal on which somebody has pressed Ctrl-S.
fn stopped_terminal() -> (OwnedFd, OwnedFd) {
    let (screen, terminal) = support::terminal::open();
    rustix::termios::tcflow(&terminal, rustix::termios::Action::OOff).expect("stop");
    (screen, terminal)
}

#[test]
fn a_stopped_terminal_holds_nothing_up() {
    let world = World::new();
    world.redis.fill(1, 10);
    let mut service = Unread::start_with(&world, stopped_terminal(), &[]);
    world.wait_for(10);
    let time = service.terminate();
    assert!(time < Duration::from_secs(10), "{time:?}");
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let world = World::new();
    world.redis.fill(1, 3000);
    // A line for each measurement.
    let settings = [("RUST_LOG", "debug"), ("BATCH_MAX_COUNT", "1")];
    let mut service = Unread::start(&world, &settings);
    world.wait_for(3000);
    let time = service.terminate();
    assert!(time < Duration::from_secs(10), "{time:?}");
    world.redis.wait_for_cursor("(3000-0");
}

#[test]
fn what_was_dropped_is_told_when_somebody_reads_again() {
    let world = World::new();
    world.redis.fill(1, 3000);
    let settings = [("RUST_LOG", "debug"), ("BATCH_MAX_COUNT", "1")];
    let mut service = Unread::start(&world, &settings);
    world.wait_for(3000);
    let mut log = service.log.try_clone().expect("descriptor");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).expect("UTF-8");
        text
    });
    // Late lines come again, up to the last one.
    world.redis.fill(3001, 5);
    world.wait_for(3005);
    service.terminate();
    let text = reader.join().expect("reader");
    let lines: Vec<&str> = text.trim().lines().collect();
    let told = lines
        .iter()
        .position(|line| line.contains("lines of the log are missing here"))
        .unwrap_or_else(|| panic!("{}", lines[lines.len().saturating_sub(20)..].join("\n")));
    let number: u64 = lines[told]
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("a number");
    assert!(number > 500, "{}", lines[told]);
    assert!(told > 1000, "what was queued comes first: {told}");
    assert!(lines[0].contains("mqtt-handler") && lines[0].contains("starts"));
    assert!(lines.len() > told + 5, "and then it goes on");
    for line in &lines {
        assert!(line.starts_with("20"), "a broken line: {line:?}");
    }
}

#[test]
fn text_from_outside_makes_one_short_line_of_harmless_characters() {
    let world = World::new();
    let service = world.start();
    service.wait_for_log("connected to 127");
    let evil = "x\n2026-11-24T00:00:00.000Z ERROR poller: forged\u{1b}[2J\u{9b}";
    let long = "y".repeat(60_000);
    for text in [evil, &long, &format!("{evil}{long}")] {
        for command in [
            serde_json::json!({ "command": text }),
            serde_json::json!({ "command": "get_config", "key": text }),
            serde_json::json!({ "command": "get_config", "key": "k", "id": text }),
            serde_json::json!({ "command": "set_config", "key": text, "value": text }),
            serde_json::json!({ "command": "send_measurements", "min_id": text }),
        ] {
            let command = command.to_string();
            world
                .receiver
                .publish("iot-projekt/device/u1/request", command, false);
        }
    }
    for value in [evil, &long] {
        world.redis.set("mqtt_sender:interval", value);
        let before = service.count_log("mqtt_sender:interval is unusable");
        assert!(holds_within(support::PATIENCE, || {
            service.count_log("mqtt_sender:interval is unusable") > before
        }));
    }
    for line in service.log() {
        assert!(line.starts_with("20"), "{line:?}");
        let settings = line.contains("settings: ");
        assert!(settings || line.len() < 1000, "{} bytes", line.len());
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

/// Not a test: what the next one starts as a process of its own.
#[test]
fn a_thread_panics() {
    if std::env::var_os("PANIC").is_none() {
        return;
    }
    mqtt_handler::logging::init();
    let thread = std::thread::Builder::new().name("worker".into());
    let thread = thread.spawn(|| panic!("first\nsecond")).expect("thread");
    assert!(thread.join().is_err());
    // As from a callback of the MQTT library: nothing more is written.
    std::process::abort();
}

#[test]
fn a_panic_is_one_line_of_the_log_even_if_the_process_ends_with_it() {
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_thread_panics", "--nocapture"])
        .env("PANIC", "1")
        .output()
        .expect("this program");
    let text = String::from_utf8_lossy(&output.stderr);
    let told = |line: &str| {
        line.contains("ERROR worker: a fault of this program at tests/log.rs:")
            && line.ends_with(": first\\nsecond")
    };
    assert_eq!(text.lines().filter(|line| told(line)).count(), 1, "{text}");
}
