//! After the last fault: the world gets time, then everything must be as it should, and quiet.

use std::time::{Duration, Instant};

use mqtt_handler::model::settings::Raw;

use crate::broker::Limit;
use crate::queue::Event;
use crate::redis::Values;
use crate::schedule::{Fault, Planned};
use crate::stream::Uid;
use crate::world::World;

/// How often the world looks.
const OFTEN: Duration = Duration::from_millis(500);
/// Measurements that show how large lists are.
const BURST: usize = 60;
/// How long it is watched when all has recovered.
const IDLE: Duration = Duration::from_secs(12);
/// Requests to Redis that a second without anything to do may have.
const REQUESTS: u64 = 8;

#[derive(Default)]
pub struct Settling {
    /// When the sensors stopped.
    stopped: Option<Instant>,
    /// The last burst was added, after so many lists.
    burst: Option<usize>,
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
        if self.settling.stopped.is_none() && self.subscriptions_are_missing(since_faults) {
            return;
        }
        if self.settling.stopped.is_none() {
            // What was refused has a successor that shows whose fault it is, once there is room for it.
            if self.is_full() && since_faults < self.time_to_recover() {
                return;
            }
            self.append(0, None);
            self.sensors_run = false;
            self.settling.stopped = Some(self.now);
            return;
        }
        match self.what_is_missing() {
            None if self.lists_have_to_show_their_size() => {}
            None => {
                let (requests, actions) = (self.watch.requests, self.watch.actions);
                self.settling.recovered = Some((self.now, requests, actions));
            }
            Some((check, what)) if since_faults > self.time_to_recover() => {
                self.ledger.broken(check, what);
            }
            Some(_) => {}
        }
    }

    /// Subscriptions that were refused for a while are made again, whatever flows.
    fn subscriptions_are_missing(&mut self, since_faults: Duration) -> bool {
        let (made, wanted) = (self.broker.subscribed, self.plan.setup.subscriptions);
        let fault = |fault: &Fault| *fault == Fault::BrokerRefusesSubscriptions;
        let missing = made < wanted && self.plan.has(fault);
        if missing && since_faults > self.time_to_recover() {
            let what = format!("{made} of {wanted} subscriptions");
            self.ledger.broken("5 everything flows again", what);
        }
        missing
    }

    /// Lists are as large as ever after a broker that did not answer. Whether it is being found out.
    fn lists_have_to_show_their_size(&mut self) -> bool {
        let setup = &self.plan.setup;
        let deaf = |planned: &Planned| planned.fault == Fault::BrokerDeaf;
        if !self.plan.faults.iter().all(deaf) || setup.limit != Limit::None || setup.room.is_some()
        {
            return false;
        }
        let Some(before) = self.settling.burst else {
            self.settling.burst = Some(self.watch.lists);
            (0..BURST).for_each(|_| self.append(0, None));
            return true;
        };
        let full = (setup.batch.max_bytes / (115 + setup.pad)).clamp(1, setup.batch.max_count);
        let lists = self.watch.lists - before;
        // They double, from one measurement at worst.
        if lists > BURST / full + 12 {
            let what = format!("{lists} lists for {BURST} measurements, {full} fit");
            self.ledger.broken("5 lists grow back", what);
        }
        false
    }

    /// A restart may have brought back what a fault had set.
    fn settings_are_as_before(&mut self) {
        let data = &mut self.redis.data;
        // Where the key is gone, what was known last counts.
        let disabled = self.plan.has(|fault| *fault == Fault::Disabled);
        if data.enabled == Raw::Text("0".into()) || disabled && data.enabled == Raw::Missing {
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
            // Where something goes before that may have been the reason, more of them.
            Limit::Closes(_) if setup.latest => Duration::from_secs(300),
            Limit::Closes(_) | Limit::Says(_) | Limit::Refuses(_) => Duration::from_secs(180),
            _ => Duration::ZERO,
        };
        // All of it twice: a cursor may be set back, and what is not confirmed is paid for, too.
        let bytes: usize = self.ledger.facts.iter().map(|fact| 150 + fact.pad).sum();
        let pace = match setup.catch_up {
            0 => 0.0,
            rate => 2.0 * bytes as f64 / rate as f64,
        };
        let pace = Duration::from_secs_f64(pace);
        Duration::from_secs(75) + slow + limit + pace + poison.sum::<Duration>()
    }

    /// What is not yet as it should be; `None`: nothing.
    fn what_is_missing(&self) -> Option<(&'static str, String)> {
        let flows = |what: String| Some(("5 everything flows again", what));
        let facts = &self.ledger.facts;
        let entries = self.redis.data.stream()?;
        let due = |uid: &Uid| {
            let fact = &facts[*uid];
            fact.arrived == 0 && !fact.dead && !fact.skipped && !fact.thrown_away
        };
        if let Some((id, _)) = entries.all.iter().find(|(_, uid)| due(uid)) {
            return flows(format!("{id} has not arrived"));
        }
        if self.is_full() {
            return flows("Redis is full".into());
        }
        let place = self.redis.data.stored_place();
        let moved = entries.all.values().any(|uid| facts[*uid].arrived > 0);
        if moved && place.is_none_or(|place| entries.behind(place).next().is_some()) {
            return flows(format!("the cursor is {:?}", self.redis.data.cursor));
        }
        if let Some(what) = self.latest_is_wrong() {
            return flows(what);
        }
        let (least, most) = self.ledger.losses();
        let told = self.device.shown.as_ref()?.counters.lost;
        let exact = self.redis.counts && self.plan.counts_losses();
        if exact && !(least..=most).contains(&told) {
            let what = format!("{least} to {most}, told {told}");
            return Some(("1 losses are counted exactly", what));
        }
        None
    }

    /// What the broker keeps as the newest measurement.
    fn latest_is_wrong(&self) -> Option<String> {
        let entries = self.redis.data.stream()?;
        let (id, newest) = entries.all.last_key_value()?;
        let facts = &self.ledger.facts;
        let kept = self.broker.latest;
        let deleted = kept.is_some_and(|uid| facts[uid].removed);
        let left_out = !self.plan.setup.latest
            || self.watch.no_latest
            || self.broker.latest_closes
            || self.broker.limit != Limit::None;
        let right = left_out || deleted || kept == Some(*newest);
        (!right).then(|| format!("the newest is {id}, and the broker keeps {kept:?}"))
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
        if let Some((_, what)) = self.what_is_missing() {
            self.ledger.broken("5 what has recovered stays so", what);
        }
        self.watch.over = true;
    }
}
