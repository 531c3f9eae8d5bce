//! What the link tells: every line of the log about the connection to the broker, as a value.

use std::fmt;
use std::time::Duration;

use crate::model::message::Protocol;
use crate::model::notice::Level;

/// One line for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Insecure,
    Connected {
        address: String,
        protocol: Protocol,
    },
    OldProtocol,
    NoConnection {
        address: String,
        reason: String,
        next: Next,
    },
    Disconnected {
        address: String,
        reason: String,
        /// Nothing explains that it happens soon after each connect.
        same_client: bool,
        wait: Duration,
    },
    SubscriptionRefused {
        filter: String,
        reason: String,
    },
    SubscriptionLeftOut {
        filter: String,
        reason: String,
    },
    StatusLeftOut {
        topic: String,
        reason: String,
    },
    NoLatest {
        topic: String,
        reason: String,
    },
}

/// What is tried next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    After(Duration),
    Version(Protocol),
}

impl Notice {
    pub fn level(&self) -> Level {
        match self {
            Notice::Connected { .. } | Notice::OldProtocol => Level::Info,
            Notice::Insecure | Notice::NoConnection { .. } | Notice::Disconnected { .. } => {
                Level::Warn
            }
            Notice::SubscriptionRefused { .. }
            | Notice::SubscriptionLeftOut { .. }
            | Notice::StatusLeftOut { .. }
            | Notice::NoLatest { .. } => Level::Error,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Insecure => write!(
                f,
                "the certificate of the broker is not checked (mqtt.tls_insecure)"
            ),
            Notice::Connected { address, protocol } => {
                write!(f, "connected to {address} (MQTT {})", protocol.number())
            }
            Notice::OldProtocol => write!(
                f,
                "MQTT 3.1.1 confirms even what the broker throws away; MQTT 5 is the safer choice"
            ),
            Notice::NoConnection {
                address,
                reason,
                next,
            } => write!(f, "no connection to {address}: {reason}; {next}"),
            Notice::Disconnected {
                address,
                reason,
                same_client,
                wait,
            } => {
                write!(f, "disconnected from {address}: {reason}")?;
                if *same_client {
                    write!(
                        f,
                        "; it happens soon after each connect: does another client use the same client ID? (see mqtt.client_id)"
                    )?;
                }
                write!(f, "; next attempt in {:.1} s", wait.as_secs_f64())
            }
            _ => self.write_topic(f),
        }
    }
}

impl Notice {
    /// What does not go out, or come in, on a topic.
    fn write_topic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::SubscriptionRefused { filter, reason } => write!(
                f,
                "no commands arrive on {filter:?}: the subscription was refused: {reason}; tried again in 60 s"
            ),
            Notice::SubscriptionLeftOut { filter, reason } => write!(
                f,
                "no commands arrive on {filter:?} for an hour: the subscription has cost the connection: {reason} (see mqtt.topic_request, mqtt.topic_broadcast and the ACL of the broker); measurements go on"
            ),
            Notice::NoLatest { topic, reason } => write!(
                f,
                "no latest measurement on {topic:?}: {reason} (see mqtt.topic_latest and the ACL of the broker); measurements go on"
            ),
            Notice::StatusLeftOut { topic, reason } => write!(
                f,
                "no status on {topic:?}: {reason} (see mqtt.topic_status and the ACL of the broker); tried again in 60 min, measurements go on"
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::After(wait) => write!(f, "next attempt in {:.1} s", wait.as_secs_f64()),
            Next::Version(protocol) => write!(f, "MQTT {} is tried next", protocol.number()),
        }
    }
}

/// One of each, with a mark in the place of every text that varies: what the documentation
/// explains comes from here.
pub fn catalogue(mark: &str) -> Vec<Notice> {
    let (text, wait) = (|| mark.to_string(), Duration::ZERO);
    vec![
        Notice::Insecure,
        Notice::Connected {
            address: text(),
            protocol: Protocol::V5,
        },
        Notice::OldProtocol,
        Notice::NoConnection {
            address: text(),
            reason: text(),
            next: Next::After(wait),
        },
        Notice::Disconnected {
            address: text(),
            reason: text(),
            same_client: true,
            wait,
        },
        Notice::SubscriptionRefused {
            filter: text(),
            reason: text(),
        },
        Notice::SubscriptionLeftOut {
            filter: text(),
            reason: text(),
        },
        Notice::StatusLeftOut {
            topic: text(),
            reason: text(),
        },
        Notice::NoLatest {
            topic: text(),
            reason: text(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notice_has_words() {
        let notices = catalogue("mark");
        assert_eq!(notices.len(), 9);
        for notice in notices {
            assert!(notice.to_string().len() > 10, "{notice:?}");
        }
        for next in [Next::After(Duration::ZERO), Next::Version(Protocol::V5)] {
            assert!(next.to_string().contains("next"));
        }
    }
}
