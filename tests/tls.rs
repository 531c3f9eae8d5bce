//! TLS, credentials, and whether an operator is told what is wrong.

mod support;

use std::process::Output;
use std::time::Duration;

use support::certificates::Certificates;
use support::packet::{self, Kind, Packet};
use support::proxy::Proxy;
use support::scripted::{Answer, Scripted};
use support::service::command;
use support::{
    Mosquitto, Receiver, Redis, Service, free_port, holds_within, tls_front, wait_until,
};

/// A broker with a listener for each kind of certificate, with and without the demand for one
/// of the client, and a plain one.
struct Site {
    broker: Mosquitto,
    redis: Redis,
    certificates: Certificates,
    /// Certificate, whether a client certificate is demanded, port.
    listeners: Vec<(&'static str, bool, u16)>,
    plain: u16,
    _folder: tempfile::TempDir,
}

const SERVERS: [&str; 6] = [
    "good",
    "untrusted",
    "expired",
    "future",
    "wrong-name",
    "address",
];

impl Site {
    fn start(servers: &[&'static str]) -> Site {
        let folder = tempfile::tempdir().expect("folder");
        let certificates = Certificates::make(folder.path());
        let mut extra = String::new();
        let mut listeners = Vec::new();
        for server in servers {
            for demand in [false, true] {
                let port = free_port();
                extra += &format!(
                    "listener {port} 127.0.0.1\nallow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {demand}\nuse_identity_as_username {demand}\n",
                    certificates.path("ca.pem"),
                    certificates.path(&format!("{server}.pem")),
                    certificates.path(&format!("{server}.key")),
                );
                listeners.push((*server, demand, port));
            }
        }
        let broker = Mosquitto::start(&format!("allow_anonymous true\n{extra}"));
        let plain = broker.port;
        Site {
            broker,
            redis: Redis::start(&[]),
            certificates,
            listeners,
            plain,
            _folder: folder,
        }
    }

    fn port(&self, server: &str, demand: bool) -> u16 {
        let listener = self
            .listeners
            .iter()
            .find(|(name, demands, _)| *name == server && *demands == demand);
        listener.expect("a listener").2
    }

    fn settings(&self, port: u16, more: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("REDIS_HOST", "127.0.0.1".to_string()),
            ("REDIS_PORT", self.redis.port.to_string()),
            ("MQTT_HOST", "localhost".into()),
            ("MQTT_PORT", port.to_string()),
            ("BALENA_DEVICE_UUID", "u1".into()),
            ("INTERVAL_SECONDS", "0.1".into()),
        ];
        settings.extend_from_slice(more);
        settings
    }

    fn start_service(&self, port: u16, more: &[(&'static str, String)]) -> Service {
        Service::start(&self.settings(port, more))
    }
}

/// Who is trusted.
const TRUST: [&str; 3] = ["CA file", "system CAs", "insecure"];
/// What the client shows, and whether the broker demands it.
const CLIENT: [(&str, bool); 5] = [
    ("none", false),
    ("none", true),
    ("client", true),
    ("client-other", true),
    ("encrypted", true),
];

fn matrix(trust: &str) {
    let site = Site::start(&SERVERS);
    for server in SERVERS {
        for (client, demand) in CLIENT {
            let mut more = vec![("MQTT_TLS_ENABLE", "True".to_string())];
            if server == "address" {
                more.push(("MQTT_HOST", "127.0.0.1".into()));
            }
            match trust {
                "CA file" => more.push(("MQTT_TLS_CA_CERTS", site.certificates.path("ca.pem"))),
                "system CAs" => more.push(("SSL_CERT_FILE", site.certificates.path("ca.pem"))),
                _ => more.push(("MQTT_TLS_INSECURE", "yes".into())),
            }
            if client != "none" {
                let (certificate, key) = match client {
                    "encrypted" => ("client.pem", "client-encrypted.key".to_string()),
                    _ => (
                        if client == "client" {
                            "client.pem"
                        } else {
                            "client-other.pem"
                        },
                        format!("{client}.key"),
                    ),
                };
                more.push(("MQTT_TLS_CERTFILE", site.certificates.path(certificate)));
                more.push(("MQTT_TLS_KEYFILE", site.certificates.path(&key)));
            }
            let expected = expected(trust, server, client, demand);
            let service = site.start_service(site.port(server, demand), &more);
            let what =
                format!("{trust}, {server}, client {client} (demanded: {demand}): {expected}");
            let seen = || service.count_log(expected) > 0;
            assert!(
                holds_within(support::PATIENCE, seen),
                "{what}\n{}",
                service.log().join("\n")
            );
            let connected = service.count_log("connected to localhost")
                + service.count_log("connected to 127")
                > 0;
            assert_eq!(connected, expected.starts_with("connected"), "{what}");
            assert_eq!(
                service.count_log("is not checked") > 0,
                trust == "insecure",
                "{what}"
            );
        }
    }
}

/// What the log must say.
fn expected(trust: &str, server: &str, client: &str, demand: bool) -> &'static str {
    if client == "encrypted" {
        return "is encrypted; `openssl pkey -in KEY -out NEW` decrypts it (see mqtt.tls_keyfile)";
    }
    if trust != "insecure" {
        match server {
            "untrusted" => return "not from a CA that this device trusts (see mqtt.tls_ca_certs)",
            "expired" => {
                return "the certificate of the broker has expired, or the clock of the device is wrong";
            }
            "future" => return "not yet valid: the clock of the device may be wrong",
            "wrong-name" => {
                return "the certificate of the broker is not for \"localhost\" (see mqtt.host)";
            }
            _ => {}
        }
    }
    match (client, demand) {
        ("none", true) => {
            "the broker wants a client certificate (see mqtt.tls_certfile, mqtt.tls_keyfile)"
        }
        ("client-other", _) => {
            "the broker does not trust the client certificate (see mqtt.tls_certfile)"
        }
        _ if server == "address" => "connected to 127.0.0.1",
        _ => "connected to localhost",
    }
}

#[test]
fn the_matrix_with_a_ca_file() {
    matrix(TRUST[0]);
}

#[test]
fn the_matrix_with_the_cas_of_the_system() {
    matrix(TRUST[1]);
}

#[test]
fn the_matrix_without_checking() {
    matrix(TRUST[2]);
}

#[test]
fn tls_is_used_when_asked_and_never_given_up() {
    let site = Site::start(&["good"]);
    let proxy = Proxy::start(site.port("good", false));
    proxy.record();
    let secret = "s3cret-password";
    let ca = site.certificates.path("ca.pem");
    // Asked for by the CA file alone.
    let credentials = [
        ("MQTT_TLS_CA_CERTS", ca),
        ("MQTT_USERNAME", "device".into()),
        ("MQTT_PASSWORD", secret.into()),
    ];
    let service = site.start_service(proxy.port, &credentials);
    service.wait_for_log("connected to localhost");
    let receiver = Receiver::start(site.plain, &["#"]);
    site.redis.fill(1, 10);
    wait_until("measurements arrive", || receiver.distinct() == 10);
    let bytes = proxy.recorded();
    assert_eq!(bytes.first(), Some(&0x16), "a TLS handshake comes first");
    for clear in ["MQTT", secret, "temperature_celsius", "iot-projekt"] {
        assert!(
            !bytes
                .windows(clear.len())
                .any(|part| part == clear.as_bytes()),
            "{clear} in clear"
        );
    }
    // A plain port is told, and not one byte of a connect request is sent there.
    let proxy = Proxy::start(site.plain);
    proxy.record();
    let service = site.start_service(proxy.port, &credentials);
    service.wait_for_log("(see mqtt.port, mqtt.tls_enable)");
    let bytes = proxy.recorded();
    assert!(
        !bytes.windows(4).any(|part| part == b"MQTT")
            && !bytes.windows(6).any(|part| part == b"s3cret")
    );
    // And the reverse: plain text to a TLS port.
    let service = site.start_service(site.port("good", false), &[]);
    service.wait_for_log("does this port speak TLS");
    // Not asked for: plain.
    let service = site.start_service(site.plain, &[]);
    service.wait_for_log("connected to localhost");
}

#[test]
fn a_version_of_tls_below_1_2_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let certificates = Certificates::make(folder.path());
    let port = free_port();
    // The server would speak it; whether this system still allows it at all, it is not spoken.
    let mut server = std::process::Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-tls1_1",
            "-cipher",
            "ALL:@SECLEVEL=0",
            "-quiet",
        ])
        .args([
            "-cert",
            &certificates.path("good.pem"),
            "-key",
            &certificates.path("good.key"),
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl");
    wait_until("the server listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let service = Service::start(&[
        ("REDIS_PORT", free_port().to_string()),
        ("MQTT_HOST", "localhost".into()),
        ("MQTT_PORT", port.to_string()),
        ("MQTT_TLS_CA_CERTS", certificates.path("ca.pem")),
    ]);
    let told = holds_within(support::PATIENCE, || {
        service.count_log("speaks no TLS of version 1.2 or newer") > 0
    });
    drop(server.kill());
    drop(server.wait());
    assert!(told, "{}", service.log().join("\n"));
}

#[test]
fn a_certificate_that_was_replaced_is_used_at_the_next_connect() {
    let site = Site::start(&["good"]);
    let proxy = Proxy::start(site.port("good", true));
    let copy = |name: &str| {
        for ending in ["pem", "key"] {
            std::fs::copy(
                site.certificates.path(&format!("{name}.{ending}")),
                site.certificates.path(&format!("used.{ending}")),
            )
            .expect("copy");
        }
    };
    copy("client");
    let service = site.start_service(
        proxy.port,
        &[
            ("MQTT_TLS_CA_CERTS", site.certificates.path("ca.pem")),
            ("MQTT_TLS_CERTFILE", site.certificates.path("used.pem")),
            ("MQTT_TLS_KEYFILE", site.certificates.path("used.key")),
        ],
    );
    service.wait_for_log("connected to localhost");
    copy("client-new");
    proxy.cut();
    let log = || {
        std::fs::read_to_string(site.broker.folder.path().join("mosquitto.log")).unwrap_or_default()
    };
    // The broker takes the name in the certificate as the user name.
    wait_until("the new one is used", || log().contains("u'device-2'"));
    assert!(log().contains("u'device-1'"));
}

#[test]
fn wrong_credentials_are_told_with_the_settings_to_look_at() {
    let folder = tempfile::tempdir().expect("folder");
    let status = std::process::Command::new("mosquitto_passwd")
        .args(["-c", "-b"])
        .arg(folder.path().join("passwords"))
        .args(["device", "right"])
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    let broker = Mosquitto::start_in(
        folder,
        "allow_anonymous false\npassword_file {folder}/passwords",
    );
    let redis = Redis::start(&[]);
    for version in ["5", "3.1.1"] {
        for (user, password, good) in [
            ("device", "right", true),
            ("device", "wrong", false),
            ("device", "", false),
            ("", "right", false),
            ("", "", false),
        ] {
            let service = Service::between(
                redis.port,
                broker.port,
                &[
                    ("MQTT_USERNAME", user.into()),
                    ("MQTT_PASSWORD", password.into()),
                    ("MQTT_VERSION", version.into()),
                ],
            );
            let expected = if good {
                "connected to 127"
            } else {
                "mqtt.username, mqtt.password"
            };
            service.wait_for_log(expected);
            // Slowed: one attempt, and then a wait of several seconds.
            assert_eq!(
                service.count_log("no connection"),
                usize::from(!good),
                "{user} {password} {version}"
            );
        }
    }
}

#[test]
fn a_second_client_of_the_same_id_is_named() {
    let broker = Mosquitto::start("");
    let redis = Redis::start(&[]);
    let settings = |version: &str| {
        vec![
            ("REDIS_HOST", "127.0.0.1".to_string()),
            ("REDIS_PORT", redis.port.to_string()),
            ("MQTT_HOST", "127.0.0.1".into()),
            ("MQTT_PORT", broker.port.to_string()),
            ("MQTT_CLIENT_ID", "twin".into()),
            ("MQTT_VERSION", version.into()),
        ]
    };
    // Mosquitto of this version has no word for it, MQTT 3.1.1 never has: it shows in that the
    // connection is closed soon, again and again.
    for version in ["5", "3.1.1"] {
        let one = Service::start(&settings(version));
        let two = Service::start(&settings(version));
        wait_until("one of them guesses", || {
            one.count_log("same client ID? (see mqtt.client_id)")
                + two.count_log("same client ID? (see mqtt.client_id)")
                > 0
        });
    }
}

fn check(settings: &[(&'static str, String)]) -> (Output, String) {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(
        folder.path().join("app.conf"),
        "[mqtt]\nkeepalive_seconds = 44\n",
    )
    .expect("app.conf");
    let mut command = command();
    command
        .current_dir(folder.path())
        .arg("--check")
        .envs(settings.iter().map(|(name, value)| (name, value)));
    let output = command.output().expect("the binary");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

#[test]
fn check_tells_settings_redis_and_broker() {
    let site = Site::start(&["good", "expired"]);
    site.redis.fill(1, 7);
    site.redis.set("mqtt_sender:last_id", "(3-0");
    let receiver = Receiver::start(site.plain, &["#"]);
    let mut settings = site.settings(
        site.port("good", false),
        &[
            ("MQTT_TLS_CA_CERTS", site.certificates.path("ca.pem")),
            ("MQTT_PASSWORD", "hunter2".into()),
        ],
    );
    let (output, text) = check(&settings);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "mqtt.keepalive_seconds",
        "44",
        "app.conf",
        "MQTT_TLS_CA_CERTS",
        "default",
        "***",
        "ok    Redis: version 7",
        "ok    Redis: measurement:values has 7 entries",
        "ok    Redis: mqtt_sender:last_id is \"(3-0\"",
        "ok    Redis: maxmemory-policy noeviction",
        "ok    broker: connected to localhost",
        "ok    broker: subscribed to \"iot-projekt/device/broadcast/control\"",
        "ok    broker: subscribed to \"iot-projekt/device/u1/request\"",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2"));
    assert_eq!(receiver.total_messages(), 0, "nothing is published");
    assert_eq!(site.redis.cursor().as_deref(), Some("(3-0"));

    // The broker refuses, then Redis is away as well.
    settings.push(("MQTT_PORT", site.port("expired", false).to_string()));
    let (output, text) = check(&settings);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("fail  broker: the certificate of the broker has expired"),
        "{text}"
    );
    settings.push(("REDIS_PORT", free_port().to_string()));
    let (output, text) = check(&settings);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fail  Redis: 127.0.0.1"), "{text}");
    settings.push(("MQTT_PORT", "0".into()));
    assert_eq!(check(&settings).0.status.code(), Some(2));
}

#[test]
fn secrets_are_in_no_log_at_any_level_and_in_no_core_dump() {
    let secret = "hunter2-secret";
    let site = Site::start(&["good"]);
    let service = site.start_service(
        site.port("good", true),
        &[
            ("MQTT_TLS_CA_CERTS", site.certificates.path("ca.pem")),
            ("MQTT_TLS_CERTFILE", site.certificates.path("client.pem")),
            ("MQTT_TLS_KEYFILE", site.certificates.path("client.key")),
            ("MQTT_USERNAME", "device".into()),
            ("MQTT_PASSWORD", secret.into()),
            ("REDIS_PASSWORD", secret.into()),
            (
                "RUST_LOG",
                "trace,paho_mqtt=trace,paho_mqtt::async_client=trace".into(),
            ),
        ],
    );
    service.wait_for_log("connected to localhost");
    service.wait_for_log("Redis: ");
    assert_eq!(service.count_log("hunter2"), 0);
    let limits =
        std::fs::read_to_string(format!("/proc/{}/limits", service.pid())).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .expect("the line");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let arguments = std::fs::read(format!("/proc/{}/cmdline", service.pid())).expect("cmdline");
    assert!(!String::from_utf8_lossy(&arguments).contains("hunter2"));
}

/// It reads the head of a packet and hangs up while the rest is on its way, one record of TLS after
/// the other.
#[test]
fn a_broker_that_hangs_up_within_a_list_breaks_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let certificates = Certificates::make(folder.path());
    let port = free_port();
    let broker = Mosquitto::start(&format!(
        "allow_anonymous true\nmax_packet_size 20000\nlistener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
        certificates.path("good.pem"),
        certificates.path("good.key"),
    ));
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    let redis = Redis::start(&[]);
    redis.fill(1, 3000);
    let settings = [
        ("MQTT_HOST", "localhost"),
        ("MQTT_TLS_CA_CERTS", &certificates.path("ca.pem")),
        // The limit is not announced there.
        ("MQTT_VERSION", "3.1.1"),
    ];
    let mut service = Service::of_device(&redis, port, &settings);
    wait_until("all have arrived or the service has died", || {
        receiver.distinct() == 3000 || !service.is_running()
    });
    assert!(service.is_running());
    assert!(service.count_log("the broker reset the connection") > 0);
    redis.wait_for_cursor("(3000-0");
}

#[test]
fn a_redis_password_is_used() {
    let redis = Redis::start_with_password("hunter2 #;%");
    let broker = Mosquitto::start("");
    let receiver = Receiver::start(broker.port, &["#"]);
    let settings = |password: &str| {
        vec![
            ("REDIS_HOST", "127.0.0.1".to_string()),
            ("REDIS_PORT", redis.port.to_string()),
            ("REDIS_PASSWORD", password.into()),
            ("MQTT_HOST", "127.0.0.1".into()),
            ("MQTT_PORT", broker.port.to_string()),
        ]
    };
    let wrong = Service::start(&settings("wrong"));
    wrong.wait_for_log("WRONGPASS");
    drop(wrong);
    let _service = Service::start(&settings("hunter2 #;%"));
    let mut connection = redis.authenticated("hunter2 #;%");
    let _: String = redis::cmd("XADD")
        .arg(&["measurement:values", "1-0", "n", "1"])
        .query(&mut connection)
        .expect("XADD");
    wait_until("the measurement arrives", || receiver.distinct() == 1);
}

/// Puts bytes before the acknowledgement of the first list, in one write.
fn before_first_acknowledgement(bytes: &[u8]) -> impl FnMut(&Packet) -> Answer + use<> {
    let mut bytes = Some(bytes.to_vec());
    move |packet| match packet.kind {
        Kind::Publish if packet.topic.ends_with("/values") => match bytes.take() {
            Some(bytes) => Answer::Raw([bytes, packet.answer(None)].concat()),
            None => Answer::Honest,
        },
        _ => Answer::Honest,
    }
}

#[test]
fn what_shares_a_record_with_the_answer_to_a_ping_is_read_at_once() {
    let folder = tempfile::tempdir().expect("folder");
    let certificates = Certificates::make(folder.path());
    let (redis, broker) = (Redis::start(&[]), Scripted::start());
    let port = tls_front::start(&certificates, broker.port);
    let settings = [
        ("MQTT_HOST", "localhost"),
        ("MQTT_TLS_CA_CERTS", &certificates.path("ca.pem")),
        ("INTERVAL_SECONDS", "0"),
    ];
    let service = Service::of_device(&redis, port, &settings);
    wait_until("it has subscribed", || broker.count(Kind::Subscribe) == 2);
    let soon = Duration::from_secs(10);
    let pingresp = [0xD0, 0];
    // Three answers to pings are to spare on each connection.
    let (replies, request) = (
        "iot-projekt/device/u1/response",
        "iot-projekt/device/u1/request",
    );
    for (nth, padding) in [(0, 0), (1, 40_000)] {
        let padding = "x".repeat(padding);
        let command = format!("{{\"command\":\"get_status\",\"padding\":\"{padding}\"}}");
        let command = packet::publish(5, request.as_bytes(), command.as_bytes(), 0x30, 0);
        broker.send(&[&pingresp[..], &command].concat());
        let replied = holds_within(soon, || broker.messages(replies).len() == nth + 1);
        assert!(replied, "a command behind the answer");
    }
    broker.script(before_first_acknowledgement(&pingresp));
    redis.fill(1, 100);
    let confirmed = holds_within(soon, || redis.cursor().as_deref() == Some("(100-0"));
    assert!(confirmed, "an acknowledgement behind the answer");
    assert_eq!(broker.connects(), 1, "{}", service.log().join("\n"));
    // On another connection: all that are to spare at once.
    broker.cut();
    wait_until("it has subscribed", || broker.count(Kind::Subscribe) == 4);
    broker.script(before_first_acknowledgement(&pingresp.repeat(3)));
    redis.fill(101, 100);
    let confirmed = holds_within(soon, || redis.cursor().as_deref() == Some("(200-0"));
    assert!(confirmed, "an acknowledgement behind several answers");
    assert_eq!(broker.connects(), 2, "{}", service.log().join("\n"));
}
