//! `make bench PEER="command …"`: the same stream drained by another program that takes the same
//! `app.conf`, in turn with this one. It is started in the folder of that file, by a shell.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::proxy::Proxy;
use crate::support::service::{command, cpu, status_field};
use crate::support::{Mosquitto, Redis, holds_within};

/// How often each of them runs.
const ROUNDS: usize = 3;
/// One that is not done by then is told so.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What a run has taken.
#[derive(Clone, Copy, Default)]
struct Cost {
    time: f64,
    cpu: f64,
    memory: f64,
    /// Both ways, on the connections to the broker.
    bytes: f64,
}

pub fn compare(line: &str, rows: u64) {
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, rows);
    let broker = Mosquitto::start("log_type none");
    let folder = tempfile::tempdir().expect("folder");
    println!("\n{rows} measurements, in turn: this program, and {line}");
    println!(
        "{:34} {:>8} {:>9} {:>8} {:>8} {:>9}",
        "", "time s", "rows/s", "CPU s", "KiB", "bytes/row"
    );
    let mut sums = [Cost::default(); 2];
    for _ in 0..ROUNDS {
        for (peer, sum) in sums.iter_mut().enumerate() {
            let proxy = Proxy::start(broker.port);
            write_configuration(folder.path(), redis.port, proxy.port);
            let (name, starts) = match peer {
                0 => ("this program", command()),
                _ => ("the peer", shell(line)),
            };
            let Some(cost) = run(starts, folder.path(), (&redis, rows), &proxy) else {
                println!("{name:34} not done after {} s", PATIENCE.as_secs());
                return;
            };
            println!(
                "{name:34} {:8.2} {:9.0} {:8.2} {:8.0} {:9.1}",
                cost.time,
                rows as f64 / cost.time,
                cost.cpu,
                cost.memory,
                cost.bytes / rows as f64
            );
            sum.time += cost.time;
            sum.cpu += cost.cpu;
            sum.memory += cost.memory;
            sum.bytes += cost.bytes;
        }
    }
    let [own, peer] = sums;
    for (name, one, other) in [
        ("time", own.time, peer.time),
        ("CPU", own.cpu, peer.cpu),
        ("memory", own.memory, peer.memory),
        ("bytes on the wire", own.bytes, peer.bytes),
    ] {
        println!("  this / the peer, {name:17} {:8.2}", one / other);
    }
}

fn shell(line: &str) -> Command {
    let mut shell = Command::new("sh");
    // The shell gives way, so that what is measured is the program.
    shell.args(["-c", &format!("exec {line}")]);
    for key in mqtt_handler::config::KEYS {
        shell.env_remove(key.variable);
    }
    shell
}

/// What both understand: the settings of the Python program.
fn write_configuration(folder: &Path, redis: u16, broker: u16) {
    let text = format!(
        "[main]\ninterval_seconds = 1\n\
         [balena]\ndevice_uuid = u1\ndevice_type = dummy\napp_id = -1\napp_name = Local Test\n\
         [redis]\nhost = 127.0.0.1\nport = {redis}\ndb = 0\n\
         [mqtt]\nhost = 127.0.0.1\nport = {broker}\nkeepalive_seconds = 60\n"
    );
    std::fs::write(folder.join("app.conf"), text).expect("app.conf");
}

/// From the start to the last confirmation.
fn run(
    mut program: Command,
    folder: &Path,
    (redis, rows): (&Redis, u64),
    proxy: &Proxy,
) -> Option<Cost> {
    redis.command::<u64>(&["DEL", "mqtt_sender:last_id", "mqtt_sender:status"]);
    let mut connection = redis.connection();
    let last = format!("({rows}-0");
    let begun = Instant::now();
    let quiet = program.stdin(Stdio::null()).stdout(Stdio::null());
    let quiet = quiet.stderr(Stdio::null()).current_dir(folder);
    let child = Running(quiet.spawn().expect("the program"));
    let done = holds_within(PATIENCE, || {
        let cursor: Option<String> = redis::cmd("GET")
            .arg("mqtt_sender:last_id")
            .query(&mut connection)
            .unwrap_or_default();
        cursor.as_deref() == Some(&last)
    });
    let pid = child.0.id();
    let cost = Cost {
        time: begun.elapsed().as_secs_f64(),
        cpu: cpu(pid).as_secs_f64(),
        memory: status_field(pid, "VmHWM:") as f64,
        bytes: proxy.passed() as f64,
    };
    done.then_some(cost)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
