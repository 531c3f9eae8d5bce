//! The lines that tell how a catch-up goes on and how full Redis is.

use std::fmt;

use super::Notice;
use crate::model::status::seconds as seconds_in_words;

impl Notice {
    pub(super) fn write_progress(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::CatchingUp {
                sent,
                left,
                per_second,
                seconds,
            } => {
                let left_words = left.map_or("an unknown number".to_string(), |n| n.to_string());
                write!(
                    f,
                    "catching up: {sent} measurements sent, {left_words} left, {per_second:.0} a second"
                )?;
                match seconds {
                    Some(seconds) => {
                        let time = seconds_in_words(*seconds);
                        write!(f, ", about {time} to go")
                    }
                    None => Ok(()),
                }
            }
            Notice::TooSlow { comes, goes } => write!(
                f,
                "more comes in than is sent, {comes:.1} against {goes:.1} measurements a second: what waits grows (see main.catch_up_bytes_per_second)"
            ),
            Notice::CaughtUp(sent) => {
                write!(f, "caught up: {sent} measurements sent since the start")
            }
            Notice::BufferFills { percent, full_in } => {
                write!(
                    f,
                    "Redis is {percent:.0} % full (maxmemory): when it is full, sensors are refused or measurements are evicted"
                )?;
                match full_in {
                    Some(time) => {
                        let time = seconds_in_words(time.as_secs());
                        write!(f, "; at the present rate that is in about {time}")
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
