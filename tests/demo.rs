//! `make demo`: a private Redis, a private Mosquitto, a simulated sensor, the real binary, and
//! what arrives at a subscriber, for people to watch.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::receiver::{Arrived, ids_of};
use support::{World, holds_within};

const BACKLOG: u64 = 5000;
const PER_SECOND: u64 = 10;

fn main() {
    let seconds = std::env::var("DEMO_SECONDS")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed)).expect("signals");

    let mut world = World::new();
    println!(
        "A private Redis (port {}) and a private Mosquitto (port {}) are running.",
        world.redis.port, world.broker.port
    );
    let mut sensor = Sensor::default();
    for _ in 0..BACKLOG {
        sensor.measure();
    }
    sensor.flush(&world);
    println!(
        "A sensor has left {BACKLOG} measurements in the stream measurement:values while nobody was there.\n"
    );

    let service = world.start();
    println!("The service starts and catches up:");
    let begun = Instant::now();
    let mut shown = 0;
    let over = |begun: Instant| {
        stop.load(Ordering::Relaxed)
            || seconds.is_some_and(|limit| begun.elapsed() >= Duration::from_secs(limit))
    };
    while !over(begun) {
        sensor.measure_until(begun.elapsed());
        sensor.flush(&world);
        shown = show(&world, shown, begun);
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("\nThe sensor stops; the last measurements are on their way.");
    holds_within(Duration::from_secs(30), || {
        world.receiver.distinct() as u64 >= sensor.produced
    });
    show(&world, shown, begun);
    summary(&mut world, service, sensor.produced);
}

/// Shows the lists that have arrived since the last time.
fn show(world: &World, shown: usize, begun: Instant) -> usize {
    let lists = world.receiver.lists();
    for list in &lists[shown..] {
        println!("{}", line(list, begun));
    }
    lists.len()
}

fn line(list: &Arrived, begun: Instant) -> String {
    let ids = ids_of(&list.payload);
    let text = String::from_utf8_lossy(&list.payload);
    let start: String = text.chars().skip(1).take(40).collect();
    let sensor: String = text
        .split("\"_app_name\":\"Local Test\",")
        .nth(1)
        .unwrap_or_default()
        .chars()
        .take(60)
        .collect();
    format!(
        "{:6.1} s  {:4} measurements, {:5} bytes  {start}… {sensor}…",
        list.at.saturating_duration_since(begun).as_secs_f64(),
        ids.len(),
        list.payload.len(),
    )
}

fn summary(world: &mut World, mut service: support::Service, produced: u64) {
    let ended = service.terminate();
    let received = world.receiver.distinct() as u64;
    println!("\nproduced  {produced:7}");
    println!("received  {received:7}");
    println!("repeated  {:7}", world.receiver.total() as u64 - received);
    println!("lost      {:7}", produced - received);
    println!("cursor    {}", world.redis.cursor().unwrap_or_default());
    println!(
        "The service ended with code {}.",
        ended.0.code().unwrap_or(-1)
    );
    assert_eq!(produced, received, "measurements are missing");
}

/// Three fields that wander like weather.
#[derive(Default)]
struct Sensor {
    produced: u64,
    pending: Vec<[String; 3]>,
}

impl Sensor {
    fn measure(&mut self) {
        let phase = self.produced as f64 / 500.0;
        self.pending.push([
            format!("{:.1}", 20.0 + 5.0 * phase.sin()),
            format!("{:.0}", 55.0 + 20.0 * (phase / 3.0).cos()),
            format!("{:.1}", 1013.0 + 8.0 * (phase / 7.0).sin()),
        ]);
        self.produced += 1;
    }

    fn measure_until(&mut self, time: Duration) {
        let wanted = BACKLOG + time.as_millis() as u64 * PER_SECOND / 1000;
        while self.produced < wanted {
            self.measure();
        }
    }

    fn flush(&mut self, world: &World) {
        if self.pending.is_empty() {
            return;
        }
        let mut pipe = redis::pipe();
        for [temperature, humidity, pressure] in self.pending.drain(..) {
            pipe.cmd("XADD")
                .arg("measurement:values")
                .arg("*")
                .arg(&[
                    "temperature_celsius",
                    &temperature,
                    "humidity_percent",
                    &humidity,
                ])
                .arg(&["pressure_hpa", &pressure])
                .ignore();
        }
        pipe.query::<()>(&mut world.redis.connection())
            .expect("XADD");
    }
}
