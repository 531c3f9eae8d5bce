//! How a list is made of measurements, how it is packed, and where it has to end for that.
//!
//! How small a list becomes is known when it has been packed, and packing it anew for each
//! measurement would cost their square. So it is closed where the last list would have become
//! as large as allowed, less a sixteenth. One that is larger all the same is made anew of fewer
//! measurements, by what it is too large, which is rare. What goes out is never larger than
//! allowed.

use super::{Batch, BatchLimits, Encoder, Entry, FEW_FIELDS, Field};
use crate::model::compression::Compression;

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

    /// Packs a list in its place.
    ///
    /// # Errors
    /// It is too large all the same: about so many of its measurements will fit.
    pub fn pack(&mut self, list: &mut Batch, limits: BatchLimits) -> Result<(), usize> {
        if limits.compression == Compression::None {
            return Ok(());
        }
        let payload = limits.compression.pack(&list.payload);
        if payload.len() > limits.max_bytes && list.count > 1 {
            let share = limits.max_bytes as f64 / payload.len() as f64;
            let fit = (list.count as f64 * share * 0.9375) as usize;
            return Err(fit.clamp(1, list.count - 1));
        }
        self.ratio = list.payload.len() as f64 / payload.len() as f64;
        list.payload = payload;
        Ok(())
    }
}

impl Encoder {
    /// The list of the first entries within so many bytes, as it is before it is packed.
    pub(super) fn list<'a, Fields>(
        &mut self,
        entries: impl Iterator<Item = Entry<Fields>>,
        room: usize,
    ) -> Option<Batch>
    where
        Fields: IntoIterator<Item = Field<'a>, IntoIter: Clone>,
    {
        let mut list = Batch {
            payload: Vec::with_capacity(self.length.min(2 * room)),
            ..Batch::default()
        };
        let mut few = Vec::with_capacity(FEW_FIELDS);
        for entry in entries {
            let (length, before) = (list.payload.len(), self.oddities);
            if list.count > 0 && length >= room {
                break;
            }
            list.payload.push(if list.count == 0 { b'[' } else { b',' });
            let fields = entry.fields.into_iter();
            self.object(&mut list.payload, entry.id, fields, &mut few);
            self.length = list.payload.len() + 1;
            // One byte is left for the closing bracket.
            if list.count > 0 && self.length > room {
                list.payload.truncate(length);
                self.oddities = before;
                break;
            }
            if list.count == 0 {
                list.first = entry.id;
            }
            list.last = entry.id;
            list.count += 1;
        }
        list.payload.push(b']');
        if list.payload.capacity() > 4 * room {
            // A large one was tried behind it, or is all of it.
            list.payload.shrink_to_fit();
        }
        (list.count > 0).then_some(list)
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
    fn a_list_does_not_keep_the_memory_of_a_large_one_behind_it() {
        let big = vec![b'x'; 100_000];
        let limits = BatchLimits {
            max_bytes: 1000,
            ..WIDE
        };
        for values in [[&b"1"[..], &big], [&big, &big]] {
            let entries = values.map(|value| entry(1, &[(b"a", value)]));
            let list = encoder().batch(entries, limits).unwrap();
            assert_eq!(list.count, 1);
            let (bytes, taken) = (list.payload.len(), list.payload.capacity());
            assert!(taken < 4000 || taken < bytes + 1000, "{taken} for {bytes}");
        }
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
