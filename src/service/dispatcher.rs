//! The thread of the remote commands, with a Redis connection of its own.
//!
//! It shares nothing with the measurements but the connection to the broker, where they take
//! turns. Commands come from a bounded queue that the MQTT library's callback fills; what does
//! not fit is counted there. Every decision is made at the desk: here is the loop around it.

mod inbox;
mod outside;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use log::log;

use crate::commands::{Desk, Form};
use crate::config::Config;
use crate::link::Letter;
use crate::model::message::Incoming;
use crate::service::board::Board;
use crate::service::messages::{Delivered, Event};
use crate::service::shutdown::Shutdown;
use crate::service::threads::Pulse;
pub use inbox::{Inbox, inbox};
use outside::Outside;

/// Without anything to do, the thread says once in a while that it is alive.
const IDLE: Duration = Duration::from_secs(60);

/// The ends of the channels that the dispatcher works with.
pub struct DispatcherChannels {
    pub inbox: Inbox,
    pub commands: Receiver<Incoming>,
    pub replies: Sender<Letter>,
    pub poller: Sender<Event>,
    /// The poller's connection to Redis, to wake it while it blocks on the stream.
    pub poller_client: Arc<AtomicI64>,
    /// Bytes that one list may have on the present connection.
    pub maximum_payload: Arc<AtomicUsize>,
    /// What became of the messages that were handed over.
    pub answers: Receiver<Delivered>,
}

pub struct Dispatcher {
    desk: Desk,
    outside: Outside,
    inbox: Inbox,
    commands: Receiver<Incoming>,
    replies: Sender<Letter>,
    answers: Receiver<Delivered>,
    shutdown: Shutdown,
    pulse: Pulse,
}

impl Dispatcher {
    pub fn new(
        config: &Config,
        channels: DispatcherChannels,
        (shutdown, pulse): (Shutdown, Pulse),
        board: Board,
    ) -> Dispatcher {
        let topics = &config.mqtt.topics;
        let form = Form {
            topic: topics.response.clone(),
            qos: config.mqtt.reply_qos,
            counted_topic: topics.values.len(),
        };
        let permissions = config.commands.clone();
        Dispatcher {
            desk: Desk::new(permissions, config.batch, &topics.values, form),
            outside: Outside::new(
                config,
                board,
                (channels.poller, channels.poller_client),
                channels.maximum_payload,
            ),
            inbox: channels.inbox,
            commands: channels.commands,
            replies: channels.replies,
            answers: channels.answers,
            shutdown,
            pulse,
        }
    }

    /// Executes commands until the end is asked for.
    pub fn run(mut self) {
        let nothing = never();
        while !self.shutdown.requested() {
            self.pulse.beat();
            self.take_commands();
            self.hand_over();
            for line in self.desk.lines(Instant::now()) {
                log!(line.level, "{}", line.text);
            }
            let takes = self.desk.takes_commands();
            let commands = if takes { &self.commands } else { &nothing };
            let due = self.desk.lines_due();
            let idle = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
            select! {
                recv(commands) -> message => if let Ok(message) = message { self.serve(message) },
                recv(self.answers) -> answer => if let Ok(result) = answer {
                    self.desk.answered(Instant::now(), result);
                },
                recv(self.shutdown.receiver()) -> _ => {}
                default(idle) => {}
            }
        }
    }

    /// What waits goes before the next list of measurements.
    fn take_commands(&mut self) {
        while self.desk.takes_commands() {
            let now = Instant::now();
            if self.desk.tells_drops(now, self.commands.is_empty()) {
                let count = self.inbox.take_dropped();
                self.desk.dropped(now, count);
            }
            match self.commands.try_recv() {
                Ok(message) => self.serve(message),
                Err(_) => return,
            }
        }
    }

    fn serve(&mut self, message: Incoming) {
        self.desk.serve(Instant::now(), message, &mut self.outside);
    }

    /// Gives the publisher what is next. It takes it at once: no other message of ours is there.
    fn hand_over(&mut self) {
        if let Some(message) = self.desk.next(Instant::now(), &mut self.outside) {
            let letter = Letter {
                message,
                patience: None,
                link: None,
            };
            drop(self.replies.send(letter));
        }
    }
}
