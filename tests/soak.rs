//! `make soak MINUTES=60`: faults in a random order for as long as asked, and the ledger.

mod support;

use std::time::{Duration, SystemTime};

fn main() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let clock = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let seed = number("SEED").unwrap_or(clock);
    let minutes = number("MINUTES").unwrap_or(10);
    println!("seed {seed}, {minutes} minutes; SEED={seed} MINUTES={minutes} repeats this schedule");
    let ledger = support::schedule::run(seed, Duration::from_secs(60 * minutes), 100_000);
    println!("{ledger}");
    ledger.check();
}
