//! `{"command":"set_config","key":K,"value":V}`: sets a string of Redis, or deletes it.
//!
//! Redis holds the measurements that wait, on flash memory that wears: what is stored for a
//! remote side is small, seldom, and nothing once the room becomes scarce.

use std::time::Instant;

use serde_json::value::RawValue;

use super::Context;
use super::limits::{MAX_VALUE, MEMORY_PERCENT, SETS_PER_SECOND, TokenBucket};
use super::reply::{Reply, ReplyValue};
use super::request::Fields;
use crate::config::Permissions;
use crate::model::quote::Quoted;
use crate::model::settings::{self, parse_interval, parse_last_id};
use crate::store;

pub const NAME: &str = "set_config";

#[derive(Debug)]
pub struct SetConfig {
    key: String,
    /// `None` deletes the key.
    value: Option<String>,
    /// As it was given, for the reply.
    given: Box<RawValue>,
}

impl SetConfig {
    pub fn parse(fields: &Fields, permissions: &Permissions) -> Result<SetConfig, String> {
        let key = fields.key(permissions)?;
        let given = fields.given("value").ok_or("\"value\" is missing")?;
        let value = stored(given)?;
        let most = if store::SETTINGS.contains(&key.as_str()) {
            settings::MAX_VALUE
        } else {
            MAX_VALUE
        };
        if let Some(value) = value.as_ref().filter(|value| value.len() > most) {
            let bytes = value.len();
            return Err(format!(
                "the value has {bytes} bytes, at most {most} are stored"
            ));
        }
        if store::OWN_KEYS.contains(&key.as_str()) {
            let key = Quoted(&key);
            return Err(format!(
                "the key {key} cannot be set: it does not hold a setting"
            ));
        }
        let unusable = match (key.as_str(), &value) {
            (store::INTERVAL, Some(value)) => parse_interval(value).err(),
            (store::LAST_ID, Some(value)) => parse_last_id(value).err(),
            _ => None,
        };
        match unusable {
            Some(reason) => Err(format!("the value is unusable: {reason}")),
            None => Ok(SetConfig {
                key,
                value,
                given: given.to_owned(),
            }),
        }
    }

    /// `room`: bytes that the reply may have. Nothing is set that cannot be answered.
    pub fn apply(
        self,
        now: Instant,
        room: usize,
        rate: &mut TokenBucket,
        context: &mut dyn Context,
    ) -> Result<Reply, String> {
        let reply = Reply {
            key: Some(self.key.clone()),
            value: Some(ReplyValue::Given(self.given)),
            ..Reply::done(NAME)
        };
        if reply.to_json().len() > room {
            return Err(format!(
                "nothing is set: the reply would not fit into {room} bytes"
            ));
        }
        if !rate.take(now) {
            return Err(format!(
                "nothing is set: at most {SETS_PER_SECOND} values a second are taken"
            ));
        }
        // Deleting makes room.
        if self.value.is_some() {
            let used = context.memory_used_percent()?;
            if let Some(used) = used.filter(|used| *used >= MEMORY_PERCENT) {
                return Err(format!(
                    "nothing is set: Redis uses {used:.0} % of its maxmemory, and what is above {MEMORY_PERCENT} % is for measurements"
                ));
            }
        }
        context.set(&self.key, self.value.as_deref())?;
        if store::SETTINGS.contains(&self.key.as_str()) {
            context.settings_changed();
        }
        Ok(reply)
    }
}

/// The text that is stored for a JSON value.
fn stored(given: &RawValue) -> Result<Option<String>, String> {
    match given.get() {
        "null" => Ok(None),
        "true" => Ok(Some("1".into())),
        "false" => Ok(Some("0".into())),
        text if text.starts_with('"') => serde_json::from_str(text)
            .map(Some)
            .map_err(|error| format!("\"value\" is not a valid string: {error}")),
        text if text.starts_with(['{', '[']) => {
            Err("\"value\" is neither a string nor a number, true, false or null".into())
        }
        // It comes back as it is, so a reader of the reply must be able to read it.
        number => match serde_json::from_str::<f64>(number) {
            Ok(_) => Ok(Some(number.into())),
            Err(error) => Err(format!("\"value\" is not a usable number: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::world::{World, all};
    use std::time::Duration;

    fn parse(key: &str, value: &str) -> Result<SetConfig, String> {
        let text = format!(r#"{{"command":"set_config","key":"{key}","value":{value}}}"#);
        SetConfig::parse(&Fields::read(&text).expect("an object"), &all())
    }

    fn bucket() -> TokenBucket {
        TokenBucket::new(SETS_PER_SECOND)
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
            assert_eq!(parse("k", given).expect(given).value.as_deref(), stored);
        }
        for bad in ["{}", "[1]", "\"\\ud800\"", "1e999"] {
            assert!(parse("k", bad).is_err(), "{bad}");
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
            assert_eq!(parse(key, value).is_ok(), good, "{key} {value}");
        }
    }

    #[test]
    fn a_value_above_the_limit_is_not_stored() {
        let value = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
        assert!(parse("k", &value(MAX_VALUE)).is_ok());
        assert!(parse("k", &value(MAX_VALUE + 1)).is_err());
        let ones = "1".repeat(MAX_VALUE + 1);
        assert!(parse("k", &format!("0.{ones}")).is_err());
    }

    #[test]
    fn it_is_done_and_our_own_settings_count_at_once() {
        let (mut world, now) = (World::default(), Instant::now());
        let mut apply = |key, value| {
            let command = parse(key, value).expect("a command");
            let reply = command.apply(now, 1000, &mut bucket(), &mut world);
            String::from_utf8(reply.expect("a reply").to_json()).expect("UTF-8")
        };
        assert_eq!(
            apply("k", "5.0"),
            r#"{"command":"set_config","key":"k","value":5.0}"#
        );
        apply("mqtt_sender:enabled", "false");
        apply("k", "null");
        assert_eq!(world.done, ["settings_changed"]);
        assert_eq!(
            world.keys.get("mqtt_sender:enabled").map(String::as_str),
            Some("0")
        );
        assert_eq!(world.keys.get("k"), None);
    }

    #[test]
    fn nothing_is_stored_too_fast_or_into_a_full_redis_or_without_an_answer() {
        let (mut world, begin, mut rate) = (World::default(), Instant::now(), bucket());
        let mut apply = |world: &mut World, ms, room, value| {
            let now = begin + Duration::from_millis(ms);
            let command = parse("k", value).expect("a command");
            let result = command.apply(now, room, &mut rate, world);
            result.map(|_| ()).unwrap_err()
        };
        assert!(apply(&mut world, 0, 10, "1").contains("would not fit"));
        world.used = Some(80.0);
        for _ in 0..10 {
            assert!(apply(&mut world, 0, 1000, "1").contains("80 % of its maxmemory"));
        }
        world.used = Some(79.0);
        assert!(apply(&mut world, 0, 1000, "1").contains("at most 10"));
        assert!(world.keys.is_empty());
    }
}
