//! The status of the service, put together of what the two machines show, for everybody who asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bridge;
use crate::link;
use crate::model::status::{self, LinkPart, Program, Record};
use crate::model::stream_id::StreamId;

#[derive(Clone)]
pub struct Board(Arc<Mutex<Shown>>);

struct Shown {
    record: Record,
    /// The first measurement that waits: its age is that of the moment of asking.
    oldest: Option<StreamId>,
    /// Counts the changes.
    version: u64,
}

impl Default for Board {
    fn default() -> Board {
        Board(Arc::new(Mutex::new(Shown {
            record: Record {
                program: Program {
                    version: env!("CARGO_PKG_VERSION").into(),
                    started: status::now(),
                },
                ..Record::default()
            },
            oldest: None,
            version: 0,
        })))
    }
}

impl Board {
    pub fn show_measurements(&self, view: &bridge::View) {
        let mut shown = self.lock();
        shown.version += 1;
        shown.oldest = view.oldest;
        let record = &mut shown.record;
        record.enabled = view.enabled;
        record.interval = view.interval.as_secs_f64();
        record.last_id.clone_from(&view.last_id);
        record.backlog = view.backlog;
        record.counters = view.counters;
        record.redis_used_percent = view.redis_used_percent;
        record.redis_full_in_seconds = view.redis_full_in.map(|time| time.as_secs());
        if view.ended {
            record.link.connected = false;
        }
    }

    pub fn show_link(&self, view: &link::View) {
        let mut shown = self.lock();
        shown.version += 1;
        shown.record.link = LinkPart {
            connected: view.protocol.is_some(),
            protocol: view
                .protocol
                .map_or("", |protocol| protocol.number())
                .into(),
            reconnects: view.link.saturating_sub(1),
            last_error: view.last_error.clone(),
        };
    }

    /// How often something has changed.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// A copy of the record, of this moment.
    pub fn snapshot(&self) -> Record {
        let shown = self.lock();
        let now = status::now();
        Record {
            updated: now,
            oldest_age_seconds: shown
                .oldest
                .map_or(0, |id| now.saturating_sub(id.ms) / 1000),
            ..shown.record.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        // A record that a panicking thread has left is still a record.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
