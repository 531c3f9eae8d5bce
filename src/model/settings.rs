//! The settings that other containers change in Redis while the program runs.
//!
//! Pure: turns what the three keys hold into what is in force, and says what changed. An
//! unusable value is told once and leaves the last good one in force.

use std::time::Duration;

use crate::model::quote::Quoted;
use crate::model::stream_id::{Cursor, StreamId};

/// Longer intervals are cut to this, about 31 years, so that no clock arithmetic overflows.
pub const MAX_INTERVAL_SECONDS: f64 = 1e9;

/// Shorter intervals are stretched to this: polling faster than that only burns the device.
/// Zero is something else, push mode.
pub const MIN_INTERVAL_SECONDS: f64 = 0.01;

/// Bytes of a key that are looked at; what is longer is unusable.
pub const MAX_VALUE: usize = 1 << 10;

/// The content of a Redis key, as it is: it must be possible to tell whether it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Raw {
    #[default]
    Missing,
    /// Up to `MAX_VALUE` bytes of UTF-8.
    Text(String),
    /// A string that is no text of that length: its first `MAX_VALUE` + 1 bytes, or all of it.
    Bytes(Vec<u8>),
    /// The key holds something that is no string, described here.
    Unusable(String),
}

impl Raw {
    /// From the first `MAX_VALUE` + 1 bytes of a string, or all of it where it is shorter.
    pub fn from_bytes(bytes: Vec<u8>) -> Raw {
        if bytes.len() > MAX_VALUE {
            return Raw::Bytes(bytes);
        }
        String::from_utf8(bytes).map_or_else(|error| Raw::Bytes(error.into_bytes()), Raw::Text)
    }

    /// The text in the key, `None` where there is none.
    ///
    /// # Errors
    /// Why it holds no text, in words, with the beginning of what it holds.
    pub fn text(&self) -> Result<Option<&str>, Unusable> {
        match self {
            Raw::Missing => Ok(None),
            Raw::Text(text) => Ok(Some(text)),
            Raw::Unusable(what) => Err(Unusable(what.clone())),
            Raw::Bytes(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let beginning = Quoted(&text);
                let why = if bytes.len() > MAX_VALUE {
                    "longer than 1 KiB"
                } else {
                    "no UTF-8"
                };
                Err(Unusable(format!("{beginning} is {why}")))
            }
        }
    }

    /// What it says as the cursor; where there is none, everything counts.
    ///
    /// # Errors
    /// Why it says nothing, in words.
    pub fn last_id(&self) -> Result<Cursor, Unusable> {
        let everything = Cursor::After(StreamId::ZERO);
        self.text()?.map_or(Ok(everything), parse_last_id)
    }
}

/// The three keys as read in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawSettings {
    pub enabled: Raw,
    pub interval: Raw,
    pub last_id: Raw,
}

/// A value that cannot be used, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// `mqtt_sender:enabled`: `0` is off, anything else is on.
pub fn parse_enabled(text: &str) -> bool {
    text.trim() != "0"
}

/// `mqtt_sender:interval`: seconds, an integer or a float, from 0; above 0 and below 0.01 counts
/// as 0.01.
///
/// # Errors
/// What is wrong with the value, in words.
pub fn parse_interval(text: &str) -> Result<Duration, Unusable> {
    match text.trim().parse::<f64>() {
        Ok(0.0) => Ok(Duration::ZERO),
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(Duration::from_secs_f64(
            seconds.clamp(MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS),
        )),
        _ => {
            let text = Quoted(text);
            Err(Unusable(format!("{text} is no number of seconds from 0")))
        }
    }
}

/// `mqtt_sender:last_id`: the cursor.
///
/// # Errors
/// What is wrong with the value, in words.
pub fn parse_last_id(text: &str) -> Result<Cursor, Unusable> {
    text.parse()
        .map_err(|error| Unusable(format!("{} is no cursor: {error}", Quoted(text))))
}

/// What is in force, and the raw values that it came from.
#[derive(Debug)]
pub struct Settings {
    pub enabled: bool,
    pub interval: Duration,
    seen_enabled: Raw,
    seen_interval: Raw,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Changed(String),
    Unusable(String),
}

impl Settings {
    /// Before Redis has said anything: on, with the interval of the configuration.
    pub fn new(interval: Duration) -> Settings {
        Settings {
            enabled: true,
            interval,
            seen_enabled: Raw::Missing,
            seen_interval: Raw::Missing,
        }
    }

    /// Takes over what the keys say. A missing key changes nothing, and an unusable one is told.
    pub fn apply(&mut self, raw: &RawSettings) -> Vec<Notice> {
        let enabled = self.apply_enabled(&raw.enabled).transpose();
        let interval = self.apply_interval(&raw.interval).transpose();
        let told = |key, result: Option<Result<Notice, Unusable>>| {
            result.map(|result| result.unwrap_or_else(|why| unusable(key, &why.0)))
        };
        told("mqtt_sender:enabled", enabled)
            .into_iter()
            .chain(told("mqtt_sender:interval", interval))
            .collect()
    }

    fn apply_enabled(&mut self, raw: &Raw) -> Result<Option<Notice>, Unusable> {
        if *raw == self.seen_enabled {
            return Ok(None);
        }
        self.seen_enabled = raw.clone();
        let Some(text) = raw.text()? else {
            return Ok(None);
        };
        let enabled = parse_enabled(text);
        if enabled == self.enabled {
            return Ok(None);
        }
        self.enabled = enabled;
        let state = if enabled { "on" } else { "off" };
        Ok(Some(Notice::Changed(format!(
            "sending is {state} (mqtt_sender:enabled = {})",
            Quoted(text)
        ))))
    }

    fn apply_interval(&mut self, raw: &Raw) -> Result<Option<Notice>, Unusable> {
        if *raw == self.seen_interval {
            return Ok(None);
        }
        self.seen_interval = raw.clone();
        let Some(text) = raw.text()? else {
            return Ok(None);
        };
        let interval = parse_interval(text)?;
        if interval == self.interval {
            return Ok(None);
        }
        self.interval = interval;
        let mode = if interval.is_zero() {
            ": push mode"
        } else {
            ""
        };
        Ok(Some(Notice::Changed(format!(
            "the interval is {} s{mode}",
            interval.as_secs_f64()
        ))))
    }
}

/// The warning about a value that changes nothing.
pub fn unusable(key: &str, what: &str) -> Notice {
    Notice::Unusable(format!("{key} is unusable and ignored: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_short_text_is_kept_as_it_is_and_shown_harmlessly() {
        assert_eq!(Raw::from_bytes(b"(1-0".to_vec()).text(), Ok(Some("(1-0")));
        let odd = Raw::from_bytes(b"(1-0\xff\x1b".to_vec());
        assert_eq!(odd, Raw::Bytes(b"(1-0\xff\x1b".to_vec()));
        let why = odd.text().unwrap_err().0;
        assert_eq!(why, "\"(1-0\u{fffd}\\u{1b}\" is no UTF-8");
        let long = Raw::from_bytes(vec![b'7'; MAX_VALUE + 1]);
        let why = long.text().unwrap_err().0;
        assert!(why.ends_with("7…\" is longer than 1 KiB"), "{why}");
        assert!(why.len() < 130, "{why}");
    }

    fn raw(enabled: &str, interval: &str) -> RawSettings {
        RawSettings {
            enabled: Raw::Text(enabled.into()),
            interval: Raw::Text(interval.into()),
            last_id: Raw::Missing,
        }
    }

    #[test]
    fn zero_is_off_and_any_other_value_is_on() {
        assert!(!parse_enabled("0"));
        for on in ["1", "", "false", "00", "off"] {
            assert!(parse_enabled(on), "{on:?}");
        }
    }

    #[test]
    fn intervals_are_integers_or_floats_from_zero() {
        assert_eq!(parse_interval("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_interval(" 0.25\n"), Ok(Duration::from_millis(250)));
        for zero in ["0", "0.0", "-0", "1e-400"] {
            assert_eq!(parse_interval(zero), Ok(Duration::ZERO), "{zero}");
        }
        for tiny in ["1e-9", "0.005", "0.01"] {
            assert_eq!(
                parse_interval(tiny),
                Ok(Duration::from_millis(10)),
                "{tiny}"
            );
        }
        assert_eq!(
            parse_interval("1e300"),
            Ok(Duration::from_secs(1_000_000_000))
        );
        for bad in ["abc", "-3", "NaN", "inf", "-inf", "", "1,5"] {
            assert!(parse_interval(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_missing_key_leaves_the_last_known_value_in_force() {
        let mut settings = Settings::new(Duration::from_secs(1));
        settings.apply(&raw("0", "5"));
        assert!(settings.apply(&RawSettings::default()).is_empty());
        assert!(!settings.enabled);
        assert_eq!(settings.interval, Duration::from_secs(5));
    }

    #[test]
    fn an_unusable_value_is_told_once_a_change_and_changes_nothing() {
        let mut settings = Settings::new(Duration::from_secs(1));
        let told = settings.apply(&raw("1", "abc"));
        assert!(
            matches!(&told[..], [Notice::Unusable(text)] if text.contains("mqtt_sender:interval") && text.contains("abc"))
        );
        assert!(settings.apply(&raw("1", "abc")).is_empty());
        assert_eq!(settings.apply(&raw("1", "-3")).len(), 1);
        assert_eq!(settings.interval, Duration::from_secs(1));
    }
}
