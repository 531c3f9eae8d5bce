//! The user of Redis in docs/security.md: under it everything works, and it may do nothing else.

use std::collections::BTreeSet;
use std::process::Output;

use super::pages::blocks;
use super::support::scripted::{Answer, Kind, Scripted};
use super::support::service::command;
use super::support::stream::dead_letters;
use super::support::{Mosquitto, Receiver, Redis, Service, wait_until};

const REQUEST: &str = "iot-projekt/device/u1/request";

/// A Redis with the user of the page.
struct Site {
    redis: Redis,
    user: String,
}

impl Site {
    fn start() -> Site {
        let shown = blocks("docs/security.md", "redis").remove(0);
        let line = shown.lines().find(|line| line.starts_with("user mqtt-"));
        let user = line.and_then(|line| line.strip_prefix("user "));
        let user = user.expect("the user").to_string();
        let arguments: Vec<&str> = ["--user"].into_iter().chain(user.split(' ')).collect();
        let redis = Redis::start(&arguments);
        Site { redis, user }
    }

    fn variables(&self, broker: u16) -> Vec<(&'static str, String)> {
        vec![
            ("REDIS_PORT", self.redis.port.to_string()),
            ("REDIS_USERNAME", "mqtt-handler".into()),
            ("REDIS_PASSWORD", "change-me".into()),
            ("MQTT_PORT", broker.to_string()),
            ("BALENA_DEVICE_UUID", "u1".into()),
            ("CONFIG_KEYS", "mqtt_sender:*".into()),
            ("KEEP_SENT", "3".into()),
        ]
    }

    fn service(&self, broker: u16, interval: &str) -> Service {
        let mut variables = self.variables(broker);
        variables.push(("INTERVAL_SECONDS", interval.into()));
        let service = Service::start(&variables);
        service.wait_for_log("connected to localhost");
        service
    }

    fn ask(&self, option: &str, broker: u16) -> Output {
        let output = command()
            .args([option, "/dev/null"])
            .envs(self.variables(broker))
            .output();
        output.expect("the binary")
    }

    /// The commands that the user may use, as Redis counts them.
    fn allowed(&self) -> BTreeSet<String> {
        let words = self.user.split(' ');
        let names = words.filter_map(|word| word.strip_prefix('+'));
        names.map(String::from).collect()
    }

    fn used(&self) -> BTreeSet<String> {
        let stats: String = self.redis.command(&["INFO", "commandstats"]);
        let lines = stats.lines();
        let names = lines.filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
        names.map(String::from).collect()
    }

    fn refused(&self) -> String {
        let entries: redis::Value = self.redis.command(&["ACL", "LOG"]);
        match entries {
            redis::Value::Array(entries) if entries.is_empty() => String::new(),
            entries => format!("{entries:?}"),
        }
    }
}

/// Measurements, the trim, commands, and their answers.
fn live(site: &Site, broker: u16, receiver: &Receiver, first: u64) {
    let already = receiver.distinct();
    site.redis.fill(first, 50);
    wait_until("measurements arrive", || {
        receiver.distinct() == already + 50
    });
    wait_until("what is sent is trimmed", || {
        site.redis.command::<u64>(&["XLEN", "measurement:values"]) == 3
    });
    let asked = [
        r#"{"command":"get_config","key":"mqtt_sender:last_id"}"#,
        r#"{"command":"set_config","key":"mqtt_sender:enabled","value":1}"#,
        r#"{"command":"set_config","key":"mqtt_sender:enabled","value":null}"#,
        r#"{"command":"get_status"}"#,
        r#"{"command":"send_measurements","count":2}"#,
    ];
    for request in asked {
        let before = receiver.replies().len();
        receiver.publish(REQUEST, request, false);
        wait_until("a command is answered", || {
            receiver.replies().len() > before
        });
        let reply = &receiver.replies()[before];
        assert!(reply["error"].is_null(), "{request}: {reply}");
    }
    wait_until("the status of the running service is seen", || {
        site.ask("--status", broker).status.success()
    });
    let checked = site.ask("--check", broker);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn the_user_of_redis_may_do_what_is_used_and_nothing_else() {
    let site = Site::start();
    let broker = Mosquitto::start("");
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    let service = site.service(broker.port, "0.1");
    live(&site, broker.port, &receiver, 1);
    drop(service);
    let mut service = site.service(broker.port, "0");
    live(&site, broker.port, &receiver, 101);
    // Settings of others are obeyed, in push mode at once.
    site.redis.set("mqtt_sender:interval", "0.2");
    service.wait_for_log("0.2");
    let (status, _) = service.terminate();
    assert!(status.success());

    // What the broker refuses is kept aside.
    let allergic = Scripted::start();
    allergic.script(|packet| {
        let poison = b"\"_id\":\"220-0\"";
        let here = packet.payload.windows(poison.len()).any(|w| w == poison);
        match packet.kind == Kind::Publish && here {
            true => Answer::Code(0x99),
            false => Answer::Honest,
        }
    });
    let _service = site.service(allergic.port, "0.1");
    site.redis.fill(201, 40);
    wait_until("the poison is copied", || {
        dead_letters(&site.redis).len() == 1
    });
    site.redis.wait_for_cursor("(240-0");

    assert_eq!(site.refused(), "");
    let counts_exactly = site.used().contains("config|get");
    if counts_exactly {
        let unused = &site.allowed() - &site.used();
        assert!(unused.is_empty(), "{unused:?}");
    }
}
