//! The poller's dealings with the cursor: taking over what others write, saving what is
//! confirmed, and accounting for what got lost.

use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::Poller;
use crate::bridge::delivery::{Poison, Progress};
use crate::bridge::ledger::{Extent, Finding, Look};
use crate::model::settings::{Raw, parse_last_id, unusable};
use crate::model::stream_id::{Cursor, StreamId};
use crate::store::{DEAD_LETTER, LAST_ID, Page, Save, Saved, StoreError, StreamState, VALUES};

/// So many foreign cursors within this time point to a second instance.
const MANY_MISMATCHES: u32 = 3;
const MISMATCH_WINDOW: Duration = Duration::from_secs(60);
/// Entries counted at a time, so that Redis is never kept busy for long.
const SLICE: usize = 2000;

/// What is known of `mqtt_sender:last_id`.
#[derive(Debug, Default)]
pub struct Stored {
    /// What it holds as far as this program knows.
    raw: Raw,
    /// It has been looked at since the start.
    pub known: bool,
    /// This program wrote it, and nobody has moved it since.
    own: bool,
    /// What is confirmed and not yet written.
    unsaved: bool,
    poison: Vec<Poison>,
    /// When the first of the present mismatches came, and how many there were.
    mismatches: Option<(Instant, u32)>,
    refused: bool,
    passed_since_trim: u64,
    trim_refused: bool,
}

impl Stored {
    pub fn differs(&self, raw: &Raw) -> bool {
        !self.known || *raw != self.raw
    }

    /// Notes that the cursor was moved from outside; whether that happens strangely often.
    fn mismatch(&mut self) -> bool {
        let now = Instant::now();
        let (since, count) = self
            .mismatches
            .filter(|(since, _)| now - *since < MISMATCH_WINDOW)
            .unwrap_or((now, 0));
        self.mismatches = Some((since, count + 1));
        count + 1 == MANY_MISMATCHES
    }

    pub fn unsaved(&self) -> bool {
        self.unsaved
    }

    /// The cursor as it is stored; empty where there is none.
    pub fn text(&self) -> &str {
        if let Raw::Text(text) = &self.raw {
            text
        } else {
            ""
        }
    }

    pub fn raw(&self) -> &Raw {
        &self.raw
    }
}

impl Poller {
    /// The cursor is not what this program wrote last: the foreign value counts.
    pub(super) fn adopt(&mut self, raw: Raw) -> Result<(), StoreError> {
        let id = match self.read_cursor(&raw) {
            Some(Cursor::After(id)) => Some(id),
            Some(Cursor::Now) => Some(match self.store.stream()? {
                StreamState::Present { newest, .. } => newest,
                StreamState::Absent => StreamId::ZERO,
            }),
            None if self.stored.known => None,
            None => Some(StreamId::ZERO),
        };
        if let Some(id) = id {
            self.resume(id, &raw)?;
            if self.stored.known && self.stored.mismatch() {
                warn!("somebody else keeps moving {LAST_ID}: is a second instance running?");
            }
            let how = if self.stored.known {
                "the cursor was set from outside"
            } else {
                "the cursor"
            };
            info!("{how}: {}; measurements after {id} are sent", shown(&raw));
            self.delivery.rewind(id);
            self.forget_read();
            // "From now on" must keep its meaning over a restart.
            self.stored.unsaved = raw == Raw::Text("$".into());
            self.stored.poison.clear();
        }
        self.stored.raw = raw;
        self.stored.known = true;
        Ok(())
    }

    fn read_cursor(&self, raw: &Raw) -> Option<Cursor> {
        match raw {
            Raw::Missing => {
                if self.stored.known {
                    warn!("{LAST_ID} is gone: everything in the stream is sent again");
                }
                Some(Cursor::After(StreamId::ZERO))
            }
            Raw::Unusable(what) => {
                super::tell(unusable(LAST_ID, what));
                None
            }
            Raw::Text(text) => match parse_last_id(text) {
                Ok(cursor) => Some(cursor),
                Err(error) => {
                    super::tell(unusable(LAST_ID, &error.0));
                    None
                }
            },
        }
    }

    /// Finds the place in the account that belongs to the cursor: remembered, or counted.
    fn resume(&mut self, id: StreamId, raw: &Raw) -> Result<(), StoreError> {
        let memory = self.store.memory()?;
        if !self.stored.known {
            self.lost = memory.lost;
            self.dead_letters = memory.dead_letters;
        }
        let remembered = memory
            .position
            .filter(|(cursor, _)| *raw == Raw::Text(cursor.clone()));
        self.stored.own = remembered.is_some() && !self.stored.known;
        let accounted = match remembered {
            Some((_, Some(accounted))) if self.stored.own => Some(accounted),
            _ => self.count_up_to(id)?,
        };
        self.ledger.set(accounted);
        Ok(())
    }

    /// Entries ever added up to `id`, where Redis counts them and the stream has come so far.
    fn count_up_to(&mut self, id: StreamId) -> Result<Option<u64>, StoreError> {
        let (newest, length, added, first) = match self.store.stream()? {
            StreamState::Absent => return Ok((id == StreamId::ZERO).then_some(0)),
            StreamState::Present { added: None, .. } => {
                if !std::mem::replace(&mut self.told_old_redis, true) {
                    info!(
                        "this Redis is older than 7: measurements that others remove before they are sent cannot be counted"
                    );
                }
                return Ok(None);
            }
            StreamState::Present {
                newest,
                length,
                added: Some(added),
                first,
            } => (newest, length, added, first),
        };
        if id > newest {
            return Ok(None);
        }
        if first.is_none_or(|first| id < first) {
            return Ok(Some(added.saturating_sub(length)));
        }
        let (mut behind, mut from) = (0, id);
        while from < newest && !self.shutdown.requested() {
            let (count, end) = self.store.count(from, newest, SLICE)?;
            if count == 0 {
                break;
            }
            behind += count;
            from = end;
        }
        Ok(Some(added.saturating_sub(behind)))
    }

    /// Notes what a confirmation brings; `save` makes it durable.
    pub(super) fn progressed(&mut self, progress: Progress) {
        let sent = progress.sent;
        self.status.update(|record| {
            record.sent_messages += 1;
            record.sent_measurements += sent.count as u64;
            record.sent_bytes += sent.bytes as u64;
        });
        self.ledger.passed(progress.passed as u64);
        self.stored.passed_since_trim += progress.passed as u64;
        self.stored.poison = progress.poison;
        self.stored.unsaved = true;
    }

    /// Saves the cursor unless somebody else has moved it meanwhile.
    pub(super) fn save(&mut self) -> Result<(), StoreError> {
        let cursor = Cursor::written(self.delivery.cursor());
        let save = Save {
            cursor: &cursor,
            accounted: self.ledger.accounted(),
            poison: &self.stored.poison,
        };
        match self.store.save_cursor(&self.stored.raw, &save) {
            Ok(Saved::Yes) => {
                for poison in self.stored.poison.drain(..) {
                    self.dead_letters += 1;
                    error!(
                        "the measurement {} is refused by the broker and was copied to {DEAD_LETTER}: {}",
                        poison.id, poison.reason
                    );
                }
                let stored = &mut self.stored;
                (stored.raw, stored.own, stored.unsaved) = (Raw::Text(cursor), true, false);
                stored.refused = false;
                self.trim()
            }
            Ok(Saved::Foreign(raw)) => {
                self.stored.unsaved = false;
                if raw == self.stored.raw {
                    // Unusable before and still: go on, the cursor lives in memory only.
                    return Ok(());
                }
                self.adopt(raw)
            }
            Err(StoreError::Refused(reason)) => {
                // Measurements go on: holding them back would not help Redis.
                self.stored.unsaved = false;
                if !std::mem::replace(&mut self.stored.refused, true) {
                    error!(
                        "Redis does not store the cursor: {reason}; after a restart measurements from here on are sent again"
                    );
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps `keep_sent` sent entries in the stream. A large number is not kept to the letter:
    /// finding the place to cut costs as much as there is to keep.
    fn trim(&mut self) -> Result<(), StoreError> {
        let Some(keep) = self.keep_sent else {
            return Ok(());
        };
        let slack = if keep > 1000 { keep / 10 } else { 0 };
        if self.stored.passed_since_trim > slack {
            self.stored.passed_since_trim = 0;
            match self.store.trim_sent(self.delivery.cursor(), keep) {
                Err(StoreError::Refused(reason)) => {
                    if !std::mem::replace(&mut self.stored.trim_refused, true) {
                        warn!("Redis does not trim the stream (main.keep_sent): {reason}");
                    }
                }
                other => return other,
            }
        }
        Ok(())
    }

    /// Compares the stream with the account, for a page of which `asked` entries were asked
    /// behind `after`. Returns whether the page can be used.
    pub(super) fn audit(
        &mut self,
        page: &Page,
        after: StreamId,
        asked: usize,
    ) -> Result<bool, StoreError> {
        let (extent, newest) = match page.stream {
            None => return Ok(true),
            Some(StreamState::Absent) => (None, None),
            Some(StreamState::Present {
                newest,
                length,
                added,
                ..
            }) => {
                // Without the count of an old Redis, only a cursor ahead of the stream shows.
                (
                    added.map(|added| Extent { added, length }),
                    Some((newest, length)),
                )
            }
        };
        let ahead_of_stream =
            newest.is_some_and(|(newest, length)| length > 0 && newest < self.delivery.cursor());
        if ahead_of_stream && self.stored.own {
            self.start_anew(newest.map_or(StreamId::ZERO, |(newest, _)| newest))?;
            return Ok(false);
        }
        if extent.is_none() && newest.is_some() {
            return Ok(true);
        }
        if ahead_of_stream {
            // Somebody has set the cursor there. What is added below it is passed over on
            // purpose; the account begins again when the stream has reached the cursor.
            self.ledger.set(None);
            return Ok(true);
        }
        if !self.ledger.known() {
            let accounted = self.count_up_to(self.delivery.cursor())?;
            self.ledger.set(accounted);
            return Ok(true);
        }
        let finding = self.ledger.look(Look {
            extent,
            ahead: self.unconfirmed(),
            page: page.len() as u64,
            at_end: page.len() < asked,
        });
        match finding {
            Finding::Nothing => return Ok(true),
            Finding::Lost(count) => {
                self.lost += count;
                let upto = page
                    .first()
                    .map_or("the end".to_string(), |id| id.to_string());
                error!(
                    "{count} measurements were removed from {VALUES} before they were sent, between {after} and {upto}: trimmed or deleted by somebody else"
                );
            }
            Finding::Wiped(count) => {
                self.lost += count;
                error!(
                    "{VALUES} was deleted or evicted with at least {count} measurements after {after} that were not sent"
                );
            }
        }
        self.note_loss()?;
        Ok(true)
    }

    /// The stream was deleted and written anew by a device whose clock went back.
    fn start_anew(&mut self, newest: StreamId) -> Result<(), StoreError> {
        let waiting = self.ledger.pending(0);
        self.lost += waiting;
        let lost = if waiting > 0 {
            format!(", and {waiting} measurements that were not sent are gone")
        } else {
            String::new()
        };
        error!(
            "{VALUES} was written anew with IDs up to {newest}, below the cursor {}{lost}: it is sent from its start (is the clock of the device right?)",
            self.delivery.cursor()
        );
        self.delivery.rewind(StreamId::ZERO);
        self.forget_read();
        let accounted = self.count_up_to(StreamId::ZERO)?;
        self.ledger.set(accounted);
        self.stored.unsaved = true;
        self.note_loss()
    }

    fn note_loss(&mut self) -> Result<(), StoreError> {
        // The account belongs to the cursor as it is stored; where there is none, or a foreign
        // one, it is counted anew after a restart.
        let cursor = self.stored.text();
        let save = Save {
            cursor,
            accounted: self.ledger.accounted(),
            poison: &[],
        };
        match self.store.note_loss(&save, self.lost) {
            Err(StoreError::Refused(reason)) => {
                warn!("the loss cannot be noted in Redis: {reason}");
                Ok(())
            }
            other => other,
        }
    }

    /// Measurements that were read and are not confirmed.
    pub(super) fn unconfirmed(&self) -> u64 {
        (self.delivery.unconfirmed() + self.reader.held()) as u64
    }

    /// Warns about a Redis that may lose measurements by its own settings; once.
    pub(super) fn warn_of_hazards(&mut self) -> Result<(), StoreError> {
        if !std::mem::replace(&mut self.told_hazards, true) {
            for hazard in self.store.hazards()? {
                warn!("measurements are at risk: {hazard}");
            }
        }
        Ok(())
    }
}

fn shown(raw: &Raw) -> String {
    match raw {
        Raw::Missing => format!("there is no {LAST_ID}, everything counts"),
        Raw::Text(text) => format!("{LAST_ID} = {text:?}"),
        Raw::Unusable(_) => format!("{LAST_ID} is unusable, everything counts"),
    }
}
