//! A seeded schedule of faults against the real binary, with a proxy between it and both
//! servers, and the ledger that is drawn up at the end.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mqtt_handler::model::stream_id::StreamId;

use super::proxy::{Behaviour, Proxy};
use super::receiver::first_arrivals;
use super::{Mosquitto, Receiver, Redis, Service, holds_within, wait_until};

/// Measurements in one list, at most.
const LIST: u64 = 200;
const PER_SECOND: u64 = 200;

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

const FAULTS: [&str; 17] = [
    "service killed",
    "service terminated",
    "broker restarted",
    "broker frozen",
    "broker frozen, service killed",
    "connection cut",
    "black hole, both ways",
    "black hole, to the broker",
    "black hole, from the broker",
    "connections refused",
    "latency",
    "trickle",
    "Redis restarted",
    "Redis frozen",
    "Redis loading",
    "Redis clients killed",
    "enabled toggled",
];
/// Done by the schedule as well, but counted apart: it repeats measurements on purpose.
const REWIND: &str = "cursor rewound";

/// What a run has shown.
#[derive(Default)]
pub struct Ledger {
    pub seed: u64,
    pub time: Duration,
    pub faults: BTreeMap<&'static str, u64>,
    pub produced: u64,
    pub received: u64,
    pub lost: u64,
    /// The cursor has reached the end of the stream.
    pub confirmed: bool,
    /// Stalls of the receiver's own connection.
    pub stalls: u64,
    /// What the service itself says was removed by others: nobody did.
    pub told_lost: u64,
    pub out_of_order: u64,
    pub repeated: u64,
    pub repeats_allowed: u64,
    pub reconnects: u64,
    pub log_lines: u64,
    pub peak_memory: u64,
    /// Descriptors and threads of the last process, after its start and at the end.
    pub descriptors: (usize, usize),
    pub threads: (u64, u64),
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {:.0} min",
            self.seed,
            self.time.as_secs_f64() / 60.0
        )?;
        for (fault, count) in &self.faults {
            writeln!(f, "{fault:32} {count:9}")?;
        }
        for (name, value) in [
            ("faults", self.faults.values().sum()),
            ("produced", self.produced),
            ("received", self.received),
            ("lost", self.lost),
            ("told as lost", self.told_lost),
            ("out of order", self.out_of_order),
            ("repeated", self.repeated),
            ("repeats allowed", self.repeats_allowed),
            ("stalls of the receiver", self.stalls),
            ("reconnects to the broker", self.reconnects),
            ("log lines", self.log_lines),
            ("peak memory, KiB", self.peak_memory),
        ] {
            writeln!(f, "{name:32} {value:9}")?;
        }
        writeln!(
            f,
            "{:32} {:>4} {:>4}",
            "descriptors, begin and end", self.descriptors.0, self.descriptors.1
        )?;
        write!(
            f,
            "{:32} {:>4} {:>4}",
            "threads, begin and end", self.threads.0, self.threads.1
        )
    }
}

impl Ledger {
    /// What must hold after any schedule.
    pub fn check(&self) {
        assert!(self.confirmed, "not all confirmed\n{self}");
        assert_eq!(self.lost, 0, "lost\n{self}");
        assert_eq!(self.told_lost, 0, "told as lost\n{self}");
        assert_eq!(self.out_of_order, 0, "out of order\n{self}");
        assert!(self.repeated <= self.repeats_allowed, "repeated\n{self}");
        assert!(
            self.log_lines as f64 <= 5.0 * self.time.as_secs_f64() + 100.0,
            "log lines\n{self}"
        );
        assert!(
            self.descriptors.1 <= self.descriptors.0 + 4,
            "descriptors\n{self}"
        );
        assert!(self.threads.1 <= self.threads.0 + 1, "threads\n{self}");
    }
}

struct Rig {
    redis: Redis,
    broker: Mosquitto,
    redis_proxy: Proxy,
    mqtt_proxy: Proxy,
    receiver: Receiver,
    service: Service,
    random: Random,
    ledger: Ledger,
}

/// Runs a schedule for `time`, with a backlog and a producer, and draws up the ledger.
pub fn run(seed: u64, time: Duration, backlog: u64) -> Ledger {
    let begun = Instant::now();
    let redis = Redis::start(&[]);
    let broker = Mosquitto::start("max_inflight_messages 1");
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    let (redis_proxy, mqtt_proxy) = (Proxy::start(redis.port), Proxy::start(broker.port));
    redis.fill(1, backlog);
    let service = start(&redis_proxy, &mqtt_proxy);
    let producer = Producer::start(redis.port);
    let mut rig = Rig {
        redis,
        broker,
        redis_proxy,
        mqtt_proxy,
        receiver,
        service,
        random: Random(seed),
        ledger: Ledger {
            seed,
            ..Ledger::default()
        },
    };
    while begun.elapsed() < time {
        rig.pause();
        rig.fault();
        rig.receiver.forget_payloads();
    }
    producer.stop();
    rig.settle(begun)
}

fn start(redis: &Proxy, mqtt: &Proxy) -> Service {
    Service::between(
        redis.port,
        mqtt.port,
        &[
            ("BALENA_DEVICE_UUID", "u1".into()),
            ("INTERVAL_SECONDS", "0.2".into()),
            ("BATCH_MAX_COUNT", LIST.to_string()),
            ("MQTT_ACK_TIMEOUT_SECONDS", "3".into()),
            ("MQTT_KEEPALIVE_SECONDS", "5".into()),
        ],
    )
}

impl Rig {
    /// Mostly short, so that faults overlap with recoveries; at times long enough for calm.
    fn pause(&mut self) {
        let pause = match self.random.below(6) {
            0 => self.random.millis(8000, 15_000),
            _ => self.random.millis(200, 3000),
        };
        std::thread::sleep(pause);
    }

    fn fault(&mut self) {
        let rewind = self.random.below(25) == 0;
        let name = if rewind {
            REWIND
        } else {
            FAULTS[self.random.below(FAULTS.len() as u64) as usize]
        };
        *self.ledger.faults.entry(name).or_default() += 1;
        // Each fault may repeat one list, and the broker one more to the receiver.
        self.ledger.repeats_allowed += 2 * LIST;
        let time = self.random.millis(300, 5000);
        let hole = |up, down| {
            self.mqtt_proxy.set(Behaviour {
                swallow_up: up,
                swallow_down: down,
                ..Behaviour::default()
            });
            std::thread::sleep(time);
            self.mqtt_proxy.heal();
            // What was swallowed leaves a gap in the stream of bytes: no network heals that.
            self.mqtt_proxy.cut();
        };
        match name {
            "service killed" => self.restart(false),
            "service terminated" => self.restart(true),
            "broker restarted" => {
                self.broker.stop();
                std::thread::sleep(time / 3);
                self.broker.start_again();
            }
            "broker frozen" => {
                self.broker.freeze();
                std::thread::sleep(time);
                self.broker.thaw();
            }
            "broker frozen, service killed" => {
                self.broker.freeze();
                std::thread::sleep(time / 3);
                self.restart(false);
                self.broker.thaw();
            }
            "connection cut" => self.mqtt_proxy.cut(),
            "black hole, both ways" => hole(true, true),
            "black hole, to the broker" => hole(true, false),
            "black hole, from the broker" => hole(false, true),
            "connections refused" => {
                self.mqtt_proxy.set(Behaviour {
                    refuse: true,
                    ..Behaviour::default()
                });
                self.mqtt_proxy.cut();
                std::thread::sleep(time);
                self.mqtt_proxy.heal();
            }
            "latency" => self.slowly(
                Behaviour {
                    latency: Duration::from_millis(150),
                    ..Behaviour::default()
                },
                time,
            ),
            "trickle" => self.slowly(
                Behaviour {
                    rate: 10_000,
                    ..Behaviour::default()
                },
                time,
            ),
            "Redis restarted" => {
                self.redis.stop();
                std::thread::sleep(time / 3);
                self.redis.start_again();
            }
            "Redis frozen" => {
                self.redis.freeze();
                std::thread::sleep(time * 2);
                self.redis.thaw();
            }
            "Redis loading" => {
                self.redis.stop();
                self.redis.start_loading(time / 2);
            }
            "Redis clients killed" => {
                let _: u64 = self
                    .redis
                    .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }
            "enabled toggled" => {
                self.redis.set("mqtt_sender:enabled", "0");
                std::thread::sleep(time);
                self.redis.set("mqtt_sender:enabled", "1");
            }
            _ => self.rewind(),
        }
    }

    fn slowly(&mut self, behaviour: Behaviour, time: Duration) {
        self.mqtt_proxy.set(behaviour);
        std::thread::sleep(time);
        self.mqtt_proxy.heal();
    }

    fn rewind(&mut self) {
        // Back from where the cursor is, and never ahead: after an outage more waits than is
        // rewound here, and what a cursor is set over is not sent.
        let cursor = self.redis.cursor().unwrap_or_default();
        let from = cursor.trim_start_matches('(');
        if from.parse::<StreamId>().is_err() {
            return;
        }
        let entries: Vec<(String, Vec<String>)> =
            self.redis
                .command(&["XREVRANGE", "measurement:values", from, "-", "COUNT", "500"]);
        if let Some((id, _)) = entries.last() {
            self.redis.set("mqtt_sender:last_id", id);
            // And what was sent while this was done.
            self.ledger.repeats_allowed += 500 + 10 * PER_SECOND;
        }
    }

    fn restart(&mut self, gently: bool) {
        self.note_process();
        if gently {
            let (status, _) = self.service.terminate();
            assert!(status.success(), "{status}");
        } else {
            self.service.kill();
        }
        self.service = start(&self.redis_proxy, &self.mqtt_proxy);
        self.note_begin();
    }

    fn note_begin(&mut self) {
        holds_within(Duration::from_secs(2), || {
            self.service.count_log("connected to 127") > 0
        });
        self.ledger.descriptors.0 = self.service.descriptors();
        self.ledger.threads.0 = self.service.threads();
    }

    /// Takes down what the present process has to say, and whether it is well.
    fn note_process(&mut self) {
        assert!(
            self.service.is_running(),
            "the service has died:\n{}",
            self.service.log().join("\n")
        );
        self.ledger.peak_memory = self.ledger.peak_memory.max(self.service.peak_memory());
        self.ledger.log_lines += self.service.log().len() as u64;
        self.ledger.reconnects += self.service.count_log("disconnected from") as u64;
    }

    /// Lets everything recover and compares what was produced with what was received.
    fn settle(mut self, begun: Instant) -> Ledger {
        self.redis.set("mqtt_sender:enabled", "1");
        let produced: Vec<(u64, u64)> = self.stream();
        let last = produced
            .last()
            .map(|(ms, seq)| format!("({ms}-{seq}"))
            .expect("a stream");
        self.ledger.confirmed = holds_within(Duration::from_secs(240), || {
            self.redis.cursor().as_deref() == Some(&last)
        });
        let arrived = |receiver: &Receiver| receiver.distinct() >= produced.len();
        if !holds_within(Duration::from_secs(20), || arrived(&self.receiver)) {
            // What the broker has confirmed is the broker's: it may still hold it for a receiver
            // whose connection has stalled. What was never published does not come this way.
            self.ledger.stalls += 1;
            self.receiver.resume();
            holds_within(Duration::from_secs(60), || arrived(&self.receiver));
        }
        if self.ledger.descriptors.0 == 0 {
            (self.ledger.descriptors.0, self.ledger.threads.0) =
                (self.service.descriptors(), self.service.threads());
        }
        self.note_process();
        self.ledger.descriptors.1 = self.service.descriptors();
        self.ledger.threads.1 = self.service.threads();
        let told: Option<String> = self.redis.command(&["HGET", "mqtt_sender:status", "lost"]);
        self.ledger.told_lost = told.and_then(|text| text.parse().ok()).unwrap_or(0);
        let ids = self.receiver.ids();
        let arrived: HashSet<(u64, u64)> = ids.iter().copied().collect();
        let first = first_arrivals(&ids);
        self.ledger.time = begun.elapsed();
        self.ledger.produced = produced.len() as u64;
        self.ledger.received = arrived.len() as u64;
        let missing: Vec<(u64, u64)> = produced
            .iter()
            .filter(|id| !arrived.contains(id))
            .copied()
            .collect();
        self.ledger.lost = missing.len() as u64;
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let end = produced.last();
            eprintln!("missing: {first:?} to {last:?}; the stream ends at {end:?}");
        }
        self.ledger.out_of_order =
            first.windows(2).filter(|pair| pair[1] <= pair[0]).count() as u64;
        self.ledger.repeated = (ids.len() - arrived.len()) as u64;
        if !self.ledger.confirmed {
            let log = self.service.log();
            eprintln!(
                "not settled; the log ends with\n{}",
                log[log.len().saturating_sub(40)..].join("\n")
            );
        }
        self.ledger
    }

    fn stream(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        loop {
            let from = all
                .last()
                .map_or("-".to_string(), |(ms, seq)| format!("({ms}-{seq}"));
            let page: Vec<(String, Vec<String>)> =
                self.redis
                    .command(&["XRANGE", "measurement:values", &from, "+", "COUNT", "10000"]);
            if page.is_empty() {
                return all;
            }
            all.extend(page.iter().map(|(id, _)| {
                let (ms, seq) = id.split_once('-').expect("an ID");
                (
                    ms.parse::<u64>().expect("ms"),
                    seq.parse::<u64>().expect("seq"),
                )
            }));
        }
    }
}

/// Appends measurements at a steady rate, whatever happens to Redis.
struct Producer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Producer {
    fn start(port: u16) -> Producer {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (stop.clone(), acknowledged.clone());
        let thread = std::thread::spawn(move || {
            let client = redis::Client::open(("127.0.0.1", port)).expect("client");
            let mut connection = None;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1000 / PER_SECOND));
                if connection.is_none() {
                    connection = client
                        .get_connection_with_timeout(Duration::from_secs(1))
                        .ok();
                }
                let Some(open) = &mut connection else {
                    continue;
                };
                drop(open.set_read_timeout(Some(Duration::from_secs(20))));
                let mut command = redis::cmd("XADD");
                command
                    .arg("measurement:values")
                    .arg("*")
                    .arg("n")
                    .arg(count.load(Ordering::Relaxed));
                match command.query::<String>(open) {
                    Ok(_) => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => connection = None,
                }
            }
        });
        Producer {
            stop,
            acknowledged,
            thread,
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the producer");
        wait_until("something was produced", || {
            self.acknowledged.load(Ordering::Relaxed) > 0
        });
    }
}
