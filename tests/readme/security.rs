//! The lines of docs/security.md that are to be copied, on a real Mosquitto: the service works
//! under them, and a device that poses as another one is not heard.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::pages::blocks;
use super::support::certificates::Certificates;
use super::support::{Mosquitto, Receiver, Redis, Service, free_port, holds_within, wait_until};

const PAGE: &str = "docs/security.md";
const REQUEST: &str = "iot-projekt/device/u1/request";
const BROADCAST: &str = "iot-projekt/device/broadcast/control";

/// A broker under the lines of the page, with one of its ACL files.
struct Site {
    redis: Redis,
    broker: Mosquitto,
    certificates: Certificates,
    tls: u16,
    backend: Receiver,
    _folder: TempDir,
}

impl Site {
    fn start(acl: &str) -> Site {
        let folder = tempfile::tempdir().expect("folder");
        let certificates = Certificates::make(folder.path());
        let copy = |from: &str, to: &str| {
            std::fs::copy(folder.path().join(from), folder.path().join(to)).expect("a copy");
        };
        copy("good.pem", "server.pem");
        copy("good.key", "server.key");
        std::fs::write(folder.path().join("acl"), format!("{acl}\n")).expect("acl");
        write_passwords(&folder);
        let tls = free_port();
        let lines = blocks(PAGE, "mosquitto").remove(0);
        let lines = lines
            .replace("listener 8883", &format!("listener {tls} 127.0.0.1"))
            .replace("/mosquitto/config", &folder.path().display().to_string());
        let broker = Mosquitto::start(&lines);
        let user = Some(("backend", "secret"));
        let backend = Receiver::start_as(broker.port, &["iot-projekt/device/#"], user);
        Site {
            redis: Redis::start(&[]),
            broker,
            certificates,
            tls,
            backend,
            _folder: folder,
        }
    }

    /// A device that logs in as `user`, with the variables of the page and the UUID `uuid`.
    fn device(&self, user: &str, uuid: &str) -> Service {
        let shown = blocks(PAGE, "conf").remove(0);
        let mut variables: Vec<(&'static str, String)> = Vec::new();
        for line in shown.lines() {
            let (name, value) = line.split_once('=').expect("a variable");
            let keys = mqtt_handler::config::KEYS.iter();
            let known = keys.map(|key| key.variable).find(|known| *known == name);
            variables.push((known.unwrap_or_else(|| panic!("{name}")), value.into()));
        }
        variables.extend([
            ("MQTT_HOST", "localhost".into()),
            ("MQTT_PORT", self.tls.to_string()),
            ("MQTT_TLS_CA_PEM", self.certificates.text("ca.pem")),
            ("MQTT_USERNAME", user.into()),
            ("MQTT_PASSWORD", "secret".into()),
            ("BALENA_DEVICE_UUID", uuid.into()),
            (
                "MQTT_TOPIC_STATUS",
                "iot-projekt/device/%(device_uuid)s/status".into(),
            ),
        ]);
        Service::between(self.redis.port, self.broker.port, &variables)
    }

    fn answers(&self, topic: &str) {
        let before = self.backend.replies().len();
        wait_until("commands are answered", || {
            let request = r#"{"command":"get_config","key":"mqtt_sender:interval"}"#;
            self.backend.publish(topic, request, false);
            holds_within(Duration::from_millis(300), || {
                self.backend.replies().len() > before
            })
        });
    }
}

fn write_passwords(folder: &TempDir) {
    for (n, user) in ["u1", "u2", "backend"].into_iter().enumerate() {
        let create: &[&str] = if n == 0 { &["-c", "-b"] } else { &["-b"] };
        let status = Command::new("mosquitto_passwd")
            .args(create)
            .arg(folder.path().join("passwords"))
            .args([user, "secret"])
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

#[test]
fn the_lines_to_copy_let_a_device_work_and_keep_others_apart() {
    let files = blocks(PAGE, "acl");
    assert_eq!(files.len(), 2);
    for acl in files {
        let site = Site::start(&acl);
        site.redis.fill(1, 10);
        let service = site.device("u1", "u1");
        service.wait_for_log("(MQTT 5)");
        wait_until("measurements arrive", || site.backend.distinct() == 10);
        site.answers(REQUEST);
        site.answers(BROADCAST);
        wait_until("the status arrives", || {
            !site
                .backend
                .messages("iot-projekt/device/u1/status")
                .is_empty()
        });
        drop(service);
        // u1 poses as u2, and u2 as u1: neither is heard.
        site.redis.fill(11, 5);
        for (user, uuid) in [("u1", "u2"), ("u2", "u1")] {
            let impostor = site.device(user, uuid);
            let refused =
                format!("measurements are not accepted on \"iot-projekt/device/{uuid}/values\"");
            impostor.wait_for_log(&refused);
            assert_eq!(site.backend.distinct(), 10);
        }
        // What is not encrypted is not a way in for who has no password.
        let stranger = Service::between(site.redis.port, site.broker.port, &[]);
        stranger.wait_for_log("no connection to");
        assert_eq!(site.backend.distinct(), 10);
    }
}
