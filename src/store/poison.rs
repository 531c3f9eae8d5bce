//! Copies of measurements that the broker refuses.

use std::borrow::Cow;
use std::io::Write;

use ::redis::Value;

use super::answers::{refused, unexpected};
use super::page::Page;
use super::scripts::call;
use super::{DEAD_LETTER, Store, StoreError, VALUES};
use crate::model::stream::Copied;
use crate::model::stream_id::StreamId;
use crate::redis::reply::Walk;

/// Fields that the copy has on top.
const ADDED: [&[u8]; 2] = [b"_id", b"_reason"];

impl Store {
    /// Copies one measurement to `mqtt_sender:dead_letter`: its fields, with `_id` and `_reason`
    /// ahead of them. After `Unreachable` the same call can be made again: it finds the copy
    /// that is already there.
    ///
    /// The fields go through this process: a script of Redis cannot pass on more than some 8000
    /// words.
    ///
    /// # Errors
    /// As for every command; `Refused` where there is no copy: the key holds something else, or
    /// Redis is full.
    pub fn copy_poison(&mut self, id: StreamId, reason: &str) -> Result<Copied, StoreError> {
        if self.is_copied(id)? {
            return Ok(Copied::Yes);
        }
        let Some(entry) = self.single(id)? else {
            return Ok(Copied::Gone);
        };
        let command = copy_command(id, reason, &entry);
        drop(entry);
        self.answer_to(&command).map(|_| Copied::Yes)
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
fn copy_command(id: StreamId, reason: &str, entry: &Page) -> Vec<u8> {
    let fields = || entry.entries().flat_map(|entry| entry.fields);
    let id = id.to_string();
    let head: [&[u8]; 7] = [
        b"XADD",
        DEAD_LETTER.as_bytes(),
        b"*",
        ADDED[0],
        id.as_bytes(),
        ADDED[1],
        reason.as_bytes(),
    ];
    let mut command = Vec::with_capacity(entry.measure().sent + 256 + reason.len());
    // Writing to a Vec cannot fail.
    let _ = write!(command, "*{}\r\n", head.len() + 2 * fields().count());
    let mut word = |text: &[u8]| {
        let _ = write!(command, "${}\r\n", text.len());
        command.extend_from_slice(text);
        command.extend_from_slice(b"\r\n");
    };
    head.into_iter().for_each(&mut word);
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
