//! Where a setting comes from: the INI file, the environment, or its default.
//!
//! Values are taken literally. `%`, `#`, `;`, `\` and quotes mean nothing here, so a password
//! needs no escaping; only white space around a value is cut off.

use std::collections::HashMap;
use std::fmt;

/// One setting that exists: its place in the file, its variable and its default.
#[derive(Debug)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub variable: &'static str,
    pub default: &'static str,
    /// Never shown, not even in a message about this very value.
    pub secret: bool,
}

const fn key(
    section: &'static str,
    name: &'static str,
    variable: &'static str,
    default: &'static str,
) -> Key {
    Key {
        section,
        name,
        variable,
        default,
        secret: false,
    }
}

const fn secret(section: &'static str, name: &'static str, variable: &'static str) -> Key {
    Key {
        section,
        name,
        variable,
        default: "",
        secret: true,
    }
}

/// Every setting, in the order in which the README and `app.conf` show them.
pub const KEYS: &[Key] = &[
    key("main", "interval_seconds", "INTERVAL_SECONDS", "1"),
    key("main", "batch_max_count", "BATCH_MAX_COUNT", "1000"),
    key("main", "batch_max_bytes", "BATCH_MAX_BYTES", "65536"),
    key("main", "keep_sent", "KEEP_SENT", ""),
    key("main", "allowed_commands", "ALLOWED_COMMANDS", "all"),
    key("main", "config_keys", "CONFIG_KEYS", "*"),
    key("balena", "device_uuid", "BALENA_DEVICE_UUID", "-1"),
    key("balena", "device_type", "BALENA_DEVICE_TYPE", "dummy"),
    key("balena", "app_id", "BALENA_APP_ID", "-1"),
    key("balena", "app_name", "BALENA_APP_NAME", "Local Test"),
    key("redis", "host", "REDIS_HOST", "localhost"),
    key("redis", "port", "REDIS_PORT", "6379"),
    key("redis", "db", "REDIS_DB", "0"),
    key("redis", "username", "REDIS_USERNAME", ""),
    secret("redis", "password", "REDIS_PASSWORD"),
    key("mqtt", "host", "MQTT_HOST", "localhost"),
    key("mqtt", "port", "MQTT_PORT", "1883"),
    key("mqtt", "keepalive_seconds", "MQTT_KEEPALIVE_SECONDS", "60"),
    key("mqtt", "client_id", "MQTT_CLIENT_ID", ""),
    key("mqtt", "username", "MQTT_USERNAME", ""),
    secret("mqtt", "password", "MQTT_PASSWORD"),
    key("mqtt", "tls_enable", "MQTT_TLS_ENABLE", "False"),
    key("mqtt", "tls_insecure", "MQTT_TLS_INSECURE", "False"),
    key("mqtt", "tls_ca_certs", "MQTT_TLS_CA_CERTS", ""),
    key("mqtt", "tls_certfile", "MQTT_TLS_CERTFILE", ""),
    key("mqtt", "tls_keyfile", "MQTT_TLS_KEYFILE", ""),
    key(
        "mqtt",
        "topic_broadcast",
        "MQTT_TOPIC_BROADCAST",
        "iot-projekt/device/broadcast/control",
    ),
    key(
        "mqtt",
        "topic_request",
        "MQTT_TOPIC_REQUEST",
        "iot-projekt/device/%(device_uuid)s/request",
    ),
    key(
        "mqtt",
        "topic_response",
        "MQTT_TOPIC_RESPONSE",
        "iot-projekt/device/%(device_uuid)s/response",
    ),
    key(
        "mqtt",
        "topic_values",
        "MQTT_TOPIC_VALUES",
        "iot-projekt/device/%(device_uuid)s/values",
    ),
    key("mqtt", "topic_status", "MQTT_TOPIC_STATUS", ""),
    key("mqtt", "version", "MQTT_VERSION", "auto"),
    key(
        "mqtt",
        "ack_timeout_seconds",
        "MQTT_ACK_TIMEOUT_SECONDS",
        "30",
    ),
    key("mqtt", "reply_qos", "MQTT_REPLY_QOS", "0"),
];

/// Where a value was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Default,
    File,
    Variable,
}

/// One setting with its raw value.
#[derive(Clone)]
pub struct Value {
    pub key: &'static Key,
    pub text: String,
    pub origin: Origin,
}

impl Value {
    /// The value as it may be shown to people.
    pub fn shown(&self) -> &str {
        match (self.key.secret, self.text.is_empty()) {
            (true, false) => "***",
            _ => &self.text,
        }
    }
}

/// Something wrong with the configuration, in one line that names the culprit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All raw values, complete: a key that is set nowhere has its default.
pub struct Source {
    pub file: String,
    values: Vec<Value>,
    pub warnings: Vec<String>,
}

impl Source {
    /// Lays the environment over the text of the file over the defaults.
    ///
    /// # Errors
    /// The faults that keep the file from being read as INI.
    pub fn read(
        file: &str,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Source, Vec<Fault>> {
        let (mut entries, warnings) = parse(file, text)?;
        let values = KEYS
            .iter()
            .map(|key| {
                let from_file = entries.remove(&(key.section.into(), key.name.into()));
                // Empty counts as unset in both places: Balena Cloud cannot delete a
                // variable of a fleet for one device, only empty it.
                let (text, origin) = match (variable(key.variable), from_file) {
                    (Some(value), _) if !value.is_empty() => (value, Origin::Variable),
                    (_, Some(value)) if !value.is_empty() => (value, Origin::File),
                    _ => (key.default.to_string(), Origin::Default),
                };
                Value { key, text, origin }
            })
            .collect();
        Ok(Source {
            file: file.to_string(),
            values,
            warnings,
        })
    }

    /// The raw value of a key that is in `KEYS`.
    pub fn get(&self, section: &str, name: &str) -> &Value {
        self.values
            .iter()
            .find(|value| value.key.section == section && value.key.name == name)
            .unwrap_or_else(|| unreachable!("{section}.{name} is missing in KEYS"))
    }

    /// All values in the order of `KEYS`.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Puts a fault into words: where the value came from, the value, what is allowed.
    pub fn fault(&self, value: &Value, allowed: &str) -> Fault {
        let Key {
            section,
            name,
            variable,
            secret,
            ..
        } = value.key;
        let place = match value.origin {
            Origin::Variable => format!("variable {variable} ([{section}] {name})"),
            Origin::File => format!("{}: [{section}] {name} (variable {variable})", self.file),
            Origin::Default => format!("default of [{section}] {name} (variable {variable})"),
        };
        let shown = if *secret {
            "***".into()
        } else {
            format!("{:?}", value.text)
        };
        Fault(format!("{place} = {shown}: {allowed}"))
    }
}

type Entries = HashMap<(String, String), String>;

fn parse(file: &str, text: &str) -> Result<(Entries, Vec<String>), Vec<Fault>> {
    // The parser joins a line that ends in a backslash with the next one, whatever its
    // options say. A blank behind the backslash prevents it and is trimmed off again.
    let text = text.trim_start_matches('\u{feff}').replace("\\\n", "\\ \n");
    let options = ini::ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        ..Default::default()
    };
    let ini = ini::Ini::load_from_str_opt(&text, options)
        .map_err(|error| vec![Fault(format!("{file}, line {}: {}", error.line, error.msg))])?;
    let mut entries = Entries::new();
    let mut warnings = Vec::new();
    let mut faults = Vec::new();
    for (section, properties) in ini.iter() {
        let section = section.unwrap_or("").trim().to_lowercase();
        for (name, value) in properties.iter() {
            if let Some((line, _)) = name.split_once(['\n', '\r']) {
                // Its number and not the line itself: it may be a part of a password.
                let number = text
                    .lines()
                    .position(|other| other.trim() == line.trim())
                    .map_or(0, |at| at + 1);
                faults.push(Fault(format!(
                    "{file}, line {number}: [{section}] expected \"key = value\""
                )));
                continue;
            }
            let name = name.trim().to_lowercase();
            if !KEYS
                .iter()
                .any(|key| key.section == section && key.name == name)
            {
                warnings.push(unknown(file, &section, &name));
            }
            if entries
                .insert((section.clone(), name.clone()), value.trim().to_string())
                .is_some()
            {
                warnings.push(format!(
                    "{file}: [{section}] {name} is set twice, the last one counts"
                ));
            }
        }
    }
    if faults.is_empty() {
        Ok((entries, warnings))
    } else {
        Err(faults)
    }
}

fn unknown(file: &str, section: &str, name: &str) -> String {
    let wanted = format!("{section}.{name}");
    let nearest = KEYS
        .iter()
        .map(|key| {
            (
                distance(&wanted, &format!("{}.{}", key.section, key.name)),
                key,
            )
        })
        .min_by_key(|(distance, key)| (!key.name.starts_with(name), *distance));
    match nearest {
        Some((distance, key)) if key.name.starts_with(name) || distance <= 1 + wanted.len() / 3 => {
            format!(
                "{file}: [{section}] {name} is unknown and ignored; did you mean [{}] {}?",
                key.section, key.name
            )
        }
        _ => format!("{file}: [{section}] {name} is unknown and ignored"),
    }
}

/// Edit distance (Levenshtein), for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Source {
        Source::read("app.conf", text, |_| None).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    #[test]
    fn values_are_taken_literally() {
        for password in [
            r#"a%b#c;d\e"f'g"#,
            "=a=",
            "#a",
            ";a",
            "a # b",
            "'a'",
            "\"a\"",
            r"a\",
            r"\n",
            "%(x)s",
        ] {
            let source = read(&format!("[mqtt]\npassword = {password}\nhost = h\n"));
            assert_eq!(source.get("mqtt", "password").text, password);
            assert_eq!(source.get("mqtt", "host").text, "h", "after {password}");
        }
    }

    #[test]
    fn keys_and_sections_are_read_in_any_case_and_with_windows_line_ends() {
        let source = read("\u{feff}[MQTT]\r\nHost = a\\\r\nPORT=1\r\n");
        assert_eq!(source.get("mqtt", "host").text, "a\\");
        assert_eq!(source.get("mqtt", "port").text, "1");
    }

    #[test]
    fn a_variable_beats_the_file_and_an_empty_one_counts_as_unset() {
        let variables = |name: &str| match name {
            "MQTT_HOST" => Some("from-variable".to_string()),
            "MQTT_PORT" => Some(String::new()),
            _ => None,
        };
        let text = "[mqtt]\nhost = from-file\nport = 77\nusername =\n";
        let source = Source::read("f", text, variables).map_err(|_| ()).unwrap();
        assert_eq!(source.get("mqtt", "host").text, "from-variable");
        assert_eq!(source.get("mqtt", "port").text, "77");
        assert_eq!(source.get("mqtt", "username").origin, Origin::Default);
    }

    #[test]
    fn an_unknown_key_is_warned_about_with_the_nearest_known_name() {
        let source = read("[mqtt]\nkeepalive = 5\n[main]\nzzz = 1\n");
        assert!(source.warnings[0].contains("did you mean [mqtt] keepalive_seconds?"));
        assert_eq!(
            source.warnings[1],
            "app.conf: [main] zzz is unknown and ignored"
        );
    }

    #[test]
    fn a_line_without_a_value_is_a_fault_and_swallows_no_other_key() {
        let faults = Source::read("f", "[mqtt]\nhost\nport = 1\n", |_| None).err();
        let faults = faults.unwrap_or_default();
        assert_eq!(faults[0].0, "f, line 2: [mqtt] expected \"key = value\"");
    }
}
