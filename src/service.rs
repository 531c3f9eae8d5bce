//! The threads, and what goes between them.

mod announcement;
mod board;
mod dispatcher;
mod messages;
mod poller;
mod publisher;
mod rules;
pub mod shutdown;
mod tell;
mod threads;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crossbeam_channel::bounded;

use crate::config::Config;
// Public for the test that holds the Redis of the simulation against a real one.
pub use board::Board;
use dispatcher::Dispatcher;
use messages::Slot;
use poller::Poller;
pub use poller::Requests;
use publisher::Publisher;
use shutdown::Shutdown;
use threads::{Failure, Pulse, STALLED, Threads};

/// Runs the service until `shutdown` is requested.
///
/// # Errors
/// A thread that cannot be started, ends by itself or hangs.
pub fn run(config: &Config, shutdown: &Shutdown) -> Result<(), Failure> {
    let (letters, measurements) = bounded(1);
    let (replies, replies_out) = bounded(1);
    let (answers, answers_out) = bounded(1);
    let (events, events_out) = bounded(16);
    let (inbox, commands) = dispatcher::inbox();
    let latest = Slot::new();
    let board = Board::default();
    let maximum_payload = Arc::new(AtomicUsize::new(usize::MAX));
    let [publishing, polling, dispatching]: [Pulse; 3] = Default::default();
    let publisher = Publisher::new(
        config,
        publisher::PublisherChannels {
            measurements,
            commands: replies_out,
            latest: latest.clone(),
            poller: events.clone(),
            dispatcher: answers,
            inbox: inbox.clone(),
            maximum_payload: maximum_payload.clone(),
        },
        (shutdown.clone(), publishing.clone()),
        board.clone(),
    );
    let requests = Requests::new(config);
    let poller_client = requests.client_id();
    let channels = (letters, latest, events_out);
    let watched = (shutdown.clone(), polling.clone());
    let poller = Poller::new(config, requests, channels, watched, board.clone());
    let dispatcher = Dispatcher::new(
        config,
        dispatcher::DispatcherChannels {
            inbox,
            commands,
            replies,
            answers: answers_out,
            poller: events,
            poller_client,
            maximum_payload,
        },
        (shutdown.clone(), dispatching.clone()),
        board,
    );
    let mut threads = Threads::default();
    threads.spawn("publisher", publishing, move || publisher.run())?;
    threads.spawn("poller", polling, move || poller.run())?;
    threads.spawn("dispatcher", dispatching, move || dispatcher.run())?;
    threads.supervise(shutdown, STALLED)
}
