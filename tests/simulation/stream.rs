//! A stream of Redis with the numbers that Redis keeps about it.

use std::collections::BTreeMap;

use mqtt_handler::model::stream::{Extent, Stream};
use mqtt_handler::model::stream_id::StreamId;

/// What lies behind an ID: the number of the measurement in the ledger.
pub type Uid = usize;

#[derive(Clone, Debug, Default)]
pub struct Entries {
    pub all: BTreeMap<StreamId, Uid>,
    pub newest: StreamId,
    pub added: u64,
    pub deleted: StreamId,
}

impl Entries {
    /// The next ID that `*` gives at this time.
    pub fn next_id(&self, wall_ms: u64) -> StreamId {
        if wall_ms > self.newest.ms {
            StreamId::new(wall_ms, 0)
        } else {
            self.newest.next()
        }
    }

    pub fn add(&mut self, id: StreamId, uid: Uid) {
        assert!(id > self.newest, "XADD takes no older ID");
        self.all.insert(id, uid);
        self.newest = id;
        self.added += 1;
    }

    pub fn behind(&self, after: StreamId) -> impl Iterator<Item = (StreamId, Uid)> + '_ {
        // `MAX` has nothing behind it, and `next` leaves it where it is.
        self.all
            .range(after.next()..)
            .filter(move |(id, _)| **id > after)
            .map(|(id, uid)| (*id, *uid))
    }

    /// XDEL.
    pub fn delete(&mut self, id: StreamId) -> Option<Uid> {
        let uid = self.all.remove(&id)?;
        self.deleted = self.deleted.max(id);
        Some(uid)
    }

    /// XTRIM MINID.
    pub fn trim_below(&mut self, from: StreamId) -> Vec<Uid> {
        let kept = self.all.split_off(&from);
        std::mem::replace(&mut self.all, kept)
            .into_values()
            .collect()
    }

    pub fn state(&self, counts: bool) -> Stream {
        Stream::Present(Extent {
            newest: self.newest,
            length: self.all.len() as u64,
            added: counts.then_some(self.added),
            first: self.all.first_key_value().map(|(id, _)| *id),
            deleted: if counts { self.deleted } else { StreamId::ZERO },
        })
    }
}
