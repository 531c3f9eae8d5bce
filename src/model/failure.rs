//! Why a message was not delivered: one type, from the MQTT library to the decision.

/// A message that the broker has not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    pub cause: Cause,
    /// In words, for people.
    pub reason: String,
    /// The end of the connection is told with the same words.
    pub told: bool,
}

/// Whose fault it was, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was never handed to the network.
    NotSent,
    /// The broker ended the connection: FIN, RST or DISCONNECT came from it, on a line that was
    /// proven alive on this very connection, after the whole packet had been written.
    Closed,
    /// The line or this side ended the connection: a time-out of the keep alive, a reset while
    /// the packet was half written, a broker that shuts down. Says nothing about the message.
    Lost,
    /// The broker ended the connection, but a message that it does not acknowledge had gone
    /// before: either may have been the reason.
    Unclear,
    /// No acknowledgement in time. `answers`: the broker has answered something else behind it
    /// on the same connection, so the line was alive and the packet had arrived.
    Silent { answers: bool },
    /// The broker refused this very content.
    Refused,
    /// The message has more bytes than the broker takes. `limit`: of the payload, where the
    /// broker has named a size.
    TooLarge { limit: Option<usize> },
    /// The broker refused for a reason that would hit any message: not authorized, quota.
    RefusesAll,
}

impl Undelivered {
    pub fn new(cause: Cause, reason: impl Into<String>) -> Undelivered {
        Undelivered {
            cause,
            reason: reason.into(),
            told: false,
        }
    }
}

/// How a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub by: By,
    /// In words, for people.
    pub reason: String,
}

/// Who has ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// FIN, RST or DISCONNECT came from the broker.
    Broker,
    /// A time-out of the keep alive, a write that failed, this side itself.
    Line,
    /// The broker sent what it must not.
    Gate,
    /// The same, and it was a message that is legal but too large: it may have come over a
    /// subscription.
    GateMessage,
}
