//! `make demo`: the promise, for people to watch. A private Redis, a private Mosquitto, a simulated
//! sensor and the real binary; the broker goes, a backlog grows, the service is killed, both come
//! back, and the account is drawn up.

mod keys;
mod sensor;
#[path = "../support/mod.rs"]
mod support;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use keys::Keys;
use sensor::Sensor;
use support::{Service, World};

/// Measurements that wait before the service starts for the first time.
const BACKLOG: u64 = 5000;
const PER_SECOND: u64 = 50;
/// How long the whole may take where nothing else is asked for.
const SECONDS: u64 = 60;
/// Of the bar that shows what waits.
const BLOCK: u64 = 50;
const BLOCKS: u64 = 32;

/// What happens, and when, as a share of the whole time. The rest is for what is still on its way.
const ACTS: [(f64, Act); 6] = [
    (0.0, Act::Start),
    (0.15, Act::BrokerGoes),
    (0.40, Act::Kill),
    (0.50, Act::BrokerReturns),
    (0.58, Act::ServiceReturns),
    (0.80, Act::End),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Start,
    BrokerGoes,
    Kill,
    BrokerReturns,
    ServiceReturns,
    End,
}

impl Act {
    fn words(self) -> &'static str {
        match self {
            Act::Start => "The service starts and catches up.",
            Act::BrokerGoes => "The broker is gone. Measurements wait in Redis.",
            Act::Kill => "The service is killed with -9.",
            Act::BrokerReturns => "The broker is back.",
            Act::ServiceReturns => {
                "The service is back and goes on where the broker has confirmed."
            }
            Act::End => "The sensor stops; what is still on its way arrives.",
        }
    }
}

struct Demo {
    world: World,
    service: Option<Service>,
    broker: bool,
    sensor: Sensor,
    keys: Keys,
    begun: Instant,
    /// Lines of the log of the present service that were looked at.
    read: usize,
    /// What it said last.
    told: String,
    /// The most that waited after the first catch-up.
    waited: u64,
    colour: bool,
}

fn main() {
    let seconds = std::env::var("DEMO_SECONDS");
    let seconds = seconds.ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let keys = Keys::watch();
    let mut demo = Demo {
        world: World::new(),
        service: None,
        broker: true,
        sensor: Sensor::default(),
        keys,
        begun: Instant::now(),
        read: 0,
        told: String::new(),
        waited: 0,
        colour: std::io::stdout().is_terminal(),
    };
    demo.introduce();
    demo.play(time);
    demo.settle();
    demo.account();
}

impl Demo {
    fn introduce(&mut self) {
        let (redis, broker) = (self.world.redis.port, self.world.broker.port);
        println!("A private Redis (port {redis}) and a private Mosquitto (port {broker}) run.");
        self.sensor.measure_upto(BACKLOG);
        self.sensor.flush(&self.world);
        println!("A sensor has left {BACKLOG} measurements in Redis while nobody was there,");
        println!("and goes on with {PER_SECOND} a second.");
        if self.keys.are_watched() {
            println!("A key ends it at any time, with the account.");
        }
        self.begun = Instant::now();
    }

    fn play(&mut self, time: Duration) {
        let mut shown = Duration::ZERO;
        for (share, act) in ACTS {
            while self.begun.elapsed() < time.mul_f64(share) {
                if self.keys.asked() > 0 {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
                let passed = self.begun.elapsed();
                let due = BACKLOG + passed.as_millis() as u64 * PER_SECOND / 1000;
                self.sensor.measure_upto(due);
                self.sensor.flush(&self.world);
                if passed >= shown {
                    self.show();
                    shown = Duration::from_secs(passed.as_secs() + 1);
                }
            }
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        println!("\n{}", self.bold(act.words()));
        match act {
            Act::Start | Act::ServiceReturns => self.start(),
            Act::BrokerGoes => {
                self.world.broker.stop();
                self.broker = false;
            }
            Act::Kill => self.service = None,
            Act::BrokerReturns => {
                self.world.broker.start_again();
                self.broker = true;
            }
            Act::End => {}
        }
    }

    fn start(&mut self) {
        self.service = Some(self.world.start());
        self.read = 0;
        self.told.clear();
    }

    /// One line about this moment, and what the service says of its troubles.
    fn show(&mut self) {
        let state = |up: bool| if up { "up  " } else { "GONE" };
        let received = self.world.receiver.distinct() as u64;
        let waiting = self.sensor.produced - received;
        if self.begun.elapsed() > Duration::from_secs(2) {
            self.waited = self.waited.max(waiting);
        }
        println!(
            "{:3} s  broker {}  service {}  produced {:5}  received {received:5}  waiting {waiting:4} {}",
            self.begun.elapsed().as_secs(),
            self.paint(state(self.broker), self.broker),
            self.paint(state(self.service.is_some()), self.service.is_some()),
            self.sensor.produced,
            bar(waiting),
        );
        self.show_trouble();
    }

    /// What the service says of its connection, where that is new.
    fn show_trouble(&mut self) {
        let Some(service) = &self.service else { return };
        let log = service.log();
        let troubles = log[self.read..].iter().filter_map(|line| {
            let (_, said) = line.split_once("WARN ")?;
            let words = said.trim_start().split_once(": ")?.1;
            let words = words.split("; next").next()?;
            words.contains("connect").then(|| words.to_string())
        });
        let last = troubles.last();
        self.read = log.len();
        if let Some(words) = last.filter(|words| *words != self.told) {
            println!("       the service: {words}");
            self.told = words;
        }
    }

    /// Brings back what is gone, and waits for what is still on its way.
    fn settle(&mut self) {
        if self.keys.asked() > 0 {
            println!(
                "\n{}",
                self.bold("Ended early: what is gone comes back for the account.")
            );
        }
        if !self.broker {
            self.act(Act::BrokerReturns);
        }
        if self.service.is_none() {
            self.act(Act::ServiceReturns);
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        let missing = |demo: &Demo| (demo.world.receiver.distinct() as u64) < demo.sensor.produced;
        while missing(self) && Instant::now() < deadline && self.keys.asked() < 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.show();
        if let Some(mut service) = self.service.take() {
            service.terminate();
        }
    }

    fn account(&self) {
        let produced = self.sensor.produced;
        let received = self.world.receiver.distinct() as u64;
        let repeated = self.world.receiver.total() as u64 - received;
        let lost = produced - received;
        println!("\n{}", self.bold("The account"));
        println!("produced  {produced:6}  the sensor has written them to Redis");
        println!("received  {received:6}  they have come out behind the broker");
        println!("repeated  {repeated:6}  they came twice, which a back end tells by their _id");
        println!("lost      {lost:6}  {}", self.verdict(lost));
        assert!(
            lost == 0 || self.keys.asked() > 1,
            "measurements are missing"
        );
    }

    fn verdict(&self, lost: u64) -> String {
        match lost {
            0 => format!("nothing, although up to {} had to wait", self.waited),
            _ => "they are missing".into(),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.in_colour(text, "1")
    }

    fn paint(&self, text: &str, good: bool) -> String {
        self.in_colour(text, if good { "32" } else { "1;31" })
    }

    fn in_colour(&self, text: &str, code: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

fn bar(waiting: u64) -> String {
    let blocks = waiting.div_ceil(BLOCK);
    let more = if blocks > BLOCKS { "…" } else { "" };
    "█".repeat(blocks.min(BLOCKS) as usize) + more
}
