//! The connection to Redis as the bridge sees it: there or not, what was asked, what was refused.
//!
//! A refusal is not a lost connection: settings are looked at all the same, and other requests
//! are made again after a second.

use std::time::{Duration, Instant};

use super::messages::Request;
use crate::model::backoff::Backoff;
use crate::model::jitter::Jitter;
use crate::model::stream::Remembered;
use crate::model::told::ToldOnce;

/// A change of the settings takes effect within a second: so old they may be where a page brings
/// them, and they are looked at after half of it where none does.
const SETTINGS_AGE: Duration = Duration::from_secs(1);
/// The page that brings them may be so late.
const LATE: Duration = Duration::from_millis(50);
/// A change is obeyed at once, the next one not before this: whoever sets a key a thousand times a
/// second gets no line and no rewind for each, and what was read meanwhile is sent.
const REST: Duration = Duration::from_millis(250);
/// What Redis refuses is asked for again after this time.
const REFUSED: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum RedisLink {
    Lost {
        retry: Instant,
    },
    Up {
        since: Instant,
    },
    /// Not tried yet.
    New,
}

#[derive(Debug)]
pub struct RedisSide {
    link: RedisLink,
    backoff: Backoff,
    pub jitter: Jitter,
    /// The request whose answer is awaited.
    pub asked: Option<Request>,
    /// What an earlier run has left behind, once it was read.
    pub remembered: Option<Remembered>,
    hazards_told: bool,
    pub settings_read: Option<Instant>,
    /// A change of the settings was obeyed.
    obeyed: Option<Instant>,
    /// Nothing but settings is asked for before.
    pub refused_until: Option<Instant>,
    told: Refusals,
}

/// What was told of what Redis does not do.
#[derive(Debug, Default)]
struct Refusals {
    request: ToldOnce<(&'static str, String)>,
    status: ToldOnce<String>,
    age: ToldOnce<()>,
}

impl RedisSide {
    pub fn new(jitter: Jitter) -> RedisSide {
        RedisSide {
            link: RedisLink::New,
            backoff: Backoff::default(),
            jitter,
            asked: None,
            remembered: None,
            hazards_told: false,
            settings_read: None,
            obeyed: None,
            refused_until: None,
            told: Refusals::default(),
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.link, RedisLink::Up { .. })
    }

    /// What comes first: a connection, and what has to be known once.
    pub fn greeting(&self, now: Instant) -> Option<Request> {
        match self.link {
            RedisLink::New => return Some(Request::Connect),
            RedisLink::Lost { retry } if now >= retry => return Some(Request::Connect),
            RedisLink::Lost { .. } => return None,
            RedisLink::Up { .. } => {}
        }
        if self.refused_until.is_some_and(|until| now < until) {
            return None;
        }
        if !self.hazards_told {
            return Some(Request::Hazards);
        }
        self.remembered.is_none().then_some(Request::Remember)
    }

    /// When to look at the settings. `page`: when the next page brings them.
    pub fn settings_due(&self, now: Instant, page: Option<Instant>) -> Instant {
        // Without what an earlier run has left behind, the cursor cannot be understood.
        if self.remembered.is_none() {
            return now + REFUSED;
        }
        let Some(read) = self.settings_read else {
            return now;
        };
        let due = read + SETTINGS_AGE / 2;
        if let Some(rested) = self.obeyed.map(|at| at + REST).filter(|at| *at > read) {
            // What was read while no change counted is read again when one does.
            return rested.min(due);
        }
        match page.filter(|page| *page <= read + SETTINGS_AGE) {
            Some(page) => due.max(page + LATE),
            None => due,
        }
    }

    /// Somebody has changed a setting, and that counts from now on.
    pub fn obeys(&mut self, now: Instant) {
        self.obeyed = Some(now);
    }

    /// Until when no further change counts, if one was obeyed a moment ago.
    pub fn rests(&self, now: Instant) -> Option<Instant> {
        let until = self.obeyed? + REST;
        (now < until).then_some(until)
    }

    /// When there is something to do for the connection itself.
    pub fn due(&self, now: Instant, page: Option<Instant>) -> Instant {
        match self.link {
            RedisLink::New => now,
            RedisLink::Lost { retry } => retry,
            RedisLink::Up { .. } => self.settings_due(now, page),
        }
    }

    pub fn connected(&mut self, now: Instant) {
        self.link = RedisLink::Up { since: now };
        // Whatever Redis was before, its state is to be looked at anew.
        self.settings_read = None;
        self.refused_until = None;
    }

    /// There is no connection, or it broke. How long until the next attempt.
    pub fn lost(&mut self, now: Instant) -> Duration {
        if let RedisLink::Up { since } = self.link {
            self.backoff
                .connection_lasted(now.saturating_duration_since(since));
        }
        let wait = self.backoff.next(now, self.jitter.fraction());
        self.link = RedisLink::Lost { retry: now + wait };
        self.told.request.over();
        wait
    }

    /// Whether it has not been told yet that this Redis does not count what was added.
    pub fn is_news_that_redis_is_old(&mut self) -> bool {
        self.told.age.news(())
    }

    pub fn hazards_are_told(&mut self) {
        self.hazards_told = true;
    }

    /// Redis has refused a request. Whether that is news.
    pub fn refused(&mut self, now: Instant, what: &'static str, reason: &str) -> bool {
        self.refused_until = Some(now + REFUSED);
        self.told.request.news((what, reason.to_string()))
    }

    /// Redis has refused the status, which holds nothing else up. Whether that is news.
    pub fn status_refused(&mut self, reason: &str) -> bool {
        self.told.status.news(reason.to_string())
    }

    pub fn status_written(&mut self) {
        self.told.status.over();
    }

    /// The request that was refused is answered again.
    pub fn accepted(&mut self) {
        // Waits must not grow because somebody ends one connection after the other.
        self.backoff.outage_is_over();
        if self.refused_until.take().is_some() {
            self.told.request.over();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(now: Instant) -> RedisSide {
        let mut redis = RedisSide::new(Jitter::new(1));
        assert_eq!(redis.greeting(now), Some(Request::Connect));
        redis.connected(now);
        redis
    }

    #[test]
    fn what_has_to_be_known_once_is_asked_for_first() {
        let now = Instant::now();
        let mut redis = connected(now);
        assert_eq!(redis.greeting(now), Some(Request::Hazards));
        redis.hazards_are_told();
        assert_eq!(redis.greeting(now), Some(Request::Remember));
        assert_eq!(redis.settings_due(now, None), now + REFUSED);
        redis.remembered = Some(Remembered::default());
        assert_eq!(redis.greeting(now), None);
        assert_eq!(redis.settings_due(now, None), now);
    }

    #[test]
    fn a_connection_that_is_lost_is_tried_again_after_its_wait() {
        let now = Instant::now();
        let mut redis = connected(now);
        let wait = redis.lost(now);
        assert!(wait > Duration::ZERO && !redis.is_up());
        assert_eq!(redis.due(now, None), now + wait);
        let early = now + wait / 2;
        assert_eq!(redis.greeting(early), None);
        assert_eq!(redis.greeting(now + wait), Some(Request::Connect));
    }

    #[test]
    fn what_is_refused_is_asked_for_again_after_a_second_and_told_once() {
        let now = Instant::now();
        let mut redis = connected(now);
        assert!(redis.refused(now, "the stream", "no") && !redis.refused(now, "the stream", "no"));
        assert_eq!(redis.greeting(now + REFUSED / 2), None);
        assert_eq!(redis.greeting(now + REFUSED), Some(Request::Hazards));
        redis.accepted();
        assert_eq!(redis.refused_until, None);
        assert!(redis.refused(now, "the stream", "no"));
    }

    #[test]
    fn a_change_rests_for_a_moment() {
        let now = Instant::now();
        let mut redis = connected(now);
        assert_eq!(redis.rests(now), None);
        redis.obeys(now);
        let until = now + REST;
        assert_eq!(redis.rests(until - REST / 2), Some(until));
        assert_eq!(redis.rests(until), None);
    }

    #[test]
    fn a_page_that_comes_within_a_second_brings_the_settings() {
        let now = Instant::now();
        let mut redis = connected(now);
        redis.remembered = Some(Remembered::default());
        redis.settings_read = Some(now);
        let (half, page) = (now + SETTINGS_AGE / 2, now + SETTINGS_AGE);
        let late = Duration::from_millis(1);
        for (page, due) in [
            (None, half),
            (Some(now), half),
            (Some(page), page + LATE),
            (Some(page + late), half),
        ] {
            assert_eq!(redis.settings_due(now, page), due);
        }
        // What was read while no change counted is read again.
        redis.obeys(now - REST / 2);
        assert_eq!(redis.settings_due(now, Some(page)), now + REST / 2);
        redis.settings_read = Some(now + REST / 2);
        assert!(redis.settings_due(now, Some(page)) > page);
    }

    #[test]
    fn the_age_of_redis_is_told_once() {
        let mut redis = connected(Instant::now());
        assert!(redis.is_news_that_redis_is_old() && !redis.is_news_that_redis_is_old());
    }

    #[test]
    fn a_refused_status_is_told_once_and_holds_nothing_else_up() {
        let mut redis = RedisSide::new(Jitter::new(1));
        assert!(redis.status_refused("OOM"));
        assert_eq!(redis.refused_until, None);
        // Meanwhile other requests are answered.
        redis.accepted();
        assert!(!redis.status_refused("OOM"));
        redis.status_written();
        assert!(redis.status_refused("OOM"));
    }
}
