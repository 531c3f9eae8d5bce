//! From the requests of the bridge to the commands of the store, and from its answers back.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use crate::bridge::{Answer, Newest, Page, RedisFailure, Request, Save, Written};
use crate::config::Config;
use crate::model::measurement::{BatchLimits, Encoder, Entry};
use crate::model::settings::RawSettings;
use crate::model::stream::Stream;
use crate::service::board::Board;
use crate::store::{self, Store, StoreError};

/// Bytes of the names and values of an entry that is published as the newest one.
const MAX_NEWEST: usize = 64 << 10;

pub struct Requests {
    store: Store,
    encoder: Encoder,
    /// The newest entry is wanted.
    latest: bool,
}

impl Requests {
    pub fn new(config: &Config) -> Requests {
        Requests {
            store: Store::new(&config.redis, "mqtt-handler"),
            encoder: Encoder::new(&config.identity),
            latest: config.mqtt.topics.latest.is_some(),
        }
    }

    /// How Redis calls this connection; see `Store::client_id`.
    pub fn client_id(&self) -> Arc<AtomicI64> {
        self.store.client_id()
    }

    /// Asks Redis, and waits for the answer.
    ///
    /// # Errors
    /// Redis is out of reach, or refuses.
    pub fn ask(&mut self, request: Request, board: &Board) -> Result<Answer, RedisFailure> {
        self.answer(request, board).map_err(|error| match error {
            StoreError::Unreachable(reason) => RedisFailure::Lost(reason),
            StoreError::Refused(reason) => RedisFailure::Refused(reason),
        })
    }

    fn answer(&mut self, request: Request, board: &Board) -> Result<Answer, StoreError> {
        let store = &mut self.store;
        Ok(match request {
            Request::Connect => {
                store.connect()?;
                Answer::Done
            }
            Request::Hazards => Answer::Hazards(store.hazards()?),
            Request::Remember => Answer::Remembered(store.remembered()?),
            Request::Settings => Answer::Settings(store.settings()?),
            Request::Page { limits, .. } | Request::Await { limits, .. } => {
                self.page(&request, limits, board)?
            }
            Request::Look { after } => Answer::Look(store.look(after)?),
            Request::Newest => {
                let found = store.newest(MAX_NEWEST)?;
                Answer::Newest(found.map(|(id, page)| Newest {
                    id,
                    payload: page.entries().next().map(|e| self.encoder.single(e)),
                }))
            }
            Request::Count { after, last } => {
                let (count, end) = store.count(after, last)?;
                Answer::Counted { count, end }
            }
            Request::Save(save) => {
                Answer::Saved(store.save_cursor(&save.expected, &stored(&save))?)
            }
            Request::NoteAccount(save) => {
                store.note_account(&stored(&save))?;
                Answer::Done
            }
            Request::Copy { id, reason } => Answer::Copied(store.copy_poison(id, &reason)?),
            Request::Trim { sent, keep } => Answer::Trimmed {
                more: store.trim_sent(&sent, keep)?.more,
            },
            Request::WriteStatus(save) => {
                store.write_status(&board.snapshot(), save.as_ref().map(stored).as_ref())?;
                Answer::Done
            }
        })
    }

    fn page(
        &mut self,
        request: &Request,
        limits: BatchLimits,
        board: &Board,
    ) -> Result<Answer, StoreError> {
        let bytes = page_bytes(limits);
        match request {
            Request::Await {
                after,
                count,
                patience,
                ..
            } => {
                let (settings, stream, page) = self.store.wait(*after, *count, bytes, *patience)?;
                Ok(Answer::Page(self.encoded(settings, stream, &page, limits)))
            }
            Request::Page {
                after,
                count,
                status,
                ..
            } => {
                let record = status.as_ref().map(|save| (board.snapshot(), stored(save)));
                let read = self.store.page(*after, *count, bytes, record.as_ref())?;
                let (settings, stream, page) = read;
                let written = record.map(|_| store::written_along(&page));
                Ok(Answer::Page(Page {
                    written: written.map(|(refused, used_percent)| Written {
                        refused: refused.err().map(|error| error.to_string()),
                        used_percent,
                    }),
                    ..self.encoded(settings, stream, &page, limits)
                }))
            }
            _ => Ok(Answer::Done),
        }
    }

    /// The last entry of a page that reaches to the end of the stream.
    fn newest_of(&mut self, page: &store::Page) -> Option<Newest> {
        let entry = page.last_entry().filter(|_| self.latest && !page.more())?;
        Some(Newest {
            id: entry.id,
            payload: is_small(&entry).then(|| self.encoder.single(entry)),
        })
    }

    fn encoded(
        &mut self,
        settings: RawSettings,
        stream: Option<Stream>,
        page: &store::Page,
        limits: BatchLimits,
    ) -> Page {
        Page {
            settings,
            stream,
            entries: page.len(),
            at_end: !page.more(),
            list: self.encoder.batch(page.entries(), limits),
            newest: self.newest_of(page),
            oddities: self.encoder.oddities,
            written: None,
        }
    }
}

/// Whether an entry has no more bytes than the newest one may have.
fn is_small<'a>(entry: &Entry<impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone>) -> bool {
    let bytes = entry
        .fields
        .clone()
        .map(|(name, value)| name.len() + value.len());
    bytes.sum::<usize>() <= MAX_NEWEST
}

/// Bytes of entries as Redis sends them that make a full list: an empty name with an empty value
/// has twice the bytes there.
fn page_bytes(limits: BatchLimits) -> usize {
    limits.unpacked().saturating_mul(2)
}

fn stored(save: &Save) -> store::Save<'_> {
    store::Save {
        cursor: &save.cursor,
        accounted: save.accounted,
        seen: save.seen,
        former: save.former,
        foreign: save.foreign,
        lost: Some(save.lost),
        dead_letters: Some(save.dead_letters),
    }
}
