use std::time::Duration;

use super::super::account::{Finding, View};
use super::super::tests::{Room, id, list, poisoned, rules};
use super::super::{Action, Input, Page, Rules};
use super::*;
use crate::model::stream::Extent;

fn text(cursor: &str) -> Raw {
    Raw::Text(cursor.into())
}

#[test]
fn a_connection_that_redis_refuses_is_none() {
    let mut room = Room::begins(rules());
    room.refuses = |request| *request == Request::Connect;
    assert!(matches!(room.run(), Action::Wait(_)));
    assert_eq!(room.asked(), [Request::Connect]);
    assert_eq!(
        room.lines(|notice| matches!(notice, Notice::RedisLost { .. })),
        1
    );
}

#[test]
fn what_redis_refuses_again_and_again_is_told_once() {
    let rules = Rules {
        keep_sent: Some(0),
        ..rules()
    };
    type Case = (fn(&Request) -> bool, fn(&Notice) -> bool);
    let cases: [Case; 3] = [
        (
            |request| matches!(request, Request::Save(_)),
            |notice| matches!(notice, Notice::CursorRefused(_)),
        ),
        (
            |request| matches!(request, Request::Copy { .. }),
            |notice| matches!(notice, Notice::CopyRefused { .. }),
        ),
        (
            |request| matches!(request, Request::Trim { .. }),
            |notice| matches!(notice, Notice::TrimRefused(_)),
        ),
    ];
    for (refuses, told) in cases {
        let mut room = Room::sending(rules.clone(), list(2, 3, 100));
        room.refuses = refuses;
        poisoned(&mut room, 1);
        room.gets(Input::Delivered(Ok(())));
        room.run();
        for _ in 0..5 {
            assert_eq!(room.lines(told), 1);
            room.passes(1);
        }
        assert!(
            room.asked()
                .iter()
                .filter(|request| refuses(request))
                .count()
                > 1
        );
    }
}

#[test]
fn what_came_while_it_waited_counts_only_with_the_state_of_the_stream() {
    for came in [true, false] {
        let mut room = Room::new(rules());
        room.up(usize::MAX);
        room.interval = text("0");
        room.now += Duration::from_secs(1);
        assert!(matches!(room.run(), Action::Ask(Request::Await { .. })));
        room.asked();
        let list = came.then(|| list(2, 3, 100));
        let page = Page {
            settings: room.settings(),
            entries: list.as_ref().map_or(0, |list| list.count),
            at_end: true,
            list,
            ..Page::default()
        };
        room.gets(Input::Redis(Ok(Answer::Page(page))));
        assert!(matches!(room.run(), Action::Ask(Request::Await { .. })));
        let page = |request: &Request| matches!(request, Request::Page { .. });
        assert_eq!(room.asked().iter().any(page), came, "it is read with it");
    }
}

#[test]
fn settings_that_have_not_changed_hold_up_no_change() {
    let mut room = Room::new(rules());
    room.passes(1);
    room.cursor = text("(5-0");
    // They were looked at a moment ago, and come with the page.
    room.up(usize::MAX);
    room.run();
    assert_eq!(room.bridge.delivery.frontier(), id(5));
}

#[test]
fn a_cursor_that_is_gone_is_told_unless_there_was_none_at_the_start() {
    let mut room = Room::begins(rules());
    room.cursor = Raw::Missing;
    for (cursor, lines) in [
        (Raw::Missing, 0),
        (text("(5-0"), 0),
        (Raw::Missing, 1),
        (text("(5-0"), 1),
    ] {
        room.cursor = cursor;
        room.passes(1);
        assert_eq!(room.lines(|notice| *notice == Notice::CursorGone), lines);
    }
}

#[test]
fn a_cursor_that_nobody_understands_moves_nothing_and_at_the_start_everything_counts() {
    let mut room = Room::begins(rules());
    room.cursor = text("nonsense");
    room.run();
    assert_eq!(room.bridge.delivery.frontier(), StreamId::ZERO);
    assert!(room.bridge.cursor.is_known());
    let mut room = Room::new(rules());
    room.cursor = text("nonsense");
    room.passes(1);
    assert_eq!(room.bridge.delivery.frontier(), id(1));
    let save = |request: &Request| matches!(request, Request::Save(save) if save.cursor == "(1-0");
    assert!(room.asked().iter().any(save), "it is stored again");
}

#[test]
fn the_third_cursor_of_somebody_else_points_to_a_second_instance() {
    let mut room = Room::new(rules());
    for (ms, lines) in [(5, 0), (6, 0), (7, 1), (8, 1)] {
        room.cursor = Raw::Text(Cursor::written(id(ms)));
        room.passes(1);
        assert_eq!(
            room.lines(|notice| *notice == Notice::SecondInstance),
            lines
        );
    }
}

#[test]
fn what_an_earlier_run_has_left_counts_where_the_key_still_holds_its_cursor() {
    let cases = [
        ("(1-0", "(1-0", false, true, CursorState::Own),
        ("(1-0", "(1-0", true, true, CursorState::Foreign),
        ("(1-0", "(2-0", false, false, CursorState::Foreign),
        // The same place, written by somebody else.
        ("1-1", "(1-0", false, true, CursorState::Foreign),
        ("1-1", "(1-0", true, true, CursorState::Foreign),
    ];
    for (key, cursor, foreign, counts, state) in cases {
        let mut room = Room::begins(rules());
        room.cursor = text(key);
        room.added = counts.then_some(7);
        room.remembered.position = Some(Position {
            cursor: cursor.into(),
            accounted: Some(7),
            seen: None,
            foreign,
            former: None,
        });
        room.run();
        let accounted = counts.then_some(7);
        assert_eq!(room.bridge.account.accounted(), accounted, "{key} {cursor}");
        assert_eq!(room.bridge.cursor.state, state, "{key} {cursor} {foreign}");
        // Later it is somebody else who sets it, wherever.
        room.added = None;
        for later in ["(5-0", "(1-0"] {
            room.cursor = text(later);
            room.passes(1);
            assert_eq!(room.bridge.account.accounted(), None);
            assert_eq!(room.bridge.cursor.state, CursorState::Foreign);
        }
    }
}

#[test]
fn a_copy_and_a_measurement_that_is_gone_are_counted_and_told() {
    let mut room = Room::new(rules());
    poisoned(&mut room, 2);
    for copied in [Copied::Yes, Copied::Gone(Room::stream(None))] {
        room.run_until(|request| matches!(request, Request::Copy { .. }));
        room.gets(Input::Redis(Ok(Answer::Copied(copied))));
    }
    room.run();
    let counters = room.bridge.view().counters;
    assert_eq!((counters.dead_letters, counters.lost), (1, 1));
    let told = [
        Notice::DeadLetter {
            id: StreamId::new(1, 1),
            reason: "why".into(),
        },
        Notice::PoisonGone(StreamId::new(1, 2)),
    ];
    assert!(told.iter().all(|notice| room.told.contains(notice)));
}

#[test]
fn what_was_passed_without_a_copy_is_not_trusted_behind_a_new_connection() {
    for (poison, lost) in [(0, 20), (1, 30), (2, 30)] {
        let mut room = Room::new(rules());
        let stream = |length| {
            Stream::Present(Extent {
                newest: id(130),
                length,
                added: Some(130),
                first: Some(id(1)),
                deleted: StreamId::ZERO,
            })
        };
        let view = |stream| View {
            stream,
            place: id(100),
            ahead: 0,
            kept: (id(100), None),
            page: 0,
            at_end: false,
        };
        let account = &mut room.bridge.account;
        account.set(Some(100));
        account.look(&view(stream(130)));
        account.stored(Some(100));
        account.passed(10, StreamId::ZERO, None);
        poisoned(&mut room, poison);
        room.bridge.begin_again();
        let account = &mut room.bridge.account;
        account.resume(Some(100), account.seen());
        let gone = account.look(&view(Stream::Absent));
        assert_eq!(gone, Finding::Gone(lost), "{poison}");
    }
}

#[test]
fn what_the_key_holds_is_told_in_words() {
    let words = [
        (
            Raw::Missing,
            "there is no mqtt_sender:last_id, everything counts",
        ),
        (text("(1-0"), "mqtt_sender:last_id = \"(1-0\""),
        (
            Raw::Bytes(vec![0xff]),
            "mqtt_sender:last_id is unusable, everything counts",
        ),
    ];
    for (raw, expected) in words {
        assert_eq!(stored_in_words(&raw), expected);
    }
}

#[test]
fn a_cursor_that_was_not_stored_is_tried_again_or_obeyed() {
    for (key, tried_again) in [("nonsense", true), ("(9-0", false)] {
        let mut room = Room::sending(rules(), list(2, 3, 100));
        room.passes(1);
        room.gets(Input::Delivered(Ok(())));
        room.run_until(|request| matches!(request, Request::Save(_)));
        // It was unusable already when it was looked at.
        room.bridge.cursor.raw = text("nonsense");
        let foreign = Answer::Saved(Saved::Foreign(text(key)));
        room.gets(Input::Redis(Ok(foreign)));
        let cursor = &room.bridge.cursor;
        assert_eq!(cursor.save.due_at().is_some(), tried_again, "{key}");
        assert_eq!(cursor.is_known(), tried_again, "{key}");
    }
}

/// The extent of a stream of which the IDs from `first` to `newest` are there.
fn extent(added: u64, first: u64, newest: u64) -> Extent {
    Extent {
        newest: id(newest),
        length: newest + 1 - first,
        added: Some(added),
        first: Some(id(first)),
        deleted: StreamId::ZERO,
    }
}

#[test]
fn another_stream_is_left_at_the_start_as_it_was_seen_by_the_run_before() {
    let mut room = Room::begins(rules());
    room.cursor = text("(0-5");
    // Nothing up to the cursor is left, and fewer were removed than were sent.
    room.added = Some(7);
    let seen = Extent {
        length: 1,
        ..extent(7, 1, 9)
    };
    room.remembered.position = Some(Position {
        cursor: "(0-5".into(),
        accounted: Some(7),
        seen: Some(seen),
        ..Position::default()
    });
    match room.run_until(|request| matches!(request, Request::Save(_))) {
        Action::Ask(Request::Save(save)) => assert_eq!(save.cursor, "(0-0"),
        other => panic!("{other:?}"),
    }
    let former = room.bridge.account.former.expect("the one that was left");
    assert_eq!(former.place, StreamId::new(0, 5));
    assert_eq!((former.accounted, former.seen), (Some(7), seen));
}

#[test]
fn a_stream_that_is_back_goes_on_where_it_was_unless_somebody_else_has_set_the_cursor() {
    for (key, place, goes_on) in [("(5-0", 2, true), ("5-1", 2, false), ("5-1", 5, true)] {
        let mut room = Room::begins(rules());
        room.cursor = text(key);
        room.remembered.position = Some(Position {
            cursor: "(5-0".into(),
            accounted: Some(1),
            seen: Some(extent(3, 4, 6)),
            former: Some(Former {
                place: id(place),
                accounted: None,
                seen: extent(1, 1, 1),
                told: 4,
            }),
            ..Position::default()
        });
        room.added = Some(3);
        room.run();
        let back = |notice: &Notice| matches!(notice, Notice::StreamBack { .. });
        assert_eq!(room.lines(back), usize::from(goes_on), "{key} {place}");
    }
}

/// After a restart the key holds another cursor than what is stored of the place: it would be somebody
/// else's, and another stream were passed over up to there.
#[test]
fn what_belongs_to_a_cursor_is_not_stored_before_it() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.refuses = |request| matches!(request, Request::Save(_));
    room.gets(Input::Delivered(Ok(())));
    room.asked();
    room.bridge.overview.note.wanted();
    for _ in 0..8 {
        room.passes(1);
    }
    let of_the_place = |request: &Request| {
        matches!(
            request,
            Request::NoteAccount(_)
                | Request::WriteStatus(Some(_))
                | Request::Page {
                    status: Some(_),
                    ..
                }
        )
    };
    let asked = room.asked();
    assert!(asked.contains(&Request::WriteStatus(None)));
    assert!(!asked.iter().any(of_the_place));
    room.refuses = |_| false;
    for _ in 0..30 {
        room.passes(1);
    }
    let asked = room.asked();
    let first = asked.iter().position(of_the_place).expect("in the end");
    let save = |request: &Request| matches!(request, Request::Save(_));
    assert!(asked[..first].iter().any(save));
}
