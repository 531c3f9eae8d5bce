//! MQTT-Handler: sends every measurement of a Redis stream over MQTT, with confirmation, and
//! executes a few remote commands.
//!
//! The promise is in the section "Delivery" of the README: at least once, in order, nothing
//! lost. Everything below serves it.
//!
//! # Layout
//! What decides is pure and knows no I/O; what does I/O is thin.
//!
//! * `config`: the INI file and the environment, checked, as one type; `cli`: the options.
//! * `stream_id`, `topic`, `measurement`: the forms of things: IDs and cursors, topics, the
//!   JSON lists.
//! * `settings`, `delivery`, `backoff`: the decisions: what is in force, what may be confirmed
//!   and how large a list may be, how long to wait. `command`: what a remote side may ask for.
//! * `store`: every command to Redis. `mqtt`: every call of the MQTT library. `supervisor`: the
//!   one call to balena.
//! * `poller`, `publisher`, `dispatcher`: the threads. `shutdown`: how they are asked to stop.
//!
//! ```text
//! Redis ──► poller ──── Letter ───► publisher ──► Paho ──► broker
//!              ▲                     │  ▲  │
//!              └─────── Event ───────┘  │  └─── Incoming ──► dispatcher ──► Redis,
//!                                       └────── Letter ──────────┘          supervisor
//! ```

pub mod backoff;
pub mod cli;
pub mod command;
pub mod config;
pub mod delivery;
pub mod measurement;
mod dispatcher;
mod mqtt;
mod poller;
mod publisher;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod stream_id;
mod supervisor;
pub mod topic;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{error, info, warn};

use config::Config;
use dispatcher::Dispatcher;
use poller::Poller;
use publisher::Publisher;
use shutdown::{GRACE, Shutdown};

/// Why the service ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the thread {0} ended unexpectedly; the process ends, so that it is started anew")]
    ThreadEnded(String),
    #[error("the thread {0} cannot be started: {1}")]
    Spawn(&'static str, std::io::Error),
}

/// Runs the service until `shutdown` is requested.
///
/// # Errors
/// A thread that cannot be started, or that ends by itself.
pub fn run(config: &Config, shutdown: &Shutdown) -> Result<(), Failure> {
    log_start(config);
    let (letters, measurements) = bounded(1);
    let (replies_tx, replies) = bounded(1);
    let (events_tx, events) = bounded(16);
    let (inbox, commands) = dispatcher::inbox();
    let maximum_payload = Arc::new(AtomicUsize::new(usize::MAX));
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
    );
    let poller = Poller::new(config, letters, events, events_tx.clone(), shutdown.clone());
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
    );
    let mut threads = Threads::new();
    threads.spawn("publisher", move || publisher.run())?;
    threads.spawn("poller", move || poller.run())?;
    threads.spawn("dispatcher", move || dispatcher.run())?;
    threads.supervise(shutdown)
}

fn log_start(config: &Config) {
    info!("mqtt-handler {} starts", env!("CARGO_PKG_VERSION"));
    let settings: Vec<String> = config
        .effective
        .iter()
        .map(|value| format!("{}.{}={:?}", value.key.section, value.key.name, value.shown()))
        .collect();
    info!("settings: {}", settings.join(" "));
    for warning in &config.warnings {
        warn!("{warning}");
    }
}

/// The threads of the service, with their names, and the news of their end.
struct Threads {
    running: Vec<(&'static str, JoinHandle<()>)>,
    ended_tx: Sender<String>,
    ended: Receiver<String>,
}

/// Reports the end of its thread, a panic included.
struct EndNotice(&'static str, Sender<String>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        drop(self.1.send(self.0.to_string()));
    }
}

impl Threads {
    fn new() -> Threads {
        let (ended_tx, ended) = bounded(8);
        Threads { running: Vec::new(), ended_tx, ended }
    }

    fn spawn(&mut self, name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let notice = EndNotice(name, self.ended_tx.clone());
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let _notice = notice;
            run();
        });
        self.running.push((name, thread.map_err(|error| Failure::Spawn(name, error))?));
        Ok(())
    }

    /// Waits for the wish to stop, and then a little longer than the threads allow themselves.
    fn supervise(self, shutdown: &Shutdown) -> Result<(), Failure> {
        crossbeam_channel::select! {
            recv(self.ended) -> name => {
                if !shutdown.requested() {
                    return Err(Failure::ThreadEnded(name.unwrap_or_default()));
                }
            }
            recv(shutdown.receiver()) -> _ => {}
        }
        info!("stopping");
        let deadline = Instant::now() + GRACE + Duration::from_millis(700);
        while self.running.iter().any(|(_, thread)| !thread.is_finished()) {
            if self.ended.recv_deadline(deadline).is_err() && Instant::now() >= deadline {
                let late: Vec<&str> =
                    self.running.iter().filter(|(_, thread)| !thread.is_finished()).map(|(name, _)| *name).collect();
                warn!("{} did not end in time; the cursor in Redis is what is confirmed", late.join(", "));
                return Ok(());
            }
        }
        for (name, thread) in self.running {
            if thread.join().is_err() {
                error!("the thread {name} panicked while stopping");
            }
        }
        Ok(())
    }
}
