use super::*;
use crate::model::status::{Counters, LinkPart};

#[test]
fn the_time_of_an_id_is_told_in_words() {
    assert!(when(StreamId::new(1_621_122_796_939, 0)).starts_with("2021-05-15 23:53:16 UTC, "));
    assert_eq!(when(StreamId::MAX), "a time beyond the calendar");
}

#[test]
fn spans_are_told_in_two_units() {
    assert_eq!(seconds(59), "59 s");
    assert_eq!(seconds(61), "1 min 1 s");
    assert_eq!(seconds(7260), "2 h 1 min");
    assert_eq!(seconds(90_000), "1 d 1 h");
}

#[test]
fn a_rate_that_is_held_back_is_the_limit() {
    let mut config = Config::parse("", "", |_| None).expect("the defaults");
    let mut record = Record {
        enabled: true,
        backlog: Some(Waiting::Exactly(1001)),
        counters: Counters {
            sent_measurements: 100,
            sent_bytes: 2000,
            ..Counters::default()
        },
        ..Record::default()
    };
    record.link.connected = true;
    assert_eq!(held_to(&config, &record), None, "there is no limit");
    config.catch_up = 1000;
    assert_eq!(held_to(&config, &record), Some(50.0));
    record.backlog = Some(Waiting::Exactly(1000));
    assert_eq!(held_to(&config, &record), None, "one list takes it");
    record.backlog = Some(Waiting::AtLeast(10_000));
    assert_eq!(held_to(&config, &record), Some(50.0));
    record.link.connected = false;
    assert_eq!(held_to(&config, &record), None);
}

#[test]
fn the_verdict_follows_connection_and_delay() {
    let look = |running, connected, age, interval| {
        Some(Observation {
            record: Record {
                link: LinkPart {
                    connected,
                    ..LinkPart::default()
                },
                oldest_age_seconds: age,
                interval,
                updated: status::now(),
                ..Record::default()
            },
            running,
            rate: None,
        })
    };
    assert_eq!(verdict(&None), Verdict::Stale);
    assert_eq!(verdict(&look(false, true, 0, 1.0)), Verdict::Stale);
    assert_eq!(verdict(&look(true, false, 0, 1.0)), Verdict::Troubled);
    assert_eq!(verdict(&look(true, true, 11, 1.0)), Verdict::Troubled);
    assert_eq!(verdict(&look(true, true, 11, 2.0)), Verdict::Well);
    let mut old = look(true, true, 0, 1.0);
    if let Some(old) = &mut old {
        old.record.updated -= 1000 * status::STALE_SECONDS;
        let told = service(old, &Paint { colour: false });
        assert!(told.contains("what it tells is 1 min 30 s old"), "{told}");
    }
    assert_eq!(verdict(&old), Verdict::Troubled);
}
