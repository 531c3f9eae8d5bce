//! A whole device in a world in memory: its two machines, a Redis, a broker and the network
//! between them, with a clock that jumps from event to event. A seed is a schedule of faults;
//! after it the world gets time, and every promise must have been kept.
//!
//! `SEED=7 make simulate` repeats one schedule with its trace;
//! `make simulate SEEDS=1000000 FIRST=1` runs as many as wanted.

mod broker;
mod campaign;
mod client;
mod device;
mod faults;
mod ledger;
mod others;
mod queue;
#[path = "../support/random.rs"]
mod random;
mod redis;
mod schedule;
mod settling;
mod store;
mod stream;
mod trace;
mod watch;
mod world;

use campaign::{campaign, report};
use schedule::Plan;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
    )
}

#[test]
fn every_schedule_keeps_every_promise() {
    if let Some(seed) = number("SEED") {
        return repeat(seed);
    }
    let (first, count) = (
        number("FIRST").unwrap_or(1),
        number("SEEDS").unwrap_or(20_000),
    );
    let most = number("FAILURES").unwrap_or(1) as usize;
    let tally = campaign(first, count, most, number("SEEDS").is_some());
    for (fault, count) in &tally.faults {
        println!("{fault:28} {count:9}");
    }
    if most > 1 {
        for (seed, broken) in &tally.failures {
            println!("{seed}: {}: {}", broken.check, broken.what);
        }
        println!("{}", campaign::overview(&tally.failures));
    }
    println!("{}", tally.summary());
    if let Some((seed, broken)) = tally.failures.first() {
        panic!(
            "{}",
            report(*seed, broken, number("LINES").unwrap_or(300) as usize)
        );
    }
}

fn repeat(seed: u64) {
    let outcome = world::run(Plan::new(seed), false);
    match outcome.broken {
        Some(broken) => panic!("{}", report(seed, &broken, usize::MAX)),
        None => println!("{}", world::run(Plan::new(seed), true).trace),
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..40 {
        let run = || world::run(Plan::new(seed), true).trace;
        let (one, other) = (run(), run());
        assert!(one == other, "seed {seed} differs from itself");
    }
}
