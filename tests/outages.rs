//! Servers that come late, go away and come back.

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::receiver::first_arrivals;
use support::{Mosquitto, Receiver, Redis, Service, World, free_port, holds_within, wait_until};

#[test]
fn the_service_starts_first_and_both_servers_come_later() {
    let (redis_port, mqtt_port) = (free_port(), free_port());
    let service = Service::between(
        redis_port,
        mqtt_port,
        &[("BALENA_DEVICE_UUID", "u1".into())],
    );
    service.wait_for_log("Redis: 127.0.0.1");
    service.wait_for_log("connection refused: nothing listens there (see mqtt.host, mqtt.port)");
    let begun = Instant::now();
    let cpu = service.cpu();
    // An outage of a few seconds, with its cost.
    assert!(!holds_within(Duration::from_secs(6), || service
        .count_log("connected to")
        > 0));
    let share = (service.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(share < 0.05, "{share} of a core during an outage");
    let redis = Redis::reserved(redis_port);
    redis.fill(1, 100);
    service.wait_for_log("connected to Redis");
    let broker = Mosquitto::start_on(mqtt_port);
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    wait_until("everything has arrived", || receiver.distinct() == 100);
    redis.wait_for_cursor("(100-0");
    // Attempts were spaced out, and each said one line.
    assert!(service.log().len() < 40, "{} lines", service.log().len());
}

#[test]
fn what_is_not_redis_is_named_and_waited_for() {
    let world = World::new();
    world.redis.fill(1, 10);
    // A web server in the place of Redis: it talks, but not the protocol.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let served = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 64];
            let _ = stream.read(&mut request);
            let answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
            stream.write_all(answer.as_bytes()).expect("an answer");
        }
        port
    });
    let service = world.start_with(&[("REDIS_PORT", &port.to_string())]);
    service.wait_for_log("what answers there does not speak the protocol of Redis");
    // The right one comes up on the same port, and nothing is to be done.
    let redis = Redis::reserved(served.join().expect("the web server"));
    redis.fill(1, 10);
    world.wait_for(10);
}

#[test]
fn a_restart_of_redis_and_of_the_broker_is_survived() {
    let mut world = World::new();
    world.redis.fill(1, 5000);
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1"), ("BATCH_MAX_COUNT", "100")]);
    wait_until("the catch-up runs", || world.receiver.distinct() > 500);
    world.redis.stop();
    service.wait_for_log("Redis: ");
    world.redis.start_again();
    world.wait_for(5000);
    world.broker.stop();
    service.wait_for_log("disconnected from");
    world.redis.fill(5001, 500);
    world.broker.start_again();
    world.wait_for(5500);
    world.redis.fill(5501, 500);
    world.wait_for(6000);
    let expected: Vec<(u64, u64)> = (1..=6000).map(|ms| (ms, 0)).collect();
    assert_eq!(first_arrivals(&world.receiver.ids()), expected);
    world.redis.wait_for_cursor("(6000-0");
    assert!(service.log().len() < 60, "{} lines", service.log().len());
}

#[test]
fn a_frozen_redis_is_noticed_and_survived() {
    let world = World::new();
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    world.redis.fill(1, 10);
    world.wait_for(10);
    world.redis.freeze();
    service.wait_for_log("no answer within 5 s");
    let begun = Instant::now();
    let cpu = service.cpu();
    assert!(!holds_within(Duration::from_secs(3), || service
        .count_log("panicked")
        > 0));
    let share = (service.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(share < 0.05, "{share} of a core while Redis is frozen");
    world.redis.thaw();
    world.redis.fill(11, 10);
    world.wait_for(20);
}

#[test]
fn a_broker_without_acknowledgements_is_given_up_and_nothing_is_lost() {
    let world = World::new();
    let service = world.start_with(&[
        ("INTERVAL_SECONDS", "0.1"),
        ("MQTT_ACK_TIMEOUT_SECONDS", "1"),
    ]);
    service.wait_for_log("connected to 127");
    world.broker.freeze();
    world.redis.fill(1, 10);
    service.wait_for_log("no acknowledgement within 1 s");
    assert_eq!(world.redis.cursor(), None);
    world.broker.thaw();
    world.wait_for(10);
    world.redis.wait_for_cursor("(10-0");
}

#[test]
fn a_stream_of_another_type_is_told_and_left_alone() {
    let world = World::new();
    world.redis.set("measurement:values", "not a stream");
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    service.wait_for_log("WRONGTYPE");
    assert!(!holds_within(Duration::from_secs(2), || service
        .count_log("WRONGTYPE")
        > 4));
    world.redis.command::<()>(&["DEL", "measurement:values"]);
    world.redis.fill(1, 10);
    world.wait_for(10);
}

#[test]
fn a_broker_of_the_old_protocol_is_served_in_the_old_protocol() {
    // Answers a connect request of MQTT 5 as a broker of MQTT 3.1.1 must, and passes all else on.
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let (port, to) = (
        listener.local_addr().expect("address").port(),
        world.broker.port,
    );
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || old_broker(stream, to));
        }
    });
    let service = world.start_with(&[("MQTT_PORT", &port.to_string())]);
    world.redis.fill(1, 10);
    service.wait_for_log("MQTT 3.1.1 is tried next");
    service.wait_for_log("(MQTT 3.1.1)");
    world.wait_for(10);
}

fn old_broker(mut stream: std::net::TcpStream, to: u16) {
    use std::io::{Read, Write};
    let mut head = [0; 16];
    // Fixed header (2 bytes as long as the packet is short), "MQTT" with its length, the level.
    let Ok(count) = stream.peek(&mut head) else {
        return;
    };
    if count >= 9 && head[0] == 0x10 && head[8] == 5 {
        drop(stream.read(&mut head));
        drop(stream.write_all(&[0x20, 2, 0, 1]));
        return;
    }
    let Ok(mut server) = std::net::TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    let (mut from, mut into) = (
        server.try_clone().expect("clone"),
        stream.try_clone().expect("clone"),
    );
    std::thread::spawn(move || drop(std::io::copy(&mut from, &mut into)));
    drop(std::io::copy(&mut stream, &mut server));
}

#[test]
fn cpu_is_near_zero_while_there_is_nothing_to_do() {
    for interval in ["1", "0"] {
        let world = World::new();
        let service = world.start_with(&[("INTERVAL_SECONDS", interval)]);
        service.wait_for_log("connected to 127");
        let (begun, cpu) = (Instant::now(), service.cpu());
        assert!(!holds_within(Duration::from_secs(4), || service
            .count_log("ERROR")
            > 0));
        let share = (service.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        assert!(share < 0.02, "{share} of a core at interval {interval}");
    }
}

#[test]
fn connections_to_redis_that_end_again_and_again_make_no_long_waits() {
    let world = World::new();
    let service = world.start();
    world.redis.fill(1, 1);
    world.wait_for(1);
    // Each round takes a second at most, unless the waits grow: then it is a minute soon.
    let begun = std::time::Instant::now();
    for round in 0..12u64 {
        let lost = service.count_log("Redis");
        world
            .redis
            .command::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        wait_until("it is noticed", || service.count_log("Redis") > lost);
        world.redis.fill(round + 2, 1);
        world.wait_for(round as usize + 2);
    }
    assert!(begun.elapsed() < Duration::from_secs(40));
}
