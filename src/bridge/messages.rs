//! What goes into the bridge and what comes out of it.

use std::time::{Duration, Instant};

use super::notice::Notice;
use super::overview::View;
use crate::model::failure::Undelivered;
use crate::model::measurement::{Batch, BatchLimits, Oddities};
use crate::model::settings::{Raw, RawSettings};
use crate::model::stream::{Copied, Extent, Former, Look, Remembered, Saved, Sent, Stream};
use crate::model::stream_id::StreamId;

/// What has happened.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "an input lives for one call, and a page is the most frequent one"
)]
pub enum Input {
    /// The answer to what was asked of Redis last.
    Redis(Result<Answer, RedisFailure>),
    /// There is a connection to the broker. `limit`: bytes of the payload of one list there.
    LinkUp { link: u64, limit: usize },
    /// It has ended. `idle`: nothing was in flight on it.
    LinkDown { idle: bool },
    /// The link's part of the status has changed.
    LinkNoted,
    /// The answer to the list in flight.
    Delivered(Result<(), Undelivered>),
    /// The settings in Redis have changed.
    Wake,
    /// Nothing new is to begin for a while: the device is about to reboot.
    Quiesce,
    /// It may go on.
    Resume,
    /// The end is asked for.
    Stop,
}

/// Why Redis did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisFailure {
    /// No connection, or one that broke: nothing is known about the effect.
    Lost(String),
    /// Redis answered with an error.
    Refused(String),
}

/// What is to be done. All of it is done before the machine is asked again.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "an action lives for one turn, and requests are the most frequent ones"
)]
pub enum Action {
    Tell(Notice),
    /// What the status says of the measurements has changed.
    Show(Box<View>),
    /// One request to Redis; its answer comes back as the next input.
    Ask(Request),
    /// Hand a list over, for this connection only, and wait for its acknowledgement so long.
    Publish {
        link: u64,
        list: Batch,
        patience: Duration,
    },
    /// Hand the newest measurement over, for this connection only; nothing comes back.
    PublishLatest {
        link: u64,
        payload: Vec<u8>,
        /// From one to the next.
        pause: Duration,
    },
    /// Nothing is in flight and the cursor is saved: whoever asked for quiet may go on.
    Quiet,
    /// Wait for an input, at most until then.
    Wait(Instant),
    /// All is done; the thread can end.
    Done,
}

/// A request to Redis.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Connect,
    /// What Redis may lose by its own settings.
    Hazards,
    /// What an earlier run has left behind.
    Remember,
    Settings,
    /// The settings, the state of the stream and a list of at most `count` entries behind `after`.
    /// With `status`, in the same round trip: writes the status with this account, and asks for the
    /// memory of Redis.
    Page {
        after: StreamId,
        count: usize,
        limits: BatchLimits,
        status: Option<Save>,
    },
    /// The same as soon as there is an entry; without one, the state of the stream is not needed.
    Await {
        after: StreamId,
        count: usize,
        limits: BatchLimits,
        patience: Duration,
    },
    /// The state of the stream, and what waits behind `after`.
    Look {
        after: StreamId,
    },
    /// The newest entry of the stream.
    Newest,
    /// Counts a slice of the entries behind `after`, up to `last`.
    Count {
        after: StreamId,
        last: StreamId,
    },
    Save(Save),
    /// Copies a measurement that the broker refuses to the dead letters.
    Copy {
        id: StreamId,
        reason: String,
    },
    /// Trims a slice of what was sent, down to `keep` entries up to the cursor: only where the key
    /// still holds this cursor, the stream reaches up to it, has nothing older than `oldest`, and no
    /// fewer than `accounted` entries were ever added. Otherwise it is another stream, of which
    /// nothing was sent.
    Trim {
        sent: Sent,
        keep: u64,
    },
    /// Stores the account without moving the cursor.
    NoteAccount(Save),
    /// Writes the status, and the account where it is known.
    WriteStatus(Option<Save>),
}

/// The cursor to be stored, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// What the key holds as far as this program knows.
    pub expected: Raw,
    pub cursor: String,
    /// Entries ever added up to the cursor, where known.
    pub accounted: Option<u64>,
    /// The stream as it was seen last.
    pub seen: Option<Extent>,
    pub former: Option<Former>,
    /// Somebody else has set it.
    pub foreign: bool,
    /// Measurements lost and dead letters since ever.
    pub lost: u64,
    pub dead_letters: u64,
}

/// An answer of Redis.
#[derive(Debug)]
pub enum Answer {
    /// To `Connect`, `NoteAccount` and `WriteStatus`.
    Done,
    Hazards(Vec<String>),
    Remembered(Remembered),
    Settings(RawSettings),
    /// To `Page` and `Await`.
    Page(Page),
    Look(Look),
    /// `None`: the stream is empty.
    Newest(Option<Newest>),
    /// Entries in the slice and where it ends.
    Counted {
        count: u64,
        end: StreamId,
    },
    Saved(Saved),
    Copied(Copied),
    /// `more`: there is a further slice to trim.
    Trimmed {
        more: bool,
    },
}

/// A page of the stream, as the list that was made of it.
#[derive(Debug, Default)]
pub struct Page {
    pub settings: RawSettings,
    /// `None`: not asked for, or not of the same moment as the page.
    pub stream: Option<Stream>,
    /// Entries on the page, from the first one behind the place that was asked for.
    pub entries: usize,
    /// It reaches to the end of the stream.
    pub at_end: bool,
    /// The first entries, as many as fit into a list; `None`: the page is empty.
    pub list: Option<Batch>,
    /// The last entry, where it is wanted and the page reaches to the end of the stream.
    pub newest: Option<Newest>,
    pub oddities: Oddities,
    /// What became of the status, where it went along.
    pub written: Option<Written>,
}

/// What became of a status that was written along with a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Redis has refused it, and why.
    pub refused: Option<String>,
    /// Of `maxmemory`; `None`: there is no limit.
    pub used_percent: Option<f64>,
}

/// The newest entry of the stream, as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    pub id: StreamId,
    /// `None`: it is too large.
    pub payload: Option<Vec<u8>>,
}
