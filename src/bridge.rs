//! Decides about measurements: what is most urgent now, what may be published, how far the cursor
//! may move, what somebody else has changed, what got lost, and what to tell.
//!
//! A machine: what has happened goes in (`handle`), what is to be done comes out (`next`). It has
//! no clock, no connection and no log; the poller thread does what it says, and the simulation
//! does the same in a world in memory.
//!
//! What holds at any moment:
//! - one list is in flight at most, and the next one is handed over only when the cursor behind
//!   the one before is stored (or Redis has refused to): a fault repeats one list;
//! - nothing is kept for sending it again: after a failure the stream is read from the frontier;
//! - the stored cursor never passes a measurement that is neither confirmed nor copied;
//! - a cursor that somebody else has written is never overwritten.

pub mod account;
mod answers;
mod buffer;
mod catch_up;
mod cursor;
pub mod delivery;
mod latest;
mod list_size;
mod losses;
mod messages;
pub mod notice;
mod overview;
mod pace;
mod pages;
mod pausing;
mod redis_side;
mod requests;
mod sending;
mod telling;

use std::time::{Duration, Instant};

use crate::model::jitter::Jitter;
use crate::model::measurement::{Batch, BatchLimits, Oddities};
use crate::model::settings::Settings;
use crate::model::status::shown_percent;
use crate::model::stream_id::StreamId;
use account::Account;
use cursor::{MAX_UNCOPIED, Pending, StoredCursor};
use delivery::Delivery;
use latest::Latest;
use losses::Counting;
use overview::Overview;
use pausing::{Pause, Pausing};
use redis_side::RedisSide;

pub use crate::model::stream::Look;
pub use messages::{Action, Answer, Input, Newest, Page, RedisFailure, Request, Save, Written};
pub use notice::Notice;
pub use overview::View;

/// Entries of the first page, before anything is known about their size.
const FIRST_PAGE: usize = 32;
/// Pages whose state of the stream was not of the same moment are read again so often.
const UNMATCHED: u8 = 3;
/// Beside a larger list in flight the next one is not read: both would be in memory at once.
const MOST_BESIDE: usize = 1 << 20;
/// What is in flight when the end is asked for may take this long.
const GRACE: Duration = Duration::from_secs(5);
/// No wait is shorter: a mistake here must not burn a core.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What the bridge has to know of the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    pub interval: Duration,
    pub batch: BatchLimits,
    /// Trim the stream to this many sent entries; `None`: never.
    pub keep_sent: Option<u64>,
    /// Bytes of payload a second while more waits than one list takes; 0: no limit.
    pub catch_up: u64,
    /// For the acknowledgement of a list.
    pub ack_timeout: Duration,
    /// The topic of the measurements, for what is told.
    pub topic: String,
    /// The newest measurement goes to a topic of its own.
    pub latest: bool,
}

#[derive(Debug)]
pub struct Bridge {
    rules: Rules,
    redis: RedisSide,
    link: BrokerLink,
    cursor: StoredCursor,
    delivery: Delivery,
    account: Account,
    counting: Option<Counting>,
    settings: Settings,
    reading: Reading,
    pausing: Pausing,
    overview: Overview,
}

/// The connection to the broker, as far as measurements are concerned.
#[derive(Clone, Copy, Debug)]
enum BrokerLink {
    Down,
    Up { link: u64, limit: usize },
}

/// What was read and not handed over, and when to read again.
#[derive(Debug, Default)]
struct Reading {
    list: Option<Batch>,
    /// There is more to read than was read.
    more: bool,
    bytes_per_entry: usize,
    round_began: Option<Instant>,
    /// When the list in flight was handed over, and how long it may take.
    handed_over: Option<(Instant, Duration)>,
    /// Pages in a row whose state of the stream was not of the same moment.
    unmatched: u8,
    oddities: Oddities,
    latest: Latest,
}

impl Bridge {
    /// `seed` is for the jitter of its waits.
    pub fn new(rules: Rules, seed: u64) -> Bridge {
        Bridge {
            redis: RedisSide::new(Jitter::new(seed)),
            link: BrokerLink::Down,
            cursor: StoredCursor::default(),
            delivery: Delivery::new(StreamId::ZERO, rules.batch.max_bytes),
            account: Account::default(),
            counting: None,
            settings: Settings::new(rules.interval),
            reading: Reading::default(),
            pausing: Pausing::new(rules.catch_up),
            overview: Overview::default(),
            rules,
        }
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Redis(result) => self.redis_answered(now, result),
            Input::LinkUp { link, limit } => {
                self.link = BrokerLink::Up { link, limit };
                self.change_trial(|delivery| delivery.connected(limit));
                self.reading.round_began = None;
                self.reading.latest.begins_again();
                self.overview.connected();
            }
            Input::LinkDown { idle } => {
                self.link = BrokerLink::Down;
                if idle {
                    self.change_trial(Delivery::connection_lost);
                }
                self.drop_list();
                self.overview.touch();
            }
            Input::LinkNoted => self.overview.touch(),
            Input::Delivered(result) => self.delivered(now, result),
            Input::Wake => self.redis.settings_read = None,
            Input::Quiesce => {
                self.drop_list();
                self.pausing.quiesce(now);
            }
            Input::Resume => self.pausing.resume(),
            Input::Stop => {
                self.drop_list();
                self.pausing.pause = Pause::Ending { until: now + GRACE };
                self.overview.ends();
            }
        }
    }

    /// What is to be done now. Called again and again until it is to wait; after a request, its
    /// answer comes first.
    pub fn next(&mut self, now: Instant) -> Action {
        if let Some(notice) = self.overview.notices.next(now) {
            return Action::Tell(notice);
        }
        // What is written is what is shown.
        let writes = self.overview.write_is_due(now, || self.view());
        if self.overview.shows(now, writes) {
            return Action::Show(Box::new(self.view()));
        }
        if self.save_is_due(now) {
            // It is this program's from then on.
            let foreign = false;
            return self.ask(Request::Save(Save {
                foreign,
                ..self.to_save()
            }));
        }
        let publish = self.publish(now);
        if let Some(publish) = publish.or_else(|| self.hand_over_latest(now)) {
            return publish;
        }
        if let Some(request) = self.next_request(now) {
            return self.ask(request);
        }
        let settled = !self.delivery.in_flight() && self.cursor.save != Pending::Now;
        if self.pausing.quiet_is_due(settled) {
            return Action::Quiet;
        }
        if self.is_done(now) {
            let last = self.overview.notices.last(self.cursor.text());
            return last.map_or(Action::Done, Action::Tell);
        }
        Action::Wait(self.due(now).max(now + SHORTEST_WAIT))
    }

    /// What the status shows of the measurements.
    pub fn view(&self) -> View {
        View {
            enabled: self.settings.enabled,
            interval: self.settings.interval,
            last_id: self.cursor.text().to_string(),
            backlog: self.overview.backlog,
            oldest: self.overview.oldest,
            counters: self.overview.counters,
            redis_used_percent: self.overview.buffer.used_percent.map(shown_percent),
            redis_full_in: self.overview.buffer.full_in,
            ended: self.pausing.is_ending(),
        }
    }

    fn ask(&mut self, request: Request) -> Action {
        self.redis.asked = Some(request.clone());
        Action::Ask(request)
    }

    fn tell(&mut self, notice: Notice) {
        self.overview.notices.put(notice);
    }

    fn save_is_due(&self, now: Instant) -> bool {
        self.redis.is_up() && self.cursor.is_known() && self.cursor.save.is_due(now)
    }

    fn to_save(&self) -> Save {
        let place = self
            .cursor
            .storable(self.delivery.frontier(), self.account.accounted());
        let counters = self.overview.counters;
        let streams = (self.account.seen(), self.account.former);
        self.cursor
            .to_save(place, streams, (counters.lost, counters.dead_letters))
    }

    /// Measurements may be read and published.
    fn sending(&self, now: Instant) -> bool {
        self.cursor.is_known()
            && self.settings.enabled
            && matches!(self.link, BrokerLink::Up { .. })
            && !self.pausing.is_paused(now)
            && self.cursor.uncopied() < MAX_UNCOPIED
    }

    /// The interval is 0: what arrives is sent at once.
    fn pushes(&self) -> bool {
        self.settings.interval.is_zero()
    }

    fn round_due(&self, now: Instant) -> Instant {
        self.reading
            .round_began
            .map_or(now, |began| began + self.settings.interval)
    }

    /// Drops what was read but not handed over: it will be read again.
    fn drop_list(&mut self) {
        let ahead = self.ahead();
        self.drop_list_of(ahead);
    }

    /// What was read behind a measurement that is held back does not come next where that one is
    /// tried again.
    pub(super) fn change_trial(&mut self, change: impl FnOnce(&mut Delivery)) {
        let (ahead, place) = (self.ahead(), self.delivery.read_after());
        change(&mut self.delivery);
        if self.delivery.read_after() != place {
            self.drop_list_of(ahead);
        }
    }

    /// The same where so many measurements were read and not confirmed until now.
    fn drop_list_of(&mut self, ahead: u64) {
        self.reading.list = None;
        // The end of a wait brings a few entries only: whether this list is at fault shows when
        // the same one is read again.
        self.reading.more |= ahead > 0;
        self.reading.round_began = None;
        let lost = self
            .account
            .dropped(ahead, self.delivery.unconfirmed() as u64);
        self.lost_in_flight(lost);
    }

    /// Measurements that were read and not confirmed.
    fn ahead(&self) -> u64 {
        let prepared = self.reading.list.as_ref().map_or(0, |list| list.count);
        (self.delivery.unconfirmed() + prepared) as u64
    }

    /// All that the end waits for has come, or its time is over.
    fn is_done(&self, now: Instant) -> bool {
        let Pause::Ending { until } = self.pausing.pause else {
            return false;
        };
        let saved = self.cursor.save == Pending::No || !self.redis.is_up();
        let told = self.overview.is_told_at_end() || !self.redis.is_up();
        now >= until || !self.delivery.in_flight() && saved && told
    }
}

#[cfg(test)]
mod tests;
