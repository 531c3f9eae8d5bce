//! From the answers of Redis to the types of this program, and from its errors to words.

use ::redis::{RedisError, Value};

use super::{StoreError, StreamState, TIMEOUT};
use crate::model::settings::{Raw, RawSettings};
use crate::model::stream_id::StreamId;

pub fn raw_settings(answers: &mut impl Iterator<Item = Value>) -> RawSettings {
    RawSettings {
        enabled: raw(answers.next()),
        interval: raw(answers.next()),
        last_id: raw(answers.next()),
    }
}

pub fn raw(answer: Option<Value>) -> Raw {
    match answer {
        Some(Value::BulkString(bytes)) => Raw::Text(String::from_utf8_lossy(&bytes).into_owned()),
        Some(Value::ServerError(_)) => not_a_string(),
        _ => Raw::Missing,
    }
}

pub fn stream_state(answer: Option<Value>) -> Result<StreamState, StoreError> {
    let info = match answer {
        Some(Value::Array(info)) => info,
        Some(Value::ServerError(error))
            if error
                .details()
                .is_some_and(|text| text.contains("no such key")) =>
        {
            return Ok(StreamState::Absent);
        }
        Some(Value::ServerError(error)) => return Err(refused(error.into())),
        _ => return Err(unexpected()),
    };
    let field = |name: &str| {
        let at = info
            .iter()
            .step_by(2)
            .position(|field| matches!(field, Value::BulkString(b) if b == name.as_bytes()))?;
        info.get(2 * at + 1)
    };
    let number = |name: &str| match field(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    Ok(StreamState::Present {
        newest: field("last-generated-id")
            .and_then(id)
            .ok_or_else(unexpected)?,
        length: number("length").ok_or_else(unexpected)?,
        added: number("entries-added"),
        first: match field("first-entry") {
            Some(Value::Array(parts)) => parts.first().and_then(id),
            _ => None,
        },
    })
}

pub fn not_a_string() -> Raw {
    Raw::Unusable("the key does not hold a string".into())
}

pub fn id(value: &Value) -> Option<StreamId> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// A server that is loading, or wants a password, answers every command with that.
pub fn loading(first: Option<&Value>) -> Result<(), StoreError> {
    match first {
        Some(Value::ServerError(error)) if error.code() != "WRONGTYPE" => {
            Err(refused(error.clone().into()))
        }
        _ => Ok(()),
    }
}

pub fn text_of(value: Option<Value>) -> String {
    match value {
        Some(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some(Value::SimpleString(text)) => text,
        _ => String::new(),
    }
}

pub fn refused(error: RedisError) -> StoreError {
    StoreError::Refused(in_words(&error))
}

pub fn unexpected() -> StoreError {
    StoreError::Refused("Redis gave an answer of an unexpected form".into())
}

pub fn in_words(error: &RedisError) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}
