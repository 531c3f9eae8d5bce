//! How large a list may be: halved after failures, grown again after successes.
//!
//! Sizes recover as fast as the line does: they double while answers come well within the
//! deadline. A ceiling is remembered only where the broker has named the size, or where it keeps
//! closing the connection at one and the same size. It is stayed below for a number of lists that
//! grows each time, so that a fixed limit of a broker costs a refusal now and then and not every
//! few lists.

use super::delivery::Span;
use crate::model::stream_id::StreamId;

const PATIENCE: u32 = 16;
const MAX_PATIENCE: u32 = 4096;

/// What a failure says about the size of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing for certain: only the second failure of the same list counts, and every further
    /// one.
    Perhaps,
    /// The same, and it was the broker that closed.
    PerhapsClosed,
    /// The list is to be divided, its size may be innocent.
    Divide,
    /// The broker has said that it is the size. `limit`: how many bytes it takes.
    Named { limit: Option<usize> },
}

#[derive(Debug)]
pub struct ListSize {
    full: usize,
    allowed: usize,
    ceiling: Option<Ceiling>,
    /// Confirmed lists for which the next ceiling is kept.
    patience: u32,
    /// The first measurement of the list that failed last, and whether the broker has closed on it.
    failed: Option<(StreamId, bool)>,
    /// The size at which the broker closed when lists were divided for that last.
    closed_at: Option<usize>,
}

/// The smallest size known to fail.
#[derive(Debug)]
struct Ceiling {
    bytes: usize,
    confirmed: u32,
}

impl ListSize {
    /// Lists have up to `full` bytes when nothing fails.
    pub fn new(full: usize) -> ListSize {
        ListSize {
            full,
            allowed: full,
            ceiling: None,
            patience: PATIENCE,
            failed: None,
            closed_at: None,
        }
    }

    /// Bytes of the next list.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// A list of several measurements has failed.
    pub fn failed(&mut self, span: Span, hint: Hint) {
        let before = self.failed.filter(|(first, _)| *first == span.first);
        // On the same list: the second time something else may have been the reason as well.
        let closed = hint == Hint::PerhapsClosed || before.is_some_and(|(_, closed)| closed);
        self.failed = Some((span.first, closed));
        let divided = before.is_some() || matches!(hint, Hint::Divide | Hint::Named { .. });
        if !divided || span.count == 1 {
            return;
        }
        self.allowed = (span.bytes / 2).max(1);
        match hint {
            Hint::Named { limit: Some(limit) } => {
                self.allowed = self.allowed.max(limit.min(span.bytes - 1)).max(1);
                self.set_ceiling(limit.saturating_add(1).min(span.bytes));
            }
            Hint::Named { limit: None } => self.set_ceiling(span.bytes),
            Hint::Perhaps | Hint::PerhapsClosed if closed => {
                // Once may be chance and is stayed below for a few lists, twice at the same size is
                // a limit.
                let same = |at: usize| span.bytes <= at + at / 4 && span.bytes >= at / 2;
                if self.closed_at.is_some_and(same) {
                    self.set_ceiling(span.bytes);
                } else {
                    self.ceiling = Some(Ceiling {
                        bytes: span.bytes,
                        confirmed: 0,
                    });
                }
                self.closed_at = Some(span.bytes);
            }
            Hint::Perhaps | Hint::PerhapsClosed | Hint::Divide => {}
        }
    }

    fn set_ceiling(&mut self, bytes: usize) {
        self.ceiling = Some(Ceiling {
            bytes,
            confirmed: 0,
        });
        self.patience = (self.patience * 4).min(MAX_PATIENCE);
    }

    /// A list was confirmed. `quickly`: well within the deadline.
    pub fn confirmed(&mut self, quickly: bool) {
        self.failed = None;
        if let Some(ceiling) = &mut self.ceiling {
            ceiling.confirmed += 1;
            if ceiling.confirmed >= self.patience {
                self.ceiling = None;
            }
        } else if self.allowed == self.full {
            self.patience = PATIENCE;
        }
        let larger = self.allowed.saturating_mul(2).min(self.full);
        // Doubling what was halved would lead straight back to what failed.
        let fits = |ceiling: &Ceiling| larger <= ceiling.bytes / 4 * 3;
        if quickly && self.ceiling.as_ref().is_none_or(fits) {
            self.allowed = larger;
        }
    }
}

#[cfg(test)]
mod tests;
