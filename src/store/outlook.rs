//! What is asked and told around the stream: the status, what an earlier run has left behind,
//! the server itself.

use std::collections::HashMap;

use ::redis::Value;

use super::answers::{stream_state, text_of};
use super::reading::values;
use super::{LAST_ID, Live, Memory, STATUS, Store, StoreError, StreamState, VALUES};
use crate::model::status::{self, Record};
use crate::model::stream_id::{Cursor, StreamId};
use crate::redis::reply::Walk;

/// A status that is older has missed its heartbeat.
const STALE_MS: u64 = 90_000;

impl Store {
    /// What an earlier run has left behind.
    ///
    /// # Errors
    /// As for every command.
    pub fn memory(&mut self) -> Result<Memory, StoreError> {
        let mut command = ::redis::cmd("HMGET");
        command
            .arg(STATUS)
            .arg("position")
            .arg("lost")
            .arg("dead_letters");
        let fields = match self.command(&command) {
            Ok(Value::Array(fields)) => fields,
            // Somebody has put something else there: then nothing is remembered.
            Ok(_) | Err(StoreError::Refused(_)) => return Ok(Memory::default()),
            Err(error) => return Err(error),
        };
        let mut fields = fields.into_iter().map(|field| text_of(Some(field)));
        let mut next = || fields.next().unwrap_or_default();
        let position = next();
        Ok(Memory {
            position: position
                .split_once(' ')
                .map(|(cursor, accounted)| (cursor.into(), accounted.parse().ok())),
            lost: next().parse().unwrap_or(0),
            dead_letters: next().parse().unwrap_or(0),
        })
    }

    /// Writes the status together with the next reading of the settings or the stream: it
    /// costs no round trip of its own. Lost with the connection.
    pub fn write_status(&mut self, record: &Record) {
        let mut command = ::redis::cmd("HSET");
        command.arg(STATUS);
        for (name, value) in record.fields() {
            command.arg(name).arg(value);
        }
        self.status = Some(command.get_packed_command());
    }

    /// Why the last status was not written, if Redis said so.
    pub fn status_refused(&mut self) -> Option<String> {
        self.status_refused.take()
    }

    /// The status as it is stored, with what can be told of this very moment; `None` where
    /// there is none.
    ///
    /// # Errors
    /// As for every command.
    pub fn live(&mut self) -> Result<Option<Live>, StoreError> {
        let mut commands = ::redis::pipe();
        commands
            .cmd("GET")
            .arg(LAST_ID)
            .cmd("HGETALL")
            .arg(STATUS)
            .cmd("XINFO")
            .arg("STREAM")
            .arg(VALUES);
        let (reply, at) = self.transaction(&mut commands)?;
        let mut walk = Walk::new(&reply, at);
        let mut answers = values(&mut walk);
        let cursor = text_of(answers.next());
        let stored = match answers.next() {
            Some(Value::Array(fields)) if !fields.is_empty() => fields,
            _ => return Ok(None),
        };
        let fields: HashMap<String, String> = stored
            .chunks_exact(2)
            .map(|pair| {
                (
                    text_of(Some(pair[0].clone())),
                    text_of(Some(pair[1].clone())),
                )
            })
            .collect();
        let accounted = fields
            .get("position")
            .and_then(|position| position.split_once(' '))
            .filter(|(of, _)| *of == cursor)
            .and_then(|(_, accounted)| accounted.parse::<u64>().ok());
        let added = match stream_state(answers.next()) {
            Ok(StreamState::Present { added, .. }) => added,
            _ => None,
        };
        let after = match cursor.parse() {
            Ok(Cursor::After(id)) => id,
            _ => StreamId::ZERO,
        };
        let record = Record::from_fields(|name| fields.get(name).cloned());
        let age = status::now().saturating_sub(record.updated);
        let running = self.service_is_connected()?.unwrap_or(age < STALE_MS);
        Ok(Some(Live {
            record,
            backlog: added
                .zip(accounted)
                .map(|(added, accounted)| added.saturating_sub(accounted)),
            accounted,
            cursor,
            oldest: self.oldest(after).unwrap_or_default(),
            running,
        }))
    }

    /// Whether the service has a connection to this Redis; `None` where this client may not
    /// ask.
    fn service_is_connected(&mut self) -> Result<Option<bool>, StoreError> {
        let mut command = ::redis::cmd("CLIENT");
        command.arg("LIST");
        match self.command(&command) {
            Ok(clients) => {
                let clients = text_of(Some(clients));
                let mut fields = clients.lines().flat_map(|line| line.split(' '));
                Ok(Some(fields.any(|field| field == "name=mqtt-handler")))
            }
            Err(StoreError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Why Redis may lose measurements by its own settings, in words; empty where it will not,
    /// or does not say.
    ///
    /// # Errors
    /// As for every command.
    pub fn hazards(&mut self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let policy = self.setting("maxmemory-policy")?;
        if policy.starts_with("allkeys-") {
            found.push(format!(
                "maxmemory-policy is {policy}: Redis may evict the whole stream; noeviction is safe"
            ));
        }
        if self.setting("appendonly")? == "no" {
            let saves = self.setting("save")?;
            found.push(if saves.is_empty() {
                "Redis stores nothing: unsent measurements and the cursor are lost when it stops; appendonly yes is safe".into()
            } else {
                "Redis stores snapshots only: after a power cut the last minutes are lost; appendonly yes is safe".into()
            });
        }
        Ok(found)
    }

    /// The version of the server.
    ///
    /// # Errors
    /// As for every command.
    pub fn version(&mut self) -> Result<String, StoreError> {
        let mut command = ::redis::cmd("INFO");
        command.arg("server");
        let info = text_of(Some(self.command(&command)?));
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"));
        Ok(line.unwrap_or("unknown").trim().to_string())
    }

    /// What Redis does when its memory is full; empty where this client may not ask.
    ///
    /// # Errors
    /// As for every command.
    pub fn eviction_policy(&mut self) -> Result<String, StoreError> {
        self.setting("maxmemory-policy")
    }

    /// A setting of the server; empty where this client may not ask.
    fn setting(&mut self, name: &str) -> Result<String, StoreError> {
        let mut command = ::redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        match self.command(&command) {
            Ok(Value::Array(mut pair)) => Ok(text_of(pair.pop())),
            Ok(_) | Err(StoreError::Refused(_)) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }
}
