//! `--check`: the effective configuration, and whether the servers can be reached with it.
//!
//! Nothing is published and nothing is written. The broker is visited under a client ID of its
//! own, so that a running service is not thrown out.

use crate::config::{Config, Origin, Value};
use crate::mqtt::Broker;
use crate::store::{Store, StoreError, StreamState};

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
fn setting(value: &Value, file: &str) -> String {
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
    println!("  ok    Redis: version {}", store.version()?);
    match store.stream()? {
        StreamState::Absent => println!("  ok    Redis: measurement:values does not exist yet"),
        StreamState::Present { length, .. } => {
            println!("  ok    Redis: measurement:values has {length} entries")
        }
    }
    match store.get(crate::store::LAST_ID)? {
        None => println!("  ok    Redis: there is no mqtt_sender:last_id, everything will be sent"),
        Some(cursor) => {
            let verdict = if crate::model::settings::parse_last_id(&cursor).is_ok() {
                "ok  "
            } else {
                "warn"
            };
            println!("  {verdict}  Redis: mqtt_sender:last_id is {cursor:?}");
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
    Ok(())
}

fn broker(config: &Config) -> Result<(), String> {
    let mut mqtt = config.mqtt.clone();
    mqtt.client_id += "-check";
    let mut broker = Broker::new(&mqtt, None, 0);
    let first = broker.next_version();
    let connection = match broker.connect(|_| {}) {
        // The fall-back to the older protocol.
        Err(_) if broker.next_version() != first => broker.connect(|_| {}),
        result => result,
    };
    let mut connection = connection.map_err(|error| error.reason)?;
    println!(
        "  ok    broker: connected to {}:{} ({})",
        mqtt.host,
        mqtt.port,
        connection.protocol()
    );
    for filter in &mqtt.topics.commands {
        connection.subscribe(filter).map_err(|reason| {
            format!(
                "the subscription to {filter:?} was refused: {reason} (see the ACL of the broker)"
            )
        })?;
        println!("  ok    broker: subscribed to {filter:?}");
    }
    connection.close();
    Ok(())
}
