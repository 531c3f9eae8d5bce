//! From the bytes of a request to a command, or to words that say what is wrong with it.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::limits::{MAX_ID, MAX_ID_LEVELS, MAX_KEY, MAX_REQUEST};
use super::{Command, cancel, get_config, get_status, permissions, reboot, send_measurements};
use super::{get_config::GetConfig, reboot::Reboot, send_measurements::SendMeasurements};
use super::{set_config, set_config::SetConfig};
use crate::config::Permissions;

/// What is asked for, checked and allowed.
#[derive(Debug)]
pub struct Request {
    pub command: Command,
    pub id: Option<Box<RawValue>>,
}

/// A request that is not carried out, with what the reply needs.
#[derive(Debug)]
pub struct Rejection {
    /// As it was given.
    pub command: Option<String>,
    pub id: Option<Box<RawValue>>,
    /// One plain sentence.
    pub error: String,
}

impl Rejection {
    /// Of a request of which nothing could be read.
    pub fn nameless(error: impl Into<String>) -> Rejection {
        Rejection {
            command: None,
            id: None,
            error: error.into(),
        }
    }

    /// Of a request that was too large to be kept.
    pub fn too_large(bytes: usize) -> Rejection {
        Rejection::nameless(format!(
            "the request has {bytes} bytes, at most {MAX_REQUEST} are read"
        ))
    }
}

/// Reads a request and checks that it is allowed.
///
/// # Errors
/// What is wrong with it, ready to be answered.
pub fn parse(payload: &[u8], permissions: &Permissions) -> Result<Request, Rejection> {
    if payload.len() > MAX_REQUEST {
        return Err(Rejection::too_large(payload.len()));
    }
    let text = std::str::from_utf8(payload)
        .map_err(|_| Rejection::nameless("the request is not UTF-8"))?;
    let fields = Fields::read(text).map_err(Rejection::nameless)?;
    let given: Option<String> = fields
        .given("command")
        .and_then(|name| serde_json::from_str(name.get()).ok());
    let id = id(&fields);
    let result = match (&id, &given) {
        (Err(error), _) => Err(error.clone()),
        (Ok(_), Some(name)) => command(&name.to_lowercase(), &fields, permissions),
        (Ok(_), None) if fields.given("command").is_some() => {
            Err("\"command\" is not a string".into())
        }
        (Ok(_), None) => Err("\"command\" is missing".into()),
    };
    let id = id.unwrap_or_default();
    match result {
        Ok(command) => Ok(Request { command, id }),
        Err(error) => Err(Rejection {
            command: given,
            id,
            error,
        }),
    }
}

fn command(name: &str, fields: &Fields, permissions: &Permissions) -> Result<Command, String> {
    permissions::command(permissions, name)?;
    Ok(match name {
        reboot::NAME => Command::Reboot(Reboot::parse(fields)?),
        get_config::NAME => Command::GetConfig(GetConfig::parse(fields, permissions)?),
        set_config::NAME => Command::SetConfig(SetConfig::parse(fields, permissions)?),
        get_status::NAME => Command::GetStatus,
        cancel::NAME => Command::Cancel,
        send_measurements::NAME => Command::SendMeasurements(SendMeasurements::parse(fields)?),
        _ => return Err("this command is not implemented".into()),
    })
}

/// The `id` to the letter, if every reader of the reply can be expected to take it.
fn id(fields: &Fields) -> Result<Option<Box<RawValue>>, String> {
    let Some(id) = fields.given("id") else {
        return Ok(None);
    };
    let bytes = id.get().len();
    if bytes > MAX_ID {
        return Err(format!(
            "\"id\" has {bytes} bytes, at most {MAX_ID} are repeated"
        ));
    }
    if levels(id.get()) > MAX_ID_LEVELS {
        return Err(format!(
            "\"id\" has more than {MAX_ID_LEVELS} levels of nesting"
        ));
    }
    // Well-formed is not readable: half a surrogate pair, 1e999.
    serde_json::from_str::<serde_json::Value>(id.get())
        .map_err(|error| format!("\"id\" cannot be repeated: {error}"))?;
    Ok(Some(id.to_owned()))
}

/// How deeply lists and objects are nested in a valid JSON text.
fn levels(json: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The fields of a request, not yet read any further: whatever is nested in them costs nothing.
pub struct Fields<'a>(HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// # Errors
    /// The text is not a JSON object, in words that quote nothing of it.
    pub fn read(text: &'a str) -> Result<Fields<'a>, String> {
        let not_json = |error| format!("the request is not JSON: {error}");
        // The errors of the second step would quote the text if it were something else.
        let json: &RawValue = serde_json::from_str(text).map_err(not_json)?;
        if !json.get().starts_with('{') {
            return Err("the request is not a JSON object".into());
        }
        serde_json::from_str(text).map(Fields).map_err(not_json)
    }

    /// A field as it was given.
    pub fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    /// An optional field; `null` counts as absent.
    pub fn optional(&self, name: &str) -> Option<&'a RawValue> {
        self.given(name).filter(|value| value.get() != "null")
    }

    /// An optional field that is true or false.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        match self.optional(name).map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(format!("{name:?} is neither true nor false")),
        }
    }

    /// The field `key`: a key of Redis that may be touched.
    ///
    /// # Errors
    /// It is missing, of another kind, or not allowed.
    pub fn key(&self, permissions: &Permissions) -> Result<String, String> {
        let raw = self.given("key").ok_or("\"key\" is missing")?;
        let key: String = serde_json::from_str(raw.get()).map_err(|_| "\"key\" is not a string")?;
        if key.is_empty() {
            return Err("\"key\" is empty".into());
        }
        if key.len() > MAX_KEY {
            let bytes = key.len();
            return Err(format!(
                "\"key\" has {bytes} bytes, at most {MAX_KEY} are allowed"
            ));
        }
        permissions::key(permissions, &key)?;
        Ok(key)
    }
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
