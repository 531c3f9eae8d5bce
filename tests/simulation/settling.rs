//! After the last fault: the world gets time, then everything must be as it should, and quiet.

use std::time::{Duration, Instant};

use mqtt_handler::model::settings::Raw;

use crate::broker::Limit;
use crate::queue::Event;
use crate::redis::Values;
use crate::schedule::Fault;
use crate::stream::Uid;
use crate::world::World;

/// How often the world looks.
const OFTEN: Duration = Duration::from_millis(500);
/// How long it is watched when all has recovered.
const IDLE: Duration = Duration::from_secs(12);
/// Requests to Redis that a second without anything to do may have.
const REQUESTS: u64 = 8;

#[derive(Default)]
pub struct Settling {
    /// When the sensors stopped.
    stopped: Option<Instant>,
    /// When all had recovered, and how many requests there were by then.
    recovered: Option<(Instant, u64, u64)>,
}

impl World {
    pub fn look_around(&mut self) {
        // What has waited in vain for its moment does not come any more.
        self.begun.fill(true);
        self.queue.push(self.now + OFTEN, Event::Look);
        if !self.open.is_empty() || self.device.stopping.is_some() {
            return;
        }
        self.device_starts();
        self.settings_are_as_before();
        if let Some((since, requests, actions)) = self.settling.recovered {
            return self.idles(since, requests, actions);
        }
        let since_faults = self.now.saturating_duration_since(self.closed_at);
        if since_faults < Duration::from_secs(2) {
            return;
        }
        if self.settling.stopped.is_none() {
            self.sensors_run = false;
            self.settling.stopped = Some(self.now);
            return;
        }
        match self.what_is_missing() {
            None => {
                let (requests, actions) = (self.watch.requests, self.watch.actions);
                self.settling.recovered = Some((self.now, requests, actions));
            }
            Some(what) if since_faults > self.time_to_recover() => {
                self.ledger.broken("5 everything flows again", what);
            }
            Some(_) => {}
        }
    }

    /// A restart may have brought back what a fault had set.
    fn settings_are_as_before(&mut self) {
        let data = &mut self.redis.data;
        if data.enabled == Raw::Text("0".into()) {
            data.enabled = Raw::Text("1".into());
        }
        if data.interval != Raw::Missing {
            let seconds = self.plan.setup.interval.as_secs_f64();
            data.interval = Raw::Text(seconds.to_string());
        }
        if matches!(data.values, Values::Other) {
            data.values = Values::Absent;
        }
        if matches!(data.cursor, Raw::Unusable(_)) {
            self.foreign_cursor(Raw::Missing);
        }
    }

    /// Within the length of the outage, at most a minute, and what was under way ends first.
    fn time_to_recover(&self) -> Duration {
        let setup = &self.plan.setup;
        let slow = setup.keep_alive.mul_f64(2.5) + setup.ack_timeout * 4;
        let poison = self.plan.faults.iter().map(|planned| match planned.fault {
            // To find out takes reconnections, or waits for what is never acknowledged.
            Fault::Poison { count } => {
                (setup.ack_timeout + Duration::from_secs(30)) * 10 * count as u32
            }
            _ => Duration::ZERO,
        });
        // To find a limit that the broker does not name takes reconnections, too.
        let limit = match setup.limit {
            Limit::Closes(_) | Limit::Says(_) => Duration::from_secs(180),
            _ => Duration::ZERO,
        };
        Duration::from_secs(75) + slow + limit + poison.sum::<Duration>()
    }

    /// What is not yet as it should be; `None`: nothing.
    fn what_is_missing(&self) -> Option<String> {
        let facts = &self.ledger.facts;
        let entries = self.redis.data.stream()?;
        let due = |uid: &Uid| {
            let fact = &facts[*uid];
            fact.arrived == 0 && !fact.dead && !fact.skipped
        };
        if let Some((id, _)) = entries.all.iter().find(|(_, uid)| due(uid)) {
            return Some(format!("{id} has not arrived"));
        }
        let place = self.redis.data.stored_place();
        let moved = entries.all.values().any(|uid| facts[*uid].confirmed);
        if moved && place.is_none_or(|place| entries.behind(place).next().is_some()) {
            return Some(format!("the cursor is {:?}", self.redis.data.cursor));
        }
        let (least, most) = self.ledger.losses();
        let told = self.device.shown.as_ref()?.counters.lost;
        let exact = self.redis.counts && !self.plan.has(Fault::blurs_losses);
        if exact && !(least..=most).contains(&told) {
            return Some(format!("lost {least} to {most}, told {told}"));
        }
        None
    }

    /// All has recovered: few requests, and nothing changes.
    fn idles(&mut self, since: Instant, requests: u64, actions: u64) {
        let time = self.now.saturating_duration_since(since);
        if time < IDLE {
            return;
        }
        let asked = self.watch.requests - requests;
        let done = self.watch.actions - actions;
        let seconds = time.as_secs();
        let interval = self.plan.setup.interval.as_secs_f64();
        let rounds = if interval > 0.0 { 1.0 / interval } else { 0.0 };
        let most = (REQUESTS + rounds as u64) * seconds;
        if asked > most || done > 6 * most {
            let what = format!("{asked} requests and {done} actions in {seconds} s");
            self.ledger.broken("6 quiet when idle", what);
        }
        if let Some(what) = self.what_is_missing() {
            self.ledger.broken("5 what has recovered stays so", what);
        }
        self.watch.over = true;
    }
}
