//! What the bridge shows of itself: what waits, what was sent, how a catch-up goes on, and when
//! the status is written.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::catch_up::{Behind, CatchUp, Mark};
use super::cursor::Pending;
use super::delivery::Span;
use super::notice::Notice;
use super::telling::Telling;
use crate::model::failure::{Cause, Undelivered};
use crate::model::status::Counters;
use crate::model::stream::Waiting;
use crate::model::stream_id::StreamId;
use crate::model::told::ToldOnce;

/// Flash memory wears: a change is written after this time at the earliest. What waits is looked
/// at as often.
const WRITE: Duration = Duration::from_secs(5);
/// A sign of life although nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The memory of Redis is looked at as often at least: others may fill it within a minute.
const MEMORY: Duration = Duration::from_secs(10);
/// Numbers that run all the time are shown so often.
const SHOW: Duration = Duration::from_millis(500);

/// What the status shows of the measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub enabled: bool,
    pub interval: Duration,
    /// The cursor as it is stored.
    pub last_id: String,
    pub backlog: Option<Waiting>,
    /// The first measurement that waits.
    pub oldest: Option<StreamId>,
    pub counters: Counters,
    /// Of `maxmemory`, where there is one.
    pub redis_used_percent: Option<f64>,
    /// When it will be full at the present rate; `None`: it does not fill.
    pub redis_full_in: Option<Duration>,
    /// The service has come to its end.
    pub ended: bool,
}

impl View {
    /// Whether anything but times differs: they run.
    fn differs(&self, other: &View) -> bool {
        let timeless = |view: &View| View {
            oldest: None,
            redis_full_in: None,
            redis_used_percent: view.redis_used_percent.map(f64::round),
            ..view.clone()
        };
        timeless(self) != timeless(other)
    }
}

#[derive(Debug, Default)]
pub struct Overview {
    pub notices: Telling,
    pub counters: Counters,
    pub backlog: Option<Waiting>,
    pub oldest: Option<StreamId>,
    pub buffer: Buffer,
    /// The account is to be stored although the cursor does not move.
    pub note: Pending,
    looked: Looked,
    shown: Showing,
    written: Written,
    catch_up: CatchUp,
    /// What kept a list from being confirmed, and where: told once.
    unconfirmed_told: ToldOnce<(StreamId, Discriminant<Cause>)>,
}

/// When the stream was looked at last: at all, and also at the memory of Redis.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    stream: Option<Instant>,
    memory: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Showing {
    at: Option<Instant>,
    /// Something has changed that is to be shown at once, now and then, or before it is written.
    urgent: bool,
    running: bool,
    moved: bool,
}

#[derive(Debug, Default)]
struct Written {
    last: Option<(Instant, View)>,
    /// The link's part has changed since.
    touched: bool,
    /// There was a connection to the broker.
    connected: bool,
    /// Looked at and written for the last time.
    end: (bool, bool),
}

impl Overview {
    /// The state has changed, as opposed to numbers that run all the time.
    pub fn touch(&mut self) {
        (self.shown.urgent, self.written.touched) = (true, true);
    }

    /// There is a connection to the broker. The first one is written at once: who has just started
    /// the service looks for it.
    pub fn connected(&mut self) {
        self.touch();
        if !std::mem::replace(&mut self.written.connected, true) {
            self.written.last = None;
        }
    }

    /// A list was confirmed.
    pub fn sent(&mut self, sent: &Span) {
        self.counters.sent_messages += 1;
        self.counters.sent_measurements += sent.count as u64;
        self.counters.sent_bytes += sent.bytes as u64;
        self.shown.running = true;
    }

    /// The stored cursor has moved.
    pub fn saved(&mut self) {
        self.shown.moved = true;
    }

    /// Whether it is time to show the view. `writes`: it is about to be written.
    pub fn shows(&mut self, now: Instant, writes: bool) -> bool {
        let rested = |at: Instant| now.saturating_duration_since(at) >= SHOW;
        let Showing {
            at,
            urgent,
            running,
            moved,
        } = self.shown;
        let due = urgent || running && at.is_none_or(rested) || writes && (running || moved);
        if due {
            self.shown = Showing {
                at: Some(now),
                ..Showing::default()
            };
        }
        due
    }

    /// A list was not confirmed. While the same keeps the stream at the same place, as where lists
    /// are halved, that is told once.
    pub fn not_confirmed(&mut self, frontier: StreamId, why: &Undelivered) {
        self.counters.retries += 1;
        let what = (frontier, discriminant(&why.cause));
        if self.unconfirmed_told.news(what) {
            let reason = (!why.told).then(|| why.reason.clone());
            self.notices.put(Notice::NotConfirmed(reason));
        }
    }

    pub fn look_due(&self, now: Instant) -> Instant {
        match (self.looked.stream, self.looked.memory) {
            (Some(seen), Some(looked)) => (seen + WRITE).min(looked + MEMORY),
            _ => now,
        }
    }

    /// What waits was seen. `memory`: the look has told about the memory of Redis, too.
    pub fn seen(&mut self, now: Instant, backlog: Option<Waiting>, oldest: Option<StreamId>) {
        (self.looked.stream, self.backlog, self.oldest) = (Some(now), backlog, oldest);
        self.shown.running = true;
    }

    pub fn looked(&mut self, now: Instant, used_percent: Option<f64>) {
        self.looked.memory = Some(now);
        if let Some(fills) = self.buffer.seen(now, used_percent) {
            self.notices.put(fills);
        }
        self.written.end.0 = true;
    }

    pub fn last_look_is_due(&self) -> bool {
        !self.written.end.0
    }

    /// The end begins: everything is looked at and written once more.
    pub fn ends(&mut self) {
        self.written.end = (false, false);
        self.touch();
    }

    pub fn is_told_at_end(&self) -> bool {
        self.written.end == (true, true)
    }

    /// Whether the status is to be written now.
    pub fn write_is_due(&self, now: Instant, view: impl Fn() -> View) -> bool {
        if self.written.end == (true, false) && view().ended {
            return true;
        }
        let Some((at, last)) = &self.written.last else {
            // What waits is looked at first.
            return self.looked.memory.is_some();
        };
        let age = now.saturating_duration_since(*at);
        age >= HEARTBEAT || age >= WRITE && (self.written.touched || view().differs(last))
    }

    /// The status was written, or Redis has refused it: the next attempt is not before it is due.
    pub fn wrote(&mut self, now: Instant, view: View) {
        self.written.last = Some((now, view));
        self.written.touched = false;
        self.written.end.1 = self.written.end.0;
    }

    /// The cursor was set: what waits is another backlog.
    pub fn forget_catch_up(&mut self) {
        self.catch_up = CatchUp::default();
    }

    /// What was written may have been lost with the connection.
    pub fn forget_written(&mut self) {
        (self.written.last, self.looked) = (None, Looked::default());
    }

    /// Tells how a catch-up goes on. `behind`: more waits than one list takes. `limit`:
    /// measurements a second, where they are held back to that.
    pub fn tell_catch_up(&mut self, now: Instant, behind: Behind, limit: Option<f64>) {
        let mark = Mark {
            at: now,
            sent: self.counters.sent_measurements,
            left: match self.backlog {
                Some(Waiting::Exactly(count)) => Some(count),
                _ => None,
            },
        };
        for notice in self.catch_up.tell(mark, behind, limit) {
            self.notices.put(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_numbers_are_shown_now_and_then_and_a_change_at_once() {
        let mut overview = Overview::default();
        let now = Instant::now();
        let span = Span {
            first: StreamId::ZERO,
            last: StreamId::ZERO,
            count: 1,
            bytes: 1,
        };
        let shows = |overview: &mut Overview| overview.shows(now, false);
        overview.sent(&span);
        assert!(shows(&mut overview) && !shows(&mut overview));
        overview.sent(&span);
        assert!(!shows(&mut overview));
        overview.touch();
        assert!(shows(&mut overview));
        overview.sent(&span);
        assert!(overview.shows(now + SHOW, false));
    }

    fn view() -> View {
        View {
            enabled: true,
            interval: Duration::ZERO,
            last_id: String::new(),
            backlog: None,
            oldest: None,
            counters: Counters::default(),
            redis_used_percent: Some(50.0),
            redis_full_in: None,
            ended: false,
        }
    }

    #[test]
    fn what_was_sent_is_counted() {
        let mut overview = Overview::default();
        let span = Span {
            first: StreamId::ZERO,
            last: StreamId::ZERO,
            count: 2,
            bytes: 3,
        };
        overview.sent(&span);
        overview.sent(&span);
        let counters = overview.counters;
        let sent = (counters.sent_messages, counters.sent_measurements);
        assert_eq!((sent, counters.sent_bytes), ((2, 4), 6));
    }

    #[test]
    fn times_and_fractions_that_run_are_no_change() {
        let runs = View {
            oldest: Some(StreamId::ZERO),
            redis_used_percent: Some(50.4),
            redis_full_in: Some(WRITE),
            ..view()
        };
        assert!(!runs.differs(&view()));
        let changed = View {
            redis_used_percent: Some(51.0),
            ..view()
        };
        assert!(changed.differs(&view()));
    }

    #[test]
    fn a_change_is_written_after_five_seconds_and_a_sign_of_life_after_a_minute() {
        let (mut overview, now) = (Overview::default(), Instant::now());
        assert!(!overview.write_is_due(now, view), "nothing was looked at");
        overview.looked(now, None);
        assert!(overview.write_is_due(now, view));
        overview.wrote(now, view());
        let early = Duration::from_millis(1);
        assert!(!overview.write_is_due(now + HEARTBEAT - early, view));
        assert!(overview.write_is_due(now + HEARTBEAT, view));
        let changed = || View {
            enabled: false,
            ..view()
        };
        assert!(!overview.write_is_due(now + WRITE - early, changed));
        assert!(overview.write_is_due(now + WRITE, changed));
        overview.touch();
        assert!(!overview.write_is_due(now + WRITE - early, view));
        assert!(overview.write_is_due(now + WRITE, view));
        overview.forget_written();
        assert!(!overview.write_is_due(now + HEARTBEAT, view));
        assert_eq!(overview.look_due(now), now);
    }

    #[test]
    fn the_first_connection_is_written_at_once() {
        let (mut overview, now) = (Overview::default(), Instant::now());
        overview.looked(now, None);
        overview.wrote(now, view());
        overview.connected();
        assert!(overview.write_is_due(now, view));
        overview.wrote(now, view());
        overview.connected();
        assert!(!overview.write_is_due(now, view), "the next one waits");
    }

    #[test]
    fn the_memory_is_looked_at_although_pages_tell_what_waits() {
        let (mut overview, now) = (Overview::default(), Instant::now());
        overview.looked(now, None);
        overview.seen(now + MEMORY - WRITE / 2, None, None);
        assert_eq!(overview.look_due(now), now + MEMORY);
    }

    #[test]
    fn at_the_end_everything_is_looked_at_and_written_once_more() {
        let (mut overview, now) = (Overview::default(), Instant::now());
        overview.looked(now, None);
        overview.wrote(now, view());
        overview.ends();
        assert!(overview.last_look_is_due() && !overview.is_told_at_end());
        overview.looked(now, None);
        assert!(!overview.last_look_is_due() && !overview.is_told_at_end());
        let ended = || View {
            ended: true,
            ..view()
        };
        assert!(overview.write_is_due(now, ended) && !overview.write_is_due(now, view));
        overview.wrote(now, ended());
        assert!(overview.is_told_at_end() && !overview.write_is_due(now, ended));
    }

    #[test]
    fn a_catch_up_tells_what_is_left_and_ends_with_another_cursor() {
        let (mut overview, now) = (Overview::default(), Instant::now());
        overview.backlog = Some(Waiting::Exactly(5));
        overview.tell_catch_up(now, Behind::Yes, None);
        overview.tell_catch_up(now + HEARTBEAT, Behind::Yes, None);
        let told = overview.notices.next(now);
        assert!(matches!(
            told,
            Some(Notice::CatchingUp { left: Some(5), .. })
        ));
        overview.forget_catch_up();
        overview.tell_catch_up(now + HEARTBEAT, Behind::No, None);
        assert_eq!(overview.notices.next(now), None);
    }
}
