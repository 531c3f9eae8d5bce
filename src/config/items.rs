//! Every setting there is, and no other place lists them.
//!
//! An item is: section, name, variable, default; words; parser; examples for its test. A value
//! that is empty counts as unset, so a parser sees an empty text only as a default.

use std::path::PathBuf;
use std::time::Duration;

use super::Version;
use super::item::{Key, Setting, settings};
use super::parse;
use super::pem::{self, Kind};
use super::secret::Secret;
use crate::model::compression::Compression;

settings! {
    INTERVAL_SECONDS: Duration {
        "main", "interval_seconds", "INTERVAL_SECONDS", "1",
        about: "seconds between two sends, from 0.01; 0: push, each measurement at once",
        allowed: "a number of seconds from 0 to 1000000000",
        parse: parse::interval,
        takes: ["0", "0.001", "0.5", "2", "1e9"],
        refuses: ["soon", "-1", "NaN", "inf", "1e10", "1,5"],
    }
    BATCH_MAX_COUNT: usize {
        "main", "batch_max_count", "BATCH_MAX_COUNT", "1000",
        about: "measurements in one list, at most",
        allowed: "a whole number from 1 to 100000",
        parse: |text| parse::whole(text, 1..=100_000),
        takes: ["1", "100000"],
        refuses: ["0", "100001", "-1", "1.5", "many"],
    }
    BATCH_MAX_BYTES: usize {
        "main", "batch_max_bytes", "BATCH_MAX_BYTES", "65536",
        about: "bytes of one list, at most; a single larger measurement goes alone",
        allowed: "a whole number from 128 to 100000000",
        parse: |text| parse::whole(text, 128..=100_000_000),
        takes: ["128", "100000000"],
        refuses: ["127", "100000001", "64k"],
    }
    COMPRESSION: Compression {
        "main", "compression", "COMPRESSION", "none",
        about: "`gzip`: each list as one gzip member, a tenth of the bytes and less; `batch_max_bytes` then counts those",
        allowed: "one of none, gzip",
        parse: parse::compression,
        takes: ["gzip", "GZIP"],
        refuses: ["zstd", "true", "gz"],
    }
    CATCH_UP_BYTES_PER_SECOND: u64 {
        "main", "catch_up_bytes_per_second", "CATCH_UP_BYTES_PER_SECOND", "0",
        about: "bytes of payload a second while more waits than one list takes; 0: no limit",
        allowed: "a whole number from 0 to 1000000000",
        parse: |text| parse::whole(text, 0..=1_000_000_000),
        takes: ["1", "1000000000"],
        refuses: ["-1", "1000000001", "1.5", "10k"],
    }
    KEEP_SENT: Option<u64> {
        "main", "keep_sent", "KEEP_SENT", "",
        about: "sent measurements that stay in the stream; empty: never trim",
        allowed: "a whole number from 0 to 1000000000",
        parse: |text| parse::optional(text, |text| parse::whole(text, 0..=1_000_000_000)),
        takes: ["0", "1000000000"],
        refuses: ["-1", "1000000001", "all"],
    }
    ALLOWED_COMMANDS: Vec<String> {
        "main", "allowed_commands", "ALLOWED_COMMANDS", "all",
        about: "remote commands: `all`, `none`, or names, comma separated",
        allowed: "all, none, or names of commands",
        parse: parse::commands,
        takes: ["none", "Reboot, get_config", "get_config,,"],
        refuses: ["dance", "reboot dance", "reboot, dance"],
    }
    CONFIG_KEYS: Vec<String> {
        "main", "config_keys", "CONFIG_KEYS", "*",
        about: "Redis keys that remote commands may touch: glob patterns, comma separated",
        allowed: "glob patterns, comma separated",
        parse: |text| Ok(parse::list(text)),
        takes: ["mqtt_sender:*, sensor:?:rate"],
        refuses: [],
    }
    DEVICE_UUID: String {
        "balena", "device_uuid", "BALENA_DEVICE_UUID", "-1",
        about: "set by balena",
        allowed: "a text",
        parse: parse::text,
        takes: ["6f2b9c0e1d"],
        refuses: [],
    }
    DEVICE_TYPE: String {
        "balena", "device_type", "BALENA_DEVICE_TYPE", "dummy",
        about: "set by balena",
        allowed: "a text",
        parse: parse::text,
        takes: ["raspberrypi4-64"],
        refuses: [],
    }
    APP_ID: String {
        "balena", "app_id", "BALENA_APP_ID", "-1",
        about: "set by balena",
        allowed: "a text",
        parse: parse::text,
        takes: ["1234567"],
        refuses: [],
    }
    APP_NAME: String {
        "balena", "app_name", "BALENA_APP_NAME", "Local Test",
        about: "set by balena",
        allowed: "a text",
        parse: parse::text,
        takes: ["Weather Stations"],
        refuses: [],
    }
    REDIS_HOST: String {
        "redis", "host", "REDIS_HOST", "localhost",
        about: "the Redis of the device",
        allowed: "a name or an address",
        parse: parse::text,
        takes: ["redis", "127.0.0.1", "::1"],
        refuses: [],
    }
    REDIS_PORT: u16 {
        "redis", "port", "REDIS_PORT", "6379",
        about: "its port",
        allowed: "a whole number from 1 to 65535",
        parse: |text| parse::whole(text, 1..=65535),
        takes: ["1", "65535"],
        refuses: ["0", "65536", "http"],
    }
    REDIS_DB: i64 {
        "redis", "db", "REDIS_DB", "0",
        about: "number of its database",
        allowed: "a whole number from 0 to 65535",
        parse: |text| parse::whole(text, 0..=65535),
        takes: ["1", "65535"],
        refuses: ["-1", "65536", "x"],
    }
    REDIS_USERNAME: String {
        "redis", "username", "REDIS_USERNAME", "",
        about: "used only together with a password",
        allowed: "a text",
        parse: parse::text,
        takes: ["mqtt-handler"],
        refuses: [],
    }
    REDIS_PASSWORD: Secret {
        "redis", "password", "REDIS_PASSWORD", "",
        secret: true,
        about: "empty: no authentication",
        allowed: "a text",
        parse: parse::secret,
        takes: ["s3cr%t#1"],
        refuses: [],
    }
    MQTT_HOST: String {
        "mqtt", "host", "MQTT_HOST", "localhost",
        about: "the broker",
        allowed: "a name or an address",
        parse: parse::text,
        takes: ["broker.example.com", "192.0.2.1", "2001:db8::1"],
        refuses: [],
    }
    MQTT_PORT: u16 {
        "mqtt", "port", "MQTT_PORT", "1883",
        about: "its port; 8883 is usual for TLS",
        allowed: "a whole number from 1 to 65535",
        parse: |text| parse::whole(text, 1..=65535),
        takes: ["1", "8883", "65535"],
        refuses: ["0", "65536", "mqtts"],
    }
    KEEPALIVE_SECONDS: Duration {
        "mqtt", "keepalive_seconds", "MQTT_KEEPALIVE_SECONDS", "60",
        about: "seconds of silence after which the connection is probed",
        allowed: "a whole number from 1 to 65535",
        parse: |text| parse::seconds(text, 1..=65535),
        takes: ["1", "65535"],
        refuses: ["0", "65536", "1.5"],
    }
    CLIENT_ID: String {
        "mqtt", "client_id", "MQTT_CLIENT_ID", "",
        about: "empty: `mqtt-handler-<uuid>`, random while the uuid is -1",
        allowed: "a text",
        parse: parse::template,
        takes: ["bridge-%(device_uuid)s", "100%%"],
        refuses: ["%(uuid)s", "100%"],
    }
    MQTT_USERNAME: String {
        "mqtt", "username", "MQTT_USERNAME", "",
        about: "empty: none",
        allowed: "a text",
        parse: parse::text,
        takes: ["%(not a placeholder)s"],
        refuses: [],
    }
    MQTT_PASSWORD: Secret {
        "mqtt", "password", "MQTT_PASSWORD", "",
        secret: true,
        about: "empty: none",
        allowed: "a text",
        parse: parse::secret,
        takes: ["a%b#c;d"],
        refuses: [],
    }
    PASSWORD_FILE: Option<PathBuf> {
        "mqtt", "password_file", "MQTT_PASSWORD_FILE", "",
        about: "read at every connect, in place of `password`: a token that expires",
        allowed: "a file",
        parse: parse::file,
        takes: ["/run/token"],
        refuses: [],
    }
    TLS_ENABLE: bool {
        "mqtt", "tls_enable", "MQTT_TLS_ENABLE", "False",
        about: "also on when a CA, a certificate or a key is set",
        allowed: "one of true, 1, yes, on, false, 0, no, off",
        parse: parse::boolean,
        takes: ["True", "1", "yes", "ON", "false", "0", "no", "off"],
        refuses: ["maybe", "2"],
    }
    TLS_INSECURE: bool {
        "mqtt", "tls_insecure", "MQTT_TLS_INSECURE", "False",
        about: "accept any certificate; for tests only",
        allowed: "one of true, 1, yes, on, false, 0, no, off",
        parse: parse::boolean,
        takes: ["True", "no"],
        refuses: ["maybe"],
    }
    TLS_CA_CERTS: Option<PathBuf> {
        "mqtt", "tls_ca_certs", "MQTT_TLS_CA_CERTS", "",
        about: "PEM file with the CAs; empty: those of the system",
        allowed: "a file with certificates in PEM form",
        parse: |text| parse::pem_file(text, Kind::Certificates),
        takes: [],
        refuses: ["/nowhere/ca.pem", "/dev/null"],
    }
    TLS_CERTFILE: Option<PathBuf> {
        "mqtt", "tls_certfile", "MQTT_TLS_CERTFILE", "",
        about: "PEM file with the client certificate, together with the key",
        allowed: "a file with certificates in PEM form",
        parse: |text| parse::pem_file(text, Kind::Certificates),
        takes: [],
        refuses: ["/nowhere/device.pem", "/dev/null"],
    }
    TLS_KEYFILE: Option<PathBuf> {
        "mqtt", "tls_keyfile", "MQTT_TLS_KEYFILE", "",
        about: "PEM file with its key, not encrypted",
        allowed: "a file with a private key in PEM form",
        parse: |text| parse::pem_file(text, Kind::PrivateKey),
        takes: [],
        refuses: ["/nowhere/device.key", "/dev/null"],
    }
    TLS_CA_PEM: Option<Secret> {
        "mqtt", "tls_ca_pem", "MQTT_TLS_CA_PEM", "",
        secret: true,
        about: "the PEM text itself, or base64 of it, in place of `tls_ca_certs`",
        allowed: "certificates in PEM form",
        parse: |text| pem::parse(text, Kind::Certificates),
        takes: [],
        refuses: ["/certs/ca.pem", "aGVsbG8="],
    }
    TLS_CERT_PEM: Option<Secret> {
        "mqtt", "tls_cert_pem", "MQTT_TLS_CERT_PEM", "",
        secret: true,
        about: "the same in place of `tls_certfile`",
        allowed: "certificates in PEM form",
        parse: |text| pem::parse(text, Kind::Certificates),
        takes: [],
        refuses: ["/certs/device.pem"],
    }
    TLS_KEY_PEM: Option<Secret> {
        "mqtt", "tls_key_pem", "MQTT_TLS_KEY_PEM", "",
        secret: true,
        about: "the same in place of `tls_keyfile`",
        allowed: "a private key in PEM form",
        parse: |text| pem::parse(text, Kind::PrivateKey),
        takes: [],
        refuses: ["/certs/device.key"],
    }
    TOPIC_BROADCAST: String {
        "mqtt", "topic_broadcast", "MQTT_TOPIC_BROADCAST", "iot-projekt/device/broadcast/control",
        about: "commands to all devices",
        allowed: "a topic",
        parse: parse::template,
        takes: ["fleet/all/control", "fleet/+/control"],
        refuses: ["fleet/%(uuid)s/control"],
    }
    TOPIC_REQUEST: String {
        "mqtt", "topic_request", "MQTT_TOPIC_REQUEST", "iot-projekt/device/%(device_uuid)s/request",
        about: "commands to this device",
        allowed: "a topic",
        parse: parse::template,
        takes: ["fleet/%(device_uuid)s/request"],
        refuses: ["fleet/%(uuid)s/request"],
    }
    TOPIC_RESPONSE: String {
        "mqtt", "topic_response", "MQTT_TOPIC_RESPONSE", "iot-projekt/device/%(device_uuid)s/response",
        about: "replies",
        allowed: "a topic",
        parse: parse::template,
        takes: ["fleet/%(device_uuid)s/response"],
        refuses: ["fleet/%d/response"],
    }
    TOPIC_VALUES: String {
        "mqtt", "topic_values", "MQTT_TOPIC_VALUES", "iot-projekt/device/%(device_uuid)s/values",
        about: "measurements",
        allowed: "a topic",
        parse: parse::template,
        takes: ["fleet/%(app_name)s/%(app_id)s/%(device_type)s"],
        refuses: ["a/%(uuid)s"],
    }
    TOPIC_LATEST: String {
        "mqtt", "topic_latest", "MQTT_TOPIC_LATEST", "",
        about: "the newest measurement alone, retained; empty: off",
        allowed: "a topic",
        parse: parse::template,
        takes: ["fleet/%(device_uuid)s/latest"],
        refuses: ["a/%s"],
    }
    TOPIC_STATUS: String {
        "mqtt", "topic_status", "MQTT_TOPIC_STATUS", "",
        about: "the status, retained, with a last will; empty: off",
        allowed: "a topic",
        parse: parse::template,
        takes: ["fleet/%(device_uuid)s/status"],
        refuses: ["a/%s"],
    }
    MQTT_VERSION: Version {
        "mqtt", "version", "MQTT_VERSION", "auto",
        about: "`auto`: MQTT 5, and 3.1.1 for a broker that does not speak it",
        allowed: "one of auto, 5, 3.1.1",
        parse: parse::version,
        takes: ["5", "3.1.1", "AUTO"],
        refuses: ["4", "3.1"],
    }
    ACK_TIMEOUT_SECONDS: Duration {
        "mqtt", "ack_timeout_seconds", "MQTT_ACK_TIMEOUT_SECONDS", "30",
        about: "seconds to wait for an acknowledgement before the connection is made anew",
        allowed: "a whole number from 1 to 3600",
        parse: |text| parse::seconds(text, 1..=3600),
        takes: ["1", "3600"],
        refuses: ["0", "3601"],
    }
    REPLY_QOS: i32 {
        "mqtt", "reply_qos", "MQTT_REPLY_QOS", "0",
        about: "QoS of replies to commands",
        allowed: "one of 0, 1",
        parse: |text| parse::whole(text, 0..=1),
        takes: ["1"],
        refuses: ["2", "-1"],
    }
}

#[cfg(test)]
mod tests {
    use super::KEYS;

    #[test]
    fn no_name_and_no_variable_is_used_twice() {
        for (n, key) in KEYS.iter().enumerate() {
            for other in &KEYS[n + 1..] {
                assert_ne!((key.section, key.name), (other.section, other.name));
                assert_ne!(key.variable, other.variable);
            }
        }
    }
}
