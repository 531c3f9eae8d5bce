//! `make bench`: the whole service against private servers, beside the limits of the same run.
//!
//! Machines differ and are noisy: what counts are the ratios within one run. ROWS sets how many
//! measurements are drained, PART leaves all but one part out: drain, memory, way, line, gzip, day,
//! push or idle. PEER names another program to be compared with, and nothing else is done then.

mod cellular;
mod link;
mod peer;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use link::Link;
use mqtt_handler::config::Config;
use mqtt_handler::model::connection::Attempt;
use mqtt_handler::model::message::{Message, Protocol};
use mqtt_handler::mqtt::Broker;
use support::certificates::Certificates;
use support::proxy::{Behaviour, Proxy};
use support::service::{between, thread_cpu};
use support::{Mosquitto, Receiver, Redis, Service, free_port, wait_until};

struct Row {
    time: Duration,
    service: Duration,
    redis: Duration,
    memory: u64,
}

fn main() {
    let rows = std::env::var("ROWS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000u64);
    let peer = std::env::var("PEER").unwrap_or_default();
    if !peer.is_empty() {
        return peer::compare(&peer, rows);
    }
    let part = std::env::var("PART").unwrap_or_default();
    let wanted = |name: &str| part.is_empty() || part == name;
    println!("measurements of two fields, on private servers of this machine\n");
    println!(
        "{:34} {:>8} {:>9} {:>8} {:>8} {:>6} {:>8}",
        "", "time", "rows/s", "µs/row", "µs/row", "CPU", "peak"
    );
    println!(
        "{:34} {:>8} {:>9} {:>8} {:>8} {:>6} {:>8}",
        "", "s", "", "service", "redis", "ratio", "KiB"
    );
    let folder = tempfile::tempdir().expect("folder");
    let certificates = Certificates::make(folder.path());
    let site = site(&certificates);
    if wanted("drain") {
        drains(rows, &site, &certificates);
    }
    if wanted("memory") {
        pending(&site);
    }
    if wanted("way") {
        long_way(rows.min(100_000), site.plain);
    }
    if wanted("line") {
        slow_lines(site.plain);
    }
    if wanted("gzip") {
        cellular::compression(rows, site.plain);
    }
    if wanted("push") {
        push(1, 20);
        push(200, 2000);
    }
    if wanted("idle") {
        idle(Duration::from_secs(60));
    }
    if wanted("day") {
        cellular::day(&site, &certificates);
    }
}

/// How fast a backlog is drained, against what the two servers can do at most.
fn drains(rows: u64, site: &Site, certificates: &Certificates) {
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, rows);
    let limit = |name: &str, time: Duration| {
        println!(
            "{name:34} {:8.2} {:9.0}",
            time.as_secs_f64(),
            rows as f64 / time.as_secs_f64()
        );
        time
    };
    let raw = limit("limit: the bytes of the same pages", read_raw(&redis, rows));
    limit("the same with the redis library", read_values(&redis, rows));
    let publish = limit(
        "limit: publishing with Paho alone",
        publish_raw(site.plain, rows),
    );
    let plain = drain("drain, no subscriber", &redis, rows, site.plain, &[]);
    let tls = [
        ("MQTT_TLS_CA_CERTS", certificates.path("ca.pem")),
        ("MQTT_HOST", "localhost".into()),
    ];
    let over_tls = drain("drain over TLS", &redis, rows, site.tls, &tls);
    {
        let _receiver = Receiver::start(site.plain, &["iot-projekt/device/#"]);
        drain("drain, one subscriber", &redis, rows, site.plain, &[]);
    }
    let ratio = |name: &str, one: f64, other: f64| println!("  {name:32} {:8.2}", one / other);
    let seconds = |time: Duration| time.as_secs_f64();
    ratio(
        "time / the slower limit",
        seconds(plain.time),
        seconds(raw.max(publish)),
    );
    ratio(
        "TLS / plain, time",
        seconds(over_tls.time),
        seconds(plain.time),
    );
    ratio(
        "TLS / plain, CPU",
        seconds(over_tls.service),
        seconds(plain.service),
    );
    ratio(
        "TLS / plain, memory",
        over_tls.memory as f64,
        plain.memory as f64,
    );
}

/// Whether what waits costs memory.
fn pending(site: &Site) {
    let redis = Redis::start(&["--appendonly", "no"]);
    let mut filled = 0;
    for rows in [10_000, 1_000_000, 5_000_000] {
        redis.fill(filled + 1, rows - filled);
        filled = rows;
        drain(
            &format!("drain of {rows} pending"),
            &redis,
            rows,
            site.plain,
            &[],
        );
    }
}

/// A broker that is far away: one list a round trip is the most that can be.
fn long_way(rows: u64, broker: u16) {
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, rows);
    let proxy = Proxy::start(broker);
    proxy.set(Behaviour {
        latency: ROUND_TRIP / 2,
        ..Behaviour::default()
    });
    let row = drain("drain, 100 ms round trip", &redis, rows, proxy.port, &[]);
    let lists: u64 = redis
        .command::<Option<String>>(&["HGET", "mqtt_sender:status", "sent_messages"])
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    println!(
        "  {:32} {:8.2}",
        "of one list a round trip",
        ROUND_TRIP.as_secs_f64() * lists as f64 / row.time.as_secs_f64()
    );
}

struct Site {
    _broker: Mosquitto,
    plain: u16,
    tls: u16,
}

fn site(certificates: &Certificates) -> Site {
    let tls = free_port();
    let broker = Mosquitto::start(&format!(
        "log_type none\nallow_anonymous true\nlistener {tls} 127.0.0.1\nallow_anonymous true\ncertfile {}\nkeyfile {}\n",
        certificates.path("good.pem"),
        certificates.path("good.key")
    ));
    Site {
        plain: broker.port,
        tls,
        _broker: broker,
    }
}

fn settings(redis: u16, mqtt: u16, more: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let mut settings = between(redis, mqtt);
    settings.push(("BALENA_DEVICE_UUID", "u1".into()));
    settings.extend_from_slice(more);
    settings
}

/// The time from the start of the service to the last confirmation.
fn drain(name: &str, redis: &Redis, rows: u64, port: u16, more: &[(&'static str, String)]) -> Row {
    redis.command::<u64>(&["DEL", "mqtt_sender:last_id", "mqtt_sender:status"]);
    let before = thread_cpu(redis.pid());
    let begun = Instant::now();
    let mut service = Service::start(&settings(redis.port, port, more));
    let last = last(redis);
    let mut connection = redis.connection();
    wait_until("everything is confirmed", || {
        std::thread::sleep(Duration::from_millis(5));
        let cursor: Option<String> = redis::cmd("GET")
            .arg("mqtt_sender:last_id")
            .query(&mut connection)
            .unwrap_or_default();
        cursor.as_deref() == Some(&last)
    });
    let row = Row {
        time: begun.elapsed(),
        service: thread_cpu(service.pid()),
        redis: thread_cpu(redis.pid()) - before,
        memory: service.peak_memory(),
    };
    // An orderly end, for what it leaves in the status.
    let _ = service.terminate();
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
    println!(
        "{name:34} {:8.2} {:9.0} {:8.2} {:8.2} {:6.2} {:8}",
        row.time.as_secs_f64(),
        rows as f64 / row.time.as_secs_f64(),
        micros(row.service),
        micros(row.redis),
        row.service.as_secs_f64() / row.redis.as_secs_f64(),
        row.memory
    );
    row
}

/// The cursor behind the last measurement.
fn last(redis: &Redis) -> String {
    let newest = ["XREVRANGE", "measurement:values", "+", "-", "COUNT", "1"];
    let entries: Vec<(String, Vec<String>)> = redis.command(&newest);
    format!("({}", entries[0].0)
}

/// Bytes in, and nothing done with them.
fn read_raw(redis: &Redis, rows: u64) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).expect("connection");
    let mut reply = vec![0; 1 << 20];
    let begun = Instant::now();
    for after in (0..rows).step_by(480) {
        let request = format!("XRANGE measurement:values ({after}-0 + COUNT 480\r\nPING\r\n");
        stream.write_all(request.as_bytes()).expect("request");
        let mut filled = 0;
        while !reply[..filled].ends_with(b"+PONG\r\n") {
            filled += stream.read(&mut reply[filled..]).expect("reply");
        }
    }
    begun.elapsed()
}

/// As the library reads, and nothing done with the values.
fn read_values(redis: &Redis, rows: u64) -> Duration {
    let mut connection = redis.connection();
    let begun = Instant::now();
    for after in (0..rows).step_by(480) {
        let mut command = redis::cmd("XRANGE");
        command
            .arg("measurement:values")
            .arg(format!("({after}-0"))
            .arg("+")
            .arg("COUNT")
            .arg(480);
        let _: redis::Value = command.query(&mut connection).expect("XRANGE");
    }
    begun.elapsed()
}

fn publish_raw(port: u16, rows: u64) -> Duration {
    let variables = |name: &str| match name {
        "MQTT_HOST" => Some("127.0.0.1".to_string()),
        "MQTT_PORT" => Some(port.to_string()),
        _ => None,
    };
    let config = Config::parse("", "", variables).unwrap_or_else(|faults| panic!("{faults:?}"));
    let attempt = Attempt {
        protocol: Protocol::V5,
        will: false,
        keep_alive: config.mqtt.keep_alive,
        patience: Duration::from_secs(30),
    };
    let connection = Broker::new(&config.mqtt, None, 0)
        .connect(&attempt, |_| {}, || false)
        .expect("connection");
    let begun = Instant::now();
    for _ in 0..rows.div_ceil(480) {
        let message = Message::list("t", vec![b'x'; 65_000]);
        connection
            .publish(message, Duration::from_secs(30), || false)
            .expect("confirmed");
    }
    let time = begun.elapsed();
    connection.close();
    time
}

/// A slow line, without and with a long way behind it, by the size of a list.
fn slow_lines(broker: u16) {
    const ROWS: u64 = 20_000;
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, ROWS);
    for megabits in [1, 10] {
        let Some(link) = Link::new(&format!("{megabits}mbit")) else {
            println!("slow lines: left out, they need root and iproute2");
            return;
        };
        for (round_trip, kib) in [(0, 64), (100, 64), (100, 256)] {
            let proxy = Proxy::listening(link.listen(), broker);
            proxy.set(Behaviour {
                latency: Duration::from_millis(round_trip / 2),
                ..Behaviour::default()
            });
            proxy.record();
            let more = [
                ("MQTT_HOST", link.far_end().to_string()),
                ("BATCH_MAX_BYTES", (kib << 10).to_string()),
                ("BATCH_MAX_COUNT", "10000".into()),
            ];
            let name = format!("{megabits} Mbit/s, {round_trip} ms, {kib} KiB a list");
            let row = drain(&name, &redis, ROWS, proxy.port, &more);
            let bits = proxy.recorded().len() as f64 * 8.0;
            let capacity = f64::from(megabits) * 1e6 * row.time.as_secs_f64();
            println!("  {:32} {:8.2}", "of the line", bits / capacity);
        }
    }
}

/// From XADD to the subscriber, in push mode.
fn push(per_second: u64, count: u64) {
    let (redis, broker) = (Redis::start(&[]), Mosquitto::start("log_type none"));
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    let service = Service::start(&settings(
        redis.port,
        broker.port,
        &[("INTERVAL_SECONDS", "0".into())],
    ));
    service.wait_for_log("connected to 127");
    let mut connection = redis.connection();
    let mut sent = Vec::new();
    let begun = Instant::now();
    for n in 1..=count {
        let at = begun + Duration::from_secs_f64(n as f64 / per_second as f64);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        sent.push(Instant::now());
        let _: String = redis::cmd("XADD")
            .arg(&["measurement:values", &format!("{n}-0"), "n", "1"])
            .query(&mut connection)
            .expect("XADD");
    }
    wait_until("all have arrived", || receiver.distinct() as u64 == count);
    let mut latencies: Vec<Duration> = Vec::new();
    for list in receiver.lists() {
        for (ms, _) in support::receiver::ids_of(&list.payload) {
            latencies.push(list.at.saturating_duration_since(sent[ms as usize - 1]));
        }
    }
    latencies.sort();
    let at =
        |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "push, {per_second:3} a second: XADD to subscriber, p50 {:.2} ms, p99 {:.2} ms",
        at(0.5),
        at(0.99)
    );
}

/// One measurement a second at interval 1.
fn idle(time: Duration) {
    let (redis, broker) = (Redis::start(&[]), Mosquitto::start("log_type none"));
    let service = Service::start(&settings(redis.port, broker.port, &[]));
    service.wait_for_log("connected to 127");
    let commands = || -> u64 {
        let stats: String = redis.command(&["INFO", "stats"]);
        stats
            .lines()
            .find_map(|line| line.strip_prefix("total_reads_processed:"))
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    };
    let mut connection = redis.connection();
    let (begun, used, asked) = (Instant::now(), thread_cpu(service.pid()), commands());
    // The second look at the counters is a connection of its own: greeting, question.
    let mut own = 2;
    while begun.elapsed() < time {
        let _: String = redis::cmd("XADD")
            .arg(&["measurement:values", "*", "n", "1"])
            .query(&mut connection)
            .expect("XADD");
        own += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let trips = (commands() - asked).saturating_sub(own) as f64 / seconds;
    println!(
        "idle at interval 1, one measurement a second: {:.2} ms CPU a second, at most {trips:.1} round trips to Redis a second",
        (thread_cpu(service.pid()) - used).as_secs_f64() * 1e3 / seconds
    );
}
