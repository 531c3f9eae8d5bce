//! Decides about the connection to the broker: when to try and in which version, what to
//! subscribe to, when the status goes out, who is next on the line, and what an end of the
//! connection means.
//!
//! A machine: what has happened goes in (`handle`), what is to be done comes out (`next`). It has
//! no clock, no connection and no log; the publisher thread does what it says, and the simulation
//! does the same in a world in memory.
//!
//! What holds at any moment:
//! - one message is in flight, of any kind, and none is larger than the broker takes;
//! - each message is answered exactly once, and nothing is sent again from here;
//! - measurements and replies take turns; measurements are held up by nothing else for long, and
//!   by the answer to a subscription not at all.

mod announcing;
mod duties;
mod ending;
mod latest;
mod messages;
pub mod notice;
mod outbox;
mod retry;
mod turns;
mod version;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::compression::Compression;
use crate::model::failure::{By, Cause, Ended, Undelivered};
use crate::model::message::{Message, Protocol};
use crate::model::packet::largest_payload;
use announcing::Announcing;
use duties::Duty;
use latest::Latest;
use outbox::Outbox;
use retry::Retry;
use version::Version;

pub use crate::model::connection::{Attempt, NoConnection, NoConnectionKind, NotSubscribed};
pub use messages::{Action, Announcement, Input, Letter, Origin};
pub use notice::{Next, Notice};
pub use version::Wanted;

/// From the TCP connection to the CONNACK, TLS included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// The same where another version of the protocol is tried next.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(10);
/// On a new connection, what has cost one before waits so long for a measurement to go first.
const PRECEDENCE: Duration = Duration::from_secs(2);
/// What is in flight at the end may take this long.
pub const LAST_PATIENCE: Duration = Duration::from_millis(4500);

/// What the link has to know of the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// For what is told.
    pub address: String,
    pub wanted: Wanted,
    /// The certificate of the broker is not checked.
    pub insecure: bool,
    pub keep_alive: Duration,
    pub ack_timeout: Duration,
    /// The topic of the measurements.
    pub values: String,
    /// How lists of them are packed.
    pub compression: Compression,
    /// Filters of the commands.
    pub filters: Vec<String>,
    /// The topic of the status, and what is said there at the end; `None`: no status.
    pub status: Option<(String, Vec<u8>)>,
    /// The topic of the newest measurement, where there is one.
    pub latest: Option<String>,
}

#[derive(Debug)]
pub struct Link {
    rules: Rules,
    state: State,
    version: Version,
    retry: Retry,
    subscriptions: Vec<Duty>,
    announcing: Announcing,
    outbox: Outbox,
    latest: Latest,
    /// When the end was asked for, and until when what is in flight may take.
    stopping: Option<Instant>,
    view: View,
    /// What is to be done before anything else.
    first: VecDeque<Action>,
}

#[derive(Debug)]
enum State {
    Idle { retry: Instant },
    Connecting(Attempt),
    Up(Up),
}

/// An established connection.
#[derive(Debug)]
struct Up {
    protocol: Protocol,
    since: Instant,
    /// When it was last asked for a subscription.
    subscribed: Option<Instant>,
    /// Bytes of the largest packet that the broker takes.
    maximum_packet: Option<usize>,
    /// The broker keeps retained messages.
    retains: bool,
    busy: Busy,
    /// A measurement or a reply was acknowledged on it, and no subscription left unanswered since.
    acknowledged: bool,
    /// A reply that the broker does not acknowledge was sent after that: the end of the
    /// connection may be the answer to it.
    unanswerable: bool,
    /// It has ended while something was under way.
    ended: Option<Ended>,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    No,
    Subscribing {
        nth: usize,
        since: Instant,
    },
    /// `confirmed`: the broker acknowledges it. `bytes`: of its payload.
    Publishing {
        origin: Origin,
        confirmed: bool,
        bytes: usize,
    },
    Announcing,
    Latest,
    Goodbye,
}

/// What the status shows of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub protocol: Option<Protocol>,
    /// Connections since the start.
    pub link: u64,
    pub last_error: String,
}

impl Link {
    /// `seed` is for the jitter of its waits. It tries to connect at once, at `now`.
    pub fn new(rules: Rules, now: Instant, seed: u64) -> Link {
        Link {
            state: State::Idle { retry: now },
            version: Version::new(rules.wanted),
            retry: Retry::new(seed),
            subscriptions: vec![Duty::default(); rules.filters.len()],
            announcing: Announcing::default(),
            outbox: Outbox::default(),
            latest: Latest::default(),
            stopping: None,
            view: View::default(),
            first: VecDeque::new(),
            rules,
        }
    }

    /// What the status shows of the connection.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether a message may be offered.
    pub fn wants(&self, origin: Origin) -> bool {
        let carries = matches!(&self.state, State::Up(up) if up.ended.is_none());
        self.outbox.has_room(origin) && (carries || origin == Origin::Commands)
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Connected {
                maximum_packet,
                retains,
            } => self.connected(now, maximum_packet, retains),
            Input::NotConnected(why) => self.not_connected(now, &why),
            Input::Subscribed(result) => self.subscribed(now, result),
            Input::SubscribedLate { filter, result } => self.subscribed_late(now, &filter, result),
            Input::Published(result) => self.published(now, result),
            Input::Ended(ended) => self.ended(now, ended),
            Input::Offer(origin, letter) => self.offered(origin, letter),
            Input::Closed(origin) => self.outbox.close(origin),
            Input::Latest(letter, pause) => self.latest_offered(letter, pause),
            Input::Status(announcement) => self.announcing.latest = Some(announcement),
            Input::Stop => self.stopping = Some(now + LAST_PATIENCE),
        }
    }

    /// What is to be done now. Called again and again until it is to wait; after a connect, a
    /// subscription or a publish, what became of it comes first.
    pub fn next(&mut self, now: Instant) -> Action {
        if let Some(action) = self.first.pop_front() {
            return action;
        }
        match &self.state {
            State::Idle { retry } => {
                let retry = *retry;
                self.next_idle(now, retry)
            }
            State::Connecting(_) => Action::Wait(now + CONNECT_PATIENCE),
            State::Up(up) if up.busy != Busy::No => Action::Wait(now + self.rules.ack_timeout),
            State::Up(_) => self.next_up(now),
        }
    }

    fn offered(&mut self, origin: Origin, letter: Letter) {
        let stale = letter.link.is_some_and(|link| link != self.view.link);
        let carries = matches!(&self.state, State::Up(up) if up.ended.is_none());
        if letter.link.is_some() && (stale || !carries) {
            let why = not_sent("the connection it was meant for has ended");
            return self.first.push_back(answer(origin, Err(why)));
        }
        self.outbox.put(origin, letter);
    }

    fn connected(&mut self, now: Instant, maximum_packet: Option<usize>, retains: bool) {
        let State::Connecting(attempt) = self.state else {
            return;
        };
        if !self.version.worked() {
            // It was a trial of the older protocol, which may not carry measurements yet.
            self.state = State::Idle { retry: now };
            return self.first.push_back(Action::Close);
        }
        self.view.link += 1;
        self.view.protocol = Some(attempt.protocol);
        self.subscriptions.iter_mut().for_each(Duty::begins_again);
        self.announcing.begins_again(now, attempt.will);
        self.latest.begins_again();
        self.state = State::Up(Up {
            protocol: attempt.protocol,
            since: now,
            subscribed: None,
            maximum_packet,
            retains,
            busy: Busy::No,
            acknowledged: false,
            unanswerable: false,
            ended: None,
        });
        self.first.push_back(Action::Tell(Notice::Connected {
            address: self.rules.address.clone(),
            protocol: attempt.protocol,
        }));
        if attempt.protocol == Protocol::V311 {
            self.first.push_back(Action::Tell(Notice::OldProtocol));
        }
        // Who hears of the connection finds it shown.
        self.first.push_back(Action::Show);
        self.first.push_back(Action::Up {
            link: self.view.link,
            limit: maximum_packet.map_or(usize::MAX, |packet| {
                let list = Message {
                    compression: self.rules.compression,
                    ..Message::list(&self.rules.values, Vec::new())
                };
                largest_payload(&list, attempt.protocol, packet).unwrap_or(0)
            }),
        });
    }

    fn subscribed(&mut self, now: Instant, result: Result<(), NotSubscribed>) {
        let State::Up(up) = &mut self.state else {
            return;
        };
        let Busy::Subscribing { nth, since } = std::mem::replace(&mut up.busy, Busy::No) else {
            return;
        };
        match result {
            Err(NotSubscribed::Silent) => {
                // The others may be left unanswered as well: a measurement goes first.
                up.acknowledged = false;
                self.subscriptions.iter_mut().for_each(Duty::doubt);
                self.subscriptions[nth].asked(since + SUBSCRIBE_PATIENCE);
            }
            Err(NotSubscribed::Ended(ended)) => {
                if ended.by == By::Gate {
                    // That did not come of what was subscribed to.
                    self.subscriptions[nth].doubt();
                } else if ended.by != By::Line {
                    self.subscriptions[nth].asked(since + SUBSCRIBE_PATIENCE);
                }
                up.ended.get_or_insert(ended);
            }
            answer => self.subscription_answered(now, nth, answer),
        }
        self.end_if_ended(now, Busy::No);
    }

    fn subscribed_late(&mut self, now: Instant, filter: &str, result: Result<(), NotSubscribed>) {
        let mut filters = self.rules.filters.iter().zip(&self.subscriptions);
        if let Some(nth) = filters.position(|(one, duty)| one == filter && duty.is_open()) {
            self.subscription_answered(now, nth, result);
        }
    }

    fn subscription_answered(
        &mut self,
        now: Instant,
        nth: usize,
        answer: Result<(), NotSubscribed>,
    ) {
        let duty = &mut self.subscriptions[nth];
        match answer {
            Ok(()) => duty.done(),
            Err(NotSubscribed::Refused(reason)) => {
                duty.refused(now, duties::AGAIN, false);
                let filter = self.rules.filters[nth].clone();
                let notice = Notice::SubscriptionRefused { filter, reason };
                self.first.push_back(Action::Tell(notice));
            }
            Err(NotSubscribed::Silent | NotSubscribed::Ended(_)) => {}
        }
    }

    fn set_busy(&mut self, busy: Busy) {
        if let State::Up(up) = &mut self.state {
            up.busy = busy;
        }
    }
}

fn answer(origin: Origin, result: Result<(), Undelivered>) -> Action {
    Action::Answer { origin, result }
}

fn not_sent(reason: &str) -> Undelivered {
    Undelivered::new(Cause::NotSent, reason)
}

#[cfg(test)]
mod tests;
