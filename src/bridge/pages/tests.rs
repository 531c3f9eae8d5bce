use std::time::Duration;

use super::super::tests::{Room, id, list, rules};
use super::super::{Notice, Rules};
use super::*;
use crate::model::measurement::Batch;
use crate::model::stream::Extent;

fn stream() -> Stream {
    Stream::Present(Extent {
        newest: id(1000),
        length: 1,
        added: None,
        first: Some(id(1)),
        deleted: StreamId::ZERO,
    })
}

/// A page with this list, which takes all its entries.
fn page(room: &Room, list: Option<Batch>) -> Page {
    Page {
        settings: room.settings(),
        stream: Some(stream()),
        entries: list.as_ref().map_or(0, |list| list.count),
        at_end: true,
        list,
        ..Page::default()
    }
}

#[test]
fn a_page_behind_another_place_is_not_used() {
    for (after, used) in [(1, true), (9, false)] {
        let mut room = Room::new(rules());
        let page = page(&room, Some(list(10, 11, 100)));
        room.bridge.take_page(room.now, id(after), page, true);
        assert_eq!(room.bridge.reading.list.is_some(), used);
    }
}

#[test]
fn three_pages_without_the_state_of_the_stream_are_read_again() {
    let mut room = Room::new(rules());
    for nth in 1..=4 {
        let page = Page {
            stream: None,
            ..page(&room, Some(list(2, 3, 100)))
        };
        room.bridge.take_page(room.now, id(1), page, true);
        assert_eq!(room.bridge.reading.list.is_some(), nth == 4, "{nth}");
        assert_eq!(room.bridge.reading.more, nth < 4, "{nth}");
    }
    let mut room = Room::new(rules());
    let page = Page {
        stream: None,
        ..page(&room, Some(list(2, 3, 100)))
    };
    room.bridge.take_page(room.now, id(1), page, false);
    assert!(room.bridge.reading.list.is_some(), "it is not asked for");
}

#[test]
fn there_is_more_where_the_list_or_the_page_does_not_take_all() {
    for (entries, at_end, more) in [(2, true, false), (2, false, true), (3, true, true)] {
        let mut room = Room::new(rules());
        let page = Page {
            entries,
            at_end,
            ..page(&room, Some(list(2, 3, 100)))
        };
        room.bridge.take_page(room.now, id(1), page, true);
        assert_eq!(room.bridge.reading.more, more, "{entries} {at_end}");
    }
    let mut room = Room::new(rules());
    let page = Page {
        at_end: false,
        ..page(&room, None)
    };
    room.bridge.take_page(room.now, id(1), page, true);
    assert!(!room.bridge.reading.more, "an empty page has no end");
}

#[test]
fn an_empty_page_says_that_nothing_waits_unless_something_is_in_flight() {
    let nothing = Some(Waiting::Exactly(0));
    for (in_flight, lists, backlog) in [
        (false, None, nothing),
        (true, None, None),
        (false, Some(list(2, 3, 100)), None),
    ] {
        let mut room = Room::new(rules());
        if in_flight {
            room = Room::sending(rules(), list(2, 3, 100));
        }
        room.bridge.overview.backlog = None;
        let (page, after) = (page(&room, lists), room.bridge.delivery.read_after());
        room.bridge.take_page(room.now, after, page, true);
        assert_eq!(room.bridge.overview.backlog, backlog);
    }
}

#[test]
fn each_oddity_is_told_once() {
    let mut room = Room::new(rules());
    for (not_utf8, double_field, lines) in [
        (0, 0, [0, 0]),
        (1, 0, [1, 0]),
        (2, 1, [1, 1]),
        (3, 2, [1, 1]),
    ] {
        room.bridge.tell_oddities(Oddities {
            not_utf8,
            double_field,
        });
        room.run();
        let told = [
            room.lines(|notice| *notice == Notice::NotUtf8),
            room.lines(|notice| *notice == Notice::DoubleField),
        ];
        assert_eq!(told, lines);
    }
}

/// What a catch-up tells in which so much waits, before nothing does.
fn caught_up(waits: u64) -> Vec<Notice> {
    let rules = Rules {
        catch_up: 1000,
        ..rules()
    };
    let mut room = Room::new(rules);
    room.up(usize::MAX);
    room.bridge.reading.bytes_per_entry = 100;
    room.bridge.pausing.pace.sent(room.now, 1, true);
    let mut look = Look {
        stream: stream(),
        oldest: Some(id(2)),
        waiting: Some(Waiting::Exactly(waits)),
        used_percent: None,
    };
    for seconds in [0, 10] {
        let now = room.now + Duration::from_secs(seconds);
        room.bridge.see(now, &look);
    }
    look.oldest = None;
    room.bridge.see(room.now + Duration::from_secs(20), &look);
    let mut told = Vec::new();
    told.extend(std::iter::from_fn(|| {
        room.bridge.overview.notices.next(room.now)
    }));
    told.retain(|notice| matches!(notice, Notice::CatchingUp { .. } | Notice::CaughtUp(_)));
    told
}

#[test]
fn it_is_a_catch_up_where_more_waits_than_one_list_takes() {
    assert_eq!(caught_up(10), []);
    let told = caught_up(11);
    // 1000 bytes a second are ten measurements.
    let line = |notice: &Notice| matches!(notice, Notice::CatchingUp { per_second, .. } if (*per_second - 10.0).abs() < 0.1);
    assert!(told.len() == 2 && line(&told[0]), "{told:?}");
    assert_eq!(told[1], Notice::CaughtUp(0));
}

#[test]
fn a_look_shows_a_loss_only_where_nothing_that_was_read_lies_ahead_of_it() {
    for (in_flight, after, lost) in [(false, 1, 2), (false, 5, 0), (true, 1, 0)] {
        let mut room = Room::new(rules());
        if in_flight {
            room = Room::sending(rules(), list(2, 2, 100));
        }
        // Two that were never read are gone.
        room.bridge.account.set(Some(1));
        let added = if in_flight { 4 } else { 3 };
        let look = Look {
            stream: Stream::Present(Extent {
                newest: id(4),
                length: 1,
                added: Some(added),
                first: Some(id(1)),
                deleted: id(4),
            }),
            oldest: None,
            waiting: None,
            used_percent: None,
        };
        room.bridge.take_look(room.now, id(after), look);
        assert_eq!(room.bridge.overview.counters.lost, lost, "{after}");
    }
}
