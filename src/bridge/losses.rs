//! Compares what is seen of the stream with the account, and makes the account where there is
//! none.

use super::account::{Finding, View};
use super::cursor::CursorState;
use super::messages::Request;
use super::notice::Notice;
use super::{Bridge, Pending};
use crate::model::stream::{Extent, Stream};
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
            if extent.newest < seen.place {
                return self.ahead_of_stream(&extent);
            }
            if self.account.accounted().is_none() && self.counting.is_none() {
                self.begin_account(seen.stream, self.delivery.frontier());
            }
        }
        let finding = self.account.look(&View {
            stream: seen.stream,
            place: seen.place,
            ahead: self.ahead(),
            page: seen.entries as u64,
            at_end: seen.at_end,
        });
        match (finding, seen.stream) {
            (Finding::Nothing, _) => return true,
            (Finding::Lost(count), _) => {
                self.lost(count);
                self.tell(Notice::Lost {
                    count,
                    after: seen.place,
                    upto: seen.first,
                });
            }
            (Finding::Gone(count), _) => self.stream_gone(count, seen.place),
            (Finding::Anew(_), Stream::Present(extent))
                if self.cursor.state == CursorState::Own =>
            {
                self.start_anew(finding, &extent);
                return false;
            }
            (Finding::Anew(lost), stream) => {
                // Somebody else has set the cursor: it is obeyed in the new stream as well.
                if lost > 0 {
                    self.stream_gone(lost, seen.place);
                }
                self.begin_account(stream, self.delivery.frontier());
            }
            (Finding::Recount, stream) => self.begin_account(stream, self.delivery.frontier()),
        }
        true
    }

    fn stream_gone(&mut self, count: u64, after: StreamId) {
        self.lost(count);
        self.tell(Notice::StreamGone { count, after });
    }

    /// The cursor is beyond all that the stream has ever held.
    fn ahead_of_stream(&mut self, extent: &Extent) -> bool {
        if self.cursor.state == CursorState::Own {
            let finding = self.account.anew(self.ahead());
            self.start_anew(finding, extent);
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
        // Poison without a copy is gone with the stream it was in.
        let lost = waiting + self.cursor.uncopied() as u64;
        self.delivery.rewind(StreamId::ZERO);
        self.cursor.forget_pending();
        self.counting = None;
        self.lost(lost);
        self.tell(Notice::StreamAnew {
            newest: extent.newest,
            cursor,
            lost,
        });
        // What is in flight may still arrive; what was only read is gone.
        let in_flight = self.account_keeps_flight();
        let ahead = self.ahead();
        self.reading.list = None;
        let dropped = self.account.dropped(ahead, in_flight);
        self.lost_in_flight(dropped);
        self.account.set(extent.added.map(|_| 0));
        self.account.saw(extent);
        self.cursor.save = Pending::Now;
        self.reading.more = true;
        self.reading.round_began = None;
    }

    /// Measurements of the list in flight whose answer still matters to the account.
    fn account_keeps_flight(&self) -> u64 {
        if self.delivery.in_flight() {
            self.reading.in_flight_count
        } else {
            0
        }
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
        let Some(added) = extent.added else {
            if self.redis.is_news_that_redis_is_old() {
                self.tell(Notice::RedisIsOld);
            }
            return self.account.set(None);
        };
        let removed = added.saturating_sub(extent.length);
        if place > extent.newest {
            self.account.set(None);
        } else if extent.first.is_none_or(|first| place < first) {
            self.account.set(Some(removed));
        } else if place == extent.newest {
            self.account.set(Some(added));
        } else {
            self.account.set(None);
            self.counting = Some(Counting {
                from: place,
                last: extent.newest,
                added,
                behind: 0,
                passed: 0,
                waits: true,
            });
        }
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
            self.account.set(Some(upto));
        }
    }
}
