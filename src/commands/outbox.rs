//! Replies on their way: one in flight, each as large as the broker takes, each tried again.

use std::collections::VecDeque;
use std::time::Instant;

use log::Level;

use super::desk::Asker;
use super::limits::{MAX_REPLY, Seldom, TRIES};
use super::lines::Lines;
use super::reboot::Reboot;
use super::reply::Reply;
use crate::model::failure::{Cause, Undelivered};
use crate::model::message::Message;
use crate::model::quote::Quoted;

/// How replies are published.
#[derive(Clone, Debug)]
pub struct Form {
    pub topic: String,
    pub qos: i32,
    /// Bytes of the topic that the limit of the connection is counted for.
    pub counted_topic: usize,
}

/// A reply, and what is to be done when it has gone.
#[derive(Debug)]
pub struct Envelope {
    pub reply: Reply,
    pub asker: Asker,
    pub then: Option<Reboot>,
    tries: u32,
    /// It stands for a reply that did not fit.
    short: bool,
}

impl Envelope {
    pub fn new(reply: Reply, asker: Asker) -> Envelope {
        Envelope {
            reply: Reply {
                id: asker.id.clone(),
                ..reply
            },
            asker,
            then: None,
            tries: 0,
            short: false,
        }
    }

    /// Makes a reply smaller that is too large: a short error, then one without what only the
    /// asker knows. `false`: it is as small as can be.
    fn shrink(&mut self, bytes: usize, room: usize) -> bool {
        if self.short {
            return self.asker.correlation.take().is_some() || self.reply.id.take().is_some();
        }
        self.short = true;
        let name = self.reply.command.take();
        let error = format!("the reply has {bytes} bytes, at most {room} fit into a message");
        let reply = Reply::error(name.as_deref(), error);
        self.reply = Reply {
            id: self.reply.id.take(),
            ..reply
        };
        true
    }
}

#[derive(Debug)]
pub struct Outbox {
    form: Form,
    waiting: VecDeque<Envelope>,
    in_flight: Option<Envelope>,
    refusals: Seldom,
    /// Reboots whose reply has gone, or cannot go.
    reboots: VecDeque<(Reboot, Asker)>,
}

impl Outbox {
    pub fn new(form: Form) -> Outbox {
        Outbox {
            form,
            waiting: VecDeque::new(),
            in_flight: None,
            refusals: Seldom::hourly(),
            reboots: VecDeque::new(),
        }
    }

    pub fn put(&mut self, envelope: Envelope) {
        self.waiting.push_back(envelope);
    }

    /// Whether no reply waits behind the one in flight.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A reboot that is due.
    pub fn reboot(&mut self) -> Option<(Reboot, Asker)> {
        self.reboots.pop_front()
    }

    /// Bytes that a reply may have, where a list may have `maximum_payload`.
    pub fn room(&self, maximum_payload: usize, asker: &Asker) -> usize {
        // The property: its identifier, its length of two bytes, and up to three bytes more for
        // the length of all properties.
        let correlation = asker.correlation.as_ref().map_or(0, |data| data.len() + 6);
        maximum_payload
            .saturating_add(self.form.counted_topic)
            .saturating_sub(self.form.topic.len() + correlation)
            .min(MAX_REPLY)
    }

    /// The next reply, while none is in flight.
    pub fn next(
        &mut self,
        now: Instant,
        maximum_payload: usize,
        lines: &mut Lines,
    ) -> Option<Message> {
        while let Some(mut envelope) = self.waiting.pop_front() {
            let room = self.room(maximum_payload, &envelope.asker);
            let payload = envelope.reply.to_json();
            if payload.len() > room {
                if envelope.shrink(payload.len(), room) {
                    self.waiting.push_front(envelope);
                } else {
                    self.give_up(envelope, now, "it is larger than the broker takes", lines);
                }
                continue;
            }
            let message = Message {
                qos: self.form.qos,
                correlation: envelope.asker.correlation.clone(),
                ..Message::list(&self.form.topic, payload)
            };
            self.in_flight = Some(envelope);
            return Some(message);
        }
        None
    }

    /// What became of the reply in flight.
    pub fn answered(&mut self, now: Instant, result: Result<(), Undelivered>, lines: &mut Lines) {
        let Some(mut envelope) = self.in_flight.take() else {
            return;
        };
        let Err(undelivered) = result else {
            return self.gone(envelope);
        };
        envelope.tries += 1;
        match undelivered.cause {
            Cause::RefusesAll | Cause::Refused => {
                if self.refusals.passes(now) {
                    let (topic, reason) = (Quoted(&self.form.topic), undelivered.reason);
                    let text = format!(
                        "the reply cannot be sent to {topic}: {reason} (see mqtt.topic_response)"
                    );
                    lines.always(Level::Error, &text);
                }
                self.gone(envelope);
            }
            Cause::TooLarge { limit } => {
                let bytes = envelope.reply.to_json().len();
                if envelope.shrink(bytes, limit.unwrap_or(bytes - 1)) {
                    self.waiting.push_front(envelope);
                } else {
                    self.give_up(envelope, now, &undelivered.reason, lines);
                }
            }
            _ if envelope.tries >= TRIES => {
                let reason = format!("the connection was lost {TRIES} times");
                self.give_up(envelope, now, &reason, lines);
            }
            _ => self.waiting.push_front(envelope),
        }
    }

    fn give_up(&mut self, envelope: Envelope, now: Instant, reason: &str, lines: &mut Lines) {
        let text = format!("a reply could not be sent: {reason}");
        lines.tell(now, Level::Warn, &text);
        self.gone(envelope);
    }

    fn gone(&mut self, envelope: Envelope) {
        if let Some(reboot) = envelope.then {
            self.reboots.push_back((reboot, envelope.asker));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn outbox() -> Outbox {
        Outbox::new(Form {
            topic: "a/response".into(),
            qos: 0,
            counted_topic: "a/values".len(),
        })
    }

    fn asker(correlation: Option<usize>) -> Asker {
        Asker {
            id: serde_json::value::RawValue::from_string("7".into()).ok(),
            correlation: correlation.map(|bytes| vec![b'c'; bytes]),
        }
    }

    fn large(asker: Asker, bytes: usize) -> Envelope {
        Envelope::new(Reply::error(Some("get_config"), "x".repeat(bytes)), asker)
    }

    fn text(message: Option<Message>) -> String {
        String::from_utf8(message.expect("a message").payload).expect("UTF-8")
    }

    #[test]
    fn a_reply_has_the_room_that_the_broker_leaves_and_no_more_than_our_own() {
        let outbox = outbox();
        assert_eq!(outbox.room(usize::MAX, &asker(None)), MAX_REPLY);
        assert_eq!(outbox.room(1000, &asker(None)), 998);
        assert_eq!(outbox.room(1000, &asker(Some(100))), 892);
        assert_eq!(outbox.room(50, &asker(Some(100))), 0);
    }

    #[test]
    fn what_does_not_fit_is_a_short_error_or_nothing() {
        let (mut outbox, mut lines, now) = (outbox(), Lines::default(), Instant::now());
        outbox.put(large(asker(None), 2000));
        let short = text(outbox.next(now, 1000, &mut lines));
        assert_eq!(
            short,
            r#"{"command":"get_config","error":"the reply has 2042 bytes, at most 998 fit into a message","id":7}"#
        );
        // The broker takes even less than it said: at last nobody is named.
        let mut too_large = |outbox: &mut Outbox| {
            let cause = Cause::TooLarge { limit: Some(9) };
            outbox.answered(now, Err(Undelivered::new(cause, "too large")), &mut lines);
            outbox.next(now, 1000, &mut lines)
        };
        assert!(!text(too_large(&mut outbox)).contains("id"));
        assert!(too_large(&mut outbox).is_none());
        outbox.put(large(asker(None), 10));
        assert!(outbox.next(now, 30, &mut lines).is_none());
        assert_eq!(lines.take(now).len(), 2);
    }

    #[test]
    fn what_the_asker_gave_along_gives_way_to_the_answer() {
        let (mut outbox, mut lines, now) = (outbox(), Lines::default(), Instant::now());
        outbox.put(large(asker(Some(2000)), 10));
        let message = outbox.next(now, 500, &mut lines).expect("a message");
        assert_eq!(message.correlation, None);
        assert!(text(Some(message)).ends_with(",\"id\":7}"));
        assert!(lines.take(now).is_empty());
    }

    #[test]
    fn a_reply_that_the_broker_finds_too_large_becomes_short() {
        let (mut outbox, mut lines, now) = (outbox(), Lines::default(), Instant::now());
        outbox.put(large(asker(None), 2000));
        assert!(outbox.next(now, usize::MAX, &mut lines).is_some());
        let cause = Cause::TooLarge { limit: Some(500) };
        outbox.answered(now, Err(Undelivered::new(cause, "too large")), &mut lines);
        assert!(text(outbox.next(now, usize::MAX, &mut lines)).contains("at most 500 fit"));
    }

    #[test]
    fn a_lost_reply_is_sent_again_before_others_and_given_up_at_last() {
        let (mut outbox, mut lines, now) = (outbox(), Lines::default(), Instant::now());
        outbox.put(large(asker(None), 1));
        outbox.put(large(asker(None), 22));
        for _ in 0..TRIES {
            assert!(text(outbox.next(now, usize::MAX, &mut lines)).contains("\"x\""));
            let lost = Undelivered::new(Cause::Lost, "cut");
            outbox.answered(now, Err(lost), &mut lines);
        }
        assert!(lines.take(now)[0].text.contains("lost 5 times"));
        assert!(text(outbox.next(now, usize::MAX, &mut lines)).contains("xxx"));
    }

    #[test]
    fn a_topic_that_is_not_allowed_is_told_once_an_hour() {
        let (mut outbox, mut lines, begin) = (outbox(), Lines::default(), Instant::now());
        for minutes in 0..120 {
            let now = begin + Duration::from_secs(60 * minutes);
            outbox.put(large(asker(None), 1));
            assert!(outbox.next(now, usize::MAX, &mut lines).is_some());
            let refused = Undelivered::new(Cause::RefusesAll, "not authorized");
            outbox.answered(now, Err(refused), &mut lines);
            assert!(outbox.next(now, usize::MAX, &mut lines).is_none());
        }
        let told = lines.take(begin);
        assert_eq!(told.len(), 2);
        assert!(told[0].level == Level::Error && told[0].text.contains("mqtt.topic_response"));
    }

    #[test]
    fn a_reboot_is_due_when_its_reply_has_gone() {
        let (mut outbox, mut lines, now) = (outbox(), Lines::default(), Instant::now());
        let mut envelope = large(asker(None), 1);
        envelope.then = Some(Reboot { force: true });
        outbox.put(envelope);
        outbox.next(now, usize::MAX, &mut lines);
        assert!(outbox.reboot().is_none());
        outbox.answered(now, Ok(()), &mut lines);
        assert!(outbox.reboot().is_some_and(|(reboot, _)| reboot.force));
    }
}
