//! Lists as gzip members (RFC 1952), where that is set.

use std::io::Write;

use flate2::write::GzEncoder;

/// How the payloads of lists are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    /// Each is one gzip member.
    Gzip,
}

/// As small as the levels above it on lists of measurements, and a sixth smaller than 3, which
/// takes half of the time.
const LEVEL: u32 = 5;

impl Compression {
    /// Bytes that a list may have before compression, where its payload may have `payload`: what
    /// a consumer has to be ready for.
    pub fn unpacked(self, payload: usize) -> usize {
        match self {
            Compression::None => payload,
            Compression::Gzip => payload.saturating_mul(16),
        }
    }

    /// The payload of a list. The same list gives the same bytes.
    pub fn pack(self, list: &[u8]) -> Vec<u8> {
        match self {
            Compression::None => list.to_vec(),
            Compression::Gzip => {
                let level = flate2::Compression::new(LEVEL);
                let mut member = GzEncoder::new(Vec::new(), level);
                // Writing to a Vec cannot fail.
                drop(member.write_all(list));
                member.finish().unwrap_or_default()
            }
        }
    }
}

/// What an MQTT 5 message says of a packed payload.
pub mod properties {
    pub const CONTENT_TYPE: &str = "application/json";
    /// A user property: its name and its value.
    pub const CONTENT_ENCODING: (&str, &str) = ("content-encoding", "gzip");
}
