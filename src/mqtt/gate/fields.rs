//! The fields of a packet, read from front to back and never past its end.

use super::Reason;

/// What is left of the body of a packet.
pub struct Fields<'a>(pub &'a [u8]);

/// What a property may stand in (MQTT 5, 2.2.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Connack,
    Publish,
    /// PUBACK and SUBACK.
    Answer,
    Disconnect,
}

enum Kind {
    /// A byte that is 0 or 1.
    Flag,
    Two,
    Four,
    Text,
    Binary,
    Pair,
}

impl<'a> Fields<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return Err(Reason::new(
                "a field that reaches past the end of its packet",
            ));
        };
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, Reason> {
        Ok(self.take(1)?[0])
    }

    pub fn two(&mut self) -> Result<u16, Reason> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn four(&mut self) -> Result<u32, Reason> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A number of one to four bytes, in its shortest form.
    pub fn varint(&mut self) -> Result<usize, Reason> {
        let mut value = 0;
        for position in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 127) << (7 * position);
            if byte & 128 == 0 {
                if byte == 0 && position > 0 {
                    return Err(Reason::new("a number that is longer than it has to be"));
                }
                return Ok(value);
            }
        }
        Err(Reason::new("a number of more than four bytes"))
    }

    pub fn binary(&mut self) -> Result<&'a [u8], Reason> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// Text as the protocol wants it (1.5.4).
    pub fn text(&mut self) -> Result<&'a str, Reason> {
        let text = std::str::from_utf8(self.binary()?)
            .map_err(|_| Reason::new("text that is no UTF-8"))?;
        if text.contains('\0') {
            return Err(Reason::new("text that holds U+0000"));
        }
        Ok(text)
    }

    /// Walks all properties to their end. Only user properties may stand there more than once, and
    /// those become few: see `lighten`.
    pub fn properties(&mut self, place: Place) -> Result<(), Reason> {
        let length = self.varint()?;
        let mut properties = Fields(self.take(length)?);
        // One bit for each property that may stand there only once.
        let mut seen = 0u64;
        while !properties.is_empty() {
            let code = properties.byte()?;
            let kind = kind(place, code)
                .ok_or_else(|| Reason(format!("property {code:#04x}, which has no place there")))?;
            if code != USER {
                let bit = 1 << code;
                if seen & bit != 0 {
                    return Err(Reason(format!("property {code:#04x} twice")));
                }
                seen |= bit;
            }
            properties.value(code, kind)?;
        }
        Ok(())
    }

    fn value(&mut self, code: u8, kind: Kind) -> Result<(), Reason> {
        let legal = match kind {
            // The form of a payload comes from a publisher, as the topic below.
            Kind::Flag => self.byte()? <= 1 || code == 0x01,
            // The receive maximum is never 0.
            Kind::Two => self.two()? > 0 || code != 0x21,
            // Nor is the maximum packet size.
            Kind::Four => self.four()? > 0 || code != 0x27,
            // A topic for a response that is none comes from a publisher, through a broker that
            // does not look: nobody asks for a connection to end for it.
            Kind::Text => self.text().map(|_| true)?,
            Kind::Binary => self.binary().map(|_| true)?,
            Kind::Pair => {
                self.text()?;
                self.text().map(|_| true)?
            }
        };
        if legal {
            Ok(())
        } else {
            Err(Reason(format!(
                "property {code:#04x} with a value that is none"
            )))
        }
    }
}

pub const USER: u8 = 0x26;

/// Bytes of the first property of a packet that was checked; `None` where there is none.
pub fn property_size(place: Place, properties: &[u8]) -> Option<usize> {
    let mut rest = Fields(properties);
    let code = rest.byte().ok()?;
    if code == USER {
        // There may be many.
        rest.binary().and_then(|_| rest.binary()).ok()?;
    } else {
        rest.value(code, kind(place, code)?).ok()?;
    }
    Some(properties.len() - rest.0.len())
}

fn kind(place: Place, code: u8) -> Option<Kind> {
    use Place::{Connack, Disconnect, Publish};
    let (kind, places): (Kind, &[Place]) = match code {
        0x01 => (Kind::Flag, &[Publish]),
        0x02 => (Kind::Four, &[Publish]),
        0x03 | 0x08 => (Kind::Text, &[Publish]),
        0x09 => (Kind::Binary, &[Publish]),
        0x11 | 0x27 => (Kind::Four, &[Connack]),
        0x12 | 0x1A => (Kind::Text, &[Connack]),
        0x13 | 0x21 | 0x22 => (Kind::Two, &[Connack]),
        0x1C => (Kind::Text, &[Connack, Disconnect]),
        0x1F => (Kind::Text, &[Connack, Place::Answer, Disconnect]),
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => (Kind::Flag, &[Connack]),
        USER => return Some(Kind::Pair),
        // 0x0B, the identifier of a subscription: this client gives none, and the library keeps
        // them all. 0x15 and 0x16, authentication: it asks for none. 0x23, the topic alias: it
        // allows none.
        _ => return None,
    };
    places.contains(&place).then_some(kind)
}
