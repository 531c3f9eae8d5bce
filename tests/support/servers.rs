//! A real Redis and a real Mosquitto, started and stopped by the test that uses them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{free_port, holds_within, signal, wait_until};

/// Where Debian puts servers that are not for users.
fn program(name: &str) -> PathBuf {
    let sbin = Path::new("/usr/sbin").join(name);
    if sbin.exists() {
        sbin
    } else {
        PathBuf::from(name)
    }
}

/// Where Debian puts the plugins of Mosquitto: below the folder of the architecture.
pub fn plugin(name: &str) -> PathBuf {
    let folders = fs::read_dir("/usr/lib")
        .expect("/usr/lib")
        .map_while(Result::ok);
    let mut plugins = folders.map(|folder| folder.path().join(name));
    plugins
        .find(|plugin| plugin.exists())
        .unwrap_or_else(|| panic!("{name} is missing; it comes with mosquitto"))
}

fn run(command: &mut Command, log: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("log file");
    let errors = log.try_clone().expect("log file");
    command
        // Ctrl-C at the terminal is for the one who started the servers.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{command:?}: {error}; `make test` installs what is missing")
        })
}

fn end(child: &mut Child) {
    // A stopped process does not see SIGKILL's siblings, but it sees SIGKILL.
    drop(child.kill());
    drop(child.wait());
}

/// Asks a child to end and waits for it.
fn terminate(child: &mut Child) {
    signal("TERM", child.id());
    wait_until("a server has ended", || {
        child.try_wait().is_ok_and(|status| status.is_some())
    });
}

pub struct Redis {
    pub port: u16,
    pub folder: TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    child: Child,
}

/// Another server or version, such as one of Redis 6.2 or Valkey, is named by `REDIS_SERVER`.
fn redis_server() -> PathBuf {
    std::env::var_os("REDIS_SERVER").map_or("redis-server".into(), PathBuf::from)
}

impl Redis {
    /// Append-only, as on a device. `arguments` come last and win.
    pub fn start(arguments: &[&str]) -> Redis {
        Redis::start_program(&redis_server(), arguments)
    }

    /// The same with this server.
    pub fn start_program(program: &Path, arguments: &[&str]) -> Redis {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        for _ in 0..10 {
            let mut redis = Redis::at(free_port(), program, arguments.clone());
            if redis.comes_up() {
                return redis;
            }
            // Somebody else was faster with the port.
        }
        panic!("Redis does not start");
    }

    fn at(port: u16, program: &Path, arguments: Vec<String>) -> Redis {
        let folder = tempfile::tempdir().expect("folder");
        let child = Redis::spawn(port, folder.path(), program, &arguments);
        Redis {
            port,
            folder,
            program: program.to_path_buf(),
            arguments,
            child,
        }
    }

    /// The place of a Redis that is not started yet.
    pub fn reserved(port: u16) -> Redis {
        let mut redis = Redis::at(port, &redis_server(), Vec::new());
        assert!(redis.comes_up(), "Redis on the reserved port");
        redis
    }

    /// Asks for a password; only `authenticated` connections can do anything.
    pub fn start_with_password(password: &str) -> Redis {
        let redis = Redis::start(&[]);
        redis.command::<()>(&["CONFIG", "SET", "requirepass", password]);
        redis
    }

    pub fn authenticated(&self, password: &str) -> redis::Connection {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("client");
        let mut connection = client.get_connection().expect("connection");
        redis::cmd("AUTH")
            .arg(password)
            .query::<()>(&mut connection)
            .expect("AUTH");
        connection
    }

    fn spawn(port: u16, folder: &Path, program: &Path, arguments: &[String]) -> Child {
        let mut command = Command::new(program);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(folder)
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
                "--daemonize",
                "no",
            ])
            .args(arguments);
        run(&mut command, &folder.join("redis.log"))
    }

    fn comes_up(&mut self) -> bool {
        let (port, child) = (self.port, &mut self.child);
        let mut up = false;
        holds_within(Duration::from_secs(60), || {
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            up = !ended && answers(port);
            up || ended
        });
        up
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connection(&self) -> redis::Connection {
        connect(self.port).expect("a connection to Redis")
    }

    /// Runs a command and gives its answer.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query(&mut self.connection())
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub fn set(&self, key: &str, value: &str) {
        self.command::<()>(&["SET", key, value]);
    }

    pub fn get(&self, key: &str) -> Option<String> {
        self.command(&["GET", key])
    }

    pub fn cursor(&self) -> Option<String> {
        self.get("mqtt_sender:last_id")
    }

    /// Waits until the service has saved this cursor.
    pub fn wait_for_cursor(&self, cursor: &str) {
        wait_until(&format!("the cursor is {cursor}"), || {
            self.cursor().as_deref() == Some(cursor)
        });
    }

    /// Appends `count` measurements with the IDs `<first>-0`, `<first + 1>-0` …
    pub fn fill(&self, first: u64, count: u64) {
        let mut connection = self.connection();
        for start in (first..first + count).step_by(1000) {
            let mut pipe = redis::pipe();
            for id in start..(start + 1000).min(first + count) {
                pipe.cmd("XADD")
                    .arg("measurement:values")
                    .arg(format!("{id}-0"))
                    .arg("n")
                    .arg(id)
                    .arg("temperature_celsius")
                    .arg("20.3")
                    .ignore();
            }
            pipe.query::<()>(&mut connection).expect("XADD");
        }
    }

    pub fn freeze(&self) {
        signal("STOP", self.pid());
    }

    pub fn thaw(&self) {
        signal("CONT", self.pid());
    }

    pub fn stop(&mut self) {
        terminate(&mut self.child);
    }

    /// Starts again so that loading takes about `time`, and waits until it is done.
    pub fn start_loading(&mut self, time: Duration) {
        let commands = fs::read_dir(self.folder.path().join("appendonlydir")).map_or(0, |files| {
            files
                .map_while(Result::ok)
                .filter_map(|file| file.metadata().ok())
                .map(|meta| meta.len())
                .sum::<u64>()
                / 100
        });
        // The shortest sleep takes some 60 µs. A negative number: one of so many keys sleeps.
        const SHORTEST: u64 = 60;
        let each = time.as_micros() as u64 / commands.max(1);
        let delay = match each {
            0..SHORTEST => -((SHORTEST / each.max(1)) as i64),
            each => each as i64,
        }
        .to_string();
        let mut arguments = self.arguments.clone();
        arguments.extend([
            "--key-load-delay".into(),
            delay,
            "--loading-process-events-interval-bytes".into(),
            "1024".into(),
        ]);
        self.child = Redis::spawn(self.port, self.folder.path(), &self.program, &arguments);
        assert!(self.comes_up(), "Redis after loading");
    }

    pub fn start_again(&mut self) {
        self.child = Redis::spawn(
            self.port,
            self.folder.path(),
            &self.program,
            &self.arguments,
        );
        assert!(self.comes_up(), "Redis again");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn connect(port: u16) -> Option<redis::Connection> {
    let client = redis::Client::open(("127.0.0.1", port)).ok()?;
    client
        .get_connection_with_timeout(Duration::from_secs(5))
        .ok()
}

fn answers(port: u16) -> bool {
    connect(port)
        .is_some_and(|mut connection| redis::cmd("PING").query::<String>(&mut connection).is_ok())
}

pub struct Mosquitto {
    pub port: u16,
    pub folder: TempDir,
    child: Child,
}

impl Mosquitto {
    /// Keeps sessions over a restart and never drops a message for a slow receiver.
    /// `extra` may hold `{folder}`, and replaces `allow_anonymous` and `listener` if it sets
    /// them.
    pub fn start(extra: &str) -> Mosquitto {
        Mosquitto::start_in(tempfile::tempdir().expect("folder"), extra)
    }

    /// In a folder that already holds what `extra` names.
    pub fn start_in(folder: TempDir, extra: &str) -> Mosquitto {
        for _ in 0..10 {
            let port = free_port();
            write_config(folder.path(), port, extra);
            let mut child = Mosquitto::spawn(folder.path());
            if comes_up(&mut child, port) {
                return Mosquitto {
                    port,
                    folder,
                    child,
                };
            }
            end(&mut child);
        }
        let log = fs::read_to_string(folder.path().join("mosquitto.log"));
        panic!("Mosquitto does not start: {log:?}");
    }

    /// On a port that was chosen before.
    pub fn start_on(port: u16) -> Mosquitto {
        let folder = tempfile::tempdir().expect("folder");
        write_config(folder.path(), port, "");
        let mut child = Mosquitto::spawn(folder.path());
        assert!(comes_up(&mut child, port), "Mosquitto on the reserved port");
        Mosquitto {
            port,
            folder,
            child,
        }
    }

    fn spawn(folder: &Path) -> Child {
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(folder.join("mosquitto.conf"));
        run(&mut command, &folder.join("mosquitto.log"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn freeze(&self) {
        signal("STOP", self.pid());
    }

    pub fn thaw(&self) {
        signal("CONT", self.pid());
    }

    pub fn stop(&mut self) {
        terminate(&mut self.child);
    }

    /// Writes a new configuration; it counts from the next start.
    pub fn configure(&self, extra: &str) {
        write_config(self.folder.path(), self.port, extra);
    }

    pub fn start_again(&mut self) {
        self.child = Mosquitto::spawn(self.folder.path());
        assert!(comes_up(&mut self.child, self.port), "Mosquitto again");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        end(&mut self.child);
        if std::thread::panicking() {
            let log =
                fs::read_to_string(self.folder.path().join("mosquitto.log")).unwrap_or_default();
            let lines: Vec<&str> = log
                .lines()
                .filter(|line| !line.contains(" PUB") || line.contains("rc1"))
                .collect();
            eprintln!(
                "--- the log of Mosquitto ends with\n{}",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
    }
}

fn write_config(folder: &Path, port: u16, extra: &str) {
    let extra = extra.replace("{folder}", &folder.display().to_string());
    let anonymous = if extra.contains("allow_anonymous") {
        ""
    } else {
        "allow_anonymous true\n"
    };
    let text = format!(
        "listener {port} 127.0.0.1\n{anonymous}persistence true\npersistence_location {}/\n\
         max_queued_messages 10000000\nlog_type all\nuser root\n{extra}\n",
        folder.display()
    );
    fs::write(folder.join("mosquitto.conf"), text).expect("mosquitto.conf");
}

fn comes_up(child: &mut Child, port: u16) -> bool {
    let mut up = false;
    holds_within(Duration::from_secs(30), || {
        let ended = child.try_wait().is_ok_and(|status| status.is_some());
        up = !ended && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        up || ended
    });
    up
}
