//! Commands that are far too large: answered as long as they can be received, and never at the
//! cost of measurements.

mod support;

use support::packet::publish;
use support::scripted::{Answer, Kind, Scripted};
use support::{Redis, Service, wait_until};

const REQUEST: &str = "iot-projekt/device/u1/request";
const RESPONSE: &str = "iot-projekt/device/u1/response";
const KIB: usize = 1024;

fn start(redis: &Redis, broker: &Scripted, version: &str) -> Service {
    let more = [("INTERVAL_SECONDS", "0"), ("MQTT_VERSION", version)];
    Service::of_device(redis, broker.port, &more).at_a_hostile_broker()
}

#[test]
fn up_to_a_mebibyte_the_answer_is_that_it_is_too_large() {
    for (version, level) in [("5", 5), ("3.1.1", 4)] {
        let (redis, broker) = (Redis::start(&[]), Scripted::start());
        let service = start(&redis, &broker, version);
        wait_until("it has subscribed", || broker.count(Kind::Subscribe) == 2);
        for (nth, size) in [65 * KIB, 600 * KIB, 1024 * KIB - 100]
            .into_iter()
            .enumerate()
        {
            let payload = vec![b'x'; size];
            let giant = publish(level, REQUEST.as_bytes(), &payload, 0x32, 1 + nth as u16);
            broker.send(&giant);
            wait_until("it is answered", || {
                broker.messages(RESPONSE).len() == nth + 1
            });
            let reply = broker.messages(RESPONSE).remove(nth).payload;
            let reply = String::from_utf8(reply).expect("text");
            assert!(reply.contains("at most 65536 are read"), "{reply}");
        }
        assert_eq!(broker.connects(), 1);
        assert_eq!(service.count_log("must not"), 0);
    }
}

#[test]
fn a_retained_giant_costs_the_subscriptions_and_not_the_measurements() {
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    // Under MQTT 3.1.1 the broker sends it again with every subscription.
    broker.script(|packet| match packet.kind {
        Kind::Subscribe if packet.filters.iter().any(|filter| filter == REQUEST) => {
            let payload = vec![b'x'; 1024 * KIB];
            let giant = publish(packet.version, REQUEST.as_bytes(), &payload, 0x33, 1);
            Answer::Many(vec![Answer::Honest, Answer::Raw(giant)])
        }
        _ => Answer::Honest,
    });
    let service = start(&redis, &broker, "3.1.1");
    service.wait_for_log("no commands arrive on \"iot-projekt/device/u1/request\" for an hour");
    service.wait_for_log("the broker sent what it must not: a PUBLISH of 10");
    wait_until("it is connected again", || broker.connects() == 3);
    redis.fill(1, 100);
    redis.wait_for_cursor("(100-0");
    assert_eq!(broker.connects(), 3, "the third connection stands");
    let packets = broker.packets();
    let last = packets.last().map(|packet| packet.connection);
    let mut asked = packets
        .iter()
        .filter(|packet| packet.kind == Kind::Subscribe);
    assert!(asked.all(|packet| Some(packet.connection) != last));
}
