//! What others do to Redis: sensors that append, and whoever sets a cursor, deletes, trims.

use std::time::Duration;

use mqtt_handler::model::settings::Raw;
use mqtt_handler::model::stream_id::{Cursor as Place, StreamId};

use crate::ledger::Poison;
use crate::queue::Event;
use crate::redis::Values;
use crate::schedule::{Cursor, Fault};
use crate::stream::{Entries, Uid};
use crate::watch::Knowledge;
use crate::world::World;

/// The wall clock of the device at first, in milliseconds.
const EPOCH_MS: i64 = 1_700_000_000_000;

impl World {
    pub fn wall_ms(&self) -> u64 {
        let since = self.now.saturating_duration_since(self.base).as_millis() as i64;
        (EPOCH_MS + self.wall_shift * 1000 + since) as u64
    }

    /// A sensor appends, unless Redis does not take it.
    pub fn sensor(&mut self) {
        if self.sensors_run {
            self.append(0, None);
            let every = self.plan.setup.every;
            let at = self.now + every / 2 + self.random.micros(0, 1 + every.as_micros() as u64);
            self.queue.push(at, Event::Sensor);
        }
    }

    pub fn append(&mut self, more: usize, poison: Option<Poison>) {
        let mood = &self.redis.mood;
        if !mood.answers() || mood.read_only > 0 || self.is_full() {
            return;
        }
        if let Values::Absent = self.redis.data.values {
            self.redis.data.values = Values::Stream(Entries::default());
        }
        let wall = self.wall_ms();
        let Some(entries) = self.redis.data.stream_mut() else {
            return;
        };
        let id = entries.next_id(wall);
        let skipped = self.watch.floor.is_some_and(|floor| id <= floor);
        let pad = self.plan.setup.pad + more;
        let uid = self.ledger.added(id, pad, poison, skipped);
        entries.add(id, uid);
        let told = self.watch_knowledge();
        if told.incarnation != self.redis.data.incarnation {
            self.old_server_cannot_tell(told);
        }
        if self.trace.is_some() {
            self.note("sensor", &format!("XADD {id} (number {uid}, {poison:?})"));
        }
        self.added(id);
    }

    pub fn note(&mut self, who: &str, what: &str) {
        if let Some(trace) = &mut self.trace {
            trace.line(self.now, who, what);
        }
    }

    pub fn begin_fault_by_others(&mut self, fault: Fault) {
        if !self.redis.mood.answers() {
            return;
        }
        match fault {
            Fault::StreamDeleted => self.stream_is_deleted(),
            Fault::StreamAway => self.stream_goes_away(),
            Fault::StreamRewritten { hours_back } => {
                let told = self.watch_knowledge();
                self.stream_is_deleted();
                self.wall_shift -= 3600 * hours_back as i64;
                for _ in 0..8 {
                    self.append(0, None);
                }
                self.wall_shift += 3600 * hours_back as i64;
                self.old_server_cannot_tell(told);
            }
            Fault::WaitingDeleted { count } => self.delete(count, true),
            Fault::SentDeleted { count } => self.delete(count, false),
            Fault::Trimmed { keep } => self.trim_by_others(keep as usize),
            Fault::IdsRaised => {
                if let Some(entries) = self.redis.data.stream_mut() {
                    entries.newest = StreamId::new(entries.newest.ms + 5000, 0);
                }
            }
            Fault::StreamOfOtherType => {
                self.stream_is_deleted();
                self.redis.data.values = Values::Other;
            }
            Fault::CursorSet(cursor) => {
                let raw = self.foreign_text(cursor);
                self.foreign_cursor(raw);
            }
            Fault::CursorOfOtherType => {
                let what = "the key does not hold a string";
                self.foreign_cursor(Raw::Unusable(what.into()));
            }
            Fault::Disabled => self.redis.data.enabled = Raw::Text("0".into()),
            Fault::Interval { millis } => {
                let text = format!("{}", Duration::from_millis(millis).as_secs_f64());
                self.redis.data.interval = Raw::Text(text);
            }
            Fault::Burst { count } => (0..count).for_each(|_| self.append(0, None)),
            Fault::Large => self.append(3000, None),
            Fault::Poison { count } => {
                for _ in 0..count {
                    let poisons = [Poison::Refused, Poison::Closed, Poison::Silent];
                    let poison = self.random.pick(&poisons);
                    self.append(0, Some(poison));
                    (0..self.random.below(4)).for_each(|_| self.append(0, None));
                }
            }
            _ => unreachable!("{fault:?} is not done by others"),
        }
    }

    fn stream_is_deleted(&mut self) {
        let Values::Stream(entries) = std::mem::take(&mut self.redis.data.values) else {
            return;
        };
        self.are_removed(entries.all.into_values().collect());
        self.watch_stream_deleted(true);
        self.redis.data.incarnation = self.ledger.another_stream();
    }

    fn stream_goes_away(&mut self) {
        let Values::Stream(entries) = std::mem::take(&mut self.redis.data.values) else {
            return;
        };
        self.redis.data.away = Some((entries, self.redis.data.incarnation));
        self.redis.data.incarnation = self.ledger.another_stream();
        self.watch_stream_deleted(false);
    }

    /// RENAME puts it in the place of whatever there is.
    pub fn stream_comes_back(&mut self) {
        let Some((entries, incarnation)) = self.redis.data.away.take() else {
            return;
        };
        let told = self.watch_knowledge();
        self.stream_is_deleted();
        let newest = entries.newest;
        self.redis.data.values = Values::Stream(entries);
        self.redis.data.incarnation = incarnation;
        self.ledger.incarnation = incarnation;
        self.watch_stream_back();
        self.old_server_cannot_tell(told);
        self.added(newest);
    }

    /// Servers that do not count what was added show only by older IDs that a stream is another one
    /// than the device knows: otherwise what lies below the cursor may be passed over.
    pub fn old_server_cannot_tell(&mut self, told: Knowledge) {
        // A key of another type hides the place, but the device still has one.
        let place = match self.redis.data.cursor {
            Raw::Unusable(_) => Some(StreamId::MAX),
            _ => self.redis.data.stored_place(),
        };
        if self.redis.counts {
            return;
        }
        // A list that was read moves the cursor whatever stands in the place of its stream by then.
        let place = place.unwrap_or(StreamId::ZERO).max(self.watch.read);
        let known = self.ledger.facts[..told.seen].iter();
        let known = known.filter(|fact| fact.incarnation == told.incarnation);
        let oldest = known.clone().map(|fact| fact.id).min();
        // A cursor behind all that was confirmed may be on its way.
        let confirmed = known.filter(|fact| fact.confirmed).map(|fact| fact.id);
        let place = confirmed.max().map_or(place, |newest| place.max(newest));
        let entries = self.redis.data.stream();
        let first = entries.and_then(|entries| entries.all.keys().next().copied());
        if oldest.is_some() && first < oldest {
            return;
        }
        if let Some(entries) = self.redis.data.stream() {
            for (_, uid) in entries.all.range(..=place) {
                let fact = &mut self.ledger.facts[*uid];
                (fact.skipped, fact.was_skipped) = (true, true);
            }
        }
    }

    fn are_removed(&mut self, uids: Vec<Uid>) {
        for uid in uids {
            self.ledger.facts[uid].removed = true;
            if self.trace.is_some() && self.ledger.facts[uid].arrived == 0 {
                let id = self.ledger.facts[uid].id;
                self.note("others", &format!("{id} is removed, not sent"));
            }
        }
    }

    /// XDEL of some that wait, or of some that were sent.
    fn delete(&mut self, count: u64, waiting: bool) {
        let ledger = &self.ledger;
        let Some(entries) = self.redis.data.stream() else {
            return;
        };
        let fits = |uid: &Uid| (ledger.facts[*uid].arrived == 0) == waiting;
        let ids = entries.all.iter().filter(|(_, uid)| fits(uid));
        let ids: Vec<StreamId> = ids.map(|(id, _)| *id).collect();
        let chosen = (0..count.min(ids.len() as u64)).map(|_| self.random.below(ids.len() as u64));
        let chosen: Vec<StreamId> = chosen.map(|nth| ids[nth as usize]).collect();
        let is_known = self.watch_knowledge().incarnation == self.redis.data.incarnation;
        for id in chosen {
            let deleted = self.redis.data.stream_mut().and_then(|e| e.delete(id));
            if let Some(uid) = deleted {
                // As with a trim.
                self.ledger.facts[uid].unseen |= !is_known;
                self.are_removed(vec![uid]);
            }
        }
    }

    fn trim_by_others(&mut self, keep: usize) {
        let is_known = self.watch_knowledge().incarnation == self.redis.data.incarnation;
        let Some(entries) = self.redis.data.stream_mut() else {
            return;
        };
        let surplus = entries.all.len().saturating_sub(keep);
        let removed = match entries.all.keys().nth(surplus) {
            Some(first) => entries.trim_below(*first),
            None => std::mem::take(&mut entries.all).into_values().collect(),
        };
        for uid in &removed {
            // Out of a stream that it has never seen: that may have happened long ago.
            self.ledger.facts[*uid].unseen |= !is_known;
        }
        self.are_removed(removed);
    }

    fn foreign_text(&mut self, cursor: Cursor) -> Raw {
        let from = self.redis.data.stored_place().unwrap_or(StreamId::ZERO);
        let entries = self.redis.data.stream();
        let back = |count: u64| {
            let before = entries.map(|e| e.all.range(..=from).rev().nth(count as usize));
            before.flatten().map_or(StreamId::ZERO, |(id, _)| *id)
        };
        let ahead = |count: u64| {
            let behind = entries.map(|e| e.behind(from).take(count as usize).last());
            behind.flatten().map_or(from, |(id, _)| id)
        };
        let newest = entries.map_or(from, |entries| entries.newest);
        Raw::Text(match cursor {
            Cursor::Back(count) => Place::written(back(count)),
            Cursor::BackInclusive(count) => back(count).to_string(),
            Cursor::Ahead(count) => Place::written(ahead(count)),
            Cursor::All => "-".into(),
            Cursor::Now => "$".into(),
            Cursor::Beyond => Place::written(StreamId::new(newest.ms + 8000, 0)),
            Cursor::BareTime => format!("({}", back(3).ms),
            Cursor::Spaced => format!(" {}\n", Place::written(back(2))),
            Cursor::Garbage => self.random.pick(&["foo", "12a", "", "(", "1-2-3"]).into(),
            Cursor::Deleted => return Raw::Missing,
        })
    }
}
