//! Brokers that are no use, in ways that the packets alone do not show: each connection ends soon
//! after it began, or a ping is never answered while something trickles in. And honest ones that look
//! alike.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::packet::{Kind, Packet, head, publish};
use support::scripted::{Answer, Scripted};
use support::{PATIENCE, Redis, Service, holds_within};

const VALUES: &str = "iot-projekt/device/u1/values";
const REQUEST: &[u8] = b"iot-projekt/device/u1/request";
const TOLD: &str = "the broker sent what it must not: ";
const UNANSWERED: &str = "the broker did not answer a ping within the keep alive time";

fn behind_a_list(packet: &Packet, last: Answer) -> Answer {
    match packet.kind {
        Kind::Publish if packet.topic == VALUES => Answer::Many(vec![Answer::Honest, last]),
        _ => Answer::Honest,
    }
}

/// Measurements come all the time, and each connection carries one list. How often the service
/// comes back in half a minute, and whether all arrives when the broker has become honest.
fn comes_back(name: &str, last: impl Fn() -> Answer + Send + 'static) -> usize {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(move |packet| behind_a_list(packet, last()));
    let more = [("INTERVAL_SECONDS", "0")];
    let service = Service::of_device(&redis, broker.port, &more).at_a_hostile_broker();
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(30) {
        count += 1;
        redis.fill(count, 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    let connects = broker.connects();
    broker.be_honest();
    let cursor = format!("({count}-0");
    let arrived = holds_within(PATIENCE, || redis.cursor() == Some(cursor.clone()));
    let log = || service.log().join("\n");
    assert!(arrived, "{name}: {}", log());
    // What the broker did is told once for each connection, and not again with the list.
    assert!(service.count_log("disconnected from") > 1, "{name}");
    let again = "will be sent again: the broker";
    assert_eq!(service.count_log(again), 0, "{name}: {}", log());
    if name == "AUTH" {
        let ends = service.count_log("disconnected from");
        assert_eq!(service.count_log(TOLD), ends, "{name}: {}", log());
    }
    connects
}

#[test]
fn a_broker_that_ends_one_connection_after_the_other_is_left_alone() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connects = comes_back("AUTH", || Answer::Raw(vec![0xF0, 2, 0x18, 0]));
            assert!((2..=25).contains(&connects), "{connects} behind AUTH");
        });
        scope.spawn(|| {
            let connects = comes_back("closed", || Answer::Close);
            // Each carries one list: it goes on, but not without a pause.
            assert!((2..=60).contains(&connects), "{connects} that were closed");
        });
        scope.spawn(|| {
            let (redis, broker) = (Redis::start(&[]), Scripted::start());
            // It speaks neither version, and says so at once.
            broker.script(|packet| match (packet.kind, packet.version) {
                (Kind::Connect, 5) => Answer::Code(0x84),
                _ => Answer::Code(1),
            });
            let service = Service::of_device(&redis, broker.port, &[]).at_a_hostile_broker();
            assert!(!holds_within(Duration::from_secs(10), || broker.connects() > 30));
            assert!(broker.connects() > 2, "{}", service.log().join("\n"));
        });
    });
}

/// A message of so many bytes, a piece at a time.
fn slowly(bytes: usize, piece: usize, pause: Duration) -> Answer {
    Answer::write(move |stream: &mut TcpStream| {
        let body = publish(5, REQUEST, b"", 0x30, 0);
        let mut message = head(0x30, body.len() - 2 + bytes);
        message.extend_from_slice(&body[2..]);
        message.resize(message.len() + bytes, b'x');
        for piece in message.chunks(piece) {
            stream.write_all(piece)?;
            std::thread::sleep(pause);
        }
        Ok(())
    })
}

#[test]
fn a_message_that_trickles_in_does_not_stand_for_the_answer_to_a_ping() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.script(|packet| match packet.kind {
        Kind::Subscribe if packet.nth == 1 => Answer::Many(vec![
            Answer::Honest,
            slowly(1000, 1, Duration::from_millis(200)),
        ]),
        _ => Answer::Honest,
    });
    let more = [("MQTT_KEEPALIVE_SECONDS", "1")];
    let service = Service::of_device(&redis, broker.port, &more);
    service.wait_for_log(UNANSWERED);
    broker.be_honest();
    redis.fill(1, 10);
    redis.wait_for_cursor("(10-0");
}

#[test]
fn messages_that_come_now_and_then_do_not_stand_for_the_answer_to_a_ping() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    broker.on(Kind::Pingreq, Answer::Nothing);
    let more = [("MQTT_KEEPALIVE_SECONDS", "3")];
    let service = Service::of_device(&redis, broker.port, &more);
    let message = publish(5, REQUEST, b"{\"command\":\"cancel\"}", 0x30, 0);
    let told = holds_within(PATIENCE, || {
        // Often enough for the library, and so seldom that no reply stands for a ping.
        std::thread::sleep(Duration::from_secs(4));
        broker.send(&message);
        service.count_log(UNANSWERED) > 0
    });
    assert!(told, "{}", service.log().join("\n"));
}

#[test]
fn a_slow_line_is_waited_for_although_the_answer_to_a_ping_is_late() {
    std::thread::scope(|scope| {
        // A large message at 2 kB/s, in front of the answer.
        scope.spawn(|| {
            let (redis, broker) = (Redis::start(&[]), Scripted::start());
            broker.script(|packet| match packet.kind {
                Kind::Subscribe if packet.nth == 1 => Answer::Many(vec![
                    Answer::Honest,
                    slowly(20_000, 400, Duration::from_millis(200)),
                ]),
                _ => Answer::Honest,
            });
            let more = [("MQTT_KEEPALIVE_SECONDS", "1")];
            let service = Service::of_device(&redis, broker.port, &more);
            assert!(holds_within(PATIENCE, || broker.count(Kind::Pingreq) > 2));
            assert_eq!(broker.connects(), 1, "{}", service.log().join("\n"));
        });
        // A broker that is busy with a list, while messages come.
        scope.spawn(|| {
            let (redis, broker) = (Redis::start(&[]), Scripted::start());
            let busy = Duration::from_secs(8);
            broker.script(move |packet| match packet.kind {
                Kind::Publish if packet.topic == VALUES && packet.nth == 0 => {
                    let message = publish(5, REQUEST, b"{}", 0x30, 0);
                    let mut answers = Vec::new();
                    for _ in 0..16 {
                        let one = Answer::Raw(message.clone());
                        answers.push(Answer::after(busy / 16, one));
                    }
                    answers.push(Answer::Honest);
                    Answer::Many(answers)
                }
                _ => Answer::Honest,
            });
            let more = [("MQTT_KEEPALIVE_SECONDS", "1")];
            let service = Service::of_device(&redis, broker.port, &more);
            redis.fill(1, 10);
            redis.wait_for_cursor("(10-0");
            assert_eq!(broker.connects(), 1, "{}", service.log().join("\n"));
        });
    });
}
