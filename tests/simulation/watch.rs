//! The promises that are checked while a schedule happens, each under its name.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mqtt_handler::bridge::{self, Answer, RedisFailure, Request};
use mqtt_handler::link::{self, NoConnectionKind};
use mqtt_handler::model::failure::Cause;
use mqtt_handler::model::measurement::Batch;
use mqtt_handler::model::message::Protocol;
use mqtt_handler::model::notice::Level;
use mqtt_handler::model::settings::Raw;
use mqtt_handler::model::stream::{Copied, Position, Remembered};
use mqtt_handler::model::stream_id::{Cursor, StreamId};

use crate::client::{Doing, Kind, uids};
use crate::queue::Event;
use crate::redis::{Data, Values};
use crate::schedule::{Fault, Planned};
use crate::stream::Uid;
use crate::world::World;

/// A foreign cursor takes effect within this time; half a second more for what is under way.
const OBEYED: Duration = Duration::from_millis(1300);
/// On a line that is good for so long, measurements flow.
const GOOD: Duration = Duration::from_secs(20);
/// Seconds that a list may be late without loss for the next one.
const LATE: f64 = 0.051;
/// What may happen within ten seconds.
const ACTIONS: u64 = 2500;
/// Attempts to connect within a minute, of a broker that ends one connection after the other.
const ATTEMPTS: u32 = 90;
/// To find a limit that the broker does not name takes some connections, of five lines each.
const LINES: u64 = 130;

pub struct Watch {
    pub happened: Vec<bool>,
    pub over: bool,
    pub actions: u64,
    pub requests: u64,
    /// Lists that were handed over, and what had arrived when the last fault ended.
    pub lists: usize,
    pub arrived_by_then: u64,
    /// The place of a foreign cursor, as long as it is not overwritten.
    pub floor: Option<StreamId>,
    foreign: Option<Foreign>,
    writes: u64,
    /// All texts that the key has held.
    texts: BTreeSet<String>,
    /// The stored cursor was found right up to here.
    cleared: StreamId,
    /// Redis has refused to store the cursor, or poison has no copy.
    pub hampered: bool,
    /// What the device knows of the stream, and what the answer that is on its way adds to that.
    pub told: Knowledge,
    coming: Option<Knowledge>,
    /// The last measurement that was read, of a stream that may be another one by now.
    pub read: StreamId,
    /// What that page held.
    pub list: Vec<Uid>,
    /// The device has told that a stream is another one, or back, and not stored it yet.
    told_another: bool,
    /// What was copied last.
    pub copied: Option<Uid>,
    five_failed: bool,
    old_worked: bool,
    window: Window,
    pace: Pace,
    disabled_since: Option<Instant>,
    /// Since when attempts to connect are counted, and how many there were.
    attempts: (Instant, u32),
    /// When the newest measurement went out last, and on which connection.
    latest: Option<(u64, Instant)>,
    /// The device has told that it leaves it out.
    pub no_latest: bool,
}

/// What a device knows of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Knowledge {
    /// Measurements before this one were there by then.
    pub seen: Uid,
    /// The stream that it knows, once it was there with a page of it, or told that it is another one.
    pub incarnation: usize,
    /// The one that it has looked at last.
    looked: usize,
}

struct Foreign {
    nth: u64,
    obeyed: bool,
    usable: bool,
    /// The key has never held it before.
    new: bool,
    /// What was confirmed, and what passed over, before it was set.
    before: Vec<(bool, bool)>,
}

/// What `catch_up_bytes_per_second` allows.
#[derive(Default)]
struct Pace {
    /// There was more behind the list that was read last.
    more: bool,
    /// Before this no list may go.
    from: Option<Instant>,
}

struct Window {
    since: Instant,
    actions: u64,
    arrivals: u64,
    lines: u64,
}

impl Watch {
    pub fn new(faults: usize, now: Instant) -> Watch {
        Watch {
            happened: vec![false; faults],
            over: false,
            actions: 0,
            requests: 0,
            lists: 0,
            arrived_by_then: 0,
            floor: None,
            foreign: None,
            writes: 0,
            texts: BTreeSet::from([format!("{:?}", Raw::Missing)]),
            cleared: StreamId::ZERO,
            hampered: false,
            told: Knowledge::default(),
            coming: None,
            read: StreamId::ZERO,
            list: Vec::new(),
            told_another: false,
            copied: None,
            five_failed: false,
            old_worked: false,
            window: Window {
                since: now,
                actions: 0,
                arrivals: 0,
                lines: 0,
            },
            pace: Pace::default(),
            disabled_since: None,
            attempts: (now, 0),
            latest: None,
            no_latest: false,
        }
    }
}

impl World {
    /// No more than a few actions a second, and no line at full rate.
    pub fn watch_work(&mut self) {
        let window = &self.watch.window;
        if self.now.saturating_duration_since(window.since) < Duration::from_secs(10) {
            return;
        }
        let actions = self.watch.actions - window.actions;
        let arrivals = self.ledger.arrivals - window.arrivals;
        let lines = window.lines;
        if actions > ACTIONS + 40 * arrivals {
            let what = format!("{actions} actions in 10 s for {arrivals} measurements");
            self.ledger.broken("6 bounded work", what);
        }
        if lines > LINES {
            let what = format!("{lines} lines in 10 s");
            self.ledger.broken("6 no line at full rate", what);
        }
        self.watch.window = Window {
            since: self.now,
            actions: self.watch.actions,
            arrivals: self.ledger.arrivals,
            lines: 0,
        };
    }

    pub fn bridge_tells(&mut self, notice: &bridge::Notice) {
        if notice.level() >= Level::Info {
            self.watch.window.lines += 1;
        }
        use bridge::Notice::{CopyRefused, Cursor, CursorRefused, StreamAnew, StreamBack};
        if let Cursor { .. } | StreamAnew { .. } | StreamBack { .. } = notice {
            // It reads on from another place.
            self.watch.read = StreamId::ZERO;
        }
        if let StreamAnew { .. } | StreamBack { .. } = notice {
            self.watch.told_another = true;
            self.watch.told.incarnation = self.watch.told.looked;
        }
        match notice {
            Cursor { after, .. } => self.cursor_is_obeyed(*after),
            StreamAnew { .. } => {
                self.ledger.repeats_allowed += self.repeatable(StreamId::ZERO);
            }
            StreamBack { after, .. } => {
                self.ledger.repeats_allowed += self.repeatable(*after);
                // What was in flight when it was left goes again, whether it has arrived or not.
                let current = self.redis.data.incarnation;
                for fact in &mut self.ledger.facts {
                    fact.confirmed &= fact.id <= *after || fact.incarnation != current;
                }
            }
            CopyRefused { .. } | CursorRefused(_) => {
                self.watch.hampered = true;
            }
            _ => {}
        }
    }

    pub fn link_tells(&mut self, notice: &link::Notice) {
        if notice.level() >= Level::Info {
            self.watch.window.lines += 1;
        }
        self.watch.no_latest |= matches!(notice, link::Notice::NoLatest { .. });
    }

    /// However connections end, they do not follow each other at full rate.
    pub fn watch_attempt(&mut self) {
        let (since, count) = &mut self.watch.attempts;
        if self.now.saturating_duration_since(*since) >= Duration::from_secs(60) {
            (*since, *count) = (self.now, 0);
        }
        *count += 1;
        if *count > ATTEMPTS {
            let what = format!("{count} attempts within a minute");
            self.ledger.broken("6 bounded work", what);
        }
    }

    pub fn watch_request(&mut self, _request: &Request) {
        self.watch.requests += 1;
    }

    /// Measurements behind a place that were sent, and those that are on their way.
    fn repeatable(&self, after: StreamId) -> u64 {
        let arrived = |uid: &Uid| self.ledger.facts[*uid].arrived > 0;
        let entries = self.redis.data.stream();
        let sent = entries.map_or(0, |entries| {
            entries
                .behind(after)
                .filter(|(_, uid)| arrived(uid))
                .count()
        });
        (sent + self.in_flight()) as u64
    }

    fn in_flight(&self) -> usize {
        match self.client.operation.as_ref().map(|o| &o.doing) {
            Some(Doing::Publishing { publication, .. }) => publication.uids.len(),
            _ => self.plan.setup.batch.max_count,
        }
    }

    fn in_the_hands_of_the_publisher(&self) -> Vec<Uid> {
        let letter = self
            .device
            .publisher
            .as_ref()
            .and_then(|p| p.letter.as_ref());
        let waiting = letter.map(|letter| uids(&letter.message.payload));
        let mut uids = waiting.unwrap_or_default();
        if let Some(Doing::Publishing { publication, .. }) =
            self.client.operation.as_ref().map(|o| &o.doing)
        {
            uids.extend(&publication.uids);
        }
        uids
    }

    /// A list was not confirmed: it may arrive twice.
    pub fn note_repeat(&mut self, _cause: Cause) {
        if let Some(Doing::Publishing { publication, .. }) =
            self.client.operation.as_ref().map(|o| &o.doing)
        {
            self.ledger.repeats_allowed += publication.uids.len() as u64;
        }
    }

    pub fn watch_hand_over(&mut self, list: &Batch) {
        let batch = self.plan.setup.batch;
        let bytes = list.payload.len();
        self.watch.lists += usize::from(list.count > 0);
        if list.count > batch.max_count || bytes > batch.max_bytes && list.count > 1 {
            let what = format!("{} measurements, {bytes} bytes", list.count);
            self.ledger.broken("4 never larger than allowed", what);
        }
        self.watch_pace(list);
        let off = self.redis.data.enabled == Raw::Text("0".into());
        let since = self.watch.disabled_since;
        self.watch.disabled_since = if off { since.or(Some(self.now)) } else { None };
    }

    /// A fault begins: between the last one and this one, the line was used.
    pub fn watch_good_line(&mut self) {
        let kicks = |planned: &Planned| planned.fault == Fault::BrokerKicks;
        let good = self.now.saturating_duration_since(self.closed_at);
        let between = self.closed_at > self.base && self.open.is_empty();
        let arrived = self.ledger.arrivals > self.watch.arrived_by_then;
        if between && good > GOOD && !arrived && self.plan.faults.iter().all(kicks) {
            let what = format!("nothing arrived in {good:?}");
            self.ledger.broken("5 a good line is used", what);
        }
    }

    /// A list was read, up to there. `more`: there is more behind it.
    pub fn watch_page(&mut self, last: Option<StreamId>, more: bool) {
        self.watch.pace.more = more;
        self.watch.read = last.unwrap_or(self.watch.read);
    }

    /// No burst is larger than one list, over any number of connections.
    fn watch_pace(&mut self, list: &Batch) {
        let rate = self.plan.setup.catch_up;
        if rate == 0 || list.count == 0 {
            return;
        }
        let now = self.now;
        let early = self.watch.pace.from.filter(|from| now < *from);
        if let Some(from) = early {
            let what = format!("a list {:?} too early", from - now);
            self.ledger.broken("7 a backlog goes at its pace", what);
        }
        // A list that went late lets the next one go that much earlier.
        let owed = list.payload.len() as f64 / rate as f64 - LATE;
        let owed = Duration::from_secs_f64(owed.max(0.0));
        self.watch.pace.from = self.watch.pace.more.then(|| now + owed);
    }

    /// Somebody else sets the cursor.
    pub fn foreign_cursor(&mut self, raw: Raw) {
        if raw == self.redis.data.cursor {
            return;
        }
        self.note("others", &format!("cursor set: {raw:?}"));
        let text = format!("{raw:?}");
        self.redis.data.cursor = raw.clone();
        let place = match &raw {
            Raw::Missing => Some(StreamId::ZERO),
            Raw::Bytes(_) | Raw::Unusable(_) => None,
            Raw::Text(text) => match text.parse() {
                Ok(Cursor::After(id)) => Some(id),
                Ok(Cursor::Now) => self.redis.data.stream().map(|entries| entries.newest),
                Err(_) => None,
            },
        };
        self.watch.writes += 1;
        self.nobody_has_seen_it();
        let facts = self.ledger.facts.iter();
        self.watch.foreign = Some(Foreign {
            nth: self.watch.writes,
            obeyed: false,
            before: facts.map(|fact| (fact.confirmed, fact.skipped)).collect(),
            usable: place.is_some(),
            new: self.watch.texts.insert(text),
        });
        if let Some(place) = place {
            self.is_set_to(place);
        }
        let at = self.now + OBEYED;
        let event = Event::CursorIsDue(self.watch.writes, self.device.process);
        self.queue.push(at, event);
    }

    /// What lies up to there is passed over on purpose, and what lies behind is not.
    fn is_set_to(&mut self, place: StreamId) {
        self.watch.floor = Some(place);
        self.watch.cleared = StreamId::ZERO;
        if let Some(entries) = self.redis.data.stream() {
            for (id, uid) in &entries.all {
                let fact = &mut self.ledger.facts[*uid];
                // What lies behind it will be sent again.
                fact.confirmed &= *id <= place;
                if !fact.confirmed {
                    fact.skipped = *id <= place;
                    fact.was_skipped |= fact.skipped;
                }
            }
        }
    }

    /// A stream is back: a cursor that somebody else has set meanwhile counts in it.
    pub fn watch_stream_back(&mut self) {
        self.watch.cleared = StreamId::ZERO;
        self.redis.data.back = Some(self.redis.data.incarnation);
        if let Some(place) = self.watch.floor {
            self.is_set_to(place);
        }
        if self.watch.floor.is_some() || !self.redis.counts {
            let place = self.redis.data.stored_place();
            self.ledger.repeats_allowed += self.repeatable(place.unwrap_or(StreamId::ZERO));
        }
    }

    /// A restart of Redis has brought back an earlier cursor: what somebody had set is void.
    pub fn cursor_is_restored(&mut self) {
        let place = self.redis.data.stored_place();
        let newest = self
            .redis
            .data
            .stream()
            .map_or(StreamId::ZERO, |e| e.newest);
        let remembered = &self.redis.data.status.remembered;
        let foreign = remembered.position.as_ref().is_some_and(|p| p.foreign);
        self.watch.floor = place.filter(|place| foreign || *place > newest);
        let entries = self.redis.data.stream().into_iter();
        for (id, uid) in entries.flat_map(|entries| &entries.all) {
            let fact = &mut self.ledger.facts[*uid];
            if fact.arrived == 0 {
                fact.skipped = place.is_some_and(|place| *id <= place);
                fact.was_skipped |= fact.skipped;
            }
        }
    }

    fn cursor_is_obeyed(&mut self, after: StreamId) {
        // A confirmation that was not stored is forgotten.
        let away = self.redis.data.away.as_ref();
        let away = [
            away.map(|(_, incarnation)| *incarnation),
            self.redis.data.back,
        ];
        let known = [self.redis.data.incarnation, self.watch.told.incarnation];
        // Those of a stream that is away, or is back and not known to be, are remembered.
        let known = known
            .map(|incarnation| Some(incarnation).filter(|_| !away.contains(&Some(incarnation))));
        for fact in &mut self.ledger.facts {
            let again = fact.id > after && known.contains(&Some(fact.incarnation));
            fact.confirmed &= !again;
            // Whether it has a copy shows when it is to be copied again.
            fact.copy_unknown |= fact.dead && again;
        }
        self.ledger.repeats_allowed += self.repeatable(after);
        let now = self.redis.data.cursor == Raw::Text("$".into());
        if let Some(foreign) = &mut self.watch.foreign {
            foreign.obeyed = true;
        }
        if now {
            self.is_set_to(after);
        }
    }

    /// A foreign cursor takes effect within a second as long as Redis answers.
    pub fn watch_obedience(&mut self, nth: u64, process: u32) {
        let same = self.watch.foreign.as_ref();
        let unheeded = same.is_some_and(|f| f.nth == nth && f.usable && !f.obeyed);
        let calm = self.open.is_empty()
            && self.now.saturating_duration_since(self.closed_at) > OBEYED * 5
            && matches!(self.redis.data.values, Values::Stream(_));
        let runs = self.device.process == process && self.device.stopping.is_none();
        if unheeded && calm && runs && self.device.shown.is_some() {
            let what = format!("{:?} was not obeyed", self.redis.data.cursor);
            self.ledger.broken("3 a foreign cursor is obeyed", what);
        }
    }

    /// What the device wants to store is there already: somebody else agrees with it.
    pub fn watch_same_cursor(&mut self) {
        self.nobody_has_seen_it();
    }

    /// A foreign cursor that the device did not see changes nothing for it.
    fn nobody_has_seen_it(&mut self) {
        if let Some(unseen) = self.watch.foreign.take().filter(|f| !f.obeyed) {
            self.is_undone(unseen);
        }
    }

    fn is_undone(&mut self, unseen: Foreign) {
        for (fact, (confirmed, skipped)) in self.ledger.facts.iter_mut().zip(unseen.before) {
            (fact.confirmed, fact.skipped) = (fact.confirmed || confirmed, skipped);
        }
    }

    /// The device has stored its cursor.
    pub fn cursor_was_saved(&mut self) {
        let Some(place) = self.redis.data.stored_place() else {
            return;
        };
        if let Raw::Text(text) = &self.redis.data.cursor {
            self.watch
                .texts
                .insert(format!("{:?}", Raw::Text(text.clone())));
        }
        match self.watch.foreign.take_if(|f| f.usable && !f.obeyed) {
            Some(foreign) if foreign.new => {
                let what = format!("by {place}");
                self.ledger
                    .broken("3 a foreign cursor is not overwritten", what);
            }
            // It holds what it held when the device asked for this: nothing shows that it was set.
            Some(foreign) => self.is_undone(foreign),
            None => self.watch.foreign = None,
        }
        // The last good one stays in force where nobody understands what somebody has set.
        self.watch.floor = self.watch.floor.filter(|floor| *floor == place);
        let from = self.watch.cleared.min(place);
        let current = self.redis.data.incarnation;
        if self.watch.told.incarnation != current {
            // It is another stream than the one that the device knows: no cursor counts there,
            // and all of it has to be sent.
            return;
        }
        let Some(entries) = self.redis.data.stream() else {
            return;
        };
        let facts = &self.ledger.facts;
        let open = |uid: &Uid| {
            let fact = &facts[*uid];
            !(fact.arrived > 0 && fact.confirmed || fact.dead || fact.skipped || fact.thrown_away)
        };
        let mut passed = entries.all.range(from..=place);
        if let Some((id, _)) = passed.find(|(_, uid)| open(uid)) {
            let what = format!("{id} is unconfirmed, and the cursor is {place}");
            self.ledger.broken("4 the cursor never passes", what);
        }
        self.watch.cleared = place;
    }

    pub fn was_dead_lettered(&mut self, uid: Uid) {
        let fact = &mut self.ledger.facts[uid];
        fact.dead = true;
        // Its packet has about so many bytes: where the broker has named its limit, it is not
        // tried.
        let large = fact.pad + 110 > self.broker.limit.bytes();
        if !fact.condemned && !large {
            let what = format!("{} was never turned away by the broker", fact.id);
            self.ledger.broken("2 no innocent is dead-lettered", what);
        }
    }

    /// The stream is gone. `for_ever`: with all that was removed from it and not seen by then.
    pub fn watch_stream_deleted(&mut self, for_ever: bool) {
        self.watch.cleared = StreamId::ZERO;
        let (seen, incarnation) = (self.watch.told.seen, self.redis.data.incarnation);
        for fact in self.ledger.facts.iter_mut().skip(seen) {
            fact.unseen |= for_ever && fact.removed && fact.incarnation == incarnation;
        }
    }

    /// The device is being told the state of the stream.
    pub fn watch_look(&mut self, with_page: bool) {
        let mut told = self.watch.told;
        told.seen = self.ledger.facts.len();
        // Of a stream that is not there, it cannot know what it will be.
        if matches!(self.redis.data.values, Values::Stream(_)) {
            told.looked = self.redis.data.incarnation;
            if with_page {
                told.incarnation = told.looked;
            }
        }
        self.watch.coming = Some(told);
    }

    /// An answer has arrived.
    pub fn watch_answer(&mut self, reply: &Result<Answer, RedisFailure>) {
        let coming = self.watch.coming.take();
        match reply {
            Ok(Answer::Remembered(remembered)) => self.device_remembers(remembered),
            Ok(Answer::Copied(Copied::Yes)) => {
                if let Some(uid) = self.watch.copied.take() {
                    self.ledger.facts[uid].copy_unknown = false;
                }
            }
            // While sending is off, a page that was asked for before is thrown away.
            Ok(Answer::Page(page)) if page.settings.enabled == Raw::Text("0".into()) => {}
            Ok(_) => self.watch.told = coming.unwrap_or(self.watch.told),
            Err(_) => {}
        }
    }

    /// The device goes on from what is stored, and knows no more than that.
    fn device_remembers(&mut self, remembered: &Remembered) {
        let own =
            |position: &Position| self.redis.data.cursor == Raw::Text(position.cursor.clone());
        let known = remembered.position.as_ref().is_some_and(own);
        let told = self.redis.data.status.told;
        let told = if known { told } else { Knowledge::default() };
        self.watch.told = told;
        let current = self.redis.data.incarnation;
        if told.incarnation != current {
            self.old_server_cannot_tell(told);
        }
        for (uid, fact) in self.ledger.facts.iter_mut().enumerate() {
            let countable = known && (uid < told.seen || fact.incarnation == current);
            fact.unseen |= fact.removed && !countable;
        }
    }

    /// What the device knows, or will know when it starts again.
    pub fn watch_knowledge(&self) -> Knowledge {
        if self.device.poller.is_some() {
            return self.watch.told;
        }
        self.redis.data.status.told
    }

    /// What the device knows is stored with its account.
    pub fn watch_account_is_stored(&mut self) {
        self.redis.data.status.told = self.watch.told;
        if std::mem::take(&mut self.watch.told_another) {
            self.redis.data.back = None;
        }
    }

    /// Redis forgets what it did not store.
    pub fn forget_what_is_newer(&mut self, old: &Data) {
        let empty = crate::stream::Entries::default();
        let kept = old.stream().unwrap_or(&empty);
        for fact in &mut self.ledger.facts[old.facts..] {
            fact.forgotten = true;
        }
        for uid in kept.all.values() {
            let fact = &mut self.ledger.facts[*uid];
            fact.was_skipped |= fact.removed;
            fact.removed = false;
        }
        for (_, uid) in &self.redis.data.dead {
            if !old.dead.iter().any(|(_, dead)| dead == uid) {
                let fact = &mut self.ledger.facts[*uid];
                (fact.dead, fact.forgotten) = (false, true);
            }
        }
        for uid in kept.all.values() {
            let fact = &mut self.ledger.facts[*uid];
            fact.confirmed |= fact.arrived > 0;
        }
        self.ledger.begins_again_at(kept.newest, old.incarnation);
        self.watch.cleared = StreamId::ZERO;
        self.watch.hampered = true;
        self.watch.foreign = None;
    }

    pub fn watch_start(&mut self) {
        // A new process knows of no debt.
        self.watch.pace = Pace::default();
        (self.watch.read, self.watch.told_another) = (StreamId::ZERO, false);
        (self.watch.five_failed, self.watch.old_worked) = (false, false);
        self.ledger.old_version_is_right = false;
    }

    /// The process is killed: what it has sent and not stored is sent again.
    pub fn watch_kill(&mut self) {
        let prepared = std::mem::take(&mut self.watch.list);
        for uid in self
            .in_the_hands_of_the_publisher()
            .into_iter()
            .chain(prepared)
        {
            // Whether it would have arrived, nobody will know.
            let fact = &mut self.ledger.facts[uid];
            fact.unseen |= fact.removed;
        }
        let place = self.redis.data.stored_place();
        let behind = place.unwrap_or(StreamId::ZERO);
        self.ledger.repeats_allowed += self.repeatable(behind);
        let known = place.is_some() || self.redis.data.cursor == Raw::Missing;
        // What was confirmed before a cursor was set back stays confirmed.
        let rewound = self.plan.has(|fault| matches!(fault, Fault::CursorSet(_)));
        // Of a stream that has come back the cursor is stored when the device knows, which a server
        // without counts shows late.
        let away = self.plan.has(|fault| *fault == Fault::StreamAway);
        let calm = !self.watch.hampered && !rewound && known && !away;
        let facts = &self.ledger.facts;
        let entries = self.redis.data.stream();
        let confirmed = entries.map_or(0, |entries| {
            let confirmed = |uid: Uid| facts[uid].confirmed;
            entries
                .behind(behind)
                .filter(|(_, uid)| confirmed(*uid))
                .count()
        });
        if calm && confirmed > self.plan.setup.batch.max_count {
            let what = format!("{confirmed} measurements confirmed and not stored");
            self.ledger.broken("3 one list a fault", what);
        }
    }

    /// The process has ended as it was asked to.
    pub fn watch_end(&mut self) {
        self.watch_kill();
        if let Some(asked) = self.device.stopping {
            let took = self.now.saturating_duration_since(asked);
            if took > Duration::from_secs(16) {
                let what = format!("the end took {took:?}");
                self.ledger.broken("5 it ends when asked to", what);
            }
        }
    }

    pub fn handshake_failed(&mut self, protocol: Protocol, kind: NoConnectionKind) {
        let watch = &mut self.watch;
        let without_a_word = matches!(kind, NoConnectionKind::Closed | NoConnectionKind::Silent);
        if protocol == Protocol::V5 {
            if kind == NoConnectionKind::OtherVersion || without_a_word && watch.old_worked {
                self.ledger.old_version_is_right = true;
            }
            (watch.five_failed, watch.old_worked) = (without_a_word, false);
        }
    }

    pub fn handshake_worked(&mut self, protocol: Protocol) {
        let watch = &mut self.watch;
        match protocol {
            Protocol::V5 => (watch.five_failed, watch.old_worked) = (false, false),
            Protocol::V311 => watch.old_worked = watch.five_failed,
        }
    }

    /// MQTT 3.1.1 confirms what it throws away, so it carries measurements only where it must.
    /// The newest measurement goes out at most once a second on a connection.
    pub fn watch_latest(&mut self) {
        let connection = self.client.connection.as_ref();
        let id = connection.map_or(0, |connection| connection.id);
        let before = self.watch.latest.replace((id, self.now));
        if let Some((_, at)) = before.filter(|(other, _)| *other == id) {
            let time = self.now.saturating_duration_since(at);
            if time < Duration::from_secs(1) {
                let what = format!("again after {time:?}");
                self.ledger.broken("7 the newest one, seldom", what);
            }
        }
    }

    pub fn watch_protocol(&mut self, protocol: Protocol, kind: Kind) {
        let wrong = protocol == Protocol::V311 && !self.ledger.old_version_is_right;
        if kind == Kind::Values && wrong {
            let what = "measurements go out in MQTT 3.1.1 without need".to_string();
            self.ledger.broken("4 confirmed means arrived", what);
        }
    }
}
