//! The configuration: one validated type, made from the INI file and the environment.
//!
//! All faults are collected before the program gives up, so that a person on a slow line to a
//! device needs one attempt and not ten. The table in the README is the list of settings.

mod source;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::model::measurement::BatchLimits;
use crate::model::settings::MAX_INTERVAL_SECONDS;
use crate::model::topic;
pub use crate::model::topic::Identity;
use source::Source;
pub use source::{Fault, KEYS, Origin, Value};

/// The whole configuration, checked.
pub struct Config {
    pub interval: Duration,
    pub batch: BatchLimits,
    /// Trim the stream to this many sent entries after each confirmation; `None`: never.
    pub keep_sent: Option<u64>,
    pub commands: Permissions,
    pub identity: Identity,
    pub redis: Redis,
    pub mqtt: Mqtt,
    /// Every setting as text, for the log and `--check`.
    pub effective: Vec<Value>,
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
    pub password: String,
}

/// How to reach the broker, and what to say there.
#[derive(Clone)]
pub struct Mqtt {
    pub host: String,
    pub port: u16,
    pub keep_alive: Duration,
    pub client_id: String,
    pub username: String,
    pub password: String,
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
    /// `None`: no status is published.
    pub status: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Tls {
    /// Accept any certificate of the broker.
    pub insecure: bool,
    /// `None`: the CAs of the system.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Which protocol to speak with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 5, and 3.1.1 where the broker does not speak it.
    Auto,
    V5,
    V311,
}

/// The commands there are, as `allowed_commands` names them.
pub const COMMANDS: [&str; 4] = ["reboot", "get_config", "set_config", "send_measurements"];

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
        Config::parse(&file, &text, |name| std::env::var(name).ok())
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
        let source = Source::read(file, text, variable)?;
        let mut check = Check {
            source: &source,
            faults: Vec::new(),
        };
        let config = check.config();
        if check.faults.is_empty() {
            Ok(config)
        } else {
            Err(check.faults)
        }
    }
}

/// Reads values of their types and collects the faults. A faulty value is replaced by an
/// arbitrary one, so that the check goes on to the next; the result is then thrown away.
struct Check<'a> {
    source: &'a Source,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn config(&mut self) -> Config {
        let identity = Identity {
            device_uuid: self.text("balena", "device_uuid"),
            device_type: self.text("balena", "device_type"),
            app_id: self.text("balena", "app_id"),
            app_name: self.text("balena", "app_name"),
        };
        let seconds = self.number(
            "main",
            "interval_seconds",
            0.0..=MAX_INTERVAL_SECONDS,
            "seconds",
        );
        let mut config = Config {
            interval: Duration::from_secs_f64(seconds),
            batch: BatchLimits {
                max_bytes: self.whole("main", "batch_max_bytes", 128..=100_000_000) as usize,
                max_count: self.whole("main", "batch_max_count", 1..=100_000) as usize,
            },
            keep_sent: match self.text("main", "keep_sent").as_str() {
                "" => None,
                _ => Some(self.whole("main", "keep_sent", 0..=1_000_000_000)),
            },
            commands: self.permissions(),
            redis: Redis {
                host: self.text("redis", "host"),
                port: self.whole("redis", "port", 1..=65535) as u16,
                db: self.whole("redis", "db", 0..=65535) as i64,
                username: self.text("redis", "username"),
                password: self.text("redis", "password"),
            },
            mqtt: self.mqtt(&identity),
            identity,
            effective: self.source.values().to_vec(),
            warnings: self.source.warnings.clone(),
        };
        if config.redis.password.is_empty() && !config.redis.username.is_empty() {
            config
                .warnings
                .push("[redis] username is set without a password and not used".into());
        }
        if config.mqtt.username.is_empty() && !config.mqtt.password.is_empty() {
            let text = "[mqtt] password is set without a username; MQTT 3.1.1 does not send it, MQTT 5 does";
            config.warnings.push(text.into());
        }
        config
    }

    fn mqtt(&mut self, identity: &Identity) -> Mqtt {
        let tls = self.tls();
        let client_id = match self.text("mqtt", "client_id").as_str() {
            "" if identity.device_uuid == "-1" => {
                format!(
                    "mqtt-handler-{:016x}",
                    (crate::random::random() * 2f64.powi(53)) as u64
                )
            }
            "" => format!("mqtt-handler-{}", identity.device_uuid),
            _ => self.expanded("client_id", identity),
        };
        Mqtt {
            host: self.text("mqtt", "host"),
            port: self.whole("mqtt", "port", 1..=65535) as u16,
            keep_alive: Duration::from_secs(self.whole("mqtt", "keepalive_seconds", 1..=65535)),
            client_id,
            username: self.text("mqtt", "username"),
            password: self.text("mqtt", "password"),
            tls,
            version: self.one_of(
                "mqtt",
                "version",
                &[
                    ("auto", Version::Auto),
                    ("5", Version::V5),
                    ("3.1.1", Version::V311),
                ],
            ),
            ack_timeout: Duration::from_secs(self.whole("mqtt", "ack_timeout_seconds", 1..=3600)),
            reply_qos: self.one_of("mqtt", "reply_qos", &[("0", 0), ("1", 1)]),
            topics: self.topics(identity),
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        let enable = self.boolean("tls_enable");
        let insecure = self.boolean("tls_insecure");
        let [ca, cert, key] =
            ["tls_ca_certs", "tls_certfile", "tls_keyfile"].map(|name| self.file(name));
        if cert.is_some() != key.is_some() {
            let (there, missing) = match cert {
                Some(_) => ("tls_certfile", "tls_keyfile"),
                None => ("tls_keyfile", "tls_certfile"),
            };
            self.fault(
                "mqtt",
                there,
                &format!("a certificate and its key belong together, set {missing} too"),
            );
        }
        let wanted = enable || ca.is_some() || cert.is_some() || key.is_some();
        wanted.then_some(Tls {
            insecure,
            ca,
            client: cert.zip(key),
        })
    }

    fn topics(&mut self, identity: &Identity) -> Topics {
        let commands = ["topic_broadcast", "topic_request"].map(|name| {
            let filter = self.expanded(name, identity);
            if let Err(reason) = topic::check_filter(&filter) {
                self.fault("mqtt", name, reason);
            }
            filter
        });
        let [response, values, status] = ["topic_response", "topic_values", "topic_status"].map(|name| {
            let topic = self.expanded(name, identity);
            if name == "topic_status" && topic.is_empty() {
                return topic;
            }
            if let Err(reason) = topic::check_name(&topic) {
                self.fault("mqtt", name, reason);
            } else if let Some(filter) = commands.iter().find(|filter| topic::matches(filter, &topic)) {
                self.fault("mqtt", name, &format!(
                    "the command topic {filter:?} matches it: what the device publishes there would come back to it as a command"
                ));
            }
            topic
        });
        Topics {
            commands,
            response,
            values,
            status: (!status.is_empty()).then_some(status),
        }
    }

    fn permissions(&mut self) -> Permissions {
        let list = |text: String| -> Vec<String> {
            text.split(',')
                .map(|item| item.trim().to_string())
                .filter(|item| !item.is_empty())
                .collect()
        };
        let mut commands: Vec<String> = Vec::new();
        for name in list(self.text("main", "allowed_commands").to_lowercase()) {
            match name.as_str() {
                "all" => commands.extend(COMMANDS.map(String::from)),
                "none" => {}
                name if COMMANDS.contains(&name) => commands.push(name.to_string()),
                name => {
                    let known = COMMANDS.join(", ");
                    self.fault(
                        "main",
                        "allowed_commands",
                        &format!("{name:?} is none of all, none, {known}"),
                    );
                }
            }
        }
        Permissions {
            commands,
            keys: list(self.text("main", "config_keys")),
        }
    }

    fn text(&self, section: &str, name: &str) -> String {
        self.source.get(section, name).text.clone()
    }

    fn fault(&mut self, section: &str, name: &str, allowed: &str) {
        let value = self.source.get(section, name);
        self.faults.push(self.source.fault(value, allowed));
    }

    fn number(&mut self, section: &str, name: &str, range: RangeInclusive<f64>, unit: &str) -> f64 {
        self.ranged(section, name, range, &format!("a number of {unit}"))
    }

    fn whole(&mut self, section: &str, name: &str, range: RangeInclusive<u64>) -> u64 {
        self.ranged(section, name, range, "a whole number")
    }

    fn ranged<T: FromStr + PartialOrd + Display + Copy>(
        &mut self,
        section: &str,
        name: &str,
        range: RangeInclusive<T>,
        what: &str,
    ) -> T {
        match self.text(section, name).parse::<T>() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (from, to) = (range.start(), range.end());
                self.fault(
                    section,
                    name,
                    &format!("expected {what} from {from} to {to}"),
                );
                *range.start()
            }
        }
    }

    fn one_of<T: Copy>(&mut self, section: &str, name: &str, choices: &[(&str, T)]) -> T {
        let text = self.text(section, name).to_lowercase();
        if let Some((_, value)) = choices.iter().find(|(choice, _)| *choice == text) {
            return *value;
        }
        let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        self.fault(
            section,
            name,
            &format!("expected one of {}", names.join(", ")),
        );
        choices[0].1
    }

    fn boolean(&mut self, name: &str) -> bool {
        self.one_of(
            "mqtt",
            name,
            &[
                ("true", true),
                ("1", true),
                ("yes", true),
                ("on", true),
                ("false", false),
                ("0", false),
                ("no", false),
                ("off", false),
            ],
        )
    }

    /// A file that must be there and readable, or nothing.
    fn file(&mut self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text("mqtt", name));
        if path.as_os_str().is_empty() {
            return None;
        }
        if let Err(error) = std::fs::read(&path) {
            self.fault("mqtt", name, &format!("the file cannot be read: {error}"));
        }
        Some(path)
    }

    fn expanded(&mut self, name: &str, identity: &Identity) -> String {
        topic::expand(&self.text("mqtt", name), identity).unwrap_or_else(|placeholder| {
            self.fault("mqtt", name, &format!(
                "unknown placeholder {placeholder:?}; known are %(device_uuid)s, %(device_type)s, %(app_id)s, %(app_name)s, and %% for a percent sign"
            ));
            // Harmless wherever a topic is checked next.
            "-".into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                max_count: 1000
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
    fn a_value_from_the_environment_is_blamed_on_its_variable() {
        let variables = |name: &str| (name == "MQTT_PORT").then(|| "x".to_string());
        let faults = Config::parse("app.conf", "", variables)
            .err()
            .unwrap_or_default();
        assert!(
            faults[0]
                .0
                .starts_with("variable MQTT_PORT ([mqtt] port) = \"x\"")
        );
    }
}
