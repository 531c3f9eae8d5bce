//! How many bytes a message has on the wire, so that none is sent that the broker would refuse.

use super::compression::{Compression, properties};
use super::message::{Message, Protocol};

/// The number of bytes of the PUBLISH packet (MQTT 5, 3.3).
pub fn packet_size(message: &Message, version: Protocol) -> usize {
    let remaining = overhead(message, version) + message.payload.len();
    1 + varint_size(remaining) + remaining
}

/// Bytes of the largest payload that a message like this one may have in a packet of `maximum`
/// bytes; its own payload does not matter. `None`: not even an empty one fits.
pub fn largest_payload(message: &Message, version: Protocol, maximum: usize) -> Option<usize> {
    let overhead = overhead(message, version);
    // The length of the remaining length depends on what it says: the longest that fits.
    (1..=4).rev().find_map(|digits| {
        let remaining = maximum.checked_sub(1 + digits)?;
        let remaining = remaining.min(LARGEST_VARINT[digits]);
        (varint_size(remaining) == digits)
            .then(|| remaining.checked_sub(overhead))
            .flatten()
    })
}

const LARGEST_VARINT: [usize; 5] = [0, 127, 16_383, 2_097_151, 268_435_455];

/// All between the fixed header and the payload.
fn overhead(message: &Message, version: Protocol) -> usize {
    let identifier = if message.qos > 0 { 2 } else { 0 };
    let properties = match version {
        Protocol::V311 => 0,
        Protocol::V5 => {
            // Its code, its length, itself.
            let correlation = message
                .correlation
                .as_ref()
                .map_or(0, |data| 3 + data.len());
            let bytes = correlation + described(message.compression);
            varint_size(bytes) + bytes
        }
    };
    2 + message.topic.len() + identifier + properties
}

/// Bytes of the properties that tell how a payload is packed: the second has a name as well.
fn described(compression: Compression) -> usize {
    let (name, value) = properties::CONTENT_ENCODING;
    match compression {
        Compression::None => 0,
        Compression::Gzip => 8 + properties::CONTENT_TYPE.len() + name.len() + value.len(),
    }
}

fn varint_size(value: usize) -> usize {
    (1..4)
        .find(|digits| value <= LARGEST_VARINT[*digits])
        .unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: usize, payload: usize, qos: i32, correlation: Option<usize>) -> Message {
        Message {
            topic: "t".repeat(topic),
            payload: vec![0; payload],
            qos,
            retained: false,
            correlation: correlation.map(|length| vec![1; length]),
            compression: Compression::None,
        }
    }

    #[test]
    fn a_packet_is_as_large_as_the_protocol_says() {
        // 30 04 00 01 't' 'x'
        assert_eq!(packet_size(&message(1, 1, 0, None), Protocol::V311), 6);
        // The identifier, and the length of no properties.
        assert_eq!(packet_size(&message(1, 1, 1, None), Protocol::V5), 9);
        assert_eq!(packet_size(&message(1, 1, 1, Some(4)), Protocol::V5), 16);
        // Correlation data has no place in the older version.
        assert_eq!(packet_size(&message(1, 1, 1, Some(4)), Protocol::V311), 8);
        // 127 remaining bytes have a length of one byte, 128 of two.
        assert_eq!(packet_size(&message(1, 124, 0, None), Protocol::V311), 129);
        assert_eq!(packet_size(&message(1, 125, 0, None), Protocol::V311), 131);
    }

    #[test]
    fn the_largest_payload_fits_and_one_byte_more_does_not() {
        for version in [Protocol::V5, Protocol::V311] {
            for maximum in (5..300).chain([16_380, 16_386, 16_390, 65_536, 2_097_160]) {
                let sample = message(3, 0, 1, Some(2));
                let size = |payload| packet_size(&message(3, payload, 1, Some(2)), version);
                match largest_payload(&sample, version, maximum) {
                    Some(payload) => {
                        assert!(size(payload) <= maximum, "{maximum} {payload}");
                        assert!(size(payload + 1) > maximum, "{maximum} {payload}");
                    }
                    None => assert!(size(0) > maximum, "{maximum}"),
                }
            }
        }
    }
}
