//! How each fault begins and ends.

use std::time::Duration;

use mqtt_handler::link::NoConnectionKind;
use mqtt_handler::model::failure::{By, Cause};
use mqtt_handler::model::settings::Raw;

use crate::broker::end;
use crate::client::Doing;
use crate::queue::Event;
use crate::redis::Values;
use crate::schedule::{Fault, Heals, Trigger};
use crate::world::World;

impl World {
    /// A moment has come that a fault of the schedule waits for.
    pub fn trip(&mut self, trigger: Trigger) {
        let since = self.now.saturating_duration_since(self.base);
        for nth in 0..self.plan.faults.len() {
            let planned = &self.plan.faults[nth];
            if planned.trigger == Some(trigger) && planned.at <= since && !self.begun[nth] {
                self.begun[nth] = true;
                let at = self.now + self.random.micros(0, 3000);
                self.queue.push(at, Event::Begins(nth));
            }
        }
    }

    /// The time of a fault has come; one that waits for something waits on.
    pub fn fault_is_due(&mut self, nth: usize) {
        if self.plan.faults[nth].trigger.is_none() {
            self.begun[nth] = true;
            self.fault_begins(nth);
        }
    }

    pub fn fault_begins(&mut self, nth: usize) {
        let planned = self.plan.faults[nth].clone();
        if let Some(trace) = &mut self.trace {
            let what = format!("begins: {:?}, for {:?}", planned.fault, planned.lasts);
            trace.line(self.now, "FAULT", &what);
        }
        self.watch_good_line();
        self.open.push(nth);
        self.watch.happened[nth] = true;
        let at = self.now + planned.lasts;
        self.queue.push(at, Event::Ends(nth));
        self.begin_fault(planned.fault, nth);
    }

    pub fn begin_fault(&mut self, fault: Fault, nth: usize) {
        use Fault::*;
        match fault {
            Killed => self.device_is_killed(),
            Terminated => self.device_is_stopped(),
            ClockSteps { seconds } => self.wall_shift += seconds,
            LateMessages => self.device.late += 1,
            BrokerRestarts { .. }
            | BrokerFrozen
            | BrokerDeaf
            | BrokerForbids
            | BrokerRefuses
            | BrokerQuota
            | BrokerCutsHandshake
            | BrokerSilentToFive
            | BrokerBadCredentials
            | BrokerUnavailable
            | BrokerKicks
            | BrokerRefusesSubscriptions
            | BrokerMisbehaves { .. } => self.begin_broker_fault(fault),
            Cut | HoleBoth(_) | HoleUp(_) | HoleDown(_) | Refused | Latency | Slow
            | LineTimesOut => {
                self.begin_network_fault(fault);
            }
            RedisRestarts
            | RedisForgets { .. }
            | RedisFrozen
            | RedisLoading
            | RedisClientsKilled
            | RedisFull
            | RedisReadOnly
            | RedisLatency
            | NoCopies => {
                self.begin_redis_fault(fault, nth);
            }
            _ => self.begin_fault_by_others(fault),
        }
    }

    fn begin_broker_fault(&mut self, fault: Fault) {
        let mood = &mut self.broker.mood;
        match fault {
            Fault::BrokerRestarts { gently } => {
                mood.down += 1;
                // What it has kept for others is gone with it.
                self.broker.latest = None;
                let cause = if gently { Cause::Lost } else { Cause::Closed };
                self.broker_hangs_up(cause, "the broker stops");
            }
            Fault::BrokerFrozen => mood.frozen += 1,
            Fault::BrokerDeaf => mood.deaf += 1,
            Fault::BrokerForbids => mood.forbids_values += 1,
            Fault::BrokerRefuses => mood.refuses += 1,
            Fault::BrokerQuota => mood.quota += 1,
            Fault::BrokerCutsHandshake => {
                mood.cuts += 1;
                self.broker_hangs_up(Cause::Closed, "closed by the broker");
            }
            Fault::BrokerSilentToFive => {
                mood.silent_to_five += 1;
                self.broker_hangs_up(Cause::Closed, "closed by the broker");
            }
            Fault::BrokerBadCredentials => {
                mood.bad_credentials += 1;
                self.broker_hangs_up(Cause::Closed, "closed by the broker");
            }
            Fault::BrokerUnavailable => {
                mood.unavailable += 1;
                self.broker_hangs_up(Cause::Closed, "closed by the broker");
            }
            Fault::BrokerRefusesSubscriptions => mood.refuses_subscriptions += 1,
            Fault::BrokerMisbehaves { hangs_up: false } => mood.misbehaves += 1,
            Fault::BrokerMisbehaves { hangs_up: true } => mood.hangs_up += 1,
            _ => self.broker_hangs_up(Cause::Closed, "another client took over"),
        }
    }

    /// The broker ends the connection.
    fn broker_hangs_up(&mut self, cause: Cause, reason: &str) {
        self.broker.stalled.clear();
        if let Some((conn, _)) = self.broker.session.take() {
            self.client_hears(conn, end(cause, reason));
        }
    }

    fn begin_network_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.cut(),
            Fault::HoleBoth(_) => {
                self.net.hole_up += 1;
                self.net.hole_down += 1;
            }
            Fault::HoleUp(_) => self.net.hole_up += 1,
            Fault::HoleDown(_) => self.net.hole_down += 1,
            Fault::Refused => {
                self.net.refused += 1;
                self.cut();
            }
            Fault::Latency => self.net.late += 1,
            Fault::LineTimesOut => self.net.times_out += 1,
            _ => self.net.slow += 1,
        }
    }

    /// The line breaks: half of the time this looks as if the broker had reset it.
    fn cut(&mut self) {
        self.broker.session = None;
        self.net.stalled_up.clear();
        self.net.stalled_down.clear();
        if let Some(Doing::Connecting(_)) = self.client.operation.as_ref().map(|o| &o.doing) {
            return self.no_connection(NoConnectionKind::Closed);
        }
        if self.random.percent(50) {
            self.ends(By::Broker, Cause::Closed, "connection reset by peer");
        } else {
            self.ends(By::Line, Cause::Lost, "no route to host");
        }
    }

    fn begin_redis_fault(&mut self, fault: Fault, nth: usize) {
        match fault {
            Fault::RedisRestarts => {
                self.redis.mood.down += 1;
                self.redis_breaks();
            }
            Fault::RedisForgets { .. } => {
                self.redis.mood.down += 1;
                self.redis_breaks();
                self.restore(nth);
            }
            Fault::RedisFrozen => self.redis.mood.frozen += 1,
            Fault::RedisLoading => {
                self.redis.mood.loading += 1;
                self.redis_breaks();
            }
            Fault::RedisClientsKilled => self.redis_breaks(),
            Fault::RedisFull => self.redis.mood.full += 1,
            Fault::RedisReadOnly => {
                self.redis.mood.read_only += 1;
                // A replica cuts off who waits for an entry.
                if self.redis.blocked.is_some() {
                    self.redis_breaks();
                }
            }
            Fault::RedisLatency => self.redis.mood.latency += 1,
            _ => self.redis.mood.no_copies += 1,
        }
    }

    pub fn fault_ends(&mut self, nth: usize) {
        let planned = self.plan.faults[nth].clone();
        if planned.fault == Fault::StreamAway && !self.redis.mood.answers() {
            let at = self.now + Duration::from_secs(1);
            return self.queue.push(at, Event::Ends(nth));
        }
        if let Some(trace) = &mut self.trace {
            trace.line(self.now, "FAULT", &format!("ends: {:?}", planned.fault));
        }
        self.open.retain(|open| *open != nth);
        self.closed_at = self.closed_at.max(self.now);
        self.watch.arrived_by_then = self.ledger.arrivals;
        self.end_fault(planned.fault);
    }

    pub fn end_fault(&mut self, fault: Fault) {
        let (broker, net, redis) = (&mut self.broker.mood, &mut self.net, &mut self.redis.mood);
        match fault {
            Fault::Killed | Fault::Terminated => {
                if self.device.stopping.is_some() {
                    self.queue
                        .push(self.now + Duration::from_secs(1), Event::Starts);
                } else {
                    self.device_starts();
                }
            }
            Fault::LateMessages => self.device.late -= 1,
            Fault::BrokerRestarts { .. } => broker.down -= 1,
            Fault::BrokerFrozen => {
                broker.frozen -= 1;
                if broker.frozen == 0 {
                    self.broker_thaws();
                }
            }
            Fault::BrokerDeaf => broker.deaf -= 1,
            Fault::BrokerForbids => broker.forbids_values -= 1,
            Fault::BrokerRefuses => broker.refuses -= 1,
            Fault::BrokerQuota => broker.quota -= 1,
            Fault::BrokerCutsHandshake => broker.cuts = broker.cuts.saturating_sub(1),
            Fault::BrokerSilentToFive => broker.silent_to_five -= 1,
            Fault::BrokerBadCredentials => broker.bad_credentials -= 1,
            Fault::BrokerUnavailable => broker.unavailable -= 1,
            Fault::BrokerRefusesSubscriptions => broker.refuses_subscriptions -= 1,
            Fault::BrokerMisbehaves { hangs_up: false } => broker.misbehaves -= 1,
            Fault::BrokerMisbehaves { hangs_up: true } => broker.hangs_up -= 1,
            Fault::HoleBoth(heals) => {
                net.hole_up -= 1;
                net.hole_down -= 1;
                self.hole_ends(heals);
            }
            Fault::HoleUp(heals) => {
                net.hole_up -= 1;
                self.hole_ends(heals);
            }
            Fault::HoleDown(heals) => {
                net.hole_down -= 1;
                self.hole_ends(heals);
            }
            Fault::Refused => net.refused -= 1,
            Fault::Latency => net.late -= 1,
            Fault::LineTimesOut => net.times_out -= 1,
            Fault::Slow => {
                net.slow -= 1;
                self.line_is_fast();
            }
            Fault::RedisRestarts | Fault::RedisForgets { .. } => redis.down -= 1,
            Fault::RedisFrozen => {
                redis.frozen -= 1;
                if redis.frozen == 0 {
                    self.redis_thaws();
                }
            }
            Fault::RedisLoading => redis.loading -= 1,
            Fault::RedisFull => redis.full -= 1,
            Fault::RedisReadOnly => redis.read_only -= 1,
            Fault::RedisLatency => redis.latency -= 1,
            Fault::NoCopies => redis.no_copies -= 1,
            Fault::StreamAway => self.stream_comes_back(),
            Fault::Disabled => self.redis.data.enabled = Raw::Text("1".into()),
            Fault::Interval { .. } => {
                let seconds = self.plan.setup.interval.as_secs_f64();
                self.redis.data.interval = Raw::Text(format!("{seconds}"));
            }
            Fault::StreamOfOtherType => {
                if matches!(self.redis.data.values, Values::Other) {
                    self.redis.data.values = Values::Absent;
                }
            }
            Fault::CursorOfOtherType => {
                if matches!(self.redis.data.cursor, Raw::Unusable(_)) {
                    self.foreign_cursor(Raw::Missing);
                }
            }
            _ => {}
        }
    }

    fn hole_ends(&mut self, heals: Heals) {
        if heals == Heals::Cuts {
            self.cut();
        }
        self.heal();
    }
}
