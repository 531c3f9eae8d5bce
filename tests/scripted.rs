//! The scripted broker itself: what a test says is what the service meets.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use support::scripted::{Answer, Kind, Scripted, message};
use support::{Redis, Service, wait_until};

const VALUES: &str = "iot-projekt/device/u1/values";

fn start(redis: &Redis, broker: &Scripted, version: &str) -> Service {
    let more = [("INTERVAL_SECONDS", "0"), ("MQTT_VERSION", version)];
    Service::of_device(redis, broker.port, &more)
}

#[test]
fn an_honest_broker_gets_everything_once_and_passes_commands_on() {
    for version in ["5", "3.1.1"] {
        let (redis, broker) = (Redis::start(&[]), Scripted::start());
        redis.fill(1, 100);
        let _service = start(&redis, &broker, version);
        redis.wait_for_cursor("(100-0");
        assert_eq!(broker.ids().len(), 100);
        assert!(broker.messages(VALUES).iter().all(|list| list.qos == 1));
        wait_until("it has subscribed", || broker.count(Kind::Subscribe) == 2);
        let level = broker.packets()[0].version;
        assert_eq!(level, if version == "5" { 5 } else { 4 });
        let topic = "iot-projekt/device/u1/request";
        broker.send(&message(level, topic, br#"{"command":"get_status"}"#));
        wait_until("the command is answered", || {
            broker.messages("iot-projekt/device/u1/response").len() == 1
        });
        assert_eq!(broker.count(Kind::Puback), 1);
        assert_eq!(broker.connects(), 1);
    }
}

#[test]
fn a_script_decides_about_each_packet() {
    let redis = Redis::start(&[]);
    let broker = Scripted::at(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    broker.announce_maximum_packet(1000);
    let mut ends = [Answer::Reset, Answer::Close].into_iter();
    broker.script(move |packet| match packet.kind {
        Kind::Publish if packet.topic == VALUES => ends.next().unwrap_or(Answer::Honest),
        Kind::Pingreq => Answer::after(Duration::from_millis(10), Answer::Honest),
        Kind::Subscribe => Answer::Code(0x87),
        _ => Answer::Honest,
    });
    redis.fill(1, 100);
    let service = start(&redis, &broker, "5");
    redis.wait_for_cursor("(100-0");
    assert!(broker.connects() >= 3);
    assert!(broker.tcp_connections() >= broker.connects());
    service.wait_for_log("the broker reset the connection");
    service.wait_for_log("the subscription was refused");
    let lists = broker.messages(VALUES);
    assert!(lists.iter().all(|list| list.body.len() < 1000));
}
