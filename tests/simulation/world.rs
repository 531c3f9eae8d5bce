//! The world in memory: everything that there is, and the loop that lets it happen.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mqtt_handler::model::measurement::Encoder;
use mqtt_handler::model::topic::Identity;

use crate::broker::Broker;
use crate::client::{Client, Net};
use crate::device::Device;
use crate::ledger::{Broken, Ledger};
use crate::queue::{Event, Queue};
use crate::random::Random;
use crate::redis::Redis;
use crate::schedule::{Fault, Plan};
use crate::settling::Settling;
use crate::store::Store;
use crate::trace::Trace;
use crate::watch::Watch;

/// More events than any healthy run has.
const MANY_EVENTS: u64 = 400_000;

pub struct World {
    pub plan: Plan,
    pub base: Instant,
    pub now: Instant,
    pub queue: Queue,
    pub random: Random,
    pub ledger: Ledger,
    pub watch: Watch,
    pub settling: Settling,
    pub redis: Redis,
    pub store: Store,
    pub broker: Broker,
    pub net: Net,
    pub client: Client,
    pub device: Device,
    pub encoder: Encoder,
    pub padding: Vec<u8>,
    /// Faults that have begun, and those that have not ended.
    pub begun: Vec<bool>,
    pub open: Vec<usize>,
    /// When the last fault ended.
    pub closed_at: Instant,
    pub sensors_run: bool,
    /// Seconds that the wall clock of the device is off.
    pub wall_shift: i64,
    pub trace: Option<Trace>,
}

/// What a run has shown.
pub struct Outcome {
    pub broken: Option<Broken>,
    pub events: u64,
    pub arrivals: u64,
    pub faults: Vec<String>,
    pub trace: String,
}

/// One moment for all runs, so that times can be compared.
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

/// Values that packing makes a quarter smaller, and not more.
fn padding() -> Vec<u8> {
    let mut random = Random::new(1);
    (0..4096).map(|_| b'0' + random.below(64) as u8).collect()
}

/// Lets one schedule happen. A panic is a broken promise like any other: with its seed and its trace.
pub fn run(plan: Plan, traced: bool) -> Outcome {
    let mut world = World::new(plan, traced);
    let events = catch_unwind(AssertUnwindSafe(|| world.happens())).unwrap_or_else(|panic| {
        let what = in_words(&*panic).to_string();
        world.ledger.broken("0 nothing panics", what);
        0
    });
    let begun = world.plan.faults.iter().zip(&world.watch.happened);
    Outcome {
        faults: begun
            .filter(|(_, happened)| **happened)
            .map(|(planned, _)| planned.fault.name())
            .collect(),
        broken: world.ledger.broken.take(),
        events,
        arrivals: world.ledger.arrivals,
        trace: world.trace.map(|trace| trace.text).unwrap_or_default(),
    }
}

fn in_words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}

impl World {
    pub fn new(plan: Plan, traced: bool) -> World {
        let base = base();
        let identity = Identity {
            device_uuid: "u".into(),
            device_type: String::new(),
            app_id: String::new(),
            app_name: String::new(),
        };
        let mut broker = Broker::new(plan.setup.speaks, plan.setup.limit);
        broker.status = plan.setup.status_manner;
        broker.latest_closes = plan.setup.latest_closes;
        broker.subscriptions = plan.setup.subscription_manner;
        World {
            base,
            now: base,
            queue: Queue::default(),
            random: Random::new(plan.seed),
            ledger: Ledger::default(),
            watch: Watch::new(plan.faults.len(), base),
            settling: Settling::default(),
            redis: Redis {
                counts: plan.setup.redis_counts,
                slice: 40,
                unmatched_percent: 3,
                ..Redis::default()
            },
            store: Store::default(),
            broker,
            net: Net::default(),
            client: Client::default(),
            device: Device::default(),
            encoder: Encoder::new(&identity),
            padding: padding(),
            begun: vec![false; plan.faults.len()],
            open: Vec::new(),
            closed_at: base,
            sensors_run: true,
            wall_shift: 0,
            trace: traced.then(|| Trace::new(base)),
            plan,
        }
    }

    fn happens(&mut self) -> u64 {
        for _ in 0..self.plan.setup.backlog {
            self.append(0, None);
        }
        self.queue.push(self.base, Event::Starts);
        self.queue.push(self.base, Event::Sensor);
        let at = self.base + Duration::from_secs(3);
        self.queue.push(at, Event::Command);
        for (nth, planned) in self.plan.faults.iter().enumerate() {
            if let Fault::RedisForgets { millis } = planned.fault {
                let before = planned.at.saturating_sub(Duration::from_millis(millis));
                self.queue.push(self.base + before, Event::Snapshot(nth));
            }
            self.queue.push(self.base + planned.at, Event::Due(nth));
        }
        let end = self.base + self.plan.end();
        self.queue.push(end, Event::Look);
        let mut events = 0;
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            events += 1;
            self.dispatch(event);
            self.watch_work();
            if events > MANY_EVENTS {
                let what = format!("{events} events");
                self.ledger.broken("6 bounded work", what);
            }
            if self.ledger.broken.is_some() || self.watch.over {
                break;
            }
        }
        events
    }

    pub fn dispatch(&mut self, event: Event) {
        match event {
            Event::Sensor => self.sensor(),
            Event::Command => {
                let bytes = self.random.pick(&[20, 20, 2000]);
                let qos = self.random.below(2) as i32;
                self.command_replies(bytes, qos);
                let at = self.now + self.random.millis(3000, 20_000);
                self.queue.push(at, Event::Command);
            }
            Event::Snapshot(nth) => {
                let mut data = self.redis.data.clone();
                data.facts = self.ledger.facts.len();
                self.redis.snapshots.insert(nth, data);
            }
            Event::Due(nth) => self.fault_is_due(nth),
            Event::Begins(nth) => self.fault_begins(nth),
            Event::Ends(nth) => self.fault_ends(nth),
            Event::Starts => self.device_starts(),
            Event::PollerWakes(process, turn) => self.poller_wakes(process, turn),
            Event::PublisherWakes(process, turn) => self.publisher_wakes(process, turn),
            Event::ToPoller(process, input) => self.poller_gets(process, *input),
            Event::ToPublisher(process, input) => self.publisher_gets(process, input),
            Event::LetterArrives(process, letter) => self.letter_arrives(process, letter),
            Event::RedisReceives(number) => self.redis_receives(number),
            Event::RedisAnswers(number) => self.redis_answers(number),
            Event::RedisPatience(number) => self.redis_patience(number),
            Event::RedisUnblocks(number) => self.unblock(number),
            Event::Handshake(number) => self.handshake(number),
            Event::Written(number) => self.written(number),
            Event::OperationPatience(number) => self.out_of_patience(number),
            Event::ToBroker(conn, packet) => self.broker_receives(conn, packet),
            Event::ToClient(conn, reply) => self.client_receives(conn, reply),
            Event::BrokerSeesEnd(conn) => self.broker_sees_end(conn),
            Event::KeepAlive(conn) => self.keep_alive(conn),
            Event::CursorIsDue(nth, process) => self.watch_obedience(nth, process),
            Event::Look => self.look_around(),
        }
    }
}
