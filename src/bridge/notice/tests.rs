use super::*;

fn id(ms: u64) -> StreamId {
    StreamId::new(ms, 0)
}

#[test]
fn every_notice_has_words() {
    let notices = catalogue("mark");
    assert!(notices.contains(&Notice::RedisConnected) && notices.contains(&Notice::NotUtf8));
    for notice in notices {
        assert!(notice.to_string().len() > 3, "{notice:?}");
    }
}

#[test]
fn what_tells_of_a_loss_can_be_added_up() {
    let loss = |measurements, range| {
        Some(Loss {
            measurements,
            times: 1,
            range,
        })
    };
    let (count, after) = (3, id(7));
    let at = Some((after, after));
    assert_eq!(Notice::StreamGone { count, after }.loss(), loss(3, at));
    assert_eq!(Notice::LostInFlight(3).loss(), loss(3, None));
    let anew = Notice::StreamAnew {
        newest: id(9),
        cursor: after,
        lost: 3,
    };
    assert_eq!(anew.loss(), loss(3, at));
}

#[test]
fn a_redis_that_is_nearly_full_needs_a_person() {
    for (percent, level) in [(94.9, Level::Warn), (95.0, Level::Error)] {
        let full_in = None;
        assert_eq!(Notice::BufferFills { percent, full_in }.level(), level);
    }
}

#[test]
fn a_new_stream_below_the_cursor_points_to_the_clock() {
    for (newest, below) in [(6, true), (7, false), (8, false)] {
        for lost in [0, 3] {
            let text = Notice::StreamAnew {
                newest: id(newest),
                cursor: id(7),
                lost,
            }
            .to_string();
            assert_eq!(text.contains("below the cursor 7-0"), below, "{text}");
            assert_eq!(text.contains("the clock"), below, "{text}");
            assert_eq!(text.contains("3 measurements"), lost > 0, "{text}");
            assert_eq!(text.contains("are gone"), lost > 0, "{text}");
        }
    }
}
