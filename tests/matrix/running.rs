//! A broker that runs.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::brokers::{Broker, Place, Way};
use crate::support::{holds_within, signal};

/// What the slowest of them needs to come up, generously.
const START: Duration = Duration::from_secs(90);

pub struct Running<'a> {
    pub broker: &'a Broker,
    pub place: Place,
    child: Child,
}

impl<'a> Running<'a> {
    pub fn start(broker: &'a Broker, place: Place) -> Result<Running<'a>, String> {
        (broker.prepare)(&place)?;
        let child = spawn(broker, &place)?;
        let mut running = Running {
            broker,
            place,
            child,
        };
        running.comes_up()?;
        Ok(running)
    }

    /// For everybody but the service.
    pub fn port(&self) -> u16 {
        self.place.ports[0]
    }

    /// For the service.
    pub fn service_port(&self) -> u16 {
        match self.broker.way {
            Way::First => self.place.ports[0],
            Way::Second | Way::Tls => self.place.ports[1],
        }
    }

    /// kill -9 of all its processes.
    pub fn kill(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal("KILL", self.child.id());
        }
        drop(self.child.wait());
    }

    pub fn start_again(&mut self) -> Result<(), String> {
        self.child = spawn(self.broker, &self.place)?;
        self.comes_up()
    }

    fn comes_up(&mut self) -> Result<(), String> {
        let ports = [self.port(), self.service_port()];
        let child = &mut self.child;
        let mut ended = false;
        let answers = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let up = holds_within(START, || {
            ended = child.try_wait().is_ok_and(|status| status.is_some());
            ended || ports.iter().all(|port| answers(*port))
        });
        if up && !ended {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.place.folder.join("log.txt")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        Err(format!("it does not start: {}", last.join(" | ")))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(broker: &Broker, place: &Place) -> Result<Child, String> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.folder.join("log.txt"));
    let log = log.map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    let mut command = (broker.start)(place);
    command
        .current_dir(&place.folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))
}
