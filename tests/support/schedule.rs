//! A seeded schedule of faults against the real binary, with a proxy between it and both
//! servers, and the ledger that is drawn up at the end.

mod fault;
mod ledger;
mod series;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mqtt_handler::model::stream_id::StreamId;

use fault::{FAULTS, Fault};
use ledger::Ledger;
use series::Series;

use super::proxy::{Behaviour, Proxy};
use super::random::Random;
use super::receiver::first_arrivals;
use super::stream::{dead_letters, ids};
use super::{Mosquitto, Receiver, Redis, Service, holds_within, wait_until};

/// Measurements in one list, at most.
const LIST: u64 = 200;
const PER_SECOND: u64 = 200;

fn whole_millis(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + random.below(to - from))
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
    series: Option<Series>,
}

/// Runs a schedule for `time`, with a backlog and a producer, and draws up the ledger. With the
/// variable `SERIES` it writes into the file of that name what a picture of it needs.
pub fn run(seed: u64, time: Duration, backlog: u64) -> Ledger {
    let series = std::env::var_os("SERIES");
    run_into(series.as_deref().map(Path::new), seed, time, backlog)
}

/// The same, with the file for the picture.
pub fn run_into(series: Option<&Path>, seed: u64, time: Duration, backlog: u64) -> Ledger {
    let begun = Instant::now();
    let redis = Redis::start(&[]);
    let broker = Mosquitto::start("max_inflight_messages 1");
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    let (redis_proxy, mqtt_proxy) = (Proxy::start(redis.port), Proxy::start(broker.port));
    redis.fill(1, backlog);
    let service = start(&redis_proxy, &mqtt_proxy);
    let producer = Producer::start(redis.port);
    let series = series.map(|path| {
        let file = std::fs::File::create(path).expect("the file of SERIES");
        Series::start(file, redis.port, receiver.counter())
    });
    let mut rig = Rig {
        redis,
        broker,
        redis_proxy,
        mqtt_proxy,
        receiver,
        service,
        random: Random::new(seed),
        ledger: Ledger {
            seed,
            ..Ledger::default()
        },
        series,
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
            0 => whole_millis(&mut self.random, 8000, 15_000),
            _ => whole_millis(&mut self.random, 200, 3000),
        };
        std::thread::sleep(pause);
    }

    fn fault(&mut self) {
        let rewind = self.random.below(25) == 0;
        let fault = if rewind {
            Fault::CursorRewound
        } else {
            FAULTS[self.random.below(FAULTS.len() as u64) as usize]
        };
        *self.ledger.faults.entry(fault.name()).or_default() += 1;
        if let Some(series) = &self.series {
            series.note(fault.name());
        }
        // Each fault may repeat one list, and the broker one more to the receiver.
        self.ledger.repeats_allowed += 2 * LIST;
        let time = whole_millis(&mut self.random, 300, 5000);
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
        match fault {
            Fault::ServiceKilled => self.restart(false),
            Fault::ServiceTerminated => self.restart(true),
            Fault::BrokerRestarted => {
                self.broker.stop();
                std::thread::sleep(time / 3);
                self.broker.start_again();
            }
            Fault::BrokerFrozen => {
                self.broker.freeze();
                std::thread::sleep(time);
                self.broker.thaw();
            }
            Fault::BrokerFrozenServiceKilled => {
                self.broker.freeze();
                std::thread::sleep(time / 3);
                self.restart(false);
                self.broker.thaw();
            }
            Fault::ConnectionCut => self.mqtt_proxy.cut(),
            Fault::HoleBothWays => hole(true, true),
            Fault::HoleToBroker => hole(true, false),
            Fault::HoleFromBroker => hole(false, true),
            Fault::ConnectionsRefused => {
                self.mqtt_proxy.set(Behaviour {
                    refuse: true,
                    ..Behaviour::default()
                });
                self.mqtt_proxy.cut();
                std::thread::sleep(time);
                self.mqtt_proxy.heal();
            }
            Fault::Latency => self.slowly(
                Behaviour {
                    latency: Duration::from_millis(150),
                    ..Behaviour::default()
                },
                time,
            ),
            Fault::Trickle => self.slowly(
                Behaviour {
                    rate: 10_000,
                    ..Behaviour::default()
                },
                time,
            ),
            Fault::RedisRestarted => {
                self.redis.stop();
                std::thread::sleep(time / 3);
                self.redis.start_again();
            }
            Fault::RedisFrozen => {
                self.redis.freeze();
                std::thread::sleep(time * 2);
                self.redis.thaw();
            }
            Fault::RedisLoading => {
                self.redis.stop();
                self.redis.start_loading(time / 2);
            }
            Fault::RedisClientsKilled => {
                let _: u64 = self
                    .redis
                    .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }
            Fault::EnabledToggled => {
                self.redis.set("mqtt_sender:enabled", "0");
                std::thread::sleep(time);
                self.redis.set("mqtt_sender:enabled", "1");
            }
            Fault::RedisFull => {
                self.limit_memory("1");
                std::thread::sleep(time);
                self.limit_memory("0");
            }
            Fault::IntervalChanged => {
                let interval = ["0", "0.05", "0.2", "1"][self.random.below(4) as usize];
                self.redis.set("mqtt_sender:interval", interval);
            }
            Fault::Burst => self.burst(),
            Fault::CursorRewound => self.rewind(),
        }
    }

    fn limit_memory(&self, bytes: &str) {
        self.redis
            .command::<()>(&["CONFIG", "SET", "maxmemory", bytes]);
    }

    /// A sensor that has collected for a while writes it all at once.
    fn burst(&mut self) {
        let mut pipe = redis::pipe();
        for value in 0..self.random.below(3000) {
            let entry = pipe.cmd("XADD").arg("measurement:values").arg("*");
            entry.arg("n").arg(value).ignore();
        }
        pipe.query::<()>(&mut self.redis.connection())
            .expect("a burst");
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
        self.ledger.gate += self.service.count_log("what it must not") as u64;
    }

    /// Lets everything recover and compares what was produced with what was received.
    fn settle(mut self, begun: Instant) -> Ledger {
        self.redis.set("mqtt_sender:enabled", "1");
        let produced = ids(&self.redis);
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
        if let Some(series) = self.series.take() {
            series.stop();
        }
        self.note_process();
        self.ledger.dead_letters = dead_letters(&self.redis).len() as u64;
        self.ledger.descriptors.1 = self.service.descriptors();
        self.ledger.threads.1 = self.service.threads();
        let told: Option<String> = self.redis.command(&["HGET", "mqtt_sender:status", "lost"]);
        self.ledger.told_lost = told.and_then(|text| text.parse().ok()).unwrap_or(0);
        let received = self.receiver.ids();
        let arrived: HashSet<(u64, u64)> = received.iter().copied().collect();
        let first = first_arrivals(&received);
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
        self.ledger.repeated = (received.len() - arrived.len()) as u64;
        if !self.ledger.confirmed {
            let log = self.service.log();
            eprintln!(
                "not settled; the log ends with\n{}",
                log[log.len().saturating_sub(40)..].join("\n")
            );
        }
        self.ledger
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
