//! Measurements on the wire: from stream entries to bounded JSON lists.
//!
//! The JSON is written straight into the payload. No tree is built and no field is copied on
//! its way, and what is the same in every object is rendered once. The format is the section
//! "Measurements" of docs/protocol.md.

mod list;
mod many;

use std::borrow::Cow;

use crate::model::compression::Compression;
use crate::model::stream_id::StreamId;
use crate::model::topic::Identity;
use list::Packing;

/// Fields that the program itself adds to every measurement.
const RESERVED: [&str; 5] = [
    "_id",
    "_device_uuid",
    "_device_type",
    "_app_id",
    "_app_name",
];

/// Up to this many fields, looking for equal names pairwise beats sorting them.
const FEW_FIELDS: usize = 16;

/// A name and a value.
type Field<'a> = (&'a [u8], &'a [u8]);

/// When a list of measurements is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of the payload.
    pub max_bytes: usize,
    /// Measurements in one list.
    pub max_count: usize,
    /// How the payload is packed.
    pub compression: Compression,
}

impl BatchLimits {
    /// Bytes of a list before it is packed.
    pub fn unpacked(&self) -> usize {
        self.compression.unpacked(self.max_bytes)
    }
}

/// One entry of the stream: its ID, and its names and values in their order.
#[derive(Clone, Debug)]
pub struct Entry<Fields> {
    pub id: StreamId,
    pub fields: Fields,
}

/// A list of measurements, ready to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub payload: Vec<u8>,
    pub first: StreamId,
    pub last: StreamId,
    pub count: usize,
}

/// What had to be bent to make valid JSON. Counted, never fatal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Entries with bytes that are no UTF-8, sent as U+FFFD.
    pub not_utf8: u64,
    /// Entries in which a field name occurred twice; the last value was sent.
    pub double_field: u64,
}

/// Turns entries into JSON. Holds what all measurements of this device have in common.
pub struct Encoder {
    /// From the end of the ID to the end of `_app_name`.
    common: Vec<u8>,
    packing: Packing,
    /// Bytes of the last list before it was packed: the next one is about as long.
    length: usize,
    pub oddities: Oddities,
}

impl Encoder {
    pub fn new(identity: &Identity) -> Encoder {
        let mut common = Vec::new();
        let values = [
            &identity.device_uuid,
            &identity.device_type,
            &identity.app_id,
            &identity.app_name,
        ];
        for (name, value) in RESERVED[1..].iter().zip(values) {
            common.push(b',');
            string(&mut common, name);
            common.push(b':');
            string(&mut common, value);
        }
        Encoder {
            common,
            packing: Packing::default(),
            length: 0,
            oddities: Oddities::default(),
        }
    }

    /// A list of the first entries, as many as stay within both limits, and at least one: a
    /// single measurement that is too large goes alone. `None` if there is none.
    pub fn batch<'a, Fields>(
        &mut self,
        entries: impl IntoIterator<Item = Entry<Fields>, IntoIter: Clone>,
        limits: BatchLimits,
    ) -> Option<Batch>
    where
        Fields: IntoIterator<Item = Field<'a>, IntoIter: Clone>,
    {
        let entries = entries.into_iter();
        let before = self.oddities;
        let mut most = limits.max_count;
        loop {
            let room = self.packing.room(limits);
            let mut list = self.list(entries.clone().take(most), room)?;
            match self.packing.pack(&mut list, limits) {
                Ok(()) => return Some(list),
                Err(fit) => (most, self.oddities) = (fit, before),
            }
        }
    }

    /// A single measurement by itself. What was bent in it is counted where it goes in a list.
    pub fn single<'a, Fields>(&mut self, entry: Entry<Fields>) -> Vec<u8>
    where
        Fields: IntoIterator<Item = Field<'a>, IntoIter: Clone>,
    {
        let before = self.oddities;
        let mut out = Vec::new();
        let fields = entry.fields.into_iter();
        self.object(&mut out, entry.id, fields, &mut Vec::new());
        self.oddities = before;
        out
    }

    /// `few` is room for fields.
    fn object<'a>(
        &mut self,
        out: &mut Vec<u8>,
        id: StreamId,
        fields: impl Iterator<Item = Field<'a>> + Clone,
        few: &mut Vec<Field<'a>>,
    ) {
        out.extend_from_slice(b"{\"_id\":\"");
        number(out, id.ms);
        out.push(b'-');
        number(out, id.seq);
        out.push(b'"');
        out.extend_from_slice(&self.common);
        let mut clean = true;
        few.clear();
        few.extend(fields.clone().take(FEW_FIELDS));
        let is_few = few.len() < FEW_FIELDS || fields.clone().nth(FEW_FIELDS).is_none();
        let double = if is_few {
            write_few(out, few, &mut clean)
        } else {
            many::write(out, fields, &mut clean)
        };
        out.push(b'}');
        self.oddities.not_utf8 += u64::from(!clean);
        self.oddities.double_field += u64::from(double);
    }
}

/// Writes the fields; whether a name occurred twice.
fn write_few(out: &mut Vec<u8>, fields: &[Field], clean: &mut bool) -> bool {
    let mut double = false;
    for (index, (name, value)) in fields.iter().enumerate() {
        let same = |(other, _): &&Field| same_on_the_wire(other, name);
        if fields[..index].iter().any(|other| same(&other)) {
            double = true;
            continue;
        }
        let last = fields[index + 1..].iter().rfind(same);
        let value = last.map_or(value, |(_, value)| value);
        field(out, &wire_name(name, clean), value, clean);
    }
    double
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8], clean: &mut bool) {
    out.push(b',');
    string(out, name);
    out.push(b':');
    string(out, &text(value, clean));
}

/// A name that is sent as it is.
fn is_ordinary(name: &[u8]) -> bool {
    name.first() != Some(&b'_') && name.is_ascii()
}

/// Whether two fields are sent under the same name. Ordinary names are compared as they are.
fn same_on_the_wire(one: &[u8], other: &[u8]) -> bool {
    one == other
        || !(is_ordinary(one) && is_ordinary(other))
            && wire_name(one, &mut true) == wire_name(other, &mut true)
}

/// The name under which a sensor field is sent: a reserved one gets one more underscore.
fn wire_name<'a>(name: &'a [u8], clean: &mut bool) -> Cow<'a, str> {
    let name = text(name, clean);
    if name.starts_with('_') && RESERVED.contains(&&*name) {
        return Cow::Owned(format!("_{name}"));
    }
    name
}

fn text<'a>(bytes: &'a [u8], clean: &mut bool) -> Cow<'a, str> {
    // Most of it is ASCII, for which this is the fast way.
    std::str::from_utf8(bytes).map_or_else(
        |_| {
            *clean = false;
            String::from_utf8_lossy(bytes)
        },
        Cow::Borrowed,
    )
}

/// Several times as fast as the formatting of the standard library.
fn number(out: &mut Vec<u8>, number: u64) {
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, &number);
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::list::tests::unpacked;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    pub const WIDE: BatchLimits = BatchLimits {
        max_bytes: 1 << 20,
        max_count: 1000,
        compression: Compression::None,
    };

    pub fn encoder() -> Encoder {
        Encoder::new(&Identity {
            device_uuid: "u".into(),
            device_type: "t".into(),
            app_id: "1".into(),
            app_name: "n \"x\"".into(),
        })
    }

    pub type Pair<'a> = (&'a [u8], &'a [u8]);

    pub fn entry<'a>(ms: u64, fields: &[Pair<'a>]) -> Entry<Vec<Pair<'a>>> {
        Entry {
            id: StreamId::new(ms, 0),
            fields: fields.to_vec(),
        }
    }

    fn encoded(fields: &[(&[u8], &[u8])]) -> (String, Oddities) {
        let mut encoder = encoder();
        let batch = encoder.batch([entry(7, fields)], WIDE);
        let payload = String::from_utf8(batch.map(|b| b.payload).unwrap_or_default()).unwrap();
        let head = r#"[{"_id":"7-0","_device_uuid":"u","_device_type":"t","_app_id":"1","_app_name":"n \"x\"""#;
        let tail = payload
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix("}]"));
        (
            tail.unwrap_or_else(|| panic!("{payload}")).to_string(),
            encoder.oddities,
        )
    }

    #[test]
    fn fields_follow_the_constant_part_in_the_order_of_the_stream() {
        let (tail, oddities) = encoded(&[(b"b", "ü\"\\\n\u{1}".as_bytes()), (b"a", b"")]);
        assert_eq!(tail, ",\"b\":\"ü\\\"\\\\\\n\\u0001\",\"a\":\"\"");
        assert_eq!(oddities, Oddities::default());
    }

    #[test]
    fn a_reserved_name_gets_one_more_underscore_and_a_double_name_its_last_value() {
        let (tail, oddities) = encoded(&[
            (b"_id", b"1"),
            (b"x", b"2"),
            (b"__id", b"3"),
            (b"_ids", b"4"),
        ]);
        assert_eq!(tail, r#","__id":"3","x":"2","_ids":"4""#);
        assert_eq!(oddities.double_field, 1);
    }

    #[test]
    fn many_fields_are_encoded_like_few() {
        let names: Vec<String> = (0..FEW_FIELDS + 5)
            .map(|n| format!("f{}", n % (FEW_FIELDS + 2)))
            .collect();
        let values: Vec<String> = (0..names.len()).map(|n| n.to_string()).collect();
        let pairs: Vec<(&[u8], &[u8])> = names
            .iter()
            .zip(&values)
            .map(|(n, v)| (n.as_bytes(), v.as_bytes()))
            .collect();
        let (tail, oddities) = encoded(&pairs);
        assert!(
            tail.starts_with(r#","f0":"18","f1":"19","f2":"20","f3":"3""#),
            "{tail}"
        );
        assert_eq!(oddities.double_field, 1);
    }

    #[test]
    fn bytes_that_are_no_utf8_become_the_replacement_character() {
        let (tail, oddities) = encoded(&[(b"\xff", b"a\xfe")]);
        assert_eq!(tail, ",\"\u{fffd}\":\"a\u{fffd}\"");
        assert_eq!(oddities.not_utf8, 1);
    }

    #[test]
    fn a_measurement_larger_than_the_limit_goes_alone() {
        let big = vec![b'x'; 5000];
        let values = [&b"1"[..], &big, b"1"];
        let limits = BatchLimits {
            max_bytes: 1000,
            max_count: 10,
            compression: Compression::None,
        };
        let mut encoder = encoder();
        let mut counts = Vec::new();
        while counts.len() < values.len() {
            let rest = values[counts.len()..].iter();
            let batch = encoder.batch(rest.map(|value| entry(1, &[(b"a", value)])), limits);
            counts.push(batch.map_or(0, |batch| batch.count));
        }
        assert_eq!(counts, [1, 1, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn lists_keep_all_entries_in_order_within_all_limits(
            sizes in prop::collection::vec(0usize..300, 1..60),
            max_bytes in 128usize..2000,
            max_count in 1usize..20,
            gzip in any::<bool>(),
            noise in prop::collection::vec(b'!'..b'~', 600),
        ) {
            let compression = if gzip { Compression::Gzip } else { Compression::None };
            let entries = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| entry(n as u64 + 1, &[(b"a", &noise[*size..2 * size])]));
            let mut encoder = encoder();
            let limits = BatchLimits { max_bytes, max_count, compression };
            let mut seen = 0;
            while let Some(batch) = encoder.batch(entries.clone().skip(seen), limits) {
                let payload = unpacked(&batch.payload);
                prop_assert!(batch.count <= max_count);
                prop_assert!(batch.payload.len() <= max_bytes || batch.count == 1);
                prop_assert!(payload.len() <= limits.unpacked() || batch.count == 1);
                let list: Vec<HashMap<String, String>> = serde_json::from_slice(&payload).unwrap();
                prop_assert_eq!(list.len(), batch.count);
                prop_assert_eq!(&list[0]["_id"], &batch.first.to_string());
                prop_assert_eq!(&list[batch.count - 1]["_id"], &batch.last.to_string());
                for object in list {
                    prop_assert_eq!(object["a"].len(), sizes[seen]);
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, sizes.len());
        }
    }
}
