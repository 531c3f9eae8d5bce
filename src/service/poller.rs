//! The thread that does what the bridge says: reads the stream, hands lists to the publisher,
//! saves the cursor. It is the only user of its connection to Redis, and decides nothing.

mod requests;

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};

use super::messages::{Event, Slot};
use super::shutdown::Shutdown;
use super::threads::Pulse;
use super::{board::Board, tell::tell};
use crate::bridge::{Action, Bridge, Input, Rules};
use crate::config::Config;
use crate::link::Letter;
use crate::model::compression::Compression;
use crate::model::failure::{Cause, Undelivered};
use crate::model::message::Message;
pub use requests::Requests;

/// Where measurements go.
struct Topics {
    lists: String,
    /// The newest one, where that is wanted.
    latest: Option<String>,
}

pub struct Poller {
    bridge: Bridge,
    requests: Requests,
    topics: Topics,
    compression: Compression,
    letters: Sender<Letter>,
    slot: Slot,
    events: Receiver<Event>,
    shutdown: Shutdown,
    pulse: Pulse,
    board: Board,
    /// Who waits for the quiet ahead of a reboot.
    quiet: Option<Sender<()>>,
}

impl Poller {
    pub fn new(
        config: &Config,
        requests: Requests,
        (letters, slot, events): (Sender<Letter>, Slot, Receiver<Event>),
        (shutdown, pulse): (Shutdown, Pulse),
        board: Board,
    ) -> Poller {
        let topics = Topics {
            lists: config.mqtt.topics.values.clone(),
            latest: config.mqtt.topics.latest.clone(),
        };
        let rules = Rules {
            interval: config.interval,
            batch: config.batch,
            keep_sent: config.keep_sent,
            catch_up: config.catch_up,
            ack_timeout: config.mqtt.ack_timeout,
            topic: topics.lists.clone(),
            latest: topics.latest.is_some(),
        };
        Poller {
            bridge: Bridge::new(rules, crate::random::seed()),
            requests,
            topics,
            compression: config.batch.compression,
            letters,
            slot,
            events,
            shutdown,
            pulse,
            board,
            quiet: None,
        }
    }

    /// Works until the bridge says that all is done.
    pub fn run(mut self) {
        let mut stopping = false;
        loop {
            self.pulse.beat();
            while let Ok(event) = self.events.try_recv() {
                self.feed(event);
            }
            if self.shutdown.requested() && !stopping {
                stopping = true;
                self.bridge.handle(Instant::now(), Input::Stop);
            }
            match self.bridge.next(Instant::now()) {
                Action::Tell(notice) => tell(notice.level(), &notice),
                Action::Show(view) => self.board.show_measurements(&view),
                Action::Ask(request) => {
                    let answer = self.requests.ask(request, &self.board);
                    self.bridge.handle(Instant::now(), Input::Redis(answer));
                }
                Action::Publish {
                    link,
                    list,
                    patience,
                } => self.hand_over(Letter {
                    message: Message {
                        compression: self.compression,
                        ..Message::list(&self.topics.lists, list.payload)
                    },
                    patience: Some(patience),
                    link: Some(link),
                }),
                Action::PublishLatest {
                    link,
                    payload,
                    pause,
                } => self.hand_over_latest(link, payload, pause),
                Action::Quiet => {
                    if let Some(done) = self.quiet.take() {
                        // Nobody may wait any more.
                        let _ = done.send(());
                    }
                }
                Action::Wait(until) => self.wait(until, stopping),
                Action::Done => return,
            }
        }
    }

    fn wait(&mut self, until: Instant, stopping: bool) {
        let never = never();
        let end = if stopping {
            &never
        } else {
            self.shutdown.receiver()
        };
        let event = select! {
            recv(self.events) -> event => event.ok(),
            recv(end) -> _ => None,
            default(until.saturating_duration_since(Instant::now())) => None,
        };
        if let Some(event) = event {
            self.feed(event);
        }
    }

    fn feed(&mut self, event: Event) {
        let input = match event {
            Event::LinkUp { link, limit } => Input::LinkUp { link, limit },
            Event::LinkDown { idle } => Input::LinkDown { idle },
            Event::LinkNoted => Input::LinkNoted,
            Event::Delivered(result) => Input::Delivered(result),
            Event::Wake => Input::Wake,
            Event::Resume => Input::Resume,
            Event::Quiesce(done) => {
                self.quiet = Some(done);
                Input::Quiesce
            }
        };
        self.bridge.handle(Instant::now(), input);
    }

    fn hand_over_latest(&self, link: u64, payload: Vec<u8>, pause: Duration) {
        if let Some(topic) = &self.topics.latest {
            let letter = Letter {
                message: Message::latest(topic, payload),
                patience: None,
                link: Some(link),
            };
            self.slot.put((letter, pause));
        }
    }

    /// The queue has room: only one list is in flight. It is closed when the publisher is gone,
    /// and then the program ends.
    fn hand_over(&mut self, letter: Letter) {
        if self.letters.send(letter).is_err() {
            let gone = Undelivered::new(Cause::NotSent, "the publisher is gone");
            self.bridge
                .handle(Instant::now(), Input::Delivered(Err(gone)));
        }
    }
}
