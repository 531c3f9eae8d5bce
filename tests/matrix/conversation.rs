//! One conversation, the same with every broker and every Redis: what a device, a broker and a back
//! end go through in a bad week, in a minute.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::brokers::{LIMIT, Place, Way};
use crate::running::Running;
use crate::support::receiver::first_arrivals;
use crate::support::stream::{dead_letters, status};
use crate::support::{Receiver, Redis, Service, holds_within};

pub const MEASUREMENTS: u64 = 100_000;
/// How many of them are sent before the rest is written.
const SENT_FIRST: u64 = 10;
/// How many have arrived when the broker is killed, and when the service is ended.
const BROKER_DIES: usize = 20_000;
const SERVICE_ENDS: usize = 60_000;
/// How fast they go until then, so that neither comes too late; the rest goes as fast as it can.
const PACE: (&str, &str) = ("CATCH_UP_BYTES_PER_SECOND", "1500000");
/// How many a command asks for once more.
const ASKED_FOR: usize = 5;

const REQUEST: &str = "iot-projekt/device/u1/request";
const BROADCAST: &str = "iot-projekt/device/broadcast/control";
const STATUS: &str = "iot-projekt/device/u1/status";
const CURSOR: &str = "mqtt_sender:last_id";

/// What the conversation has shown, a cell of the table each, and what must not be.
#[derive(Default)]
pub struct Report {
    pub speaks: String,
    pub delivery: String,
    pub killed: String,
    pub limit: String,
    pub password: String,
    pub forbidden: String,
    pub commands: String,
    pub backlog: String,
    pub faults: Vec<String>,
}

/// What a row of the table is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum About {
    Broker,
    Redis,
}

pub struct Conversation<'a> {
    pub broker: Running<'a>,
    pub redis: Redis,
    receiver: Receiver,
    settings: Vec<(&'static str, String)>,
    report: Report,
}

/// What could not go on.
type Stopped = String;

impl<'a> Conversation<'a> {
    pub fn new(broker: Running<'a>, redis: Redis) -> Conversation<'a> {
        let backend = Some(("backend", "secret"));
        let receiver = Receiver::start_as(broker.port(), &["iot-projekt/device/#"], backend);
        let settings = settings(&broker);
        Conversation {
            broker,
            redis,
            receiver,
            settings,
            report: Report::default(),
        }
    }

    /// All of it, as far as it goes; what is about Redis alone is left out or the other way round.
    pub fn hold(mut self, about: About) -> Report {
        if let Err(stopped) = self.steps(about) {
            self.report.faults.push(stopped);
        }
        self.report
    }

    fn steps(&mut self, about: About) -> Result<(), Stopped> {
        self.redis.fill(1, SENT_FIRST);
        if about == About::Broker {
            self.wrong_password()?;
            self.forbidden_topic()?;
        }
        for key in [CURSOR, "mqtt_sender:status"] {
            self.redis.command::<u64>(&["DEL", key]);
        }
        let retained = json!({"command": "set_config", "key": "retained", "value": "1"});
        self.receiver.publish(REQUEST, retained.to_string(), true);
        self.wait("the broker has the retained command", 10, |it| {
            !it.receiver.messages(REQUEST).is_empty()
        })?;
        let mut service = self.start(&[PACE]);
        let begun = Instant::now();
        self.wait("the service is connected", 90, |it| {
            it.connected(&service).is_some()
        })?;
        let took = begun.elapsed().as_secs();
        let protocol = self.connected(&service).unwrap_or_default();
        self.report.speaks = match took {
            0..=2 => protocol,
            seconds => format!("{protocol}, found after {seconds} s"),
        };
        self.talk()?;
        self.redis.set("mqtt_sender:enabled", "0");
        match about {
            About::Redis => self.count_backlog()?,
            About::Broker => {
                self.fill(SENT_FIRST + 1);
            }
        }
        self.flow(&mut service)?;
        let (ended, time) = service.terminate();
        self.demand(
            ended.success() && time < Duration::from_secs(6),
            "SIGTERM does not end it well",
        );
        self.look_at(&service);
        Ok(())
    }

    fn start(&self, more: &[(&'static str, &str)]) -> Service {
        let mut settings = self.settings.clone();
        settings.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_string())),
        );
        Service::between(self.redis.port, self.broker.service_port(), &settings)
    }

    /// The protocol of the last connection.
    fn connected(&self, service: &Service) -> Option<String> {
        let log = service.log();
        let mut lines = log.iter().filter(|line| line.contains(" connected to "));
        let line = lines.rfind(|line| line.contains("(MQTT "))?;
        let at = line.find("(MQTT ")?;
        Some(line[at + 6..].trim_end_matches(')').to_string())
    }

    fn wait(
        &mut self,
        what: &str,
        seconds: u64,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), Stopped> {
        match holds_within(Duration::from_secs(seconds), || condition(self)) {
            true => Ok(()),
            false => Err(format!("waited {seconds} s in vain until {what}")),
        }
    }

    fn demand(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.report.faults.push(otherwise.into());
        }
    }

    /// What no conversation may leave in the log.
    fn look_at(&mut self, service: &Service) {
        for line in service.log() {
            if line.contains("what it must not") {
                self.report.faults.push(line);
            }
        }
    }

    fn wrong_password(&mut self) -> Result<(), Stopped> {
        let service = self.start(&[("MQTT_PASSWORD", "wrong")]);
        let refused = |service: &Service| {
            service
                .log()
                .into_iter()
                .find(|line| line.contains("no connection to") && line.contains("next attempt in"))
        };
        holds_within(Duration::from_secs(60), || refused(&service).is_some());
        let line = refused(&service).unwrap_or_default();
        self.report.password =
            if line.contains("user name or password") || line.contains("does not authorize") {
                "told".into()
            } else if line.contains("closed before") {
                "closes without a word".into()
            } else {
                format!("not seen: {line}")
            };
        self.demand(
            self.redis.get(CURSOR).is_none(),
            "the cursor moved with a wrong password",
        );
        self.look_at(&service);
        Ok(())
    }

    fn forbidden_topic(&mut self) -> Result<(), Stopped> {
        if !self.broker.broker.rules {
            self.report.forbidden = "knows no such rules".into();
            return Ok(());
        }
        let service = self.start(&[("MQTT_TOPIC_VALUES", "forbidden/u1")]);
        let told = |service: &Service| service.count_log("measurements are not accepted on") > 0;
        let closed = |service: &Service| service.count_log("disconnected from") > 1;
        holds_within(Duration::from_secs(60), || {
            told(&service) || closed(&service) || self.redis.get(CURSOR).is_some()
        });
        let moved = self.redis.get(CURSOR).is_some();
        self.report.forbidden = match (moved, told(&service)) {
            (true, _) => "confirms and throws away".into(),
            (false, true) => "told, nothing lost".into(),
            (false, false) if closed(&service) => "closes, nothing lost".into(),
            (false, false) => "no answer, nothing lost".into(),
        };
        self.demand(
            dead_letters(&self.redis).is_empty(),
            "a forbidden topic made dead letters",
        );
        self.look_at(&service);
        Ok(())
    }

    /// Commands of every kind.
    fn talk(&mut self) -> Result<(), Stopped> {
        let hears = |it: &Self| it.ask(REQUEST, json!({"command": "none"}), 1).is_some();
        self.wait("commands are heard", 30, hears)?;
        let mut missing = self.unanswered();
        let before = self.receiver.replies().len();
        self.receiver.publish(REQUEST, "no JSON", false);
        let answered = || self.receiver.replies_from(before).iter().any(is_refusal);
        if !holds_within(Duration::from_secs(10), answered) {
            missing.push("what is no JSON");
        }
        let state = |it: &Self| {
            it.receiver
                .messages(STATUS)
                .last()
                .map(|last| last.payload.clone())
        };
        if !state(self).is_some_and(|last| String::from_utf8_lossy(&last).contains("online")) {
            missing.push("the status");
        }
        let missing = missing.join(", ");
        self.demand(missing.is_empty(), &format!("commands: {missing}"));
        // It looks like any other: nobody could tell.
        let unmarked = self.redis.get("retained").is_some();
        self.report.commands = match (missing.is_empty(), unmarked) {
            (false, _) => format!("not: {missing}"),
            (true, true) => "all, and a retained one, which comes without its mark".into(),
            (true, false) => "all".into(),
        };
        Ok(())
    }

    /// The kinds of command that are not answered as they should be.
    fn unanswered(&self) -> Vec<&'static str> {
        let text =
            |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_string();
        type Check<'c> = Box<dyn Fn(&Value) -> bool + 'c>;
        let redis = &self.redis;
        let asked: [(&'static str, &str, Value, Check<'_>); 9] = [
            (
                "set_config",
                REQUEST,
                json!({"command": "set_config", "key": "k", "value": "v"}),
                Box::new(|_| redis.get("k").as_deref() == Some("v")),
            ),
            (
                "get_config",
                REQUEST,
                json!({"command": "get_config", "key": "k"}),
                Box::new(|reply| text(reply, "value") == "v"),
            ),
            (
                "broadcast",
                BROADCAST,
                json!({"command": "get_config", "key": "k"}),
                Box::new(|reply| text(reply, "value") == "v"),
            ),
            (
                "get_status",
                REQUEST,
                json!({"command": "get_status"}),
                Box::new(|reply| reply["status"]["connected"] == true),
            ),
            (
                "send_measurements",
                REQUEST,
                json!({"command": "send_measurements", "count": ASKED_FOR}),
                Box::new(|reply| reply["count"].is_number()),
            ),
            (
                "cancel",
                REQUEST,
                json!({"command": "cancel"}),
                Box::new(|reply| reply["command"] == "cancel"),
            ),
            (
                "reboot",
                REQUEST,
                json!({"command": "reboot"}),
                Box::new(is_refusal),
            ),
            (
                "unknown",
                REQUEST,
                json!({"command": "dance"}),
                Box::new(is_refusal),
            ),
            (
                "get_config of a list",
                REQUEST,
                json!({"command": "get_config", "key": "list"}),
                Box::new(is_refusal),
            ),
        ];
        redis.command::<u64>(&["RPUSH", "list", "a"]);
        let mut missing = Vec::new();
        for (name, topic, request, check) in asked {
            let reply = self.ask(topic, request, 10);
            if !reply.is_some_and(|reply| check(&reply)) {
                missing.push(name);
            }
        }
        missing
    }

    /// Sends a command and gives the reply to it.
    fn ask(&self, topic: &str, mut request: Value, seconds: u64) -> Option<Value> {
        let id = format!("ask-{}", self.receiver.total_messages());
        request["id"] = json!(id);
        let before = self.receiver.replies().len();
        self.receiver.publish(topic, request.to_string(), false);
        let mut found = None;
        holds_within(Duration::from_secs(seconds), || {
            let replies = self.receiver.replies_from(before);
            found = replies.into_iter().find(|reply| reply["id"] == id.as_str());
            found.is_some()
        });
        found
    }

    /// What waits is counted: exactly up to 10,000 on any server, and beyond that where it can be.
    fn count_backlog(&mut self) -> Result<(), Stopped> {
        let mut told = Vec::new();
        for last in [SENT_FIRST + 9_999, SENT_FIRST + 10_000, SENT_FIRST + 10_001] {
            let newest = self.redis.command::<Vec<(String, Vec<String>)>>(&[
                "XREVRANGE",
                "measurement:values",
                "+",
                "-",
                "COUNT",
                "1",
            ]);
            let newest: u64 = newest[0].0.trim_end_matches("-0").parse().unwrap_or(0);
            self.redis.fill(newest + 1, last - newest);
            told.push(self.backlog(last - SENT_FIRST)?);
        }
        let extra = self.fill(SENT_FIRST + 10_002);
        told.push(self.backlog(MEASUREMENTS - SENT_FIRST + extra)?);
        self.report.backlog = told.join(", ");
        Ok(())
    }

    /// What is told when so many wait.
    fn backlog(&mut self, waiting: u64) -> Result<String, Stopped> {
        let exact = waiting.to_string();
        self.wait(&format!("a backlog of {waiting} is told"), 30, |it| {
            let told = status(&it.redis, "backlog");
            told == exact || waiting > 10_000 && told == "at least 10000"
        })?;
        Ok(status(&self.redis, "backlog"))
    }

    /// Where a broker has a limit, one measurement in the middle is above it.
    fn oversized(&self) -> bool {
        self.broker.broker.limited
    }

    /// All from this one on, and how many more than their IDs tell.
    fn fill(&self, first: u64) -> u64 {
        let middle = MEASUREMENTS / 2;
        self.redis.fill(first, middle + 1 - first);
        if self.oversized() {
            let value = "x".repeat(LIMIT * 3 / 2);
            let id = format!("{middle}-1");
            self.redis
                .command::<String>(&["XADD", "measurement:values", &id, "n", &value]);
        }
        self.redis.fill(middle + 1, MEASUREMENTS - middle);
        u64::from(self.oversized())
    }

    /// All measurements, with a broker that is killed and a service that is ended on the way.
    fn flow(&mut self, service: &mut Service) -> Result<(), Stopped> {
        self.redis.set("mqtt_sender:enabled", "1");
        self.wait("measurements flow", 120, |it| {
            it.receiver.distinct() >= BROKER_DIES
        })?;
        let subscribed = self.receiver.subscribed();
        self.broker.kill();
        holds_within(Duration::from_secs(2), || false);
        self.broker.start_again()?;
        let begun = self.receiver.distinct();
        self.wait("measurements flow again", 120, |it| {
            it.receiver.distinct() > begun
        })?;
        let forgotten = self.receiver.subscribed() > subscribed;
        let reached = self.cursor();
        self.wait("more of them flow", 240, |it| {
            it.receiver.distinct() >= SERVICE_ENDS
        })?;
        let (ended, time) = service.terminate();
        self.demand(
            ended.success() && time < Duration::from_secs(6),
            "SIGTERM does not end it well",
        );
        let resumed = self.cursor() < MEASUREMENTS;
        self.look_at(service);
        *service = self.start(&[]);
        self.wait("all are confirmed", 300, |it| it.cursor() >= MEASUREMENTS)?;
        self.account(service, forgotten, reached, resumed)
    }

    /// How far the broker has confirmed.
    fn cursor(&self) -> u64 {
        let cursor = self.redis.get(CURSOR).unwrap_or_default();
        let id = cursor.trim_start_matches('(').split('-').next();
        id.and_then(|id| id.parse().ok()).unwrap_or(0)
    }

    fn account(
        &mut self,
        service: &Service,
        forgotten: bool,
        reached: u64,
        resumed: bool,
    ) -> Result<(), Stopped> {
        let all =
            |it: &Self| it.receiver.distinct() as u64 >= MEASUREMENTS && it.missing().is_empty();
        holds_within(Duration::from_secs(20), || all(self));
        let order = first_arrivals(&self.receiver.ids());
        let in_order = order.windows(2).all(|pair| pair[0] < pair[1]);
        self.demand(in_order, "not in order");
        let missing = self.missing();
        // What it had confirmed and not yet passed on is gone with its memory; the service has
        // nothing to do with what was confirmed later.
        let late = missing.iter().filter(|id| **id > reached + 2000).count();
        self.demand(
            late == 0,
            &format!("{late} are missing that were sent after the broker was back"),
        );
        self.report.killed = match (missing.len(), forgotten) {
            (0, false) => "keeps the session, loses nothing".into(),
            (0, true) => "forgets the session of the back end".into(),
            (lost, false) => format!("keeps the session, loses what it holds ({lost})"),
            (lost, true) => {
                format!("forgets the session of the back end and what it holds ({lost})")
            }
        };
        let repeated = self.receiver.total() - self.receiver.distinct();
        self.report.delivery = format!("in order, {} repeated", repeated.saturating_sub(ASKED_FOR));
        self.demand(resumed, "all was sent before the service was ended");
        self.oversized_one();
        if let Some(first) = missing.first() {
            self.redis.set(CURSOR, &format!("{first}-0"));
            self.wait(
                "what was lost arrives after the cursor was set back",
                120,
                all,
            )?;
            self.wait("it is confirmed", 60, |it| it.cursor() >= MEASUREMENTS)?;
        }
        self.demand(
            status(&self.redis, "lost") == "0",
            "the service tells of losses",
        );
        self.look_at(service);
        Ok(())
    }

    /// Small ones that have not arrived.
    fn missing(&self) -> Vec<u64> {
        let mut arrived = vec![false; MEASUREMENTS as usize + 1];
        for (ms, seq) in self.receiver.ids() {
            if seq == 0 && ms <= MEASUREMENTS {
                arrived[ms as usize] = true;
            }
        }
        (1..=MEASUREMENTS)
            .filter(|id| !arrived[*id as usize])
            .collect()
    }

    fn oversized_one(&mut self) {
        let arrived = self.receiver.ids().contains(&(MEASUREMENTS / 2, 1));
        let copies = dead_letters(&self.redis).len();
        self.report.limit = match (self.oversized(), copies, arrived) {
            (false, _, _) => "no limit to be set".into(),
            (true, 1, false) => "dead letter".into(),
            (true, 0, true) => "arrives all the same".into(),
            (true, 0, false) => "confirms and throws away".into(),
            (true, copies, _) => format!("{copies} dead letters"),
        };
        self.demand(copies <= 1, "dead letters that the broker would have taken");
    }
}

fn is_refusal(reply: &Value) -> bool {
    reply["error"].is_string()
}

fn settings(broker: &Running) -> Vec<(&'static str, String)> {
    let mut settings: BTreeMap<&'static str, String> = BTreeMap::from([
        ("BALENA_DEVICE_UUID", "u1".into()),
        ("INTERVAL_SECONDS", "0.1".into()),
        ("MQTT_USERNAME", "device".into()),
        ("MQTT_PASSWORD", "secret".into()),
        ("MQTT_VERSION", broker.broker.protocol.into()),
        ("MQTT_TOPIC_STATUS", STATUS.into()),
        ("MQTT_ACK_TIMEOUT_SECONDS", "10".into()),
    ]);
    if broker.broker.way == Way::Tls {
        let Place { folder, .. } = &broker.place;
        settings.insert("MQTT_HOST", "localhost".into());
        settings.insert("MQTT_TLS_ENABLE", "True".into());
        settings.insert(
            "MQTT_TLS_CA_CERTS",
            folder.join("ca.pem").display().to_string(),
        );
    }
    settings.into_iter().collect()
}
