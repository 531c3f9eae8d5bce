//! What waits to be told. Losses are told in a few lines a second: who keeps a stream at one entry
//! loses something at every moment, and what comes on top is added up.

use std::collections::VecDeque;
use std::time::Instant;

use super::notice::{Loss, Notice};
use crate::model::flood::Flood;

#[derive(Debug, Default)]
pub struct Telling {
    waiting: VecDeque<Notice>,
    losses: Flood,
    /// What was left out, in one.
    further: Option<Loss>,
    /// The last line of all was told.
    ended: bool,
}

impl Telling {
    pub fn put(&mut self, notice: Notice) {
        self.waiting.push_back(notice);
    }

    /// The next line.
    pub fn next(&mut self, now: Instant) -> Option<Notice> {
        if self.losses.left_out(now).is_some() {
            return self.rest();
        }
        while let Some(notice) = self.waiting.pop_front() {
            match notice.loss() {
                Some(loss) if !self.losses.passes(now) => {
                    self.further = Some(match self.further.take() {
                        Some(further) => further.and(&loss),
                        None => loss,
                    });
                }
                _ => return Some(notice),
            }
        }
        None
    }

    /// When there will be a line without anything else happening.
    pub fn due(&self) -> Option<Instant> {
        self.losses.ends()
    }

    /// All that was left out so far.
    pub fn rest(&mut self) -> Option<Notice> {
        self.further.take().map(Notice::FurtherLosses)
    }

    /// What is left when all is done: at last the cursor, once.
    pub fn last(&mut self, cursor: &str) -> Option<Notice> {
        let stopped = || Notice::Stopped(cursor.to_string());
        self.rest()
            .or_else(|| (!std::mem::replace(&mut self.ended, true)).then(stopped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stream_id::StreamId;
    use std::time::Duration;

    #[test]
    fn losses_beyond_a_few_a_second_are_told_in_one_line() {
        let begin = Instant::now();
        let id = |ms| StreamId::new(ms, 0);
        let mut telling = Telling::default();
        for ms in 1..=100 {
            telling.put(Notice::Lost {
                count: 2,
                after: id(ms),
                upto: Some(id(ms + 1)),
            });
        }
        telling.put(Notice::RedisConnected);
        let told: Vec<_> = std::iter::from_fn(|| telling.next(begin)).collect();
        assert_eq!(
            (told.len(), told.last()),
            (6, Some(&Notice::RedisConnected))
        );
        let end = begin + Duration::from_secs(1);
        assert_eq!(telling.due(), Some(end));
        assert_eq!(
            telling
                .next(end)
                .map(|notice| notice.to_string())
                .as_deref(),
            Some(
                "190 more measurements are gone from measurement:values before they were sent, in 95 further steps between 6-0 and 101-0"
            )
        );
        assert_eq!((telling.next(end), telling.due()), (None, None));
    }
}
