//! Every Redis key and every Redis command of this program, and no other place has one.
//!
//! A connection is thrown away after any error on it: half an answer may still be on its way,
//! and the next command would read it as its own. Everything is bounded by a time-out, also
//! the first exchange on a new connection, because a frozen server still accepts connections.

mod cursor;
mod decoding;
mod entries;
mod keys;
mod looking;
mod page;
mod poison;
mod scripts;
mod server;
mod sizes;
mod status;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ::redis::{Cmd, ConnectionLike, Pipeline, RedisError, Value};

use crate::config;
use crate::model::status::Record;
use crate::model::stream::{Extent, Former, Stream};
use crate::model::stream_id::StreamId;
use crate::redis::connection::Connection;
use cursor::Trim;
use decoding::{in_words, refused, unexpected};
use scripts::{Scripts, load};
use sizes::Sizes;

pub use keys::Within;
pub use page::Page;
pub use server::{ServerMemory, too_old};
pub use status::written_along;

pub const VALUES: &str = "measurement:values";
pub const ENABLED: &str = "mqtt_sender:enabled";
pub const INTERVAL: &str = "mqtt_sender:interval";
pub const LAST_ID: &str = "mqtt_sender:last_id";
pub const STATUS: &str = "mqtt_sender:status";
pub const DEAD_LETTER: &str = "mqtt_sender:dead_letter";

/// The keys by which others set what this program does.
pub const SETTINGS: [&str; 3] = [ENABLED, INTERVAL, LAST_ID];
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

/// What a step of trimming has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Entries.
    pub removed: u64,
    /// A further step would do more.
    pub more: bool,
}

/// A look at the service from outside.
#[derive(Debug)]
pub struct ServiceState {
    pub record: Record,
    /// The cursor as it is stored.
    pub cursor: String,
    /// Measurements that wait at this moment, where Redis counts them.
    pub backlog: Option<u64>,
    /// Entries accounted for up to the cursor.
    pub accounted: Option<u64>,
    /// The first entry behind the cursor.
    pub oldest: Option<StreamId>,
    /// Of `maxmemory`, where there is one.
    pub used_percent: Option<f64>,
    /// The service has a connection to this Redis.
    pub running: bool,
}

/// What is saved together with the cursor.
#[derive(Debug)]
pub struct Save<'a> {
    pub cursor: &'a str,
    /// Entries accounted for up to the cursor, where known.
    pub accounted: Option<u64>,
    /// The stream as it was seen last.
    pub seen: Option<Extent>,
    /// The stream before that one.
    pub former: Option<Former>,
    /// Somebody else has set the cursor.
    pub foreign: bool,
    /// Measurements lost and copied to the dead letters since ever, to be stored where given.
    pub lost: Option<u64>,
    pub dead_letters: Option<u64>,
}

/// A connection to Redis that is made when it is needed.
pub struct Store {
    config: config::Redis,
    client_name: &'static str,
    connection: Option<Connection>,
    client_id: Arc<AtomicI64>,
    scripts: Scripts,
    /// The server does not know of flags of scripts.
    before_7: bool,
    sizes: Sizes,
    /// The last answer was given up for its size.
    too_large: bool,
    /// The state of the stream at the end of the last page.
    state: Option<Stream>,
    trim: Option<Trim>,
}

impl Store {
    /// `client_name` is what `CLIENT LIST` shows.
    pub fn new(config: &config::Redis, client_name: &'static str) -> Store {
        Store {
            config: config.clone(),
            client_name,
            connection: None,
            client_id: Arc::default(),
            scripts: Scripts::new(),
            before_7: false,
            sizes: Sizes::default(),
            too_large: false,
            state: None,
            trim: None,
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

    /// Wakes a connection that blocks on the stream.
    ///
    /// # Errors
    /// As for every command.
    pub fn unblock(&mut self, client: i64) -> Result<(), StoreError> {
        let mut command = ::redis::cmd("CLIENT");
        command.arg("UNBLOCK").arg(client);
        self.answer(&command).map(|_| ())
    }

    /// How Redis calls the present connection, shared with who wants to wake it; 0: none.
    pub fn client_id(&self) -> Arc<AtomicI64> {
        self.client_id.clone()
    }

    /// Does something that calls scripts by hash; a server that does not have them gets them.
    pub(super) fn with_scripts<T>(
        &mut self,
        action: impl Fn(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match action(self) {
            Err(StoreError::Refused(reason)) if reason.starts_with("NOSCRIPT") => {
                let mut scripts = ::redis::pipe();
                load(&mut scripts);
                self.exchange(&scripts, scripts.len(), usize::MAX)?;
                action(self)
            }
            result => result,
        }
    }

    /// The replies to a pipeline as they come.
    pub(super) fn exchange(
        &mut self,
        pipeline: &Pipeline,
        replies: usize,
        limit: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let packed = pipeline.get_packed_pipeline();
        let answer = self.connection()?.exchange(&packed, replies, limit);
        if let Err(error) = &answer {
            self.too_large = error.kind() == ErrorKind::FileTooLarge;
        }
        self.checked(answer.map_err(RedisError::from))
    }

    /// The answer to a command; an error of Redis is one.
    fn answer(&mut self, command: &Cmd) -> Result<Value, StoreError> {
        self.answer_to(&command.get_packed_command())
    }

    /// The same, for a command in the bytes that go over the line.
    fn answer_to(&mut self, packed: &[u8]) -> Result<Value, StoreError> {
        let answer = self
            .connection()?
            .req_packed_command(packed)
            .and_then(Value::extract_error);
        self.checked(answer)
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.connection.is_none() {
            let (connection, client_id) = open(&self.config, self.client_name)?;
            self.client_id.store(client_id, Ordering::Relaxed);
            // It may be another server.
            (self.before_7, self.state, self.trim) = (false, None, None);
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

fn open(config: &config::Redis, client_name: &str) -> Result<(Connection, i64), StoreError> {
    let place =
        |error: &RedisError| format!("{}:{}: {}", config.host, config.port, in_words(error));
    let unreachable = |error: RedisError| StoreError::Unreachable(place(&error));
    let mut connection = Connection::connect(&config.host, config.port, TIMEOUT)
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
