//! The connection to the broker as the publisher holds it: each call takes as long as it needs,
//! heeds the end of the program, and gives what the link has to know.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::link::{Attempt, Input, LAST_PATIENCE};
use crate::model::failure::Ended;
use crate::model::message::Message;
use crate::mqtt::{Broker, Connection};
use crate::service::dispatcher::Inbox;
use crate::service::shutdown::{Grace, Shutdown};
use crate::service::threads::Pulse;

pub struct Line {
    pub broker: Broker,
    pub inbox: Inbox,
    pub shutdown: Shutdown,
    pub pulse: Pulse,
    pub connection: Option<Connection>,
}

impl Line {
    pub fn connect(&mut self, attempt: &Attempt) -> Input {
        let inbox = self.inbox.clone();
        let result = self.broker.connect(
            attempt,
            move |message| inbox.put(message),
            || self.is_over(),
        );
        match result {
            Ok(connection) => {
                let connected = Input::Connected {
                    maximum_packet: connection.maximum_packet(),
                    retains: connection.retains(),
                };
                self.connection = Some(connection);
                connected
            }
            Err(error) => Input::NotConnected(error),
        }
    }

    /// `waits`: there is a message to be sent.
    pub fn subscribe(
        &self,
        filter: &str,
        patience: Duration,
        waits: impl Fn() -> bool,
    ) -> Option<Input> {
        let connection = self.connection.as_ref()?;
        let result = connection.subscribe(filter, patience, || self.is_over() || waits());
        Some(Input::Subscribed(result))
    }

    /// An answer that was not waited for any longer.
    pub fn subscribed_late(&self) -> Option<Input> {
        let (filter, result) = self.connection.as_ref()?.subscribed_late()?;
        Some(Input::SubscribedLate { filter, result })
    }

    pub fn publish(&self, message: Message, patience: Duration) -> Option<Input> {
        let connection = self.connection.as_ref()?;
        let mut grace = Grace::new(&self.shutdown, LAST_PATIENCE);
        let result = connection.publish(message, patience, || {
            self.pulse.beat();
            grace.is_over()
        });
        Some(Input::Published(result))
    }

    pub fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }

    /// The end of the connection, if it has come.
    pub fn ended(&self) -> Option<Ended> {
        self.connection.as_ref()?.ended().cloned()
    }

    /// Becomes ready when the connection has ended.
    pub fn lost(&self) -> Option<&Receiver<Ended>> {
        self.connection.as_ref().map(Connection::lost)
    }

    fn is_over(&self) -> bool {
        self.pulse.beat();
        self.shutdown.requested()
    }

    /// How long until then.
    pub fn left(until: Instant) -> Duration {
        until.saturating_duration_since(Instant::now())
    }
}
