//! What is written about the progress: the cursor with its account, and the trim behind it. All
//! of it works on a full Redis, because only then the sensors can write again.

use ::redis::{Script, Value};

use super::decoding::{not_a_string, number, refused, text_of, unexpected};
use super::looking::{SLICE, Way};
use super::scripts::call;
use super::{LAST_ID, STATUS, Save, Store, StoreError, Trimmed, VALUES};
use crate::model::settings::Raw;
use crate::model::stream::{Position, Remembered, Saved, Sent};
use crate::model::stream_id::{Cursor, StreamId};

/// Entries that one XTRIM removes: 100 nodes of the usual size, 0.1 to 1 ms of Redis.
const TRIM_SLICE: u64 = 10_000;

/// The way back from a cursor to the first entry that is kept, as far as it was gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    keep: u64,
    /// Entries walked over, and the last of them (or the ID behind the cursor).
    walked: u64,
    at: StreamId,
    /// `at` is the first entry to keep.
    found: bool,
}

impl Store {
    /// Saves the cursor if it is still `expected`, and what goes with it; also on a full Redis.
    ///
    /// # Errors
    /// As for every command. After `Unreachable` the same call can be made again: it does not
    /// take its own earlier write for somebody else's.
    pub fn save_cursor(&mut self, expected: &Raw, save: &Save) -> Result<Saved, StoreError> {
        self.exceeding(|store| {
            let script = store.scripts.save.of(store.before_7);
            store.save_by(&script, expected, save)
        })
    }

    /// Runs a script that may exceed `maxmemory`, in the form that this server knows.
    pub(super) fn exceeding<T>(
        &mut self,
        run: impl Fn(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match run(self) {
            Err(StoreError::Refused(reason))
                if !self.before_7 && reason.contains("ompiling script") =>
            {
                self.before_7 = true;
                run(self)
            }
            result => result,
        }
    }

    fn save_by(
        &mut self,
        script: &Script,
        expected: &Raw,
        save: &Save,
    ) -> Result<Saved, StoreError> {
        let mut call = script.key(LAST_ID);
        call.key(STATUS);
        match expected {
            Raw::Text(text) => call.arg("1").arg(text),
            Raw::Bytes(bytes) => call.arg("1").arg(bytes),
            Raw::Missing => call.arg("0").arg(""),
            // Any string, and none, is somebody else's by now.
            Raw::Unusable(_) => call.arg("").arg(""),
        };
        call.arg(save.cursor).arg("position").arg(position(save));
        let counts = [("lost", save.lost), ("dead_letters", save.dead_letters)];
        for (name, count) in counts {
            if let Some(count) = count {
                call.arg(name).arg(count);
            }
        }
        let answer = call.invoke::<Value>(self.connection()?);
        match self.checked(answer)? {
            Value::Int(1) => Ok(Saved::Yes),
            Value::Array(found) => {
                let mut found = found.into_iter();
                let kind = text_of(found.next());
                Ok(Saved::Foreign(match (kind.as_str(), found.next()) {
                    ("none", _) => Raw::Missing,
                    (_, Some(Value::BulkString(bytes))) => Raw::from_bytes(bytes),
                    _ => not_a_string(),
                }))
            }
            _ => Err(unexpected()),
        }
    }

    /// Stores the account without moving the cursor, so that no loss is ever told twice; also on a
    /// full Redis.
    ///
    /// # Errors
    /// As for every command.
    pub fn note_account(&mut self, save: &Save) -> Result<(), StoreError> {
        let mut fields = vec![("position", position(save))];
        let counts = [("lost", save.lost), ("dead_letters", save.dead_letters)];
        fields.extend(
            counts
                .into_iter()
                .filter_map(|(name, count)| Some((name, count?.to_string()))),
        );
        self.write_fields(&fields)
    }

    /// What an earlier run has left behind.
    ///
    /// # Errors
    /// As for every command.
    pub fn remembered(&mut self) -> Result<Remembered, StoreError> {
        let fields = match self.fields(&["position", "lost", "dead_letters"]) {
            // Somebody has put something else there: then nothing is remembered.
            Err(StoreError::Refused(reason)) if reason.starts_with("WRONGTYPE") => {
                return Ok(Remembered::default());
            }
            fields => fields?,
        };
        let text = |at: usize| fields.get(at).map_or("", String::as_str);
        Ok(Remembered {
            position: Position::parse(text(0)),
            lost: text(1).parse().unwrap_or(0),
            dead_letters: text(2).parse().unwrap_or(0),
        })
    }

    /// Fields of the status; empty where one is missing or longer than 1 KiB.
    pub(super) fn fields(&mut self, names: &[&str]) -> Result<Vec<String>, StoreError> {
        self.with_scripts(|store| {
            let mut fields = call(&store.scripts.fields, &[STATUS]);
            fields.arg(names);
            match store.answer(&fields)? {
                Value::Array(found) => Ok(found
                    .into_iter()
                    .map(|field| text_of(Some(field)))
                    .collect()),
                Value::ServerError(error) => Err(refused(error.into())),
                _ => Err(unexpected()),
            }
        })
    }

    /// Removes a slice of what lies before `keep` entries up to the cursor; never one behind it,
    /// none where the stored cursor is another, and none of another stream: one that does not reach
    /// up to the cursor, has older entries, or to which fewer were ever added. Where there is `more`,
    /// the caller goes on.
    /// A step either walks back over 1000 entries or removes up to 10,000.
    ///
    /// # Errors
    /// As for every command; a refusal forgets how far this was.
    pub fn trim_sent(&mut self, sent: &Sent, keep: u64) -> Result<Trimmed, StoreError> {
        let cursor = sent.cursor;
        let begin = Trim {
            keep,
            walked: 0,
            at: cursor.next(),
            found: keep == 0,
        };
        // A way that was begun from an earlier cursor ends where fewer are removed.
        let same = |trim: &Trim| trim.keep == keep && trim.at <= cursor.next();
        let mut trim = self.trim.take().filter(same).unwrap_or(begin);
        if !trim.found {
            let left = keep - trim.walked;
            let asked = left.min(SLICE);
            let (count, last) = self.walk(Way::Down, (trim.at, StreamId::ZERO), asked)?;
            let Some(last) = last else {
                return Ok(Trimmed::default());
            };
            (trim.walked, trim.at) = (trim.walked + count, last);
            trim.found = trim.walked >= keep;
            if !trim.found {
                self.trim = Some(trim);
                return Ok(Trimmed {
                    removed: 0,
                    more: true,
                });
            }
        }
        let trimmed = self.remove_before(trim.at, sent)?;
        if trimmed.more {
            self.trim = Some(trim);
        }
        Ok(trimmed)
    }

    fn remove_before(&mut self, first: StreamId, sent: &Sent) -> Result<Trimmed, StoreError> {
        let script = self.scripts.trim.clone();
        let mut call = script.key(LAST_ID);
        call.key(VALUES)
            .arg(Cursor::written(sent.cursor))
            .arg(first.to_string())
            .arg(TRIM_SLICE)
            .arg(sent.cursor.to_string())
            .arg(sent.accounted.unwrap_or(0))
            .arg(sent.oldest.to_string());
        let answer = call.invoke::<Value>(self.connection()?);
        match self.checked(answer)? {
            Value::Array(parts) => match parts.as_slice() {
                [removed, more] => Ok(Trimmed {
                    removed: number(removed).ok_or_else(unexpected)?,
                    more: number(more) == Some(1),
                }),
                _ => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }
}

pub(super) fn position(save: &Save) -> String {
    let position = Position {
        cursor: save.cursor.into(),
        accounted: save.accounted,
        seen: save.seen,
        former: save.former,
        foreign: save.foreign,
    };
    position.to_string()
}
