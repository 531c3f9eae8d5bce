//! Looking at the stream without reading what it holds: only numbers and IDs leave Redis, and
//! what is walked over there is bounded by entries and bytes.

use std::time::Instant;

use super::decoding::{info, number, stream, text_of, walked};
use super::scripts::call;
use super::server::ServerMemory;
use super::sizes::{self, Survey};
use super::{Store, StoreError, VALUES};
use crate::model::stream::{Extent, Look, Stream, Waiting};
use crate::model::stream_id::{Cursor, StreamId};
use crate::redis::reply::Walk;

/// Entries that one walk of the script goes over: 1.3 to 3 us of Redis each.
pub(super) const SLICE: u64 = 1000;
/// On servers that do not count, waiting entries are counted up to this number.
const MOST_COUNTED: u64 = 10_000;

/// A direction in which entries are walked over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Store {
    /// The state of the stream.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn stream(&mut self) -> Result<Stream, StoreError> {
        self.with_scripts(|store| {
            let answer = store.answer(&call(&store.scripts.state, &[VALUES]))?;
            Ok(stream(Some(answer))?.0)
        })
    }

    /// What is to be told about the stream behind `after`.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn look(&mut self, after: StreamId) -> Result<Look, StoreError> {
        let (state, memory) = self.state_and_memory()?;
        let oldest = match state {
            Stream::Present(extent) => self.first_behind(after, extent.newest)?,
            Stream::Absent => None,
        };
        let waiting = match state {
            Stream::Present(Extent {
                added: None,
                newest,
                ..
            }) => Some(self.count_waiting(after, newest)?),
            _ => None,
        };
        Ok(Look {
            stream: state,
            oldest,
            waiting,
            used_percent: memory.and_then(ServerMemory::used_percent),
        })
    }

    /// The memory of the server in the same round trip; it is not told to everybody.
    fn state_and_memory(&mut self) -> Result<(Stream, Option<ServerMemory>), StoreError> {
        self.with_scripts(|store| {
            let mut commands = ::redis::pipe();
            commands
                .add_command(call(&store.scripts.state, &[VALUES]))
                .cmd("INFO")
                .arg("memory");
            let reply = store.exchange(&commands, commands.len(), usize::MAX)?;
            let mut walk = Walk::new(&reply, 0);
            let (state, _) = stream(walk.value().ok())?;
            Ok((state, ServerMemory::from_info(&text_of(walk.value().ok()))))
        })
    }

    /// The ID of the first entry behind `after`.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn oldest(&mut self, after: StreamId) -> Result<Option<StreamId>, StoreError> {
        self.first_behind(after, StreamId::MAX)
    }

    pub(super) fn first_behind(
        &mut self,
        after: StreamId,
        newest: StreamId,
    ) -> Result<Option<StreamId>, StoreError> {
        if after >= newest {
            return Ok(None);
        }
        Ok(self.walk(Way::Up, (after, newest), 1)?.1)
    }

    fn count_waiting(&mut self, after: StreamId, last: StreamId) -> Result<Waiting, StoreError> {
        let (mut counted, mut from) = (0, after);
        while counted < MOST_COUNTED && from < last {
            let (count, end) = self.count(from, last)?;
            if count == 0 {
                return Ok(Waiting::Exactly(counted));
            }
            (counted, from) = (counted + count, end);
        }
        if from < last {
            return Ok(Waiting::AtLeast(MOST_COUNTED));
        }
        Ok(Waiting::Exactly(counted))
    }

    /// Counts a slice of the entries behind `after` up to `last`, and says where it ended; 0:
    /// there are no more. The caller goes on from there.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn count(
        &mut self,
        after: StreamId,
        last: StreamId,
    ) -> Result<(u64, StreamId), StoreError> {
        let (count, end) = self.walk(Way::Up, (after, last), SLICE)?;
        Ok((count, end.unwrap_or(last)))
    }

    /// Walks over at most `count` entries from behind `range.0` to `range.1`, up or
    /// down, without reading them: how many there were, and the last of them.
    pub(super) fn walk(
        &mut self,
        way: Way,
        (behind, to): (StreamId, StreamId),
        count: u64,
    ) -> Result<(u64, Option<StreamId>), StoreError> {
        let (command, end) = match way {
            Way::Up => ("XRANGE", StreamId::MAX),
            Way::Down => ("XREVRANGE", StreamId::ZERO),
        };
        if behind == end {
            // There is none behind it, and Redis would call the range malformed.
            return Ok((0, None));
        }
        let step = self.step(behind);
        self.with_scripts(|store| {
            let mut walk = call(&store.scripts.walk, &[VALUES]);
            walk.arg(command)
                .arg(Cursor::written(behind))
                .arg(to.to_string())
                .arg(count.min(SLICE))
                .arg(sizes::MAX_BUDGET)
                .arg(step);
            walked(store.answer(&walk)?)
        })
    }

    /// Entries that a script may read at a time from `after` on.
    fn step(&self, after: StreamId) -> usize {
        match self.sizes.plain(Instant::now(), after, sizes::MAX_BUDGET) {
            Some(_) => 16 * sizes::STEP,
            None => sizes::STEP,
        }
    }

    /// Finds out whether the stream may be read plainly, where that would help.
    pub(super) fn survey(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if !self.sizes.survey_due(now) {
            return Ok(());
        }
        let survey = self.with_scripts(|store| {
            let mut commands = ::redis::pipe();
            commands
                .add_command(call(&store.scripts.state, &[VALUES]))
                .cmd("MEMORY")
                .arg("USAGE")
                .arg(VALUES)
                .arg("SAMPLES")
                .arg(sizes::NODES)
                .cmd("INFO")
                .arg("memory");
            let reply = store.exchange(&commands, commands.len(), usize::MAX)?;
            let mut walk = Walk::new(&reply, 0);
            let (state, nodes) = stream(walk.value().ok())?;
            let usage = walk.value().ok();
            let info_text = text_of(walk.value().ok());
            let whole = info(&info_text, "used_memory").and_then(|used| used.parse().ok());
            let exact = (nodes <= sizes::NODES).then(|| number(&usage?)).flatten();
            let Stream::Present(extent) = state else {
                return Ok(None);
            };
            Ok(exact.or(whole).map(|memory| Survey {
                length: extent.length,
                memory,
                newest: extent.newest,
            }))
        })?;
        self.sizes.surveyed(now, survey);
        Ok(())
    }
}
