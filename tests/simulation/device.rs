//! The device: its two threads as processes around the machines, and its beginning and end.
//!
//! The loops are those of `service`: they wait, feed their machine, and do what it says.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mqtt_handler::bridge::{self, Bridge, View};
use mqtt_handler::link::{self, Announcement, Letter, Link, NoConnectionKind, Origin};
use mqtt_handler::model::message::Message;

use crate::client::Doing;
use crate::queue::Event;
use crate::world::World;

/// More actions than any machine has in one moment: one that never waits must not stop the clock.
const MANY_TURNS: u32 = 10_000;

#[derive(Default)]
pub struct Device {
    /// Another number after each start.
    pub process: u32,
    pub poller: Option<Poller>,
    pub publisher: Option<Publisher>,
    /// When it was asked to end.
    pub stopping: Option<Instant>,
    /// The blackboard.
    pub shown: Option<Box<View>>,
    /// No message between the threads overtakes another.
    last_to_poller: Option<Instant>,
    last_latest: Option<Instant>,
    /// Messages between the threads are late.
    pub late: u32,
}

pub struct Poller {
    pub bridge: Bridge,
    inbox: VecDeque<bridge::Input>,
    turn: u64,
    asking: bool,
    done: bool,
}

pub struct Publisher {
    pub link: Link,
    inbox: VecDeque<link::Input>,
    turn: u64,
    pub letter: Option<Letter>,
    commands: VecDeque<Letter>,
    done: bool,
}

impl Device {
    pub fn runs(&self) -> bool {
        self.poller.is_some() || self.publisher.is_some()
    }
}

impl World {
    pub fn device_starts(&mut self) {
        if self.device.runs() {
            return;
        }
        self.device.process += 1;
        self.device.shown = None;
        (self.device.last_to_poller, self.device.last_latest) = (None, None);
        let (one, other) = (self.random.next(), self.random.next());
        self.device.poller = Some(Poller {
            bridge: Bridge::new(self.plan.setup.bridge_rules(), one),
            inbox: VecDeque::new(),
            turn: 0,
            asking: false,
            done: false,
        });
        self.device.publisher = Some(Publisher {
            link: Link::new(self.plan.setup.link_rules(), self.now, other),
            inbox: VecDeque::new(),
            turn: 0,
            letter: None,
            commands: VecDeque::new(),
            done: false,
        });
        self.watch_start();
        let process = self.device.process;
        self.queue.push(self.now, Event::PollerWakes(process, 0));
        self.queue.push(self.now, Event::PublisherWakes(process, 0));
    }

    /// kill -9.
    pub fn device_is_killed(&mut self) {
        if self.device.runs() {
            self.watch_kill();
            self.device_is_gone();
        }
    }

    fn device_is_gone(&mut self) {
        self.device.poller = None;
        self.device.publisher = None;
        self.device.stopping = None;
        self.device.process += 1;
        self.client.operation = None;
        self.close();
        self.store_is_gone();
    }

    /// SIGTERM.
    pub fn device_is_stopped(&mut self) {
        if !self.device.runs() || self.device.stopping.is_some() {
            return;
        }
        self.device.stopping = Some(self.now);
        let process = self.device.process;
        self.queue.push(
            self.now,
            Event::ToPoller(process, Box::new(bridge::Input::Stop)),
        );
        // Before the answer to what it is doing.
        if let Some(publisher) = &mut self.device.publisher {
            publisher.inbox.push_back(link::Input::Stop);
        }
        self.publisher_runs();
        let Some(operation) = &self.client.operation else {
            return;
        };
        if let Doing::Connecting(_) = operation.doing {
            return self.no_connection(NoConnectionKind::GivenUp);
        }
        // No wait is longer at the end.
        let at = self.now + Duration::from_millis(4500);
        let event = Event::OperationPatience(operation.number);
        self.queue.push(at, event);
    }

    fn device_has_ended(&mut self) {
        let done = self.device.poller.as_ref().is_none_or(|p| p.done)
            && self.device.publisher.as_ref().is_none_or(|p| p.done);
        if done {
            self.watch_end();
            self.device_is_gone();
        }
    }

    /// Between the threads.
    fn handing(&mut self) -> Duration {
        if self.device.late > 0 && self.random.percent(50) {
            return self.random.millis(1, 1500);
        }
        self.random.micros(5, 200)
    }

    pub fn poller_gets(&mut self, process: u32, input: bridge::Input) {
        if process != self.device.process {
            return;
        }
        if let Some(poller) = &mut self.device.poller {
            poller.inbox.push_back(input);
            self.poller_runs();
        }
    }

    pub fn poller_wakes(&mut self, process: u32, turn: u64) {
        let current = self.device.poller.as_ref().map(|poller| poller.turn);
        if process == self.device.process && current == Some(turn) {
            self.poller_runs();
        }
    }

    pub fn poller_has_answer(&mut self, answer: bridge::Input) {
        if let Some(poller) = &mut self.device.poller {
            poller.asking = false;
            poller.inbox.push_front(answer);
            self.poller_runs();
        }
    }

    fn poller_runs(&mut self) {
        for _ in 0..MANY_TURNS {
            let now = self.now;
            let Some(poller) = &mut self.device.poller else {
                return;
            };
            if poller.asking || poller.done {
                return;
            }
            while let Some(input) = poller.inbox.pop_front() {
                if let Some(trace) = &mut self.trace {
                    trace.input("bridge", now, &input);
                }
                poller.bridge.handle(now, input);
            }
            poller.turn += 1;
            let action = poller.bridge.next(now);
            if let Some(trace) = &mut self.trace {
                trace.bridge(now, &action);
            }
            self.watch.actions += 1;
            match action {
                bridge::Action::Tell(notice) => self.bridge_tells(&notice),
                bridge::Action::Show(view) => {
                    self.device.shown = Some(view);
                    self.blackboard_changes();
                }
                bridge::Action::Ask(request) => {
                    poller.asking = true;
                    self.watch_request(&request);
                    return self.ask(request);
                }
                bridge::Action::Publish {
                    link,
                    list,
                    patience,
                } => self.hand_over(link, list, patience),
                bridge::Action::PublishLatest {
                    link,
                    payload,
                    pause,
                } => self.hand_over_latest(link, payload, pause),
                bridge::Action::Quiet => {}
                bridge::Action::Wait(until) => {
                    let event = Event::PollerWakes(self.device.process, poller.turn);
                    return self.queue.push(until.max(now), event);
                }
                bridge::Action::Done => {
                    poller.done = true;
                    self.publisher_runs();
                    return self.device_has_ended();
                }
            }
        }
        let what = "a moment without an end".to_string();
        self.ledger.broken("6 bounded work", what);
    }

    fn hand_over(
        &mut self,
        link: u64,
        list: mqtt_handler::model::measurement::Batch,
        patience: Duration,
    ) {
        self.watch_hand_over(&list);
        let letter = Letter {
            message: Message::list("values", list.payload),
            patience: Some(patience),
            link: Some(link),
        };
        let at = self.now + self.handing();
        let process = self.device.process;
        self.queue.push(at, Event::LetterArrives(process, letter));
    }

    fn hand_over_latest(&mut self, link: u64, payload: Vec<u8>, pause: Duration) {
        let letter = Letter {
            message: Message::latest("latest", payload),
            patience: None,
            link: Some(link),
        };
        let at = self.now + self.handing();
        let at = self.device.last_latest.map_or(at, |last| at.max(last));
        self.device.last_latest = Some(at);
        let input = link::Input::Latest(letter, pause);
        let event = Event::ToPublisher(self.device.process, input);
        self.queue.push(at, event);
    }

    /// Both threads put their part of the status there.
    fn blackboard_changes(&mut self) {
        if !self.plan.setup.status {
            return;
        }
        let Some(view) = &self.device.shown else {
            return;
        };
        let announcement = Announcement {
            payload: vec![b's'; self.plan.setup.status_bytes],
            state: format!("{} {}", view.enabled, view.counters.lost),
        };
        let input = link::Input::Status(announcement);
        let at = self.now + self.handing();
        let event = Event::ToPublisher(self.device.process, input);
        self.queue.push(at, event);
    }

    pub fn letter_arrives(&mut self, process: u32, letter: Letter) {
        if process != self.device.process {
            return;
        }
        if let Some(publisher) = &mut self.device.publisher {
            if publisher.letter.replace(letter).is_some() {
                let what = "a second list was handed over".to_string();
                self.ledger.broken("4 one message in flight", what);
            }
            self.a_message_waits();
        }
    }

    /// A reply to a command.
    pub fn command_replies(&mut self, bytes: usize, qos: i32) {
        let letter = Letter {
            message: Message {
                qos,
                ..Message::list("response", vec![b'r'; bytes])
            },
            patience: None,
            link: None,
        };
        if let Some(publisher) = &mut self.device.publisher {
            if publisher.commands.len() < 4 {
                publisher.commands.push_back(letter);
                self.a_message_waits();
            }
        }
    }

    pub fn publisher_gets(&mut self, process: u32, input: link::Input) {
        if process != self.device.process {
            return;
        }
        if let Some(publisher) = &mut self.device.publisher {
            publisher.inbox.push_back(input);
            self.publisher_runs();
        }
    }

    pub fn publisher_wakes(&mut self, process: u32, turn: u64) {
        let current = self.device.publisher.as_ref().map(|p| p.turn);
        if process == self.device.process && current == Some(turn) {
            self.publisher_runs();
        }
    }

    pub fn link_takes(&mut self, input: link::Input) {
        let Some(publisher) = &mut self.device.publisher else {
            return self.client.heard.push(input);
        };
        if let Some(trace) = &mut self.trace {
            trace.input("link", self.now, &input);
        }
        publisher.link.handle(self.now, input);
    }

    pub fn publisher_runs(&mut self) {
        for _ in 0..MANY_TURNS {
            if self.client.operation.is_some() {
                return;
            }
            self.take_in_late();
            self.take_in_end();
            self.feed_link();
            let now = self.now;
            let Some(publisher) = &mut self.device.publisher else {
                return;
            };
            if publisher.done {
                return;
            }
            publisher.turn += 1;
            let action = publisher.link.next(now);
            if let Some(trace) = &mut self.trace {
                trace.link(now, &action);
            }
            self.watch.actions += 1;
            match action {
                link::Action::Wait(until) => {
                    let event = Event::PublisherWakes(self.device.process, publisher.turn);
                    return self.queue.push(until.max(now), event);
                }
                link::Action::Done => {
                    publisher.done = true;
                    return self.device_has_ended();
                }
                action => self.publisher_does(action),
            }
        }
        let what = "a moment without an end".to_string();
        self.ledger.broken("6 bounded work", what);
    }

    fn publisher_does(&mut self, action: link::Action) {
        use link::Action;
        match action {
            Action::Tell(notice) => self.link_tells(&notice),
            Action::Show => {
                self.blackboard_changes();
                self.tell_poller(bridge::Input::LinkNoted);
            }
            Action::Connect(attempt) => self.connect(attempt),
            Action::Subscribe { filter, patience } => self.subscribe(filter, patience),
            Action::Publish { message, patience } => self.publish(&message, patience, true),
            Action::Close => self.close(),
            Action::Answer { origin, result } => {
                if origin == Origin::Measurements {
                    self.tell_poller(bridge::Input::Delivered(result));
                }
            }
            Action::Up { link, limit } => self.tell_poller(bridge::Input::LinkUp { link, limit }),
            Action::Down { idle } => self.tell_poller(bridge::Input::LinkDown { idle }),
            Action::Wait(_) | Action::Done => {}
        }
    }

    /// What waits in the queues of the publisher, as far as the link wants it.
    fn feed_link(&mut self) {
        let poller_ended = self.device.poller.as_ref().is_none_or(|p| p.done);
        let stopping = self.device.stopping.is_some();
        let Some(publisher) = &mut self.device.publisher else {
            return;
        };
        let mut inputs: Vec<link::Input> = publisher.inbox.drain(..).collect();
        for origin in [Origin::Commands, Origin::Measurements] {
            if !publisher.link.wants(origin) {
                continue;
            }
            let (letter, closed) = match origin {
                Origin::Commands => (publisher.commands.pop_front(), stopping),
                Origin::Measurements => (publisher.letter.take(), poller_ended),
            };
            match letter {
                Some(letter) => inputs.push(link::Input::Offer(origin, letter)),
                None if closed => inputs.push(link::Input::Closed(origin)),
                None => {}
            }
        }
        for input in inputs {
            self.link_takes(input);
        }
    }

    fn tell_poller(&mut self, input: bridge::Input) {
        let at = self.now + self.handing();
        let at = self.device.last_to_poller.map_or(at, |last| at.max(last));
        self.device.last_to_poller = Some(at);
        let event = Event::ToPoller(self.device.process, Box::new(input));
        self.queue.push(at, event);
    }
}
