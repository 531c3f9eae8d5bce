use super::*;

const FULL: usize = 65536;

fn span(bytes: usize) -> Span {
    Span {
        first: StreamId::new(1, 0),
        last: StreamId::new(9, 0),
        count: 9,
        bytes,
    }
}

fn confirm(size: &mut ListSize, lists: usize) {
    for _ in 0..lists {
        size.confirmed(true);
    }
}

#[test]
fn one_failure_says_nothing_and_each_further_one_of_the_same_list_halves() {
    for hint in [Hint::Perhaps, Hint::PerhapsClosed] {
        let mut size = ListSize::new(FULL);
        size.failed(span(FULL), hint);
        assert_eq!(size.allowed(), FULL);
        size.failed(span(FULL), hint);
        assert_eq!(size.allowed(), FULL / 2);
        size.failed(span(FULL / 2), hint);
        assert_eq!(size.allowed(), FULL / 4);
    }
}

#[test]
fn failures_of_different_lists_do_not_add_up() {
    let mut size = ListSize::new(FULL);
    size.failed(span(FULL), Hint::Perhaps);
    let other = Span {
        first: StreamId::new(2, 0),
        ..span(FULL)
    };
    size.failed(other, Hint::Perhaps);
    size.confirmed(true);
    size.failed(other, Hint::Perhaps);
    assert_eq!(size.allowed(), FULL);
}

#[test]
fn a_single_measurement_is_not_halved() {
    let mut size = ListSize::new(FULL);
    let one = Span {
        count: 1,
        ..span(FULL)
    };
    for _ in 0..3 {
        size.failed(one, Hint::Divide);
    }
    assert_eq!(size.allowed(), FULL);
}

#[test]
fn after_many_unanswered_lists_sizes_double_back_with_each_quick_answer() {
    let mut size = ListSize::new(FULL);
    for _ in 0..13 {
        let bytes = size.allowed();
        size.failed(span(bytes), Hint::Perhaps);
        size.failed(span(bytes), Hint::Perhaps);
    }
    assert_eq!(size.allowed(), FULL >> 13);
    size.confirmed(false);
    assert_eq!(size.allowed(), FULL >> 13, "a slow answer is no reason");
    confirm(&mut size, 13);
    assert_eq!(size.allowed(), FULL);
}

#[test]
fn a_size_that_the_broker_has_named_is_stayed_below_for_longer_each_time() {
    let mut size = ListSize::new(FULL);
    let mut refusals = Vec::new();
    for list in 0..3000 {
        let bytes = size.allowed();
        if bytes > 40_000 {
            refusals.push(list);
            size.failed(span(bytes), Hint::Named { limit: None });
        } else {
            size.confirmed(true);
        }
    }
    assert_eq!(refusals[0], 0);
    assert!(
        refusals[1] > 60 && refusals[2] > 4 * refusals[1],
        "{refusals:?}"
    );
    assert!(refusals.len() <= 4, "{refusals:?}");
}

#[test]
fn a_limit_that_came_with_the_refusal_is_used_at_once() {
    let mut size = ListSize::new(FULL);
    size.failed(
        span(FULL),
        Hint::Named {
            limit: Some(60_000),
        },
    );
    assert_eq!(size.allowed(), 60_000);
    size.failed(span(60_000), Hint::Named { limit: Some(100) });
    assert_eq!(size.allowed(), 30_000);
}

#[test]
fn a_broker_that_keeps_closing_at_one_size_has_named_it() {
    // Also where each connection begins with something else that may be the reason.
    for on_a_new_connection in [Hint::PerhapsClosed, Hint::Perhaps] {
        let mut size = ListSize::new(FULL);
        let (mut closes, mut hint) = (0, Hint::PerhapsClosed);
        for _ in 0..400 {
            let bytes = size.allowed();
            if bytes > 40_000 {
                closes += 1;
                size.failed(span(bytes), hint);
                hint = on_a_new_connection;
            } else {
                size.confirmed(true);
                hint = Hint::PerhapsClosed;
            }
        }
        assert!(closes <= 10, "{closes}");
    }
}

#[test]
fn after_a_calm_time_the_ceiling_is_forgotten() {
    let mut size = ListSize::new(FULL);
    size.failed(span(FULL), Hint::Named { limit: None });
    assert_eq!(size.patience, 64);
    confirm(&mut size, 63);
    assert_eq!(size.allowed(), FULL / 2);
    confirm(&mut size, 2);
    assert_eq!(size.allowed(), FULL);
    confirm(&mut size, 1);
    assert_eq!(size.patience, PATIENCE);
    for _ in 0..9 {
        size.failed(span(FULL), Hint::Named { limit: None });
    }
    assert_eq!(size.patience, MAX_PATIENCE);
}

#[test]
fn a_limit_above_what_was_refused_leads_below_that_all_the_same() {
    let mut size = ListSize::new(FULL);
    let limit = Some(FULL + 1000);
    size.failed(span(FULL), Hint::Named { limit });
    assert_eq!(size.allowed(), FULL - 1);
}

#[test]
fn closes_at_nearly_the_same_size_point_to_a_limit() {
    let cases = [(499, false), (500, true), (1250, true), (1251, false)];
    for (bytes, same) in cases {
        let mut size = ListSize::new(FULL);
        size.closed_at = Some(1000);
        size.failed(span(bytes), Hint::PerhapsClosed);
        size.failed(span(bytes), Hint::PerhapsClosed);
        assert_eq!(size.patience > PATIENCE, same, "{bytes}");
    }
}

#[test]
fn sizes_stay_at_three_quarters_of_what_failed() {
    for (allowed, next) in [(15_000, 30_000), (15_001, 15_001)] {
        let mut size = ListSize::new(FULL);
        size.allowed = allowed;
        size.set_ceiling(40_000);
        size.confirmed(true);
        assert_eq!(size.allowed(), next);
    }
}
