//! The real binary as a child process, with its log.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Redis, holds_within, signal, wait_until};

/// The binary of this machine, or what the variable `SERVICE` starts in its place: a program
/// and its arguments, separated by spaces.
pub fn command() -> Command {
    program(&std::env::var("SERVICE").unwrap_or(env!("CARGO_BIN_EXE_mqtt-handler").into()))
}

/// A program and its arguments, separated by spaces.
pub fn program(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    // Every variable that the binary knows, so that none leaks in from outside.
    for key in mqtt_handler::config::KEYS {
        command.env_remove(key.variable);
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// The variables that point to servers on these ports of this machine.
pub fn between(redis: u16, broker: u16) -> Vec<(&'static str, String)> {
    vec![
        ("REDIS_HOST", "127.0.0.1".into()),
        ("REDIS_PORT", redis.to_string()),
        ("MQTT_HOST", "127.0.0.1".into()),
        ("MQTT_PORT", broker.to_string()),
    ]
}

pub struct Service {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    broker_is_honest: bool,
    _folder: TempDir,
}

impl Service {
    /// Starts between a Redis and a broker on these ports of this machine, with further
    /// variables, which win.
    pub fn between(redis: u16, broker: u16, more: &[(&'static str, String)]) -> Service {
        let mut variables = between(redis, broker);
        variables.extend_from_slice(more);
        Service::start(&variables)
    }

    /// The same for the device `u1`, every 0.1 s.
    pub fn of_device(redis: &Redis, broker: u16, more: &[(&'static str, &str)]) -> Service {
        let mut variables = vec![
            ("BALENA_DEVICE_UUID", "u1".to_string()),
            ("INTERVAL_SECONDS", "0.1".into()),
        ];
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).into())));
        Service::between(redis.port, broker, &variables)
    }

    /// Starts with an empty file and these variables.
    pub fn start(variables: &[(&'static str, String)]) -> Service {
        Service::start_with_file("", variables)
    }

    pub fn start_with_file(text: &str, variables: &[(&'static str, String)]) -> Service {
        Service::launch(command(), text, variables)
    }

    /// Starts another program in the place of the service.
    pub fn start_program(line: &str, variables: &[(&'static str, String)]) -> Service {
        Service::launch(program(line), "", variables)
    }

    fn launch(mut command: Command, text: &str, variables: &[(&'static str, String)]) -> Service {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("app.conf"), text).expect("app.conf");
        for (name, value) in variables {
            command.env(name, value);
        }
        let mut child = command
            .current_dir(folder.path())
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, to) = (
            BufReader::new(child.stderr.take().expect("stderr")).lines(),
            log.clone(),
        );
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if std::env::var_os("SHOW_LOG").is_some() {
                    eprintln!("| {line}");
                }
                to.lock().expect("log").push(line);
            }
        });
        Service {
            child,
            log,
            broker_is_honest: true,
            _folder: folder,
        }
    }

    /// The broker of this test sends what it must not. No other test may see the gate at work.
    pub fn at_a_hostile_broker(mut self) -> Service {
        self.broker_is_honest = false;
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("log").clone()
    }

    /// Lines of the log that hold `text`.
    pub fn count_log(&self, text: &str) -> usize {
        self.log
            .lock()
            .expect("log")
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }

    pub fn wait_for_log(&self, text: &str) {
        if !holds_within(super::PATIENCE, || self.count_log(text) > 0) {
            panic!("the log does not say {text:?}:\n{}", self.log().join("\n"));
        }
    }

    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// SIGTERM, and how long the end took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        signal("TERM", self.pid());
        (self.wait_for_end(), begun.elapsed())
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        wait_until("the service has ended", || {
            self.child.try_wait().is_ok_and(|status| status.is_some())
        });
        self.child.wait().expect("status")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// CPU time of the process so far.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid())
    }

    /// Peak memory in KiB.
    pub fn peak_memory(&self) -> u64 {
        status_field(self.pid(), "VmHWM:")
    }

    pub fn threads(&self) -> u64 {
        status_field(self.pid(), "Threads:")
    }

    pub fn descriptors(&self) -> usize {
        descriptors(self.pid())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(60);
            eprintln!(
                "--- the log of the service ends with\n{}",
                log[tail..].join("\n")
            );
        } else if self.broker_is_honest {
            assert_eq!(
                self.count_log("the broker sent what it must not"),
                0,
                "{:#?}",
                self.log()
            );
        }
    }
}

/// CPU time of a process: user and system, in ticks of 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// CPU time of the threads that a process has now, to the nanosecond.
pub fn thread_cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let nanos = tasks
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}

/// Whether memory says anything: AddressSanitizer keeps for a while what was freed.
pub fn memory_counts() -> bool {
    std::env::var_os("ASAN_OPTIONS").is_none()
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A number from the status of a process, such as its threads or its memory in KiB.
pub fn status_field(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
