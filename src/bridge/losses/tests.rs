use std::time::{Duration, Instant};

use super::super::tests::{Room, list, poisoned, rules};
use super::super::{Action, Answer, Input, Look, Page, RedisFailure, Rules};
use super::*;
use crate::model::failure::{Cause, Undelivered};
use crate::model::measurement::Batch;
use crate::model::settings::RawSettings;
use crate::model::stream::{Remembered, Saved};

const INTERVAL: Duration = Duration::from_secs(1);

/// A Redis with a stream of these IDs, nothing else, and all that the bridge wants to be done.
struct World {
    bridge: Bridge,
    now: Instant,
    /// `None`: there is no stream.
    ids: Option<Vec<u64>>,
    /// Entries that were removed from it.
    removed: u64,
    /// The first and the last ID of each list, and each cursor.
    lists: Vec<(u64, u64)>,
    cursors: Vec<String>,
    told: Vec<Notice>,
    trims: u32,
    refuses: fn(&Request) -> Option<RedisFailure>,
    waits: Instant,
}

impl World {
    fn new(ids: &[u64]) -> World {
        World::with(rules(), ids)
    }

    fn with(rules: Rules, ids: &[u64]) -> World {
        let rules = Rules {
            ack_timeout: INTERVAL,
            ..rules
        };
        let mut bridge = Bridge::new(rules, 1);
        let now = Instant::now();
        let limit = usize::MAX;
        bridge.handle(now, Input::LinkUp { link: 1, limit });
        World {
            bridge,
            now,
            ids: Some(ids.to_vec()),
            removed: 0,
            lists: Vec::new(),
            cursors: Vec::new(),
            told: Vec::new(),
            trims: 0,
            refuses: |_| None,
            waits: now,
        }
    }

    fn runs(&mut self) {
        self.now += INTERVAL;
        loop {
            match self.bridge.next(self.now) {
                Action::Ask(request) => {
                    let refused = (self.refuses)(&request);
                    let answer = refused.map_or_else(|| Ok(self.answer(request)), Err);
                    self.bridge.handle(self.now, Input::Redis(answer));
                }
                Action::Publish { list, .. } => self.lists.push((list.first.ms, list.last.ms)),
                Action::Tell(notice) => self.told.push(notice),
                Action::Wait(until) if until > self.now => return self.waits = until,
                _ => {}
            }
        }
    }

    fn answer(&mut self, request: Request) -> Answer {
        let id = |ms: &u64| StreamId::new(*ms, 0);
        let stream = self.ids.as_ref().map_or(Stream::Absent, |ids| {
            Stream::Present(Extent {
                newest: ids.last().map_or(StreamId::ZERO, id),
                length: ids.len() as u64,
                added: Some(ids.len() as u64 + self.removed),
                first: ids.first().map(id),
                deleted: StreamId::ZERO,
            })
        });
        let ids = self.ids.as_deref().unwrap_or_default();
        let last_id = match self.cursors.last() {
            Some(cursor) => crate::model::settings::Raw::Text(cursor.clone()),
            None => crate::model::settings::Raw::Missing,
        };
        let settings = RawSettings {
            last_id,
            ..RawSettings::default()
        };
        match request {
            Request::Hazards => Answer::Hazards(Vec::new()),
            Request::Remember => Answer::Remembered(Remembered::default()),
            Request::Settings => Answer::Settings(settings),
            Request::Look { after } => Answer::Look(Look {
                stream,
                oldest: ids.iter().map(id).find(|id| *id > after),
                waiting: None,
                used_percent: None,
            }),
            Request::Page { after, .. } => {
                let behind: Vec<StreamId> = ids.iter().map(id).filter(|id| *id > after).collect();
                Answer::Page(Page {
                    settings,
                    stream: Some(stream),
                    entries: behind.len(),
                    at_end: true,
                    list: behind.first().map(|first| Batch {
                        payload: Vec::new(),
                        first: *first,
                        last: behind[behind.len() - 1],
                        count: behind.len(),
                    }),
                    ..Page::default()
                })
            }
            Request::Count { after, last } => Answer::Counted {
                count: ids.iter().map(id).filter(|id| *id > after).count() as u64,
                end: last,
            },
            Request::Trim { .. } => {
                self.trims += 1;
                Answer::Trimmed { more: false }
            }
            Request::Save(save) => {
                self.cursors.push(save.cursor);
                Answer::Saved(Saved::Yes)
            }
            _ => Answer::Done,
        }
    }
}

#[test]
fn a_list_of_the_old_stream_moves_no_cursor_in_a_new_one_where_somebody_else_has_set_it() {
    for (anew, list) in [([10, 11], (10, 11)), ([10, 200], (10, 200))] {
        let mut world = World::new(&[100, 101]);
        world.runs();
        assert_eq!(world.lists, [(100, 101)]);
        world.ids = Some(anew.to_vec());
        world.runs();
        world.bridge.handle(world.now, Input::Delivered(Ok(())));
        world.runs();
        assert_eq!(world.cursors, [""; 0], "{anew:?}");
        assert_eq!(world.lists, [(100, 101), list]);
    }
}

#[test]
fn what_cannot_be_asked_for_is_not_waited_for() {
    let mut world = World::new(&[100]);
    world.refuses = |request| match request {
        Request::NoteAccount(_) => Some(RedisFailure::Refused("OOM".into())),
        _ => None,
    };
    world.runs();
    world.refuses = |request| match request {
        Request::Connect => None,
        Request::Remember => Some(RedisFailure::Refused("LOADING".into())),
        _ => Some(RedisFailure::Lost("it restarts".into())),
    };
    for _ in 0..100 {
        world.runs();
        assert!(world.waits > world.now + INTERVAL / 100);
    }
}

fn id(ms: u64) -> StreamId {
    StreamId::new(ms, 0)
}

/// Five of eight that were ever added, from 10-0 to 20-0.
fn present() -> Extent {
    Extent {
        newest: id(20),
        length: 5,
        added: Some(8),
        first: Some(id(10)),
        deleted: StreamId::ZERO,
    }
}

#[test]
fn the_account_begins_with_what_the_numbers_show_or_is_counted() {
    let emptied = Extent {
        length: 0,
        first: None,
        ..present()
    };
    let (full, emptied) = (Stream::Present(present()), Stream::Present(emptied));
    for (stream, place, accounted, counts) in [
        (Stream::Absent, StreamId::ZERO, Some(0), false),
        (Stream::Absent, id(5), None, false),
        (full, id(5), Some(3), false),
        (full, id(10), None, true),
        (full, id(19), None, true),
        (full, id(20), Some(8), false),
        (full, id(25), None, false),
        (emptied, id(20), Some(8), false),
        (emptied, id(25), None, false),
    ] {
        let mut bridge = Bridge::new(rules(), 1);
        bridge.begin_account(stream, place);
        assert_eq!(bridge.account.accounted(), accounted, "{place}");
        assert_eq!(bridge.counting.is_some(), counts, "{place}");
    }
}

#[test]
fn what_lies_behind_the_cursor_is_counted_to_its_end_while_others_are_sent() {
    for (slices, accounted) in [
        (&[(2, 15), (1, 20)][..], Some(6)),
        (&[(2, 15), (0, 15)], Some(7)),
        (&[(2, 15)], None),
    ] {
        let mut bridge = Bridge::new(rules(), 1);
        bridge.begin_account(Stream::Present(present()), id(10));
        if let Some(counting) = &mut bridge.counting {
            counting.passed += 1;
        }
        for (count, end) in slices {
            bridge.counted(*count, id(*end));
        }
        assert_eq!(bridge.account.accounted(), accounted, "{slices:?}");
        assert_eq!(bridge.counting.is_none(), accounted.is_some());
    }
}

#[test]
fn counting_takes_turns_with_other_work() {
    let mut bridge = Bridge::new(rules(), 1);
    bridge.begin_account(Stream::Present(present()), id(10));
    let counting = bridge.counting.as_mut().expect("it counts");
    let turns: Vec<bool> = (0..4).map(|_| counting.turn()).collect();
    assert_eq!(turns, [true, false, true, false]);
}

/// What is told, and how many are counted as lost.
fn told(bridge: &mut Bridge) -> (Vec<Notice>, u64) {
    let now = Instant::now();
    let told = std::iter::from_fn(|| bridge.overview.notices.next(now)).collect();
    (told, bridge.overview.counters.lost)
}

#[test]
fn a_loss_is_counted_and_stored_and_no_loss_is_nothing() {
    let mut bridge = Bridge::new(rules(), 1);
    bridge.lost(0);
    bridge.lost_in_flight(0);
    assert_eq!(bridge.overview.note, Pending::No);
    assert_eq!(told(&mut bridge), (vec![], 0));
    bridge.lost(3);
    assert_eq!(bridge.overview.note, Pending::Now);
    bridge.lost_in_flight(4);
    let lines = vec![Notice::LostInFlight(4)];
    assert_eq!(told(&mut bridge), (lines, 7));
}

#[test]
fn poison_without_a_copy_is_lost_with_its_stream() {
    for (waiting, poison) in [(0, 0), (3, 0), (0, 2), (3, 2)] {
        let lost = waiting + poison as u64;
        let mut room = Room::new(rules());
        poisoned(&mut room, poison);
        told(&mut room.bridge);
        room.bridge
            .obey_in_new_stream(waiting, Stream::Present(present()));
        let (lines, counted) = told(&mut room.bridge);
        let gone = |notice: &Notice| matches!(notice, Notice::StreamGone { .. });
        assert_eq!((lines.iter().any(gone), counted), (lost > 0, lost));
        let mut room = Room::new(rules());
        poisoned(&mut room, poison);
        told(&mut room.bridge);
        room.bridge.start_anew(Finding::Anew(waiting), &present());
        let (lines, counted) = told(&mut room.bridge);
        let anew = Notice::StreamAnew {
            newest: id(20),
            cursor: id(1),
            lost,
        };
        assert_eq!((lines, counted), (vec![anew], lost));
    }
}

#[test]
fn what_waited_in_a_stream_that_is_another_one_now_is_lost() {
    for (newest, first, lost) in [(20, 10, 0), (9, 5, 3)] {
        let mut bridge = Bridge::new(rules(), 1);
        bridge.account.set(Some(5));
        bridge.account.saw(&present());
        let stream = Extent {
            newest: id(newest),
            first: Some(id(first)),
            ..present()
        };
        bridge.leave_stream(Stream::Present(stream), id(7));
        let lines = Vec::from_iter((lost > 0).then_some(Notice::StreamGone {
            count: lost,
            after: id(7),
        }));
        assert_eq!(told(&mut bridge), (lines, lost));
    }
    // All of it was sent.
    let mut bridge = Bridge::new(rules(), 1);
    bridge.account.set(Some(8));
    bridge.account.saw(&present());
    bridge.leave_stream(Stream::Absent, id(20));
    assert_eq!(told(&mut bridge), (vec![], 0));
}

#[test]
fn what_is_confirmed_while_it_counts_is_added() {
    let mut room = Room::sending(rules(), list(2, 4, 100));
    room.bridge
        .begin_account(Stream::Present(present()), id(10));
    room.gets(Input::Delivered(Ok(())));
    let passed = room.bridge.counting.map(|counting| counting.passed);
    assert_eq!(passed, Some(3));
}

/// A bridge that has read all of a stream behind its own cursor.
fn at_the_end_of(extent: Extent) -> Bridge {
    let mut bridge = Bridge::new(rules(), 1);
    bridge.cursor.state = CursorState::Own;
    bridge.delivery.rewind(extent.newest);
    bridge.account.set(extent.added);
    bridge.account.saw(&extent);
    bridge
}

fn seen(extent: Extent, place: StreamId) -> Seen {
    Seen {
        stream: Stream::Present(extent),
        place,
        entries: 0,
        at_end: true,
        first: None,
    }
}

#[test]
fn a_cursor_beyond_its_stream_shows_another_one() {
    for (place, same) in [(20, true), (21, false)] {
        let mut bridge = at_the_end_of(present());
        assert_eq!(bridge.audit(&seen(present(), id(place))), same);
        assert_eq!(told(&mut bridge).0.is_empty(), same, "{place}");
    }
}

#[test]
fn another_stream_is_sent_from_its_start_where_nobody_else_has_set_the_cursor() {
    for (state, anew) in [(CursorState::Own, true), (CursorState::Foreign, false)] {
        let mut bridge = at_the_end_of(present());
        bridge.cursor.state = state;
        let extent = Extent {
            newest: id(30),
            first: Some(id(5)),
            ..present()
        };
        assert!(!bridge.audit(&seen(extent, id(20))));
        let told = told(&mut bridge).0;
        let is_anew = |notice: &Notice| matches!(notice, Notice::StreamAnew { .. });
        assert_eq!(told.iter().any(is_anew), anew);
        let frontier = if anew { StreamId::ZERO } else { id(20) };
        assert_eq!(bridge.delivery.frontier(), frontier);
    }
}

#[test]
fn where_there_is_no_account_a_look_begins_it() {
    let mut bridge = at_the_end_of(present());
    bridge.account.set(None);
    assert!(bridge.audit(&seen(present(), id(20))));
    assert_eq!(bridge.account.accounted(), Some(8));
}

impl World {
    /// The broker takes the list in flight.
    fn confirms(&mut self) {
        self.bridge.handle(self.now, Input::Delivered(Ok(())));
        self.runs();
    }

    /// Long enough for a look at the stream.
    fn waits(&mut self) {
        (0..7).for_each(|_| self.runs());
    }

    fn lost(&self) -> u64 {
        self.bridge.view().counters.lost
    }
}

/// With five measurements sent, three that wait, and no broker.
fn with_three_that_wait() -> World {
    let mut world = World::new(&[1, 2, 3, 4, 5]);
    world.runs();
    world.confirms();
    let down = Input::LinkDown { idle: true };
    world.bridge.handle(world.now, down);
    world.ids = Some((1..=8).collect());
    world.waits();
    assert_eq!((world.lists.len(), world.lost()), (1, 0));
    world
}

fn link_up(world: &mut World) {
    let (link, limit) = (2, usize::MAX);
    world
        .bridge
        .handle(world.now, Input::LinkUp { link, limit });
    world.runs();
}

#[test]
fn a_stream_that_was_renamed_away_and_back_is_sent_on_and_nothing_is_lost_with_it() {
    let mut world = with_three_that_wait();
    for _ in 0..2 {
        let away = world.ids.take();
        world.waits();
        assert_eq!(world.lost(), 3);
        world.ids = away;
        world.waits();
        assert_eq!(world.lost(), 0);
        let back = Notice::StreamBack {
            after: StreamId::new(5, 0),
            told: 3,
        };
        assert_eq!(world.told.last(), Some(&back));
    }
    link_up(&mut world);
    assert_eq!(world.lists, [(1, 5), (6, 8)]);
    world.confirms();
    assert_eq!((world.lost(), world.cursors.len()), (0, 2));
}

#[test]
fn a_stream_that_comes_back_over_what_was_written_meanwhile_is_sent_on() {
    let mut world = with_three_that_wait();
    let away = world.ids.replace(vec![9, 10]);
    world.waits();
    assert_eq!(world.lost(), 3);
    world.ids = away;
    world.waits();
    // What was written meanwhile is gone instead.
    assert_eq!(world.lost(), 2);
    link_up(&mut world);
    assert_eq!(world.lists, [(1, 5), (6, 8)]);
}

#[test]
fn a_stream_of_which_all_was_sent_and_trimmed_comes_back_without_a_loss() {
    let mut world = World::new(&[1, 2, 3, 4, 5]);
    world.runs();
    world.confirms();
    (world.ids, world.removed) = (Some(Vec::new()), 5);
    world.waits();
    (world.ids, world.removed) = (None, 0);
    world.waits();
    (world.ids, world.removed) = (Some(vec![6, 7]), 5);
    world.waits();
    assert_eq!((world.lost(), &world.lists[..]), (0, &[(1, 5), (6, 7)][..]));
}

#[test]
fn a_stream_that_was_trimmed_comes_back_while_a_list_is_in_flight() {
    let mut world = World::new(&[1, 2, 3, 4, 5]);
    world.runs();
    world.confirms();
    (world.ids, world.removed) = (Some(vec![6]), 5);
    world.waits();
    (world.ids, world.removed) = (None, 0);
    world.waits();
    (world.ids, world.removed) = (Some(vec![7]), 6);
    world.waits();
    let back = |notice: &&Notice| matches!(notice, Notice::StreamBack { .. });
    assert_eq!(world.told.iter().filter(back).count(), 1);
    world.confirms();
    assert_eq!(world.lists, [(1, 5), (6, 6), (7, 7)]);
}

#[test]
fn what_is_in_flight_of_a_stream_that_is_back_is_not_lost_with_the_one_between() {
    for delivered in [true, false] {
        let mut world = World::new(&[1, 2, 3, 4, 5]);
        world.runs();
        world.confirms();
        world.ids = Some(vec![1, 2, 3, 4, 5, 6]);
        world.waits();
        world.ids = None;
        world.waits();
        world.ids = Some(vec![9]);
        (0..6).for_each(|_| world.waits());
        assert_eq!(world.lists, [(1, 5), (6, 6)]);
        world.ids = Some(vec![1, 2, 3, 4, 5, 6]);
        (0..6).for_each(|_| world.waits());
        // 9-0 is gone, and 6-0 goes again whatever becomes of it now.
        assert_eq!(world.lost(), 1);
        match delivered {
            true => world.confirms(),
            false => {
                let why = Undelivered::new(Cause::Lost, "cut");
                world.bridge.handle(world.now, Input::Delivered(Err(why)));
                world.runs();
            }
        }
        assert_eq!((world.lost(), world.lists.last()), (1, Some(&(6, 6))));
        assert_eq!(world.lists.len(), 3);
    }
}

/// All of it was sent before, or passed over on purpose: nothing comes that would ask for a trim, and a
/// Redis that is full takes no measurements.
#[test]
fn what_lies_before_the_cursor_is_trimmed_at_the_start_and_whenever_the_cursor_was_set() {
    let rules = Rules {
        keep_sent: Some(0),
        ..rules()
    };
    let mut world = World::with(rules, &[1, 2, 3]);
    for (cursor, trims) in [("(3-0", 1), ("(2-0", 2)] {
        world.cursors.push(cursor.into());
        world.runs();
        assert_eq!(world.trims, trims, "{cursor}");
    }
}
