//! How a list is closed: where its last measurement ends, and how it is packed.
//!
//! How small a list becomes is known when it has been packed, and packing it anew for each
//! measurement would cost their square. So it is closed where the last list would have become
//! as large as allowed, less a sixteenth. One that is larger all the same is cut by what it is
//! too large and packed once more, which is rare. What goes out is never larger than allowed.

use super::{Batch, BatchLimits, Oddities};
use crate::model::compression::Compression;
use crate::model::stream_id::StreamId;

/// A list that is not closed.
#[derive(Default)]
pub struct Draft {
    pub text: Vec<u8>,
    pub marks: Vec<Mark>,
}

/// The end of a measurement in a draft.
pub struct Mark {
    pub id: StreamId,
    pub end: usize,
    /// Of all measurements up to this one.
    pub oddities: Oddities,
}

impl Draft {
    /// Closes the list behind its last mark.
    fn close(&mut self) -> &mut Vec<u8> {
        let end = self.marks.last().map_or(0, |mark| mark.end);
        self.text.truncate(end);
        self.text.push(b']');
        &mut self.text
    }
}

/// What the last list says about the next one.
pub struct Packing {
    /// Bytes before and after.
    ratio: f64,
}

impl Default for Packing {
    fn default() -> Packing {
        // What cannot be hoped for costs a second attempt, once.
        Packing { ratio: 16.0 }
    }
}

impl Packing {
    /// Bytes of the next list before it is packed.
    pub fn room(&self, limits: BatchLimits) -> usize {
        let full = limits.unpacked();
        match limits.compression {
            Compression::None => full,
            Compression::Gzip => full.min((limits.max_bytes as f64 * self.ratio * 0.9375) as usize),
        }
    }

    /// The list, with what was odd up to its end. `None`: it is empty.
    pub fn close(&mut self, mut draft: Draft, limits: BatchLimits) -> Option<(Batch, Oddities)> {
        let first = draft.marks.first()?.id;
        let payload = match limits.compression {
            Compression::None => std::mem::take(draft.close()),
            Compression::Gzip => self.pack(&mut draft, limits),
        };
        let last = draft.marks.last()?;
        let batch = Batch {
            payload,
            first,
            last: last.id,
            count: draft.marks.len(),
        };
        Some((batch, last.oddities))
    }

    fn pack(&mut self, draft: &mut Draft, limits: BatchLimits) -> Vec<u8> {
        loop {
            let count = draft.marks.len();
            let list = draft.close();
            let payload = limits.compression.pack(list);
            if payload.len() <= limits.max_bytes || count == 1 {
                self.ratio = list.len() as f64 / payload.len() as f64;
                return payload;
            }
            let share = limits.max_bytes as f64 / payload.len() as f64;
            let fits = (count as f64 * share * 0.9375) as usize;
            draft.marks.truncate(fits.clamp(1, count - 1));
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::tests::{WIDE, encoder, entry};
    use super::*;

    /// What the payload says, be it packed or not.
    pub fn unpacked(payload: &[u8]) -> Vec<u8> {
        let mut list = Vec::new();
        if payload.starts_with(&[0x1f, 0x8b]) {
            let mut member = flate2::read::GzDecoder::new(payload);
            std::io::Read::read_to_end(&mut member, &mut list).unwrap();
        } else {
            list.extend_from_slice(payload);
        }
        list
    }

    #[test]
    fn a_packed_list_is_the_same_bytes_and_many_times_smaller() {
        let entries = || (1..=1000).map(|ms| entry(ms, &[(b"temperature_celsius", b"20.3")]));
        let plain = encoder().batch(entries(), WIDE).unwrap();
        let mut packing = encoder();
        let limits = BatchLimits {
            compression: Compression::Gzip,
            ..WIDE
        };
        let packed = packing.batch(entries(), limits).unwrap();
        assert_eq!(packed.count, plain.count);
        assert_eq!(unpacked(&packed.payload), plain.payload);
        assert!(packed.payload.len() < plain.payload.len() / 16);
        // The same list, the same bytes.
        assert_eq!(packing.batch(entries(), limits), Some(packed));
    }

    #[test]
    fn packed_lists_are_nearly_as_large_as_allowed() {
        let mut state = 1u64;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33).to_string().into_bytes()
        };
        let values: Vec<Vec<u8>> = (0..20_000).map(|_| noise()).collect();
        let entries = values
            .iter()
            .zip(1..)
            .map(|(value, ms)| entry(ms, &[(b"a", value)]));
        let limits = BatchLimits {
            max_bytes: 10_000,
            max_count: 100_000,
            compression: Compression::Gzip,
        };
        let (mut encoder, mut sent) = (encoder(), 0);
        while let Some(batch) = encoder.batch(entries.clone().skip(sent), limits) {
            sent += batch.count;
            let bytes = batch.payload.len();
            assert!(
                bytes <= 10_000 && (bytes > 8500 || sent == values.len()),
                "{bytes}"
            );
        }
    }
}
