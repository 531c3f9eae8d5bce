//! Connections over TLS that are closed while more lies in a record than the library has asked for:
//! its list of such connections is used by two threads. Alone in its file, as one of those that run with
//! AddressSanitizer; `CLOSED` makes it longer.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use mqtt_handler::config::Config;
use mqtt_handler::model::connection::Attempt;
use mqtt_handler::model::message::Protocol;
use mqtt_handler::mqtt::Broker;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream};
use support::certificates::Certificates;
use support::packet::{connack, packet, publish};

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

fn broker(certificates: &Certificates) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("TLS");
    acceptor
        .set_private_key_file(certificates.path("good.key"), SslFiletype::PEM)
        .and_then(|()| acceptor.set_certificate_chain_file(certificates.path("good.pem")))
        .expect("certificate");
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let acceptor = acceptor.clone();
            std::thread::spawn(move || acceptor.accept(stream).map(flood));
        }
    });
    port
}

#[test]
fn connections_are_closed_while_more_is_there_than_was_asked_for() {
    let folder = tempfile::tempdir().expect("folder");
    let certificates = Certificates::make(folder.path());
    let port = broker(&certificates);
    let variables = |name: &str| match name {
        "MQTT_HOST" => Some("localhost".to_string()),
        "MQTT_PORT" => Some(port.to_string()),
        "MQTT_TLS_CA_CERTS" => Some(certificates.path("ca.pem")),
        _ => None,
    };
    let config = Config::parse("", "", variables).unwrap_or_else(|faults| panic!("{faults:?}"));
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
