//! Reading the stream and the settings.

use std::time::Duration;

use ::redis::{ConnectionLike, Pipeline, RedisError, RedisResult, Value};

use super::answers::{in_words, loading, raw_settings, refused, stream_state, unexpected};
use super::page::Page;
use super::{ENABLED, INTERVAL, LAST_ID, Store, StoreError, StreamState, VALUES};
use crate::model::settings::RawSettings;
use crate::model::stream_id::{Cursor, StreamId};
use crate::redis::reply::Walk;

impl Store {
    /// The three settings in one round trip.
    ///
    /// # Errors
    /// As for every command: unreachable, or refused by Redis.
    pub fn settings(&mut self) -> Result<RawSettings, StoreError> {
        let commands = settings_commands();
        let (reply, at) = self.exchange(&commands, commands.len())?;
        settings(&mut Walk::new(&reply, at))
    }

    /// The settings and a page of at most `count` entries behind `after`, in one round trip
    /// and of one moment.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn page(
        &mut self,
        after: StreamId,
        count: usize,
    ) -> Result<(RawSettings, Page), StoreError> {
        let mut commands = settings_commands();
        commands.cmd("XINFO").arg("STREAM").arg(VALUES);
        commands
            .cmd("XRANGE")
            .arg(VALUES)
            .arg(Cursor::written(after))
            .arg("+")
            .arg("COUNT")
            .arg(count);
        let (reply, at) = self.transaction(&mut commands)?;
        let mut walk = Walk::new(&reply, at);
        let settings = raw_settings(&mut values(&mut walk));
        let stream = Some(stream_state(walk.value().ok())?);
        let at = walk.at();
        Ok((settings, page(reply, at, stream)?))
    }

    /// The settings, and then up to `count` entries behind `after` as soon as there is one, or
    /// none after `patience`.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn wait(
        &mut self,
        after: StreamId,
        count: usize,
        patience: Duration,
    ) -> Result<(RawSettings, Page), StoreError> {
        let mut commands = settings_commands();
        commands
            .cmd("XREAD")
            .arg("COUNT")
            .arg(count)
            .arg("BLOCK")
            .arg(patience.as_millis().max(1) as u64)
            .arg("STREAMS")
            .arg(VALUES)
            .arg(after.to_string());
        let (reply, at) = self.exchange(&commands, commands.len())?;
        let mut walk = Walk::new(&reply, at);
        let settings = settings(&mut walk)?;
        // [[stream, [entry, …]]], or nil when the time is up.
        let mut at = walk.at();
        if walk.array() == Some(0) {
            return Ok((settings, Page::default()));
        }
        if walk.array() == Some(2) && walk.string().is_some() {
            at = walk.at();
        }
        Ok((settings, page(reply, at, None)?))
    }

    /// The state of the stream.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn stream(&mut self) -> Result<StreamState, StoreError> {
        let mut command = ::redis::cmd("XINFO");
        command.arg("STREAM").arg(VALUES);
        let packed = command.get_packed_command();
        let answer = self.connection()?.req_packed_command(&packed);
        stream_state(Some(self.checked(answer)?))
    }

    /// The ID of the first entry behind `after`.
    ///
    /// # Errors
    /// As for every command.
    pub fn oldest(&mut self, after: StreamId) -> Result<Option<StreamId>, StoreError> {
        Ok(self.range((after.next(), StreamId::MAX), 1)?.first())
    }

    /// At most `count` entries of a range, both ends included.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn range(&mut self, range: (StreamId, StreamId), count: usize) -> Result<Page, StoreError> {
        let mut commands = ::redis::pipe();
        commands
            .cmd("XRANGE")
            .arg(VALUES)
            .arg(range.0.to_string())
            .arg(range.1.to_string())
            .arg("COUNT")
            .arg(count);
        let (reply, at) = self.exchange(&commands, 1)?;
        page(reply, at, None)
    }

    /// The replies to commands of one moment, and where the first of them begins.
    pub(super) fn transaction(
        &mut self,
        commands: &mut Pipeline,
    ) -> Result<(Vec<u8>, usize), StoreError> {
        commands.atomic();
        // MULTI and the commands are each answered for themselves, and EXEC with everything.
        let (reply, at) = self.exchange(commands, commands.len() + 2)?;
        let mut walk = Walk::new(&reply, at);
        for _ in 0..=commands.len() {
            succeeded(walk.value())?;
        }
        if walk.array() != Some(commands.len()) {
            succeeded(walk.value())?;
            return Err(unexpected());
        }
        let at = walk.at();
        Ok((reply, at))
    }

    /// The replies to a pipeline as they come, and where they begin: a status that waits goes
    /// out ahead of it.
    fn exchange(
        &mut self,
        pipeline: &Pipeline,
        replies: usize,
    ) -> Result<(Vec<u8>, usize), StoreError> {
        let status = self.status.take();
        let told = usize::from(status.is_some());
        let mut packed = status.unwrap_or_default();
        packed.extend(pipeline.get_packed_pipeline());
        let answer = self.connection()?.exchange(&packed, told + replies);
        let reply = self.checked(answer.map_err(RedisError::from))?;
        let mut walk = Walk::new(&reply, 0);
        if told == 1 {
            let answer = walk.value().and_then(Value::extract_error);
            self.status_refused = answer.err().as_ref().map(in_words);
        }
        let at = walk.at();
        Ok((reply, at))
    }
}

fn succeeded(answer: RedisResult<Value>) -> Result<(), StoreError> {
    answer
        .and_then(Value::extract_error)
        .map_or_else(|error| Err(refused(error)), |_| Ok(()))
}

/// The three settings, unless the server answers nothing at all.
fn settings(walk: &mut Walk) -> Result<RawSettings, StoreError> {
    let mut ahead = *walk;
    loading(ahead.value().ok().as_ref())?;
    Ok(raw_settings(&mut values(walk)))
}

pub(super) fn values(walk: &mut Walk) -> impl Iterator<Item = Value> {
    std::iter::from_fn(|| walk.value().ok())
}

/// The page at this place of the replies, or why there is none.
fn page(reply: Vec<u8>, at: usize, stream: Option<StreamState>) -> Result<Page, StoreError> {
    if reply.get(at) == Some(&b'-') {
        succeeded(Walk::new(&reply, at).value())?;
    }
    Page::new(reply, at, stream).ok_or_else(unexpected)
}

fn settings_commands() -> Pipeline {
    let mut commands = ::redis::pipe();
    commands
        .cmd("GET")
        .arg(ENABLED)
        .cmd("GET")
        .arg(INTERVAL)
        .cmd("GET")
        .arg(LAST_ID);
    commands
}
