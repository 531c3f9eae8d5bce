//! The gate: nothing that a broker sends reaches the MQTT library unchecked.
//!
//! The C library trusts its broker: a malformed packet makes it read outside of its buffers, and a
//! well-formed one at the wrong time frees memory twice. This program cannot trust a broker, nor
//! the line where TLS is off. So every packet is checked before the library sees it, and passes
//! only if an honest broker would send it to this client in this state. Whatever does not pass
//! ends the connection.
//!
//! Pure: bytes and what is awaited come in, a verdict goes out. `line` feeds it with what goes over
//! one connection, `library` catches that.

mod awaited;
mod fields;
mod lighten;
#[cfg(test)]
mod tests;

pub use awaited::{Awaited, Stage};
pub use lighten::lighten;

use self::fields::{Fields, Place};
use crate::model::message::Protocol;
use crate::model::topic;

/// Bytes of the largest packet that is taken, as announced under MQTT 5.
pub const MAX_PACKET: usize = 1024 * 1024;
/// Bytes of the largest packet that is no PUBLISH.
const MAX_OTHER: usize = 64 * 1024;
/// Messages that may arrive before their acknowledgements are written: the library keeps a list
/// of those that a broker does not read.
pub const MAX_UNACKNOWLEDGED: usize = 1024;

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const SUBSCRIBE: u8 = 8;
pub const SUBACK: u8 = 9;
pub const PINGREQ: u8 = 12;
pub const PINGRESP: u8 = 13;
pub const DISCONNECT: u8 = 14;
const NAMES: [&str; 16] = [
    "a packet of type 0",
    "a CONNECT",
    "a CONNACK",
    "a PUBLISH",
    "a PUBACK",
    "a PUBREC",
    "a PUBREL",
    "a PUBCOMP",
    "a SUBSCRIBE",
    "a SUBACK",
    "an UNSUBSCRIBE",
    "an UNSUBACK",
    "a PINGREQ",
    "a PINGRESP",
    "a DISCONNECT",
    "an AUTH",
];

/// What is wrong with a packet, as the object of "the broker sent".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub String);

impl Reason {
    fn new(words: &str) -> Reason {
        Reason(words.into())
    }
}

/// The type of a packet from its first byte.
pub fn kind(first: u8) -> u8 {
    first >> 4
}

/// Judges the head of a packet, before anything is allocated for the rest.
///
/// # Errors
/// Why the packet must not pass.
pub fn check_head(
    version: Protocol,
    awaited: &Awaited,
    first: u8,
    remaining: usize,
) -> Result<(), Reason> {
    let name = NAMES[usize::from(kind(first))];
    let limit = if kind(first) == PUBLISH {
        MAX_PACKET
    } else {
        MAX_OTHER
    };
    if remaining > limit {
        return Err(Reason(format!("{name} of {remaining} bytes")));
    }
    let flags_are_legal = if kind(first) == PUBLISH {
        let (duplicate, qos) = (first & 8 != 0, first >> 1 & 3);
        if qos == 2 {
            return Err(Reason::new("a PUBLISH of QoS 2, which was not asked for"));
        }
        qos == 1 || qos == 0 && !duplicate
    } else {
        first & 15 == 0
    };
    if !flags_are_legal {
        return Err(Reason(format!("{name} with illegal flags")));
    }
    let may_come = match (kind(first), awaited.stage()) {
        (CONNACK, Stage::Connecting) => true,
        (PUBLISH | PUBACK | SUBACK | PINGRESP, Stage::Connected) => true,
        (DISCONNECT, Stage::Connected) => version == Protocol::V5,
        _ => false,
    };
    if may_come {
        Ok(())
    } else {
        Err(Reason(format!("{name}, for which it was not the time")))
    }
}

/// Whether a packet that was refused is a message that is legal but too large: it may have come
/// over a subscription, as anything else that is refused cannot.
pub fn may_be_subscribed(awaited: &Awaited, first: u8, remaining: usize) -> bool {
    matches!(first, 0x30..=0x33 | 0x3A | 0x3B)
        && remaining > MAX_PACKET
        && awaited.stage() == Stage::Connected
        && awaited.filters().next().is_some()
}

/// Judges a whole packet: `body` is all that its remaining length announced.
///
/// # Errors
/// Why the packet must not pass.
pub fn check(version: Protocol, awaited: &Awaited, first: u8, body: &[u8]) -> Result<(), Reason> {
    check_head(version, awaited, first, body.len())?;
    let mut fields = Fields(body);
    let checked = match kind(first) {
        CONNACK => connack(version, &mut fields),
        PUBLISH => publish(version, awaited, first, &mut fields),
        PUBACK => puback(version, awaited, &mut fields),
        SUBACK => suback(version, awaited, &mut fields),
        PINGRESP if !awaited.takes_pingresp() => Err(Reason::new("more answers than pings")),
        DISCONNECT => disconnect(&mut fields),
        _ => Ok(()),
    };
    let name = NAMES[usize::from(kind(first))];
    checked.map_err(|reason| Reason(format!("{name} with {reason}")))?;
    if fields.is_empty() {
        Ok(())
    } else {
        Err(Reason(format!("{name} with bytes behind its end")))
    }
}

fn connack(version: Protocol, fields: &mut Fields) -> Result<(), Reason> {
    let short = fields.0.len() == 2;
    let (flags, code) = (fields.byte()?, fields.byte()?);
    // A clean session is always asked for, and a refusal has none: there is none to be present.
    if flags > 0 {
        return Err(Reason::new("flags that are not 0"));
    }
    match version {
        Protocol::V311 if code <= 5 => Ok(()),
        // A broker that does not know MQTT 5 refuses it in the form of its own version.
        Protocol::V5 if short && matches!(code, 1..=5 | 0x80..) => Ok(()),
        Protocol::V5 if code == 0 || code >= 0x80 => fields.properties(Place::Connack),
        _ => Err(Reason(format!("the unknown code {code:#04x}"))),
    }
}

fn publish(
    version: Protocol,
    awaited: &Awaited,
    first: u8,
    fields: &mut Fields,
) -> Result<(), Reason> {
    let name = fields.text()?;
    if name.is_empty() || name.contains(['+', '#']) {
        return Err(Reason::new("a topic that is none"));
    }
    if !awaited.filters().any(|filter| topic::matches(filter, name)) {
        return Err(Reason::new("a topic that was not subscribed to"));
    }
    if first & 2 != 0 {
        if fields.two()? == 0 {
            return Err(Reason::new("the packet identifier 0"));
        }
        if awaited.unacknowledged() >= MAX_UNACKNOWLEDGED {
            return Err(Reason::new("no regard for what is not yet acknowledged"));
        }
    }
    if version == Protocol::V5 {
        fields.properties(Place::Publish)?;
    }
    // The rest is the payload, which may be anything.
    fields.0 = &[];
    Ok(())
}

fn puback(version: Protocol, awaited: &Awaited, fields: &mut Fields) -> Result<(), Reason> {
    let id = fields.two()?;
    if !awaited.takes_puback(id) {
        return Err(Reason(format!(
            "the packet identifier {id}, for which none is awaited"
        )));
    }
    if version == Protocol::V5 && !fields.is_empty() {
        let code = fields.byte()?;
        // 0x10: nobody has subscribed. Any other code below 0x80 does not exist. Those above are
        // failures, also where the table of this packet lacks them: Mosquitto sends 0x95.
        if !matches!(code, 0 | 0x10 | 0x80..) {
            return Err(Reason(format!("the unknown code {code:#04x}")));
        }
        if !fields.is_empty() {
            fields.properties(Place::Answer)?;
        }
    }
    Ok(())
}

fn suback(version: Protocol, awaited: &Awaited, fields: &mut Fields) -> Result<(), Reason> {
    let id = fields.two()?;
    let Some(filters) = awaited.takes_suback(id) else {
        return Err(Reason(format!(
            "the packet identifier {id}, for which none is awaited"
        )));
    };
    if version == Protocol::V5 {
        fields.properties(Place::Answer)?;
    }
    let codes = fields.take(fields.0.len())?;
    if codes.len() != filters {
        return Err(Reason(format!(
            "{} codes for {filters} filters",
            codes.len()
        )));
    }
    let legal = |code: u8| match version {
        // More than the QoS 1 that is asked for cannot be granted.
        Protocol::V5 => code <= 1 || code >= 0x80,
        Protocol::V311 => code <= 1 || code == 0x80,
    };
    match codes.iter().find(|code| !legal(**code)) {
        None => Ok(()),
        Some(code) => Err(Reason(format!("the unknown code {code:#04x}"))),
    }
}

fn disconnect(fields: &mut Fields) -> Result<(), Reason> {
    if fields.is_empty() {
        return Ok(());
    }
    let code = fields.byte()?;
    if !matches!(code, 0 | 0x80..) {
        return Err(Reason(format!("the unknown code {code:#04x}")));
    }
    if fields.is_empty() {
        return Ok(());
    }
    fields.properties(Place::Disconnect)
}
