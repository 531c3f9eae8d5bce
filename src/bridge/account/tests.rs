use super::*;

fn id(ms: u64) -> StreamId {
    StreamId::new(ms, 0)
}

/// A stream of which the IDs from `first` to `newest` are there, `length` of them.
fn extent(added: u64, length: u64, first: u64, newest: u64) -> Extent {
    Extent {
        newest: id(newest),
        length,
        added: Some(added),
        first: (length > 0).then_some(id(first)),
        deleted: StreamId::ZERO,
    }
}

fn view(extent: Extent, place: u64, ahead: u64, page: u64, at_end: bool) -> View {
    View {
        stream: Stream::Present(extent),
        place: id(place),
        ahead,
        kept: (id(place), None),
        page,
        at_end,
    }
}

fn account(accounted: u64) -> Account {
    let mut account = Account::default();
    account.set(Some(accounted));
    account
}

#[test]
fn nothing_is_lost_while_only_sent_entries_are_removed() {
    let mut account = account(100);
    let trimmed = extent(500, 450, 51, 500);
    assert_eq!(
        account.look(&view(trimmed, 100, 0, 100, false)),
        Finding::Nothing
    );
    let more = extent(500, 350, 151, 500);
    assert_eq!(
        account.look(&view(more, 200, 100, 300, true)),
        Finding::Nothing
    );
    assert_eq!(account.accounted(), Some(100));
}

#[test]
fn unsent_entries_that_were_trimmed_are_counted_once() {
    let mut account = account(100);
    let trimmed = view(extent(2000, 666, 1335, 2000), 100, 0, 100, false);
    assert_eq!(account.look(&trimmed), Finding::Lost(1234));
    assert_eq!(account.look(&trimmed), Finding::Nothing);
    assert_eq!(account.accounted(), Some(1334));
}

#[test]
fn entries_in_flight_are_lost_only_if_they_fail() {
    let mut account = account(100);
    let trimmed = extent(1000, 800, 201, 1000);
    assert_eq!(
        account.look(&view(trimmed, 150, 50, 10, false)),
        Finding::Lost(50)
    );
    // They come back unconfirmed and are gone as well.
    account.dropped(50, 0);
    assert_eq!(
        account.look(&view(trimmed, 100, 0, 10, false)),
        Finding::Lost(50)
    );
    assert_eq!(account.accounted(), Some(200));
}

#[test]
fn entries_deleted_from_the_middle_show_at_the_end() {
    let mut account = account(100);
    let deleted = Extent {
        deleted: id(180),
        ..extent(200, 197, 1, 200)
    };
    assert_eq!(
        account.look(&view(deleted, 100, 0, 50, false)),
        Finding::Nothing
    );
    assert_eq!(
        account.look(&view(deleted, 150, 50, 47, true)),
        Finding::Lost(3)
    );
    account.passed(97, StreamId::ZERO, None);
    assert_eq!(account.accounted(), Some(200));
    assert_eq!(
        account.look(&view(deleted, 200, 0, 0, true)),
        Finding::Nothing
    );
}

#[test]
fn what_was_trimmed_shows_once_what_remained_is_read() {
    let mut account = account(100);
    account.look(&view(extent(100, 1, 100, 100), 100, 0, 0, true));
    // 101 to 103 were trimmed; 104 was read before the counts could be compared.
    let trimmed = extent(104, 1, 104, 104);
    assert_eq!(
        account.look(&view(trimmed, 104, 1, 0, true)),
        Finding::Lost(3)
    );
    account.passed(1, StreamId::ZERO, None);
    assert_eq!(
        account.look(&view(trimmed, 104, 0, 0, true)),
        Finding::Nothing
    );
}

#[test]
fn deleted_sent_entries_are_no_loss() {
    let mut account = account(100);
    let deleted = Extent {
        deleted: id(50),
        ..extent(100, 99, 1, 100)
    };
    assert_eq!(
        account.look(&view(deleted, 100, 0, 0, true)),
        Finding::Nothing
    );
}

#[test]
fn counts_that_somebody_has_set_are_no_loss() {
    let mut account = account(100);
    account.look(&view(extent(100, 100, 1, 100), 100, 0, 0, true));
    assert_eq!(
        account.look(&view(extent(150, 100, 1, 100), 100, 0, 0, true)),
        Finding::Nothing
    );
    assert_eq!(account.accounted(), Some(150));
    // Set below what was read: it is the same stream all the same.
    assert_eq!(
        account.look(&view(extent(120, 100, 1, 100), 100, 0, 0, true)),
        Finding::Recount
    );
    assert_eq!(account.accounted(), None);
}

#[test]
fn fewer_entries_than_were_read_prove_another_stream() {
    let mut account = account(100);
    account.look(&view(extent(130, 130, 1, 130), 100, 0, 20, false));
    // 20 entries below the old ones and one above; 30 had been waiting.
    let anew = extent(21, 21, 50, 200);
    assert_eq!(
        account.look(&view(anew, 100, 0, 1, true)),
        Finding::Anew(30)
    );
    assert_eq!(account.accounted(), Some(0));
}

#[test]
fn more_entries_behind_the_place_than_were_added_since_prove_another_stream() {
    let mut account = account(749);
    assert_eq!(
        account.look(&view(extent(1000, 1000, 700, 1800), 749, 0, 480, false)),
        Finding::Anew(0)
    );
}

#[test]
fn read_entries_that_are_gone_without_having_been_removed_prove_another_stream() {
    let mut account = account(749);
    account.look(&view(extent(749, 749, 1, 749), 749, 0, 0, true));
    assert_eq!(
        account.look(&view(extent(1000, 1000, 800, 1800), 749, 0, 200, false)),
        Finding::Anew(0)
    );
}

#[test]
fn a_stream_that_is_gone_takes_what_waited_along_and_what_is_in_flight_may_still_arrive() {
    let mut account = account(100);
    account.look(&view(extent(130, 130, 1, 130), 100, 0, 20, false));
    let gone = View {
        stream: Stream::Absent,
        place: id(120),
        ahead: 20,
        kept: (id(100), Some(100)),
        page: 0,
        at_end: true,
    };
    assert_eq!(account.look(&gone), Finding::Gone(10));
    assert_eq!(account.look(&gone), Finding::Nothing);
    account.passed(20, StreamId::ZERO, None);
    assert_eq!(account.accounted(), Some(0));
    let anew = extent(3, 3, 200, 202);
    assert_eq!(account.look(&view(anew, 120, 0, 3, true)), Finding::Nothing);
    account.passed(3, StreamId::ZERO, None);
    assert_eq!(account.accounted(), Some(3));
}

#[test]
fn what_was_in_flight_of_a_stream_that_is_gone_is_lost_if_it_fails() {
    let mut account = account(100);
    account.look(&view(extent(120, 120, 1, 120), 100, 0, 20, true));
    let gone = View {
        stream: Stream::Absent,
        place: id(120),
        ahead: 20,
        kept: (id(100), Some(100)),
        page: 0,
        at_end: true,
    };
    account.look(&gone);
    assert_eq!(account.dropped(20, 20), 0);
    assert_eq!(account.dropped(20, 0), 20);
    assert_eq!(account.dropped(0, 0), 0);
    for (delivered, lost) in [(true, 0), (false, 5)] {
        account.anew(7, (id(120), Some(0)));
        assert_eq!(account.forget_ahead(5), 2);
        // Another stream is left meanwhile.
        account.anew(3, (id(120), Some(0)));
        assert_eq!(account.forget_ahead(0), 3);
        assert_eq!(account.forgotten_answered(delivered), lost);
    }
}

#[test]
fn a_server_that_does_not_count_keeps_the_account_silent() {
    let mut account = account(100);
    let old = Extent {
        added: None,
        ..extent(0, 10, 1, 10)
    };
    assert_eq!(account.look(&view(old, 100, 0, 0, true)), Finding::Nothing);
    assert_eq!(account.accounted(), None);
    account.passed(5, StreamId::ZERO, None);
    assert_eq!(account.accounted(), None);
    assert_eq!(
        account.look(&view(extent(1, 1, 1, 1), 100, 0, 1, true)),
        Finding::Nothing
    );
}

#[test]
fn an_empty_stream_that_a_consumer_group_has_made_is_none() {
    let mut account = account(0);
    let empty = extent(0, 0, 0, 0);
    assert_eq!(account.look(&view(empty, 0, 0, 0, true)), Finding::Gone(0));
    assert_eq!(account.accounted(), Some(0));
}

#[test]
fn what_was_seen_and_not_kept_or_dropped_again_still_waits() {
    let mut account = account(100);
    account.look(&view(extent(150, 150, 1, 150), 100, 0, 50, true));
    account.passed(5, StreamId::ZERO, None);
    // Of the 50, 5 are confirmed, 20 are in flight, and the rest was not kept.
    let anew = extent(5, 5, 1, 5);
    assert_eq!(
        account.look(&view(anew, 125, 20, 0, true)),
        Finding::Anew(25)
    );
}

#[test]
fn a_new_stream_that_is_replaced_before_anything_was_read_from_it_is_counted() {
    let mut account = account(0);
    account.saw(&extent(22, 22, 1, 22));
    let next = view(extent(15, 15, 30, 44), 0, 0, 15, true);
    assert_eq!(account.look(&next), Finding::Anew(22));
}

#[test]
fn ids_that_fall_prove_another_stream_on_any_server() {
    for counted in [true, false] {
        let of = |extent: Extent| Extent {
            added: extent.added.filter(|_| counted),
            ..extent
        };
        let mut account = Account::default();
        account.set(counted.then_some(100));
        let before = view(of(extent(120, 120, 10, 120)), 100, 0, 0, false);
        assert_eq!(account.look(&before), Finding::Nothing);
        // Eight from the time before the clock was set, and enough after it.
        let anew = view(of(extent(140, 140, 5, 200)), 100, 0, 0, false);
        let waited = if counted { 20 } else { 0 };
        assert_eq!(account.look(&anew), Finding::Anew(waited));
    }
}

#[test]
fn a_first_entry_that_is_gone_without_having_been_removed_proves_another_stream() {
    let mut account = account(0);
    account.look(&view(extent(5, 5, 1, 5), 0, 0, 0, false));
    let anew = view(extent(8, 8, 7, 14), 0, 0, 0, false);
    assert_eq!(account.look(&anew), Finding::Anew(5));
}

#[test]
fn whatever_is_not_younger_than_an_emptied_stream_is_another_one() {
    let mut account = account(100);
    let trimmed = view(extent(100, 0, 0, 100), 100, 0, 0, true);
    assert_eq!(account.look(&trimmed), Finding::Nothing);
    assert_eq!(account.oldest(), id(100).next());
    let anew = view(extent(120, 20, 100, 119), 100, 0, 0, false);
    assert_eq!(account.look(&anew), Finding::Anew(0));
}

#[test]
fn what_was_seen_holds_over_a_restart() {
    let mut before = account(100);
    before.look(&view(extent(131, 131, 1, 131), 100, 0, 0, false));
    let mut account = Account::default();
    account.resume(before.accounted(), before.seen());
    let anew = view(extent(200, 200, 140, 339), 100, 0, 0, false);
    assert_eq!(account.look(&anew), Finding::Anew(31));
}

#[test]
fn what_was_confirmed_is_no_loss_unless_redis_has_forgotten_it() {
    for (stored, lost) in [(100, 20), (105, 30)] {
        let mut account = account(100);
        account.look(&view(extent(130, 130, 1, 130), 100, 0, 0, false));
        account.stored(Some(stored));
        account.passed(10, StreamId::ZERO, None);
        account.resume(Some(100), account.seen());
        let gone = View {
            stream: Stream::Absent,
            place: id(100),
            ahead: 0,
            kept: (id(100), Some(100)),
            page: 0,
            at_end: true,
        };
        assert_eq!(account.look(&gone), Finding::Gone(lost));
    }
}

#[test]
fn counts_that_are_set_are_no_loss_whatever_was_deleted_of_what_was_sent() {
    for deleted in [50, 100] {
        let mut account = account(100);
        let of = |added| Extent {
            deleted: id(deleted),
            ..extent(added, 99, 1, 100)
        };
        let look = |added| view(of(added), 100, 0, 0, true);
        assert_eq!(account.look(&look(100)), Finding::Nothing);
        // Nothing of what is ahead was dropped.
        assert_eq!(account.dropped(20, 20), 0);
        assert_eq!(account.look(&look(150)), Finding::Nothing, "{deleted}");
        assert_eq!(account.accounted(), Some(150));
    }
}

#[test]
fn counts_that_are_set_are_no_loss_where_something_new_waits() {
    let mut account = account(100);
    account.look(&view(extent(100, 100, 1, 100), 100, 0, 0, true));
    let more = view(extent(151, 101, 1, 101), 100, 0, 1, true);
    assert_eq!(account.look(&more), Finding::Nothing);
}

#[test]
fn of_an_empty_stream_the_ids_show_whether_something_was_there() {
    // Only the counts were set, or as many were added and removed.
    for (newest, found) in [(100, Finding::Nothing), (150, Finding::Lost(50))] {
        let mut account = account(100);
        account.look(&view(extent(100, 0, 0, 100), 100, 0, 0, true));
        let empty = view(extent(150, 0, 0, newest), 100, 0, 0, true);
        assert_eq!(account.look(&empty), found);
    }
    let mut account = account(100);
    account.look(&view(extent(130, 130, 1, 130), 100, 0, 30, true));
    let emptied = view(extent(130, 0, 0, 130), 100, 0, 0, true);
    assert_eq!(account.look(&emptied), Finding::Lost(30));
}

#[test]
fn an_empty_stream_that_a_consumer_group_has_made_takes_what_waited_along() {
    let mut account = account(100);
    account.look(&view(extent(130, 130, 1, 130), 100, 0, 30, true));
    let empty = view(extent(0, 0, 0, 0), 100, 0, 0, true);
    assert_eq!(account.look(&empty), Finding::Gone(30));
}

#[test]
fn another_stream_shows_by_its_ids_or_by_its_counts() {
    let mut account = Account::default();
    assert!(!account.is_another(Stream::Absent));
    account.saw(&extent(120, 111, 10, 120));
    assert!(account.is_another(Stream::Absent));
    let is_another = |extent| account.is_another(Stream::Present(extent));
    assert!(!is_another(extent(120, 111, 10, 120)) && !is_another(extent(130, 121, 10, 130)));
    assert!(is_another(extent(119, 110, 10, 120)), "fewer were added");
    assert!(is_another(extent(130, 122, 10, 130)), "fewer were removed");
    let uncounted = |first, newest| Extent {
        added: None,
        ..extent(0, 100, first, newest)
    };
    account.saw(&uncounted(10, 120));
    let is_another = |extent| account.is_another(Stream::Present(extent));
    assert!(is_another(uncounted(9, 120)) && is_another(uncounted(20, 110)));
    assert!(!is_another(uncounted(10, 110)), "only the last ID was set");
}

#[test]
fn what_was_passed_and_not_delivered_is_lost_with_the_stream() {
    for (distrusted, lost) in [(false, 20), (true, 30)] {
        let mut account = account(100);
        account.look(&view(extent(130, 130, 1, 130), 100, 0, 0, false));
        account.stored(Some(100));
        account.passed(10, StreamId::ZERO, None);
        if distrusted {
            account.distrust();
        }
        account.resume(Some(100), account.seen());
        let gone = View {
            stream: Stream::Absent,
            place: id(100),
            ahead: 0,
            kept: (id(100), None),
            page: 0,
            at_end: true,
        };
        assert_eq!(account.look(&gone), Finding::Gone(lost));
    }
}

#[test]
fn what_was_counted_keeps_the_last_look() {
    let mut account = Account::default();
    account.saw(&extent(130, 130, 1, 130));
    account.counted(100);
    assert_eq!(account.accounted(), Some(100));
    assert_eq!(account.seen(), Some(extent(130, 130, 1, 130)));
}

#[test]
fn a_stream_that_comes_back_goes_on_where_it_was() {
    let before = Extent {
        deleted: id(60),
        ..extent(130, 90, 41, 130)
    };
    let mut account = account(100);
    account.look(&view(before, 100, 0, 30, true));
    let gone = View {
        stream: Stream::Absent,
        kept: (id(100), Some(100)),
        ..view(before, 120, 20, 0, true)
    };
    assert_eq!(account.look(&gone), Finding::Gone(10));
    account.told(10);
    // What is in flight fails as well.
    assert_eq!(account.dropped(20, 0), 20);
    assert_eq!(account.come_back(&extent(130, 130, 140, 270), 0), None);
    let former = account.come_back(&before, 0).expect("it is the same one");
    assert_eq!((former.place, former.told), (id(100), 30));
    account.go_on(&former, true, &before);
    let look = view(before, 100, 0, 30, true);
    assert_eq!(account.look(&look), Finding::Nothing);
    assert_eq!(account.accounted(), Some(100));
    assert_eq!(account.come_back(&before, 0), None);
}

#[test]
fn a_stream_comes_back_in_the_place_of_another_one_and_that_one_in_its_turn() {
    let (one, other) = (extent(50, 50, 1, 50), extent(8, 8, 60, 67));
    let mut account = account(50);
    account.look(&view(one, 50, 0, 0, true));
    assert_eq!(account.look(&view(other, 50, 0, 8, true)), Finding::Anew(0));
    account.look(&view(other, 50, 0, 8, true));
    account.passed(3, StreamId::ZERO, None);
    let former = account.come_back(&one, 0).expect("it is the first one");
    assert_eq!(account.anew(0, (id(62), Some(3))), Finding::Anew(5));
    account.told(5);
    account.go_on(&former, false, &one);
    assert_eq!(account.look(&view(one, 50, 0, 0, true)), Finding::Nothing);
    let former = account.come_back(&other, 0).expect("it is the other one");
    assert_eq!((former.place, former.told), (id(62), 5));
}

/// All of it was sent and trimmed, and sensors write into both.
#[test]
fn a_stream_that_comes_back_empty_is_known_by_what_was_removed_from_it() {
    let mut account = account(50);
    account.look(&view(extent(50, 0, 0, 50), 50, 0, 0, true));
    let other = extent(4, 4, 60, 63);
    let anew = View {
        kept: (id(50), Some(50)),
        ..view(other, 50, 0, 4, true)
    };
    assert_eq!(account.look(&anew), Finding::Anew(0));
    account.set(Some(0));
    account.saw(&other);
    account.passed(4, StreamId::ZERO, None);
    // As many as were ever in the first one; then another number.
    let own = extent(54, 4, 70, 73);
    assert_eq!(
        account.come_back(&own, 0).map(|former| former.place),
        Some(id(50))
    );
    assert_eq!(account.come_back(&extent(54, 3, 71, 73), 0), None);
    // Trimmed down to what was sent of it.
    account.passed(46, StreamId::ZERO, None);
    assert_eq!(account.come_back(&own, 0), None);
}

#[test]
fn what_was_in_flight_when_its_stream_was_left_is_behind_the_place_where_it_goes_on() {
    let mut account = account(100);
    let before = extent(130, 130, 1, 130);
    account.look(&view(before, 120, 20, 10, true));
    let gone = View {
        stream: Stream::Absent,
        kept: (id(100), Some(100)),
        ..view(before, 120, 20, 0, true)
    };
    account.look(&gone);
    account.passed(20, id(100), Some(id(120)));
    let former = account.come_back(&before, 0).expect("it is the same one");
    assert_eq!((former.place, former.accounted), (id(120), Some(120)));
}

#[test]
fn a_stream_that_was_left_before_poison_without_a_copy_goes_on_there_whatever_arrives_of_it() {
    let mut account = account(100);
    let before = extent(130, 130, 1, 130);
    account.look(&view(before, 120, 20, 10, true));
    let gone = View {
        stream: Stream::Absent,
        kept: (id(80), Some(80)),
        ..view(before, 120, 20, 0, true)
    };
    account.look(&gone);
    account.passed(20, id(100), Some(id(120)));
    let former = account.come_back(&before, 0).expect("it is the same one");
    assert_eq!((former.place, former.accounted), (id(80), Some(80)));
}

#[test]
fn a_stream_that_comes_and_goes_while_a_list_is_in_flight_takes_what_was_seen_along() {
    let mut account = account(100);
    account.look(&view(extent(120, 120, 1, 120), 120, 20, 0, true));
    let gone = View {
        stream: Stream::Absent,
        ..view(extent(0, 0, 0, 0), 120, 20, 0, true)
    };
    account.look(&gone);
    // One that is still empty shows nothing.
    account.waits(&extent(0, 0, 0, 0));
    assert!(account.is_gone());
    account.waits(&extent(3, 3, 201, 203));
    assert!(!account.is_gone());
    account.waits(&extent(4, 4, 201, 204));
    let anew = view(extent(2, 2, 150, 151), 120, 20, 2, true);
    assert_eq!(account.look(&anew), Finding::Anew(4));
}

#[test]
fn more_that_waits_is_known_whatever_was_trimmed_meanwhile() {
    let mut account = account(20);
    account.look(&view(extent(30, 30, 1, 30), 20, 0, 10, true));
    // Longer, with one deleted in the middle; trimmed, and longer again.
    account.waits(&extent(35, 34, 1, 35));
    assert_eq!(account.seen(), Some(extent(35, 34, 1, 35)));
    account.waits(&extent(42, 22, 21, 42));
    assert_eq!(account.seen(), Some(extent(42, 41, 1, 42)));
    let trimmed = extent(42, 22, 21, 42);
    assert!(!account.is_another(Stream::Present(trimmed)));
    assert_eq!(account.anew(0, (id(20), Some(20))), Finding::Anew(22));
}

/// As after a look that did not show it: it would come back and be left again without an end.
#[test]
fn a_stream_that_was_seen_as_another_one_is_not_left_as_that_one() {
    let other = extent(195, 195, 1, 300);
    let seen_as = |former| {
        let mut account = account(26);
        account.saw(&other);
        account.former = former;
        account
    };
    let look = view(other, 290, 0, 2, true);
    let mut account = seen_as(None);
    assert!(matches!(account.look(&look), Finding::Anew(_)));
    assert_eq!(account.former, None);
    // It is the one before.
    let former = Former {
        place: id(100),
        accounted: Some(100),
        seen: extent(180, 180, 1, 180),
        told: 0,
    };
    let mut account = seen_as(Some(former));
    assert_eq!(account.look(&look), Finding::Back(former));
    account.anew(0, (id(290), Some(26)));
    account.go_on(&former, false, &other);
    assert_eq!((account.former, account.accounted()), (None, Some(100)));
}
