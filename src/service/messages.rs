//! What goes between the threads.
//!
//! ```text
//! poller ── Letter ──► publisher ◄── Letter ── dispatcher
//!   ▲                   │     │                   │  ▲
//!   └────── Event ──────┘     └──── Delivered ────┼──┘
//!   └────── Event ────────────────────────────────┘
//! ```

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::link::Letter;
use crate::model::failure::Undelivered;

/// The answer to a message that was handed to the publisher.
pub type Delivered = Result<(), Undelivered>;

/// What the poller is told.
#[derive(Debug)]
pub enum Event {
    /// There is a connection to the broker. `limit`: bytes of the payload of one list there.
    LinkUp { link: u64, limit: usize },
    /// It has ended; what was in flight was answered before. `idle`: nothing was.
    LinkDown { idle: bool },
    /// The link's part of the status has changed.
    LinkNoted,
    /// The answer to the list in flight.
    Delivered(Delivered),
    /// The settings in Redis have changed.
    Wake,
    /// Nothing new is to begin for a while; tell when nothing is in flight and the cursor is
    /// saved.
    Quiesce(Sender<()>),
    /// It may go on.
    Resume,
}

/// The newest measurement on its way from the poller to the publisher. Both hold all of it, so
/// that it never counts as closed.
#[derive(Clone)]
pub struct Slot(Sender<Latest>, Receiver<Latest>);

/// With the time until the next.
type Latest = (Letter, Duration);

impl Slot {
    pub fn new() -> Slot {
        let (sender, receiver) = bounded(1);
        Slot(sender, receiver)
    }

    /// A letter that nobody has taken yet makes room for a newer one.
    pub fn put(&self, letter: Latest) {
        drop(self.1.try_recv());
        drop(self.0.try_send(letter));
    }

    pub fn receiver(&self) -> &Receiver<Latest> {
        &self.1
    }
}
