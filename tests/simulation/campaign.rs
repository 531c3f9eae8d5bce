//! Many schedules on all cores, and what is printed when one breaks a promise.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ledger::Broken;
use crate::schedule::Plan;
use crate::world::run;

/// What a campaign has shown.
#[derive(Default)]
pub struct Tally {
    pub schedules: u64,
    pub events: u64,
    pub arrivals: u64,
    pub faults: BTreeMap<String, u64>,
    /// Seeds that broke a promise.
    pub failures: Vec<(u64, Broken)>,
}

/// Runs so many seeds from the first on; ends early when so many have failed.
pub fn campaign(first: u64, count: u64, most_failures: usize, progress: bool) -> Tally {
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    let begun = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let from = next.fetch_add(50, Ordering::Relaxed);
                    if from >= first + count {
                        break;
                    }
                    let part = some(from, (from + 50).min(first + count));
                    let mut tally = tally.lock().expect("the tally");
                    tally.add(part);
                    if tally.failures.len() >= most_failures {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        if progress {
            scope.spawn(|| tell(&tally, &stop, begun, count));
        }
    });
    tally.into_inner().expect("the tally")
}

fn some(from: u64, to: u64) -> Tally {
    let mut tally = Tally::default();
    for seed in from..to {
        let outcome = run(Plan::new(seed), false);
        tally.schedules += 1;
        tally.events += outcome.events;
        tally.arrivals += outcome.arrivals;
        for fault in outcome.faults {
            *tally.faults.entry(fault).or_default() += 1;
        }
        tally
            .failures
            .extend(outcome.broken.map(|broken| (seed, broken)));
    }
    tally
}

fn tell(tally: &Mutex<Tally>, stop: &AtomicBool, begun: Instant, count: u64) {
    let mut told = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let done = tally.lock().expect("the tally").schedules;
        if done >= count || stop.load(Ordering::Relaxed) {
            return;
        }
        if told.elapsed() >= Duration::from_secs(5) {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!(
                "{done} of {count} schedules, {:.0} a second",
                done as f64 / seconds
            );
        }
    }
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.arrivals += other.arrivals;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    /// The last line.
    pub fn summary(&self) -> String {
        let faults: u64 = self.faults.values().sum();
        format!(
            "{} schedules, {faults} faults of {} kinds, {} events, {} measurements arrived, {} broken",
            self.schedules,
            self.faults.len(),
            self.events,
            self.arrivals,
            self.failures.len()
        )
    }
}

/// The schedule of a seed, as short as it can be and still break the same promise.
pub fn shrink(seed: u64, broken: &Broken) -> Plan {
    let mut plan = Plan::new(seed);
    let fails = |plan: &Plan| {
        let outcome = run(plan.clone(), false);
        outcome
            .broken
            .is_some_and(|other| other.check == broken.check)
    };
    plan.faults.sort_by_key(|planned| planned.at);
    while let Some(nth) = (0..plan.faults.len()).rev().find(|nth| {
        let mut shorter = plan.clone();
        shorter.faults.remove(*nth);
        fails(&shorter)
    }) {
        plan.faults.remove(nth);
    }
    plan
}

/// Everything about a seed that broke a promise. `lines`: of the trace, from its end.
pub fn report(seed: u64, broken: &Broken, lines: usize) -> String {
    let plan = shrink(seed, broken);
    let outcome = run(plan.clone(), true);
    let what = outcome.broken.unwrap_or_else(|| broken.clone());
    let trace: Vec<&str> = outcome.trace.lines().collect();
    let mut text = format!(
        "{}\n",
        trace[trace.len().saturating_sub(lines)..].join("\n")
    );
    text += &format!(
        "SEED={seed} breaks \"{}\": {}\n{:?}\n",
        what.check, what.what, plan.setup
    );
    for planned in &plan.faults {
        text += &format!("{planned:?}\n");
    }
    text
}

/// Of each broken promise a few seeds, with the faults that it takes.
pub fn overview(failures: &[(u64, Broken)]) -> String {
    let mut of: BTreeMap<&str, u32> = BTreeMap::new();
    let mut text = String::new();
    for (seed, broken) in failures {
        let count = of.entry(broken.check).or_default();
        *count += 1;
        if *count > 12 {
            continue;
        }
        let plan = shrink(*seed, broken);
        let faults: Vec<_> = plan.faults.iter().map(|planned| planned.fault).collect();
        text += &format!(
            "{}: SEED={seed} {faults:?}: {}\n",
            broken.check, broken.what
        );
    }
    text
}
