//! What the bridge tells: every line of the log about measurements, as a value.

mod catalogue;
mod progress;

use std::fmt;
use std::time::Duration;

use crate::model::notice::Level;
use crate::model::settings;
use crate::model::stream_id::StreamId;

pub use catalogue::catalogue;

const VALUES: &str = "measurement:values";
const LAST_ID: &str = "mqtt_sender:last_id";
const DEAD_LETTER: &str = "mqtt_sender:dead_letter";

/// One line for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    RedisConnected,
    RedisLost {
        reason: String,
        wait: Duration,
    },
    /// Redis answers, but not this.
    RedisRefuses {
        what: &'static str,
        reason: String,
    },
    RedisIsOld,
    Hazard(String),
    Setting(settings::Notice),
    Cursor {
        /// The program has just begun.
        at_start: bool,
        /// What the key holds, in words.
        stored: String,
        after: StreamId,
    },
    CursorGone,
    SecondInstance,
    CursorRefused(String),
    Sending {
        count: usize,
        first: StreamId,
        last: StreamId,
        bytes: usize,
    },
    /// `None`: why, the end of the connection tells.
    NotConfirmed(Option<String>),
    NotAccepted {
        topic: String,
        reason: String,
        wait: Duration,
    },
    Lost {
        count: u64,
        after: StreamId,
        upto: Option<StreamId>,
    },
    StreamGone {
        count: u64,
        after: StreamId,
    },
    StreamAnew {
        newest: StreamId,
        cursor: StreamId,
        lost: u64,
    },
    /// The stream that was left last is there again, and so is what was told as lost with it.
    StreamBack {
        after: StreamId,
        told: u64,
    },
    /// Measurements that were read once and are gone now.
    LostInFlight(u64),
    FurtherLosses(Loss),
    DeadLetter {
        id: StreamId,
        reason: String,
    },
    CopyRefused {
        id: StreamId,
        reason: String,
    },
    PoisonGone(StreamId),
    TooManyUncopied(usize),
    TrimRefused(String),
    NotUtf8,
    DoubleField,
    LatestTooLarge(StreamId),
    CatchingUp {
        sent: u64,
        left: Option<u64>,
        per_second: f64,
        /// Until it is done.
        seconds: Option<u64>,
    },
    /// More comes in than the configured rate lets out, both in measurements a second.
    TooSlow {
        comes: f64,
        goes: f64,
    },
    CaughtUp(u64),
    BufferFills {
        percent: f64,
        /// At the present rate; `None`: it does not fill at present.
        full_in: Option<Duration>,
    },
    Stopped(String),
}

/// What several losses are together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub measurements: u64,
    pub times: u64,
    /// Between these IDs, where they are known.
    pub range: Option<(StreamId, StreamId)>,
}

impl Loss {
    pub fn and(self, other: &Loss) -> Loss {
        let range = match (self.range, other.range) {
            (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
            (one, two) => one.or(two),
        };
        Loss {
            measurements: self.measurements + other.measurements,
            times: self.times + other.times,
            range,
        }
    }
}

impl Notice {
    /// The loss that it tells of, where somebody else can cause one after the other.
    pub fn loss(&self) -> Option<Loss> {
        let (measurements, range) = match *self {
            Notice::Lost { count, after, upto } => (count, Some((after, upto.unwrap_or(after)))),
            Notice::StreamGone { count, after } => (count, Some((after, after))),
            Notice::StreamAnew { lost, cursor, .. } => (lost, Some((cursor, cursor))),
            Notice::LostInFlight(count) => (count, None),
            _ => return None,
        };
        Some(Loss {
            measurements,
            times: 1,
            range,
        })
    }

    pub fn level(&self) -> Level {
        match self {
            Notice::Sending { .. } => Level::Debug,
            Notice::RedisConnected
            | Notice::RedisIsOld
            | Notice::Setting(settings::Notice::Changed(_))
            | Notice::Cursor { .. }
            | Notice::NotConfirmed(_)
            | Notice::CatchingUp { .. }
            | Notice::CaughtUp(_)
            | Notice::Stopped(_) => Level::Info,
            Notice::RedisLost { .. }
            | Notice::RedisRefuses { .. }
            | Notice::Hazard(_)
            | Notice::Setting(settings::Notice::Unusable(_))
            | Notice::CursorGone
            | Notice::SecondInstance
            | Notice::StreamBack { .. }
            | Notice::StreamAnew { lost: 0, .. }
            | Notice::TrimRefused(_)
            | Notice::TooSlow { .. }
            | Notice::NotUtf8
            | Notice::DoubleField
            | Notice::LatestTooLarge(_) => Level::Warn,
            Notice::BufferFills { percent, .. } if *percent < 95.0 => Level::Warn,
            Notice::CursorRefused(_)
            | Notice::NotAccepted { .. }
            | Notice::Lost { .. }
            | Notice::StreamGone { .. }
            | Notice::StreamAnew { .. }
            | Notice::LostInFlight(_)
            | Notice::FurtherLosses(_)
            | Notice::DeadLetter { .. }
            | Notice::CopyRefused { .. }
            | Notice::PoisonGone(_)
            | Notice::TooManyUncopied(_)
            | Notice::BufferFills { .. } => Level::Error,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Setting(settings::Notice::Changed(text) | settings::Notice::Unusable(text)) => {
                write!(f, "{text}")
            }
            Notice::Sending {
                count,
                first,
                last,
                bytes,
            } => write!(
                f,
                "sending {count} measurements, {first} to {last}, {bytes} bytes"
            ),
            Notice::NotConfirmed(reason) => {
                let what = "the list in flight was not confirmed and will be sent again";
                match reason {
                    Some(reason) => write!(f, "{what}: {reason}"),
                    None => write!(f, "{what}"),
                }
            }
            Notice::NotAccepted {
                topic,
                reason,
                wait,
            } => write!(
                f,
                "measurements are not accepted on {topic:?}: {reason}; next attempt in {:.1} s",
                wait.as_secs_f64()
            ),
            Notice::NotUtf8 => write!(
                f,
                "a measurement holds bytes that are no UTF-8; they are sent as U+FFFD (told once)"
            ),
            Notice::DoubleField => write!(
                f,
                "a measurement holds a field twice; the last value is sent (told once)"
            ),
            Notice::LatestTooLarge(id) => write!(
                f,
                "the newest measurement {id} has more than 64 KiB and is left out on mqtt.topic_latest (told once)"
            ),
            Notice::CatchingUp { .. }
            | Notice::TooSlow { .. }
            | Notice::CaughtUp(_)
            | Notice::BufferFills { .. } => self.write_progress(f),
            _ => self.write_redis(f),
        }
    }
}

impl Notice {
    fn write_redis(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::RedisConnected => write!(f, "connected to Redis"),
            Notice::RedisLost { reason, wait } => write!(
                f,
                "Redis: {reason}; next attempt in {:.1} s",
                wait.as_secs_f64()
            ),
            Notice::RedisRefuses { what, reason } => {
                write!(
                    f,
                    "Redis refuses {what}: {reason}; what it refuses is asked for again"
                )
            }
            Notice::RedisIsOld => write!(
                f,
                "this Redis is older than 7: measurements that others remove before they are sent cannot be counted"
            ),
            Notice::Hazard(what) => write!(f, "measurements are at risk: {what}"),
            _ => self.write_cursor(f),
        }
    }

    fn write_cursor(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Cursor {
                at_start,
                stored,
                after,
            } => {
                let how = if *at_start {
                    "the cursor"
                } else {
                    "the cursor was set from outside"
                };
                write!(f, "{how}: {stored}; measurements after {after} are sent")
            }
            Notice::CursorGone => write!(
                f,
                "{LAST_ID} is gone: everything in the stream is sent again"
            ),
            Notice::SecondInstance => write!(
                f,
                "somebody else keeps moving {LAST_ID}: is a second instance running?"
            ),
            Notice::CursorRefused(reason) => write!(
                f,
                "Redis does not store the cursor: {reason}; after a restart measurements from here on are sent again"
            ),
            Notice::Stopped(cursor) => write!(f, "stopped; the cursor is {cursor:?}"),
            Notice::TrimRefused(reason) => write!(
                f,
                "Redis does not trim the stream (main.keep_sent): {reason}"
            ),
            _ => self.write_loss(f),
        }
    }

    fn write_loss(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Lost { count, after, upto } => {
                let upto = upto.map_or("the end".to_string(), |id| id.to_string());
                write!(
                    f,
                    "{count} measurements were removed from {VALUES} before they were sent, between {after} and {upto}: trimmed or deleted by somebody else"
                )
            }
            Notice::LostInFlight(count) => write!(
                f,
                "{count} measurements were read, not confirmed, and are gone from {VALUES}: deleted by somebody else"
            ),
            Notice::FurtherLosses(loss) => write!(
                f,
                "{} more measurements are gone from {VALUES} before they were sent, in {} further steps{}",
                loss.measurements,
                loss.times,
                loss.range.map_or(String::new(), |(from, to)| format!(
                    " between {from} and {to}"
                ))
            ),
            _ => self.write_stream(f),
        }
    }

    fn write_stream(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::StreamGone { count, after } => write!(
                f,
                "{VALUES} was deleted or evicted with at least {count} measurements after {after} that were not sent"
            ),
            Notice::StreamAnew {
                newest,
                cursor,
                lost,
            } => {
                write!(f, "{VALUES} was written anew with IDs up to {newest}")?;
                if newest < cursor {
                    write!(f, ", below the cursor {cursor}")?;
                }
                if *lost > 0 {
                    write!(f, ", and {lost} measurements that were not sent are gone")?;
                }
                write!(f, ": it is sent from its start")?;
                if newest < cursor {
                    write!(f, " (is the clock of the device right?)")?;
                }
                Ok(())
            }
            Notice::StreamBack { after, told } => {
                write!(f, "{VALUES} is there again")?;
                if *told > 0 {
                    write!(
                        f,
                        ", and {told} measurements with it that were told as lost"
                    )?;
                }
                write!(f, ": it is sent on behind {after}")
            }
            _ => self.write_poison(f),
        }
    }

    fn write_poison(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::DeadLetter { id, reason } => write!(
                f,
                "the measurement {id} is refused by the broker and was copied to {DEAD_LETTER}: {reason}"
            ),
            Notice::CopyRefused { id, reason } => write!(
                f,
                "the measurement {id} is refused by the broker and cannot be copied to {DEAD_LETTER}: {reason}; the stored cursor stays before it, what lies behind is sent"
            ),
            Notice::PoisonGone(id) => write!(
                f,
                "the measurement {id} is refused by the broker and is gone from {VALUES}: it cannot be copied to {DEAD_LETTER}"
            ),
            Notice::TooManyUncopied(count) => write!(
                f,
                "{count} measurements are refused by the broker and cannot be copied to {DEAD_LETTER}: nothing more is sent until they can"
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
