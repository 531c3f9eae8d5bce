//! Copies of measurements that the broker refuses.
//!
//! The stored cursor waits for the copy, and the trim for the cursor: on a full Redis a refused copy
//! would keep it full for ever. So the copy may exceed `maxmemory`, but not by more than a quarter:
//! copies take more than the measurements that make room for them, and nobody trims them.

use std::borrow::Cow;
use std::io::Write;

use ::redis::Value;

use super::decoding::{refused, unexpected};
use super::page::Page;
use super::scripts::call;
use super::{DEAD_LETTER, STATUS, Store, StoreError, VALUES};
use crate::model::stream::Copied;
use crate::model::stream_id::StreamId;
use crate::redis::reply::Walk;

/// Fields that the copy has on top.
const ADDED: [&[u8]; 2] = [b"_id", b"_reason"];
/// Up to here copies may exceed `maxmemory`.
const MOST_PERCENT: f64 = 125.0;

impl Store {
    /// Copies one measurement to `mqtt_sender:dead_letter`: its fields, with `_id` and `_reason`
    /// ahead of them; also on a full Redis, where more than 3500 fields become several entries.
    /// After `Unreachable` the same call can be made again: it finds the copy that is already
    /// there.
    ///
    /// The fields go through this process: a script of Redis cannot pass on more than some 8000
    /// words.
    ///
    /// # Errors
    /// As for every command; `Refused` where there is no copy: the key holds something else, or
    /// Redis is more than full.
    pub fn copy_poison(&mut self, id: StreamId, reason: &str) -> Result<Copied, StoreError> {
        if self.is_copied(id)? {
            return Ok(Copied::Yes);
        }
        let text = id.to_string();
        let (dead, id_text, reason) = (DEAD_LETTER.as_bytes(), text.as_bytes(), reason.as_bytes());
        let plain = [b"XADD", dead, b"*", ADDED[0], id_text, ADDED[1], reason];
        match self.copy_by(id, &plain) {
            Err(StoreError::Refused(why)) if why.starts_with("OOM") => {
                if !self.may_exceed()? {
                    return Err(StoreError::Refused(why));
                }
            }
            copied => return copied,
        }
        self.exceeding(|store| {
            let script = store.scripts.copy.of(store.before_7);
            let loaded = script.prepare_invoke().load(store.connection()?);
            let hash = store.checked(loaded)?;
            let (hash, status) = (hash.as_bytes(), STATUS.as_bytes());
            let head = [b"EVALSHA", hash, b"2", dead, status, id_text, reason];
            store.copy_by(id, &head)
        })
    }

    /// Copies by a command that begins with `head`, and ends with the fields.
    fn copy_by(&mut self, id: StreamId, head: &[&[u8]]) -> Result<Copied, StoreError> {
        let Some(entry) = self.single(id)? else {
            return Ok(Copied::Gone(self.stream()?));
        };
        let command = copy_command(head, &entry);
        drop(entry);
        self.answer_to(&command).map(|_| Copied::Yes)
    }

    /// Whether a full Redis has room for what must not wait. Who may not ask is not held up.
    fn may_exceed(&mut self) -> Result<bool, StoreError> {
        let used = self.used_percent()?;
        Ok(used.is_none_or(|percent| percent < MOST_PERCENT))
    }

    fn is_copied(&mut self, id: StreamId) -> Result<bool, StoreError> {
        self.with_scripts(|store| {
            let mut copied = call(&store.scripts.copied, &[DEAD_LETTER]);
            copied.arg(id.to_string());
            match store.answer(&copied)? {
                Value::Int(found) => Ok(found == 1),
                Value::ServerError(error) => Err(refused(error.into())),
                _ => Err(unexpected()),
            }
        })
    }

    /// One entry, of any size.
    fn single(&mut self, id: StreamId) -> Result<Option<Page>, StoreError> {
        let mut command = ::redis::pipe();
        let text = id.to_string();
        command.cmd("XRANGE").arg(VALUES).arg(&text).arg(&text);
        let reply = self.exchange(&command, 1, usize::MAX)?;
        if reply.first() == Some(&b'-') {
            let answer = Walk::new(&reply, 0).value().and_then(Value::extract_error);
            return Err(answer.map_or_else(refused, |_| unexpected()));
        }
        let page = Page::new(reply, 0).ok_or_else(unexpected)?;
        Ok((!page.is_empty()).then_some(page))
    }
}

/// The command as it goes over the line: the library would keep an object for each of its words.
fn copy_command(head: &[&[u8]], entry: &Page) -> Vec<u8> {
    let fields = || entry.entries().flat_map(|entry| entry.fields);
    let words: usize = head.iter().map(|word| word.len() + 16).sum();
    let mut command = Vec::with_capacity(entry.measure().sent + words);
    // Writing to a Vec cannot fail.
    let _ = write!(command, "*{}\r\n", head.len() + 2 * fields().count());
    let mut word = |text: &[u8]| {
        let _ = write!(command, "${}\r\n", text.len());
        command.extend_from_slice(text);
        command.extend_from_slice(b"\r\n");
    };
    head.iter().copied().for_each(&mut word);
    for (name, value) in fields() {
        word(&copied_name(name));
        word(value);
    }
    command
}

/// A sensor's own field of that name gets one more underscore.
fn copied_name(name: &[u8]) -> Cow<'_, [u8]> {
    if ADDED.contains(&name) {
        return Cow::Owned([b"_", name].concat());
    }
    Cow::Borrowed(name)
}
