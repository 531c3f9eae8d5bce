use std::time::Duration;

use super::super::Input;
use super::super::tests::{Room, list, rules};
use super::*;

fn undelivered(cause: Cause) -> Input {
    Input::Delivered(Err(Undelivered::new(cause, "why")))
}

/// A measurement that the broker has refused, and the empty list ahead of the next attempt.
fn probing() -> Room {
    let mut room = Room::sending(rules(), list(2, 2, 100));
    room.gets(undelivered(Cause::Refused));
    room.lists.push_back(list(2, 2, 100));
    assert!(matches!(room.run(), Action::Publish { list, .. } if list.count == 0));
    room
}

#[test]
fn an_empty_list_that_was_not_confirmed_is_counted_and_told_where_any_would_be_refused() {
    for (cause, lines) in [(Cause::Lost, 0), (Cause::RefusesAll, 1)] {
        let mut room = probing();
        room.gets(undelivered(cause));
        room.run();
        assert_eq!(room.bridge.view().counters.retries, 2);
        let told = room.lines(|notice| matches!(notice, Notice::NotAccepted { .. }));
        assert_eq!(told, lines, "{cause:?}");
    }
}

#[test]
fn behind_an_empty_list_that_was_taken_the_measurement_goes() {
    let mut room = probing();
    room.gets(Input::Delivered(Ok(())));
    assert!(matches!(room.run(), Action::Publish { list, .. } if list.count == 1));
}

#[test]
fn a_broker_that_takes_nothing_is_told_instead_of_the_list() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(undelivered(Cause::RefusesAll));
    room.run();
    assert_eq!(
        room.lines(|notice| matches!(notice, Notice::NotConfirmed(_))),
        0
    );
    assert_eq!(
        room.lines(|notice| matches!(notice, Notice::NotAccepted { .. })),
        1
    );
}

#[test]
fn a_list_grows_again_where_its_answer_came_within_a_quarter_of_its_deadline() {
    let quarter = rules().ack_timeout / 4;
    for (late, bytes) in [(Duration::ZERO, 800), (Duration::from_millis(1), 400)] {
        let mut room = Room::sending(rules(), list(2, 5, 800));
        room.gets(undelivered(Cause::Refused));
        room.lists.push_back(list(2, 3, 400));
        assert!(matches!(room.run(), Action::Publish { .. }));
        room.now += quarter + late;
        room.gets(Input::Delivered(Ok(())));
        assert_eq!(room.bridge.delivery.limits(rules().batch).max_bytes, bytes);
    }
}

#[test]
fn too_much_poison_without_a_copy_is_told_when_it_is() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.gets(Input::Delivered(Ok(())));
    room.run();
    let told = |notice: &Notice| matches!(notice, Notice::TooManyUncopied(_));
    assert_eq!(room.lines(told), 0);
}

#[test]
fn poison_counts_as_passed_with_what_proves_it() {
    let mut room = probing();
    let mut accounted = None;
    for (answer, next) in [
        (Ok(()), 2),
        (Err(Undelivered::new(Cause::Refused, "why")), 3),
        (Ok(()), 3),
        (Ok(()), 3),
    ] {
        room.bridge.account.set(Some(10));
        room.gets(Input::Delivered(answer));
        accounted = room.bridge.account.accounted();
        room.lists.clear();
        room.lists.push_back(list(next, next, 100));
        room.run();
    }
    assert_eq!(accounted, Some(12));
}

#[test]
fn the_answer_to_a_list_that_no_longer_counts_is_no_retry() {
    let mut room = Room::sending(rules(), list(2, 3, 100));
    room.bridge.delivery.rewind(list(1, 1, 1).last);
    room.gets(undelivered(Cause::Lost));
    room.run();
    assert_eq!(room.bridge.view().counters.retries, 0);
}
