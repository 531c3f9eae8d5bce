//! `make demo` as people see it: in a terminal, where a key ends it, and without one.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use support::holds_within;

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

/// `make demo`, and what it has printed so far.
struct Demo {
    child: Child,
    text: Arc<Mutex<String>>,
}

impl Demo {
    fn start(
        seconds: u64,
        prepare: impl FnOnce(&mut Command),
        from: impl FnOnce(&mut Child) -> OwnedFd,
    ) -> Demo {
        let mut command = Command::new("make");
        command
            .arg("demo")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("DEMO_SECONDS", seconds.to_string())
            .stderr(Stdio::null());
        prepare(&mut command);
        let mut child = command.spawn().expect("make");
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
        Demo { child, text }
    }

    fn text(&self) -> String {
        self.text.lock().expect("text").clone()
    }

    fn wait_for(&self, words: &str) {
        let shown = holds_within(PATIENCE, || self.text().contains(words));
        assert!(shown, "{words:?} is not shown:\n{}", self.text());
    }

    /// Waits for the end and looks at the account.
    fn account(mut self) -> String {
        let ended = holds_within(PATIENCE, || {
            self.child.try_wait().is_ok_and(|status| status.is_some())
        });
        assert!(ended, "it does not end:\n{}", self.text());
        let status = self.child.wait().expect("status");
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

fn without_a_terminal(seconds: u64) -> Demo {
    let piped = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
    };
    Demo::start(seconds, piped, |child| {
        child.stdout.take().expect("stdout").into()
    })
}

#[test]
fn without_a_terminal_it_tells_the_whole_story_once() {
    let text = without_a_terminal(20).account();
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
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let screen = openpt(flags).expect("terminal");
    grantpt(&screen).expect("grantpt");
    unlockpt(&screen).expect("unlockpt");
    let inside = ioctl_tiocgptpeer(&screen, flags).expect("the inside of the terminal");
    let copy = |of: &OwnedFd| of.try_clone().expect("descriptor");
    let (stdout, watched, keys) = (copy(&inside), copy(&inside), copy(&screen));
    let prepare = move |command: &mut Command| {
        command.stdin(inside).stdout(stdout);
    };
    let demo = Demo::start(600, prepare, |_| screen);
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
    let demo = without_a_terminal(20);
    demo.wait_for("The service is killed");
    // As a terminal does: to the whole group.
    let group = format!("-{}", demo.child.id());
    let status = Command::new("kill").args(["-INT", "--", &group]).status();
    assert!(status.is_ok_and(|status| status.success()));
    let text = demo.account();
    assert!(text.contains("Ended early"), "{text}");
    assert!(!text.contains("The sensor stops"), "{text}");
}
