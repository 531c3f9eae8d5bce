//! A Redis in memory: the keys of the service, what Redis says about them, and its moods.

use std::collections::BTreeMap;
use std::time::Duration;

use mqtt_handler::bridge::{Answer, Look, Newest, Page, RedisFailure, Request, Save, Written};
use mqtt_handler::model::measurement::{BatchLimits, Entry};
use mqtt_handler::model::settings::{Raw, RawSettings};
use mqtt_handler::model::stream::{
    Copied, Extent, Former, Position, Remembered, Saved, Sent, Stream, Waiting,
};
use mqtt_handler::model::stream_id::{Cursor, StreamId};

use crate::schedule::Trigger;
use crate::stream::{Entries, Uid};
use crate::watch::Knowledge;
use crate::world::World;

/// Entries that are counted at most where the server keeps no count.
const COUNTED: usize = 10_000;
/// Entries, and bytes of them as Redis counts them, that one page takes at most.
const PAGE: usize = 512;
const PAGE_BYTES: usize = 1 << 20;
/// Entries that the end of a wait brings at most.
const FEW: usize = 4;
/// Copies that are looked at for an earlier one.
const COPIES: usize = 4;

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
    pub told: Knowledge,
    pub writes: u64,
}

/// All that a restart may bring back.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub values: Values,
    /// A stream under another name, and which one it is.
    pub away: Option<(Entries, usize)>,
    /// The stream that has come back last, until the device has told so.
    pub back: Option<usize>,
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
    /// Entries that one request counts or trims at most.
    pub slice: usize,
    /// So often the state of the stream is not of the same moment as the page.
    pub unmatched_percent: u64,
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
        let always = matches!(request, Request::Connect | Request::Hazards);
        if self.redis.mood.loading > 0 && !always {
            return Some(Err(refused("LOADING")));
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
                status,
            } => {
                let mut page = self.page(*after, *count, *limits);
                let written = status.as_ref().map(|save| self.written_along(save));
                if let Ok(Answer::Page(page)) = &mut page {
                    page.written = written;
                }
                page
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

    fn writable(&self) -> Result<(), RedisFailure> {
        if self.redis.mood.read_only > 0 {
            return Err(refused("READONLY"));
        }
        Ok(())
    }

    /// Nothing that takes memory is accepted, but for the cursor, the status and the copy of poison.
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

    fn page(&mut self, after: StreamId, count: usize, limits: BatchLimits) -> Reply {
        let settings = self.redis.data.settings();
        let before = self.store.state.take();
        let stream = self.state()?;
        let matches = before.is_none_or(|before| before == stream) && self.is_of_one_moment();
        if matches {
            self.watch_look(true);
        }
        let most = count.min(PAGE);
        let budget = limits.max_bytes.saturating_mul(2).min(PAGE_BYTES);
        let (mut bytes, mut cut) = (0, false);
        let mut found: Vec<(StreamId, Uid)> = Vec::new();
        if let Some(entries) = self.redis.data.stream() {
            for (id, uid) in entries.behind(after).take(most) {
                bytes += self.bytes_of(uid);
                cut = bytes > budget && !found.is_empty();
                if cut {
                    break;
                }
                found.push((id, uid));
            }
        }
        let at_end = found.len() < most && !cut;
        let stream = matches.then_some(stream);
        // What comes behind the end makes another state of it.
        self.store.state = stream.filter(|_| !at_end);
        Ok(self.encoded(settings, stream, &found, at_end, limits))
    }

    /// Nothing has happened between reading and looking.
    fn is_of_one_moment(&mut self) -> bool {
        !self.random.percent(self.redis.unmatched_percent)
    }

    /// What the script that reads counts for an entry.
    fn bytes_of(&self, uid: Uid) -> usize {
        let number = uid.checked_ilog10().unwrap_or(0) as usize + 1;
        let strings = ["n".len(), number, "p".len(), self.ledger.facts[uid].pad];
        32 + strings.iter().map(|bytes| bytes + 16).sum::<usize>()
    }

    fn encoded(
        &mut self,
        settings: RawSettings,
        stream: Option<Stream>,
        found: &[(StreamId, Uid)],
        at_end: bool,
        limits: BatchLimits,
    ) -> Answer {
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
        let last = list.as_ref().map(|list| list.last);
        self.watch_page(last, found.len() > count_in_list || !at_end);
        let uids = found.iter().take(count_in_list).map(|(_, uid)| *uid);
        self.watch.list = uids.collect();
        let last = found.last().filter(|_| at_end && self.plan.setup.latest);
        let newest = last.map(|(id, uid)| self.as_newest(*id, *uid));
        Answer::Page(Page {
            settings,
            stream,
            entries: found.len(),
            at_end,
            list,
            newest,
            oddities: self.encoder.oddities,
            written: None,
        })
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
        let served = matches!(self.redis.data.values, Values::Other)
            || self.redis.data.stream().is_some_and(some);
        self.redis.blocked = Some(Blocked {
            number,
            after,
            count,
            limits,
            settings,
            woken: None,
        });
        if served {
            return self.end_of_wait(number);
        }
        let at = self.now + patience.max(Duration::from_millis(1));
        self.queue
            .push(at, crate::queue::Event::RedisUnblocks(number));
        None
    }

    /// The wait of XREAD is over, by an entry or by its patience.
    pub fn unblock(&mut self, number: u64) {
        if let Some(reply) = self.end_of_wait(number) {
            self.reply(number, reply);
        }
    }

    /// A few entries, and the state of the stream right after they came.
    pub fn end_of_wait(&mut self, number: u64) -> Option<Reply> {
        let blocked = self.redis.blocked.take_if(|b| b.number == number)?;
        let state = match self.state() {
            Ok(state) => state,
            Err(why) => return Some(Err(why)),
        };
        let few = blocked.count.clamp(1, FEW);
        // Redis takes the rest of a burst before it tells the state.
        let most = if blocked.woken.is_some() { 1 } else { few };
        let entries = self.redis.data.stream().into_iter();
        let found: Vec<(StreamId, Uid)> = entries
            .flat_map(|entries| entries.behind(blocked.after))
            .take(most)
            .collect();
        let newest = self.redis.data.stream().map(|entries| entries.newest);
        let last = found.last().map(|(id, _)| *id);
        let at_end = last.is_none() || found.len() < few && last == newest;
        let matches = last.is_some() && (blocked.woken.is_some() || self.is_of_one_moment());
        if matches {
            self.watch_look(true);
        }
        let stream = matches.then_some(state);
        Some(Ok(self.encoded(
            blocked.settings,
            stream,
            &found,
            at_end,
            blocked.limits,
        )))
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
            used_percent: self.used_percent(),
        }))
    }

    fn used_percent(&self) -> Option<f64> {
        self.is_full().then_some(101.0)
    }

    fn count(&mut self, after: StreamId, last: StreamId) -> Reply {
        // Nobody is asked for what lies behind the largest ID.
        if after < StreamId::MAX {
            self.state()?;
        }
        let slice = self.redis.data.stream().map(|entries| {
            let inside = entries.behind(after).take_while(|(id, _)| *id <= last);
            inside
                .take(self.redis.slice)
                .fold((0, last), |(n, _), (id, _)| (n + 1, id))
        });
        let (count, end) = slice.unwrap_or((0, last));
        Ok(Answer::Counted { count, end })
    }

    fn save(&mut self, save: &Save) -> Reply {
        let saved = self.saved(save);
        if !matches!(saved, Ok(Saved::Yes)) && self.cursor_can_not_be_stored() {
            self.watch.hampered = true;
        }
        saved.map(Answer::Saved)
    }

    fn saved(&mut self, save: &Save) -> Result<Saved, RedisFailure> {
        // From version 7 on the script says beforehand that it writes.
        if self.redis.counts {
            self.writable()?;
        }
        let found = &self.redis.data.cursor;
        let written = *found == Raw::Text(save.cursor.clone());
        let expected = *found == save.expected && !matches!(found, Raw::Unusable(_));
        if !written && !expected {
            return Ok(Saved::Foreign(found.clone()));
        }
        if written {
            self.watch_same_cursor();
            if self.writable().is_ok() {
                self.remember(save);
            }
            return Ok(Saved::Yes);
        }
        self.writable()?;
        self.redis.data.cursor = Raw::Text(save.cursor.clone());
        self.remember(save);
        self.cursor_was_saved();
        self.trip(Trigger::Saved);
        Ok(Saved::Yes)
    }

    fn cursor_can_not_be_stored(&self) -> bool {
        self.redis.mood.read_only > 0 || matches!(self.redis.data.cursor, Raw::Unusable(_))
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
        self.writable()?;
        self.remember(save);
        Ok(Answer::Done)
    }

    fn write_status(&mut self, save: Option<&Save>) -> Reply {
        self.writable()?;
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

    fn written_along(&mut self, save: &Save) -> Written {
        let refused = match self.write_status(Some(save)) {
            Err(RedisFailure::Refused(reason) | RedisFailure::Lost(reason)) => Some(reason),
            Ok(_) => None,
        };
        Written {
            refused,
            used_percent: self.used_percent(),
        }
    }

    fn copy(&mut self, id: StreamId) -> Reply {
        if self.redis.mood.no_copies > 0 {
            return Err(refused("WRONGTYPE"));
        }
        let mut last = self.redis.data.dead.iter().rev().take(COPIES);
        if let Some((_, uid)) = last.find(|(copied, _)| *copied == id) {
            self.watch.copied = Some(*uid);
            return Ok(Answer::Copied(Copied::Yes));
        }
        self.state()?;
        let uid = self.redis.data.stream().and_then(|e| e.all.get(&id));
        let Some(uid) = uid.copied() else {
            return Ok(Answer::Copied(Copied::Gone(self.state()?)));
        };
        self.writable()?;
        self.redis.data.dead.push((id, uid));
        self.watch.copied = Some(uid);
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
        let stands = self.redis.data.cursor == Raw::Text(Cursor::written(cursor));
        if keep > 0 || stands {
            self.state()?;
        }
        let (counts, slice) = (self.redis.counts, self.redis.slice);
        let Some(entries) = self.redis.data.stream().filter(|_| stands) else {
            return Ok(Answer::Trimmed { more: false });
        };
        let sent = entries.all.range(..=cursor).count();
        let added = if counts { entries.added } else { 0 };
        let first = entries.all.keys().next();
        let another = entries.newest < cursor
            || first.is_some_and(|first| *first < oldest)
            || added < accounted.unwrap_or(0);
        if another || sent < keep as usize {
            return Ok(Answer::Trimmed { more: false });
        }
        self.writable()?;
        let surplus = sent - keep as usize;
        let Some(entries) = self.redis.data.stream_mut() else {
            return Ok(Answer::Trimmed { more: false });
        };
        let cut: Vec<StreamId> = entries
            .all
            .keys()
            .take(surplus.min(slice))
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
            more: surplus > slice,
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

/// What was deleted is not stored.
fn stored(seen: Extent) -> Extent {
    Extent {
        deleted: StreamId::ZERO,
        ..seen
    }
}

fn position(save: &Save) -> Position {
    Position {
        cursor: save.cursor.clone(),
        accounted: save.accounted,
        seen: save.seen.map(stored),
        former: save.former.map(|former| Former {
            seen: stored(former.seen),
            ..former
        }),
        foreign: save.foreign,
    }
}

/// For the time-outs of requests.
pub const PATIENCE: Duration = Duration::from_secs(5);
