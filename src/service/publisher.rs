//! The thread that owns the connection to the broker and is the only caller of publish.
//!
//! One message is in flight, of any kind. Measurements and replies take turns, so that neither
//! waits for more than one message of the other. Each message is answered exactly once, and
//! nothing is resent from here: what is not confirmed goes back to the one who sent it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, never, select};
use log::{error, info, warn};

use crate::bridge::delivery::Failure;
use crate::commands::command::MAX_REQUEST;
use crate::config::{Config, Version};
use crate::link::backoff::Backoff;
use crate::model::message::Message;
use crate::model::status::Status;
use crate::mqtt::{Broker, Connection, Loss, PublishError};
use crate::service::announcer::Announcer;
use crate::service::dispatcher::Inbox;
use crate::service::shutdown::{GRACE, Grace, Shutdown};
use crate::service::threads::Pulse;

/// A refused subscription is tried again after this time.
const RESUBSCRIBE: Duration = Duration::from_secs(60);
/// So many connections in a row that lasted no longer than this point to a second client.
const MANY_CUTS: u32 = 3;
const CUT_SHORT: Duration = Duration::from_secs(15);
/// What is in flight at the end may take this long, so that its answer still is in time for
/// the poller.
const LAST_ACK: Duration = GRACE.saturating_sub(Duration::from_millis(500));

/// A message with all that the publisher has to know about it.
#[derive(Debug)]
pub struct Letter {
    pub message: Message,
    /// The connection must have stood for this long before the message is sent over it.
    pub min_uptime: Duration,
    /// Valid for this connection only; `None`: for any.
    pub link: Option<u64>,
    pub answer: Sender<Event>,
}

/// What the publisher tells.
#[derive(Debug)]
pub enum Event {
    /// There is a connection. `maximum_payload`: bytes for one list.
    Up { link: u64, maximum_payload: usize },
    /// The connection has ended; unanswered messages were answered before. `idle`: nothing
    /// was in flight.
    Down { idle: bool },
    /// The answer to the last message.
    Answer(Result<(), (Failure, String)>),
    /// The settings in Redis have changed.
    Wake,
    /// Nothing new is to begin for a while; tell when nothing is in flight and the cursor is
    /// saved.
    Quiesce(Sender<()>),
    /// It may go on.
    Resume,
}

/// The ends of the channels that the publisher works with.
pub struct Channels {
    pub measurements: Receiver<Letter>,
    pub replies: Receiver<Letter>,
    pub poller: Sender<Event>,
    pub inbox: Inbox,
    /// Told to the dispatcher: bytes that one list may have.
    pub maximum_payload: Arc<AtomicUsize>,
}

pub struct Publisher {
    broker: Broker,
    address: String,
    values_topic: String,
    filters: Vec<String>,
    ack_timeout: Duration,
    insecure: bool,
    channels: Channels,
    shutdown: Shutdown,
    pulse: Pulse,
    status: Status,
    announcer: Announcer,
    backoff: Backoff,
    link: u64,
    /// Connections in a row that were closed soon and without a word.
    cut_short: u32,
    reply_was_last: bool,
}

enum Next {
    Letter(Letter),
    Lost(Loss),
    Idle,
    Finished,
}

/// How a connection has ended.
struct End {
    loss: Loss,
    /// Nothing was in flight.
    idle: bool,
    /// A measurement was in flight that is suspected to be poison.
    on_trial: bool,
}

impl End {
    fn idle(loss: Loss) -> End {
        End {
            loss,
            idle: true,
            on_trial: false,
        }
    }
}

impl Publisher {
    pub fn new(
        config: &Config,
        channels: Channels,
        shutdown: Shutdown,
        pulse: Pulse,
        status: Status,
    ) -> Publisher {
        let mqtt = &config.mqtt;
        let announcer = Announcer::new(mqtt.topics.status.clone());
        Publisher {
            broker: Broker::new(mqtt, announcer.last_will(), MAX_REQUEST),
            address: format!("{}:{}", mqtt.host, mqtt.port),
            values_topic: mqtt.topics.values.clone(),
            filters: mqtt.topics.commands.to_vec(),
            ack_timeout: mqtt.ack_timeout,
            insecure: mqtt.tls.as_ref().is_some_and(|tls| tls.insecure),
            channels,
            shutdown,
            pulse,
            status,
            announcer,
            backoff: Backoff::default(),
            link: 0,
            cut_short: 0,
            reply_was_last: false,
        }
    }

    /// Connects and serves until the end is asked for and both queues are closed.
    pub fn run(mut self) {
        while let Some(mut connection) = self.connect() {
            self.announce_link(&connection);
            let end = self.serve(&mut connection);
            if end.is_none() {
                self.announcer.goodbye(&mut connection);
            }
            self.status.update(|record| record.connected = false);
            let uptime = connection.uptime();
            connection.close();
            let Some(end) = end else { return };
            self.lost(&end, uptime);
        }
        self.return_unsent();
    }

    /// Tells everybody that there is a connection.
    fn announce_link(&mut self, connection: &Connection) {
        let reconnect = u64::from(self.link > 0);
        self.link += 1;
        let maximum_payload = connection.maximum_payload(&self.values_topic);
        self.channels
            .maximum_payload
            .store(maximum_payload, Ordering::Relaxed);
        drop(self.channels.poller.send(Event::Up {
            link: self.link,
            maximum_payload,
        }));
        self.status.update(|record| {
            record.connected = true;
            record.reconnects += reconnect;
        });
        self.announcer.connected();
    }

    /// Tells everybody that there is none any more, and waits before the next attempt.
    fn lost(&mut self, end: &End, uptime: Duration) {
        self.backoff.connection_lasted(uptime);
        let reason = format!("{}{}", end.loss.reason, self.hint(uptime));
        self.status
            .update(|record| record.last_error.clone_from(&reason));
        self.return_unsent();
        drop(self.channels.poller.send(Event::Down { idle: end.idle }));
        let wait = if end.on_trial {
            self.backoff.next_on_trial(crate::random::random())
        } else {
            self.backoff.next(crate::random::random())
        };
        warn!(
            "disconnected from {}: {reason}; next attempt in {:.1} s",
            self.address,
            wait.as_secs_f64()
        );
        self.shutdown.sleep(wait);
    }

    /// MQTT 3.1.1 has no word for being thrown out by a client of the same ID, and not every
    /// broker of MQTT 5 says it; but it shows.
    fn hint(&mut self, uptime: Duration) -> &'static str {
        self.cut_short = if uptime < CUT_SHORT {
            self.cut_short + 1
        } else {
            0
        };
        if self.cut_short >= MANY_CUTS {
            "; it happens soon after each connect: does another client use the same client ID? (see mqtt.client_id)"
        } else {
            ""
        }
    }

    /// Tries for ever; `None` when the end is asked for.
    fn connect(&mut self) -> Option<Connection> {
        loop {
            self.pulse.beat();
            if self.shutdown.requested() {
                return None;
            }
            if self.insecure {
                warn!("the certificate of the broker is not checked (mqtt.tls_insecure)");
            }
            let spoken = self.broker.next_version();
            let inbox = self.channels.inbox.clone();
            match self.broker.connect(move |message| inbox.put(message)) {
                Ok(connection) => {
                    info!("connected to {} ({})", self.address, connection.protocol());
                    if spoken == Version::V311 {
                        info!(
                            "MQTT 3.1.1 confirms even what the broker throws away; MQTT 5 is the safer choice"
                        );
                    }
                    return Some(connection);
                }
                Err(error) => {
                    self.status
                        .update(|record| record.last_error = error.to_string());
                    let falls_back =
                        spoken == Version::V5 && self.broker.next_version() == Version::V311;
                    let wait = match (error.needs_person, falls_back) {
                        (true, _) => self.backoff.next_slowed(crate::random::random()),
                        (false, true) => Duration::ZERO,
                        (false, false) => self.backoff.next(crate::random::random()),
                    };
                    let next = if falls_back {
                        "MQTT 3.1.1 is tried next".to_string()
                    } else {
                        format!("next attempt in {:.1} s", wait.as_secs_f64())
                    };
                    warn!("no connection to {}: {error}; {next}", self.address);
                    self.shutdown.sleep(wait);
                }
            }
        }
    }

    /// Publishes until the connection is lost, or (`None`) there is nothing left to do.
    fn serve(&mut self, connection: &mut Connection) -> Option<End> {
        let mut refused = self.subscribe(connection, self.filters.clone());
        let mut tried = Instant::now();
        loop {
            self.pulse.beat();
            if let Some(loss) = connection.loss() {
                return Some(End::idle(loss.clone()));
            }
            self.announcer
                .announce(connection, &self.status, self.ack_timeout);
            if connection.loss().is_some() {
                continue;
            }
            match self.next(connection) {
                Next::Letter(letter) => {
                    let on_trial = !letter.min_uptime.is_zero();
                    if let Some(loss) = self.publish(connection, letter) {
                        return Some(End {
                            loss,
                            idle: false,
                            on_trial,
                        });
                    }
                }
                Next::Lost(loss) => return Some(End::idle(loss)),
                Next::Idle => {
                    if !refused.is_empty() && tried.elapsed() >= RESUBSCRIBE {
                        refused = self.subscribe(connection, refused);
                        tried = Instant::now();
                    }
                }
                Next::Finished => return None,
            }
        }
    }

    /// Returns the filters that were refused.
    fn subscribe(&self, connection: &mut Connection, filters: Vec<String>) -> Vec<String> {
        let mut refused = Vec::new();
        for filter in filters {
            match connection.subscribe(&filter) {
                Ok(()) => {}
                Err(_) if connection.loss().is_some() => return Vec::new(),
                Err(reason) => {
                    error!(
                        "no commands arrive on {filter:?}: the subscription was refused: {reason}; tried again in {} s",
                        RESUBSCRIBE.as_secs()
                    );
                    refused.push(filter);
                }
            }
        }
        refused
    }

    fn next(&mut self, connection: &Connection) -> Next {
        for reply in [!self.reply_was_last, self.reply_was_last] {
            let queue = if reply {
                &mut self.channels.replies
            } else {
                &mut self.channels.measurements
            };
            match queue.try_recv() {
                Ok(letter) => {
                    self.reply_was_last = reply;
                    return Next::Letter(letter);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => *queue = never(),
            }
        }
        let finished = |queue: &Receiver<Letter>| queue.same_channel(&never());
        if finished(&self.channels.measurements) && finished(&self.channels.replies) {
            return Next::Finished;
        }
        let lost = connection.lost();
        select! {
            recv(self.channels.measurements) -> letter => {
                self.reply_was_last = false;
                letter.map_or(Next::Idle, Next::Letter)
            }
            recv(self.channels.replies) -> letter => {
                self.reply_was_last = true;
                letter.map_or(Next::Idle, Next::Letter)
            }
            recv(lost) -> loss => {
                loss.map_or(Next::Idle, Next::Lost)
            }
            default(self.announcer.period().unwrap_or(RESUBSCRIBE)) => Next::Idle,
        }
    }

    /// Publishes one message and answers it. Returns the loss if the connection is of no more
    /// use.
    fn publish(&self, connection: &mut Connection, letter: Letter) -> Option<Loss> {
        if letter.link.is_some_and(|link| link != self.link) {
            answer(
                &letter.answer,
                Err((
                    Failure::NotSent,
                    "the connection it was meant for has ended".into(),
                )),
            );
            return None;
        }
        self.settle(connection, letter.min_uptime);
        if let Some(loss) = connection.loss().cloned() {
            answer(&letter.answer, Err((Failure::NotSent, loss.reason.clone())));
            return Some(loss);
        }
        let mut grace = Grace::new(&self.shutdown, LAST_ACK);
        let result = connection.publish(letter.message, self.ack_timeout, || {
            self.pulse.beat();
            grace.is_over()
        });
        let Err(error) = result else {
            answer(&letter.answer, Ok(()));
            return None;
        };
        let failure = match &error {
            PublishError::Closed(_) => Failure::Closed {
                uptime: connection.uptime(),
            },
            PublishError::Lost(_) | PublishError::Timeout(_) => Failure::Silent,
            PublishError::Refused(_) => Failure::Refused,
            PublishError::Unwelcome(_) => Failure::Unwelcome,
        };
        answer(&letter.answer, Err((failure, error.to_string())));
        let useless = !matches!(failure, Failure::Refused | Failure::Unwelcome);
        connection
            .loss()
            .cloned()
            .or_else(|| useless.then(|| Loss::new(error.to_string())))
    }

    /// Waits until the connection has stood for `min_uptime`, or has ended.
    fn settle(&self, connection: &mut Connection, min_uptime: Duration) {
        let Some(remaining) = min_uptime.checked_sub(connection.uptime()) else {
            return;
        };
        let loss = select! {
            recv(connection.lost()) -> loss => loss.ok(),
            recv(self.shutdown.receiver()) -> _ => None,
            default(remaining) => None,
        };
        if let Some(loss) = loss {
            connection.note_loss(loss);
        }
    }

    /// Answers what was queued for a connection that no longer is.
    fn return_unsent(&self) {
        for letter in self.channels.measurements.try_iter() {
            answer(
                &letter.answer,
                Err((Failure::NotSent, "there is no connection".into())),
            );
        }
    }
}

fn answer(to: &Sender<Event>, result: Result<(), (Failure, String)>) {
    // Nobody listens any more at the end of the program.
    drop(to.send(Event::Answer(result)));
}
