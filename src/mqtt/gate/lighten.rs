//! What a publisher or a broker hangs on a packet, and nobody here reads. The library keeps several
//! copies of each user property, and many small ones cost it a hundred times their bytes. They may
//! be sent all the same, and no connection ends for it: a few large ones take their place.

use super::fields::{Fields, Place, USER, property_size};
use super::{CONNACK, DISCONNECT, PUBACK, PUBLISH, SUBACK, kind};

/// Bytes beside the name and the value, and the most of each.
const HEAD: usize = 5;
const MOST: usize = u16::MAX as usize;

/// Puts a few user properties in the place of all, in the same bytes. `body` is that of a packet of
/// MQTT 5 that has passed the gate.
pub fn lighten(first: u8, body: &mut [u8]) {
    let Some((place, begin, length)) = properties(first, body) else {
        return;
    };
    let properties = &mut body[begin..begin + length];
    let (mut from, mut to) = (0, 0);
    while let Some(size) = property_size(place, &properties[from..]) {
        if properties[from] != USER {
            properties.copy_within(from..from + size, to);
            to += size;
        }
        from += size;
    }
    fill(&mut properties[to..]);
}

/// Of which packet the properties are, where they begin, and their length.
fn properties(first: u8, body: &[u8]) -> Option<(Place, usize, usize)> {
    let mut fields = Fields(body);
    let (place, before) = match kind(first) {
        CONNACK => (Place::Connack, 2),
        PUBLISH => {
            fields.binary().ok()?;
            (Place::Publish, if first & 6 != 0 { 2 } else { 0 })
        }
        PUBACK => (Place::Answer, 3),
        SUBACK => (Place::Answer, 2),
        DISCONNECT => (Place::Disconnect, 1),
        _ => return None,
    };
    fields.take(before).ok()?;
    let length = fields.varint().ok()?;
    Some((place, body.len() - fields.0.len(), length))
}

fn fill(mut room: &mut [u8]) {
    while room.len() >= HEAD {
        let mut size = room.len().min(HEAD + 2 * MOST);
        if (1..HEAD).contains(&(room.len() - size)) {
            size -= HEAD;
        }
        let (property, rest) = room.split_at_mut(size);
        room = rest;
        let name = (size - HEAD).min(MOST);
        let value = size - HEAD - name;
        property.fill(b'-');
        property[0] = USER;
        property[1..3].copy_from_slice(&(name as u16).to_be_bytes());
        property[3 + name..HEAD + name].copy_from_slice(&(value as u16).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Awaited, check};
    use super::*;
    use crate::model::message::Protocol;

    fn subscribed() -> Awaited {
        let mut awaited = Awaited::new(Protocol::V5);
        awaited.sending(0x10, &[&[0]]);
        awaited.received(0x20, &[0, 0, 0]);
        awaited.sending(0x82, &[&[0, 3, 0, 0, 1, b'a', 1]]);
        awaited
    }

    #[test]
    fn many_user_properties_become_few_and_all_else_stays() {
        for count in [0, 1, 2, 1000, 26_214, 26_215, 26_216, 26_217, 60_000] {
            for first in [0x30, 0x32] {
                let id: &[u8] = if first == 0x32 { &[0, 9] } else { &[] };
                let user = [USER, 0, 0, 0, 0].repeat(count);
                let rest = [&[0x01, 1][..], &user, &[0x09, 0, 2, b'c', b'd']].concat();
                let length = [
                    rest.len() & 127 | 128,
                    rest.len() >> 7 & 127 | 128,
                    rest.len() >> 14,
                ];
                let length = length.map(|byte| byte as u8);
                if rest.len() < 1 << 14 && count != 0 && count != 1 && count != 2 {
                    continue;
                }
                let length = if rest.len() < 128 {
                    vec![rest.len() as u8]
                } else {
                    length.to_vec()
                };
                let mut body = [&[0, 1, b'a'][..], id, &length, &rest, b"payload"].concat();
                let before = body.clone();
                assert_eq!(
                    check(Protocol::V5, &subscribed(), first, &body),
                    Ok(()),
                    "{count}"
                );
                lighten(first, &mut body);
                assert_eq!(
                    check(Protocol::V5, &subscribed(), first, &body),
                    Ok(()),
                    "{count}"
                );
                let begin = 3 + id.len() + length.len();
                assert_eq!(body[..begin], before[..begin]);
                assert_eq!(body[begin..begin + 7], [0x01, 1, 0x09, 0, 2, b'c', b'd']);
                assert!(body.ends_with(b"payload"));
                let mut left = &body[begin + 7..body.len() - 7];
                let mut found = 0;
                while let Some(size) = property_size(Place::Publish, left) {
                    assert_eq!(left[0], USER);
                    (left, found) = (&left[size..], found + 1);
                }
                assert!(
                    left.is_empty() && found <= 1 + 5 * count / 131_000,
                    "{found} for {count}"
                );
            }
        }
    }

    #[test]
    fn those_of_every_packet_become_few() {
        let reason = b"\x1f\0\x02no";
        let many = [&[USER, 0, 1, b'k', 0, 1, b'v'].repeat(2000)[..], reason].concat();
        let length = [many.len() & 127 | 128, many.len() >> 7].map(|byte| byte as u8);
        for (first, before, after) in [
            (0x20, &[0, 0][..], &[][..]),
            (0x40, &[0, 7, 0], &[]),
            (0x90, &[0, 3], &[1]),
            (0xE0, &[0x8B], &[]),
        ] {
            let mut body = [before, &length, &many, after].concat();
            lighten(first, &mut body);
            let merged = &body[before.len() + 2..body.len() - after.len()];
            assert_eq!(merged[..5], *reason, "{first:#x}");
            let size = property_size(Place::Answer, &merged[5..]);
            assert_eq!(size, Some(merged.len() - 5), "{first:#x}");
            assert!(body.starts_with(&[before, &length].concat()) && body.ends_with(after));
        }
        // Without properties nothing changes.
        for (first, body) in [(0x20, &[0, 1][..]), (0x40, &[0, 7]), (0xE0, &[0x8B])] {
            let mut light = body.to_vec();
            lighten(first, &mut light);
            assert_eq!(light, body);
        }
    }
}
