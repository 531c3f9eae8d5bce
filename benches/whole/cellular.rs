//! What a line that is paid for by the byte, and one with a round trip, have to do with: lists as
//! they are, and compressed.

use std::time::{Duration, Instant};

use crate::link::Link;
use crate::support::certificates::Certificates;
use crate::support::proxy::{Behaviour, Proxy};
use crate::support::{Redis, Service};
use crate::{Row, Site, drain, settings};

type Settings = Vec<(&'static str, String)>;

const GZIP: (&str, &str) = ("COMPRESSION", "gzip");
/// How long a day is watched: three of the longest intervals.
const WATCHED: Duration = Duration::from_secs(180);
const DAY: f64 = 86_400.0;

/// A device with names of the usual length.
fn device(more: &[(&'static str, &str)]) -> Settings {
    let device = [
        ("BALENA_DEVICE_UUID", "0123456789abcdef0123456789abcdef"),
        ("BALENA_DEVICE_TYPE", "raspberrypi4-64"),
        ("BALENA_APP_ID", "1234567"),
        ("BALENA_APP_NAME", "Weather Stations"),
    ];
    let all = device.iter().chain(more);
    all.map(|(name, value)| (*name, (*value).to_string()))
        .collect()
}

/// Two values that walk at random, a second apart but for a few milliseconds.
struct Walk {
    state: u64,
    ms: u64,
    values: [i64; 2],
}

impl Walk {
    fn new(seed: u64) -> Walk {
        Walk {
            state: seed + 1,
            ms: 1_621_122_796_939,
            values: [203, 551],
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }

    /// The ID and the two values of the next measurement.
    fn step(&mut self) -> (String, [String; 2]) {
        self.ms += 995 + self.below(11);
        for n in 0..2 {
            self.values[n] += self.below(7) as i64 - 3;
        }
        let shown = self
            .values
            .map(|value| format!("{:.1}", value as f64 / 10.0));
        (format!("{}-0", self.ms), shown)
    }

    fn command(&mut self) -> redis::Cmd {
        let (id, [temperature, humidity]) = self.step();
        let mut command = redis::cmd("XADD");
        command.arg("measurement:values").arg(id);
        command.arg("temperature_celsius").arg(temperature);
        command.arg("humidity_percent").arg(humidity);
        command
    }

    fn fill(&mut self, redis: &Redis, count: u64) {
        let mut connection = redis.connection();
        for begin in (0..count).step_by(1000) {
            let mut pipe = redis::pipe();
            for _ in begin..(begin + 1000).min(count) {
                pipe.add_command(self.command()).ignore();
            }
            pipe.query::<()>(&mut connection).expect("XADD");
        }
    }
}

/// Bytes of payload that the drain before has sent.
fn sent_bytes(redis: &Redis) -> f64 {
    let text: Option<String> = redis.command(&["HGET", "mqtt_sender:status", "sent_bytes"]);
    text.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn ratio(name: &str, one: f64, other: f64) {
    println!("  {name:32} {:8.2}", one / other);
}

/// A backlog, as it is and compressed: on a fast line, and on one of 10 Mbit/s behind 100 ms.
pub fn compression(rows: u64, broker: u16) {
    let redis = Redis::start(&["--appendonly", "no"]);
    Walk::new(1).fill(&redis, rows);
    let run = |name: &str, rows: u64, port: u16, more: &[(&'static str, &str)]| -> Row {
        let row = drain(name, &redis, rows, port, &device(more));
        let bytes = sent_bytes(&redis) / rows as f64;
        println!("  {:32} {bytes:8.2}", "bytes of payload a measurement");
        row
    };
    let plain = run("drain, values at random", rows, broker, &[]);
    let packed = run("drain, the same compressed", rows, broker, &[GZIP]);
    let seconds = |row: &Row| row.service.as_secs_f64();
    ratio("compressed / plain, CPU", seconds(&packed), seconds(&plain));
    ratio(
        "compressed / plain, memory",
        packed.memory as f64,
        plain.memory as f64,
    );
    let Some(link) = Link::new("10mbit") else {
        println!("a slow line: left out, it needs root and iproute2");
        return;
    };
    let redis = Redis::start(&["--appendonly", "no"]);
    let rows = rows.min(50_000);
    Walk::new(1).fill(&redis, rows);
    let far = link.far_end().to_string();
    let mut times = Vec::new();
    for (name, more) in [
        ("plain", &[][..]),
        ("compressed", &[GZIP]),
        ("10000 a list", &[GZIP, ("BATCH_MAX_COUNT", "10000")]),
    ] {
        let proxy = Proxy::listening(link.listen(), broker);
        proxy.set(Behaviour {
            latency: Duration::from_millis(50),
            ..Behaviour::default()
        });
        let more = [more, &[("MQTT_HOST", &far)]].concat();
        let name = format!("10 Mbit/s, 100 ms, {name}");
        let row = drain(&name, &redis, rows, proxy.port, &device(&more));
        times.push(row.time.as_secs_f64());
    }
    ratio("compressed / plain, rows a second", times[0], times[1]);
    ratio("10000 a list / plain", times[0], times[2]);
}

/// One of the devices that are watched at the same time.
struct Watched {
    link: Link,
    _proxy: Proxy,
    _service: Service,
}

/// What a day of one measurement a second costs, by interval, compression and TLS: all that
/// passes the network card, in both directions, without the connection itself.
pub fn day(site: &Site, certificates: &Certificates) {
    let redis = Redis::start(&["--appendonly", "no"]);
    let intervals = ["0", "1", "60"];
    let forms = [(false, false), (false, true), (true, false), (true, true)];
    let mut watched = Vec::new();
    for interval in intervals {
        for (tls, packed) in forms {
            let database = watched.len().to_string();
            let Some(one) = watch(
                site,
                certificates,
                &redis,
                (interval, tls, packed),
                &database,
            ) else {
                println!("a day: left out, it needs root and iproute2");
                return;
            };
            watched.push(one);
        }
    }
    let mut walks: Vec<(redis::Connection, Walk)> = (0..watched.len())
        .map(|n| {
            let mut connection = redis.connection();
            redis::cmd("SELECT")
                .arg(n)
                .exec(&mut connection)
                .expect("SELECT");
            (connection, Walk::new(1))
        })
        .collect();
    let mut tick = |at: Instant| {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        for (connection, walk) in &mut walks {
            walk.command().exec(connection).expect("XADD");
        }
    };
    // The connections are made, and each has sent its first list.
    let begun = Instant::now();
    let settling = 5;
    for second in 0..settling {
        tick(begun + Duration::from_secs(second));
    }
    let before: Vec<u64> = watched.iter().map(|one| one.link.bytes()).collect();
    for second in settling..settling + WATCHED.as_secs() {
        tick(begun + Duration::from_secs(second));
    }
    std::thread::sleep(Duration::from_millis(900));
    println!(
        "\na day of one measurement a second, in MB (IP, TCP, TLS and MQTT, both directions; {} s times {:.0})",
        WATCHED.as_secs(),
        DAY / WATCHED.as_secs_f64()
    );
    println!(
        "{:34} {:>9} {:>9} {:>9} {:>9}",
        "", "TCP", "gzip", "TLS", "gzip"
    );
    let names = ["push", "interval 1 s", "interval 60 s"];
    for (name, row) in names.iter().zip(0..) {
        print!("{name:34}");
        for n in row * forms.len()..(row + 1) * forms.len() {
            let bytes = (watched[n].link.bytes() - before[n]) as f64;
            print!(" {:9.2}", bytes * DAY / WATCHED.as_secs_f64() / 1e6);
        }
        println!();
    }
}

fn watch(
    site: &Site,
    certificates: &Certificates,
    redis: &Redis,
    (interval, tls, packed): (&str, bool, bool),
    database: &str,
) -> Option<Watched> {
    let link = Link::new("100mbit")?;
    let port = if tls { site.tls } else { site.plain };
    let proxy = Proxy::listening(link.listen(), port);
    let far = link.far_end().to_string();
    let ca = certificates.path("ca.pem");
    // Two with one name would throw each other out.
    let name = format!("mqtt-handler-{database}");
    let mut more = vec![
        ("MQTT_HOST", far.as_str()),
        ("INTERVAL_SECONDS", interval),
        ("REDIS_DB", database),
        ("MQTT_CLIENT_ID", &name),
    ];
    if tls {
        // The certificate names another address, and has the same bytes.
        more.extend([
            ("MQTT_TLS_CA_CERTS", ca.as_str()),
            ("MQTT_TLS_INSECURE", "True"),
        ]);
    }
    more.extend(packed.then_some(GZIP));
    let service = Service::start(&settings(redis.port, proxy.port, &device(&more)));
    service.wait_for_log("(MQTT 5)");
    Some(Watched {
        link,
        _proxy: proxy,
        _service: service,
    })
}
