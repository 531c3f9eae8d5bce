//! From the settings, one by one, to the whole: what must fit together, and what is odd.

use super::item::{Key, Setting};
use super::items;
use super::source::{Fault, Source};
use super::{Config, Identity, Mqtt, Password, Pem, Permissions, Redis, Tls, Topics};
use crate::model::measurement::BatchLimits;
use crate::model::topic;

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
        Config {
            interval: self.get(&items::INTERVAL_SECONDS),
            batch: BatchLimits {
                max_bytes: self.get(&items::BATCH_MAX_BYTES),
                max_count: self.get(&items::BATCH_MAX_COUNT),
            },
            keep_sent: self.get(&items::KEEP_SENT),
            commands: Permissions {
                commands: self.get(&items::ALLOWED_COMMANDS),
                keys: self.get(&items::CONFIG_KEYS),
            },
            redis: self.redis(),
            mqtt: self.mqtt(&identity),
            identity,
            effective: self.source.shown(),
            warnings: std::mem::take(&mut self.warnings),
        }
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
            password: Password::Text(self.get(&items::MQTT_PASSWORD)),
            tls: self.tls(),
            version: self.get(&items::MQTT_VERSION),
            ack_timeout: self.get(&items::ACK_TIMEOUT_SECONDS),
            reply_qos: self.get(&items::REPLY_QOS),
            topics: self.topics(identity),
        };
        if mqtt.username.is_empty() && mqtt.password.is_set() {
            let text = "[mqtt] password is set without a username; MQTT 3.1.1 does not send it, MQTT 5 does";
            self.warnings.push(text.into());
        }
        mqtt
    }

    fn client_id(&mut self, identity: &Identity) -> String {
        match self.get(&items::CLIENT_ID).as_str() {
            "" if identity.device_uuid == "-1" => {
                let number = (crate::random::random() * 2f64.powi(53)) as u64;
                format!("mqtt-handler-{number:016x}")
            }
            "" => format!("mqtt-handler-{}", identity.device_uuid),
            template => filled(template, identity),
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        let (enable, insecure) = (self.get(&items::TLS_ENABLE), self.get(&items::TLS_INSECURE));
        let ca = self.get(&items::TLS_CA_CERTS);
        let (certificate, key) = (
            self.get(&items::TLS_CERTFILE),
            self.get(&items::TLS_KEYFILE),
        );
        let is_set = |key: &'static Key| !self.source.is_default(key);
        let [ca_set, certificate_set, key_set] = [
            &items::TLS_CA_CERTS.key,
            &items::TLS_CERTFILE.key,
            &items::TLS_KEYFILE.key,
        ]
        .map(is_set);
        if certificate_set != key_set {
            let (there, missing) = match certificate_set {
                true => (&items::TLS_CERTFILE.key, &items::TLS_KEYFILE.key),
                false => (&items::TLS_KEYFILE.key, &items::TLS_CERTFILE.key),
            };
            let missing = missing.name;
            self.fault(
                there,
                &format!("a certificate and its key belong together, set {missing} too"),
            );
        }
        let wanted = enable || ca_set || certificate_set || key_set;
        if insecure && !wanted {
            self.fault(
                &items::TLS_INSECURE.key,
                "TLS is off, so everything would go over the network in clear; set tls_enable too, or leave this one out",
            );
        }
        wanted.then_some(Tls {
            insecure,
            ca: ca.map(|path| Pem::file(&items::TLS_CA_CERTS.key, path)),
            client: certificate.zip(key).map(|(certificate, key)| {
                (
                    Pem::file(&items::TLS_CERTFILE.key, certificate),
                    Pem::file(&items::TLS_KEYFILE.key, key),
                )
            }),
        })
    }

    fn topics(&mut self, identity: &Identity) -> Topics {
        let commands = [&items::TOPIC_BROADCAST, &items::TOPIC_REQUEST].map(|setting| {
            let filter = self.topic(setting, identity, topic::check_filter);
            filter.unwrap_or_default()
        });
        let silent = self.source.is_default(&items::TOPIC_STATUS.key);
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
        let status = match silent {
            true => None,
            false => publish(&items::TOPIC_STATUS),
        };
        Topics {
            commands,
            response,
            values,
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
