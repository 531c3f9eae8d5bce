//! The wish to stop, as a channel: it is closed when the program is to end.
//!
//! Every thread can wait for it together with its other channels, and none can miss it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

/// How long what is in flight may still take.
pub const GRACE: Duration = Duration::from_secs(5);

/// The receiving side; clones see the same.
#[derive(Clone)]
pub struct Shutdown(Receiver<Infallible>);

/// Dropping it asks for the end.
pub struct Trigger(#[allow(dead_code, reason = "it only has to be dropped")] Sender<Infallible>);

/// A new pair.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = bounded(0);
    (Trigger(sender), Shutdown(receiver))
}

impl Shutdown {
    pub fn requested(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// For `select!`: becomes ready, with an error, when the end is asked for.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.0
    }

    /// Sleeps, and returns early with `true` when the end is asked for.
    pub fn sleep(&self, duration: Duration) -> bool {
        matches!(
            self.0.recv_timeout(duration),
            Err(RecvTimeoutError::Disconnected)
        )
    }
}

/// A time limit that begins when the end is first noticed.
pub struct Grace {
    shutdown: Shutdown,
    length: Duration,
    since: Option<Instant>,
}

impl Grace {
    pub fn new(shutdown: &Shutdown, length: Duration) -> Grace {
        Grace {
            shutdown: shutdown.clone(),
            length,
            since: None,
        }
    }

    /// Whether the end was asked for and the time since then is over.
    pub fn is_over(&mut self) -> bool {
        if self.since.is_none() && self.shutdown.requested() {
            self.since = Some(Instant::now());
        }
        self.since
            .is_some_and(|since| since.elapsed() >= self.length)
    }
}
