//! The desk: takes one message after the other, has it carried out, and sees to its reply.
//!
//! One message of ours is in flight at a time. Replies go before the lists of a running
//! `send_measurements`, and the next list is read only when no command waits: so `cancel` takes
//! effect within one list, and other commands are answered meanwhile. While a reply waits no
//! further command is taken; those stay in the queue, which is bounded.

use std::time::Instant;

use log::Level;
use serde_json::value::RawValue;

use super::job::{Job, Step};
use super::limits::{QUEUE, SETS_PER_SECOND, Seldom, TokenBucket};
use super::lines::{Line, Lines};
use super::outbox::{Envelope, Form, Outbox};
use super::reboot::Reboots;
use super::reply::{Reply, shown_name};
use super::request::{self, Rejection, Request};
use super::{Command, Context, cancel, get_status};
use crate::config::Permissions;
use crate::model::failure::Undelivered;
use crate::model::measurement::BatchLimits;
use crate::model::message::{Incoming, Message};
use crate::model::quote::Quoted;

/// How a reply finds the one who asked.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    pub id: Option<Box<RawValue>>,
    pub correlation: Option<Vec<u8>>,
}

/// What of ours waits for an answer of the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    Nothing,
    Reply,
    List,
}

#[derive(Debug)]
pub struct Desk {
    permissions: Permissions,
    limits: BatchLimits,
    values_topic: String,
    outbox: Outbox,
    in_flight: InFlight,
    job: Option<Job>,
    reboots: Reboots,
    sets: TokenBucket,
    drops: Seldom,
    lines: Lines,
}

impl Desk {
    /// `form` is that of replies; lists go to `values_topic` in the bounds of `limits`.
    pub fn new(
        permissions: Permissions,
        limits: BatchLimits,
        values_topic: &str,
        form: Form,
    ) -> Desk {
        Desk {
            permissions,
            limits,
            values_topic: values_topic.into(),
            outbox: Outbox::new(form),
            in_flight: InFlight::Nothing,
            job: None,
            reboots: Reboots::default(),
            sets: TokenBucket::new(SETS_PER_SECOND),
            drops: Seldom::drops(),
            lines: Lines::default(),
        }
    }

    /// Whether it takes another message.
    pub fn takes_commands(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether it is time to tell how many messages were dropped.
    pub fn tells_drops(&mut self, now: Instant, none_waits: bool) -> bool {
        none_waits || self.drops.passes(now)
    }

    /// What is to be written to the log.
    pub fn lines(&mut self, now: Instant) -> Vec<Line> {
        self.lines.take(now)
    }

    /// When there will be a line without anything else happening.
    pub fn lines_due(&self) -> Option<Instant> {
        self.lines.due()
    }

    /// So many messages found the queue full.
    pub fn dropped(&mut self, now: Instant, count: u64) {
        if count > 0 {
            let error = format!("{count} commands were dropped: more than {QUEUE} were waiting");
            self.reject(now, Rejection::nameless(error), None);
        }
    }

    /// Carries a message out, and sees to its reply.
    pub fn serve(&mut self, now: Instant, message: Incoming, context: &mut dyn Context) {
        let correlation = message.correlation;
        // What was too large to be kept has come without its bytes.
        let parsed = if message.payload.len() == message.bytes {
            request::parse(&message.payload, &self.permissions)
        } else {
            Err(Rejection::too_large(message.bytes))
        };
        let topic = Quoted(&message.topic);
        let parsed = if message.retained {
            Err(retained(parsed, &topic))
        } else {
            parsed
        };
        let request = match parsed {
            Ok(request) => request,
            Err(rejection) => return self.reject(now, rejection, correlation),
        };
        let name = request.command.name();
        let line = format!("command {name} on {topic}");
        self.lines.tell(now, Level::Info, &line);
        let asker = Asker {
            id: request.id,
            correlation,
        };
        if let Err(error) = self.execute(now, request.command, &asker, context) {
            self.refuse(now, name, error, asker);
        }
    }

    fn execute(
        &mut self,
        now: Instant,
        command: Command,
        asker: &Asker,
        context: &mut dyn Context,
    ) -> Result<(), String> {
        let id = asker
            .id
            .as_ref()
            .map_or(0, |id| r#","id":"#.len() + id.get().len());
        let room = self
            .outbox
            .room(context.maximum_payload(), asker)
            .saturating_sub(id);
        let mut then = None;
        let reply = match command {
            Command::Reboot(reboot) => {
                let reply = reboot.apply(now, &mut self.reboots, context)?;
                then = Some(reboot);
                reply
            }
            Command::GetConfig(get) => get.apply(room, context)?,
            Command::SetConfig(set) => set.apply(now, room, &mut self.sets, context)?,
            Command::GetStatus => get_status::apply(context),
            Command::Cancel => cancel::apply(self.job.as_mut())?,
            Command::SendMeasurements(send) => return send.apply(asker.clone(), &mut self.job),
        };
        let mut envelope = Envelope::new(reply, asker.clone());
        envelope.then = then;
        self.outbox.put(envelope);
        Ok(())
    }

    /// The next message to be published; `None` while one is in flight, or there is nothing to
    /// do.
    pub fn next(&mut self, now: Instant, context: &mut dyn Context) -> Option<Message> {
        if self.in_flight != InFlight::Nothing {
            return None;
        }
        loop {
            if let Some((reboot, asker)) = self.outbox.reboot() {
                if let Err(error) = reboot.carry_out(&mut self.reboots, context) {
                    self.refuse(now, super::reboot::NAME, error, asker);
                }
                continue;
            }
            let maximum = context.maximum_payload();
            if let Some(message) = self.outbox.next(now, maximum, &mut self.lines) {
                self.in_flight = InFlight::Reply;
                return Some(message);
            }
            match self.job.as_mut()?.next(self.limits, context) {
                Step::End(reply) => self.end_job(now, reply),
                Step::List(batch) => {
                    self.in_flight = InFlight::List;
                    return Some(Message {
                        compression: self.limits.compression,
                        ..Message::list(&self.values_topic, batch.payload)
                    });
                }
            }
        }
    }

    /// What became of the message in flight.
    pub fn answered(&mut self, now: Instant, result: Result<(), Undelivered>) {
        match std::mem::replace(&mut self.in_flight, InFlight::Nothing) {
            InFlight::Nothing => {}
            InFlight::Reply => self.outbox.answered(now, result, &mut self.lines),
            InFlight::List => {
                let limits = self.limits;
                let job = self.job.as_mut();
                if let Some(reply) = job.and_then(|job| job.answered(limits, &result)) {
                    self.end_job(now, reply);
                }
            }
        }
    }

    fn end_job(&mut self, now: Instant, reply: Reply) {
        let asker = self.job.take().map(|job| job.asker()).unwrap_or_default();
        match reply.error {
            Some(error) => self.refuse(now, super::send_measurements::NAME, error, asker),
            None => self.outbox.put(Envelope::new(reply, asker)),
        }
    }

    fn reject(&mut self, now: Instant, rejection: Rejection, correlation: Option<Vec<u8>>) {
        let Rejection { command, id, error } = rejection;
        self.answer_error(now, command.as_deref(), error, Asker { id, correlation });
    }

    fn refuse(&mut self, now: Instant, name: &str, error: String, asker: Asker) {
        self.answer_error(now, Some(name), error, asker);
    }

    fn answer_error(&mut self, now: Instant, name: Option<&str>, error: String, asker: Asker) {
        let line = format!("command {} refused: {error}", shown_name(name));
        self.lines.tell(now, Level::Warn, &line);
        let reply = Reply::error(name, error);
        self.outbox.put(Envelope::new(reply, asker));
    }
}

/// A broker repeats a retained message at every connect: a retained reboot would loop for ever.
fn retained(parsed: Result<Request, Rejection>, topic: &Quoted) -> Rejection {
    let (command, id) = match parsed {
        Ok(request) => (Some(request.command.name().to_string()), request.id),
        Err(rejection) => (rejection.command, rejection.id),
    };
    let error = format!(
        "the message is retained on {topic} and not executed: a broker repeats it at every connect"
    );
    Rejection { command, id, error }
}

#[cfg(test)]
#[path = "desk/tests.rs"]
mod tests;
