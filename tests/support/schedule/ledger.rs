//! What a schedule has shown, and what must hold after any.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

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
    /// Nothing here is refused for what it is.
    pub dead_letters: u64,
    /// Ends of the connection by the gate: this broker is honest.
    pub gate: u64,
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
            ("dead letters", self.dead_letters),
            ("refused by the gate", self.gate),
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
        assert_eq!(self.dead_letters, 0, "dead letters\n{self}");
        assert_eq!(self.gate, 0, "refused by the gate\n{self}");
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
