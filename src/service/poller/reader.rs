//! The next list, made of a page of the stream.
//!
//! What does not fit into the list is not kept: it comes with the next page. That wastes a few
//! entries a page at most, because a page is asked for in the size of the last list.

use log::warn;

use crate::config::Config;
use crate::model::measurement::BatchLimits;
use crate::model::measurement::{Batch, Encoder, Oddities};
use crate::store::Page;

/// Entries of the first page, before anything is known about their size.
const FIRST_PAGE: usize = 32;

pub struct Reader {
    encoder: Encoder,
    prepared: Option<Batch>,
    bytes_per_entry: usize,
    /// There is more to read than was read.
    more: bool,
    told: Oddities,
}

impl Reader {
    pub fn new(config: &Config) -> Reader {
        Reader {
            encoder: Encoder::new(&config.identity),
            prepared: None,
            bytes_per_entry: 0,
            more: false,
            told: Oddities::default(),
        }
    }

    /// Drops everything: it will be read again.
    pub fn forget(&mut self) {
        self.prepared = None;
        self.more = false;
    }

    pub fn more(&self) -> bool {
        self.more
    }

    pub fn has_list(&self) -> bool {
        self.prepared.is_some()
    }

    pub fn take_list(&mut self) -> Option<Batch> {
        self.prepared.take()
    }

    /// Measurements that were read and not handed over.
    pub fn held(&self) -> usize {
        self.prepared.as_ref().map_or(0, |batch| batch.count)
    }

    /// How many entries to read so that the next list is full, going by the size of the last
    /// ones.
    pub fn wanted(&self, limits: BatchLimits) -> usize {
        match self.bytes_per_entry {
            0 => FIRST_PAGE.min(limits.max_count),
            bytes => (limits.max_bytes / bytes + 2).clamp(1, limits.max_count),
        }
    }

    /// Makes the next list of a page for which `asked` entries were asked.
    pub fn encode(&mut self, page: &Page, asked: usize, limits: BatchLimits) {
        self.prepared = self.encoder.batch(page.entries(), limits);
        if let Some(batch) = &self.prepared {
            self.bytes_per_entry = (batch.payload.len() / batch.count).max(1);
        }
        self.more = page.len() == asked || page.len() > self.held();
        let now = self.encoder.oddities;
        if now.not_utf8 > 0 && self.told.not_utf8 == 0 {
            warn!(
                "a measurement holds bytes that are no UTF-8; they are sent as U+FFFD (told once)"
            );
        }
        if now.double_field > 0 && self.told.double_field == 0 {
            warn!("a measurement holds a field twice; the last value is sent (told once)");
        }
        self.told = now;
    }
}
