//! The gate against an independent codec: what it makes as a broker would passes, and what
//! passes is legal to it.

#[path = "support/oracle.rs"]
mod oracle;

use bytes::{Bytes, BytesMut};
use mqtt_handler::model::message::Protocol;
use oracle::{CONNECTED, FILTERS, OLD_VERSION, PINGING, PUBLISHING, SUBSCRIBING};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

fn new(packet: &v5::Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).expect("a packet");
    bytes.to_vec()
}

fn old(packet: &v4::Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, usize::MAX).expect("a packet");
    bytes.to_vec()
}

/// Text as the protocol allows it.
fn text() -> impl Strategy<Value = String> {
    "[^\\x00]{0,40}"
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((text(), text()), 0..8)
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        "iot/[^\\x00/+#]{0,20}/request",
        "all(/[^\\x00/+#]{0,9}){0,3}"
    ]
}

fn flag() -> impl Strategy<Value = Option<u8>> {
    of(0u8..=1)
}

fn connack() -> impl Strategy<Value = v5::Packet> {
    let limits = (of(any::<u32>()), of(1u16..), flag(), flag(), of(1u32..));
    let names = (of(text()), of(0u16..), of(text()), pairs());
    let rest = (flag(), flag(), flag(), of(any::<u16>()));
    let texts = (of(text()), of(text()));
    let code = prop_oneof![
        Just(v5::ConnectReturnCode::Success),
        Just(v5::ConnectReturnCode::NotAuthorized),
        Just(v5::ConnectReturnCode::ServerBusy),
    ];
    (limits, names, rest, texts, code, any::<bool>()).prop_map(
        |(limits, names, rest, texts, code, some)| {
            let properties = v5::ConnAckProperties {
                session_expiry_interval: limits.0,
                receive_max: limits.1,
                max_qos: limits.2,
                retain_available: limits.3,
                max_packet_size: limits.4,
                assigned_client_identifier: names.0,
                topic_alias_max: names.1,
                reason_string: names.2,
                user_properties: names.3,
                wildcard_subscription_available: rest.0,
                subscription_identifiers_available: rest.1,
                shared_subscription_available: rest.2,
                server_keep_alive: rest.3,
                response_information: texts.0,
                server_reference: texts.1,
                // None was begun.
                authentication_method: None,
                authentication_data: None,
            };
            v5::Packet::ConnAck(v5::ConnAck {
                session_present: false,
                code,
                properties: some.then_some(properties),
            })
        },
    )
}

fn publish() -> impl Strategy<Value = v5::Packet> {
    let message = (topic(), vec(any::<u8>(), 0..3000), any::<bool>(), 1u16..);
    let properties = (
        (flag(), of(any::<u32>()), of("[^\\x00+#]{1,20}")),
        (of(vec(any::<u8>(), 0..300)), pairs(), of(text())),
    );
    (message, properties, any::<(bool, bool)>()).prop_map(
        |((topic, payload, confirmed, id), (one, two), (retain, duplicate))| {
            let properties = v5::PublishProperties {
                payload_format_indicator: one.0,
                message_expiry_interval: one.1,
                topic_alias: None,
                response_topic: one.2,
                correlation_data: two.0.map(Bytes::from),
                user_properties: two.1,
                // No subscription has one.
                subscription_identifiers: Vec::new(),
                content_type: two.2,
            };
            v5::Packet::Publish(v5::Publish {
                dup: duplicate && confirmed,
                qos: if confirmed {
                    rumqttc::v5::mqttbytes::QoS::AtLeastOnce
                } else {
                    rumqttc::v5::mqttbytes::QoS::AtMostOnce
                },
                retain,
                topic: topic.into(),
                pkid: id,
                payload: payload.into(),
                properties: Some(properties),
            })
        },
    )
}

fn puback() -> impl Strategy<Value = v5::Packet> {
    use v5::PubAckReason::{NoMatchingSubscribers, NotAuthorized, QuotaExceeded, Success};
    let reason = prop_oneof![
        Just(Success),
        Just(NoMatchingSubscribers),
        Just(NotAuthorized),
        Just(QuotaExceeded)
    ];
    (reason, of(text()), pairs()).prop_map(|(reason, reason_string, user_properties)| {
        v5::Packet::PubAck(v5::PubAck {
            pkid: oracle::PUBLISH_ID,
            reason,
            properties: Some(v5::PubAckProperties {
                reason_string,
                user_properties,
            }),
        })
    })
}

fn suback() -> impl Strategy<Value = v5::Packet> {
    use rumqttc::v5::mqttbytes::QoS;
    use v5::SubscribeReasonCode::{NotAuthorized, Success, TopicFilterInvalid};
    let code = prop_oneof![
        Just(Success(QoS::AtMostOnce)),
        Just(Success(QoS::AtLeastOnce)),
        Just(NotAuthorized),
        Just(TopicFilterInvalid)
    ];
    let codes = vec(code, FILTERS.len());
    (codes, of(text()), pairs()).prop_map(|(return_codes, reason_string, user_properties)| {
        v5::Packet::SubAck(v5::SubAck {
            pkid: oracle::SUBSCRIBE_ID,
            return_codes,
            properties: Some(v5::SubAckProperties {
                reason_string,
                user_properties,
            }),
        })
    })
}

fn disconnect() -> impl Strategy<Value = v5::Packet> {
    use v5::DisconnectReasonCode::{KeepAliveTimeout, ServerShuttingDown, SessionTakenOver};
    let code = prop_oneof![
        Just(KeepAliveTimeout),
        Just(ServerShuttingDown),
        Just(SessionTakenOver)
    ];
    let properties = (of(text()), pairs(), of(text()));
    (code, of(properties)).prop_map(|(reason_code, properties)| {
        let properties = properties.map(|some| v5::DisconnectProperties {
            session_expiry_interval: None,
            reason_string: some.0,
            user_properties: some.1,
            server_reference: some.2,
        });
        v5::Packet::Disconnect(v5::Disconnect {
            reason_code,
            properties,
        })
    })
}

/// A packet of a good broker, and what has to have happened before it.
fn legal() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let after = |before: u8| move |packet: v5::Packet| (before, new(&packet));
    let pingresp = vec![0xD0, 0];
    prop_oneof![
        connack().prop_map(after(0)),
        publish().prop_map(after(CONNECTED | SUBSCRIBING)),
        puback().prop_map(after(CONNECTED | PUBLISHING)),
        suback().prop_map(after(CONNECTED | SUBSCRIBING)),
        disconnect().prop_map(after(CONNECTED)),
        Just((CONNECTED | PINGING, pingresp.clone())),
        old_legal().prop_map(|(before, packet)| (before | OLD_VERSION, packet)),
        Just((CONNECTED | PINGING | OLD_VERSION, pingresp)),
    ]
}

fn old_legal() -> impl Strategy<Value = (u8, Vec<u8>)> {
    use rumqttc::mqttbytes::QoS;
    use v4::{ConnectReturnCode, SubscribeReasonCode};
    let connack = prop_oneof![
        Just(ConnectReturnCode::Success),
        Just(ConnectReturnCode::NotAuthorized)
    ];
    let connack = connack.prop_map(|code| v4::Packet::ConnAck(v4::ConnAck::new(code, false)));
    let code = prop_oneof![
        Just(SubscribeReasonCode::Success(QoS::AtLeastOnce)),
        Just(SubscribeReasonCode::Failure)
    ];
    let suback = vec(code, FILTERS.len())
        .prop_map(|codes| v4::Packet::SubAck(v4::SubAck::new(oracle::SUBSCRIBE_ID, codes)));
    let message = (topic(), vec(any::<u8>(), 0..3000), any::<bool>(), 1u16..);
    let publish = message.prop_map(|(topic, payload, confirmed, id)| {
        let qos = if confirmed {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let mut publish = v4::Publish::new(topic, qos, payload);
        publish.pkid = id;
        v4::Packet::Publish(publish)
    });
    let puback = Just(v4::Packet::PubAck(v4::PubAck::new(oracle::PUBLISH_ID)));
    let after = |before: u8| move |packet: v4::Packet| (before, old(&packet));
    prop_oneof![
        connack.prop_map(after(0)),
        suback.prop_map(after(CONNECTED | SUBSCRIBING)),
        publish.prop_map(after(CONNECTED | SUBSCRIBING)),
        puback.prop_map(after(CONNECTED | PUBLISHING)),
    ]
}

/// Changes, removes and puts in bytes at places anywhere.
fn mutate(packet: &mut Vec<u8>, changes: &[(prop::sample::Index, u8, u8)]) {
    for (place, how, byte) in changes {
        let at = place.index(packet.len().max(1));
        match how % 4 {
            0 | 1 if at < packet.len() => packet[at] = *byte,
            2 if at < packet.len() => drop(packet.remove(at)),
            _ => packet.insert(at.min(packet.len()), *byte),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn what_a_good_broker_sends_passes((before, packet) in legal()) {
        let version = oracle::version(before);
        prop_assert_eq!(oracle::feed(&oracle::line(before), version, &packet), 1);
    }

    #[test]
    fn what_was_mutated_is_refused_or_legal(
        (before, mut packet) in legal(),
        others in vec(legal(), 0..3),
        changes in vec(any::<(prop::sample::Index, u8, u8)>(), 1..6),
        half in any::<bool>(),
    ) {
        mutate(&mut packet, &changes);
        others.iter().for_each(|(_, other)| packet.extend(other));
        let before = before | if half { oracle::HALF_WRITTEN } else { 0 };
        oracle::feed(&oracle::line(before), oracle::version(before), &packet);
    }

    #[test]
    fn any_bytes_are_refused_or_legal(before in any::<u8>(), bytes in vec(any::<u8>(), 0..200)) {
        oracle::feed(&oracle::line(before), oracle::version(before), &bytes);
    }
}

#[test]
fn a_length_is_in_its_shortest_form() {
    for (before, long, short) in [
        (
            CONNECTED | PUBLISHING,
            &b"\x40\x82\0\0\x07"[..],
            &b"\x40\x02\0\x07"[..],
        ),
        (CONNECTED | PINGING, b"\xd0\x80\0", b"\xd0\0"),
        (CONNECTED | PINGING, b"\xd0\x80\x80\x80\0", b"\xd0\0"),
    ] {
        for before in [before, before | OLD_VERSION] {
            let feed = |bytes| oracle::feed(&oracle::line(before), oracle::version(before), bytes);
            assert_eq!((feed(short), feed(long)), (1, 0), "{long:x?}");
        }
    }
}

proptest! {
    /// Added to what an honest broker sends, each of these makes it illegal towards this client.
    #[test]
    fn what_was_never_asked_for_is_refused(
        ids in vec(1u8..=127, 1..300),
        text in text(),
        session in any::<bool>(),
    ) {
        let refused = |before, packet: &[u8]| {
            oracle::feed(&oracle::line(before), Protocol::V5, packet) == 0
        };
        let with = |first: u8, before: &[u8], properties: &[u8], after: &[u8]| {
            let length = oracle::varint(properties.len());
            let body = [before, &length, properties, after].concat();
            [&[first][..], &oracle::varint(body.len()), &body].concat()
        };
        let identifiers: Vec<u8> = ids.iter().flat_map(|id| [0x0B, *id]).collect();
        let publish = |properties: &[u8]| with(0x30, b"\0\x03all", properties, b"{}");
        let subscribed = CONNECTED | SUBSCRIBING;
        prop_assert!(!refused(subscribed, &publish(&[])));
        prop_assert!(refused(subscribed, &publish(&identifiers)));
        let length = (text.len() as u16).to_be_bytes();
        for code in [0x15, 0x16] {
            let property = [&[code][..], &length, text.as_bytes()].concat();
            prop_assert!(refused(0, &with(0x20, &[0, 0], &property, &[])));
        }
        prop_assert_eq!(refused(0, &with(0x20, &[session.into(), 0], &[], &[])), session);
    }
}

#[test]
fn a_short_packet_is_never_read_past_its_end() {
    // Every packet type with every short body, exhaustively up to two bytes.
    let everything = CONNECTED | SUBSCRIBING | PUBLISHING | PINGING;
    for version in [0, OLD_VERSION] {
        for before in [version, version | everything] {
            for first in 0..=255u8 {
                oracle::feed(&oracle::line(before), oracle::version(before), &[first, 0]);
                for body in 0..=u16::MAX {
                    if body % 251 == 0 || first & 15 == 0 && body < 2048 {
                        let [high, low] = body.to_be_bytes();
                        let packet = [first, 2, high, low];
                        oracle::feed(&oracle::line(before), oracle::version(before), &packet);
                    }
                }
            }
        }
    }
    assert_eq!(oracle::version(0), Protocol::V5);
}

#[test]
fn what_the_fuzzer_has_kept_is_refused_or_legal() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/gate");
    let files = std::fs::read_dir(corpus).expect("the corpus");
    let mut count = 0;
    for file in files.map_while(Result::ok) {
        let data = std::fs::read(file.path()).expect("a file");
        if let Some((before, stream)) = data.split_first() {
            let passed = oracle::feed(&oracle::line(*before), oracle::version(*before), stream);
            count += passed;
        }
    }
    assert!(count > 10, "{count} packets of the corpus pass");
}
