//! The settings that other containers change in Redis while the program runs.
//!
//! Pure: turns what the three keys hold into what is in force, and says what changed. An
//! unusable value is told once and leaves the last good one in force.

use std::time::Duration;

use crate::model::stream_id::Cursor;

/// Longer intervals are cut to this, about 31 years, so that no clock arithmetic overflows.
pub const MAX_INTERVAL_SECONDS: f64 = 1e9;

/// Shorter intervals are stretched to this: polling faster than that only burns the device.
/// Zero is something else, push mode.
pub const MIN_INTERVAL_SECONDS: f64 = 0.01;

/// The content of a Redis key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Raw {
    #[default]
    Missing,
    Text(String),
    /// The key holds something that is no string, described here.
    Unusable(String),
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
        _ => Err(Unusable(format!("{text:?} is no number of seconds from 0"))),
    }
}

/// `mqtt_sender:last_id`: the cursor.
///
/// # Errors
/// What is wrong with the value, in words.
pub fn parse_last_id(text: &str) -> Result<Cursor, Unusable> {
    text.parse()
        .map_err(|error| Unusable(format!("{text:?} is no cursor: {error}")))
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
#[derive(Debug, PartialEq, Eq)]
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

    /// Takes over what the keys say. A missing key changes nothing.
    pub fn apply(&mut self, raw: &RawSettings) -> Vec<Notice> {
        let mut notices = Vec::new();
        if raw.enabled != self.seen_enabled {
            self.seen_enabled = raw.enabled.clone();
            match &raw.enabled {
                Raw::Missing => {}
                Raw::Unusable(what) => notices.push(unusable("mqtt_sender:enabled", what)),
                Raw::Text(text) => {
                    let enabled = parse_enabled(text);
                    if enabled != self.enabled {
                        self.enabled = enabled;
                        let state = if enabled { "on" } else { "off" };
                        notices.push(Notice::Changed(format!(
                            "sending is {state} (mqtt_sender:enabled = {text:?})"
                        )));
                    }
                }
            }
        }
        if raw.interval != self.seen_interval {
            self.seen_interval = raw.interval.clone();
            match &raw.interval {
                Raw::Missing => {}
                Raw::Unusable(what) => notices.push(unusable("mqtt_sender:interval", what)),
                Raw::Text(text) => match parse_interval(text) {
                    Err(error) => notices.push(unusable("mqtt_sender:interval", &error.0)),
                    Ok(interval) if interval != self.interval => {
                        self.interval = interval;
                        let mode = if interval.is_zero() {
                            ": push mode"
                        } else {
                            ""
                        };
                        notices.push(Notice::Changed(format!(
                            "the interval is {} s{mode}",
                            interval.as_secs_f64()
                        )));
                    }
                    Ok(_) => {}
                },
            }
        }
        notices
    }
}

/// The warning about a value that changes nothing.
pub fn unusable(key: &str, what: &str) -> Notice {
    Notice::Unusable(format!("{key} is unusable and ignored: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
