//! Every Redis key and every Redis command of this program, and no other place has one.
//!
//! A connection is thrown away after any error on it: half an answer may still be on its way,
//! and the next command would read it as its own. Everything is bounded by a time-out, also
//! the first exchange on a new connection, because a frozen server still accepts connections.

mod answers;
mod outlook;
mod page;
mod reading;
mod scripts;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ::redis::{Cmd, ConnectionLike, RedisError, Script, Value};

use crate::bridge::delivery::Poison;
use crate::config;
use crate::model::settings::Raw;
use crate::model::status::Record;
use crate::model::stream_id::{Cursor, StreamId};

use crate::redis::wire::Wire;
use answers::{in_words, not_a_string, refused, text_of, unexpected};
use scripts::{COUNT, SAVE, SET, TRIM};

pub use page::Page;

pub const VALUES: &str = "measurement:values";
pub const ENABLED: &str = "mqtt_sender:enabled";
pub const INTERVAL: &str = "mqtt_sender:interval";
pub const LAST_ID: &str = "mqtt_sender:last_id";
pub const STATUS: &str = "mqtt_sender:status";
pub const DEAD_LETTER: &str = "mqtt_sender:dead_letter";

/// Keys that hold records and no settings: nobody sets them from afar, not even while they do
/// not exist yet. A string in the place of the stream would make every sensor fail.
pub const OWN_KEYS: [&str; 3] = [VALUES, STATUS, DEAD_LETTER];

/// No answer within this time: the connection is given up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why Redis did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or one that broke: nothing is known about the effect.
    #[error("{0}")]
    Unreachable(String),
    /// Redis answered with an error.
    #[error("{0}")]
    Refused(String),
}

/// The answer to saving the cursor.
#[derive(Debug, PartialEq, Eq)]
pub enum Saved {
    Yes,
    /// Somebody else has written this meanwhile; nothing was changed.
    Foreign(Raw),
}

/// What is known of the stream as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    Absent,
    Present {
        /// The ID of the newest entry there ever was.
        newest: StreamId,
        length: u64,
        /// Entries ever added; only Redis 7 and later count them.
        added: Option<u64>,
        first: Option<StreamId>,
    },
}

/// What is stored about an earlier run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The cursor that this program wrote last, and the entries accounted for up to it.
    pub position: Option<(String, Option<u64>)>,
    pub lost: u64,
    pub dead_letters: u64,
}

/// A look at the service from outside.
#[derive(Debug)]
pub struct Live {
    pub record: Record,
    /// The cursor as it is stored.
    pub cursor: String,
    /// Measurements that wait at this moment, where Redis counts them.
    pub backlog: Option<u64>,
    /// Entries accounted for up to the cursor.
    pub accounted: Option<u64>,
    /// The first entry behind the cursor.
    pub oldest: Option<StreamId>,
    /// The service has a connection to this Redis.
    pub running: bool,
}

/// What is saved together with the cursor.
#[derive(Debug)]
pub struct Save<'a> {
    pub cursor: &'a str,
    /// Entries accounted for up to the cursor, where known.
    pub accounted: Option<u64>,
    pub poison: &'a [Poison],
}

/// A connection to Redis that is made when it is needed.
pub struct Store {
    config: config::Redis,
    client_name: &'static str,
    connection: Option<Wire>,
    client_id: Arc<AtomicI64>,
    save: Script,
    /// A status that goes out with the next reading, and what came of the last one.
    status: Option<Vec<u8>>,
    status_refused: Option<String>,
}

impl Store {
    /// `client_name` is what `CLIENT LIST` shows.
    pub fn new(config: &config::Redis, client_name: &'static str) -> Store {
        Store {
            config: config.clone(),
            client_name,
            connection: None,
            client_id: Arc::default(),
            save: Script::new(SAVE),
            status: None,
            status_refused: None,
        }
    }

    /// Whether the last command found a connection and left it intact.
    pub fn connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Connects if there is no connection.
    ///
    /// # Errors
    /// Why there is none: unreachable, or refused by Redis.
    pub fn connect(&mut self) -> Result<(), StoreError> {
        self.connection().map(|_| ())
    }

    /// Saves the cursor if it is still `expected`, and what goes with it.
    ///
    /// # Errors
    /// As for every command. After `Unreachable` the same call can be made again: it does not
    /// take its own earlier write for somebody else's.
    pub fn save_cursor(&mut self, expected: &Raw, save: &Save) -> Result<Saved, StoreError> {
        let (exists, text) = match expected {
            Raw::Text(text) => ("1", text.as_str()),
            _ => ("0", ""),
        };
        let script = self.save.clone();
        let mut call = script.key(LAST_ID);
        call.key(STATUS).key(VALUES).key(DEAD_LETTER);
        call.arg(exists)
            .arg(text)
            .arg(save.cursor)
            .arg(position(save));
        for poison in save.poison {
            call.arg(poison.id.to_string()).arg(&poison.reason);
        }
        let answer = call.invoke::<Value>(self.connection()?);
        match self.checked(answer)? {
            Value::Int(1) => Ok(Saved::Yes),
            Value::Array(found) => {
                let mut found = found.into_iter();
                let kind = text_of(found.next());
                Ok(Saved::Foreign(match found.next() {
                    Some(Value::BulkString(bytes)) => {
                        Raw::Text(String::from_utf8_lossy(&bytes).into_owned())
                    }
                    _ if kind == "none" => Raw::Missing,
                    _ => not_a_string(),
                }))
            }
            _ => Err(unexpected()),
        }
    }

    /// Stores a loss together with the account that has it, so that it is never told twice.
    ///
    /// # Errors
    /// As for every command.
    pub fn note_loss(&mut self, save: &Save, lost: u64) -> Result<(), StoreError> {
        let mut command = ::redis::cmd("HSET");
        command
            .arg(STATUS)
            .arg("position")
            .arg(position(save))
            .arg("lost")
            .arg(lost);
        self.command(&command).map(|_| ())
    }

    /// Trims the stream to `keep` entries up to the cursor; never one behind it.
    ///
    /// # Errors
    /// As for every command.
    pub fn trim_sent(&mut self, cursor: StreamId, keep: u64) -> Result<(), StoreError> {
        let script = Script::new(TRIM);
        let mut call = script.key(LAST_ID);
        call.key(VALUES)
            .arg(Cursor::written(cursor))
            .arg(cursor.to_string())
            .arg(cursor.next().to_string())
            .arg(keep);
        let answer = call.invoke::<Value>(self.connection()?);
        self.checked(answer).map(|_| ())
    }

    /// Counts entries behind `after` up to `last`, at most `limit`, and says where it stopped.
    ///
    /// # Errors
    /// As for every command.
    pub fn count(
        &mut self,
        after: StreamId,
        last: StreamId,
        limit: usize,
    ) -> Result<(u64, StreamId), StoreError> {
        let script = Script::new(COUNT);
        let mut call = script.key(VALUES);
        call.arg(Cursor::written(after))
            .arg(last.to_string())
            .arg(limit);
        let answer = call.invoke::<(u64, String)>(self.connection()?);
        let (count, end) = self.checked(answer)?;
        Ok((count, end.parse().unwrap_or(last)))
    }

    /// The text of a key, `None` where there is no such key.
    ///
    /// # Errors
    /// As for every command; `Refused` where the key does not hold a string.
    pub fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        let mut command = ::redis::cmd("GET");
        command.arg(key);
        match self.command(&command) {
            Ok(Value::BulkString(bytes)) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Ok(Value::Nil) => Ok(None),
            Ok(_) => Err(unexpected()),
            Err(StoreError::Refused(text)) if text.starts_with("WRONGTYPE") => {
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
        let script = Script::new(SET);
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

    /// Wakes a connection that blocks on the stream.
    ///
    /// # Errors
    /// As for every command.
    pub fn unblock(&mut self, client: i64) -> Result<(), StoreError> {
        let mut command = ::redis::cmd("CLIENT");
        command.arg("UNBLOCK").arg(client);
        self.command(&command).map(|_| ())
    }

    /// How Redis calls the present connection, shared with who wants to wake it; 0: none.
    pub fn client_id(&self) -> Arc<AtomicI64> {
        self.client_id.clone()
    }

    fn command(&mut self, command: &Cmd) -> Result<Value, StoreError> {
        let packed = command.get_packed_command();
        let connection = self.connection()?;
        let answer = connection
            .req_packed_command(&packed)
            .and_then(Value::extract_error);
        self.checked(answer)
    }

    fn connection(&mut self) -> Result<&mut Wire, StoreError> {
        if self.connection.is_none() {
            let (connection, client_id) = open(&self.config, self.client_name)?;
            self.client_id.store(client_id, Ordering::Relaxed);
            return Ok(self.connection.insert(connection));
        }
        self.connection.as_mut().ok_or_else(unexpected)
    }

    /// Sorts errors, and drops the connection unless Redis has answered in full.
    fn checked<T>(&mut self, answer: Result<T, RedisError>) -> Result<T, StoreError> {
        answer.map_err(|error| {
            if error.code().is_some() {
                return refused(error);
            }
            self.connection = None;
            StoreError::Unreachable(in_words(&error))
        })
    }
}

fn open(config: &config::Redis, client_name: &str) -> Result<(Wire, i64), StoreError> {
    let place =
        |error: &RedisError| format!("{}:{}: {}", config.host, config.port, in_words(error));
    let unreachable = |error: RedisError| StoreError::Unreachable(place(&error));
    let mut connection = Wire::connect(&config.host, config.port, TIMEOUT)
        .map_err(|error| unreachable(error.into()))?;
    let mut hello = ::redis::pipe();
    match (config.username.as_str(), config.password.as_str()) {
        (_, "") => {}
        ("", password) => drop(hello.cmd("AUTH").arg(password)),
        (username, password) => drop(hello.cmd("AUTH").arg(username).arg(password)),
    }
    hello
        .cmd("SELECT")
        .arg(config.db)
        .cmd("CLIENT")
        .arg("SETNAME")
        .arg(client_name)
        .cmd("CLIENT")
        .arg("ID");
    let packed = hello.get_packed_pipeline();
    let answers = connection
        .req_packed_commands(&packed, 0, hello.len())
        .map_err(unreachable)?;
    let mut client_id = 0;
    for answer in answers {
        let answer = answer
            .extract_error()
            .map_err(|error| StoreError::Refused(place(&error)))?;
        if let Value::Int(id) = answer {
            client_id = id;
        }
    }
    Ok((connection, client_id))
}

fn position(save: &Save) -> String {
    let accounted = save.accounted.map_or("-".into(), |n| n.to_string());
    format!("{} {accounted}", save.cursor)
}
