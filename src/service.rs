//! The threads, and what goes between them.

mod announcer;
mod dispatcher;
mod poller;
mod publisher;
pub mod shutdown;
mod threads;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crossbeam_channel::bounded;

use crate::config::Config;
use crate::model::status::Status;
use dispatcher::Dispatcher;
use poller::Poller;
use publisher::Publisher;
use shutdown::Shutdown;
use threads::{Failure, Pulse, STALLED, Threads};

/// Runs the service until `shutdown` is requested.
///
/// # Errors
/// A thread that cannot be started, ends by itself or hangs.
pub fn run(config: &Config, shutdown: &Shutdown) -> Result<(), Failure> {
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
