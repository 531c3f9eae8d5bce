//! The status of the service, as it is stored for everybody to see.

use std::collections::HashMap;

use ::redis::{Cmd, Pipeline, Value};

use super::cursor::position;
use super::decoding::{refused, text_of};
use super::scripts::{WRITE, call};
use super::{Page, STATUS, Save, ServerMemory, ServiceState, Store, StoreError};
use crate::model::quote::plain;
use crate::model::settings::Raw;
use crate::model::status::Record;
use crate::model::stream::{Extent, Position, Stream};
use crate::model::stream_id::{Cursor, StreamId};

/// The fields of the status, and the account where it is known.
fn fields_of(record: &Record, save: Option<&Save>) -> Vec<(&'static str, String)> {
    let mut fields = record.fields();
    fields.extend(save.map(|save| ("position", position(save))));
    fields
}

/// What became of the status that was written along with this page, and how much of `maxmemory`
/// was used then, in percent.
pub fn written_along(page: &Page) -> (Result<(), StoreError>, Option<f64>) {
    let mut rest = page.rest();
    // The state of the stream, and the hash of the script.
    rest.skip();
    rest.skip();
    let written = rest.value().and_then(Value::extract_error);
    let memory = ServerMemory::from_info(&text_of(rest.value().ok()));
    let used = memory.and_then(ServerMemory::used_percent);
    (written.map(|_| ()).map_err(refused), used)
}

impl Store {
    /// Writes the status, and the account where it is known; also on a full Redis.
    ///
    /// # Errors
    /// As for every command.
    pub fn write_status(&mut self, record: &Record, save: Option<&Save>) -> Result<(), StoreError> {
        self.write_fields(&fields_of(record, save))
    }

    /// The commands that write the status along with a page, and ask for the memory of the server.
    pub(super) fn add_writing(&self, commands: &mut Pipeline, (record, save): &(Record, Save)) {
        // A page is not to be read again where the server does not have this script.
        commands.cmd("SCRIPT").arg("LOAD").arg(WRITE);
        commands.add_command(self.writing(&fields_of(record, Some(save))));
        commands.cmd("INFO").arg("memory");
    }

    fn writing(&self, fields: &[(&str, String)]) -> Cmd {
        let mut command = call(&self.scripts.write, &[STATUS]);
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        command
    }

    pub(super) fn write_fields(&mut self, fields: &[(&str, String)]) -> Result<(), StoreError> {
        self.with_scripts(|store| {
            let command = store.writing(fields);
            store.answer(&command).map(|_| ())
        })
    }

    /// The status as it is stored, with what can be told of this very moment; `None` where
    /// there is none. Texts are fit for a terminal, whoever has written them. Works on a full
    /// Redis.
    ///
    /// # Errors
    /// As for every command.
    pub fn live(&mut self) -> Result<Option<ServiceState>, StoreError> {
        let (record, position) = match self.stored_record()? {
            Some(stored) => stored,
            None => return Ok(None),
        };
        // One after the other: what is read first is at most a moment older, which a rate or an
        // age does not show.
        let raw = self.settings()?.last_id;
        let state = match self.stream() {
            Err(StoreError::Refused(_)) => Stream::Absent,
            state => state?,
        };
        let text = raw.text().ok().flatten().unwrap_or_default();
        let accounted = Position::parse(&position)
            .filter(|position| position.cursor == text)
            .and_then(|position| position.accounted);
        let after = match text.parse() {
            Ok(Cursor::After(id)) => id,
            _ => StreamId::ZERO,
        };
        let (added, oldest) = match state {
            Stream::Present(Extent { added, newest, .. }) => {
                (added, self.first_behind(after, newest)?)
            }
            Stream::Absent => (None, None),
        };
        let running = self.service_is_connected()?;
        let running = running.unwrap_or(!record.is_stale());
        Ok(Some(ServiceState {
            record,
            backlog: added
                .zip(accounted)
                .map(|(added, accounted)| added.saturating_sub(accounted)),
            accounted,
            cursor: cursor_for_people(&raw),
            oldest,
            used_percent: self.used_percent()?,
            running,
        }))
    }

    /// The record, and the place in the account.
    fn stored_record(&mut self) -> Result<Option<(Record, String)>, StoreError> {
        let mut names: Vec<&str> = Record::default()
            .fields()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names.push("position");
        let values = self.fields(&names)?;
        let mut fields: HashMap<&str, String> = names.into_iter().zip(values).collect();
        if fields.values().all(String::is_empty) {
            return Ok(None);
        }
        let position = fields.remove("position").unwrap_or_default();
        let record = Record::from_fields(|name| fields.get(name).map(|text| plain(text)));
        Ok(Some((record, position)))
    }

    /// Whether the service has a connection to this Redis; `None` where this client may not
    /// ask.
    fn service_is_connected(&mut self) -> Result<Option<bool>, StoreError> {
        let mut command = ::redis::cmd("CLIENT");
        command.arg("LIST");
        match self.answer(&command) {
            Ok(clients) => {
                let clients = text_of(Some(clients));
                let mut fields = clients.lines().flat_map(|line| line.split(' '));
                Ok(Some(fields.any(|field| field == "name=mqtt-handler")))
            }
            Err(StoreError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The cursor as it is stored, fit for a terminal.
fn cursor_for_people(raw: &Raw) -> String {
    match raw {
        Raw::Text(text) => plain(text),
        raw => raw.text().err().map_or_else(String::new, |why| why.0),
    }
}
