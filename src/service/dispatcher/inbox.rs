//! The queue of commands that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::commands::limits::QUEUE;
use crate::model::message::Incoming;

/// What the library's callback and the dispatcher share.
#[derive(Clone)]
pub struct Inbox {
    queue: Sender<Incoming>,
    dropped: Arc<AtomicU64>,
}

impl Inbox {
    /// Never blocks.
    pub fn put(&self, message: Incoming) {
        if self.queue.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many messages did not fit since the last look.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// A new inbox with the side that the dispatcher reads.
pub fn inbox() -> (Inbox, Receiver<Incoming>) {
    let (queue, commands) = bounded(QUEUE);
    let dropped = Arc::default();
    (Inbox { queue, dropped }, commands)
}
