//! `make matrix`: the same conversation with every broker and every Redis that the package
//! registries carry, and the table of what came out. `ONLY=words` takes the rows whose name holds
//! one of them, separated by commas.

mod brokers;
mod conversation;
mod running;
mod servers;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use brokers::{BROKERS, Broker, Place};
use conversation::{About, Conversation, Report};
use running::Running;
use servers::SERVERS;
use site::Site;
use support::Redis;
use table::{Outcome, Row};

fn main() {
    let only = std::env::var("ONLY").unwrap_or_default().to_lowercase();
    let wanted = |name: &str| {
        let name = name.to_lowercase();
        only.split(',').any(|word| name.contains(word.trim()))
    };
    let site = Site::new();
    let mut rows = Vec::new();
    for broker in BROKERS.iter().filter(|broker| wanted(broker.name)) {
        let version = (broker.install)(&site);
        rows.push(row(About::Broker, broker.name, version, || {
            converse(&site, broker, None)
        }));
    }
    for server in SERVERS.iter().filter(|server| wanted(server.name)) {
        let installed = (server.install)(&site);
        let program = installed.clone().map(|(program, _)| program);
        let version = installed.map(|(_, version)| version);
        rows.push(row(About::Redis, server.name, version, || {
            converse(&site, &BROKERS[0], Some(&program?))
        }));
    }
    let table = table::of(&rows);
    println!("\n{table}");
    std::fs::write(site.path("table.md"), &table).expect("table.md");
    let faults = rows.iter().map(Row::faults).sum::<usize>();
    assert!(faults == 0, "{faults} faults, see above");
}

fn row(
    about: About,
    name: &'static str,
    version: Result<String, String>,
    converse: impl FnOnce() -> Result<Report, String>,
) -> Row {
    let (version, outcome) = match version {
        Err(reason) => (String::new(), Outcome::NotToBeHad(reason)),
        Ok(version) => {
            println!("{name} {version} …");
            let outcome = match catch_unwind(AssertUnwindSafe(converse)) {
                Ok(Ok(report)) => Outcome::Held(Box::new(report)),
                Ok(Err(reason)) => Outcome::NotToBeHad(reason),
                Err(panic) => Outcome::Broken(words(panic.as_ref())),
            };
            (version, outcome)
        }
    };
    let row = Row {
        about,
        name,
        version,
        outcome,
    };
    println!("{row}");
    row
}

/// `Err`: this broker does not start here.
fn converse(site: &Site, broker: &Broker, redis: Option<&Path>) -> Result<Report, String> {
    let place = Place::new(site, &broker.name.replace([' ', ','], "-"))?;
    (broker.install)(site)?;
    let broker = Running::start(broker, place)?;
    let (about, redis) = match redis {
        Some(program) => (About::Redis, Redis::start_program(program, &[])),
        None => (About::Broker, Redis::start(&[])),
    };
    Ok(Conversation::new(broker, redis).hold(about))
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic")
        .lines()
        .next()
        .unwrap_or_default()
        .to_string()
}
