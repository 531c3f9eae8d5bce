//! What goes into the link and what comes out of it.

use std::time::{Duration, Instant};

use super::notice::Notice;
use crate::model::connection::{Attempt, NoConnection, NotSubscribed};
use crate::model::failure::{Ended, Undelivered};
use crate::model::message::Message;

/// What has happened.
#[derive(Debug)]
pub enum Input {
    /// The attempt to connect has worked. `maximum_packet`: bytes, as the broker announces.
    /// `retains`: it keeps retained messages.
    Connected {
        maximum_packet: Option<usize>,
        retains: bool,
    },
    NotConnected(NoConnection),
    /// What became of a subscription within its time.
    Subscribed(Result<(), NotSubscribed>),
    /// The answer to one that was not waited for any longer.
    SubscribedLate {
        filter: String,
        result: Result<(), NotSubscribed>,
    },
    /// What became of the message that was to be published.
    Published(Result<(), Undelivered>),
    /// The connection has ended.
    Ended(Ended),
    /// A message to be published. Only where one is wanted.
    Offer(Origin, Letter),
    /// Nothing more will come from there.
    Closed(Origin),
    /// The newest measurement, in the place of the one before, and how long to wait for the next.
    Latest(Letter, Duration),
    /// The status record as it is now.
    Status(Announcement),
    /// The end is asked for.
    Stop,
}

/// Where a message comes from, and where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Measurements,
    Commands,
}

/// A message with what the link has to know about it.
#[derive(Clone, Debug)]
pub struct Letter {
    pub message: Message,
    /// For the acknowledgement; `None`: as configured.
    pub patience: Option<Duration>,
    /// Valid for this connection only; `None`: for any.
    pub link: Option<u64>,
}

/// The status as it goes to its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    pub payload: Vec<u8>,
    /// Equal as long as only numbers change that run all the time.
    pub state: String,
}

/// What is to be done. All of it is done before the machine is asked again.
#[derive(Debug)]
pub enum Action {
    Tell(Notice),
    /// The link's part of the status has changed.
    Show,
    /// Answered by `Connected` or `NotConnected`.
    Connect(Attempt),
    /// Answered by `Subscribed`. It is waited for only until a message is there to be offered.
    Subscribe {
        filter: String,
        patience: Duration,
    },
    /// Answered by `Published`.
    Publish {
        message: Message,
        patience: Duration,
    },
    /// Give the connection up.
    Close,
    Answer {
        origin: Origin,
        result: Result<(), Undelivered>,
    },
    /// There is a connection for measurements. `limit`: bytes of the payload of one list there.
    Up {
        link: u64,
        limit: usize,
    },
    /// There is none any more. `idle`: nothing was in flight on it.
    Down {
        idle: bool,
    },
    /// Wait for an input, at most until then.
    Wait(Instant),
    Done,
}
