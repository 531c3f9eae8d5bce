//! Remote commands: what they look like, who may give them, and the replies.
//!
//! Pure. Whatever bytes arrive, the result is a request or a rejection that can be answered.
//! The protocol is the section "Remote commands" of the README.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::{COMMANDS, Permissions};
use crate::model::settings::{parse_interval, parse_last_id};
use crate::model::stream_id::StreamId;
use crate::store;

/// A larger request is not read.
pub const MAX_REQUEST: usize = 64 * 1024;

/// What is asked for, checked and allowed.
#[derive(Debug)]
pub struct Request {
    pub command: Command,
    pub id: Option<Box<RawValue>>,
}

#[derive(Debug)]
pub enum Command {
    Reboot {
        /// Also against an update lock.
        force: bool,
    },
    GetConfig {
        key: String,
    },
    SetConfig {
        key: String,
        /// `None` deletes the key.
        value: Option<String>,
        /// As it was given, for the reply.
        given: Box<RawValue>,
    },
    SendMeasurements {
        /// The first ID and the last, both included.
        range: (StreamId, StreamId),
        count: Option<u64>,
    },
}

/// A request that is not carried out, with what the reply needs.
#[derive(Debug)]
pub struct Rejection {
    pub command: Option<String>,
    pub id: Option<Box<RawValue>>,
    /// One plain sentence.
    pub error: String,
}

/// A reply. Fields that do not apply are left out; `command` always stands there.
#[derive(Debug, Default, Serialize)]
pub struct Reply<'a> {
    pub command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
}

/// The value in a reply: what was read, or what was given.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Value<'a> {
    Read(Option<&'a str>),
    Given(&'a RawValue),
}

impl Reply<'_> {
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and numbers only: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Command::Reboot { .. } => "reboot",
            Command::GetConfig { .. } => "get_config",
            Command::SetConfig { .. } => "set_config",
            Command::SendMeasurements { .. } => "send_measurements",
        }
    }
}

type Fields<'a> = HashMap<String, &'a RawValue>;

/// Reads a request and checks that it is allowed.
///
/// # Errors
/// What is wrong with it, ready to be answered.
pub fn parse(payload: &[u8], permissions: &Permissions) -> Result<Request, Rejection> {
    let nameless = |error: String| Rejection {
        command: None,
        id: None,
        error,
    };
    if payload.len() > MAX_REQUEST {
        return Err(too_large(payload.len()));
    }
    let text =
        std::str::from_utf8(payload).map_err(|_| nameless("the request is not UTF-8".into()))?;
    let fields: Fields = serde_json::from_str(text).map_err(|error| {
        nameless(if serde_json::from_str::<&RawValue>(text).is_ok() {
            "the request is not a JSON object".into()
        } else {
            format!("the request is not JSON: {error}")
        })
    })?;
    let id = fields.get("id").map(|id| (*id).to_owned());
    let given: Option<String> = fields
        .get("command")
        .and_then(|name| serde_json::from_str(name.get()).ok());
    let result = match &given {
        None if fields.contains_key("command") => Err("\"command\" is not a string".into()),
        None => Err("\"command\" is missing".into()),
        Some(name) => command(&name.to_lowercase(), &fields, permissions),
    };
    match result {
        Ok(command) => Ok(Request { command, id }),
        // The name as this program writes it, where it knows it.
        Err(error) => Err(Rejection {
            command: given.map(known_name),
            id,
            error,
        }),
    }
}

/// The rejection of a request that was too large to be kept.
pub fn too_large(bytes: usize) -> Rejection {
    Rejection {
        command: None,
        id: None,
        error: format!("the request has {bytes} bytes, at most {MAX_REQUEST} are read"),
    }
}

fn known_name(given: String) -> String {
    let lower = given.to_lowercase();
    if COMMANDS.contains(&lower.as_str()) {
        lower
    } else {
        given
    }
}

fn command(name: &str, fields: &Fields, permissions: &Permissions) -> Result<Command, String> {
    if !COMMANDS.contains(&name) {
        return Err(format!(
            "unknown command; known are {}",
            COMMANDS.join(", ")
        ));
    }
    if !permissions.commands.iter().any(|allowed| allowed == name) {
        return Err(format!(
            "{name} is not allowed on this device (setting main.allowed_commands)"
        ));
    }
    match name {
        "reboot" => Ok(Command::Reboot {
            force: flag(fields, "force")?,
        }),
        "get_config" => Ok(Command::GetConfig {
            key: key(fields, permissions)?,
        }),
        "set_config" => set_config(key(fields, permissions)?, fields),
        _ => Ok(Command::SendMeasurements {
            range: range(fields)?,
            count: count(fields)?,
        }),
    }
}

/// An optional field; `null` counts as absent.
fn optional<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields
        .get(name)
        .copied()
        .filter(|value| value.get() != "null")
}

fn flag(fields: &Fields, name: &str) -> Result<bool, String> {
    match optional(fields, name).map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(format!("{name:?} is neither true nor false")),
    }
}

fn key(fields: &Fields, permissions: &Permissions) -> Result<String, String> {
    let raw = fields.get("key").ok_or("\"key\" is missing")?;
    let key: String = serde_json::from_str(raw.get()).map_err(|_| "\"key\" is not a string")?;
    if key.is_empty() {
        return Err("\"key\" is empty".into());
    }
    if !permissions.keys.iter().any(|pattern| glob(pattern, &key)) {
        return Err(format!(
            "the key {key:?} is not allowed on this device (setting main.config_keys)"
        ));
    }
    Ok(key)
}

fn set_config(key: String, fields: &Fields) -> Result<Command, String> {
    let given = fields.get("value").ok_or("\"value\" is missing")?;
    let value = match given.get() {
        "null" => None,
        "true" => Some("1".to_string()),
        "false" => Some("0".to_string()),
        text if text.starts_with('"') => Some(
            serde_json::from_str(text)
                .map_err(|error| format!("\"value\" is not a valid string: {error}"))?,
        ),
        text if text.starts_with(['{', '[']) => {
            return Err("\"value\" is neither a string nor a number, true, false or null".into());
        }
        number => Some(number.to_string()),
    };
    if store::OWN_KEYS.contains(&key.as_str()) {
        return Err(format!(
            "the key {key:?} cannot be set: it does not hold a setting"
        ));
    }
    let unusable = match (key.as_str(), &value) {
        (store::INTERVAL, Some(value)) => parse_interval(value).err(),
        (store::LAST_ID, Some(value)) => parse_last_id(value).err(),
        _ => None,
    };
    match unusable {
        Some(reason) => Err(format!("the value is unusable: {reason}")),
        None => Ok(Command::SetConfig {
            key,
            value,
            given: (*given).to_owned(),
        }),
    }
}

fn range(fields: &Fields) -> Result<(StreamId, StreamId), String> {
    let first = bound(fields, "min_id", true)?.unwrap_or(StreamId::ZERO);
    let last = bound(fields, "max_id", false)?.unwrap_or(StreamId::MAX);
    Ok((first, last))
}

/// A bound of a range as Redis reads it: `-`, `+`, an ID, or an ID behind `(`, which excludes
/// it. A bare time stands for its first or its last entry.
fn bound(fields: &Fields, name: &str, lower: bool) -> Result<Option<StreamId>, String> {
    let Some(raw) = optional(fields, name) else {
        return Ok(None);
    };
    let invalid =
        || format!("{name:?} is no stream ID such as 1621122796939-0, and neither - nor +");
    let text = match raw.get() {
        text if text.starts_with('"') => {
            serde_json::from_str::<String>(text).map_err(|_| invalid())?
        }
        number => number.to_string(),
    };
    let text = text.trim();
    if text == "-" || text == "+" {
        return Ok(Some(if text == "-" {
            StreamId::ZERO
        } else {
            StreamId::MAX
        }));
    }
    let (text, exclusive) = match text.strip_prefix('(') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut id: StreamId = text.parse().map_err(|_| invalid())?;
    if !lower && !text.contains('-') && !exclusive {
        id.seq = u64::MAX;
    }
    Ok(Some(match (exclusive, lower) {
        (false, _) => id,
        (true, true) => id.next(),
        (true, false) => id.before(),
    }))
}

fn count(fields: &Fields) -> Result<Option<u64>, String> {
    let Some(raw) = optional(fields, "count") else {
        return Ok(None);
    };
    let text = raw.get();
    let text = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_string());
    match text.trim().parse() {
        Ok(count) => Ok(Some(count)),
        Err(_) => Err("\"count\" is no whole number from 0".into()),
    }
}

/// Whether a pattern with `*` (any characters) and `?` (one character) matches all of a text.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last * stands, and up to where it has been tried.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, tried)) => {
                    star = Some((at, tried + 1));
                    p = at + 1;
                    t = tried + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Permissions {
        Permissions {
            commands: COMMANDS.map(String::from).to_vec(),
            keys: vec!["*".into()],
        }
    }

    fn error(text: &str) -> (Option<String>, String) {
        let rejection = parse(text.as_bytes(), &all()).expect_err(text);
        (rejection.command, rejection.error)
    }

    #[test]
    fn commands_are_matched_without_regard_to_case() {
        for name in ["reboot", "REBOOT", "ReBoot"] {
            let request = parse(format!(r#"{{"command":"{name}"}}"#).as_bytes(), &all()).unwrap();
            assert!(matches!(request.command, Command::Reboot { force: false }));
        }
    }

    #[test]
    fn what_cannot_be_read_is_answered_without_a_name() {
        for (text, reason) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "not a JSON object"),
            ("\"reboot\"", "not a JSON object"),
            ("{}", "\"command\" is missing"),
            (r#"{"command":7}"#, "\"command\" is not a string"),
        ] {
            let (command, error) = error(text);
            assert_eq!(command, None);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn an_id_is_kept_to_the_letter() {
        for id in [
            "null",
            "1.50",
            "12345678901234567890123",
            r#"{"a":[1, 2]}"#,
            "\"x\"",
        ] {
            let text = format!(r#"{{"id":{id},"command":"dance"}}"#);
            let rejection = parse(text.as_bytes(), &all()).unwrap_err();
            assert_eq!(
                rejection.id.map(|id| id.get().to_string()).as_deref(),
                Some(id)
            );
            assert_eq!(rejection.command.as_deref(), Some("dance"));
        }
    }

    #[test]
    fn values_become_the_text_that_is_stored() {
        for (given, stored) in [
            ("\"a\"", Some("a")),
            ("5", Some("5")),
            ("-1.50", Some("-1.50")),
            ("true", Some("1")),
            ("false", Some("0")),
            ("null", None),
        ] {
            let text = format!(r#"{{"command":"set_config","key":"k","value":{given}}}"#);
            let Command::SetConfig { value, .. } = parse(text.as_bytes(), &all()).unwrap().command
            else {
                panic!("{given}");
            };
            assert_eq!(value.as_deref(), stored);
        }
    }

    #[test]
    fn own_settings_take_usable_values_only_and_own_records_none() {
        for (key, value, good) in [
            ("mqtt_sender:interval", "0.5", true),
            ("mqtt_sender:interval", "\"abc\"", false),
            ("mqtt_sender:interval", "-3", false),
            ("mqtt_sender:interval", "null", true),
            ("mqtt_sender:last_id", "\"$\"", true),
            ("mqtt_sender:last_id", "1621122796939", true),
            ("mqtt_sender:last_id", "\"foo\"", false),
            ("mqtt_sender:enabled", "false", true),
            ("mqtt_sender:status", "\"x\"", false),
            ("measurement:values", "null", false),
        ] {
            let text = format!(r#"{{"command":"set_config","key":"{key}","value":{value}}}"#);
            assert_eq!(parse(text.as_bytes(), &all()).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn ranges_are_read_as_redis_reads_them() {
        let range = |text: &str| {
            let text = format!(r#"{{"command":"send_measurements",{text}}}"#);
            match parse(text.as_bytes(), &all()) {
                Ok(Request {
                    command: Command::SendMeasurements { range, count },
                    ..
                }) => Ok((range, count)),
                Ok(other) => panic!("{other:?}"),
                Err(rejection) => Err(rejection.error),
            }
        };
        let (zero, max) = (StreamId::ZERO, StreamId::MAX);
        assert_eq!(range(r#""min_id":null"#), Ok(((zero, max), None)));
        assert_eq!(
            range(r#""min_id":"-","max_id":"+","count":"7""#),
            Ok(((zero, max), Some(7)))
        );
        assert_eq!(
            range(r#""min_id":5,"max_id":6,"count":0"#),
            Ok(((StreamId::new(5, 0), StreamId::new(6, u64::MAX)), Some(0)))
        );
        assert_eq!(
            range(r#""min_id":"(5-1","max_id":"(6-0""#),
            Ok(((StreamId::new(5, 2), StreamId::new(5, u64::MAX)), None))
        );
        for bad in [
            r#""min_id":"x""#,
            r#""max_id":1.5"#,
            r#""min_id":true"#,
            r#""count":-1"#,
            r#""count":"many""#,
        ] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn permissions_restrict_commands_and_keys() {
        let some = Permissions {
            commands: vec!["get_config".into()],
            keys: vec!["sensor:?:*".into()],
        };
        let allowed = |text: &str| parse(text.as_bytes(), &some).is_ok();
        assert!(allowed(r#"{"command":"get_config","key":"sensor:1:rate"}"#));
        assert!(!allowed(
            r#"{"command":"get_config","key":"sensor:12:rate"}"#
        ));
        assert!(!allowed(r#"{"command":"reboot"}"#));
    }

    #[test]
    fn globs_match_the_whole_text() {
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "abc"),
            ("a*c", "ac"),
            ("*a*b*", "xaxbx"),
            ("ü?", "üß"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "ab"),
            ("?", ""),
            ("a*c", "abd"),
            ("*ab", "aab c"),
        ] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = format!(
            r#"{{"command":"reboot","x":{}{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        assert!(parse(deep.as_bytes(), &all()).is_ok());
        let deep = format!(
            r#"{{"command":{}{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        assert!(parse(deep.as_bytes(), &all()).is_err());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let word = prop_oneof![
            Just("reboot".to_string()),
            Just("SET_config".to_string()),
            Just("get_config".to_string()),
            Just("send_measurements".to_string()),
            Just("mqtt_sender:interval".to_string()),
            ".{0,8}",
        ];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            word.clone().prop_map(serde_json::Value::from),
        ];
        let names = prop_oneof![
            4 => prop::sample::select(vec!["command", "key", "value", "id", "min_id", "max_id", "count", "force"])
                .prop_map(String::from),
            1 => word,
        ];
        leaf.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::hash_map(names.clone(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// A command, or an error that can be answered as JSON.
    fn always_answered(payload: &[u8]) {
        if let Err(rejection) = parse(payload, &all()) {
            assert!(!rejection.error.is_empty());
            let reply = Reply {
                command: rejection.command.as_deref(),
                error: Some(&rejection.error),
                id: rejection.id.as_deref(),
                ..Reply::default()
            };
            let reply: serde_json::Value =
                serde_json::from_slice(&reply.to_json()).expect("a reply");
            assert!(reply.get("error").is_some() && reply.get("command").is_some());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 50_000, failure_persistence: None, ..Default::default() })]
        #[test]
        fn arbitrary_bytes_become_a_command_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            always_answered(&payload);
        }

        #[test]
        fn arbitrary_json_becomes_a_command_or_an_error(value in json()) {
            always_answered(value.to_string().as_bytes());
        }
    }
}
