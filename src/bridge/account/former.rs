//! The stream that was left last: remembered, and known again where it comes back.

use super::{Account, Kept};
use crate::model::stream::{Extent, Former, Stream};

impl Account {
    /// The stream that was left last, where it has come back in the place of this one: this one is
    /// gone, cannot be the one that is seen, or would have lost what was sent of the other one.
    pub fn come_back(&self, extent: &Extent, ahead: u64) -> Option<Former> {
        let left = self.is_gone() || self.is_another(Stream::Present(*extent));
        let removed = extent.added.map(|added| added - extent.length.min(added));
        let read = |accounted| accounted + ahead.saturating_sub(self.orphans);
        let trimmed = self.accounted.is_some() && removed > self.accounted.map(read);
        self.former.filter(|former| {
            let explained = trimmed && removed <= former.accounted;
            (left || explained) && former.is(extent)
        })
    }

    /// It goes on, as the one that is seen.
    pub fn go_on(&mut self, former: &Former, was_gone: bool, extent: &Extent) {
        self.forget_if_seen(extent);
        self.former = self.former.filter(|_| !was_gone);
        self.resume(former.accounted, Some(former.seen));
    }

    /// Where the last look at the stream that was left was one at this one already, nothing shows
    /// whether it comes back.
    pub(super) fn forget_if_seen(&mut self, extent: &Extent) {
        self.former = self.former.filter(|former| !former.is(extent));
    }

    /// What is ahead of the frontier has a stream again. Returns how many that are.
    pub fn adopt_orphans(&mut self) -> u64 {
        self.forgotten = 0;
        std::mem::take(&mut self.orphans)
    }

    /// This stream is left, unless there was none.
    pub(super) fn leave(&mut self, (place, accounted): Kept) {
        if let Some(seen) = self.seen.filter(|_| !self.is_gone()) {
            self.former = Some(Former {
                place,
                accounted,
                seen,
                told: 0,
            });
        }
    }
}
