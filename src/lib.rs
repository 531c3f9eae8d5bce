//! MQTT-Handler: sends every measurement of a Redis stream over MQTT, with confirmation, and
//! executes a few remote commands.
//!
//! The promise is in the section "Delivery" of the README: at least once, in order, nothing
//! lost. Everything below serves it.
//!
//! # Layout
//! What decides is pure and knows no I/O; what does I/O is thin.
//!
//! * `config`: the INI file and the environment, checked, as one type; `cli`: the options;
//!   `logging`: the form of the log.
//! * `stream_id`, `topic`, `measurement`: the forms of things: IDs and cursors, topics, the
//!   JSON lists.
//! * `settings`, `delivery`, `ledger`, `backoff`: the decisions: what is in force, what may be
//!   confirmed and how large a list may be, what got lost, how long to wait. `command`: what a
//!   remote side may ask for.
//! * `store`: every command to Redis; below it `wire` and `reply`, the connection and the bytes
//!   on it, and `page`, a piece of the stream as it came. `mqtt`: every call of the MQTT library,
//!   `tls`: its failures in words. `net`: the way to both. `supervisor`: the one call to balena.
//! * `status`: the one record that the service tells about itself; `announcer`: on its topic;
//!   `report`: `--status`. `check`: `--check`.
//! * `poller`, `publisher`, `dispatcher`: the threads. `threads`: who watches them. `shutdown`:
//!   how they are asked to stop.
//!
//! ```text
//! Redis ──► poller ──── Letter ───► publisher ──► Paho ──► broker
//!              ▲                     │  ▲  │
//!              └─────── Event ───────┘  │  └─── Incoming ──► dispatcher ──► Redis,
//!                                       └────── Letter ──────────┘          supervisor
//! ```

mod announcer;
pub mod backoff;
pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod delivery;
mod dispatcher;
pub mod ledger;
pub mod logging;
pub mod measurement;
pub mod mqtt;
mod net;
mod poller;
mod publisher;
pub mod report;
pub mod settings;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod stream_id;
mod supervisor;
mod threads;
mod tls;
pub mod topic;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crossbeam_channel::bounded;
use log::{info, warn};

use config::Config;
use dispatcher::Dispatcher;
use poller::Poller;
use publisher::Publisher;
use shutdown::Shutdown;
use status::Status;
use threads::{Failure, Pulse, STALLED, Threads};

/// Runs the service until `shutdown` is requested.
///
/// # Errors
/// A thread that cannot be started, ends by itself or hangs.
pub fn run(config: &Config, shutdown: &Shutdown) -> Result<(), Failure> {
    log_start(config);
    let (letters, measurements) = bounded(1);
    let (replies_tx, replies) = bounded(1);
    let (events_tx, events) = bounded(16);
    let (inbox, commands) = dispatcher::inbox();
    let status = Status::new();
    let maximum_payload = Arc::new(AtomicUsize::new(usize::MAX));
    let [publishing, polling, dispatching] = [Pulse::default(), Pulse::default(), Pulse::default()];
    let publisher = Publisher::new(
        config,
        publisher::Channels {
            measurements,
            replies,
            poller: events_tx.clone(),
            inbox: inbox.clone(),
            maximum_payload: maximum_payload.clone(),
        },
        shutdown.clone(),
        publishing.clone(),
        status.clone(),
    );
    let poller = Poller::new(
        config,
        letters,
        (events_tx.clone(), events),
        shutdown.clone(),
        polling.clone(),
        status,
    );
    let dispatcher = Dispatcher::new(
        config,
        dispatcher::Channels {
            inbox,
            commands,
            replies: replies_tx,
            poller: events_tx,
            poller_client: poller.client_id(),
            maximum_payload,
        },
        shutdown.clone(),
        dispatching.clone(),
    );
    let mut threads = Threads::default();
    threads.spawn("publisher", publishing, move || publisher.run())?;
    threads.spawn("poller", polling, move || poller.run())?;
    threads.spawn("dispatcher", dispatching, move || dispatcher.run())?;
    threads.supervise(shutdown, STALLED)
}

fn log_start(config: &Config) {
    info!("mqtt-handler {} starts", env!("CARGO_PKG_VERSION"));
    let settings: Vec<String> = config
        .effective
        .iter()
        .map(|value| {
            format!(
                "{}.{}={:?}",
                value.key.section,
                value.key.name,
                value.shown()
            )
        })
        .collect();
    info!("settings: {}", settings.join(" "));
    for warning in &config.warnings {
        warn!("{warning}");
    }
}
