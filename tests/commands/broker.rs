//! Commands and the protocol that carries them.

use std::io::{Read, Write};

use serde_json::{Value, json};

use super::support::packet::{head, packet};
use super::support::{self, Service, World, wait_until};
use super::{REQUEST, ask, hears, start};

#[test]
fn a_wildcard_in_a_command_topic_is_understood() {
    let world = World::new();
    let _service = world.start_with(&[("MQTT_TOPIC_REQUEST", "commands/+/for/#")]);
    hears(&world, "commands/x/for/u1/now");
    let reply = ask(
        &world,
        "commands/y/for/all",
        json!({"command": "get_config", "key": "a"}),
    );
    assert_eq!(reply["value"], Value::Null);
}

#[test]
fn a_refused_subscription_is_an_error_that_names_the_topic() {
    // The ACL file of Mosquitto does not check subscriptions, its plugin does.
    let folder = tempfile::tempdir().expect("folder");
    let access = json!({
        "defaultACLAccess":
            {"publishClientSend": true, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
        "anonymousGroup": "all",
        "groups": [{"groupname": "all", "roles": [{"rolename": "devices"}]}],
        "roles": [{"rolename": "devices", "acls": [
            {"acltype": "subscribePattern", "topic": "iot-projekt/#", "allow": true},
        ]}],
    });
    std::fs::write(folder.path().join("access.json"), access.to_string()).expect("access.json");
    let plugin = support::servers::plugin("mosquitto_dynamic_security.so");
    let broker = support::Mosquitto::start_in(
        folder,
        &format!(
            "plugin {}\nplugin_opt_config_file {{folder}}/access.json",
            plugin.display()
        ),
    );
    let redis = support::Redis::start(&[]);
    for version in ["5", "3.1.1"] {
        let service = Service::between(
            redis.port,
            broker.port,
            &[
                ("BALENA_DEVICE_UUID", "u1".into()),
                ("MQTT_TOPIC_REQUEST", "forbidden/commands".into()),
                ("MQTT_VERSION", version.into()),
            ],
        );
        service.wait_for_log(
            "no commands arrive on \"forbidden/commands\": the subscription was refused",
        );
        assert_eq!(
            service.count_log("control\": the subscription was refused"),
            0
        );
    }
}

#[test]
fn a_thousand_commands_over_three_restarts_of_the_broker_do_no_harm() {
    let mut world = World::new();
    let service = start(
        &world,
        &[("INTERVAL_SECONDS", "0.1"), ("MQTT_REPLY_QOS", "1")],
    );
    for round in 0..4u64 {
        for n in 0..250 {
            world.receiver.publish(
                REQUEST,
                format!(r#"{{"command":"set_config","key":"k","value":{n}}}"#),
                false,
            );
        }
        world.redis.fill(round * 10 + 1, 10);
        if round < 3 {
            world.broker.stop();
            world.broker.start_again();
        }
    }
    hears(&world, REQUEST);
    world.wait_for(40);
    assert_eq!(service.count_log("panicked"), 0);
}

#[test]
fn replies_have_the_quality_of_service_that_was_set() {
    for qos in [0u8, 1] {
        let world = World::new();
        let _service = start(&world, &[("MQTT_REPLY_QOS", &qos.to_string())]);
        let replies = world.receiver.messages("iot-projekt/device/u1/response");
        assert!(!replies.is_empty() && replies.iter().all(|reply| reply.qos == qos));
    }
}

#[test]
fn correlation_data_comes_back_with_the_reply_under_mqtt_5() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
    use rumqttc::v5::{Client, Event, MqttOptions};

    let world = World::new();
    let _service = start(&world, &[]);
    let (client, mut connection) = Client::new(
        MqttOptions::new("asker", "127.0.0.1", world.broker.port),
        10,
    );
    client
        .subscribe("iot-projekt/device/u1/response", QoS::AtLeastOnce)
        .expect("subscribe");
    let properties = PublishProperties {
        correlation_data: Some("ticket 7".into()),
        ..Default::default()
    };
    client
        .publish_with_properties(
            REQUEST,
            QoS::AtLeastOnce,
            false,
            r#"{"command":"get_config","key":"k"}"#,
            properties,
        )
        .expect("publish");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    for event in connection.iter() {
        if let Ok(Event::Incoming(Packet::Publish(reply))) = event {
            let correlation = reply
                .properties
                .and_then(|properties| properties.correlation_data);
            assert_eq!(correlation.as_deref(), Some(&b"ticket 7"[..]));
            return;
        }
        assert!(std::time::Instant::now() < deadline, "no reply");
    }
}

/// A publisher of MQTT 5 that says what it wants to, byte by byte.
struct Publisher(std::net::TcpStream);

impl Publisher {
    fn connect(port: u16) -> Publisher {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
        let connect = packet(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c", b"\0", b"\0\x03odd"]);
        stream.write_all(&connect).expect("CONNECT");
        let mut head = [0; 2];
        stream.read_exact(&mut head).expect("CONNACK");
        let mut connack = vec![0; usize::from(head[1])];
        stream.read_exact(&mut connack).expect("CONNACK");
        assert_eq!(connack[1], 0);
        Publisher(stream)
    }

    fn publish(&mut self, properties: &[u8], payload: &[u8]) {
        let topic = (REQUEST.len() as u16).to_be_bytes();
        let length = head(0, properties.len());
        let parts = [
            &topic,
            REQUEST.as_bytes(),
            &length[1..],
            properties,
            payload,
        ];
        self.0.write_all(&packet(0x30, &parts)).expect("PUBLISH");
    }
}

fn user_properties(count: usize, bytes: usize) -> Vec<u8> {
    let text = [&(bytes as u16).to_be_bytes()[..], &vec![b'x'; bytes]].concat();
    [&[0x26][..], &text, &text].concat().repeat(count)
}

#[test]
fn legal_but_odd_properties_of_a_publisher_cost_no_connection() {
    let world = World::new();
    let service = start(&world, &[("INTERVAL_SECONDS", "0")]);
    let mut publisher = Publisher::connect(world.broker.port);
    let correlation = [&[0x09, 0xFF, 0xFF][..], &[b'c'; 65_535]].concat();
    let content = [&[0x03, 0xFF, 0xFF][..], &[b't'; 65_535]].concat();
    let odd: &[(&str, Vec<u8>)] = &[
        ("payload format 1", vec![0x01, 1]),
        ("payload format 0", vec![0x01, 0]),
        ("response topic", b"\x08\0\x03a/b".to_vec()),
        ("expiry of a second", vec![0x02, 0, 0, 0, 1]),
        ("the longest expiry", vec![0x02, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("content type", content),
        ("correlation data", correlation),
        ("empty correlation data", vec![0x09, 0, 0]),
        ("empty user properties", user_properties(1000, 0)),
        ("256 user properties", user_properties(256, 10)),
        ("257 user properties", user_properties(257, 10)),
        ("20,000 user properties", user_properties(20_000, 5)),
        ("256 KiB of user properties", user_properties(4, 32_765)),
        ("900 KiB of user properties", user_properties(7, 65_535)),
        ("900 KiB of small ones", user_properties(180_000, 0)),
    ];
    for (n, (what, properties)) in odd.iter().enumerate() {
        let request = json!({"command": "get_config", "key": "k", "id": n}).to_string();
        publisher.publish(properties, request.as_bytes());
        wait_until(&format!("{what} is answered"), || {
            super::replies(&world).iter().any(|reply| reply["id"] == n)
        });
        // What says that it is text and is none is answered as well.
        let before = super::replies(&world).len();
        publisher.publish(properties, b"\xff");
        wait_until(&format!("{what} is answered"), || {
            super::replies(&world).len() > before
        });
        world.redis.fill(n as u64 + 1, 1);
        world.wait_for(n + 1);
    }
    assert_eq!(service.count_log("must not"), 0);
    assert_eq!(service.count_log("disconnected"), 0);
    let peak = service.peak_memory();
    assert!(peak < 24 * 1024, "{peak} KiB");
}
