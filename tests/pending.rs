//! Connections over TLS that are closed while more lies in a record than the library has asked for:
//! its list of such connections is used by two threads. Alone in its file, as one of those that run with
//! AddressSanitizer; `CLOSED` makes it longer.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use mqtt_handler::model::connection::Attempt;
use mqtt_handler::model::message::Protocol;
use mqtt_handler::mqtt::Broker;
use openssl::ssl::SslStream;
use support::certificates::Certificates;
use support::config::config;
use support::packet::{connack, packet, publish};
use support::tls_front;

/// Takes a CONNECT and a SUBSCRIBE, then sends messages, as many as fit into a record, until the
/// other side has closed.
fn flood(mut stream: SslStream<std::net::TcpStream>) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    let _ = stream.read(&mut piece)?;
    stream.write_all(&connack(5, 0, &[]))?;
    let length = stream.read(&mut piece)?;
    let id = if length > 4 {
        [piece[2], piece[3]]
    } else {
        [0, 1]
    };
    stream.write_all(&packet(0x90, &[&id, &[0, 1]]))?;
    let many = publish(5, b"t", b"", 0x30, 0).repeat(2500);
    loop {
        stream.write_all(&many[..16_000 / 6 * 6])?;
    }
}

#[test]
fn connections_are_closed_while_more_is_there_than_was_asked_for() {
    let folder = tempfile::tempdir().expect("folder");
    let certificates = Certificates::make(folder.path());
    let port = tls_front::listen(&certificates, |stream| {
        // It ends with the connection.
        let _ = flood(stream);
    });
    let config = config(&[
        ("MQTT_HOST", "localhost"),
        ("MQTT_PORT", &port.to_string()),
        ("MQTT_TLS_CA_CERTS", &certificates.path("ca.pem")),
    ]);
    let broker = Broker::new(&config.mqtt, None, 1024);
    let attempt = Attempt {
        protocol: Protocol::V5,
        will: false,
        keep_alive: config.mqtt.keep_alive,
        patience: Duration::from_secs(30),
    };
    let rounds: u64 = std::env::var("CLOSED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100);
    for round in 0..rounds {
        let connection = broker
            .connect(&attempt, |_| {}, || false)
            .unwrap_or_else(|why| panic!("{why:?}"));
        let subscribed = connection.subscribe("t", Duration::from_secs(30), || false);
        assert!(subscribed.is_ok(), "{subscribed:?}");
        std::thread::sleep(Duration::from_micros(round * 37 % 3000));
        drop(connection);
    }
}
