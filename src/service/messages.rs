//! What goes between the threads.
//!
//! ```text
//! poller ── Letter ──► publisher ◄── Letter ── dispatcher
//!   ▲                   │     │                   │  ▲
//!   └────── Event ──────┘     └──── Delivered ────┼──┘
//!   └────── Event ────────────────────────────────┘
//! ```

use crossbeam_channel::Sender;

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
