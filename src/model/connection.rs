//! Attempts to connect to the broker, and how they end.

use std::time::Duration;

use super::failure::Ended;
use super::message::Protocol;

/// One attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub protocol: Protocol,
    pub keep_alive: Duration,
    /// For the first answer of the broker.
    pub patience: Duration,
    /// With the last will on the status topic.
    pub will: bool,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NoConnection {
    pub kind: NoConnectionKind,
    /// In words, with the setting to look at.
    pub reason: String,
}

impl NoConnection {
    pub fn new(kind: NoConnectionKind, reason: impl Into<String>) -> NoConnection {
        NoConnection {
            kind,
            reason: reason.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConnectionKind {
    /// No name, no route, nobody listens.
    Unreachable,
    /// The broker says that it does not speak this version.
    OtherVersion,
    /// Closed without a word before the CONNACK.
    Closed,
    /// No CONNACK in time.
    Silent,
    /// Only a person can end it: credentials, the client ID, TLS.
    NeedsPerson,
    /// The broker refuses for another reason.
    Refused,
    /// The broker sent what it must not.
    Gate,
    /// The end was asked for meanwhile.
    GivenUp,
}

/// Why a subscription does not stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSubscribed {
    /// The broker said no.
    #[error("{0}")]
    Refused(String),
    /// No answer in time.
    #[error("the broker did not answer")]
    Silent,
    #[error("{}", .0.reason)]
    Ended(Ended),
}
