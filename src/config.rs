//! The configuration: one validated type, made from the INI file and the environment.
//!
//! All faults are collected before the program gives up, so that a person on a slow line to a
//! device needs one attempt and not ten. `items` is the list of settings.

mod check;
mod environment;
mod ini;
mod item;
mod items;
mod parse;
mod password;
mod pem;
mod secret;
mod source;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::model::measurement::BatchLimits;
pub use crate::model::topic::Identity;
use check::Check;
pub use environment::forget_secrets;
pub use item::Key;
pub use items::KEYS;
pub use password::Password;
pub use pem::Pem;
pub use secret::Secret;
use source::Source;
pub use source::{Fault, Origin, Shown};

/// The whole configuration, checked.
pub struct Config {
    pub interval: Duration,
    pub batch: BatchLimits,
    /// Trim the stream to this many sent entries after each confirmation; `None`: never.
    pub keep_sent: Option<u64>,
    /// Bytes of payload a second while more waits than one list takes; 0: no limit.
    pub catch_up: u64,
    pub commands: Permissions,
    pub identity: Identity,
    pub redis: Redis,
    pub mqtt: Mqtt,
    /// Every setting as text, for the log and `--check`.
    pub effective: Vec<Shown>,
    /// What is odd but no reason to stop.
    pub warnings: Vec<String>,
}

/// What a remote side may ask for.
#[derive(Clone, Debug)]
pub struct Permissions {
    /// Names in lower case.
    pub commands: Vec<String>,
    /// Glob patterns for `get_config` and `set_config`.
    pub keys: Vec<String>,
}

/// How to reach Redis.
#[derive(Clone)]
pub struct Redis {
    pub host: String,
    pub port: u16,
    pub db: i64,
    pub username: String,
    pub password: Secret,
}

/// How to reach the broker, and what to say there.
#[derive(Clone)]
pub struct Mqtt {
    pub host: String,
    pub port: u16,
    pub keep_alive: Duration,
    pub client_id: String,
    pub username: String,
    pub password: Password,
    /// `None`: plain TCP.
    pub tls: Option<Tls>,
    pub version: Version,
    pub ack_timeout: Duration,
    /// QoS of replies, 0 or 1.
    pub reply_qos: i32,
    pub topics: Topics,
}

/// The topics with their placeholders filled.
#[derive(Clone)]
pub struct Topics {
    /// Filters of the commands: for all devices and for this one.
    pub commands: [String; 2],
    pub response: String,
    pub values: String,
    /// `None`: the newest measurement has no topic of its own.
    pub latest: Option<String>,
    /// `None`: no status is published.
    pub status: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Tls {
    /// Accept any certificate of the broker.
    pub insecure: bool,
    /// `None`: the CAs of the system.
    pub ca: Option<Pem>,
    /// Client certificate and its key.
    pub client: Option<(Pem, Pem)>,
}

/// Which protocol to speak with the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    /// MQTT 5, and 3.1.1 where the broker does not speak it.
    Auto,
    V5,
    V311,
}

/// The commands there are, as `allowed_commands` names them.
pub const COMMANDS: [&str; 6] = [
    "reboot",
    "get_config",
    "set_config",
    "get_status",
    "cancel",
    "send_measurements",
];

impl Config {
    /// Reads `path` and the environment of the process.
    ///
    /// # Errors
    /// All faults that were found.
    pub fn load(path: &Path) -> Result<Config, Vec<Fault>> {
        let file = path.display().to_string();
        let fault = |reason: String| vec![Fault(format!("{file}: {reason}"))];
        let bytes = std::fs::read(path)
            .map_err(|error| fault(format!("the file cannot be read: {error}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| fault("the file is not encoded in UTF-8".into()))?;
        Config::check(&file, &Zeroizing::new(text), |name| std::env::var_os(name))
    }

    /// Checks the text of a file together with variables from anywhere.
    ///
    /// # Errors
    /// All faults that were found.
    pub fn parse(
        file: &str,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, Vec<Fault>> {
        Config::check(file, text, |name| variable(name).map(OsString::from))
    }

    fn check(
        file: &str,
        text: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Config, Vec<Fault>> {
        let source = Source::read(file, text, variable).map_err(|fault| vec![fault])?;
        let mut check = Check::new(&source);
        let config = check.config();
        if check.faults.is_empty() {
            Ok(config)
        } else {
            Err(check.faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::compression::Compression;

    fn faults(text: &str) -> Vec<String> {
        let parsed = Config::parse("app.conf", text, |_| None);
        parsed
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|fault| fault.0)
            .collect()
    }

    #[test]
    fn the_defaults_are_valid_and_those_of_the_documentation() {
        let config = Config::parse("app.conf", "", |_| None)
            .map_err(|_| ())
            .unwrap();
        assert_eq!(config.interval, Duration::from_secs(1));
        assert_eq!(
            config.batch,
            BatchLimits {
                max_bytes: 65536,
                max_count: 1000,
                compression: Compression::None,
            }
        );
        assert_eq!(config.mqtt.topics.values, "iot-projekt/device/-1/values");
        assert_eq!(config.commands.commands, COMMANDS);
        assert!(config.mqtt.tls.is_none() && config.keep_sent.is_none());
        assert!(config.mqtt.client_id.starts_with("mqtt-handler-"));
        assert_ne!(config.mqtt.client_id, "mqtt-handler--1");
    }

    #[test]
    fn all_faults_come_at_once_and_name_place_value_and_way_out() {
        let text = "[main]\ninterval_seconds = soon\nbatch_max_count = 0\n[mqtt]\nport = 70000\nversion = 4\n";
        let faults = faults(text);
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert_eq!(
            faults[0],
            "app.conf: [main] interval_seconds (variable INTERVAL_SECONDS) = \"soon\": expected a number of seconds from 0 to 1000000000"
        );
        assert!(faults[2].contains("port") && faults[2].contains("from 1 to 65535"));
        assert!(faults[3].contains("expected one of auto, 5, 3.1.1"));
    }

    #[test]
    fn no_number_means_not_a_number_and_not_infinite() {
        for text in ["NaN", "inf", "-1", "1e99", ""] {
            let found = faults(&format!("[main]\ninterval_seconds = {text}\n"));
            // Empty counts as unset.
            assert_eq!(found.len(), usize::from(!text.is_empty()), "{text}");
        }
    }

    #[test]
    fn a_topic_that_would_come_back_as_a_command_is_a_fault() {
        let found = faults("[mqtt]\ntopic_request = a/#\ntopic_values = a/values\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("topic_values") && found[0].contains("come back"));
    }

    #[test]
    fn the_newest_measurement_takes_a_topic_of_its_own() {
        let with = |topic: &str| faults(&format!("[mqtt]\ntopic_latest = {topic}\n"));
        assert!(with("").is_empty() && with("a/%(device_uuid)s/latest").is_empty());
        for (topic, why) in [
            ("a/+", "wildcard"),
            (
                "iot-projekt/device/%(device_uuid)s/values",
                "something else",
            ),
            ("iot-projekt/device/-1/response", "something else"),
            ("iot-projekt/device/broadcast/control", "come back"),
        ] {
            let found = with(topic);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains("topic_latest"), "{found:?}");
            assert!(found[0].contains(why), "{found:?}");
        }
    }

    #[test]
    fn a_value_from_the_environment_is_blamed_on_its_variable() {
        let variables = |name: &str| (name == "MQTT_PORT").then(|| "x".to_string());
        let found = Config::parse("app.conf", "", variables);
        let faults = found.err().unwrap_or_default();
        assert!(
            faults[0]
                .0
                .starts_with("variable MQTT_PORT ([mqtt] port) = \"x\"")
        );
    }
}
