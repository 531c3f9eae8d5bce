//! Accounts for every entry that was ever added to the stream, so that measurements which
//! somebody else removed before they were sent are counted, exactly, and told.
//!
//! Pure. Redis 7 says how many entries were ever added and how many there are, so it is known
//! how many were ever removed. This program knows how many entries lie up to the cursor, in
//! the order in which they were added: were more removed than that, the difference was never
//! sent. On older servers there is no such count, and the ledger stays silent.

/// What Redis 7 knows of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Entries ever added.
    pub added: u64,
    /// Entries in it now.
    pub length: u64,
}

/// A look at the stream, taken together with the reading of a page.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// `None`: the stream does not exist.
    pub extent: Option<Extent>,
    /// Entries behind the cursor that were read before this page.
    pub ahead: u64,
    /// Entries in this page.
    pub page: u64,
    /// This page reaches to the end of the stream.
    pub at_end: bool,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Nothing,
    /// So many measurements were removed before they were sent.
    Lost(u64),
    /// The stream was deleted or evicted, and with it at least so many unsent measurements.
    Wiped(u64),
}

/// The account of one stream.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Entries ever added up to the cursor, those that were lost included. Below zero while
    /// entries of a stream that no longer exists are on their way.
    accounted: Option<i64>,
    /// Entries that waited unread at the last look.
    waiting: u64,
}

impl Ledger {
    /// Starts over with a known number, or `None` where nothing is known.
    pub fn set(&mut self, accounted: Option<u64>) {
        self.accounted = accounted.and_then(|n| i64::try_from(n).ok());
        self.waiting = 0;
    }

    /// Whether there is an account at all.
    pub fn known(&self) -> bool {
        self.accounted.is_some()
    }

    /// Entries up to the cursor, where known.
    pub fn accounted(&self) -> Option<u64> {
        self.accounted.and_then(|n| u64::try_from(n).ok())
    }

    /// The cursor has moved over so many entries.
    pub fn passed(&mut self, count: u64) {
        if let Some(accounted) = &mut self.accounted {
            *accounted += signed(count);
        }
    }

    /// Entries that wait behind the cursor, going by the last look.
    pub fn pending(&self, unconfirmed: u64) -> u64 {
        self.waiting + unconfirmed
    }

    /// Compares a look with the account, and corrects the account by what it finds.
    pub fn look(&mut self, look: Look) -> Finding {
        let Some(accounted) = self.accounted else {
            return Finding::Nothing;
        };
        let read = accounted + signed(look.ahead);
        let Some(extent) = look.extent else {
            let waiting = std::mem::take(&mut self.waiting);
            self.accounted = Some(-signed(look.ahead));
            return if waiting > 0 {
                Finding::Wiped(waiting)
            } else {
                Finding::Nothing
            };
        };
        let (added, page) = (signed(extent.added), signed(look.page));
        // The stream is not the one that was read before: it was deleted and written anew.
        if read + page > added {
            let waiting = std::mem::take(&mut self.waiting);
            self.accounted = Some(added - page - signed(look.ahead));
            self.waiting = 0;
            return if waiting > 0 {
                Finding::Wiped(waiting)
            } else {
                Finding::Nothing
            };
        }
        let removed = added - signed(extent.length);
        // Entries removed from the middle show when the end is reached.
        let missing = if look.at_end {
            added - read - page
        } else {
            (removed - read).max(0)
        };
        self.accounted = Some(accounted + missing);
        self.waiting = u64::try_from(added - read - missing - page).unwrap_or(0);
        match u64::try_from(missing) {
            Ok(lost) if lost > 0 => Finding::Lost(lost),
            _ => Finding::Nothing,
        }
    }
}

/// Counts of Redis are far from the limit of a signed number.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(added: u64, length: u64, ahead: u64, page: u64, at_end: bool) -> Look {
        Look {
            extent: Some(Extent { added, length }),
            ahead,
            page,
            at_end,
        }
    }

    fn ledger(accounted: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.set(Some(accounted));
        ledger
    }

    #[test]
    fn nothing_is_lost_while_only_sent_entries_are_removed() {
        let mut ledger = ledger(100);
        assert_eq!(ledger.look(look(500, 450, 0, 100, false)), Finding::Nothing);
        assert_eq!(
            ledger.look(look(500, 350, 100, 300, true)),
            Finding::Nothing
        );
        assert_eq!(ledger.accounted(), Some(100));
    }

    #[test]
    fn unsent_entries_that_were_trimmed_are_counted_once() {
        let mut ledger = ledger(100);
        assert_eq!(
            ledger.look(look(2000, 666, 0, 100, false)),
            Finding::Lost(1234)
        );
        assert_eq!(
            ledger.look(look(2000, 666, 0, 100, false)),
            Finding::Nothing
        );
        assert_eq!(ledger.accounted(), Some(1334));
    }

    #[test]
    fn entries_in_flight_are_lost_only_if_they_fail() {
        let mut ledger = ledger(100);
        // 50 are in flight, 200 were removed: 50 more than were read.
        assert_eq!(
            ledger.look(look(1000, 800, 50, 10, false)),
            Finding::Lost(50)
        );
        // They come back unconfirmed and are gone as well.
        assert_eq!(
            ledger.look(look(1000, 800, 0, 10, false)),
            Finding::Lost(50)
        );
        assert_eq!(ledger.accounted(), Some(200));
    }

    #[test]
    fn entries_removed_from_the_middle_show_at_the_end() {
        let mut ledger = ledger(100);
        assert_eq!(ledger.look(look(200, 197, 0, 50, false)), Finding::Nothing);
        assert_eq!(ledger.look(look(200, 197, 50, 47, true)), Finding::Lost(3));
        ledger.passed(97);
        assert_eq!(ledger.accounted(), Some(200));
        assert_eq!(ledger.look(look(200, 197, 0, 0, true)), Finding::Nothing);
    }

    #[test]
    fn a_stream_written_anew_is_a_new_account() {
        let mut ledger = ledger(100);
        assert_eq!(ledger.look(look(130, 130, 0, 20, false)), Finding::Nothing);
        // 10 had been waiting unread; now there is another stream.
        assert_eq!(ledger.look(look(5, 5, 20, 5, true)), Finding::Wiped(10));
        ledger.passed(20);
        ledger.passed(5);
        assert_eq!(ledger.accounted(), Some(5));
    }

    #[test]
    fn a_stream_that_is_gone_takes_what_waited_along() {
        let mut ledger = ledger(100);
        ledger.look(look(130, 130, 0, 20, false));
        let gone = Look {
            extent: None,
            ahead: 20,
            page: 0,
            at_end: true,
        };
        assert_eq!(ledger.look(gone), Finding::Wiped(10));
        assert_eq!(ledger.look(gone), Finding::Nothing);
        ledger.passed(20);
        assert_eq!(ledger.look(look(3, 3, 0, 3, true)), Finding::Nothing);
    }
}
