//! What the service tells about itself: one record, kept in one place, rendered as a Redis
//! hash, as JSON on `topic_status`, and as text for people.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The state of the service. Times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    pub version: String,
    pub started: u64,
    pub connected: bool,
    pub enabled: bool,
    /// Seconds.
    pub interval: f64,
    pub last_id: String,
    /// Measurements that wait; `None` where the server does not tell (Redis below 7).
    pub backlog: Option<u64>,
    pub oldest_age_seconds: u64,
    /// Confirmed by the broker since the start.
    pub sent_measurements: u64,
    pub sent_messages: u64,
    pub sent_bytes: u64,
    /// Lists that had to be sent again.
    pub retries: u64,
    pub reconnects: u64,
    /// Measurements removed by others before they were sent, since ever.
    pub lost: u64,
    /// Measurements that the broker refused, since ever.
    pub dead_letters: u64,
    pub last_error: String,
    pub updated: u64,
}

impl Record {
    /// As it is stored in Redis.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let flag = |value: bool| if value { "1" } else { "0" }.to_string();
        vec![
            ("version", self.version.clone()),
            ("started", self.started.to_string()),
            ("connected", flag(self.connected)),
            ("enabled", flag(self.enabled)),
            ("interval", self.interval.to_string()),
            ("last_id", self.last_id.clone()),
            (
                "backlog",
                self.backlog
                    .map_or(String::new(), |backlog| backlog.to_string()),
            ),
            ("oldest_age_seconds", self.oldest_age_seconds.to_string()),
            ("sent_measurements", self.sent_measurements.to_string()),
            ("sent_messages", self.sent_messages.to_string()),
            ("sent_bytes", self.sent_bytes.to_string()),
            ("retries", self.retries.to_string()),
            ("reconnects", self.reconnects.to_string()),
            ("lost", self.lost.to_string()),
            ("dead_letters", self.dead_letters.to_string()),
            ("last_error", self.last_error.clone()),
            ("updated", self.updated.to_string()),
        ]
    }

    /// From what is stored in Redis; what is missing or unreadable is as at first.
    pub fn from_fields(get: impl Fn(&str) -> Option<String>) -> Record {
        let text = |name: &str| get(name).unwrap_or_default();
        let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
        Record {
            version: text("version"),
            started: number("started"),
            connected: text("connected") == "1",
            enabled: text("enabled") == "1",
            interval: text("interval").parse().unwrap_or(0.0),
            last_id: text("last_id"),
            backlog: text("backlog").parse().ok(),
            oldest_age_seconds: number("oldest_age_seconds"),
            sent_measurements: number("sent_measurements"),
            sent_messages: number("sent_messages"),
            sent_bytes: number("sent_bytes"),
            retries: number("retries"),
            reconnects: number("reconnects"),
            lost: number("lost"),
            dead_letters: number("dead_letters"),
            last_error: text("last_error"),
            updated: number("updated"),
        }
    }

    /// Whether anything but the clock differs.
    pub fn differs(&self, other: &Record) -> bool {
        let timeless = |record: &Record| Record {
            updated: 0,
            oldest_age_seconds: 0,
            ..record.clone()
        };
        timeless(self) != timeless(other)
    }

    /// Whether the state differs, as opposed to counters that run all the time.
    pub fn state_differs(&self, other: &Record) -> bool {
        let state = |record: &Record| {
            (
                record.connected,
                record.enabled,
                record.interval,
                record.lost,
                record.dead_letters,
                record.reconnects,
            )
        };
        state(self) != state(other)
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

/// The record, shared between the threads.
#[derive(Clone, Default)]
pub struct Status(Arc<Mutex<Record>>);

impl Status {
    pub fn new() -> Status {
        let record = Record {
            version: env!("CARGO_PKG_VERSION").into(),
            started: now(),
            ..Record::default()
        };
        Status(Arc::new(Mutex::new(record)))
    }

    /// Changes the record.
    pub fn update(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.lock());
    }

    /// A copy of the record, of this moment.
    pub fn snapshot(&self) -> Record {
        Record {
            updated: now(),
            ..self.lock().clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // A record that a panicking thread has left is still a record.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            version: "1".into(),
            connected: true,
            interval: 0.5,
            backlog: Some(7),
            last_error: "x".into(),
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
    fn the_clock_alone_is_no_change() {
        let record = Record::default();
        assert!(!record.differs(&Record {
            updated: 1,
            oldest_age_seconds: 2,
            ..Record::default()
        }));
        assert!(record.differs(&Record {
            sent_bytes: 1,
            ..Record::default()
        }));
        assert!(!record.state_differs(&Record {
            sent_bytes: 1,
            ..Record::default()
        }));
        assert!(record.state_differs(&Record {
            lost: 1,
            ..Record::default()
        }));
    }
}
