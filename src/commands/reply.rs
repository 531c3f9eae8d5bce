//! What a reply looks like.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::COMMANDS;
use crate::model::quote::{Quoted, shortened};
use crate::model::status::Record;

/// A reply. Fields that do not apply are left out; `command` always stands there.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reply {
    pub command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<ReplyValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Record>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<RawValue>>,
}

/// The value in a reply: what was read, or what was given.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ReplyValue {
    Read(Option<String>),
    Given(Box<RawValue>),
}

impl Reply {
    /// That a command was carried out.
    pub fn done(command: &str) -> Reply {
        Reply {
            command: Some(command.to_string()),
            ..Reply::default()
        }
    }

    /// That it was not. The name is as it was given, or nothing where it could not be read.
    pub fn error(command: Option<&str>, error: impl Into<String>) -> Reply {
        Reply {
            command: command.map(known_name),
            error: Some(error.into()),
            ..Reply::default()
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and what was JSON before: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The name as this program writes it, where it knows it.
fn known_name(given: &str) -> String {
    let lower = given.to_lowercase();
    if COMMANDS.contains(&lower.as_str()) {
        lower
    } else {
        shortened(given)
    }
}

/// The name for the log.
pub fn shown_name(given: Option<&str>) -> String {
    match given.map(known_name) {
        None => "(unreadable)".into(),
        Some(name) if COMMANDS.contains(&name.as_str()) => name,
        Some(name) => Quoted(&name).to_string(),
    }
}
