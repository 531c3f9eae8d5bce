//! The machine as a whole, beside a Redis that answers everything in the ordinary way.

use std::collections::VecDeque;

use super::delivery::{Poison, Progress, Span};
use super::*;
use crate::model::compression::Compression;
use crate::model::failure::{Cause, Undelivered};
use crate::model::settings::{Raw, RawSettings};
use crate::model::stream::{Copied, Extent, Remembered, Saved, Stream};
use crate::model::stream_id::Cursor;

pub struct Room {
    pub bridge: Bridge,
    pub now: Instant,
    pub cursor: Raw,
    pub interval: Raw,
    pub remembered: Remembered,
    /// What the next pages hold.
    pub lists: VecDeque<Batch>,
    /// Entries ever added to the stream, where Redis counts them.
    pub added: Option<u64>,
    pub refuses: fn(&Request) -> bool,
    /// What Redis says to a status that goes along with a page.
    pub status_refused: Option<String>,
    pub told: Vec<Notice>,
    asked: Vec<Request>,
}

pub fn rules() -> Rules {
    Rules {
        interval: Duration::from_secs(1),
        batch: BatchLimits {
            max_bytes: 1000,
            max_count: 10,
            compression: Compression::None,
        },
        keep_sent: None,
        catch_up: 0,
        ack_timeout: Duration::from_secs(30),
        topic: "values".into(),
        latest: false,
    }
}

pub fn id(ms: u64) -> StreamId {
    StreamId::new(ms, 0)
}

/// A list of the measurements from `first` to `last`, one a millisecond.
pub fn list(first: u64, last: u64, bytes: usize) -> Batch {
    Batch {
        payload: vec![b'x'; bytes],
        first: id(first),
        last: id(last),
        count: (last - first + 1) as usize,
    }
}

fn lost() -> Input {
    Input::Delivered(Err(Undelivered::new(Cause::Lost, "cut")))
}

impl Room {
    /// Before it has asked anything.
    pub fn begins(rules: Rules) -> Room {
        Room {
            bridge: Bridge::new(rules, 1),
            now: Instant::now(),
            cursor: Raw::Text(Cursor::written(id(1))),
            interval: Raw::Missing,
            remembered: Remembered::default(),
            lists: VecDeque::new(),
            added: None,
            refuses: |_| false,
            status_refused: None,
            told: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Connected to Redis, with the cursor behind 1-0.
    pub fn new(rules: Rules) -> Room {
        let mut room = Room::begins(rules);
        room.run();
        room
    }

    /// Connected to the broker, too, and this is the list that it hands over.
    pub fn sending(rules: Rules, list: Batch) -> Room {
        let mut room = Room::new(rules);
        room.up(usize::MAX);
        room.lists.push_back(list);
        assert!(matches!(room.run(), Action::Publish { .. }));
        room
    }

    pub fn up(&mut self, limit: usize) {
        self.gets(Input::LinkUp { link: 1, limit });
    }

    pub fn gets(&mut self, input: Input) {
        self.bridge.handle(self.now, input);
    }

    /// Goes on until it waits for something else than Redis.
    pub fn run(&mut self) -> Action {
        self.run_until(|_| false)
    }

    /// The same, or until it asks this, which stays without an answer.
    pub fn run_until(&mut self, asks: fn(&Request) -> bool) -> Action {
        for _ in 0..1000 {
            match self.bridge.next(self.now) {
                Action::Tell(notice) => self.told.push(notice),
                Action::Show(_) => {}
                Action::Ask(request) if asks(&request) => return Action::Ask(request),
                Action::Ask(request) if (self.refuses)(&request) => {
                    let refused = RedisFailure::Refused("no".into());
                    self.asked.push(request);
                    self.gets(Input::Redis(Err(refused)));
                }
                Action::Ask(request) => {
                    let answer = self.answer(&request);
                    self.asked.push(request);
                    match answer {
                        Some(answer) => self.gets(Input::Redis(Ok(answer))),
                        None => return self.asked.pop().map(Action::Ask).expect("asked"),
                    }
                }
                other => return other,
            }
        }
        panic!("it never waits: {:?}", self.asked)
    }

    /// What was asked since the last time.
    pub fn asked(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.asked)
    }

    pub fn settings(&self) -> RawSettings {
        RawSettings {
            enabled: Raw::Missing,
            interval: self.interval.clone(),
            last_id: self.cursor.clone(),
        }
    }

    /// How many lines of this kind were told so far.
    pub fn lines(&self, what: fn(&Notice) -> bool) -> usize {
        self.told.iter().filter(|notice| what(notice)).count()
    }

    pub fn passes(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.run();
    }

    /// What Redis tells of it.
    pub fn stream(added: Option<u64>) -> Stream {
        Stream::Present(Extent {
            newest: id(1000),
            length: 1,
            added,
            first: Some(id(1)),
            deleted: StreamId::ZERO,
        })
    }

    fn answer(&mut self, request: &Request) -> Option<Answer> {
        let stream = Room::stream(self.added);
        let settings = self.settings();
        Some(match request {
            Request::Connect | Request::NoteAccount(_) | Request::WriteStatus(_) => Answer::Done,
            Request::Hazards => Answer::Hazards(Vec::new()),
            Request::Remember => Answer::Remembered(self.remembered.clone()),
            Request::Settings => Answer::Settings(settings),
            Request::Await { .. } | Request::Newest => return None,
            Request::Page { status, .. } => {
                let list = self.lists.pop_front();
                Answer::Page(Page {
                    settings,
                    stream: Some(stream),
                    entries: list.as_ref().map_or(0, |list| list.count),
                    at_end: true,
                    list,
                    written: status.as_ref().map(|_| Written {
                        refused: self.status_refused.clone(),
                        used_percent: Some(50.0),
                    }),
                    ..Page::default()
                })
            }
            Request::Look { .. } => Answer::Look(Look {
                stream,
                oldest: None,
                waiting: None,
                used_percent: None,
            }),
            Request::Count { last, .. } => Answer::Counted {
                count: 0,
                end: *last,
            },
            Request::Save(save) => {
                self.cursor = Raw::Text(save.cursor.clone());
                Answer::Saved(Saved::Yes)
            }
            Request::Copy { .. } => Answer::Copied(Copied::Yes),
            Request::Trim { .. } => Answer::Trimmed { more: false },
        })
    }

    fn wait(&mut self) -> Duration {
        match self.run() {
            Action::Wait(until) => until.saturating_duration_since(self.now),
            other => panic!("{other:?}"),
        }
    }
}

/// Whether a confirmed list of so many is followed by a trim; the first one of a run always is.
fn trims(keep_sent: u64, measurements: u64) -> bool {
    let trim = |request: &Request| matches!(request, Request::Trim { .. });
    let rules = Rules {
        keep_sent: Some(keep_sent),
        ..rules()
    };
    let mut room = Room::sending(rules, list(2, 3, 100));
    room.gets(Input::Delivered(Ok(())));
    room.run();
    assert!(room.asked().iter().any(trim));
    room.lists.push_back(list(4, 3 + measurements, 100));
    room.now += Duration::from_secs(1);
    assert!(matches!(room.run(), Action::Publish { .. }));
    room.gets(Input::Delivered(Ok(())));
    room.run();
    room.asked().iter().any(trim)
}

#[test]
fn it_is_quiet_when_nothing_is_in_flight_and_the_cursor_is_saved() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(Input::Quiesce);
    room.wait();
    room.gets(Input::Delivered(Ok(())));
    assert!(matches!(room.run(), Action::Quiet));
    assert_eq!(room.cursor, Raw::Text("(3-0".into()));
    room.wait();
    room.lists.push_back(list(4, 4, 10));
    room.now += Duration::from_secs(2);
    room.wait();
    room.gets(Input::Resume);
    assert!(matches!(room.run(), Action::Publish { .. }));
}

#[test]
fn it_is_not_quiet_while_the_cursor_cannot_be_stored_yet() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(Input::Quiesce);
    room.gets(Input::Delivered(Ok(())));
    loop {
        match room.bridge.next(room.now) {
            Action::Ask(Request::Save(_)) => break,
            Action::Tell(_) | Action::Show(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_end_waits_for_what_is_in_flight_its_cursor_and_the_status() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(Input::Stop);
    assert!(room.wait() <= GRACE);
    let status = |request: &Request| matches!(request, Request::WriteStatus(_));
    assert!(room.asked().iter().any(status));
    room.gets(Input::Delivered(Ok(())));
    assert!(matches!(room.run(), Action::Done));
    let asked = room.asked();
    assert!(matches!(asked[0], Request::Save(_)), "{asked:?}");
}

#[test]
fn with_a_measurement_a_second_a_page_and_a_save_do_all() {
    let mut room = Room::sending(rules(), list(2, 2, 100));
    let mut written = 0;
    for second in 3..63 {
        room.gets(Input::Delivered(Ok(())));
        room.wait();
        room.lists.push_back(list(second, second, 100));
        while let Action::Wait(until) = room.run() {
            // Never quite on time.
            room.now = until + Duration::from_millis(3);
        }
        let asked = room.asked();
        match asked.as_slice() {
            [Request::Save(_), Request::Page { status, .. }] => {
                written += usize::from(status.is_some());
            }
            // The beginning.
            _ => assert!(second == 3, "{asked:?}"),
        }
    }
    assert!((10..=12).contains(&written), "{written}");
    assert_eq!(room.bridge.view().redis_used_percent, Some(50.0));
}

#[test]
fn a_status_that_is_refused_along_with_a_page_is_told_once() {
    let mut room = Room::sending(rules(), list(2, 2, 100));
    room.status_refused = Some("OOM".into());
    for _ in 0..20 {
        room.gets(Input::Delivered(Ok(())));
        room.passes(1);
    }
    let refused = |notice: &Notice| matches!(notice, Notice::RedisRefuses { .. });
    assert_eq!(room.lines(refused), 1);
    let page = |request: &&Request| matches!(request, Request::Page { .. });
    assert!(room.asked().iter().filter(page).count() > 20, "pages go on");
}

#[test]
fn where_no_page_can_be_read_the_status_is_written_all_the_same() {
    let mut room = Room::new(rules());
    room.up(usize::MAX);
    room.refuses = |request| matches!(request, Request::Page { .. });
    for _ in 0..12 {
        room.passes(1);
    }
    let status = |request: &&Request| matches!(request, Request::WriteStatus(_));
    assert!(room.asked().iter().filter(status).count() > 1);
}

#[test]
fn the_end_comes_although_nothing_is_answered() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(Input::Stop);
    room.now += GRACE - Duration::from_millis(1);
    room.wait();
    room.now += Duration::from_millis(1);
    assert!(matches!(room.run(), Action::Done));
}

#[test]
fn the_end_does_not_wait_for_a_redis_that_is_away() {
    let mut room = Room::new(rules());
    room.now += Duration::from_secs(1);
    while !matches!(room.bridge.next(room.now), Action::Ask(_)) {}
    let away = RedisFailure::Lost("away".into());
    room.gets(Input::Redis(Err(away)));
    room.gets(Input::Stop);
    assert!(matches!(room.run(), Action::Done));
}

#[test]
fn a_list_that_the_broker_would_not_take_is_not_handed_over() {
    for (limit, goes) in [(99, false), (100, true), (101, true)] {
        let mut room = Room::new(rules());
        room.up(limit);
        room.lists.push_back(list(2, 3, 100));
        let published = matches!(room.run(), Action::Publish { .. });
        assert_eq!(published, goes, "{limit}");
        assert_eq!(room.bridge.view().counters.retries, u64::from(!goes));
    }
}

#[test]
fn what_was_not_confirmed_is_read_and_counted_again() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    for retries in 1..3 {
        room.gets(lost());
        room.lists.push_back(list(2, 3, 100));
        assert!(matches!(room.run(), Action::Publish { .. }));
        assert_eq!(room.bridge.view().counters.retries, retries);
    }
    let told = |notice: &&Notice| matches!(notice, Notice::NotConfirmed(_));
    assert_eq!(room.told.iter().filter(told).count(), 1);
}

#[test]
fn the_next_list_goes_only_when_the_cursor_is_stored() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.lists.push_back(list(4, 5, 100));
    room.now += Duration::from_secs(1);
    room.asked();
    room.gets(Input::Delivered(Ok(())));
    assert!(matches!(room.run(), Action::Publish { .. }));
    assert!(matches!(room.asked()[0], Request::Save(_)));
    assert_eq!(room.cursor, Raw::Text("(3-0".into()));
}

#[test]
fn a_page_is_as_large_as_a_list_of_what_came_last() {
    let mut room = Room::new(rules());
    room.up(500);
    room.lists.push_back(list(2, 3, 200));
    assert!(matches!(room.run(), Action::Publish { .. }));
    room.now += Duration::from_secs(1);
    room.run();
    let pages: Vec<(usize, usize)> = room
        .asked()
        .iter()
        .filter_map(|request| match request {
            Request::Page { count, limits, .. } => Some((*count, limits.max_bytes)),
            _ => None,
        })
        .collect();
    // As many as a list may have; then 500 bytes of 100 each, and two more.
    assert_eq!(pages, [(10, 500), (7, 500)]);
}

#[test]
fn what_was_sent_is_trimmed_each_time_or_after_a_tenth_of_what_is_kept() {
    assert!(trims(0, 1) && trims(1000, 1));
    assert!(!trims(2000, 198) && trims(2000, 199));
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(Input::Delivered(Ok(())));
    room.run();
    let trim = |request: &Request| matches!(request, Request::Trim { .. });
    assert!(!room.asked().iter().any(trim), "nothing is to be trimmed");
}

#[test]
fn a_trim_waits_for_a_cursor_that_is_refused() {
    let rules = Rules {
        keep_sent: Some(0),
        ..rules()
    };
    let mut room = Room::sending(rules, list(2, 3, 100));
    room.gets(Input::Delivered(Ok(())));
    while !matches!(room.bridge.next(room.now), Action::Ask(Request::Save(_))) {}
    let refused = RedisFailure::Refused("READONLY".into());
    room.gets(Input::Redis(Err(refused)));
    room.asked();
    room.run();
    let trim = |request: &Request| matches!(request, Request::Trim { .. });
    assert!(!room.asked().iter().any(trim), "it is not stored");
    room.now += Duration::from_secs(1);
    room.run();
    let asked = room.asked();
    let save = |request: &Request| matches!(request, Request::Save(_));
    let (save, trim) = (asked.iter().position(save), asked.iter().position(trim));
    assert!(save.is_some() && save < trim, "{asked:?}");
}

#[test]
fn an_interval_of_zero_waits_for_the_next_measurement() {
    let mut room = Room::new(rules());
    room.up(usize::MAX);
    assert!(room.wait() <= Duration::from_secs(1));
    room.interval = Raw::Text("0".into());
    room.now += Duration::from_secs(1);
    let Action::Ask(Request::Await {
        after, patience, ..
    }) = room.run()
    else {
        panic!("it does not wait for one");
    };
    assert_eq!(after, id(1));
    assert!(patience >= SHORTEST_WAIT && patience <= Duration::from_secs(1));
}

#[test]
fn no_wait_is_shorter_than_a_millisecond() {
    let mut room = Room::new(rules());
    for _ in 0..2000 {
        let wait = room.wait();
        assert!(wait >= SHORTEST_WAIT && wait <= Duration::from_secs(5));
        room.now += wait;
    }
}

#[test]
fn beside_a_large_list_in_flight_the_next_one_is_not_read() {
    for (bytes, reads) in [(MOST_BESIDE, true), (MOST_BESIDE + 1, false)] {
        let mut room = Room::sending(rules(), list(2, 2, bytes));
        let is_page = |request: &Request| matches!(request, Request::Page { .. });
        room.asked();
        let mut read = false;
        for _ in 0..10 {
            let Action::Wait(until) = room.run() else {
                panic!("one list in flight");
            };
            assert!(until >= room.now + Duration::from_millis(100), "a wait");
            room.now = until;
            read |= room.asked().iter().any(is_page);
        }
        assert_eq!(read, reads);
        room.lists.push_back(list(3, 3, 10));
        room.gets(Input::Delivered(Ok(())));
        assert!(matches!(room.run(), Action::Publish { .. }));
    }
}

/// It is refused, the empty list as well, until it is held back.
fn refused_alone(room: &mut Room) {
    let refused = || {
        let why = Undelivered::new(Cause::Refused, "refused");
        Input::Delivered(Err(why))
    };
    for _ in 0..2 {
        // What is on trial is read anew after each of them.
        room.gets(refused());
        room.lists.push_back(list(2, 2, 100));
        assert!(matches!(room.run(), Action::Publish { list, .. } if list.count == 0));
        room.gets(refused());
        room.lists = VecDeque::from([list(2, 2, 100)]);
        assert!(matches!(room.run(), Action::Publish { list, .. } if list.count == 1));
    }
    room.gets(refused());
}

#[test]
fn what_was_read_behind_a_held_one_is_dropped_where_that_is_tried_again() {
    let mut room = Room::sending(rules(), list(2, 2, 100));
    refused_alone(&mut room);
    room.lists.push_back(list(3, 3, 100));
    assert!(matches!(room.run(), Action::Publish { list, .. } if list.count == 0));
    // The broker has changed its mind: it is no measurement's fault, and 2-0 comes first.
    room.gets(Input::Delivered(Ok(())));
    room.lists = VecDeque::from([list(2, 3, 200)]);
    match room.run() {
        Action::Publish { list, .. } => assert_eq!(list.first, id(2)),
        other => panic!("{other:?}"),
    }
    assert_eq!(room.bridge.view().counters.lost, 0);
}

#[test]
fn one_that_is_refused_and_has_nothing_behind_it_is_tried_again_slowly() {
    let mut room = Room::sending(rules(), list(2, 2, 100));
    refused_alone(&mut room);
    let told = |room: &Room| {
        let told = |notice: &&Notice| matches!(notice, Notice::NotAccepted { .. });
        room.told.iter().filter(told).count()
    };
    let page =
        |request: &Request| matches!(request, Request::Page { after, .. } if *after == id(1));
    let begun = room.now;
    room.asked();
    while !room.asked().iter().any(page) {
        let wait = room.wait();
        room.now += wait;
        assert!(room.now < begun + Duration::from_secs(60));
    }
    assert!(room.now >= begun + Duration::from_secs(8));
    assert_eq!(told(&room), 1);
}

/// In a Redis that is full nothing may come that would end the wait.
#[test]
fn where_measurements_go_at_once_it_is_tried_again_although_nothing_comes() {
    let mut room = Room::sending(rules(), list(2, 2, 100));
    room.interval = Raw::Text("0".into());
    room.now += Duration::from_secs(1);
    refused_alone(&mut room);
    let begun = room.now;
    loop {
        let Action::Ask(Request::Await { after, .. }) = room.run() else {
            panic!("it waits for what comes");
        };
        if after == id(1) {
            break;
        }
        assert!(room.now < begun + Duration::from_secs(60));
        room.now += Duration::from_millis(500);
        let nothing = Page {
            settings: room.settings(),
            at_end: true,
            ..Page::default()
        };
        room.gets(Input::Redis(Ok(Answer::Page(nothing))));
    }
    assert!(room.now >= begun + Duration::from_secs(8));
}

#[test]
fn a_wait_for_what_is_due_in_a_moment_is_not_shorter_either() {
    let mut room = Room::new(rules());
    let wait = room.wait();
    room.now += wait - SHORTEST_WAIT / 2;
    assert_eq!(room.wait(), SHORTEST_WAIT);
}

#[test]
fn nothing_more_is_sent_while_too_much_poison_waits_for_its_copy() {
    for (count, sends) in [(MAX_UNCOPIED - 1, true), (MAX_UNCOPIED, false)] {
        let mut room = Room::new(rules());
        room.up(usize::MAX);
        poisoned(&mut room, count);
        assert_eq!(room.bridge.sending(room.now), sends, "{count}");
    }
}

/// So many measurements behind 1-0 have turned out to be poison.
pub fn poisoned(room: &mut Room, count: usize) {
    let poison = |nth| Poison {
        id: StreamId::new(1, 1 + nth as u64),
        reason: "why".into(),
    };
    let progress = Progress {
        before: id(1),
        poison: (0..count).map(poison).collect(),
        sent: Span {
            first: id(2),
            last: id(2),
            count: 1,
            bytes: 1,
        },
    };
    room.bridge.cursor.progressed(&progress, None);
}

#[test]
fn the_end_waits_for_a_cursor_that_redis_refuses_at_first() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.refuses = |request| matches!(request, Request::Save(_));
    room.gets(Input::Delivered(Ok(())));
    room.gets(Input::Stop);
    assert!(matches!(room.run(), Action::Wait(_)));
    room.refuses = |_| false;
    room.now += Duration::from_secs(1);
    assert!(matches!(room.run(), Action::Done));
    assert_eq!(room.cursor, Raw::Text("(3-0".into()));
}

#[test]
fn a_cursor_that_is_stored_is_the_own_one_from_then_on() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(Input::Delivered(Ok(())));
    room.asked();
    room.run();
    let asked = room.asked();
    assert!(matches!(&asked[0], Request::Save(save) if !save.foreign));
}

#[test]
fn what_is_refused_is_asked_for_again_after_a_second_and_not_before() {
    let mut room = Room::new(rules());
    let looks = |room: &mut Room| {
        let look = |request: &&Request| matches!(request, Request::Look { .. });
        room.asked().iter().filter(look).count()
    };
    assert!(looks(&mut room) > 0);
    room.refuses = |request| matches!(request, Request::Look { .. });
    room.now += Duration::from_secs(5);
    assert!(room.wait() > SHORTEST_WAIT);
    assert_eq!(looks(&mut room), 1);
    room.now += Duration::from_millis(999);
    room.wait();
    assert_eq!(looks(&mut room), 0);
    room.refuses = |_| false;
    room.now += Duration::from_millis(1);
    room.wait();
    assert_eq!(looks(&mut room), 1);
}

#[test]
fn it_wakes_up_when_a_pause_ends_and_not_for_one_that_has() {
    let mut room = Room::new(rules());
    let wait = room.wait();
    for millis in [0, 100] {
        let length = Duration::from_millis(millis);
        let until = room.now + length;
        room.bridge.pausing.pause = Pause::Refused { until };
        let expected = if length.is_zero() { wait } else { length };
        assert_eq!(room.wait(), expected);
    }
    room.now += Duration::from_millis(200);
    assert!(room.wait() > SHORTEST_WAIT);
}

#[test]
fn it_wakes_up_for_the_next_round_only_where_there_is_one() {
    let interval = Duration::from_millis(100);
    let rules = Rules {
        interval,
        ..rules()
    };
    let mut room = Room::new(rules.clone());
    assert!(room.wait() > interval, "there is no broker");
    room.up(usize::MAX);
    assert_eq!(room.wait(), interval);
    let mut room = Room::new(rules);
    room.interval = Raw::Text("0".into());
    room.up(usize::MAX);
    room.now += Duration::from_secs(1);
    let Action::Ask(Request::Await { patience, .. }) = room.run() else {
        panic!("it does not wait for a measurement");
    };
    assert!(patience > interval);
}

#[test]
fn no_measurement_is_waited_for_while_a_list_is_in_flight() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.interval = Raw::Text("0".into());
    room.now += Duration::from_secs(1);
    assert!(room.wait() > SHORTEST_WAIT);
    assert!(room.bridge.pushes());
}

/// The newest measurement is published, too, and was asked for.
fn with_latest() -> Room {
    let mut room = Room::new(Rules {
        latest: true,
        ..rules()
    });
    room.up(usize::MAX);
    assert!(matches!(room.run(), Action::Ask(Request::Newest)));
    room
}

#[test]
fn a_newest_measurement_that_is_too_large_is_told_once() {
    let too_large = || Newest {
        id: id(9),
        payload: None,
    };
    for asked in [true, false] {
        let mut room = with_latest();
        let newest = Some(too_large()).filter(|_| asked);
        room.gets(Input::Redis(Ok(Answer::Newest(newest))));
        room.bridge.page_ends_with(Some(too_large()));
        room.bridge.page_ends_with(Some(too_large()));
        room.run();
        let told = |notice: &Notice| *notice == Notice::LatestTooLarge(id(9));
        assert_eq!(room.lines(told), 1);
    }
}

#[test]
fn it_wakes_up_when_the_next_newest_measurement_may_go() {
    let mut room = with_latest();
    let newest = |ms| {
        Some(Newest {
            id: id(ms),
            payload: Some(b"{}".to_vec()),
        })
    };
    room.gets(Input::Redis(Ok(Answer::Newest(newest(9)))));
    assert!(matches!(room.run(), Action::PublishLatest { .. }));
    room.run();
    room.bridge.page_ends_with(newest(10));
    room.now += Duration::from_millis(800);
    room.bridge.reading.round_began = Some(room.now);
    assert_eq!(room.wait(), Duration::from_millis(200));
}

#[test]
fn the_newest_measurement_is_asked_for_once_an_interval_while_a_list_waits_for_its_rate() {
    for (rate, times) in [(100, 4), (0, 0)] {
        let mut room = with_latest();
        room.bridge.pausing.pace = pace::Pace::new(rate);
        room.bridge.pausing.pace.sent(room.now, 1000, true);
        room.lists.push_back(list(2, 3, 100));
        let newest = || Newest {
            id: id(1000),
            payload: Some(b"{}".to_vec()),
        };
        room.gets(Input::Redis(Ok(Answer::Newest(Some(newest())))));
        let mut asked = 0;
        for _ in 0..90 {
            match room.run() {
                Action::Ask(Request::Newest) => {
                    asked += 1;
                    room.gets(Input::Redis(Ok(Answer::Newest(Some(newest())))));
                }
                Action::Publish { .. } => room.gets(Input::Delivered(Ok(()))),
                _ => {}
            }
            room.now += Duration::from_millis(50);
        }
        assert_eq!(asked, times, "{rate}");
    }
}

#[test]
fn a_list_waits_for_the_rate_of_a_catch_up() {
    let mut room = Room::new(Rules {
        catch_up: 100,
        ..rules()
    });
    room.bridge.pausing.pace.sent(room.now, 1000, true);
    room.up(usize::MAX);
    room.lists.push_back(list(2, 3, 100));
    room.wait();
    assert!(room.bridge.reading.list.is_some());
}
