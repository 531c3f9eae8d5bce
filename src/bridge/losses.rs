//! Compares what is seen of the stream with the account, and makes the account where there is
//! none.

use super::account::{Finding, Kept, View};
use super::cursor::CursorState;
use super::delivery::Delivery;
use super::messages::Request;
use super::notice::Notice;
use super::{Bridge, Pending};
use crate::model::stream::{Extent, Former, Stream};
use crate::model::stream_id::StreamId;

/// The entries behind the cursor are being counted, slice by slice between other work.
#[derive(Debug)]
pub struct Counting {
    /// Counted up to here; to be counted up to there.
    from: StreamId,
    last: StreamId,
    /// Entries ever added when the counting began, and those behind the cursor counted so far.
    added: u64,
    behind: u64,
    /// Measurements that the frontier has moved over meanwhile.
    pub passed: u64,
    /// Another request comes first.
    waits: bool,
}

impl Counting {
    pub fn request(&self) -> Request {
        Request::Count {
            after: self.from,
            last: self.last,
        }
    }

    /// Counting and other work take turns.
    pub fn turn(&mut self) -> bool {
        self.waits = !self.waits;
        !self.waits
    }
}

/// A page, or nothing, seen behind a place of reading.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub stream: Stream,
    pub place: StreamId,
    pub entries: usize,
    pub at_end: bool,
    pub first: Option<StreamId>,
}

impl Bridge {
    /// Compares what is seen with the account. Returns whether what is seen can be used.
    pub(super) fn audit(&mut self, seen: &Seen) -> bool {
        if let Stream::Present(extent) = seen.stream {
            if let Some(former) = self.account.come_back(&extent, self.ahead()) {
                self.go_on_in(&former, &extent);
                return false;
            }
            if extent.newest < seen.place {
                return self.ahead_of_stream(&extent);
            }
        } else {
            self.counting = None;
        }
        let finding = self.account.look(&View {
            stream: seen.stream,
            place: seen.place,
            ahead: self.ahead(),
            kept: self.kept(),
            page: seen.entries as u64,
            at_end: seen.at_end,
        });
        self.found(finding, seen)
    }

    fn found(&mut self, finding: Finding, seen: &Seen) -> bool {
        match (finding, seen.stream) {
            // Poison that is proven by what was in flight has lost its stream as well.
            (Finding::Nothing, Stream::Absent) => self.stream_gone(0, seen.place),
            (Finding::Nothing, stream) => {
                let unknown = self.account.accounted().is_none() && self.counting.is_none();
                if unknown {
                    self.begin_account(stream, self.delivery.frontier());
                }
                return true;
            }
            (Finding::Lost(count), _) => {
                self.lost(count);
                self.cursor.lost(count);
                self.tell(Notice::Lost {
                    count,
                    after: seen.place,
                    upto: seen.first,
                });
            }
            (Finding::Gone(count), _) => {
                self.stream_gone(count, seen.place);
                // What is held back cannot be read again.
                self.change_trial(Delivery::end_trial);
            }
            (Finding::Anew(_), Stream::Present(extent))
                if self.cursor.state == CursorState::Own =>
            {
                self.start_anew(finding, &extent);
                return false;
            }
            (Finding::Anew(lost), stream) => {
                self.obey_in_new_stream(lost, stream);
                return false;
            }
            (Finding::Back(former), Stream::Present(extent)) => {
                self.go_on_in(&former, &extent);
                return false;
            }
            (Finding::Recount | Finding::Back(_), stream) => {
                self.begin_account(stream, self.delivery.frontier())
            }
        }
        true
    }

    /// The account is made anew at another cursor. Where the stream of the old one is gone as well, as
    /// after FLUSHALL, what waited in it is lost.
    pub(super) fn leave_stream(&mut self, stream: Stream, after: StreamId) {
        if !self.account.is_another(stream) {
            return;
        }
        let kept = self.kept();
        let in_flight = self.delivery.forgotten();
        if let Finding::Anew(lost) = self.account.anew(in_flight, kept) {
            self.stream_gone(lost, after);
        }
        self.account.forget_ahead(in_flight);
    }

    /// The stream is gone, and with it so many unsent measurements and the poison without a copy.
    fn stream_gone(&mut self, waiting: u64, after: StreamId) {
        let count = self.lost_with_stream(waiting);
        if count > 0 {
            self.tell(Notice::StreamGone { count, after });
        }
    }

    fn lost_with_stream(&mut self, waiting: u64) -> u64 {
        let count = self.account.told(waiting + self.cursor.give_up_copies());
        self.lost(count);
        count
    }

    fn kept(&self) -> Kept {
        let (frontier, accounted) = (self.delivery.frontier(), self.account.accounted());
        self.cursor.storable(frontier, accounted)
    }

    /// The stream that was left last is there again: it goes on where it was.
    fn go_on_in(&mut self, former: &Former, extent: &Extent) {
        let before = self.delivery.frontier();
        let counters = &mut self.overview.counters;
        counters.lost = counters.lost.saturating_sub(former.told);
        self.tell(Notice::StreamBack {
            after: former.place,
            told: former.told,
        });
        let unsaved = self.cursor.save != Pending::No || before != former.place;
        let gone = self.account.is_gone();
        let adopted = self.account.adopt_orphans();
        if !gone {
            let ahead = self.ahead().saturating_sub(adopted);
            if let Finding::Anew(lost) = self.account.anew(ahead, self.kept()) {
                self.stream_gone(lost, before);
            }
        }
        // What was read of it is in it again.
        if !gone || before != former.place {
            self.leave_old_stream(former.place, adopted);
        }
        self.reading.more = true;
        self.account.go_on(former, gone, extent);
        if unsaved {
            self.cursor.save = Pending::Now;
        }
        self.overview.note.wanted();
        self.overview.touch();
    }

    /// The cursor is beyond all that the stream has ever held.
    fn ahead_of_stream(&mut self, extent: &Extent) -> bool {
        if self.cursor.state == CursorState::Own {
            let finding = self.account.anew(self.ahead(), self.kept());
            self.start_anew(finding, extent);
            return false;
        }
        if self.delivery.frontier() <= extent.newest {
            // It is only what was read behind it that lies ahead.
            if let Finding::Anew(lost) = self.account.anew(self.ahead(), self.kept()) {
                self.obey_in_new_stream(lost, Stream::Present(*extent));
            }
            return false;
        }
        // Somebody has set the cursor there. What is added below it is passed over on purpose; the
        // account begins when the stream has reached the cursor.
        self.account.set(None);
        self.counting = None;
        true
    }

    fn lost(&mut self, count: u64) {
        if count > 0 {
            self.overview.counters.lost += count;
            self.overview.note.wanted();
            self.overview.touch();
        }
    }

    /// Measurements that were read once and cannot be read again.
    pub(super) fn lost_in_flight(&mut self, count: u64) {
        if count > 0 {
            self.lost(count);
            self.tell(Notice::LostInFlight(count));
        }
    }

    /// It is another stream, and nobody but this program has moved the cursor: all of it is sent.
    fn start_anew(&mut self, finding: Finding, extent: &Extent) {
        let Finding::Anew(waiting) = finding else {
            return;
        };
        let cursor = self.delivery.frontier();
        let lost = self.lost_with_stream(waiting);
        self.tell(Notice::StreamAnew {
            newest: extent.newest,
            cursor,
            lost,
        });
        self.leave_old_stream(StreamId::ZERO, 0);
        self.account.set(extent.added.map(|_| 0));
        self.account.saw(extent);
        self.cursor.save = Pending::Now;
    }

    /// It is another stream, and somebody else has set the cursor: it is obeyed there as well.
    fn obey_in_new_stream(&mut self, waiting: u64, stream: Stream) {
        let frontier = self.delivery.frontier();
        self.stream_gone(waiting, frontier);
        self.leave_old_stream(frontier, 0);
        self.begin_account(stream, frontier);
    }

    /// Goes on behind a place in another stream. What is in flight may still arrive; what was only
    /// read is gone. `others`: so many that are ahead are not of that stream, the first ones.
    fn leave_old_stream(&mut self, place: StreamId, others: u64) {
        let flying = self.delivery.flying().map_or(0, |span| span.count as u64);
        let in_flight = flying.saturating_sub(others);
        self.delivery.rewind(place);
        self.cursor.forget_pending();
        self.counting = None;
        self.reading.list = None;
        let lost = self.account.forget_ahead(in_flight);
        self.lost_in_flight(lost);
        self.reading.more = true;
        self.reading.round_began = None;
    }

    /// Finds the entries that lie up to a place: known from the numbers, or to be counted.
    pub(super) fn begin_account(&mut self, stream: Stream, place: StreamId) {
        self.counting = None;
        let extent = match stream {
            Stream::Absent => {
                let empty = place == StreamId::ZERO;
                return self.account.set(empty.then_some(0));
            }
            Stream::Present(extent) => extent,
        };
        self.account.set(None);
        let Some(added) = extent.added else {
            if self.redis.is_news_that_redis_is_old() {
                self.tell(Notice::RedisIsOld);
            }
            return self.account.saw(&extent);
        };
        let removed = added.saturating_sub(extent.length);
        if extent.first.is_none_or(|first| place < first) && place <= extent.newest {
            self.account.set(Some(removed));
        } else if place == extent.newest {
            self.account.set(Some(added));
        } else if place < extent.newest {
            self.counting = Some(Counting {
                from: place,
                last: extent.newest,
                added,
                behind: 0,
                passed: 0,
                waits: true,
            });
        }
        self.account.saw(&extent);
    }

    /// A slice behind the cursor was counted.
    pub(super) fn counted(&mut self, count: u64, end: StreamId) {
        let Some(counting) = &mut self.counting else {
            return;
        };
        counting.behind += count;
        counting.from = end;
        if count == 0 || end >= counting.last {
            let upto = counting.added.saturating_sub(counting.behind) + counting.passed;
            self.counting = None;
            self.account.counted(upto);
        }
    }
}

#[cfg(test)]
mod tests;
