//! Objects of many fields. A name that occurs twice is found without a copy of any name or value:
//! somebody may write 100,000 fields into one entry, and that must cost little more than the entry.

use std::cmp::Ordering;

use super::{Field, field, is_ordinary, wire_name};

/// In the place of a field that is not sent: an earlier one has its value.
const NOT_SENT: u32 = u32::MAX;

/// Writes the fields; whether a name occurred twice.
pub fn write<'a>(
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = Field<'a>> + Clone,
    clean: &mut bool,
) -> bool {
    let Some(last) = last_of_each(fields.clone()) else {
        for (name, value) in fields {
            field(out, &wire_name(name, clean), value, clean);
        }
        return false;
    };
    let mut later: Vec<u32> = (0..)
        .zip(&last)
        .filter(|(place, last)| **last != NOT_SENT && place != *last)
        .map(|(_, last)| *last)
        .collect();
    later.sort_unstable();
    let values = values(fields.clone(), &later);
    for ((place, (name, value)), last) in (0..).zip(fields).zip(last) {
        if last == NOT_SENT {
            continue;
        }
        let value = match later.binary_search(&last) {
            Ok(found) if last != place => values[found],
            _ => value,
        };
        field(out, &wire_name(name, clean), value, clean);
    }
    true
}

/// For each field the place of the last one of its name, in the first of them; `None` where all
/// names differ.
fn last_of_each<'a>(fields: impl Iterator<Item = Field<'a>>) -> Option<Vec<u32>> {
    let names: Vec<&[u8]> = fields.map(|(name, _)| name).collect();
    let compare = |one: &u32, other: &u32| in_order(names[*one as usize], names[*other as usize]);
    // Redis itself cannot hold more strings in one entry.
    let places = 0..u32::try_from(names.len()).unwrap_or(NOT_SENT);
    let mut order: Vec<u32> = places.clone().collect();
    order.sort_unstable_by(|one, other| compare(one, other).then(one.cmp(other)));
    let same = |one: &u32, other: &u32| compare(one, other) == Ordering::Equal;
    if !order.windows(2).any(|pair| same(&pair[0], &pair[1])) {
        return None;
    }
    let mut last: Vec<u32> = places.collect();
    for group in order.chunk_by(same) {
        for place in &group[1..] {
            last[*place as usize] = NOT_SENT;
        }
        last[group[0] as usize] = group[group.len() - 1];
    }
    Some(last)
}

/// The order of the names as they are sent.
fn in_order(one: &[u8], other: &[u8]) -> Ordering {
    if is_ordinary(one) && is_ordinary(other) {
        return one.cmp(other);
    }
    wire_name(one, &mut true).cmp(&wire_name(other, &mut true))
}

/// The values of the fields in these places, which are in order.
fn values<'a>(fields: impl Iterator<Item = Field<'a>>, places: &[u32]) -> Vec<&'a [u8]> {
    let mut places = places.iter().peekable();
    (0..)
        .zip(fields)
        .filter(|(place, _)| places.next_if_eq(&place).is_some())
        .map(|(_, (_, value))| value)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(fields: &[Field]) -> (String, bool) {
        let mut out = Vec::new();
        let double = write(&mut out, fields.iter().copied(), &mut true);
        (String::from_utf8(out).expect("UTF-8"), double)
    }

    #[test]
    fn the_last_value_stands_in_the_first_place() {
        let fields: [Field; 5] = [
            (b"b", b"1"),
            (b"_id", b"2"),
            (b"a", b"3"),
            (b"b", b"4"),
            (b"__id", b"5"),
        ];
        let both = (r#","b":"4","__id":"5","a":"3""#.to_string(), true);
        assert_eq!(written(&fields), both);
        let all = (r#","b":"1","__id":"2","a":"3""#.to_string(), false);
        assert_eq!(written(&fields[..3]), all);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn many_are_written_as_one_by_one(names in prop::collection::vec(0..30u8, 0..80)) {
            let names: Vec<String> = names.iter().map(|n| format!("{}{n}", ["_", "ü", ""][usize::from(n % 3)])).collect();
            let values: Vec<String> = (0..names.len()).map(|n| n.to_string()).collect();
            let pairs = || names.iter().zip(&values);
            let fields: Vec<Field> = pairs().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            let mut merged: Vec<(&str, &str)> = Vec::new();
            for (name, value) in pairs() {
                match merged.iter_mut().find(|(other, _)| other == name) {
                    Some(field) => field.1 = value,
                    None => merged.push((name, value)),
                }
            }
            let expected: String = merged.iter().map(|(n, v)| format!(",\"{n}\":\"{v}\"")).collect();
            prop_assert_eq!(written(&fields), (expected, merged.len() < names.len()));
        }
    }
}
