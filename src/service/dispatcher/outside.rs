//! What commands need of this process: Redis, the status, the poller, the supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use log::warn;

use crate::commands::Context;
use crate::commands::supervisor::{RebootError, Supervisor};
use crate::config::Config;
use crate::model::measurement::{Batch, BatchLimits, Encoder};
use crate::model::status::Record;
use crate::model::stream_id::StreamId;
use crate::service::board::Board;
use crate::service::messages::Event;
use crate::store::{Store, StoreError, Within};

/// What is in flight may take so long before a reboot.
const QUIESCE: Duration = Duration::from_secs(5);

/// A connection that has ended already is noticed within this time.
const QUICKLY: Duration = Duration::from_secs(1);

pub struct Outside {
    store: Store,
    encoder: Encoder,
    board: Board,
    /// The poller, and its connection to Redis, to wake it while it blocks on the stream.
    poller: (Sender<Event>, Arc<AtomicI64>),
    maximum_payload: Arc<AtomicUsize>,
}

impl Outside {
    pub fn new(
        config: &Config,
        board: Board,
        poller: (Sender<Event>, Arc<AtomicI64>),
        maximum_payload: Arc<AtomicUsize>,
    ) -> Outside {
        Outside {
            store: Store::new(&config.redis, "mqtt-handler-commands"),
            encoder: Encoder::new(&config.identity),
            board,
            poller,
            maximum_payload,
        }
    }

    /// A connection that nobody used for long may have ended unnoticed: the first command after
    /// that must not fail for it. Asking twice does no harm, and a Redis that is silent is not
    /// waited for twice.
    fn twice<T>(&mut self, ask: impl Fn(&mut Store) -> Result<T, StoreError>) -> Result<T, String> {
        let begun = Instant::now();
        match ask(&mut self.store) {
            Err(StoreError::Unreachable(_)) if begun.elapsed() < QUICKLY => ask(&mut self.store),
            result => result,
        }
        .map_err(in_words)
    }
}

impl Context for Outside {
    fn maximum_payload(&self) -> usize {
        self.maximum_payload.load(Ordering::Relaxed)
    }

    fn get(&mut self, key: &str, bytes: usize) -> Result<Within, String> {
        self.twice(|store| store.get_within(key, bytes))
    }

    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        self.twice(|store| store.set(key, value))
    }

    fn memory_used_percent(&mut self) -> Result<Option<f64>, String> {
        self.twice(Store::used_percent)
    }

    fn list(
        &mut self,
        range: (StreamId, StreamId),
        read: usize,
        limits: BatchLimits,
    ) -> Result<Option<(Batch, usize)>, String> {
        let page = self.twice(|store| store.range(range, read, limits.unpacked()))?;
        let batch = self.encoder.batch(page.entries(), limits);
        Ok(batch.map(|batch| (batch, page.len())))
    }

    fn status(&self) -> Record {
        self.board.snapshot()
    }

    fn settings_changed(&mut self) {
        drop(self.poller.0.try_send(Event::Wake));
        let client = self.poller.1.load(Ordering::Relaxed);
        if let Err(error) = self.store.unblock(client) {
            warn!("the change takes effect within a second: {error}");
        }
    }

    fn can_reboot(&self) -> Result<(), RebootError> {
        Supervisor::from_environment().map(|_| ())
    }

    fn quiesce(&mut self) {
        let (done, wait) = bounded(1);
        let asked = self.poller.0.send_timeout(Event::Quiesce(done), QUIESCE);
        if asked.is_ok() {
            let _ = wait.recv_timeout(QUIESCE);
        }
    }

    fn resume(&mut self) {
        drop(self.poller.0.try_send(Event::Resume));
    }

    fn reboot(&mut self, force: bool) -> Result<(), RebootError> {
        warn!(
            "the supervisor is asked to reboot the device{}",
            if force { ", by force" } else { "" }
        );
        Supervisor::from_environment()?.reboot(force)
    }
}

fn in_words(error: StoreError) -> String {
    match error {
        StoreError::Unreachable(reason) => format!("Redis is out of reach: {reason}"),
        StoreError::Refused(reason) => reason,
    }
}
