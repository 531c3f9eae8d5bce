//! Single keys on behalf of a remote side: nothing here reads or writes without a bound.

use ::redis::{Script, Value};

use super::decoding::{text_of, unexpected};
use super::{Store, StoreError};

/// A part of a string, or nothing where there is no such key: in one step, so that what is read
/// has the length that was looked at.
const GET_WITHIN: &str = r"
local part = redis.call('GETRANGE', KEYS[1], 0, ARGV[1])
if part == '' and redis.call('EXISTS', KEYS[1]) == 0 then return false end
return part";

/// What a key holds, as far as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    Missing,
    Whole(String),
    /// It holds more bytes than were asked for.
    Longer,
}

impl Store {
    /// The text of a key, if it has at most so many bytes. A longer one is not read.
    ///
    /// # Errors
    /// As for every command; `Refused` where the key does not hold a string.
    pub fn get_within(&mut self, key: &str, bytes: usize) -> Result<Within, StoreError> {
        let script = Script::new(GET_WITHIN);
        let mut call = script.key(key);
        // The end is inclusive: one byte more tells that there is more.
        call.arg(bytes);
        let answer = call.invoke::<Value>(self.connection()?);
        match self.checked(answer) {
            Ok(Value::Nil) => Ok(Within::Missing),
            Ok(Value::BulkString(part)) if part.len() > bytes => Ok(Within::Longer),
            Ok(Value::BulkString(part)) => {
                Ok(Within::Whole(String::from_utf8_lossy(&part).into_owned()))
            }
            Ok(_) => Err(unexpected()),
            Err(StoreError::Refused(text)) if text.contains("WRONGTYPE") => {
                Err(StoreError::Refused("the key does not hold a string".into()))
            }
            Err(error) => Err(error),
        }
    }

    /// Sets a key that does not exist or holds a string; `None` deletes it.
    ///
    /// # Errors
    /// As for every command; `Refused` where the key holds something else.
    pub fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), StoreError> {
        let script = self.scripts.set.clone();
        let mut call = script.key(key);
        if let Some(value) = value {
            call.arg(value);
        }
        let answer = call.invoke::<Value>(self.connection()?);
        match self.checked(answer)? {
            Value::Int(1) => Ok(()),
            other => {
                let kind = text_of(Some(other));
                Err(StoreError::Refused(format!(
                    "the key holds a {kind} and is left alone"
                )))
            }
        }
    }
}
