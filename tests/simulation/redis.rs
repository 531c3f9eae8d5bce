//! A Redis in memory: the keys of the service, what Redis says about them, and its moods.

use std::collections::BTreeMap;
use std::time::Duration;

use mqtt_handler::bridge::{Answer, Look, Newest, Page, RedisFailure, Request, Save};
use mqtt_handler::model::measurement::{BatchLimits, Entry};
use mqtt_handler::model::settings::{Raw, RawSettings};
use mqtt_handler::model::stream::{Copied, Position, Remembered, Saved, Sent, Stream, Waiting};
use mqtt_handler::model::stream_id::{Cursor, StreamId};

use crate::schedule::Trigger;
use crate::stream::{Entries, Uid};
use crate::watch::Told;
use crate::world::World;

/// Entries that one request counts or trims at most.
const SLICE: usize = 40;
/// Entries that are counted at most where the server keeps no count.
const COUNTED: usize = 10_000;
/// Entries of the page for a wait.
const FEW: usize = 4;
/// Bytes of entries that one page takes at most.
const PAGE_BYTES: usize = 20_000;

#[derive(Clone, Debug, Default)]
pub enum Values {
    #[default]
    Absent,
    Stream(Entries),
    /// A key of another type.
    Other,
}

/// What the status hash holds.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub remembered: Remembered,
    /// What of the stream is known by that.
    pub told: Told,
    pub writes: u64,
}

/// All that a restart may bring back.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub values: Values,
    pub enabled: Raw,
    pub interval: Raw,
    pub cursor: Raw,
    pub status: Status,
    pub dead: Vec<(StreamId, Uid)>,
    pub incarnation: usize,
    /// Measurements that there had been when this was put down.
    pub facts: usize,
}

/// What is wrong at the moment; each is counted, because faults overlap.
#[derive(Debug, Default)]
pub struct Mood {
    pub down: u32,
    pub frozen: u32,
    pub loading: u32,
    pub read_only: u32,
    pub full: u32,
    pub latency: u32,
    /// `mqtt_sender:dead_letter` is of another type.
    pub no_copies: u32,
}

impl Mood {
    pub fn answers(&self) -> bool {
        self.down + self.frozen + self.loading == 0
    }
}

#[derive(Default)]
pub struct Redis {
    /// Version 7, which counts what was added.
    pub counts: bool,
    pub data: Data,
    pub mood: Mood,
    /// Another one after each restart: connections do not survive it.
    pub epoch: u64,
    /// Requests that have arrived while it was frozen.
    pub stalled: Vec<u64>,
    pub blocked: Option<Blocked>,
    pub snapshots: BTreeMap<usize, Data>,
}

/// XREAD BLOCK.
pub struct Blocked {
    pub number: u64,
    after: StreamId,
    count: usize,
    limits: BatchLimits,
    settings: RawSettings,
    /// The entry that has ended the wait.
    woken: Option<StreamId>,
}

impl Data {
    pub fn stream(&self) -> Option<&Entries> {
        match &self.values {
            Values::Stream(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn stream_mut(&mut self) -> Option<&mut Entries> {
        match &mut self.values {
            Values::Stream(entries) => Some(entries),
            _ => None,
        }
    }

    /// The place that the key of the cursor stands for, as everybody reads it.
    pub fn stored_place(&self) -> Option<StreamId> {
        match &self.cursor {
            Raw::Text(text) => match text.parse() {
                Ok(Cursor::After(id)) => Some(id),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn settings(&self) -> RawSettings {
        RawSettings {
            enabled: self.enabled.clone(),
            interval: self.interval.clone(),
            last_id: self.cursor.clone(),
        }
    }
}

type Reply = Result<Answer, RedisFailure>;

fn refused(why: &str) -> RedisFailure {
    RedisFailure::Refused(why.into())
}

impl World {
    /// Answers one request; `None`: it blocks.
    pub fn serve(&mut self, number: u64, request: &Request) -> Option<Reply> {
        if self.redis.mood.loading > 0 && *request != Request::Connect {
            return Some(Err(refused("LOADING")));
        }
        let writes = matches!(
            request,
            Request::Save(_)
                | Request::Copy { .. }
                | Request::Trim { .. }
                | Request::NoteAccount(_)
                | Request::WriteStatus(_)
        );
        if writes && self.redis.mood.read_only > 0 {
            self.refused_a_save(request);
            return Some(Err(refused("READONLY")));
        }
        Some(match request {
            Request::Connect => Ok(Answer::Done),
            Request::Hazards => Ok(Answer::Hazards(Vec::new())),
            Request::Remember => Ok(Answer::Remembered(
                self.redis.data.status.remembered.clone(),
            )),
            Request::Settings => Ok(Answer::Settings(self.redis.data.settings())),
            Request::Page {
                after,
                count,
                limits,
            } => {
                let settings = self.redis.data.settings();
                let matches = !self.random.percent(3);
                self.page(*after, *count, *limits, settings, matches)
            }
            Request::Await {
                after,
                count,
                limits,
                patience,
            } => return self.wait_for_entries(number, *after, *count, *limits, *patience),
            Request::Look { after } => self.look(*after),
            Request::Newest => self.state().map(|_| Answer::Newest(self.newest())),
            Request::Count { after, last } => self.count(*after, *last),
            Request::Save(save) => self.save(save),
            Request::Copy { id, .. } => self.copy(*id),
            Request::Trim { sent, keep } => self.trim(sent, *keep),
            Request::NoteAccount(save) => self.note_account(save),
            Request::WriteStatus(save) => self.write_status(save.as_ref()),
        })
    }

    fn full(&self) -> Result<(), RedisFailure> {
        if self.is_full() {
            return Err(refused("OOM"));
        }
        Ok(())
    }

    /// Nothing that takes memory is accepted, but for the cursor.
    pub fn is_full(&self) -> bool {
        let entries = self
            .redis
            .data
            .stream()
            .map_or(0, |entries| entries.all.len());
        let no_room = self.plan.setup.room.is_some_and(|room| entries >= room);
        self.redis.mood.full > 0 || no_room
    }

    fn state(&self) -> Result<Stream, RedisFailure> {
        match &self.redis.data.values {
            Values::Absent => Ok(Stream::Absent),
            Values::Stream(entries) => Ok(entries.state(self.redis.counts)),
            Values::Other => Err(refused("WRONGTYPE")),
        }
    }

    fn page(
        &mut self,
        after: StreamId,
        count: usize,
        limits: BatchLimits,
        settings: RawSettings,
        with_state: bool,
    ) -> Reply {
        let stream = self.state()?;
        if with_state {
            self.watch_look(true);
        }
        let (mut bytes, mut cut) = (0, false);
        let mut found: Vec<(StreamId, Uid)> = Vec::new();
        if let Some(entries) = self.redis.data.stream() {
            for (id, uid) in entries.behind(after).take(count) {
                bytes += 40 + self.ledger.facts[uid].pad;
                if bytes > PAGE_BYTES && !found.is_empty() {
                    cut = true;
                    break;
                }
                found.push((id, uid));
            }
        }
        let texts: Vec<(StreamId, String, usize)> = found
            .iter()
            .map(|(id, uid)| (*id, uid.to_string(), self.ledger.facts[*uid].pad))
            .collect();
        let list = self.encoder.batch(
            texts.iter().map(|(id, uid, pad)| Entry {
                id: *id,
                fields: [
                    (&b"n"[..], uid.as_bytes()),
                    (&b"p"[..], &self.padding[..*pad]),
                ],
            }),
            limits,
        );
        let count_in_list = list.as_ref().map_or(0, |list| list.count);
        let at_end = found.len() < count && !cut;
        let more = found.len() > count_in_list || !at_end;
        self.watch_page(more);
        let last = found.last().filter(|_| at_end && self.plan.setup.latest);
        let newest = last.map(|(id, uid)| self.as_newest(*id, *uid));
        Ok(Answer::Page(Page {
            settings,
            stream: with_state.then_some(stream),
            entries: found.len(),
            at_end,
            list,
            newest,
            oddities: self.encoder.oddities,
        }))
    }

    /// The page for a wait is short, and it is the newest entry that tells whether there is more.
    fn short(&mut self, reply: Reply, count: usize) -> Reply {
        let Ok(Answer::Page(page)) = reply else {
            return reply;
        };
        let last = page.list.as_ref().map(|list| list.last);
        let newest = self.redis.data.stream().map(|entries| entries.newest);
        let at_end = page.entries < count.min(FEW) && last >= newest;
        self.watch_page(!at_end);
        Ok(Answer::Page(Page { at_end, ..page }))
    }

    fn newest(&mut self) -> Option<Newest> {
        let (id, uid) = self.redis.data.stream()?.all.last_key_value()?;
        let (id, uid) = (*id, *uid);
        Some(self.as_newest(id, uid))
    }

    fn as_newest(&mut self, id: StreamId, uid: Uid) -> Newest {
        let (text, pad) = (uid.to_string(), self.ledger.facts[uid].pad);
        let fields = [
            (&b"n"[..], text.as_bytes()),
            (&b"p"[..], &self.padding[..pad]),
        ];
        Newest {
            id,
            payload: Some(self.encoder.single(Entry { id, fields })),
        }
    }

    fn wait_for_entries(
        &mut self,
        number: u64,
        after: StreamId,
        count: usize,
        limits: BatchLimits,
        patience: Duration,
    ) -> Option<Reply> {
        let settings = self.redis.data.settings();
        let some = |entries: &Entries| entries.behind(after).next().is_some();
        if matches!(self.redis.data.values, Values::Other)
            || self.redis.data.stream().is_some_and(some)
        {
            let matches = !self.random.percent(3);
            let reply = self.page(after, count.min(FEW), limits, settings, matches);
            return Some(self.short(reply, count));
        }
        self.redis.blocked = Some(Blocked {
            number,
            after,
            count,
            limits,
            settings,
            woken: None,
        });
        let at = self.now + patience.max(Duration::from_millis(1));
        self.queue
            .push(at, crate::queue::Event::RedisUnblocks(number));
        None
    }

    /// The wait of XREAD is over, by an entry or by its patience.
    pub fn unblock(&mut self, number: u64) {
        let Some(blocked) = self.redis.blocked.take_if(|b| b.number == number) else {
            return;
        };
        let (after, settings) = (blocked.after, blocked.settings);
        let reply = match blocked.woken {
            // The time is up: nothing is told of the stream.
            None => Ok(Answer::Page(Page {
                settings,
                at_end: true,
                ..Page::default()
            })),
            // Redis takes the rest of a burst before it tells the state.
            Some(_) => {
                let reply = self.page(after, 1, blocked.limits, settings, true);
                self.short(reply, blocked.count)
            }
        };
        self.reply(number, reply);
    }

    /// Something was added: whoever waits for it is served, after all that comes with it.
    pub fn added(&mut self, id: StreamId) {
        if let Some(blocked) = &mut self.redis.blocked {
            if blocked.woken.is_none() && id > blocked.after {
                blocked.woken = Some(id);
                let event = crate::queue::Event::RedisUnblocks(blocked.number);
                self.queue.push(self.now, event);
            }
        }
    }

    fn look(&mut self, after: StreamId) -> Reply {
        let stream = self.state()?;
        self.watch_look(false);
        let counts = self.redis.counts;
        let entries = self.redis.data.stream();
        let oldest = entries.and_then(|entries| entries.behind(after).next());
        let waiting = entries.filter(|_| !counts).map(|entries| {
            let count = entries.behind(after).take(COUNTED + 1).count() as u64;
            if count > COUNTED as u64 {
                Waiting::AtLeast(COUNTED as u64)
            } else {
                Waiting::Exactly(count)
            }
        });
        Ok(Answer::Look(Look {
            stream,
            oldest: oldest.map(|(id, _)| id),
            waiting,
            used_percent: None,
        }))
    }

    fn count(&mut self, after: StreamId, last: StreamId) -> Reply {
        self.state()?;
        let slice = self.redis.data.stream().map(|entries| {
            let inside = entries.behind(after).take_while(|(id, _)| *id <= last);
            inside
                .take(SLICE)
                .fold((0, last), |(n, _), (id, _)| (n + 1, id))
        });
        let (count, end) = slice.unwrap_or((0, last));
        Ok(Answer::Counted { count, end })
    }

    fn save(&mut self, save: &Save) -> Reply {
        let data = &self.redis.data;
        if matches!(data.cursor, Raw::Unusable(_)) {
            let found = data.cursor.clone();
            self.refused_a_save(&Request::Save(save.clone()));
            return Ok(Answer::Saved(Saved::Foreign(found)));
        }
        if data.cursor == Raw::Text(save.cursor.clone()) {
            self.watch_same_cursor();
            return Ok(Answer::Saved(Saved::Yes));
        }
        if data.cursor != save.expected {
            return Ok(Answer::Saved(Saved::Foreign(data.cursor.clone())));
        }
        self.redis.data.cursor = Raw::Text(save.cursor.clone());
        self.remember(save);
        self.cursor_was_saved();
        self.trip(Trigger::Saved);
        Ok(Answer::Saved(Saved::Yes))
    }

    fn remember(&mut self, save: &Save) {
        self.redis.data.status.remembered = Remembered {
            position: Some(position(save)),
            lost: save.lost,
            dead_letters: save.dead_letters,
        };
        self.watch_account_is_stored();
    }

    fn note_account(&mut self, save: &Save) -> Reply {
        self.full()?;
        self.remember(save);
        Ok(Answer::Done)
    }

    fn write_status(&mut self, save: Option<&Save>) -> Reply {
        self.full()?;
        if let Some(save) = save {
            self.redis.data.status.remembered.position = Some(position(save));
            self.watch_account_is_stored();
        }
        self.redis.data.status.writes += 1;
        if let Some(view) = &self.device.shown {
            let remembered = &mut self.redis.data.status.remembered;
            remembered.lost = view.counters.lost;
            remembered.dead_letters = view.counters.dead_letters;
        }
        Ok(Answer::Done)
    }

    fn copy(&mut self, id: StreamId) -> Reply {
        self.full()?;
        if self.redis.mood.no_copies > 0 {
            return Err(refused("WRONGTYPE"));
        }
        self.state()?;
        let uid = self.redis.data.stream().and_then(|e| e.all.get(&id));
        let Some(uid) = uid.copied() else {
            return Ok(Answer::Copied(Copied::Gone));
        };
        self.redis.data.dead.push((id, uid));
        self.was_dead_lettered(uid);
        self.trip(Trigger::Copied);
        Ok(Answer::Copied(Copied::Yes))
    }

    fn trim(&mut self, sent: &Sent, keep: u64) -> Reply {
        let Sent {
            cursor,
            accounted,
            oldest,
        } = *sent;
        self.state()?;
        if self.redis.data.cursor != Raw::Text(Cursor::written(cursor)) {
            return Ok(Answer::Trimmed { more: false });
        }
        let counts = self.redis.counts;
        let Some(entries) = self.redis.data.stream_mut() else {
            return Ok(Answer::Trimmed { more: false });
        };
        let first = entries.all.keys().next();
        let another = entries.newest < cursor
            || first.is_some_and(|first| *first < oldest)
            || accounted.is_some_and(|n| counts && entries.added < n);
        if another {
            return Ok(Answer::Trimmed { more: false });
        }
        let sent = entries.all.range(..=cursor).count();
        let surplus = sent.saturating_sub(keep as usize);
        let cut: Vec<StreamId> = entries
            .all
            .keys()
            .take(surplus.min(SLICE))
            .copied()
            .collect();
        let removed: Vec<Uid> = match cut.last() {
            Some(last) => entries.trim_below(last.next()),
            None => Vec::new(),
        };
        for uid in removed {
            let fact = &self.ledger.facts[uid];
            if fact.arrived == 0 && !fact.dead && !fact.was_skipped {
                let what = format!("{} was trimmed and never sent", fact.id);
                self.ledger.broken("1 nothing lost", what);
            }
        }
        Ok(Answer::Trimmed {
            more: surplus > SLICE,
        })
    }

    /// What the device needs of Redis for itself.
    pub fn redis_latency(&mut self) -> Duration {
        if self.redis.mood.latency > 0 {
            return self.random.millis(20, 150);
        }
        self.random.micros(50, 1500)
    }

    /// All is as it was at a moment before.
    pub fn restore(&mut self, snapshot: usize) {
        let Some(data) = self.redis.snapshots.remove(&snapshot) else {
            return;
        };
        self.forget_what_is_newer(&data);
        self.redis.data = data;
        self.cursor_is_restored();
        self.ledger.incarnation = self.redis.data.incarnation;
    }
}

fn position(save: &Save) -> Position {
    Position {
        cursor: save.cursor.clone(),
        accounted: save.accounted,
        seen: save.seen,
        foreign: save.foreign,
    }
}

/// For the time-outs of requests.
pub const PATIENCE: Duration = Duration::from_secs(5);
