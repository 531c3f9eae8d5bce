//! The poller's part of the status: what waits, what was sent, and how a catch-up goes on.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::Poller;
use crate::model::status::{self, Record};
use crate::report::status::seconds;
use crate::store::{StoreError, StreamState};

/// Flash memory wears: a change is written after this time at the earliest.
pub const WRITE: Duration = Duration::from_secs(5);
/// A sign of life although nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The state of the stream that came with a page tells what waits for so long.
const FRESH: Duration = Duration::from_millis(1500);
/// Lines about a catch-up.
const TELL: Duration = Duration::from_secs(10);

/// What was written and told last.
#[derive(Default)]
pub struct Told {
    looked: Option<Instant>,
    written: Option<(Instant, Record)>,
    refused: bool,
    catch_up: Option<CatchUp>,
    /// The state of the stream as it was seen last.
    stream: Option<(Instant, StreamState)>,
}

struct CatchUp {
    told: Instant,
    sent: u64,
}

impl Poller {
    pub(super) fn status_due(&self, now: Instant) -> Instant {
        self.told.looked.map_or(now, |at| at + WRITE)
    }

    /// Notes the state of the stream, so that it need not be asked for.
    pub(super) fn saw_stream(&mut self, stream: Option<StreamState>) {
        self.told.stream = stream.map(|stream| (Instant::now(), stream));
    }

    /// Looks at what waits, and writes the status if it has changed or a heartbeat is due.
    pub(super) fn report(&mut self, now: Instant) -> Result<(), StoreError> {
        self.told.looked = Some(now);
        self.look_at_backlog()?;
        let record = self.status.snapshot();
        self.tell_catch_up(now, &record);
        let due =
            self.told.written.as_ref().is_none_or(|(at, last)| {
                record.differs(last) || now.duration_since(*at) >= HEARTBEAT
            });
        if due {
            self.write_status(now, record);
        }
        Ok(())
    }

    /// The last words of an orderly end.
    pub(super) fn report_end(&mut self) {
        self.status.update(|record| record.connected = false);
        if self.store.connected() {
            self.told.stream = None;
            let written = self.look_at_backlog().and_then(|()| {
                self.write_status(Instant::now(), self.status.snapshot());
                self.store.settings().map(|_| ())
            });
            if let Err(error) = written {
                warn!("the last status could not be written: {error}");
            }
        }
    }

    /// What was written may have been lost with the connection.
    pub(super) fn forget_written(&mut self) {
        (self.told.written, self.told.stream) = (None, None);
    }

    fn write_status(&mut self, now: Instant, record: Record) {
        match self.store.status_refused() {
            None => self.told.refused = false,
            Some(reason) => {
                if !std::mem::replace(&mut self.told.refused, true) {
                    warn!("the status cannot be written to Redis: {reason}");
                }
            }
        }
        self.store.write_status(&record);
        self.told.written = Some((now, record));
    }

    fn look_at_backlog(&mut self) -> Result<(), StoreError> {
        let cursor = self.delivery.cursor();
        let seen = self.told.stream.filter(|(at, _)| at.elapsed() < FRESH);
        let stream = seen.map_or_else(|| self.store.stream(), |(_, stream)| Ok(stream));
        let added = match stream {
            Ok(StreamState::Present { added, .. }) => added,
            Ok(StreamState::Absent) => self.ledger.accounted(),
            Err(StoreError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        let backlog = added
            .zip(self.ledger.accounted())
            .map(|(added, accounted)| added.saturating_sub(accounted));
        let oldest = match backlog {
            Some(0) => None,
            _ => self.store.oldest(cursor).or_else(|error| match error {
                StoreError::Refused(_) => Ok(None),
                error => Err(error),
            })?,
        };
        let age = oldest.map_or(0, |id| status::now().saturating_sub(id.ms) / 1000);
        let (settings, stored) = (&self.settings, &self.stored);
        let (lost, dead_letters) = (self.lost, self.dead_letters);
        self.status.update(|record| {
            record.backlog = backlog;
            record.oldest_age_seconds = age;
            record.enabled = settings.enabled;
            record.interval = settings.interval.as_secs_f64();
            record.last_id = stored.text().to_string();
            record.lost = lost;
            record.dead_letters = dead_letters;
        });
        Ok(())
    }

    fn tell_catch_up(&mut self, now: Instant, record: &Record) {
        let sent = record.sent_measurements;
        // More waits than one list takes: this is a catch-up, unless nothing may be sent.
        let behind = self.sending()
            && record
                .backlog
                .map_or(self.reader.more(), |n| n > self.batch.max_count as u64);
        match &mut self.told.catch_up {
            None if behind => self.told.catch_up = Some(CatchUp { told: now, sent }),
            Some(catch_up) if behind && now.duration_since(catch_up.told) >= TELL => {
                let rate =
                    (sent - catch_up.sent) as f64 / now.duration_since(catch_up.told).as_secs_f64();
                let left = record
                    .backlog
                    .map_or("an unknown number".to_string(), |n| n.to_string());
                let to_go = match record.backlog {
                    Some(n) if rate >= 1.0 => {
                        format!(", about {} to go", seconds((n as f64 / rate) as u64))
                    }
                    _ => String::new(),
                };
                info!(
                    "catching up: {sent} measurements sent, {left} left, {rate:.0} a second{to_go}"
                );
                *catch_up = CatchUp { told: now, sent };
            }
            Some(_)
                if !behind
                    && record
                        .backlog
                        .is_none_or(|n| n <= self.batch.max_count as u64) =>
            {
                self.told.catch_up = None;
                info!("caught up: {sent} measurements sent since the start");
            }
            _ => {}
        }
    }
}
