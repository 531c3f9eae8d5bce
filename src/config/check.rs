//! From the settings, one by one, to the whole: what must fit together, and what is odd.

use std::path::PathBuf;

use super::item::{Key, Setting};
use super::items;
use super::source::{Fault, Source};
use super::{Config, Identity, Mqtt, Password, Pem, Permissions, Redis, Secret, Tls, Topics};
use crate::model::measurement::BatchLimits;
use crate::model::topic;

/// What most fleets need of `config_keys`, and where a key of their own goes.
const RESTRICTED: &str =
    "config_keys = mqtt_sender:enabled, mqtt_sender:interval, mqtt_sender:last_id, camera:interval";

/// Certificates or a key.
struct Found {
    /// The setting that names it, be it usable or not.
    place: Option<&'static Key>,
    pem: Option<Pem>,
}

/// Reads values and collects the faults. A faulty value is replaced by an arbitrary one, so
/// that the check goes on to the next; the result is then thrown away.
pub struct Check<'a> {
    source: &'a Source,
    pub faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Check<'_> {
    pub fn new(source: &Source) -> Check<'_> {
        Check {
            source,
            faults: source.faults.clone(),
            warnings: source.warnings.clone(),
        }
    }

    pub fn config(&mut self) -> Config {
        let identity = Identity {
            device_uuid: self.get(&items::DEVICE_UUID),
            device_type: self.get(&items::DEVICE_TYPE),
            app_id: self.get(&items::APP_ID),
            app_name: self.get(&items::APP_NAME),
        };
        let commands = self.permissions();
        Config {
            interval: self.get(&items::INTERVAL_SECONDS),
            batch: BatchLimits {
                max_bytes: self.get(&items::BATCH_MAX_BYTES),
                max_count: self.get(&items::BATCH_MAX_COUNT),
                compression: self.get(&items::COMPRESSION),
            },
            keep_sent: self.get(&items::KEEP_SENT),
            catch_up: self.get(&items::CATCH_UP_BYTES_PER_SECOND),
            commands,
            redis: self.redis(),
            mqtt: self.mqtt(&identity),
            identity,
            effective: self.source.shown(),
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    /// The default is that of the Python program, whose fleets rely on it, and it is wide.
    fn permissions(&mut self) -> Permissions {
        let permissions = Permissions {
            commands: self.get(&items::ALLOWED_COMMANDS),
            keys: self.get(&items::CONFIG_KEYS),
        };
        let may = |command| permissions.commands.iter().any(|name| name == command);
        let what = match (may("get_config"), may("set_config")) {
            (true, true) => "read and change",
            (true, false) => "read",
            (false, true) => "change",
            (false, false) => return permissions,
        };
        if permissions.keys.iter().any(|pattern| pattern == "*") {
            self.warnings.push(format!(
                "main.config_keys is *: whoever may publish a command can {what} every string in Redis; a line that restricts it, with a key of another container as an example: {RESTRICTED} (variable {})",
                items::CONFIG_KEYS.key.variable
            ));
        }
        permissions
    }

    fn redis(&mut self) -> Redis {
        let redis = Redis {
            host: self.get(&items::REDIS_HOST),
            port: self.get(&items::REDIS_PORT),
            db: self.get(&items::REDIS_DB),
            username: self.get(&items::REDIS_USERNAME),
            password: self.get(&items::REDIS_PASSWORD),
        };
        if redis.password.is_empty() && !redis.username.is_empty() {
            self.warnings
                .push("[redis] username is set without a password and not used".into());
        }
        redis
    }

    fn mqtt(&mut self, identity: &Identity) -> Mqtt {
        let mqtt = Mqtt {
            host: self.get(&items::MQTT_HOST),
            port: self.get(&items::MQTT_PORT),
            keep_alive: self.get(&items::KEEPALIVE_SECONDS),
            client_id: self.client_id(identity),
            username: self.get(&items::MQTT_USERNAME),
            password: self.password(),
            tls: self.tls(),
            version: self.get(&items::MQTT_VERSION),
            ack_timeout: self.get(&items::ACK_TIMEOUT_SECONDS),
            reply_qos: self.get(&items::REPLY_QOS),
            topics: self.topics(identity),
        };
        if mqtt.password.is_set() && mqtt.tls.is_none() {
            self.warnings.push(format!(
                "{} goes over the network in clear, as everything else does, because TLS is off (see mqtt.tls_enable)",
                mqtt.password.setting()
            ));
        }
        if mqtt.username.is_empty() && mqtt.password.is_set() {
            self.warnings.push(format!(
                "{} is set without a username; MQTT 3.1.1 does not send it, MQTT 5 does",
                mqtt.password.setting()
            ));
        }
        mqtt
    }

    fn client_id(&mut self, identity: &Identity) -> String {
        match self.get(&items::CLIENT_ID).as_str() {
            "" if identity.device_uuid == "-1" => {
                format!("mqtt-handler-{:016x}", crate::random::seed() >> 11)
            }
            "" => format!("mqtt-handler-{}", identity.device_uuid),
            template => filled(template, identity),
        }
    }

    fn password(&mut self) -> Password {
        let text = self.get(&items::MQTT_PASSWORD);
        match self.get(&items::PASSWORD_FILE) {
            None => Password::Text(text),
            Some(file) => {
                self.either(&items::MQTT_PASSWORD.key, &items::PASSWORD_FILE.key);
                Password::File(file)
            }
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        let enable = self.get(&items::TLS_ENABLE);
        let insecure = self.get(&items::TLS_INSECURE);
        let ca = self.pem(&items::TLS_CA_CERTS, &items::TLS_CA_PEM);
        let certificate = self.pem(&items::TLS_CERTFILE, &items::TLS_CERT_PEM);
        let key = self.pem(&items::TLS_KEYFILE, &items::TLS_KEY_PEM);
        let alone = match (certificate.place, key.place) {
            (Some(there), None) => Some((there, "tls_keyfile or tls_key_pem")),
            (None, Some(there)) => Some((there, "tls_certfile or tls_cert_pem")),
            _ => None,
        };
        if let Some((there, missing)) = alone {
            let reason = format!("a certificate and its key belong together, set {missing} too");
            self.fault(there, &reason);
        }
        let used = [ca.place, certificate.place, key.place];
        let wanted = enable || used.iter().any(Option::is_some);
        if insecure && !wanted {
            self.fault(
                &items::TLS_INSECURE.key,
                "TLS is off, so everything would go over the network in clear; set tls_enable too, or leave this one out",
            );
        }
        wanted.then_some(Tls {
            insecure,
            ca: ca.pem,
            client: certificate.pem.zip(key.pem),
        })
    }

    /// Certificates or a key, from a file or from the setting itself.
    fn pem(
        &mut self,
        file: &'static Setting<Option<PathBuf>>,
        text: &'static Setting<Option<Secret>>,
    ) -> Found {
        self.either(&file.key, &text.key);
        let place = [&file.key, &text.key]
            .into_iter()
            .find(|key| !self.source.is_default(key));
        let in_file = self.get(file).map(|path| Pem::file(&file.key, path));
        let in_text = self.get(text).and_then(|pem| {
            Pem::memory(&text.key, &pem)
                .map_err(|reason| self.fault(&text.key, &reason))
                .ok()
        });
        Found {
            place,
            pem: in_file.or(in_text),
        }
    }

    /// Two settings for one thing.
    fn either(&mut self, one: &'static Key, other: &'static Key) {
        if !self.source.is_default(one) && !self.source.is_default(other) {
            let one = one.name;
            let reason = format!("{one} is set as well, and only one of them can count");
            self.fault(other, &reason);
        }
    }

    fn topics(&mut self, identity: &Identity) -> Topics {
        let commands = [&items::TOPIC_BROADCAST, &items::TOPIC_REQUEST].map(|setting| {
            let filter = self.topic(setting, identity, topic::check_filter);
            filter.unwrap_or_default()
        });
        let optional = [&items::TOPIC_LATEST, &items::TOPIC_STATUS];
        let unset = optional.map(|setting| self.source.is_default(&setting.key));
        let mut publish = |setting: &'static Setting<String>| {
            let name = self.topic(setting, identity, topic::check_name)?;
            let heard = |filter: &&String| topic::matches(filter, &name);
            if let Some(filter) = commands.iter().find(heard) {
                self.fault(&setting.key, &format!(
                    "the command topic {filter:?} matches it: what the device publishes there would come back to it as a command"
                ));
            }
            Some(name)
        };
        let response = publish(&items::TOPIC_RESPONSE).unwrap_or_default();
        let values = publish(&items::TOPIC_VALUES).unwrap_or_default();
        let mut publish_unless = |unset, setting| if unset { None } else { publish(setting) };
        let latest = publish_unless(unset[0], optional[0]);
        let status = publish_unless(unset[1], optional[1]);
        let others = [Some(&values), Some(&response), status.as_ref()];
        if latest.is_some() && others.contains(&latest.as_ref()) {
            let reason = "something else is published there: it would take the place of the newest measurement";
            self.fault(&items::TOPIC_LATEST.key, reason);
        }
        Topics {
            commands,
            response,
            values,
            latest,
            status,
        }
    }

    /// A topic with its placeholders filled, if it is a good one.
    fn topic(
        &mut self,
        setting: &'static Setting<String>,
        identity: &Identity,
        check: fn(&str) -> Result<(), &'static str>,
    ) -> Option<String> {
        let template = match self.source.get(setting) {
            Ok(template) => template,
            Err(fault) => {
                self.faults.push(fault);
                return None;
            }
        };
        let topic = filled(&template, identity);
        if let Err(reason) = check(&topic) {
            self.fault(&setting.key, reason);
            return None;
        }
        Some(topic)
    }

    fn get<T: Default>(&mut self, setting: &'static Setting<T>) -> T {
        self.source.get(setting).unwrap_or_else(|fault| {
            self.faults.push(fault);
            T::default()
        })
    }

    fn fault(&mut self, key: &'static Key, reason: &str) {
        self.faults.push(self.source.fault(key, reason));
    }
}

/// Its parser has seen that the placeholders are known.
fn filled(template: &str, identity: &Identity) -> String {
    topic::expand(template, identity).unwrap_or_else(|_| template.to_string())
}
