//! The thread that does what the link says: connects, subscribes, publishes. It owns the
//! connection to the broker, and decides nothing.

mod line;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, never, select};

use super::board::Board;
use super::dispatcher::Inbox;
use super::messages::{Delivered, Event, Slot};
use super::shutdown::Shutdown;
use super::threads::Pulse;
use super::{announcement, rules, tell::tell};
use crate::config::Config;
use crate::link::{Action, Input, Letter, Link, Origin};
use crate::mqtt::Broker;
use line::Line;

/// The ends of the channels that the publisher works with.
pub struct PublisherChannels {
    pub measurements: Receiver<Letter>,
    pub commands: Receiver<Letter>,
    pub latest: Slot,
    pub poller: Sender<Event>,
    pub dispatcher: Sender<Delivered>,
    pub inbox: Inbox,
    /// Told to the dispatcher: bytes that one list may have.
    pub maximum_payload: Arc<AtomicUsize>,
}

pub struct Publisher {
    link: Link,
    line: Line,
    channels: PublisherChannels,
    board: Board,
    /// The version of the board that the link knows.
    announced: u64,
}

impl Publisher {
    pub fn new(
        config: &Config,
        channels: PublisherChannels,
        (shutdown, pulse): (Shutdown, Pulse),
        board: Board,
    ) -> Publisher {
        let will = announcement::last_will(config);
        Publisher {
            link: Link::new(rules::link(config), Instant::now(), crate::random::seed()),
            line: Line {
                broker: Broker::new(&config.mqtt, will, rules::KEEP),
                inbox: channels.inbox.clone(),
                shutdown,
                pulse,
                connection: None,
            },
            channels,
            board,
            announced: u64::MAX,
        }
    }

    /// Works until the link says that all is done.
    pub fn run(mut self) {
        let mut stopping = false;
        loop {
            self.line.pulse.beat();
            self.feed_late();
            self.feed_end();
            self.feed_status();
            self.feed_letters();
            if self.line.shutdown.requested() && !stopping {
                stopping = true;
                self.feed(Input::Stop);
            }
            match self.link.next(Instant::now()) {
                Action::Wait(until) => self.wait(until, stopping),
                Action::Done => return,
                action => self.act(action),
            }
        }
    }

    fn act(&mut self, action: Action) {
        let answer = match action {
            Action::Connect(attempt) => Some(self.line.connect(&attempt)),
            Action::Subscribe { filter, patience } => {
                let waits = || self.channels.has_letters();
                self.line.subscribe(&filter, patience, waits)
            }
            Action::Publish { message, patience } => {
                let published = self.line.publish(message, patience);
                self.feed_late();
                published
            }
            action => return self.pass_on(action),
        };
        self.feed_end();
        if let Some(answer) = answer {
            self.feed(answer);
        }
    }

    /// What others have to know. Nobody listens any more at the end of the program.
    fn pass_on(&mut self, action: Action) {
        let event = match action {
            Action::Tell(notice) => return tell(notice.level(), &notice),
            Action::Close => return self.line.close(),
            Action::Show => {
                self.board.show_link(self.link.view());
                Event::LinkNoted
            }
            Action::Up { link, limit } => {
                self.channels
                    .maximum_payload
                    .store(limit, Ordering::Relaxed);
                Event::LinkUp { link, limit }
            }
            Action::Down { idle } => Event::LinkDown { idle },
            Action::Answer { origin, result } => match origin {
                Origin::Measurements => Event::Delivered(result),
                Origin::Commands => return drop(self.channels.dispatcher.send(result)),
            },
            _ => return,
        };
        drop(self.channels.poller.send(event));
    }

    fn feed(&mut self, input: Input) {
        self.link.handle(Instant::now(), input);
    }

    fn feed_late(&mut self) {
        while let Some(late) = self.line.subscribed_late() {
            self.feed(late);
        }
    }

    fn feed_end(&mut self) {
        if let Some(ended) = self.line.ended() {
            self.feed(Input::Ended(ended));
        }
    }

    fn feed_status(&mut self) {
        let version = self.board.version();
        if self.announced != version {
            self.announced = version;
            let announcement = announcement::online(&self.board.snapshot());
            self.feed(Input::Status(announcement));
        }
    }

    fn feed_letters(&mut self) {
        if let Ok((letter, pause)) = self.channels.latest.receiver().try_recv() {
            self.feed(Input::Latest(letter, pause));
        }
        for origin in [Origin::Commands, Origin::Measurements] {
            if !self.link.wants(origin) {
                continue;
            }
            match self.channels.letters(origin).try_recv() {
                Ok(letter) => self.feed(Input::Offer(origin, letter)),
                Err(TryRecvError::Disconnected) => self.feed(Input::Closed(origin)),
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// Waits until something happens; what it is shows in the next turn.
    fn wait(&mut self, until: Instant, stopping: bool) {
        let (no_letters, no_end, no_loss) = (never(), never(), never());
        let wanted = |origin| match self.link.wants(origin) {
            true => self.channels.letters(origin),
            false => &no_letters,
        };
        let end = match stopping {
            true => &no_end,
            false => self.line.shutdown.receiver(),
        };
        let lost = self.line.lost().unwrap_or(&no_loss);
        let (measurements, commands) = (wanted(Origin::Measurements), wanted(Origin::Commands));
        let input = select! {
            recv(measurements) -> letter => Some(offer(Origin::Measurements, letter.ok())),
            recv(commands) -> letter => Some(offer(Origin::Commands, letter.ok())),
            recv(self.channels.latest.receiver()) -> latest => {
                latest.ok().map(|(letter, pause)| Input::Latest(letter, pause))
            }
            recv(lost) -> _ => None,
            recv(end) -> _ => None,
            default(Line::left(until)) => None,
        };
        if let Some(input) = input {
            self.feed(input);
        }
    }
}

impl PublisherChannels {
    fn has_letters(&self) -> bool {
        !self.measurements.is_empty() || !self.commands.is_empty()
    }

    fn letters(&self, origin: Origin) -> &Receiver<Letter> {
        match origin {
            Origin::Measurements => &self.measurements,
            Origin::Commands => &self.commands,
        }
    }
}

fn offer(origin: Origin, letter: Option<Letter>) -> Input {
    letter.map_or(Input::Closed(origin), |letter| Input::Offer(origin, letter))
}
