//! What people watch, in a terminal and without one: `make demo`, and `--status --watch`.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::termios::{LocalModes, tcgetattr};
use support::service::command;
use support::{World, holds_within, signal, terminal};

/// It has to be built before it runs.
const PATIENCE: Duration = Duration::from_secs(400);
const ACTS: [&str; 6] = [
    "The service starts and catches up.",
    "The broker is gone.",
    "The service is killed with -9",
    "The broker is back.",
    "The service is back",
    "The sensor stops",
];

/// What a program has printed so far.
struct Shown {
    child: Child,
    text: Arc<Mutex<String>>,
}

impl Shown {
    fn start(mut command: Command, from: impl FnOnce(&mut Child) -> OwnedFd) -> Shown {
        let mut child = command.spawn().expect("the program");
        // Our copies of the inside of a terminal would keep it open.
        drop(command);
        let mut from = std::fs::File::from(from(&mut child));
        let text = Arc::new(Mutex::new(String::new()));
        let to = text.clone();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut part) {
                let part = String::from_utf8_lossy(&part[..length]);
                to.lock().expect("text").push_str(&part);
            }
        });
        Shown { child, text }
    }

    /// With a pipe as its stdout, in a group of its own.
    fn piped(mut command: Command) -> Shown {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        Shown::start(command, |child| child.stdout.take().expect("stdout").into())
    }

    fn text(&self) -> String {
        self.text.lock().expect("text").clone()
    }

    fn wait_for(&self, words: &str) {
        self.wait_for_times(1, words);
    }

    fn wait_for_times(&self, times: usize, words: &str) {
        let shown = holds_within(PATIENCE, || self.text().matches(words).count() >= times);
        assert!(shown, "{words:?} is not shown:\n{}", self.text());
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let ended = holds_within(PATIENCE, || {
            self.child.try_wait().is_ok_and(|status| status.is_some())
        });
        assert!(ended, "it does not end:\n{}", self.text());
        self.child.wait().expect("status")
    }

    /// Waits for the end of a demo and looks at the account.
    fn account(mut self) -> String {
        let status = self.wait_for_end();
        self.wait_for("lost ");
        let text = self.text();
        // make tells by its own end that it was interrupted, when the demo has ended well.
        let interrupted = text.contains("Ended early") && status.signal() == Some(2);
        assert!(status.success() || interrupted, "{status}:\n{text}");
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            let number = number.and_then(|number| number.parse().ok());
            number.unwrap_or_else(|| panic!("{name}:\n{text}"))
        };
        assert!(number("produced ") >= 5000);
        assert_eq!(number("produced "), number("received "));
        assert_eq!(number("lost "), 0);
        for rest in text.split("(port ").skip(1) {
            let port = rest.split(')').next().expect("a port");
            let address = ("127.0.0.1", port.parse().expect("a port"));
            let listens = TcpStream::connect(address).is_ok();
            assert!(!listens, "something is left behind");
        }
        text
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn demo(seconds: u64) -> Command {
    let mut command = Command::new("make");
    command
        .arg("demo")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("DEMO_SECONDS", seconds.to_string())
        .stderr(Stdio::null());
    command
}

fn watch(world: &World, folder: &Path) -> Command {
    std::fs::write(folder.join("app.conf"), "").expect("app.conf");
    let mut command = command();
    command
        .current_dir(folder)
        .args(["--status", "--watch"])
        .envs(world.settings());
    command
}

#[test]
fn without_a_terminal_it_tells_the_whole_story_once() {
    let text = Shown::piped(demo(20)).account();
    let places: Vec<_> = ACTS.iter().map(|act| text.find(act)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{text}"
    );
    assert!(text.contains("broker GONE  service GONE"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn in_a_terminal_a_key_ends_it_with_the_account() {
    let (screen, inside) = terminal::open();
    let copy = |of: &OwnedFd| of.try_clone().expect("descriptor");
    let (stdout, watched, keys) = (copy(&inside), copy(&inside), copy(&screen));
    let mut command = demo(600);
    command.stdin(inside).stdout(stdout);
    let demo = Shown::start(command, |_| screen);
    let echoes = || {
        let modes = tcgetattr(watched.as_fd()).expect("modes").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    };
    demo.wait_for("A key ends it");
    demo.wait_for("  2 s ");
    assert!(!echoes(), "keys would be shown");
    let key = std::fs::File::from(keys).write_all(b"q");
    key.expect("a key");
    let text = demo.account();
    assert!(text.contains("Ended early"), "{text}");
    assert!(text.contains('\u{1b}'), "{text}");
    assert!(echoes(), "the terminal stays without echo");
}

#[test]
fn ctrl_c_ends_it_with_the_account_whatever_is_gone() {
    let demo = Shown::piped(demo(20));
    demo.wait_for("The service is killed");
    // As a terminal does: to the whole group.
    let group = format!("-{}", demo.child.id());
    let status = Command::new("kill").args(["-INT", "--", &group]).status();
    assert!(status.is_ok_and(|status| status.success()));
    let text = demo.account();
    assert!(text.contains("Ended early"), "{text}");
    assert!(!text.contains("The sensor stops"), "{text}");
}

#[test]
fn the_status_is_drawn_anew_in_a_terminal() {
    let world = World::new();
    let _service = world.start();
    let folder = tempfile::tempdir().expect("folder");
    let (screen, inside) = terminal::open();
    let mut command = watch(&world, folder.path());
    command.stdout(inside);
    let mut shown = Shown::start(command, |_| screen);
    // Home and clear before each.
    shown.wait_for_times(3, "\u{1b}[H\u{1b}[2J");
    shown.wait_for("sent since start");
    signal("INT", shown.child.id());
    assert!(shown.wait_for_end().signal() == Some(2), "{}", shown.text());
}

#[test]
fn the_status_is_plain_without_a_terminal_and_outlasts_redis() {
    let mut world = World::new();
    let _service = world.start();
    let folder = tempfile::tempdir().expect("folder");
    let shown = Shown::piped(watch(&world, folder.path()));
    // An empty line behind each record.
    shown.wait_for_times(2, "\n\n");
    world.redis.stop();
    shown.wait_for("no status, Redis: ");
    world.redis.start_again();
    let before = shown.text().matches("backlog ").count();
    shown.wait_for_times(before + 1, "backlog ");
    assert!(!shown.text().contains('\u{1b}'), "{}", shown.text());
}
