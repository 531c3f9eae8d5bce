//! The thread that executes remote commands, one at a time, on a Redis connection of its own.
//!
//! It shares nothing with the measurements but the connection to the broker, where they take
//! turns. Commands come from a bounded queue that the MQTT library's callback fills; what does
//! not fit is counted there and told here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use log::{Level, error, log, warn};

use crate::bridge::delivery::Failure;
use crate::commands::command::{self, Command, Rejection, Reply, Request, Value};
use crate::commands::supervisor::{RebootError, Supervisor};
use crate::config::{Config, Permissions};
use crate::model::measurement::BatchLimits;
use crate::model::measurement::{Batch, Encoder};
use crate::model::message::{Incoming, Message};
use crate::model::stream_id::StreamId;
use crate::service::publisher::{Event, Letter};
use crate::service::shutdown::Shutdown;
use crate::service::threads::Pulse;
use crate::store::{self, Store};

/// Commands that may wait.
pub const QUEUE: usize = 64;
/// A device that reboots again and again can no longer be reached.
const REBOOT_PAUSE: Duration = Duration::from_secs(60);
/// What is in flight may take so long before a reboot.
const QUIESCE: Duration = Duration::from_secs(5);
/// A message that fails so often in a row is given up.
const TRIES: u32 = 5;

/// What the library's callback and the dispatcher share.
#[derive(Clone)]
pub struct Inbox {
    queue: Sender<Incoming>,
    dropped: Arc<AtomicU64>,
}

impl Inbox {
    /// Never blocks.
    pub fn put(&self, message: Incoming) {
        if self.queue.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A new inbox with the side that the dispatcher reads.
pub fn inbox() -> (Inbox, Receiver<Incoming>) {
    let (queue, commands) = bounded(QUEUE);
    (
        Inbox {
            queue,
            dropped: Arc::default(),
        },
        commands,
    )
}

/// The ends of the channels that the dispatcher works with.
pub struct Channels {
    pub inbox: Inbox,
    pub commands: Receiver<Incoming>,
    pub replies: Sender<Letter>,
    pub poller: Sender<Event>,
    /// The poller's connection to Redis, to wake it while it blocks on the stream.
    pub poller_client: Arc<AtomicI64>,
    /// Bytes that one list may have on the present connection.
    pub maximum_payload: Arc<AtomicUsize>,
}

pub struct Dispatcher {
    permissions: Permissions,
    limits: BatchLimits,
    response_topic: String,
    values_topic: String,
    reply_qos: i32,
    store: Store,
    encoder: Encoder,
    channels: Channels,
    answers: (Sender<Event>, Receiver<Event>),
    shutdown: Shutdown,
    pulse: Pulse,
    rebooted: Option<Instant>,
    lines: LineLimit,
}

/// Lines about commands, at most so many in a second: a flood of commands is no flood of lines.
struct LineLimit {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    const PER_SECOND: u32 = 5;

    fn line(&mut self, level: Level, text: &str) {
        if self.since.elapsed() >= Duration::from_secs(1) {
            if self.left_out > 0 {
                warn!("{} lines about commands were left out", self.left_out);
            }
            *self = LineLimit {
                since: Instant::now(),
                lines: 0,
                left_out: 0,
            };
        }
        if self.lines < Self::PER_SECOND {
            self.lines += 1;
            log!(level, "{text}");
        } else {
            self.left_out += 1;
        }
    }
}

/// Why a message did not get through.
enum Undelivered {
    Shutdown,
    Failed(Failure, String),
}

impl Dispatcher {
    pub fn new(
        config: &Config,
        channels: Channels,
        shutdown: Shutdown,
        pulse: Pulse,
    ) -> Dispatcher {
        Dispatcher {
            permissions: config.commands.clone(),
            limits: config.batch,
            response_topic: config.mqtt.topics.response.clone(),
            values_topic: config.mqtt.topics.values.clone(),
            reply_qos: config.mqtt.reply_qos,
            store: Store::new(&config.redis, "mqtt-handler-commands"),
            encoder: Encoder::new(&config.identity),
            channels,
            answers: bounded(4),
            shutdown,
            pulse,
            rebooted: None,
            lines: LineLimit {
                since: Instant::now(),
                lines: 0,
                left_out: 0,
            },
        }
    }

    /// Executes commands until the end is asked for.
    pub fn run(mut self) {
        while !self.shutdown.requested() {
            self.pulse.beat();
            let message = select! {
                recv(self.channels.commands) -> message => message.ok(),
                recv(self.shutdown.receiver()) -> _ => None,
                default(Duration::from_secs(60)) => None,
            };
            if let Some(message) = message {
                self.serve(&message);
            }
            if self.channels.commands.is_empty() {
                self.tell_dropped();
            }
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.channels.inbox.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let error = format!("{dropped} commands were dropped: more than {QUEUE} were waiting");
            self.reject(
                &Rejection {
                    command: None,
                    id: None,
                    error,
                },
                None,
            );
        }
    }

    fn serve(&mut self, message: &Incoming) {
        let correlation = message.correlation.as_deref();
        if message.retained {
            let (command, id) = match command::parse(&message.payload, &self.permissions) {
                Ok(request) => (Some(request.command.name().to_string()), request.id),
                Err(rejection) => (rejection.command, rejection.id),
            };
            let error = format!(
                "the message is retained on {:?} and not executed: a broker repeats it at every connect",
                message.topic
            );
            return self.reject(&Rejection { command, id, error }, correlation);
        }
        if message.payload.len() != message.bytes {
            return self.reject(&command::too_large(message.bytes), correlation);
        }
        match command::parse(&message.payload, &self.permissions) {
            Ok(request) => {
                let line = format!("command {} on {:?}", request.command.name(), message.topic);
                self.lines.line(Level::Info, &line);
                if let Err(error) = self.execute(&request, correlation) {
                    let command = Some(request.command.name().to_string());
                    self.reject(
                        &Rejection {
                            command,
                            id: request.id,
                            error,
                        },
                        correlation,
                    );
                }
            }
            Err(rejection) => self.reject(&rejection, correlation),
        }
    }

    /// Carries a request out and answers it; the error is answered by the caller.
    fn execute(&mut self, request: &Request, correlation: Option<&[u8]>) -> Result<(), String> {
        let mut reply = Reply {
            command: Some(request.command.name()),
            id: request.id.as_deref(),
            ..Reply::default()
        };
        match &request.command {
            Command::Reboot { force } => return self.reboot(*force, &reply, correlation),
            Command::GetConfig { key } => {
                let value = self.store.get(key).map_err(in_words)?;
                reply.key = Some(key);
                reply.value = Some(Value::Read(value.as_deref()));
                self.reply(&reply, correlation);
                return Ok(());
            }
            Command::SetConfig { key, value, given } => {
                self.store.set(key, value.as_deref()).map_err(in_words)?;
                if [store::ENABLED, store::INTERVAL, store::LAST_ID].contains(&key.as_str()) {
                    self.wake_poller();
                }
                reply.key = Some(key);
                reply.value = Some(Value::Given(given));
            }
            Command::SendMeasurements { range, count } => {
                let Some(sent) = self.send_measurements(*range, *count)? else {
                    return Ok(());
                };
                reply.count = Some(sent);
            }
        }
        self.reply(&reply, correlation);
        Ok(())
    }

    /// Our own settings count at once, not only when they are looked at next.
    fn wake_poller(&mut self) {
        drop(self.channels.poller.try_send(Event::Wake));
        let client = self.channels.poller_client.load(Ordering::Relaxed);
        if let Err(error) = self.store.unblock(client) {
            warn!("the change takes effect within a second: {error}");
        }
    }

    fn reboot(
        &mut self,
        force: bool,
        reply: &Reply,
        correlation: Option<&[u8]>,
    ) -> Result<(), String> {
        let supervisor = Supervisor::from_environment().map_err(|error| error.to_string())?;
        if let Some(since) = self
            .rebooted
            .map(|at| at.elapsed())
            .filter(|since| *since < REBOOT_PAUSE)
        {
            let (done, pause) = (since.as_secs(), REBOOT_PAUSE.as_secs());
            return Err(format!(
                "a reboot was asked for {done} s ago, and is at most once in {pause} s"
            ));
        }
        self.reply(reply, correlation);
        self.quiesce();
        warn!(
            "the supervisor is asked to reboot the device{}",
            if force { ", by force" } else { "" }
        );
        let result = supervisor.reboot(force);
        // When the outcome is unknown, the device may be about to reboot.
        if matches!(result, Ok(()) | Err(RebootError::Unreachable(_))) {
            self.rebooted = Some(Instant::now());
        }
        result.map_err(|error| {
            drop(self.channels.poller.try_send(Event::Resume));
            error.to_string()
        })
    }

    /// Lets what is in flight be confirmed and the cursor be saved, and nothing new begin.
    fn quiesce(&self) {
        let (done, wait) = bounded(1);
        if self
            .channels
            .poller
            .send_timeout(Event::Quiesce(done), QUIESCE)
            .is_ok()
        {
            let _ = wait.recv_timeout(QUIESCE);
        }
    }

    /// Sends a range in bounded lists, each confirmed before the next is read. Returns how many
    /// were sent, `None` when it was interrupted by the end of the program.
    fn send_measurements(
        &mut self,
        range: (StreamId, StreamId),
        count: Option<u64>,
    ) -> Result<Option<u64>, String> {
        let (mut first, last) = range;
        let (mut sent, mut tries) = (0, 0);
        let mut limits = self.limits;
        // A first guess; the next page is as large as the last list.
        let mut page = 32;
        loop {
            let left = count.map_or(u64::MAX, |count| count - sent);
            limits.max_count = self
                .limits
                .max_count
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let wanted = limits.max_count.min(page);
            if wanted == 0 || first > last {
                return Ok(Some(sent));
            }
            limits.max_bytes = limits
                .max_bytes
                .min(self.channels.maximum_payload.load(Ordering::Relaxed));
            let read = self.store.range((first, last), wanted).map_err(in_words);
            let entries = read.map_err(|error| after(sent, &error))?;
            let Some(batch) = self.encoder.batch(entries.entries(), limits) else {
                return Ok(Some(sent));
            };
            let (next, size, measurements) = (batch.last.next(), batch.payload.len(), batch.count);
            let at_end = batch.last == StreamId::MAX;
            match self.deliver(self.list(batch)) {
                Ok(()) => {
                    sent += measurements as u64;
                    if at_end {
                        return Ok(Some(sent));
                    }
                    first = next;
                    tries = 0;
                    let all_fitted = measurements == entries.len();
                    page = if all_fitted {
                        page * 2
                    } else {
                        measurements + 2
                    }
                    .min(self.limits.max_count);
                }
                Err(Undelivered::Shutdown) => return Ok(None),
                Err(Undelivered::Failed(failure, reason)) => {
                    tries += 1;
                    if tries >= TRIES || failure == Failure::Unwelcome {
                        return Err(after(sent, &reason));
                    }
                    // Read again from where the confirmation ended, in smaller lists.
                    if failure != Failure::NotSent {
                        limits.max_bytes = (size / 2).max(1);
                    }
                }
            }
        }
    }

    fn list(&self, batch: Batch) -> Message {
        Message {
            topic: self.values_topic.clone(),
            payload: batch.payload,
            qos: 1,
            retained: false,
            correlation: None,
        }
    }

    fn reject(&mut self, rejection: &Rejection, correlation: Option<&[u8]>) {
        let name = rejection.command.as_deref().unwrap_or("(unreadable)");
        self.lines.line(
            Level::Warn,
            &format!("command {name} refused: {}", rejection.error),
        );
        let reply = Reply {
            command: rejection.command.as_deref(),
            error: Some(&rejection.error),
            id: rejection.id.as_deref(),
            ..Reply::default()
        };
        self.reply(&reply, correlation);
    }

    fn reply(&mut self, reply: &Reply, correlation: Option<&[u8]>) {
        let message = Message {
            topic: self.response_topic.clone(),
            payload: reply.to_json(),
            qos: self.reply_qos,
            retained: false,
            correlation: correlation.map(<[u8]>::to_vec),
        };
        for _ in 0..TRIES {
            match self.deliver(message.clone()) {
                Ok(()) | Err(Undelivered::Shutdown) => return,
                Err(Undelivered::Failed(Failure::Unwelcome | Failure::Refused, reason)) => {
                    error!(
                        "the reply cannot be sent to {:?}: {reason} (see mqtt.topic_response)",
                        self.response_topic
                    );
                    return;
                }
                Err(Undelivered::Failed(..)) => {}
            }
        }
        warn!("a reply could not be sent: the connection was lost {TRIES} times");
    }

    /// Hands a message to the publisher and waits for its answer, over reconnects if need be.
    fn deliver(&mut self, message: Message) -> Result<(), Undelivered> {
        let letter = Letter {
            message,
            min_uptime: Duration::ZERO,
            link: None,
            answer: self.answers.0.clone(),
        };
        select! {
            send(self.channels.replies, letter) -> sent => if sent.is_err() { return Err(Undelivered::Shutdown) },
            recv(self.shutdown.receiver()) -> _ => return Err(Undelivered::Shutdown),
        }
        // The broker may be away for hours.
        loop {
            self.pulse.beat();
            select! {
                recv(self.answers.1) -> answer => return match answer {
                    Ok(Event::Answer(Ok(()))) => Ok(()),
                    Ok(Event::Answer(Err((failure, reason)))) => Err(Undelivered::Failed(failure, reason)),
                    _ => Err(Undelivered::Shutdown),
                },
                recv(self.shutdown.receiver()) -> _ => return Err(Undelivered::Shutdown),
                default(Duration::from_secs(60)) => {}
            }
        }
    }
}

fn in_words(error: store::StoreError) -> String {
    match error {
        store::StoreError::Unreachable(reason) => format!("Redis is out of reach: {reason}"),
        store::StoreError::Refused(reason) => reason,
    }
}

fn after(sent: u64, reason: &str) -> String {
    format!("stopped after {sent} measurements: {reason}")
}
