//! From the answers of Redis to the types of this program, and from its errors to words.

use ::redis::{RedisError, Value};

use super::{StoreError, TIMEOUT};
use crate::model::settings::{Raw, RawSettings};
use crate::model::stream::{Extent, Stream};
use crate::model::stream_id::StreamId;
use crate::redis::reply::Walk;

/// The next replies, as long as there are any.
pub fn values(walk: &mut Walk) -> impl Iterator<Item = Value> {
    std::iter::from_fn(|| walk.value().ok())
}

/// Three pairs of answers: whether the key exists, and its first bytes.
pub fn raw_settings(answers: &mut impl Iterator<Item = Value>) -> RawSettings {
    RawSettings {
        enabled: raw(answers),
        interval: raw(answers),
        last_id: raw(answers),
    }
}

/// Whether the key exists, and its first bytes. It was looked for first: a key that comes into
/// being between the two is seen, and none is taken for missing that is not.
pub fn raw(answers: &mut impl Iterator<Item = Value>) -> Raw {
    let exists = !matches!(answers.next(), Some(Value::Int(0)));
    match answers.next() {
        Some(Value::BulkString(bytes)) if exists || !bytes.is_empty() => Raw::from_bytes(bytes),
        Some(Value::ServerError(_)) => not_a_string(),
        _ => Raw::Missing,
    }
}

pub fn not_a_string() -> Raw {
    Raw::Unusable("the key does not hold a string".into())
}

/// The state of the stream, as the script tells it, and how many nodes it has.
///
/// # Errors
/// Redis refuses, as where the key holds something else.
pub fn stream(answer: Option<Value>) -> Result<(Stream, u64), StoreError> {
    let parts = match answer {
        Some(Value::Int(0)) => return Ok((Stream::Absent, 0)),
        Some(Value::Array(parts)) => parts,
        Some(Value::ServerError(error)) => return Err(refused(error.into())),
        _ => return Err(unexpected()),
    };
    let [newest, length, added, first, deleted, nodes] = parts.as_slice() else {
        return Err(unexpected());
    };
    let extent = Extent {
        newest: id(newest).ok_or_else(unexpected)?,
        length: number(length).ok_or_else(unexpected)?,
        added: number(added),
        first: id(first),
        deleted: id(deleted).unwrap_or(StreamId::ZERO),
    };
    Ok((Stream::Present(extent), number(nodes).unwrap_or(u64::MAX)))
}

/// How many entries were walked over, and the last of them.
pub fn walked(answer: Value) -> Result<(u64, Option<StreamId>), StoreError> {
    match answer {
        Value::Array(parts) => match parts.as_slice() {
            [count, last] => Ok((number(count).ok_or_else(unexpected)?, id(last))),
            _ => Err(unexpected()),
        },
        Value::ServerError(error) => Err(refused(error.into())),
        _ => Err(unexpected()),
    }
}

pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn id(value: &Value) -> Option<StreamId> {
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

/// The value of a line `<name>:<value>` of INFO.
pub fn info<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
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
