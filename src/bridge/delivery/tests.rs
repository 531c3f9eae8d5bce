use proptest::prelude::*;

use super::*;
use crate::model::compression::Compression;

const FULL: BatchLimits = BatchLimits {
    max_bytes: 65536,
    max_count: 1000,
    compression: Compression::None,
};
const WORDS: [Cause; 2] = [Cause::Refused, Cause::TooLarge { limit: None }];

fn id(ms: u64) -> StreamId {
    StreamId::new(ms, 0)
}

fn ids(poison: &[Poison]) -> Vec<u64> {
    poison.iter().map(|poison| poison.id.ms).collect()
}

/// Hands over the next list as the bridge would: measurements are 1, 2, 3 … of 100 bytes. The
/// broker takes every probe.
fn send(delivery: &mut Delivery) -> Span {
    if delivery.needs_probe() {
        delivery.hand_over_probe();
        assert!(delivery.is_probing() && delivery.in_flight());
        delivery.probed(Ok(()));
    }
    send_unproven(delivery)
}

fn send_unproven(delivery: &mut Delivery) -> Span {
    let limits = delivery.limits(FULL);
    let first = delivery.read_after().ms + 1;
    let count = (limits.max_bytes / 100).clamp(1, limits.max_count);
    let span = Span {
        first: id(first),
        last: id(first + count as u64 - 1),
        count,
        bytes: count * 100,
    };
    delivery.hand_over(span);
    span
}

fn fail(delivery: &mut Delivery, cause: Cause) -> Span {
    let span = send(delivery);
    delivery.failed(cause, "why");
    span
}

#[test]
fn the_frontier_follows_confirmations_and_reading_runs_ahead() {
    let mut delivery = Delivery::new(id(0), 65536);
    let span = send(&mut delivery);
    assert_eq!(
        (delivery.frontier(), delivery.read_after()),
        (id(0), span.last)
    );
    assert_eq!(delivery.unconfirmed(), span.count);
    let progress = delivery.confirmed(true).unwrap();
    assert_eq!((progress.before, progress.sent), (id(0), span));
    assert_eq!(delivery.read_after(), span.last);
    assert_eq!(delivery.unconfirmed(), 0);
}

#[test]
fn after_any_failure_reading_goes_back_to_the_frontier() {
    for cause in [
        Cause::NotSent,
        Cause::Closed,
        Cause::Lost,
        Cause::Silent { answers: true },
        Cause::Silent { answers: false },
        Cause::Refused,
        Cause::TooLarge { limit: None },
        Cause::RefusesAll,
    ] {
        let mut delivery = Delivery::new(id(7), 65536);
        fail(&mut delivery, cause);
        assert_eq!((delivery.frontier(), delivery.read_after()), (id(7), id(7)));
        assert!(!delivery.in_flight());
    }
}

/// A broker that refuses one measurement in a certain way, with all the rest accepted.
fn isolate(poison: u64, cause: Cause) -> (Delivery, u32) {
    let mut delivery = Delivery::new(id(0), 65536);
    let mut failures = 0;
    for _ in 0..200 {
        let span = send(&mut delivery);
        if (span.first.ms..=span.last.ms).contains(&poison) {
            failures += 1;
            delivery.failed(cause, "why");
        } else if let Some(progress) = delivery.confirmed(true) {
            if !progress.poison.is_empty() {
                assert_eq!(ids(&progress.poison), [poison]);
                return (delivery, failures);
            }
        }
    }
    panic!("not isolated after {failures} failures");
}

#[test]
fn poison_is_found_by_halving_and_proven_by_its_successor() {
    let causes = [Cause::Closed, Cause::Silent { answers: true }];
    for cause in causes.into_iter().chain(WORDS) {
        let (delivery, failures) = isolate(333, cause);
        assert_eq!(delivery.frontier(), id(334));
        assert!(failures <= 30, "{cause:?}: {failures}");
    }
}

#[test]
fn what_the_line_did_convicts_nothing() {
    for cause in [
        Cause::Lost,
        Cause::NotSent,
        Cause::RefusesAll,
        Cause::Silent { answers: false },
    ] {
        let mut delivery = Delivery::new(id(0), 1);
        for _ in 0..200 {
            assert_eq!(fail(&mut delivery, cause).first, id(1), "{cause:?}");
        }
        send(&mut delivery);
        assert_eq!(delivery.confirmed(true).map(|p| p.poison), Some(vec![]));
    }
}

#[test]
fn a_refusal_of_a_single_measurement_in_words_needs_a_proof_and_a_successor() {
    let mut delivery = Delivery::new(id(0), 1);
    fail(&mut delivery, Cause::Refused);
    assert_eq!(fail(&mut delivery, Cause::Refused).first, id(1));
    assert_eq!((delivery.frontier(), delivery.unconfirmed()), (id(0), 1));
    assert_eq!(send(&mut delivery).first, id(2));
    let progress = delivery.confirmed(true).unwrap();
    assert_eq!(
        (delivery.frontier(), ids(&progress.poison)),
        (id(2), vec![1])
    );
}

#[test]
fn a_measurement_above_the_known_limit_needs_a_successor_only() {
    let mut delivery = Delivery::new(id(0), 1);
    fail(&mut delivery, Cause::TooLarge { limit: None });
    assert_eq!((delivery.frontier(), delivery.unconfirmed()), (id(0), 1));
    assert_eq!(send(&mut delivery).first, id(2));
    assert_eq!(
        delivery.confirmed(true).map(|p| ids(&p.poison)),
        Some(vec![1])
    );
}

#[test]
fn a_broker_that_takes_nothing_for_a_while_convicts_nothing() {
    for cause in [
        Cause::Closed,
        Cause::Lost,
        Cause::Silent { answers: true },
        Cause::Silent { answers: false },
    ] {
        let mut delivery = Delivery::new(id(0), 1);
        for _ in 0..100 {
            if delivery.needs_probe() {
                delivery.hand_over_probe();
                delivery.probed(Err(cause));
            }
            assert_eq!(send_unproven(&mut delivery).first, id(1), "{cause:?}");
            delivery.failed(cause, "why");
        }
        send(&mut delivery);
        assert_eq!(delivery.confirmed(true).map(|p| p.poison), Some(vec![]));
    }
}

#[test]
fn a_broker_whose_answer_to_the_probe_changes_convicts_nothing() {
    let mut delivery = Delivery::new(id(0), 1);
    let probe = |delivery: &mut Delivery, result| {
        assert!(delivery.needs_probe());
        delivery.hand_over_probe();
        delivery.probed(result);
    };
    send_unproven(&mut delivery);
    delivery.failed(Cause::Refused, "why");
    // It refuses everything in words: the measurement may be held back, but not for long.
    probe(&mut delivery, Err(Cause::Refused));
    send_unproven(&mut delivery);
    delivery.failed(Cause::Refused, "why");
    assert_eq!(delivery.read_after(), id(1));
    probe(&mut delivery, Ok(()));
    assert!(!delivery.needs_probe());
    assert_eq!(send_unproven(&mut delivery).first, id(1));
}

/// An attempt at a broker that refuses the empty list ahead of it.
fn attempt(delivery: &mut Delivery) -> StreamId {
    if delivery.needs_probe() {
        delivery.hand_over_probe();
        delivery.probed(Err(Cause::Refused));
    }
    send_unproven(delivery).first
}

#[test]
fn a_broker_that_never_takes_an_empty_list_convicts_all_the_same() {
    let mut delivery = Delivery::new(id(0), 1);
    for _ in 0..2 {
        assert_eq!(attempt(&mut delivery), id(1));
        delivery.failed(Cause::Refused, "why");
    }
    assert_eq!(attempt(&mut delivery), id(2));
    assert_eq!(delivery.held_for(), Some("why"));
    assert_eq!(
        delivery.confirmed(true).map(|p| ids(&p.poison)),
        Some(vec![1])
    );
}

#[test]
fn a_probe_that_says_nothing_is_made_again() {
    let mut delivery = Delivery::new(id(0), 1);
    fail(&mut delivery, Cause::Refused);
    for cause in [Cause::NotSent, Cause::RefusesAll] {
        delivery.hand_over_probe();
        delivery.probed(Err(cause));
        assert!(delivery.needs_probe() && !delivery.in_flight());
    }
    delivery.hand_over_probe();
    delivery.probed(Ok(()));
    delivery.connection_lost();
    assert!(!delivery.needs_probe(), "nothing is on trial");
}

#[test]
fn so_many_closes_and_so_many_silences_hold_a_measurement_back() {
    for (cause, times) in [
        (Cause::Closed, CLOSES),
        (Cause::Silent { answers: true }, SILENCES),
    ] {
        let mut delivery = Delivery::new(id(0), 1);
        for _ in 0..times {
            assert_eq!(fail(&mut delivery, cause).first, id(1));
        }
        assert_eq!(send(&mut delivery).first, id(2));
    }
}

#[test]
fn a_connection_that_breaks_idle_or_by_the_line_clears_suspicion() {
    let mut delivery = Delivery::new(id(0), 1);
    for round in 0..50 {
        for _ in 1..CLOSES {
            assert_eq!(fail(&mut delivery, Cause::Closed).first, id(1));
        }
        if round % 2 == 0 {
            delivery.connection_lost();
        } else {
            fail(&mut delivery, Cause::Lost);
        }
    }
    send(&mut delivery);
    assert_eq!(delivery.confirmed(true).map(|p| p.poison), Some(vec![]));
}

#[test]
fn a_refusal_in_words_stands_whatever_the_line_does() {
    let mut delivery = Delivery::new(id(0), 1);
    fail(&mut delivery, Cause::Refused);
    fail(&mut delivery, Cause::Refused);
    delivery.connection_lost();
    assert_eq!(fail(&mut delivery, Cause::Lost).first, id(2));
    for _ in 0..CLOSES {
        fail(&mut delivery, Cause::Closed);
    }
    assert_eq!(send(&mut delivery).first, id(3));
    delivery.failed(Cause::Lost, "why");
    assert_eq!(send(&mut delivery).first, id(2), "a close counts no more");
    assert_eq!(
        delivery.confirmed(true).map(|p| ids(&p.poison)),
        Some(vec![1])
    );
}

#[test]
fn a_connection_that_breaks_with_a_list_in_flight_is_judged_by_its_answer() {
    let mut delivery = Delivery::new(id(0), 1);
    fail(&mut delivery, Cause::Refused);
    fail(&mut delivery, Cause::Refused);
    send(&mut delivery);
    delivery.connection_lost();
    assert!(delivery.in_flight());
}

#[test]
fn a_broker_that_refuses_everything_convicts_nothing() {
    for cause in [Cause::Closed, Cause::Refused] {
        let mut delivery = Delivery::new(id(0), 1);
        let mut furthest = 0;
        for _ in 0..1000 {
            furthest = furthest.max(fail(&mut delivery, cause).first.ms);
        }
        assert_eq!(delivery.frontier(), id(0));
        assert_eq!(furthest, MAX_HELD as u64 + 1);
    }
}

#[test]
fn the_deadline_of_a_list_doubles_with_each_silence_up_to_ten_minutes() {
    let ordinary = Duration::from_secs(30);
    let mut delivery = Delivery::new(id(0), 1);
    let mut waits = Vec::new();
    for _ in 0..7 {
        waits.push(delivery.patience(id(1), ordinary).as_secs());
        fail(&mut delivery, Cause::Silent { answers: false });
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
    assert_eq!(delivery.patience(id(2), ordinary), ordinary);
    assert_eq!(delivery.patience(id(1), MAX_PATIENCE * 2), MAX_PATIENCE * 2);
    send(&mut delivery);
    delivery.confirmed(true);
    assert_eq!(delivery.patience(id(1), ordinary), ordinary);
    fail(&mut delivery, Cause::Silent { answers: true });
    assert_eq!(delivery.patience(id(2), ordinary), ordinary);
}

#[test]
fn silences_of_another_list_begin_anew() {
    let ordinary = Duration::from_secs(30);
    let mut delivery = Delivery::new(id(0), 1);
    for _ in 0..3 {
        fail(&mut delivery, Cause::Silent { answers: false });
    }
    delivery.rewind(id(5));
    fail(&mut delivery, Cause::Silent { answers: false });
    assert_eq!(delivery.patience(id(6), ordinary).as_secs(), 60);
}

#[test]
fn a_rewind_forgets_what_is_in_flight_and_what_is_held_back() {
    let mut delivery = Delivery::new(id(5), 1);
    fail(&mut delivery, Cause::Refused);
    fail(&mut delivery, Cause::Refused);
    send(&mut delivery);
    delivery.rewind(id(2));
    assert!(delivery.in_flight());
    assert_eq!((delivery.read_after(), delivery.unconfirmed()), (id(2), 0));
    assert_eq!(delivery.confirmed(true), None);
    assert_eq!(delivery.frontier(), id(2));
    assert!(!delivery.in_flight());
}

#[test]
fn a_broker_with_another_limit_begins_anew() {
    for (limit, count) in [(usize::MAX, 1), (5000, FULL.max_count)] {
        let mut delivery = Delivery::new(id(0), 1);
        fail(&mut delivery, Cause::Refused);
        delivery.connected(limit);
        assert_eq!(delivery.limits(FULL).max_count, count);
    }
}

#[test]
fn closes_on_another_measurement_do_not_add_up() {
    let mut delivery = Delivery::new(id(0), 1);
    for _ in 1..CLOSES {
        fail(&mut delivery, Cause::Closed);
    }
    delivery.hand_over_probe();
    delivery.probed(Ok(()));
    // The first one was deleted from the stream meanwhile.
    delivery.hand_over(Span {
        first: id(2),
        last: id(2),
        count: 1,
        bytes: 100,
    });
    delivery.failed(Cause::Closed, "why");
    assert_eq!(delivery.unconfirmed(), 0);
}

#[derive(Clone, Debug)]
enum Event {
    Confirm,
    Fail(Cause),
    ConnectionLost,
    Rewind(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Confirm),
        1 => Just(Event::Fail(Cause::NotSent)),
        3 => Just(Event::Fail(Cause::Closed)),
        1 => Just(Event::Fail(Cause::Lost)),
        1 => any::<bool>().prop_map(|answers| Event::Fail(Cause::Silent { answers })),
        1 => Just(Event::Fail(Cause::Refused)),
        1 => Just(Event::Fail(Cause::RefusesAll)),
        1 => Just(Event::ConnectionLost),
        1 => (0u64..50).prop_map(Event::Rewind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn the_frontier_never_passes_an_unconfirmed_measurement(
        events in prop::collection::vec(event(), 1..400),
    ) {
        let mut delivery = Delivery::new(id(0), 400);
        let mut done = std::collections::HashSet::new();
        // Below this, somebody else has declared everything as done.
        let mut given = 0;
        let mut span = None;
        for event in events {
            if !delivery.in_flight() {
                span = Some(send(&mut delivery));
            }
            match event {
                Event::Confirm => {
                    let counts = matches!(delivery.flight, Some(Flight::Counts(_)));
                    let before = delivery.frontier();
                    let progress = delivery.confirmed(true);
                    prop_assert_eq!(progress.is_some(), counts);
                    if let (Some(progress), Some(span)) = (progress, span) {
                        prop_assert_eq!(progress.before, before);
                        done.extend(span.first.ms..=span.last.ms);
                        // Poison lies between the old frontier and the proof, without a gap.
                        let poison = ids(&progress.poison);
                        prop_assert_eq!(
                            &poison,
                            &(before.ms + 1..span.first.ms).collect::<Vec<_>>()
                        );
                        done.extend(poison);
                    }
                }
                Event::Fail(cause) => delivery.failed(cause, "why"),
                Event::ConnectionLost => delivery.connection_lost(),
                Event::Rewind(to) => {
                    delivery.rewind(id(to));
                    given = given.max(to);
                }
            }
            let frontier = delivery.frontier().ms;
            prop_assert!((given + 1..=frontier).all(|ms| done.contains(&ms)));
            prop_assert!(delivery.read_after() >= delivery.frontier());
        }
    }
}

#[test]
fn a_confirmation_behind_a_refused_probe_convicts_the_second_time_only() {
    for takes_it_then in [true, false] {
        let mut delivery = Delivery::new(id(0), 1);
        let refused_twice = |delivery: &mut Delivery| {
            for _ in 0..2 {
                assert_eq!(attempt(delivery), id(1));
                delivery.failed(Cause::Refused, "why");
            }
            assert_eq!(attempt(delivery), id(2));
        };
        refused_twice(&mut delivery);
        assert!(delivery.is_in_doubt());
        delivery.confirmed_in_doubt();
        assert_eq!((delivery.frontier(), delivery.read_after()), (id(0), id(0)));
        if takes_it_then {
            // It has begun to take measurements.
            assert_eq!(send_unproven(&mut delivery).first, id(1));
            assert_eq!(delivery.confirmed(true).map(|p| p.poison), Some(vec![]));
            assert!(!delivery.refuses_empty);
        } else {
            refused_twice(&mut delivery);
            assert!(!delivery.is_in_doubt());
            let poison = delivery.confirmed(true).map(|p| ids(&p.poison));
            assert_eq!(poison, Some(vec![1]));
        }
    }
}

#[test]
fn what_is_in_flight_when_the_cursor_is_moved_is_forgotten_and_counted() {
    let mut delivery = Delivery::new(id(0), 300);
    assert_eq!(send(&mut delivery).count, 3);
    assert_eq!(delivery.forgotten(), 0);
    for _ in 0..2 {
        delivery.rewind(id(0));
        assert_eq!((delivery.forgotten(), delivery.unconfirmed()), (3, 0));
    }
    assert_eq!(delivery.confirmed(true), None);
    assert_eq!(delivery.forgotten(), 0);
    delivery.hand_over_probe();
    delivery.rewind(id(0));
    assert!(delivery.in_flight());
    assert_eq!(delivery.forgotten(), 0);
}
