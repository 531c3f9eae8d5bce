//! Reading the stream and the settings. Nothing here needs memory in Redis, so it works on one
//! that is full: no MULTI, and no command that could write.

use std::time::{Duration, Instant};

use ::redis::{Pipeline, Value};

use super::decoding::{loading, raw_settings, refused, stream, unexpected, values};
use super::page::Page;
use super::scripts::call;
use super::sizes;
use super::{SETTINGS, Save, Store, StoreError, VALUES};
use crate::model::settings::{MAX_VALUE, RawSettings};
use crate::model::status::Record;
use crate::model::stream::Stream;
use crate::model::stream_id::StreamId;
use crate::redis::reply::Walk;

/// Replies to the commands that read the settings.
const SETTINGS_REPLIES: usize = 6;

/// How entries are asked for.
#[derive(Clone, Copy)]
struct Ask {
    start: StreamId,
    end: StreamId,
    count: usize,
    /// XRANGE: the server does not stop by itself. Otherwise the budget of the script.
    budget: Option<usize>,
    step: usize,
}

impl Store {
    /// The three settings in one round trip, up to 1 KiB of each.
    ///
    /// # Errors
    /// As for every command: unreachable, or refused by Redis.
    pub fn settings(&mut self) -> Result<RawSettings, StoreError> {
        let reply = self.exchange(&settings_commands(), SETTINGS_REPLIES, usize::MAX)?;
        settings(&mut Walk::new(&reply, 0))
    }

    /// The settings, and entries behind `after`, in one round trip: at most `count`, and about
    /// `max_bytes` of them as they come from Redis, but at least one. The state of the stream is
    /// that of the same moment, or `None` where the stream has changed meanwhile. A `status` is written
    /// along; see `written_along` for what became of it.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn page(
        &mut self,
        after: StreamId,
        count: usize,
        max_bytes: usize,
        status: Option<&(Record, Save)>,
    ) -> Result<(RawSettings, Option<Stream>, Page), StoreError> {
        self.survey()?;
        let mut ask = self.ask((after, StreamId::MAX), count, max_bytes);
        let mut read = self.read_page(ask, status);
        if matches!(read, Err(StoreError::Unreachable(_))) && self.overran(ask) {
            ask = self.ask((after, StreamId::MAX), count, max_bytes);
            read = self.read_page(ask, status);
        }
        let (settings, state, page) = read?;
        self.sizes.saw(&page);
        if page.is_empty() && page.more() {
            // There was nothing as far as the survey went.
            return self.read_page(self.ask((after, StreamId::MAX), count, max_bytes), status);
        }
        Ok((settings, state, page))
    }

    fn read_page(
        &mut self,
        ask: Ask,
        status: Option<&(Record, Save)>,
    ) -> Result<(RawSettings, Option<Stream>, Page), StoreError> {
        self.with_scripts(|store| {
            // In a backlog, the state at the end of the last page is the one before this page.
            let before = store.state.take();
            let mut commands = settings_commands();
            if before.is_none() {
                commands.add_command(call(&store.scripts.state, &[VALUES]));
            }
            store.add_read(&mut commands, ask);
            commands.add_command(call(&store.scripts.state, &[VALUES]));
            if let Some(status) = status {
                store.add_writing(&mut commands, status);
            }
            let reply = store.exchange_read(&commands, ask)?;
            let mut walk = Walk::new(&reply, 0);
            let settings = settings(&mut walk)?;
            let before = match before {
                Some(before) => before,
                None => stream(walk.value().ok())?.0,
            };
            let at = walk.at();
            let page = page(reply, at, ask)?;
            let (after, _) = stream(page.rest().value().ok())?;
            // XRANGE did not look behind the newest entry of the survey.
            let beyond = match after {
                Stream::Present(extent) => ask.budget.is_none() && extent.newest > ask.end,
                Stream::Absent => false,
            };
            let more = beyond || page.more();
            let page = page.with_more(more);
            let state = (before == after).then_some(after);
            // Otherwise what comes next is new, and the state another one.
            store.state = state.filter(|_| page.more());
            Ok((settings, state, page))
        })
    }

    /// The settings, and then entries behind `after` as soon as there is one, or none after
    /// `patience`. At most `count`, and only a few at once: what else is there comes with the
    /// next page.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn wait(
        &mut self,
        after: StreamId,
        count: usize,
        max_bytes: usize,
        patience: Duration,
    ) -> Result<(RawSettings, Option<Stream>, Page), StoreError> {
        self.with_scripts(|store| store.wait_once(after, count, max_bytes, patience))
    }

    fn wait_once(
        &mut self,
        after: StreamId,
        count: usize,
        max_bytes: usize,
        patience: Duration,
    ) -> Result<(RawSettings, Option<Stream>, Page), StoreError> {
        let ask = Ask {
            budget: None,
            ..self.ask((after, StreamId::MAX), count, max_bytes)
        };
        let few = count.clamp(1, ask.step);
        let mut commands = settings_commands();
        commands
            .cmd("XREAD")
            .arg("COUNT")
            .arg(few)
            .arg("BLOCK")
            .arg(patience.as_millis().max(1) as u64)
            .arg("STREAMS")
            .arg(VALUES)
            .arg(after.to_string());
        // Redis goes on with it at once when the wait is over.
        commands.add_command(call(&self.scripts.state, &[VALUES]));
        let reply = self.exchange(&commands, SETTINGS_REPLIES + 2, usize::MAX)?;
        let mut walk = Walk::new(&reply, 0);
        let settings = settings(&mut walk)?;
        let mut at = walk.at();
        walk.skip();
        let state = stream(walk.value().ok())?.0;
        let mut walk = Walk::new(&reply, at);
        // [[stream, [entry, ...]]], or nil when the time is up.
        if walk.array() == Some(0) {
            return Ok((settings, None, Page::default()));
        }
        if walk.array() == Some(2) && walk.string().is_some() {
            at = walk.at();
        }
        let page = page(reply, at, Ask { count: few, ..ask })?;
        self.sizes.saw(&page);
        Ok(of_one_moment(settings, state, page))
    }

    /// Entries of a range, both ends included: at most `count`, and about `max_bytes` of them as
    /// they come from Redis, but at least one.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn range(
        &mut self,
        range: (StreamId, StreamId),
        count: usize,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        // Nothing has the ID zero.
        let after = range.0.before();
        self.survey()?;
        let mut ask = self.ask((after, range.1), count, max_bytes);
        let mut read = self.read_range(ask);
        if matches!(read, Err(StoreError::Unreachable(_))) && self.overran(ask) {
            ask = self.ask((after, range.1), count, max_bytes);
            read = self.read_range(ask);
        }
        let page = read?;
        self.sizes.saw(&page);
        if page.is_empty() && ask.end < range.1 && ask.budget.is_none() {
            // There was nothing as far as the survey went.
            return self.read_range(self.ask((after, range.1), count, max_bytes));
        }
        Ok(page)
    }

    /// The newest entry of the stream: its ID, and a page of it alone, which is empty where the
    /// entry has more than `max_bytes`.
    ///
    /// # Errors
    /// As for every command; `Refused` also where the stream is not a stream.
    pub fn newest(&mut self, max_bytes: usize) -> Result<Option<(StreamId, Page)>, StoreError> {
        self.with_scripts(|store| {
            let mut commands = ::redis::pipe();
            let mut newest = call(&store.scripts.newest, &[VALUES]);
            newest.arg(max_bytes);
            commands.add_command(newest);
            let reply = store.exchange(&commands, 1, usize::MAX)?;
            let mut walk = Walk::new(&reply, 0);
            if reply.first() == Some(&b'-') {
                let answer = walk.value().and_then(Value::extract_error);
                return Err(answer.map_or_else(refused, |_| unexpected()));
            }
            walk.array()
                .filter(|parts| *parts == 2)
                .ok_or_else(unexpected)?;
            let id = walk.string().and_then(|id| std::str::from_utf8(id).ok());
            let id = id.ok_or_else(unexpected)?.parse().ok();
            let at = walk.at();
            let page = Page::new(reply, at).ok_or_else(unexpected)?;
            Ok(id.map(|id| (id, page)))
        })
    }

    fn read_range(&mut self, ask: Ask) -> Result<Page, StoreError> {
        self.with_scripts(|store| {
            let mut commands = ::redis::pipe();
            store.add_read(&mut commands, ask);
            let reply = store.exchange_read(&commands, ask)?;
            page(reply, 0, ask)
        })
    }

    /// The way to read `count` entries behind `after`; see `sizes`.
    fn ask(&self, (after, last): (StreamId, StreamId), count: usize, max_bytes: usize) -> Ask {
        let (start, end) = match after {
            // There is none behind it, and Redis would call the range malformed.
            StreamId::MAX => (StreamId::MAX, StreamId::ZERO),
            after => (after.next(), last),
        };
        match self.sizes.plain(Instant::now(), after, max_bytes) {
            Some((newest, most)) if after < StreamId::MAX => Ask {
                start,
                end: end.min(newest),
                count: count.min(most),
                budget: None,
                step: sizes::STEP,
            },
            _ => Ask {
                start,
                end,
                count: count.min(sizes::MAX_BOUNDED),
                budget: Some(max_bytes.min(sizes::MAX_BUDGET)),
                step: sizes::STEP,
            },
        }
    }

    fn add_read(&self, commands: &mut Pipeline, ask: Ask) {
        let (start, end) = (ask.start.to_string(), ask.end.to_string());
        match ask.budget {
            None => {
                commands
                    .cmd("XRANGE")
                    .arg(VALUES)
                    .arg(start)
                    .arg(end)
                    .arg("COUNT")
                    .arg(ask.count);
            }
            Some(budget) => {
                let mut bounded = call(&self.scripts.bounded, &[VALUES]);
                bounded
                    .arg(start)
                    .arg(end)
                    .arg(ask.count)
                    .arg(budget)
                    .arg(ask.step);
                commands.add_command(bounded);
            }
        }
    }

    fn exchange_read(&mut self, commands: &Pipeline, ask: Ask) -> Result<Vec<u8>, StoreError> {
        let limit = match ask.budget {
            None => sizes::MAX_REPLY,
            Some(_) => usize::MAX,
        };
        self.exchange(commands, commands.len(), limit)
    }

    /// Whether this was asked for without a budget and the answer was too large.
    fn overran(&mut self, ask: Ask) -> bool {
        let overran = std::mem::take(&mut self.too_large) && ask.budget.is_none();
        if overran {
            self.sizes.overrun(Instant::now());
        }
        overran
    }
}

/// The three settings, unless the server answers nothing at all.
fn settings(walk: &mut Walk) -> Result<RawSettings, StoreError> {
    let mut ahead = *walk;
    loading(ahead.value().ok().as_ref())?;
    Ok(raw_settings(&mut values(walk)))
}

/// The page at this place of the replies, or why there is none.
fn page(reply: Vec<u8>, at: usize, ask: Ask) -> Result<Page, StoreError> {
    let mut walk = Walk::new(&reply, at);
    if reply.get(at) == Some(&b'-') {
        let answer = walk.value().and_then(Value::extract_error);
        return Err(answer.map_or_else(refused, |_| unexpected()));
    }
    let mut cut = false;
    if ask.budget.is_some() {
        // [1 or 0, entries]
        walk.array()
            .filter(|parts| *parts == 2)
            .ok_or_else(unexpected)?;
        cut = matches!(walk.value(), Ok(Value::Int(1)));
    }
    let at = walk.at();
    let page = Page::new(reply, at).ok_or_else(unexpected)?;
    let more = cut || page.len() == ask.count;
    Ok(page.with_more(more))
}

/// The first entry of a burst ends the wait, and Redis takes the rest of the burst before it tells
/// the state: then the page does not reach the end. Where its own entries are gone again, the
/// state says nothing about it.
fn of_one_moment(
    settings: RawSettings,
    state: Stream,
    page: Page,
) -> (RawSettings, Option<Stream>, Page) {
    let Stream::Present(extent) = state else {
        return (settings, None, page);
    };
    let there = extent.first.is_some() && extent.first <= page.first();
    let more = page.more() || page.last().is_some_and(|last| last < extent.newest);
    (settings, there.then_some(state), page.with_more(more))
}

fn settings_commands() -> Pipeline {
    let mut commands = ::redis::pipe();
    for key in SETTINGS {
        commands.cmd("EXISTS").arg(key);
        commands.cmd("GETRANGE").arg(key).arg(0).arg(MAX_VALUE);
    }
    commands
}
