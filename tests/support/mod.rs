//! What every test needs: a real Redis, a real Mosquitto, the real binary, and a receiver that
//! shares no code with it. Each test has its own, on free ports and in a folder of its own.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod certificates;
pub mod config;
pub mod packet;
pub mod proxy;
pub mod random;
pub mod receiver;
pub mod schedule;
pub mod scripted;
pub mod servers;
pub mod service;
pub mod stream;
pub mod supervisor;
pub mod terminal;
pub mod tls_front;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use receiver::Receiver;
pub use servers::{Mosquitto, Redis};
pub use service::Service;

/// Generous: these machines are slow at times, and a test that passes does not wait for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
///
/// # Panics
/// With `what` when it does not within `PATIENCE`.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        holds_within(PATIENCE, condition),
        "waited in vain until {what}"
    );
}

/// Whether the condition comes to hold within `time`.
pub fn holds_within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nothing listens on, and that no other test gets: the system gives the same one twice
/// where it was not used yet. Below those that it gives to connections.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Other test programs may run beside this one.
        let place = std::process::id().wrapping_mul(101) + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(10_000 + place % 22_000).expect("below 32,000");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Sends a signal to a process that the test has started.
pub fn signal(name: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "kill -{name} {pid}"
    );
}

/// Redis, Mosquitto and a receiver of everything that the device sends.
pub struct World {
    pub redis: Redis,
    pub broker: Mosquitto,
    pub receiver: Receiver,
}

impl World {
    pub fn new() -> World {
        World::with_broker("")
    }

    /// With further lines in the configuration of Mosquitto.
    pub fn with_broker(extra: &str) -> World {
        let broker = Mosquitto::start(extra);
        let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
        World {
            redis: Redis::start(&[]),
            broker,
            receiver,
        }
    }

    /// The settings under which the binary finds them.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = service::between(self.redis.port, self.broker.port);
        settings.push(("BALENA_DEVICE_UUID", "u1".into()));
        settings
    }

    pub fn start(&self) -> Service {
        self.start_with(&[])
    }

    pub fn start_with(&self, settings: &[(&'static str, &str)]) -> Service {
        let mut all = self.settings();
        all.extend(
            settings
                .iter()
                .map(|(name, value)| (*name, (*value).to_string())),
        );
        Service::start(&all)
    }

    /// Waits until `count` different measurements have arrived.
    pub fn wait_for(&self, count: usize) {
        wait_until(&format!("{count} measurements have arrived"), || {
            self.receiver.distinct() >= count
        });
    }
}

/// Has docker-compose check a file: it holds the schema of the compose specification.
///
/// # Panics
/// With what it says against the file.
pub fn compose_accepts(file: &std::path::Path) {
    for program in [&["docker-compose"][..], &["docker", "compose"]] {
        let output = std::process::Command::new(program[0])
            .args(&program[1..])
            .arg("-f")
            .arg(file)
            .args(["config", "--quiet"])
            .output();
        let Ok(output) = output else { continue };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program:?}: {errors}");
        return;
    }
    panic!("docker-compose is missing; `make test` installs it");
}
