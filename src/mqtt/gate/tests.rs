use super::*;

/// A connection on which CONNECT was sent.
fn connecting(version: Protocol) -> Awaited {
    let mut awaited = Awaited::new(version);
    awaited.sending(0x10, &[b"\0\x04MQTT"]);
    awaited.written(true);
    awaited
}

/// A connection on which CONNECT was sent and answered.
fn connected(version: Protocol) -> Awaited {
    let mut awaited = connecting(version);
    let connack: &[u8] = match version {
        Protocol::V5 => &[0, 0, 0],
        Protocol::V311 => &[0, 0],
    };
    assert_eq!(check(version, &awaited, 0x20, connack), Ok(()));
    awaited.received(0x20, connack);
    awaited
}

fn publishing(version: Protocol, id: u16) -> Awaited {
    let mut awaited = connected(version);
    let [high, low] = id.to_be_bytes();
    awaited.sending(0x32, &[b"\0\x01", b"t", &[high, low, 0], b"payload"]);
    awaited.written(true);
    awaited
}

fn subscribing(version: Protocol, id: u16, filter: &str) -> Awaited {
    let mut awaited = connected(version);
    let mut body = id.to_be_bytes().to_vec();
    if version == Protocol::V5 {
        body.push(0);
    }
    body.extend((filter.len() as u16).to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(1);
    awaited.sending(0x82, &[&body]);
    awaited.written(true);
    awaited
}

const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];

#[test]
fn an_acknowledgement_passes_once_and_only_for_what_was_written() {
    for version in BOTH {
        let mut awaited = publishing(version, 7);
        assert!(check(version, &awaited, 0x40, &[0, 8]).is_err());
        awaited.written(false);
        assert!(check(version, &awaited, 0x40, &[0, 7]).is_err());
        awaited.written(true);
        assert_eq!(check(version, &awaited, 0x40, &[0, 7]), Ok(()));
        awaited.received(0x40, &[0, 7]);
        assert!(check(version, &awaited, 0x40, &[0, 7]).is_err());
    }
    let awaited = publishing(Protocol::V5, 7);
    for good in [
        &[0, 7, 0][..],
        &[0, 7, 0x10],
        &[0, 7, 0x87, 0],
        b"\0\x07\x97\x05\x1f\0\x02no",
        b"\0\x07\x97\x09\x26\0\x01a\0\x03bcd",
    ] {
        assert_eq!(
            check(Protocol::V5, &awaited, 0x40, good),
            Ok(()),
            "{good:?}"
        );
    }
    for bad in [
        &[0, 7, 1][..],
        &[0, 7, 0, 1],
        &[0, 7, 0, 0, 0],
        b"\0\x07\x97\x05\x1f\0\x03no",
        b"\0\x07\x97\x03\x24\0\0",
    ] {
        assert!(check(Protocol::V5, &awaited, 0x40, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_suback_has_the_id_of_a_subscribe_and_a_code_for_each_filter() {
    for (version, good, bad) in [
        (Protocol::V5, &[0, 3, 0, 1][..], &[0, 3, 0][..]),
        (Protocol::V311, &[0, 3, 1], &[0, 3]),
    ] {
        let awaited = subscribing(version, 3, "a/+");
        assert_eq!(check(version, &awaited, 0x90, good), Ok(()));
        assert!(check(version, &awaited, 0x90, bad).is_err());
        let two = [good, &[1]].concat();
        assert!(check(version, &awaited, 0x90, &two).is_err());
        // QoS 1 is asked for: no more can be granted.
        let (_, before) = good.split_last().expect("a code");
        let with = |code: u8| check(version, &awaited, 0x90, &[before, &[code]].concat());
        assert!(with(0).is_ok() && with(0x80).is_ok() && with(2).is_err());
        // Nor does one answer the PUBLISH in flight.
        assert!(check(version, &publishing(version, 3), 0x90, good).is_err());
        assert!(check(version, &publishing(version, 3), 0xB0, good).is_err());
        assert!(check(version, &awaited, 0x40, &[0, 3]).is_err());
    }
}

#[test]
fn a_message_comes_to_a_topic_that_was_subscribed_to() {
    let message = |version, topic: &[u8], properties: &[u8]| {
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend(topic);
        body.extend([0, 9]);
        if version == Protocol::V5 {
            body.push(properties.len() as u8);
            body.extend(properties);
        }
        body.extend(b"payload");
        body
    };
    for version in BOTH {
        for (filter, topic, passes) in [
            ("a/+", &b"a/b"[..], true),
            ("$share/g/a/#", b"a/b/c", true),
            ("$SYS/x", b"$SYS/x", true),
            ("#", b"$SYS/x", false),
            ("a/+", b"a/b/c", false),
            ("a/+", b"a/\xff", false),
            ("a/+", b"a/\0", false),
            ("#", b"", false),
        ] {
            let awaited = subscribing(version, 3, filter);
            let body = message(version, topic, &[]);
            let verdict = check(version, &awaited, 0x32, &body);
            assert_eq!(verdict.is_ok(), passes, "{filter} {topic:?} {verdict:?}");
            assert!(check(version, &awaited, 0x34, &body).is_err(), "QoS 2");
            assert!(check(version, &awaited, 0x36, &body).is_err(), "QoS 3");
        }
    }
    let awaited = subscribing(Protocol::V5, 3, "a");
    let with = |properties: &[u8]| {
        let body = message(Protocol::V5, b"a", properties);
        check(Protocol::V5, &awaited, 0x32, &body)
    };
    assert_eq!(
        with(b"\x01\x01\x02\0\0\0\x05\x09\0\x01c\x26\0\x01k\0\0"),
        Ok(())
    );
    // What a publisher says passes brokers that do not look, and does no harm.
    assert_eq!(with(b"\x01\x07\x08\0\x03a/#"), Ok(()));
    assert!(with(b"\x23\0\x01").is_err(), "topic alias");
    // No subscription has an identifier.
    assert!(with(b"\x0b\x01").is_err() && with(b"\x0b\x01\x0b\x02").is_err());
    assert!(with(b"\x01\x01\x01\x01").is_err(), "twice");
    assert!(with(b"\x09\xff\xffx").is_err(), "past the end");
}

#[test]
fn what_a_broker_offers_is_there_or_not() {
    let awaited = connecting(Protocol::V5);
    for code in [0x24, 0x25, 0x28, 0x29, 0x2A] {
        for (value, passes) in [(0, true), (1, true), (2, false)] {
            let verdict = check(Protocol::V5, &awaited, 0x20, &[0, 0, 2, code, value]);
            assert_eq!(verdict.is_ok(), passes, "{code:#x} {value} {verdict:?}");
        }
    }
}

#[test]
fn a_connack_holds_nothing_that_was_not_asked_for() {
    for (version, body, passes) in [
        (Protocol::V5, &b"\0\0\0"[..], true),
        (Protocol::V5, b"\x01\0\0", false),
        (Protocol::V5, b"\x01\x87\0", false),
        (Protocol::V5, b"\x01\x05", false),
        (Protocol::V311, b"\x01\0", false),
        (Protocol::V311, b"\x01\x05", false),
        (Protocol::V5, b"\0\0\x04\x15\0\x01a", false),
        (Protocol::V5, b"\0\0\x04\x16\0\x01a", false),
        // A name that was assigned is useless where one was given, and not forbidden.
        (Protocol::V5, b"\0\0\x04\x12\0\x01a", true),
    ] {
        let verdict = check(version, &connecting(version), 0x20, body);
        assert_eq!(verdict.is_ok(), passes, "{version:?} {body:x?} {verdict:?}");
    }
}

#[test]
fn any_number_of_user_properties_passes() {
    let many = b"\x26\0\x01a\0\x01b".repeat(2000);
    let length = [many.len() & 127 | 128, many.len() >> 7].map(|byte| byte as u8);
    let connack = [&[0, 0][..], &length, &many].concat();
    let connecting = connecting(Protocol::V5);
    assert_eq!(check(Protocol::V5, &connecting, 0x20, &connack), Ok(()));
    let puback = [&[0, 7, 0][..], &length, &many].concat();
    let publishing = publishing(Protocol::V5, 7);
    assert_eq!(check(Protocol::V5, &publishing, 0x40, &puback), Ok(()));
}

#[test]
fn only_a_message_that_is_too_large_may_have_come_over_a_subscription() {
    for version in BOTH {
        let awaited = subscribing(version, 3, "a");
        let may = |first, bytes| may_be_subscribed(&awaited, first, bytes);
        assert!(may(0x30, MAX_PACKET + 1) && may(0x33, 2 * MAX_PACKET));
        assert!(!may(0x30, MAX_PACKET) && !may(0x90, 2 * MAX_PACKET));
        assert!(!may(0x34, 2 * MAX_PACKET) && !may(0x38, 2 * MAX_PACKET));
        assert!(!may_be_subscribed(
            &connected(version),
            0x30,
            MAX_PACKET + 1
        ));
    }
}

#[test]
fn nothing_else_passes() {
    for version in BOTH {
        let awaited = subscribing(version, 3, "#");
        for first in [
            0x00, 0x10, 0x20, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xB0, 0xC0, 0xF0,
        ] {
            for body in [&[][..], &[0, 3], &[0, 0, 0], &[0, 3, 0, 0]] {
                assert!(check(version, &awaited, first, body).is_err(), "{first:#x}");
            }
        }
        assert!(check(version, &Awaited::new(version), 0x20, &[0, 0]).is_err());
        assert!(check_head(version, &awaited, 0x30, MAX_PACKET + 1).is_err());
        assert!(check_head(version, &awaited, 0x90, MAX_OTHER + 1).is_err());
        // Pings: one answer each, and a few to spare.
        let mut awaited = awaited;
        awaited.sending(0xC0, &[]);
        let passed = (0..100)
            .filter(|_| {
                let passes = check(version, &awaited, 0xD0, &[]).is_ok();
                awaited.received(0xD0, &[]);
                passes
            })
            .count();
        assert_eq!(passed, 4);
        let disconnect = check(version, &awaited, 0xE0, &[0x8B, 0]);
        assert_eq!(disconnect.is_ok(), version == Protocol::V5);
    }
}
