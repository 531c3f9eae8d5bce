//! The thread that reads the stream, hands lists to the publisher and saves the cursor.
//!
//! It is the only owner of the cursor and of the read position. A list is handed over only
//! when the one before is answered *and* the cursor behind it is saved, so that a power cut
//! repeats at most one list; the next one is read and encoded meanwhile. Nothing is kept for
//! resending: after a loss the stream is read again from the cursor.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{debug, error, info, warn};

use crate::backoff::{self, Backoff};
use crate::config::{BatchLimits, Config};
use crate::delivery::{Delivery, Failure, Span};
use crate::measurement::{Batch, Encoder, Entry, Oddities};
use crate::mqtt::Message;
use crate::publisher::{Event, Letter};
use crate::settings::{Notice, Raw, RawSettings, Settings, parse_last_id, unusable};
use crate::shutdown::{GRACE, Grace, Shutdown};
use crate::store::{Saved, Store, StoreError};
use crate::stream_id::{Cursor, StreamId};

/// A change of the settings takes effect within a second; a little is left for the way.
const SETTINGS_AGE: Duration = Duration::from_millis(900);
/// Entries of the first page, before anything is known about their size.
const FIRST_PAGE: usize = 32;
/// Ahead of a reboot nothing is sent for so long; then it evidently did not come.
const QUIET: Duration = Duration::from_secs(20);
/// Foreign cursors in a row that point to a second instance.
const MANY_MISMATCHES: u32 = 3;

pub struct Poller {
    config: BatchLimits,
    topic: String,
    store: Store,
    encoder: Encoder,
    delivery: Delivery,
    settings: Settings,
    shutdown: Shutdown,
    letters: Sender<Letter>,
    events: Receiver<Event>,
    own_events: Sender<Event>,

    /// What `mqtt_sender:last_id` holds as far as this program knows.
    stored: Raw,
    /// Whether `last_id` has been looked at since the start.
    started: bool,
    unsaved: bool,
    mismatches: u32,
    save_refused: bool,

    link: Option<(u64, usize)>,
    entries: VecDeque<Entry>,
    prepared: Option<Batch>,
    bytes_per_entry: usize,
    /// The last page was full: there is more.
    more: bool,

    round_began: Option<Instant>,
    settings_read: Option<Instant>,
    /// Nothing is sent before, after a refusal or ahead of a reboot.
    hold: Option<Instant>,
    /// Who waits for the quiet ahead of a reboot.
    quiesced: Option<Sender<()>>,
    refusals: Backoff,
    redis_backoff: Backoff,
    redis_since: Option<Instant>,
    redis_retry: Option<Instant>,
    told: Oddities,
}

impl Poller {
    /// `own_events` is the sending side of `events`: each letter carries a copy for its answer.
    pub fn new(
        config: &Config,
        letters: Sender<Letter>,
        events: Receiver<Event>,
        own_events: Sender<Event>,
        shutdown: Shutdown,
    ) -> Poller {
        Poller {
            config: config.batch,
            topic: config.mqtt.topics.values.clone(),
            store: Store::new(&config.redis, "mqtt-handler"),
            encoder: Encoder::new(&config.identity),
            delivery: Delivery::new(StreamId::ZERO, config.batch.max_bytes),
            settings: Settings::new(config.interval),
            shutdown,
            letters,
            events,
            own_events,
            stored: Raw::Missing,
            started: false,
            unsaved: false,
            mismatches: 0,
            save_refused: false,
            link: None,
            entries: VecDeque::new(),
            prepared: None,
            bytes_per_entry: 0,
            more: false,
            round_began: None,
            settings_read: None,
            hold: None,
            quiesced: None,
            refusals: Backoff::default(),
            redis_backoff: Backoff::default(),
            redis_since: None,
            redis_retry: None,
            told: Oddities::default(),
        }
    }

    /// How Redis calls this connection; see `Store::client_id`.
    pub fn client_id(&self) -> Arc<AtomicI64> {
        self.store.client_id()
    }

    /// Works until the end is asked for, then waits a little for what is in flight.
    pub fn run(mut self) {
        while !self.shutdown.requested() {
            if let Err(error) = self.step() {
                self.redis_failed(&error);
            }
        }
        self.finish();
    }

    /// Does the most urgent thing, or waits for the next.
    fn step(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        while let Ok(event) = self.events.try_recv() {
            self.handle(event);
        }
        if self.redis_retry.is_some_and(|at| now < at) {
            self.wait(self.redis_retry);
            return Ok(());
        }
        self.redis_retry = None;
        self.connect()?;
        if self.unsaved {
            return self.save();
        }
        if !self.delivery.in_flight() {
            if let Some(done) = self.quiesced.take() {
                let _ = done.send(());
            }
        }
        if self.settings_due(now) <= now {
            let raw = self.store.settings()?;
            return self.apply(raw);
        }
        if self.sending() && self.prepared.is_none() && (self.more || !self.pushes() && self.round_due(now) <= now) {
            return self.prepare(now);
        }
        if self.sending() && self.prepared.is_some() && !self.delivery.in_flight() {
            self.hand_over();
            return Ok(());
        }
        if self.sending() && self.pushes() && !self.delivery.in_flight() {
            return self.wait_for_entries(now);
        }
        let mut next = self.settings_due(now);
        if self.sending() && self.prepared.is_none() && !self.pushes() {
            next = next.min(self.round_due(now));
        }
        self.wait(Some(next));
        Ok(())
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        if self.store.connected() {
            return Ok(());
        }
        self.store.connect()?;
        info!("connected to Redis");
        self.redis_since = Some(Instant::now());
        // Whatever Redis was before, its state is to be looked at anew.
        self.settings_read = None;
        Ok(())
    }

    fn redis_failed(&mut self, error: &StoreError) {
        let now = Instant::now();
        if let Some(since) = self.redis_since.take() {
            self.redis_backoff.connection_lasted(now - since);
        }
        let wait = self.redis_backoff.next(backoff::random());
        warn!("Redis: {error}; next attempt in {:.1} s", wait.as_secs_f64());
        self.redis_retry = Some(now + wait);
        self.forget_read();
    }

    fn sending(&self) -> bool {
        self.started && self.settings.enabled && self.link.is_some() && self.hold.is_none_or(|until| until <= Instant::now())
    }

    fn pushes(&self) -> bool {
        self.settings.interval.is_zero()
    }

    fn settings_due(&self, now: Instant) -> Instant {
        self.settings_read.map_or(now, |at| at + SETTINGS_AGE)
    }

    fn round_due(&self, now: Instant) -> Instant {
        self.round_began.map_or(now, |began| began + self.settings.interval)
    }

    /// Waits for an event, at most until `until`.
    fn wait(&mut self, until: Option<Instant>) {
        let until = self.hold.filter(|hold| *hold > Instant::now()).into_iter().chain(until).min();
        let time = until.map_or(SETTINGS_AGE, |until| until.saturating_duration_since(Instant::now()));
        crossbeam_channel::select! {
            recv(self.events) -> event => if let Ok(event) = event { self.handle(event) },
            recv(self.shutdown.receiver()) -> _ => {}
            default(time) => {}
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Up { link, maximum_payload } => {
                self.link = Some((link, maximum_payload));
                self.round_began = None;
            }
            Event::Down => {
                self.link = None;
                self.delivery.connection_lost();
                self.forget_read();
            }
            Event::Wake => self.settings_read = None,
            Event::Quiesce(done) => {
                self.forget_read();
                self.hold = Some(Instant::now() + QUIET);
                self.quiesced = Some(done);
            }
            Event::Resume => self.hold = None,
            Event::Answer(Ok(())) => self.confirmed(),
            Event::Answer(Err((failure, reason))) => self.failed(failure, &reason),
        }
    }

    fn confirmed(&mut self) {
        self.refusals.reset();
        if let Some(progress) = self.delivery.confirmed() {
            self.unsaved = true;
            debug!("confirmed up to {}", progress.cursor);
        }
    }

    fn failed(&mut self, failure: Failure, reason: &str) {
        self.delivery.failed(failure);
        self.forget_read();
        self.round_began = None;
        if failure == Failure::Unwelcome {
            let wait = self.refusals.next_slowed(backoff::random());
            error!("measurements are not accepted on {:?}: {reason} (see mqtt.topic_values and the ACL of the broker); next attempt in {:.1} s", self.topic, wait.as_secs_f64());
            self.hold = Some(Instant::now() + wait);
        } else {
            info!("the list in flight was not confirmed and will be sent again: {reason}");
        }
    }

    /// Drops what was read but not handed over.
    fn forget_read(&mut self) {
        self.entries.clear();
        self.prepared = None;
        self.more = false;
        self.round_began = None;
    }

    /// Takes over the settings, and a cursor that somebody else has moved.
    fn apply(&mut self, raw: RawSettings) -> Result<(), StoreError> {
        self.settings_read = Some(Instant::now());
        for notice in self.settings.apply(&raw) {
            tell(notice);
        }
        if !self.started || raw.last_id != self.stored {
            self.adopt(raw.last_id)?;
        }
        if !self.settings.enabled {
            self.forget_read();
        }
        Ok(())
    }

    /// The cursor is not what this program wrote last: the foreign value counts.
    fn adopt(&mut self, raw: Raw) -> Result<(), StoreError> {
        let cursor = match &raw {
            Raw::Missing => {
                if self.started {
                    warn!("mqtt_sender:last_id is gone: everything in the stream is sent again");
                } else {
                    info!("there is no mqtt_sender:last_id: everything in the stream is sent");
                }
                Some(Cursor::After(StreamId::ZERO))
            }
            Raw::Unusable(what) => {
                tell(unusable("mqtt_sender:last_id", what));
                None
            }
            Raw::Text(text) => match parse_last_id(text) {
                Ok(cursor) => Some(cursor),
                Err(error) => {
                    tell(unusable("mqtt_sender:last_id", &error.0));
                    None
                }
            },
        };
        let id = match cursor {
            Some(Cursor::After(id)) => Some(id),
            Some(Cursor::Now) => Some(self.store.newest_id()?),
            None => None,
        };
        self.stored = raw;
        if let Some(id) = id {
            if self.started || cursor == Some(Cursor::Now) {
                info!("the cursor was set to {:?}: measurements after {id} are sent", self.stored);
            } else {
                info!("measurements after {id} are sent");
            }
            self.delivery.rewind(id);
            self.forget_read();
            // "From now on" must keep its meaning over a restart.
            self.unsaved = cursor == Some(Cursor::Now);
        }
        self.started = true;
        Ok(())
    }

    /// Saves the cursor unless somebody else has moved it meanwhile.
    fn save(&mut self) -> Result<(), StoreError> {
        let cursor = Cursor::written(self.delivery.cursor());
        match self.store.save_cursor(&self.stored, &cursor) {
            Ok(Saved::Yes) => {
                self.stored = Raw::Text(cursor);
                self.unsaved = false;
                self.mismatches = 0;
                self.save_refused = false;
                Ok(())
            }
            Ok(Saved::Foreign(raw)) => {
                self.unsaved = false;
                self.mismatches += 1;
                if self.mismatches == MANY_MISMATCHES {
                    warn!("somebody else keeps moving mqtt_sender:last_id: is a second instance running?");
                    self.mismatches = 0;
                }
                if raw == self.stored {
                    // Unusable before and still: go on, the cursor lives in memory only.
                    return Ok(());
                }
                self.adopt(raw)
            }
            Err(StoreError::Refused(reason)) => {
                // Measurements go on: holding them back would not help Redis.
                self.unsaved = false;
                if !std::mem::replace(&mut self.save_refused, true) {
                    error!("Redis does not store the cursor: {reason}; after a restart measurements from here on are sent again");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Tops up what is left of the last page, and encodes the next list.
    fn prepare(&mut self, now: Instant) -> Result<(), StoreError> {
        if !self.more {
            self.round_began = Some(now);
        }
        let wanted = self.page_size();
        if self.entries.len() < wanted {
            let after = self.entries.back().map_or(self.delivery.read_after(), |entry| entry.id);
            let count = wanted - self.entries.len();
            let (raw, page) = self.store.page(after, count)?;
            self.take(page.entries, count);
            self.apply(raw)?;
        }
        self.encode();
        Ok(())
    }

    /// Push mode: blocks on the stream until a measurement arrives.
    fn wait_for_entries(&mut self, now: Instant) -> Result<(), StoreError> {
        let count = self.page_size();
        let patience = self.settings_due(now).saturating_duration_since(now);
        let (raw, page) = self.store.wait(self.delivery.read_after(), count, patience)?;
        self.take(page.entries, count);
        // The settings were read before the wait; what was set during it comes with the next.
        let read = Instant::now();
        self.apply(raw)?;
        self.settings_read = Some(read);
        self.encode();
        Ok(())
    }

    fn take(&mut self, entries: VecDeque<Entry>, count: usize) {
        self.more = entries.len() == count;
        self.entries.extend(entries);
    }

    /// Entries to ask for: about what fills one list, going by the last ones.
    fn page_size(&self) -> usize {
        if self.bytes_per_entry == 0 {
            return FIRST_PAGE.min(self.config.max_count);
        }
        let limits = self.delivery.limits(self.limits());
        (limits.max_bytes / self.bytes_per_entry + 2).clamp(1, limits.max_count)
    }

    fn limits(&self) -> BatchLimits {
        let maximum = self.link.map_or(usize::MAX, |(_, maximum)| maximum);
        BatchLimits { max_bytes: self.config.max_bytes.min(maximum), ..self.config }
    }

    fn encode(&mut self) {
        let limits = self.delivery.limits(self.limits());
        self.prepared = self.encoder.batch(&mut self.entries, limits);
        if let Some(batch) = &self.prepared {
            self.bytes_per_entry = (batch.payload.len() / batch.count).max(1);
        }
        if !self.entries.is_empty() {
            self.more = true;
        }
        self.tell_oddities();
    }

    fn hand_over(&mut self) {
        let (Some(batch), Some((link, _))) = (self.prepared.take(), self.link) else { return };
        debug!("sending {} measurements, {} to {}, {} bytes", batch.count, batch.first, batch.last, batch.payload.len());
        self.delivery.hand_over(Span {
            first: batch.first,
            last: batch.last,
            count: batch.count,
            bytes: batch.payload.len(),
        });
        let letter = Letter {
            message: Message {
                topic: self.topic.clone(),
                payload: batch.payload,
                qos: 1,
                retained: false,
                correlation: None,
            },
            min_uptime: self.delivery.min_uptime(),
            link: Some(link),
            answer: self.own_events.clone(),
        };
        // The queue has room: only one letter is outstanding. It is closed when the publisher
        // is gone, and then the program ends.
        if self.letters.send(letter).is_err() {
            self.delivery.failed(Failure::NotSent);
        }
    }

    fn tell_oddities(&mut self) {
        let now = self.encoder.oddities;
        if now.not_utf8 > 0 && self.told.not_utf8 == 0 {
            warn!("a measurement holds bytes that are no UTF-8; they are sent as U+FFFD (told once)");
        }
        if now.double_field > 0 && self.told.double_field == 0 {
            warn!("a measurement holds a field twice; the last value is sent (told once)");
        }
        self.told = now;
    }

    /// The end: waits for what is in flight and saves the cursor.
    fn finish(mut self) {
        let mut grace = Grace::new(&self.shutdown, GRACE);
        while (self.delivery.in_flight() || self.unsaved) && !grace.is_over() {
            if self.unsaved && self.store.connected() {
                if self.save().is_err() {
                    break;
                }
                continue;
            }
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) if self.delivery.in_flight() => {}
                Err(_) => break,
            }
        }
        info!("stopped; the cursor is {:?}", self.stored);
    }
}

fn tell(notice: Notice) {
    match notice {
        Notice::Changed(text) => info!("{text}"),
        Notice::Unusable(text) => warn!("{text}"),
    }
}
