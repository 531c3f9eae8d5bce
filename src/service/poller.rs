//! The thread that reads the stream, hands lists to the publisher and saves the cursor.
//!
//! It is the only owner of the cursor and of the read position. A list is handed over only
//! when the one before is answered *and* the cursor behind it is saved, so that a power cut
//! repeats at most one list; the next one is read and encoded meanwhile. Nothing is kept for
//! resending: after a loss the stream is read again from the cursor.

mod cursor;
mod progress;
mod reader;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{debug, error, info, warn};

use crate::bridge::delivery::{Delivery, Failure, Span};
use crate::bridge::ledger::Ledger;
use crate::config::Config;
use crate::link::backoff::Backoff;
use crate::model::measurement::Batch;
use crate::model::measurement::BatchLimits;
use crate::model::message::Message;
use crate::model::settings::{Notice, RawSettings, Settings};
use crate::model::status::Status;
use crate::model::stream_id::StreamId;
use crate::service::publisher::{Event, Letter};
use crate::service::shutdown::{GRACE, Grace, Shutdown};
use crate::service::threads::Pulse;
use crate::store::{Page, Store, StoreError};
use cursor::Stored;
use progress::Told;
use reader::Reader;

/// A change of the settings takes effect within a second; a little is left for the way.
const SETTINGS_AGE: Duration = Duration::from_millis(900);
/// Unless a page that brings them along is due within the second itself.
const SETTINGS_WITH_PAGE: Duration = Duration::from_secs(1);
/// Ahead of a reboot nothing is sent for so long; then it evidently did not come.
const QUIET: Duration = Duration::from_secs(20);

/// More refusals in a row than it takes to isolate poison: halvings, and what is held back.
const MANY_REFUSED: u32 = 40;

pub struct Poller {
    batch: BatchLimits,
    keep_sent: Option<u64>,
    topic: String,
    store: Store,
    reader: Reader,
    delivery: Delivery,
    ledger: Ledger,
    settings: Settings,
    stored: Stored,
    shutdown: Shutdown,
    pulse: Pulse,
    status: Status,
    told: Told,
    letters: Sender<Letter>,
    events: Receiver<Event>,
    own_events: Sender<Event>,

    /// The present connection to the broker and the bytes that one list may have there.
    link: Option<(u64, usize)>,
    round_began: Option<Instant>,
    settings_read: Option<Instant>,
    /// Nothing is sent before, after a refusal or ahead of a reboot.
    hold: Option<Instant>,
    /// Who waits for the quiet ahead of a reboot.
    quiesced: Option<Sender<()>>,
    refusals: Backoff,
    /// Lists in a row that the broker has refused for what they hold.
    refused: u32,
    redis_backoff: Backoff,
    redis_since: Option<Instant>,
    redis_retry: Option<Instant>,
    told_hazards: bool,
    told_old_redis: bool,
    /// Measurements removed by others before they were sent, and poison, since ever.
    lost: u64,
    dead_letters: u64,
}

impl Poller {
    /// `own_events` is the sending side of `events`: each letter carries a copy for its answer.
    pub fn new(
        config: &Config,
        letters: Sender<Letter>,
        (own_events, events): (Sender<Event>, Receiver<Event>),
        shutdown: Shutdown,
        pulse: Pulse,
        status: Status,
    ) -> Poller {
        Poller {
            batch: config.batch,
            keep_sent: config.keep_sent,
            topic: config.mqtt.topics.values.clone(),
            store: Store::new(&config.redis, "mqtt-handler"),
            reader: Reader::new(config),
            delivery: Delivery::new(StreamId::ZERO, config.batch.max_bytes),
            ledger: Ledger::default(),
            settings: Settings::new(config.interval),
            stored: Stored::default(),
            shutdown,
            pulse,
            status,
            told: Told::default(),
            letters,
            events,
            own_events,
            link: None,
            round_began: None,
            settings_read: None,
            hold: None,
            quiesced: None,
            refusals: Backoff::default(),
            refused: 0,
            redis_backoff: Backoff::default(),
            redis_since: None,
            redis_retry: None,
            told_hazards: false,
            told_old_redis: false,
            lost: 0,
            dead_letters: 0,
        }
    }

    /// How Redis calls this connection; see `Store::client_id`.
    pub fn client_id(&self) -> Arc<AtomicI64> {
        self.store.client_id()
    }

    /// Works until the end is asked for, then waits a little for what is in flight.
    pub fn run(mut self) {
        while !self.shutdown.requested() {
            self.pulse.beat();
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
        if self.stored.unsaved() {
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
        if self.status_due(now) <= now {
            return self.report(now);
        }
        if self.sending() {
            if !self.reader.has_list()
                && (self.reader.more() || !self.pushes() && self.round_due(now) <= now)
            {
                return self.prepare(now);
            }
            if !self.delivery.in_flight() {
                if self.reader.has_list() {
                    self.hand_over();
                    return Ok(());
                }
                if self.pushes() {
                    return self.wait_for_entries(now);
                }
            }
        }
        let mut next = self.settings_due(now).min(self.status_due(now));
        if self.awaits_round() {
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
        self.warn_of_hazards()
    }

    fn redis_failed(&mut self, error: &StoreError) {
        let now = Instant::now();
        if let Some(since) = self.redis_since.take() {
            self.redis_backoff.connection_lasted(now - since);
        }
        let wait = self.redis_backoff.next(crate::random::random());
        warn!(
            "Redis: {error}; next attempt in {:.1} s",
            wait.as_secs_f64()
        );
        self.redis_retry = Some(now + wait);
        self.forget_read();
        self.forget_written();
    }

    fn sending(&self) -> bool {
        let held = self.hold.is_some_and(|until| until > Instant::now());
        self.stored.known && self.settings.enabled && self.link.is_some() && !held
    }

    fn pushes(&self) -> bool {
        self.settings.interval.is_zero()
    }

    fn settings_due(&self, now: Instant) -> Instant {
        let Some(read) = self.settings_read else {
            return now;
        };
        let page = self.round_due(now);
        if self.awaits_round() && page <= read + SETTINGS_WITH_PAGE {
            return page.max(read) + SETTINGS_AGE;
        }
        read + SETTINGS_AGE
    }

    /// Nothing is to be read before the next round.
    fn awaits_round(&self) -> bool {
        self.sending() && !self.reader.has_list() && !self.pushes()
    }

    fn round_due(&self, now: Instant) -> Instant {
        self.round_began
            .map_or(now, |began| began + self.settings.interval)
    }

    /// Waits for an event, at most until `until`.
    fn wait(&mut self, until: Option<Instant>) {
        let now = Instant::now();
        let until = self
            .hold
            .filter(|hold| *hold > now)
            .into_iter()
            .chain(until)
            .min();
        let time = until.map_or(SETTINGS_AGE, |until| until.saturating_duration_since(now));
        crossbeam_channel::select! {
            recv(self.events) -> event => if let Ok(event) = event { self.handle(event) },
            recv(self.shutdown.receiver()) -> _ => {}
            default(time) => {}
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Up {
                link,
                maximum_payload,
            } => {
                self.link = Some((link, maximum_payload));
                self.round_began = None;
            }
            Event::Down { idle } => {
                self.link = None;
                if idle {
                    self.delivery.connection_lost();
                }
                self.forget_read();
            }
            Event::Wake => self.settings_read = None,
            Event::Quiesce(done) => {
                self.forget_read();
                self.hold = Some(Instant::now() + QUIET);
                self.quiesced = Some(done);
            }
            Event::Resume => self.hold = None,
            Event::Answer(Ok(())) => {
                self.refusals.reset();
                self.refused = 0;
                if let Some(progress) = self.delivery.confirmed() {
                    self.progressed(progress);
                }
            }
            Event::Answer(Err((failure, reason))) => self.failed(failure, &reason),
        }
    }

    fn failed(&mut self, failure: Failure, reason: &str) {
        self.delivery.failed(failure, reason);
        self.forget_read();
        self.refused = if failure == Failure::Refused {
            self.refused + 1
        } else {
            0
        };
        // A refusal of one list is the list's; a long row of them is the broker's, and without
        // a wait it would go round as fast as the network allows.
        if failure == Failure::Unwelcome || self.refused >= MANY_REFUSED {
            let wait = self.refusals.next_slowed(crate::random::random());
            error!(
                "measurements are not accepted on {:?}: {reason} (see mqtt.topic_values and the ACL of the broker); next attempt in {:.1} s",
                self.topic,
                wait.as_secs_f64()
            );
            self.hold = Some(Instant::now() + wait);
            self.status
                .update(|record| record.last_error = reason.to_string());
        } else {
            self.status.update(|record| record.retries += 1);
            info!("the list in flight was not confirmed and will be sent again: {reason}");
        }
    }

    /// Drops what was read but not handed over.
    fn forget_read(&mut self) {
        self.reader.forget();
        self.round_began = None;
    }

    /// Takes over the settings, and a cursor that somebody else has moved.
    fn apply(&mut self, raw: RawSettings) -> Result<(), StoreError> {
        self.settings_read = Some(Instant::now());
        for notice in self.settings.apply(&raw) {
            tell(notice);
        }
        if self.stored.differs(&raw.last_id) {
            self.adopt(raw.last_id)?;
        }
        if !self.settings.enabled {
            self.forget_read();
        }
        Ok(())
    }

    /// Reads a page and encodes the next list.
    fn prepare(&mut self, now: Instant) -> Result<(), StoreError> {
        if !self.reader.more() {
            self.round_began = Some(now);
        }
        let count = self.reader.wanted(self.limits());
        let after = self.delivery.read_after();
        let (raw, page) = self.store.page(after, count)?;
        self.take(page, after, count, raw)
    }

    /// Push mode: blocks on the stream until a measurement arrives.
    fn wait_for_entries(&mut self, now: Instant) -> Result<(), StoreError> {
        let count = self.reader.wanted(self.limits());
        let after = self.delivery.read_after();
        let patience = self.settings_due(now).saturating_duration_since(now);
        let (raw, page) = self.store.wait(after, count, patience)?;
        // The settings were read before the wait; what was set during it comes with the next.
        let waited_in_vain = page.is_empty();
        self.take(page, after, count, raw)?;
        if waited_in_vain && after == self.delivery.read_after() {
            // The blocking read does not tell the state of the stream: look at it now and then.
            let page = Page::empty(self.store.stream()?);
            self.audit(&page, after, 0)?;
        }
        Ok(())
    }

    /// Makes the next list of a page, unless what came with it makes it void.
    fn take(
        &mut self,
        page: Page,
        after: StreamId,
        asked: usize,
        raw: RawSettings,
    ) -> Result<(), StoreError> {
        self.saw_stream(page.stream);
        let moved = self.stored.differs(&raw.last_id);
        self.apply(raw)?;
        if !moved && self.settings.enabled && self.audit(&page, after, asked)? {
            let limits = self.limits();
            self.reader.encode(&page, asked, limits);
        }
        Ok(())
    }

    fn limits(&self) -> BatchLimits {
        let maximum = self.link.map_or(usize::MAX, |(_, maximum)| maximum);
        let configured = BatchLimits {
            max_bytes: self.batch.max_bytes.min(maximum),
            ..self.batch
        };
        self.delivery.limits(configured)
    }

    fn hand_over(&mut self) {
        let (Some(batch), Some((link, maximum))) = (self.reader.take_list(), self.link) else {
            return;
        };
        debug!(
            "sending {} measurements, {} to {}, {} bytes",
            batch.count,
            batch.first,
            batch.last,
            batch.payload.len()
        );
        let span = Span {
            first: batch.first,
            last: batch.last,
            count: batch.count,
            bytes: batch.payload.len(),
        };
        self.delivery.hand_over(span);
        if span.bytes > maximum {
            let reason = format!(
                "{} bytes, and the broker takes at most {maximum}",
                span.bytes
            );
            return self.failed(Failure::Refused, &reason);
        }
        // The queue has room: only one letter is outstanding. It is closed when the publisher
        // is gone, and then the program ends.
        if self.letters.send(self.letter(batch, link)).is_err() {
            self.delivery
                .failed(Failure::NotSent, "the publisher is gone");
        }
    }

    fn letter(&self, batch: Batch, link: u64) -> Letter {
        let message = Message {
            topic: self.topic.clone(),
            payload: batch.payload,
            qos: 1,
            retained: false,
            correlation: None,
        };
        Letter {
            message,
            min_uptime: self.delivery.min_uptime(),
            link: Some(link),
            answer: self.own_events.clone(),
        }
    }

    /// The end: waits for what is in flight and saves the cursor.
    fn finish(mut self) {
        let mut grace = Grace::new(&self.shutdown, GRACE);
        while (self.delivery.in_flight() || self.stored.unsaved()) && !grace.is_over() {
            if self.stored.unsaved() && self.store.connected() {
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
        self.report_end();
        info!("stopped; the cursor is {:?}", self.stored.raw());
    }
}

fn tell(notice: Notice) {
    match notice {
        Notice::Changed(text) => info!("{text}"),
        Notice::Unusable(text) => warn!("{text}"),
    }
}
