//! An established connection: one message at a time, and what becomes of it.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use paho::{AsyncClient, ServerResponse};
use paho_mqtt as paho;

use super::library::{self, Registration};
use super::line::{How, Line};
use super::{options, waiting, words};
use crate::model::connection::NotSubscribed;
use crate::model::failure::{Cause, Ended, Undelivered};
use crate::model::message::Message;
use crate::model::message::Protocol;
use crate::model::packet::{largest_payload, packet_size};
use crate::net::SLICE;

/// From the ping to its answer, when nothing else shows whether the broker still answers; no
/// longer than for the acknowledgement itself.
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// An end that comes so soon after a message is an answer to it, although not all of it had
/// arrived: no slow line and no time-out is that fast.
const PROMPTLY: Duration = Duration::from_millis(500);
/// How often a message that waits to be sent is looked for while a subscription is unanswered.
const SUBSCRIBE_SLICE: Duration = Duration::from_millis(20);
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A client that is dropped with care.
///
/// The callback that completes a token holds a share of the client a little longer than the
/// token's owner waits. If that were the last one, the library would destroy the client inside of
/// its own callback, under a lock that it wants to take again.
pub struct Client(pub AsyncClient);

impl Drop for Client {
    fn drop(&mut self) {
        // Takes the library's lock once, so that every callback has come to an end.
        self.0.is_connected();
    }
}

/// An established connection. Dropping it ends it.
pub struct Connection {
    // The order matters: the library's threads lose the line before the client goes.
    registration: Registration,
    line: Arc<Line>,
    client: Client,
    protocol: Protocol,
    maximum_packet: Option<usize>,
    retains: bool,
    /// Subscriptions that were not answered yet.
    open: RefCell<Vec<(String, paho::SubscribeToken)>>,
}

impl Connection {
    pub(super) fn new(
        registration: Registration,
        line: Arc<Line>,
        client: Client,
        protocol: Protocol,
        (maximum_packet, retains): (Option<usize>, bool),
    ) -> Connection {
        Connection {
            registration,
            line,
            client,
            protocol,
            maximum_packet,
            retains,
            open: RefCell::default(),
        }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Bytes of the largest packet that the broker takes, where it has named a size.
    pub fn maximum_packet(&self) -> Option<usize> {
        self.maximum_packet
    }

    /// Whether the broker keeps retained messages.
    pub fn retains(&self) -> bool {
        self.retains
    }

    /// Bytes of the largest payload that the broker takes in a message like this one.
    pub fn maximum_payload(&self, message: &Message) -> Option<usize> {
        self.maximum_packet
            .map(|maximum| largest_payload(message, self.protocol, maximum).unwrap_or(0))
    }

    /// Gets the end of the connection, once. `ended` keeps it.
    pub fn lost(&self) -> &Receiver<Ended> {
        self.line.told()
    }

    /// The end of the connection, if it has come.
    pub fn ended(&self) -> Option<&Ended> {
        self.line.ended()
    }

    /// Publishes and waits for the confirmation (QoS 1) or until it is written (QoS 0), at most
    /// for `patience`, and no longer than `give_up` allows. After `Silent` and `Lost` the
    /// connection is of no more use.
    ///
    /// # Errors
    /// Why the message is not confirmed.
    pub fn publish(
        &self,
        message: Message,
        patience: Duration,
        mut give_up: impl FnMut() -> bool,
    ) -> Result<(), Undelivered> {
        if let Some(ended) = self.ended() {
            return Err(Undelivered::new(Cause::NotSent, ended.reason.clone()));
        }
        let limit = self.maximum_payload(&message);
        let size = packet_size(&message, self.protocol);
        if let Some(maximum) = self.maximum_packet.filter(|maximum| size > *maximum) {
            let reason = format!("{size} bytes are more than the {maximum} that the broker takes");
            return Err(Undelivered::new(Cause::TooLarge { limit }, reason));
        }
        let mut flight = Flight {
            connection: self,
            published_before: self.line.published(),
            limit,
            begun: Instant::now(),
            // Without its message, of which the library has its own copy.
            token: self.client.0.publish(options::message(message)).into(),
            large: size > waiting::UNDIVIDED,
        };
        if let Some(result) = flight.wait(patience, &mut give_up, || false) {
            return result;
        }
        flight.silent(patience, &mut give_up)
    }

    /// Subscribes with QoS 1. Under MQTT 5 retained messages are not asked for, and a message
    /// keeps the mark with which it was published.
    ///
    /// # Errors
    /// Why it did not come about. After `Silent` it still may; see `subscribed_late`.
    pub fn subscribe(
        &self,
        filter: &str,
        patience: Duration,
        mut give_up: impl FnMut() -> bool,
    ) -> Result<(), NotSubscribed> {
        let mut token = if self.protocol == Protocol::V5 {
            let options =
                paho::SubscribeOptions::new(false, true, paho::RetainHandling::DontSendRetained);
            self.client
                .0
                .subscribe_with_options(filter, 1, options, None)
        } else {
            self.client.0.subscribe(filter, 1)
        };
        let begun = Instant::now();
        loop {
            if let Some(answer) = waiting::wait(&mut token, SUBSCRIBE_SLICE.min(patience)) {
                return self.subscription(answer);
            }
            if let Some(ended) = self.ended() {
                return Err(NotSubscribed::Ended(ended.clone()));
            }
            if begun.elapsed() >= patience || give_up() {
                let mut open = self.open.borrow_mut();
                open.retain(|(one, _)| one != filter);
                open.push((filter.to_string(), token));
                return Err(NotSubscribed::Silent);
            }
        }
    }

    /// The next answer to a subscription that was not waited for any longer, and its filter.
    pub fn subscribed_late(&self) -> Option<(String, Result<(), NotSubscribed>)> {
        let mut open = self.open.borrow_mut();
        let answer = |(nth, (_, token)): (usize, &mut (_, _))| {
            Some((nth, waiting::wait(token, Duration::ZERO)?))
        };
        let (nth, answer) = open.iter_mut().enumerate().find_map(answer)?;
        let (filter, _) = open.remove(nth);
        Some((filter, self.subscription(answer)))
    }

    fn subscription(&self, answer: paho::Result<ServerResponse>) -> Result<(), NotSubscribed> {
        let refused = |words: &str| Err(NotSubscribed::Refused(words.into()));
        match answer {
            Ok(response) => match response.subscribe_response() {
                Some(0x80..) => refused("the broker refused it"),
                _ => Ok(()),
            },
            Err(paho::Error::ReasonCode(code, _)) => refused(&code.to_string()),
            Err(_) => match self.await_end() {
                Some(ended) => Err(NotSubscribed::Ended(ended)),
                None => refused("the broker refused it"),
            },
        }
    }

    /// The end of the connection, which the library reports a little later than what follows
    /// from it.
    fn await_end(&self) -> Option<Ended> {
        let begun = Instant::now();
        while self.ended().is_none() && begun.elapsed() < SLICE {
            thread::sleep(Duration::from_millis(2));
        }
        self.ended().cloned()
    }

    /// Ends the connection in an orderly way if it still stands, within a few seconds.
    pub fn close(self) {
        if self.client.0.is_connected() {
            drop(waiting::wait(
                &mut self.client.0.disconnect(None),
                DISCONNECT_TIMEOUT,
            ));
        }
    }
}

/// A message between this side and its confirmation.
struct Flight<'a> {
    connection: &'a Connection,
    published_before: u64,
    /// Of the payload, where the broker has named a size.
    limit: Option<usize>,
    begun: Instant,
    token: paho::Token,
    large: bool,
}

impl Flight<'_> {
    /// Waits for an outcome; `None`: there was none in time, or before `enough`.
    fn wait(
        &mut self,
        patience: Duration,
        give_up: &mut dyn FnMut() -> bool,
        enough: impl Fn() -> bool,
    ) -> Option<Result<(), Undelivered>> {
        let begun = Instant::now();
        let slice = if self.large {
            waiting::NUDGE_EVERY
        } else {
            SLICE
        };
        loop {
            let left = patience.saturating_sub(begun.elapsed());
            match waiting::wait(&mut self.token, slice.min(left)) {
                Some(Ok(_)) => return Some(Ok(())),
                Some(Err(paho::Error::ReasonCode(code, _))) => {
                    return Some(Err(words::refusal(code, self.limit)));
                }
                Some(Err(_)) => return Some(Err(self.ended())),
                None if self.large => library::nudge(),
                None => {}
            }
            if self.connection.ended().is_some() {
                return Some(Err(self.ended()));
            }
            if give_up() {
                let reason = "the program does not wait for its acknowledgement any longer";
                return Some(Err(Undelivered::new(Cause::Lost, reason)));
            }
            if left.is_zero() || enough() {
                return None;
            }
        }
    }

    fn is_sent(&self) -> bool {
        self.connection.line.published() > self.published_before
    }

    /// The connection has ended under the message: whose doing was it?
    fn ended(&self) -> Undelivered {
        let reason = match self.connection.await_end() {
            Some(ended) => ended.reason,
            None => "the connection to the broker broke".into(),
        };
        let end = self.connection.line.end();
        let cause = match end.as_ref().map(|end| (&end.how, end.drained)) {
            _ if !self.is_sent() => Cause::NotSent,
            Some((How::Disconnect(0x95), _)) => Cause::TooLarge { limit: self.limit },
            Some((How::Disconnect(0x99), _)) => Cause::Refused,
            // A broker may refuse a packet by its head alone, and never read the rest.
            Some((How::Disconnect(0x80..=0x83) | How::Closed | How::Reset, drained))
                if drained || self.begun.elapsed() < PROMPTLY =>
            {
                Cause::Closed
            }
            _ => Cause::Lost,
        };
        Undelivered::new(cause, reason)
    }

    /// No acknowledgement in time: finds out whether the broker answers at all.
    fn silent(
        &mut self,
        patience: Duration,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<(), Undelivered> {
        let connection = self.connection;
        let number = connection.line.unconfirmed();
        // TCP keeps the order: who answers what came later has received the message.
        let answers = || number.is_some_and(|number| connection.line.answered_after(number));
        let asked = self.is_sent() && (answers() || connection.registration.ping());
        if asked && !answers() {
            if let Some(result) = self.wait(PING_PATIENCE.min(patience), give_up, answers) {
                return result;
            }
        }
        let reason = format!("no acknowledgement within {:.0} s", patience.as_secs_f64());
        let answers = answers();
        Err(Undelivered::new(Cause::Silent { answers }, reason))
    }
}
