//! `--check`: the effective configuration, and whether the servers can be reached with it.
//!
//! Nothing is published and nothing is written. The broker is visited under a client ID of its
//! own, so that a running service is not thrown out.

use std::time::Duration;

use crate::config::{Config, Origin, Shown, Version};
use crate::model::connection::{Attempt, NoConnectionKind};
use crate::model::message::Protocol;
use crate::model::quote::Quoted;
use crate::model::settings::MAX_VALUE;
use crate::model::stream::Stream;
use crate::mqtt::Broker;
use crate::store::{self, ServerMemory, Store, StoreError, Within};

/// For each answer of the broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows everything on standard output; whether both servers can be reached and agree.
pub fn run(config: &Config, file: &str) -> bool {
    println!("Configuration:");
    for value in &config.effective {
        println!("  {}", setting(value, file));
    }
    for warning in &config.warnings {
        println!("warn  {warning}");
    }
    println!("Servers:");
    let redis = redis(config);
    if let Err(error) = &redis {
        println!("  fail  Redis: {error}");
    }
    let broker = broker(config);
    if let Err(reason) = &broker {
        println!("  fail  broker: {reason}");
    }
    redis.is_ok() && broker.is_ok()
}

/// One setting with its value and where it came from.
fn setting(value: &Shown, file: &str) -> String {
    let name = format!("{}.{}", value.key.section, value.key.name);
    let origin = match value.origin {
        Origin::Default => "default",
        Origin::File => file,
        Origin::Variable => value.key.variable,
    };
    format!("{name:26} {:40} ({origin})", format!("{:?}", value.shown()))
}

fn redis(config: &Config) -> Result<(), StoreError> {
    let mut store = Store::new(&config.redis, "mqtt-handler-check");
    let version = store.version()?;
    if let Some(why) = store::too_old(&version) {
        return Err(StoreError::Refused(why));
    }
    println!("  ok    Redis: version {version}");
    match store.stream()? {
        Stream::Absent => println!("  ok    Redis: measurement:values does not exist yet"),
        Stream::Present(extent) => {
            println!(
                "  ok    Redis: measurement:values has {} entries",
                extent.length
            )
        }
    }
    match store.get_within(store::LAST_ID, MAX_VALUE)? {
        Within::Missing => {
            println!("  ok    Redis: there is no mqtt_sender:last_id, everything will be sent")
        }
        Within::Longer => println!("  warn  Redis: mqtt_sender:last_id is longer than 1 KiB"),
        Within::Whole(cursor) => {
            let verdict = if crate::model::settings::parse_last_id(&cursor).is_ok() {
                "ok  "
            } else {
                "warn"
            };
            println!(
                "  {verdict}  Redis: mqtt_sender:last_id is {}",
                Quoted(&cursor)
            );
        }
    }
    let hazards = store.hazards()?;
    for hazard in &hazards {
        println!("  warn  Redis: {hazard}");
    }
    let policy = store.eviction_policy()?;
    if !policy.is_empty() && !hazards.iter().any(|hazard| hazard.contains(&policy)) {
        println!("  ok    Redis: maxmemory-policy {policy}");
    }
    memory(&mut store)
}

/// Whether the service can warn before Redis is full.
fn memory(store: &mut Store) -> Result<(), StoreError> {
    match store.memory()? {
        None => println!(
            "  warn  Redis: this user may not ask for its memory (ACL: +info), so nothing warns before it is full"
        ),
        Some(ServerMemory { limit: None, .. }) => println!(
            "  warn  Redis: there is no maxmemory: what is not sent yet may fill the memory of the device, and nothing warns before; set one, with maxmemory-policy noeviction"
        ),
        Some(ServerMemory {
            used,
            limit: Some(limit),
        }) => println!(
            "  ok    Redis: {} of {} MiB used (maxmemory)",
            used >> 20,
            limit >> 20
        ),
    }
    Ok(())
}

fn broker(config: &Config) -> Result<(), String> {
    let mut mqtt = config.mqtt.clone();
    mqtt.client_id += "-check";
    let broker = Broker::new(&mqtt, None, 0);
    let connect = |protocol| {
        let attempt = Attempt {
            protocol,
            keep_alive: mqtt.keep_alive,
            patience: PATIENCE,
            will: false,
        };
        broker.connect(&attempt, |_| {}, || false)
    };
    use NoConnectionKind::{Closed, OtherVersion, Silent};
    let connection = match mqtt.version {
        Version::V311 => connect(Protocol::V311),
        Version::V5 => connect(Protocol::V5),
        Version::Auto => connect(Protocol::V5).or_else(|error| match error.kind {
            OtherVersion | Closed | Silent => connect(Protocol::V311),
            _ => Err(error),
        }),
    };
    let connection = connection.map_err(|error| error.reason)?;
    println!(
        "  ok    broker: connected to {}:{} ({})",
        mqtt.host,
        mqtt.port,
        connection.protocol()
    );
    for filter in &mqtt.topics.commands {
        let subscribed = connection.subscribe(filter, PATIENCE, || false);
        subscribed.map_err(|error| {
            format!(
                "the subscription to {filter:?} was refused: {error} (see the ACL of the broker)"
            )
        })?;
        println!("  ok    broker: subscribed to {filter:?}");
    }
    connection.close();
    Ok(())
}
