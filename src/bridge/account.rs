//! Accounts for every entry that was ever added to the stream, so that measurements which
//! somebody else removed before they were sent are counted, exactly, and told.
//!
//! Redis 7 says how many entries were ever added and how many there are, so it is known how many
//! were ever removed. This program knows how many entries lie up to the frontier, in the order in
//! which they were added. On older servers there is no such count, and the account stays silent.
//!
//! What is seen also proves that a stream is another one than before (deleted and written anew):
//! - its IDs fall: the first entry, or what was generated last, is older than at the last look (the
//!   only proof on older servers), or
//! - fewer entries were ever added than were read, or than at the last look, or
//! - the first entry of the last look is gone, although no more were removed than by then, or
//! - more lie behind the place of reading than were added since, or
//! - none up to that place are left, although fewer were removed than were read, or
//! - more lie up to that place than were read.
//!
//! A stream that is left is remembered: where it comes back (renamed, restored from a copy), it goes
//! on where it was, and what was told as lost with it is taken back.
//!
//! The last look and the stream before are stored beside the account, so all of it holds over a
//! restart.

mod former;

use crate::model::stream::{Extent, Former, Stream};
use crate::model::stream_id::StreamId;

/// A look at the stream from the place up to which it was read.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub stream: Stream,
    /// Everything up to here was read.
    pub place: StreamId,
    /// Entries behind the frontier that were read: in flight, held back or prepared.
    pub ahead: u64,
    pub kept: Kept,
    /// Entries behind `place` that are seen now.
    pub page: u64,
    /// There are no more than these.
    pub at_end: bool,
}

/// The place from which a stream goes on that comes back: nothing before it is to be sent or copied
/// any more. And the entries up to there, where known.
pub type Kept = (StreamId, Option<u64>);

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Nothing,
    /// So many measurements were removed before they were sent.
    Lost(u64),
    /// The stream is gone, and with it so many unsent measurements.
    Gone(u64),
    /// It is another stream. So many unsent measurements of the old one are gone.
    Anew(u64),
    /// It is the stream that was left last.
    Back(Former),
    /// Somebody has changed the counts themselves: the account has to be made anew.
    Recount,
}

/// The account of one stream.
#[derive(Debug, Default)]
pub struct Account {
    /// Entries ever added up to the frontier, those that were lost included.
    accounted: Option<u64>,
    /// The largest that it ever was in this stream: what was confirmed stays so.
    most: u64,
    /// What of it was stored last: a Redis that knows less has forgotten something.
    stored: Option<u64>,
    /// The last look.
    seen: Option<Extent>,
    /// Something that was read has to be read again since then.
    put_back: bool,
    /// Nothing was missing up to here when the counts were compared to the end last, and the stream
    /// began here at the latest.
    matched: StreamId,
    /// Entries that are ahead of the frontier and belong to a stream that no longer exists.
    orphans: u64,
    /// Such entries in the list in flight whose answer moves nothing any more.
    forgotten: u64,
    /// The stream before this one.
    pub former: Option<Former>,
}

impl Account {
    /// Starts over with a known number, or `None` where nothing is known.
    pub fn set(&mut self, accounted: Option<u64>) {
        self.accounted = accounted;
        (self.most, self.stored) = (0, None);
        self.seen = None;
        self.matched = StreamId::ZERO;
    }

    /// Nobody has counted. Of a stream that was not there yet, nothing showed whether that would be so.
    fn uncounted(&mut self, extent: &Extent) -> Finding {
        self.accounted = self.accounted.filter(|_| extent.added.is_some());
        self.saw(extent);
        Finding::Nothing
    }

    /// The stream was looked at: what is in it now and gone at the next look was removed.
    pub fn saw(&mut self, extent: &Extent) {
        self.seen = Some(*extent);
    }

    /// The last look, to be stored.
    pub fn seen(&self) -> Option<Extent> {
        self.seen
    }

    /// The stream as it was seen last has no older entry.
    pub fn oldest(&self) -> StreamId {
        self.seen.map_or(StreamId::ZERO, |seen| {
            seen.first.unwrap_or(seen.newest.next())
        })
    }

    /// Goes on from what is stored: a place that may lie before the frontier, and the last look.
    pub fn resume(&mut self, accounted: Option<u64>, seen: Option<Extent>) {
        let most = if accounted < self.stored {
            0
        } else {
            self.most
        };
        self.set(accounted);
        self.most = most.max(accounted.unwrap_or(0));
        self.seen = seen;
        self.put_back = true;
    }

    /// Not all that was passed was delivered: there is poison without a copy.
    pub fn distrust(&mut self) {
        self.most = 0;
    }

    /// So many entries up to the cursor are stored.
    pub fn stored(&mut self, accounted: Option<u64>) {
        self.stored = accounted;
    }

    /// The entries up to the frontier were counted.
    pub fn counted(&mut self, upto: u64) {
        let seen = self.seen;
        self.set(Some(upto));
        self.seen = seen;
    }

    /// Entries up to the frontier, where known.
    pub fn accounted(&self) -> Option<u64> {
        self.accounted
    }

    /// The frontier has moved from here over so many entries. `upto`: to there, where nothing before it
    /// is to be copied yet.
    pub fn passed(&mut self, count: u64, from: StreamId, upto: Option<StreamId>) {
        let orphans = self.orphans.min(count);
        self.orphans -= orphans;
        if let (Some(former), Some(upto), true) = (&mut self.former, upto, orphans == count) {
            // They were in the stream that was left, which goes on behind them: unless it stays
            // before poison that had no copy.
            if former.place == from {
                former.place = upto;
                former.accounted = former.accounted.map(|accounted| accounted + count);
            }
        }
        if let Some(accounted) = &mut self.accounted {
            *accounted += count - orphans;
            self.most = self.most.max(*accounted);
        }
    }

    /// An answer has come for what a rewind had forgotten. Returns what is lost with it.
    pub fn forgotten_answered(&mut self, delivered: bool) -> u64 {
        let forgotten = std::mem::take(&mut self.forgotten);
        self.told(if delivered { 0 } else { forgotten })
    }

    /// What was ahead of the frontier is forgotten with its stream, and so many are in flight.
    /// Returns what is lost with it.
    pub fn forget_ahead(&mut self, in_flight: u64) -> u64 {
        let orphans = std::mem::take(&mut self.orphans);
        let flying = orphans.min(in_flight);
        self.forgotten = self.forgotten.max(flying);
        self.told(orphans - flying)
    }

    /// So many measurements are told as lost with the stream that was left last.
    pub fn told(&mut self, count: u64) -> u64 {
        if let Some(former) = &mut self.former {
            former.told += count;
        }
        count
    }

    /// Of what was read, `before` entries, only `still_ahead` are held in memory: the rest waits
    /// again. Returns what is lost with it: it cannot be read again.
    pub fn dropped(&mut self, before: u64, still_ahead: u64) -> u64 {
        let lost = self.orphans.saturating_sub(still_ahead);
        self.orphans -= lost;
        if before > still_ahead + lost {
            // What was deleted of it counted as read by then.
            self.put_back = true;
            self.matched = StreamId::ZERO;
        }
        self.told(lost)
    }

    /// Compares a look with the account, and corrects the account by what it finds.
    pub fn look(&mut self, view: &View) -> Finding {
        let extent = match view.stream {
            Stream::Present(extent) if extent.added != Some(0) => extent,
            // A group of consumers can make a stream in which nothing ever was.
            Stream::Present(_) | Stream::Absent => return self.gone(view),
        };
        if self.ids_fell(&extent) {
            return self.anew(view.ahead, view.kept);
        }
        let Some((added, accounted)) = extent.added.zip(self.accounted) else {
            return self.uncounted(&extent);
        };
        let read = accounted + view.ahead.saturating_sub(self.orphans);
        let removed = added.saturating_sub(extent.length);
        // Nothing of what was read is left.
        let all_gone = extent.first.is_none_or(|first| first > view.place);
        // The counts of a stream never fall.
        let fewer = added < read || self.counts_fell(&extent);
        let more_below = view.at_end && extent.length.saturating_sub(view.page) > read;
        if fewer || more_below || read + view.page > added || all_gone && removed < read {
            if fewer && self.same_stream(&extent) {
                self.set(None);
                return Finding::Recount;
            }
            return self.replaced(view, &extent);
        }
        let missing = match (all_gone, view.at_end) {
            (true, _) => removed - read,
            (false, true) => added - read - view.page,
            (false, false) => 0,
        };
        // Otherwise it is the count that was changed (XSETID). What was deleted may lie before this
        // place: pages that do not reach the end do not show that something is missing.
        let is_loss = extent.deleted > self.matched
            || !all_gone && extent.first > Some(self.matched)
            || all_gone && (self.put_back || self.moved(&extent));
        if all_gone || view.at_end {
            self.matched = view.place.max(extent.first.unwrap_or(StreamId::ZERO));
            self.put_back = false;
        }
        self.accounted = Some(accounted + missing);
        self.saw(&extent);
        if missing > 0 && is_loss {
            Finding::Lost(missing)
        } else {
            Finding::Nothing
        }
    }

    /// What was read shows that this is another stream.
    fn replaced(&mut self, view: &View, extent: &Extent) -> Finding {
        if let Some(former) = self.former.filter(|former| former.is(extent)) {
            return Finding::Back(former);
        }
        let anew = self.anew(view.ahead, view.kept);
        self.forget_if_seen(extent);
        anew
    }

    /// Whether the stream that was seen last cannot be this one.
    pub fn is_another(&self, stream: Stream) -> bool {
        match stream {
            Stream::Absent => self.seen.is_some(),
            Stream::Present(extent) => self.ids_fell(&extent) || self.counts_fell(&extent),
        }
    }

    /// More may wait than at the last look.
    pub fn waits(&mut self, extent: &Extent) {
        if self.is_gone() && extent.first.is_some() {
            // It can be gone again before a page of it is read.
            self.seen = Some(*extent);
        } else if let Some(seen) = &mut self.seen {
            let more = extent.added.max(seen.added).unwrap_or(0) - seen.added.unwrap_or(0);
            // What was removed from its beginning shows by a page.
            seen.length = match extent.first == seen.first {
                true => extent.length,
                false => seen.length + more,
            };
            seen.added = extent.added.max(seen.added);
            if seen.first.is_some() {
                seen.newest = seen.newest.max(extent.newest);
            }
        }
    }

    fn same_stream(&self, extent: &Extent) -> bool {
        self.seen.is_some_and(|seen| {
            seen.first.is_some() && seen.first == extent.first && seen.newest <= extent.newest
        })
    }

    /// Entries are added with ever larger IDs, and removed from wherever.
    fn ids_fell(&self, extent: &Extent) -> bool {
        self.seen.is_some_and(|seen| {
            let first_fell = extent.first.is_some_and(|first| first < self.oldest());
            first_fell || extent.newest < seen.newest && extent.first != seen.first
        })
    }

    fn counts_fell(&self, extent: &Extent) -> bool {
        let Some((seen, before)) = self.seen.and_then(|seen| Some((seen, seen.added?))) else {
            return false;
        };
        let added = extent.added.unwrap_or(0);
        let removed = added.saturating_sub(extent.length);
        let removed_before = before.saturating_sub(seen.length);
        let first_is_gone = seen.first.is_some() && seen.first != extent.first;
        added < before || removed < removed_before || first_is_gone && removed == removed_before
    }

    /// Whether entries may have come or gone since the last look.
    fn moved(&self, extent: &Extent) -> bool {
        self.seen
            .is_none_or(|seen| seen.first != extent.first || seen.newest != extent.newest)
    }

    /// Entries that waited by the last look: neither behind the frontier, where it ever was, nor
    /// ahead of it.
    fn take_waiting(&mut self, ahead: u64) -> u64 {
        let ahead = ahead.saturating_sub(self.orphans);
        let most = std::mem::take(&mut self.most);
        let seen = self.seen.take().and_then(|seen| seen.added);
        seen.zip(self.accounted).map_or(0, |(seen, accounted)| {
            seen.saturating_sub(most.max(accounted + ahead))
        })
    }

    /// There was no stream at the last look.
    pub fn is_gone(&self) -> bool {
        self.seen
            .is_some_and(|seen| seen.length == 0 && seen.added.unwrap_or(0) == 0)
    }

    fn gone(&mut self, view: &View) -> Finding {
        if self.is_gone() {
            return Finding::Nothing;
        }
        self.leave(view.kept);
        let newest = self.seen.map_or(view.place, |seen| seen.newest);
        let lost = self.take_waiting(view.ahead);
        // Whatever comes with such IDs is another stream.
        self.seen = Some(Extent {
            newest: newest.max(view.place),
            length: 0,
            added: self.accounted.map(|_| 0),
            first: None,
            deleted: StreamId::ZERO,
        });
        if self.accounted.is_some() {
            self.accounted = Some(0);
            self.orphans = view.ahead;
        }
        Finding::Gone(lost)
    }

    /// The stream is another one, of which nothing was read.
    pub fn anew(&mut self, ahead: u64, kept: Kept) -> Finding {
        self.leave(kept);
        let lost = self.take_waiting(ahead);
        if self.accounted.is_some() {
            self.accounted = Some(0);
        }
        self.orphans = ahead;
        Finding::Anew(lost)
    }
}

#[cfg(test)]
mod tests;
