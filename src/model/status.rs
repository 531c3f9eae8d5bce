//! What the service tells about itself: one record, kept in one place, rendered as a Redis
//! hash, as JSON on `topic_status`, and as text for people.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::stream::Waiting;

/// A status that is older has missed its sign of life.
pub const STALE_SECONDS: u64 = 90;

/// The state of the service. Times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    #[serde(flatten)]
    pub program: Program,
    #[serde(flatten)]
    pub link: LinkPart,
    pub enabled: bool,
    /// Seconds.
    pub interval: f64,
    pub last_id: String,
    /// Measurements that wait; `None`: not known yet.
    pub backlog: Option<Waiting>,
    pub oldest_age_seconds: u64,
    #[serde(flatten)]
    pub counters: Counters,
    /// Of `maxmemory`; `None` without such a limit.
    pub redis_used_percent: Option<f64>,
    /// When it will be full at the present rate; `None`: it does not fill.
    pub redis_full_in_seconds: Option<u64>,
    pub updated: u64,
}

/// What runs, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Program {
    pub version: String,
    pub started: u64,
}

/// What there is to say about the connection to the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkPart {
    pub connected: bool,
    /// 5 or 3.1.1; empty while not connected.
    pub protocol: String,
    pub reconnects: u64,
    pub last_error: String,
}

/// What was counted, since the start where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Confirmed by the broker.
    pub sent_measurements: u64,
    pub sent_messages: u64,
    pub sent_bytes: u64,
    /// Lists that had to be sent again.
    pub retries: u64,
    /// Measurements removed by others before they were sent, since ever.
    pub lost: u64,
    /// Measurements that the broker refused, since ever.
    pub dead_letters: u64,
}

impl Record {
    /// It was not written for so long that the service is gone, or cannot write it.
    pub fn is_stale(&self) -> bool {
        now().saturating_sub(self.updated) >= 1000 * STALE_SECONDS
    }

    /// As it is stored in Redis.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let flag = |value: bool| if value { "1" } else { "0" }.to_string();
        vec![
            ("version", self.program.version.clone()),
            ("started", self.program.started.to_string()),
            ("connected", flag(self.link.connected)),
            ("enabled", flag(self.enabled)),
            ("interval", self.interval.to_string()),
            ("last_id", self.last_id.clone()),
            (
                "backlog",
                self.backlog
                    .map_or(String::new(), |backlog| backlog.to_string()),
            ),
            ("oldest_age_seconds", self.oldest_age_seconds.to_string()),
            (
                "sent_measurements",
                self.counters.sent_measurements.to_string(),
            ),
            ("sent_messages", self.counters.sent_messages.to_string()),
            ("sent_bytes", self.counters.sent_bytes.to_string()),
            ("retries", self.counters.retries.to_string()),
            ("reconnects", self.link.reconnects.to_string()),
            ("lost", self.counters.lost.to_string()),
            ("dead_letters", self.counters.dead_letters.to_string()),
            ("last_error", self.link.last_error.clone()),
            ("protocol", self.link.protocol.clone()),
            (
                "redis_used_percent",
                self.redis_used_percent
                    .map_or(String::new(), |percent| percent.to_string()),
            ),
            (
                "redis_full_in_seconds",
                self.redis_full_in_seconds
                    .map_or(String::new(), |seconds| seconds.to_string()),
            ),
            ("updated", self.updated.to_string()),
        ]
    }

    /// From what is stored in Redis; what is missing or unreadable is as at first.
    pub fn from_fields(get: impl Fn(&str) -> Option<String>) -> Record {
        let text = |name: &str| get(name).unwrap_or_default();
        let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
        Record {
            program: Program {
                version: text("version"),
                started: number("started"),
            },
            link: LinkPart {
                connected: text("connected") == "1",
                protocol: text("protocol"),
                reconnects: number("reconnects"),
                last_error: text("last_error"),
            },
            enabled: text("enabled") == "1",
            interval: text("interval").parse().unwrap_or(0.0),
            last_id: text("last_id"),
            backlog: text("backlog").parse().ok(),
            oldest_age_seconds: number("oldest_age_seconds"),
            counters: Counters {
                sent_measurements: number("sent_measurements"),
                sent_messages: number("sent_messages"),
                sent_bytes: number("sent_bytes"),
                retries: number("retries"),
                lost: number("lost"),
                dead_letters: number("dead_letters"),
            },
            redis_used_percent: text("redis_used_percent").parse().ok(),
            redis_full_in_seconds: text("redis_full_in_seconds").parse().ok(),
            updated: number("updated"),
        }
    }

    /// Equal as long as only counters change that run all the time.
    pub fn state(&self) -> String {
        format!(
            "{} {} {} {} {} {} {}",
            self.link.connected,
            self.link.protocol,
            self.enabled,
            self.interval,
            self.counters.lost,
            self.counters.dead_letters,
            self.link.reconnects
        )
    }

    /// The message on `topic_status` while the service is there.
    pub fn online(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Online<'a> {
            state: &'a str,
            #[serde(flatten)]
            record: &'a Record,
        }
        // Strings and numbers only: this cannot fail.
        serde_json::to_vec(&Online {
            state: "online",
            record: self,
        })
        .unwrap_or_default()
    }
}

/// The last will, and the message of an orderly end.
pub fn offline(reason: &str) -> Vec<u8> {
    // A map of strings: this cannot fail.
    serde_json::to_vec(&serde_json::json!({
        "state": "offline",
        "reason": reason,
        "version": env!("CARGO_PKG_VERSION"),
    }))
    .unwrap_or_default()
}

/// A length of time in words.
pub fn seconds(total: u64) -> String {
    match total {
        0..60 => format!("{total} s"),
        60..3600 => format!("{} min {} s", total / 60, total % 60),
        3600..86_400 => format!("{} h {} min", total / 3600, total / 60 % 60),
        _ => format!("{} d {} h", total / 86_400, total / 3600 % 24),
    }
}

/// A part of `maxmemory` as it is shown: with one decimal.
pub fn shown_percent(percent: f64) -> f64 {
    (10.0 * percent).round() / 10.0
}

/// Unix time in milliseconds.
pub fn now() -> u64 {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let record = Record {
            program: Program {
                version: "1".into(),
                ..Program::default()
            },
            link: LinkPart {
                connected: true,
                last_error: "x".into(),
                ..LinkPart::default()
            },
            interval: 0.5,
            backlog: Some(Waiting::AtLeast(10_000)),
            updated: 9,
            ..Record::default()
        };
        let fields = record.fields();
        let read = Record::from_fields(|name| {
            fields
                .iter()
                .find(|(field, _)| *field == name)
                .map(|(_, value)| value.clone())
        });
        assert_eq!(read, record);
    }

    #[test]
    fn counters_that_run_all_the_time_are_no_change_of_state() {
        let record = Record::default();
        let other = |change: fn(&mut Record)| {
            let mut other = record.clone();
            change(&mut other);
            other.state()
        };
        assert_eq!(
            record.state(),
            other(|record| record.counters.sent_bytes = 1)
        );
        assert_eq!(record.state(), other(|record| record.updated = 1));
        assert_ne!(record.state(), other(|record| record.counters.lost = 1));
        assert_ne!(record.state(), other(|record| record.link.connected = true));
    }
}
