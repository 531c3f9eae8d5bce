//! `{"command":"get_config","key":K}`: reads a string of Redis.

use super::Context;
use super::reply::{Reply, ReplyValue};
use super::request::Fields;
use crate::config::Permissions;
use crate::model::quote::Quoted;
use crate::store::Within;

pub const NAME: &str = "get_config";

#[derive(Debug)]
pub struct GetConfig {
    key: String,
}

impl GetConfig {
    pub fn parse(fields: &Fields, permissions: &Permissions) -> Result<GetConfig, String> {
        let key = fields.key(permissions)?;
        Ok(GetConfig { key })
    }

    /// `room`: bytes that the reply may have. What is longer is not even read.
    pub fn apply(self, room: usize, context: &mut dyn Context) -> Result<Reply, String> {
        let too_long = |key| {
            let key = Quoted(key);
            format!("the value of {key} does not fit into a reply of at most {room} bytes")
        };
        let value = match context.get(&self.key, room)? {
            Within::Missing => None,
            Within::Whole(value) => Some(value),
            Within::Longer => return Err(too_long(&self.key)),
        };
        let reply = Reply {
            key: Some(self.key.clone()),
            value: Some(ReplyValue::Read(value)),
            ..Reply::done(NAME)
        };
        // Escapes make it longer.
        if reply.to_json().len() > room {
            return Err(too_long(&self.key));
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::world::World;

    fn get(world: &mut World, room: usize) -> Result<String, String> {
        let command = GetConfig { key: "k".into() };
        let reply = command.apply(room, world)?;
        Ok(String::from_utf8(reply.to_json()).expect("UTF-8"))
    }

    #[test]
    fn a_value_is_read_or_null() {
        let mut world = World::default();
        let empty = r#"{"command":"get_config","key":"k","value":null}"#;
        assert_eq!(get(&mut world, 100).as_deref(), Ok(empty));
        world.keys.insert("k".into(), "é\"".into());
        let found = r#"{"command":"get_config","key":"k","value":"é\""}"#;
        assert_eq!(get(&mut world, 100).as_deref(), Ok(found));
    }

    #[test]
    fn what_does_not_fit_into_the_reply_is_refused_in_words() {
        let mut world = World::default();
        for value in ["x".repeat(101), "x".repeat(90), "\n".repeat(40)] {
            world.keys.insert("k".into(), value);
            assert!(get(&mut world, 100).is_err_and(|error| error.contains("does not fit")));
        }
    }
}
