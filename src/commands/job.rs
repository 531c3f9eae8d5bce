//! A running `send_measurements`: which list comes next, and when it has ended.
//!
//! Each list is confirmed before the next one is read. What fails is read again from where the
//! confirmation ended, in smaller lists; after `TRIES` failures in a row it is given up in words.

use super::Context;
use super::desk::Asker;
use super::limits::TRIES;
use super::reply::Reply;
use super::send_measurements::{NAME, SendMeasurements};
use crate::model::failure::{Cause, Undelivered};
use crate::model::measurement::{Batch, BatchLimits};
use crate::model::stream_id::StreamId;

/// A first guess of what fits into a list; the next page is as large as the last list was.
const FIRST_PAGE: usize = 32;

#[derive(Debug)]
pub struct Job {
    asker: Asker,
    /// What is still to be sent.
    range: (StreamId, StreamId),
    count: Option<u64>,
    sent: u64,
    /// Failures in a row.
    tries: u32,
    page: usize,
    /// Bytes of a list, after one has failed.
    smaller: Option<usize>,
    cancelled: bool,
    in_flight: Option<Flight>,
}

/// A list that waits for its confirmation.
#[derive(Debug)]
struct Flight {
    last: StreamId,
    measurements: usize,
    bytes: usize,
    /// Everything that was read went into the list.
    all_fitted: bool,
}

/// What a job wants.
pub enum Step {
    /// To send this list.
    List(Batch),
    /// To answer; it has ended.
    End(Reply),
}

impl Job {
    pub fn new(command: &SendMeasurements, asker: Asker) -> Job {
        Job {
            asker,
            range: command.range,
            count: command.count,
            sent: 0,
            tries: 0,
            page: FIRST_PAGE,
            smaller: None,
            cancelled: false,
            in_flight: None,
        }
    }

    /// Who wants to hear of its end.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// A list that is in flight is still waited for.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// The next list, while none is in flight.
    pub fn next(&mut self, limits: BatchLimits, context: &mut dyn Context) -> Step {
        let maximum = context.maximum_payload();
        let left = self.count.map_or(u64::MAX, |count| count - self.sent);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let full = limits.max_bytes.min(maximum);
        let bounds = BatchLimits {
            max_bytes: self.smaller.map_or(full, |smaller| smaller.min(full)),
            max_count: limits.max_count.min(left),
            ..limits
        };
        let read = bounds.max_count.min(self.page);
        if self.cancelled || read == 0 || self.range.0 > self.range.1 {
            return Step::End(self.end());
        }
        let (batch, entries) = match context.list(self.range, read, bounds) {
            Ok(Some(found)) => found,
            Ok(None) => return Step::End(self.end()),
            Err(reason) => return Step::End(self.stopped(&reason)),
        };
        let bytes = batch.payload.len();
        if bytes > maximum {
            let too_large = format!(
                "the measurement {} has {bytes} bytes, the broker takes {maximum}",
                batch.first
            );
            return Step::End(self.stopped(&too_large));
        }
        self.in_flight = Some(Flight {
            last: batch.last,
            measurements: batch.count,
            bytes,
            all_fitted: batch.count == entries,
        });
        Step::List(batch)
    }

    /// What became of the list in flight; a reply when this ends the job.
    pub fn answered(
        &mut self,
        limits: BatchLimits,
        result: &Result<(), Undelivered>,
    ) -> Option<Reply> {
        let flight = self.in_flight.take()?;
        match result {
            Ok(()) => self.confirmed(&flight, limits),
            Err(undelivered) => self.failed(&flight, undelivered),
        }
    }

    fn confirmed(&mut self, flight: &Flight, limits: BatchLimits) -> Option<Reply> {
        self.sent += flight.measurements as u64;
        self.tries = 0;
        // Back to the full size as fast as it went down.
        self.smaller = self.smaller.map(|bytes| bytes.saturating_mul(2));
        self.page = if flight.all_fitted {
            self.page.saturating_mul(2)
        } else {
            flight.measurements + 2
        }
        .min(limits.max_count);
        if flight.last >= self.range.1 {
            return Some(self.end());
        }
        self.range.0 = flight.last.next();
        self.cancelled.then(|| self.end())
    }

    fn failed(&mut self, flight: &Flight, undelivered: &Undelivered) -> Option<Reply> {
        self.tries += 1;
        let alone = flight.measurements == 1;
        let hopeless = match undelivered.cause {
            Cause::RefusesAll => true,
            Cause::TooLarge { .. } => alone,
            _ => self.tries >= TRIES,
        };
        if self.cancelled {
            return Some(self.end());
        }
        if hopeless {
            return Some(self.stopped(&undelivered.reason));
        }
        if undelivered.cause != Cause::NotSent {
            self.smaller = Some((flight.bytes / 2).max(1));
        }
        None
    }

    fn end(&self) -> Reply {
        Reply {
            count: Some(self.sent),
            cancelled: self.cancelled.then_some(true),
            ..Reply::done(NAME)
        }
    }

    fn stopped(&self, reason: &str) -> Reply {
        let error = format!("stopped after {} measurements: {reason}", self.sent);
        Reply::error(Some(NAME), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::world::World;
    use crate::model::compression::Compression;

    const LIMITS: BatchLimits = BatchLimits {
        max_bytes: 10_000,
        max_count: 50,
        compression: Compression::None,
    };

    fn job(first: u64, last: u64, count: Option<u64>) -> Job {
        let range = (StreamId::new(first, 0), StreamId::new(last, 0));
        Job::new(&SendMeasurements { range, count }, Asker::default())
    }

    /// Answers each list with the next result, `Ok` when there is none any more.
    fn run(
        job: &mut Job,
        world: &mut World,
        results: &[Result<(), Cause>],
    ) -> (Vec<usize>, String) {
        let mut results = results.iter();
        let mut lists = Vec::new();
        loop {
            let reply = match job.next(LIMITS, world) {
                Step::End(reply) => Some(reply),
                Step::List(batch) => {
                    lists.push(batch.count);
                    let result = results.next().copied().unwrap_or(Ok(()));
                    let result = result.map_err(|cause| Undelivered::new(cause, "a reason"));
                    job.answered(LIMITS, &result)
                }
            };
            if let Some(reply) = reply {
                return (lists, String::from_utf8(reply.to_json()).expect("UTF-8"));
            }
        }
    }

    fn count(count: u64) -> String {
        format!(r#"{{"command":"send_measurements","count":{count}}}"#)
    }

    #[test]
    fn a_range_is_sent_in_bounded_lists() {
        let mut world = World::with(200);
        let all = run(&mut job(1, 1000, None), &mut world, &[]);
        assert_eq!(all, (vec![32, 50, 50, 50, 18], count(200)));
        let some = run(&mut job(100, 300, Some(40)), &mut world, &[]);
        assert_eq!(some, (vec![32, 8], count(40)));
        assert_eq!(run(&mut job(201, 300, None), &mut world, &[]).1, count(0));
        assert_eq!(run(&mut job(9, 8, None), &mut world, &[]).1, count(0));
        assert_eq!(run(&mut job(1, 8, Some(0)), &mut world, &[]).1, count(0));
        assert_eq!(
            run(&mut job(8, 8, None), &mut world, &[]),
            (vec![1], count(1))
        );
    }

    #[test]
    fn what_fails_is_sent_again_in_smaller_lists_that_grow_back() {
        let mut world = World::with(200);
        let results = [
            Ok(()),
            Err(Cause::Refused),
            Err(Cause::TooLarge { limit: None }),
        ];
        let (lists, reply) = run(&mut job(1, 200, None), &mut world, &results);
        assert_eq!(lists, [32, 50, 25, 12, 14, 28, 50, 50, 14]);
        assert_eq!(reply, count(200));
    }

    #[test]
    fn what_keeps_failing_is_given_up_in_words() {
        let mut world = World::with(100);
        let mut results = [Err(Cause::NotSent); 6];
        results[0] = Ok(());
        let (lists, reply) = run(&mut job(1, 200, None), &mut world, &results);
        assert_eq!(lists, [32, 50, 50, 50, 50, 50]);
        assert!(
            reply.contains("stopped after 32 measurements: a reason"),
            "{reply}"
        );
        let (lists, _) = run(
            &mut job(1, 200, None),
            &mut world,
            &[Err(Cause::RefusesAll)],
        );
        assert_eq!(lists, [32]);
    }

    #[test]
    fn a_single_measurement_that_the_broker_does_not_take_is_never_sent() {
        let mut world = World::with(3);
        world.maximum = 10;
        let (lists, reply) = run(&mut job(1, 200, None), &mut world, &[]);
        assert!(
            lists.is_empty() && reply.contains("the broker takes 10"),
            "{reply}"
        );
    }

    #[test]
    fn a_cancelled_job_waits_for_its_list_and_counts_it() {
        let mut world = World::with(100);
        for (result, sent) in [(Ok(()), 32), (Err(Undelivered::new(Cause::NotSent, "")), 0)] {
            let mut job = job(1, 200, None);
            assert!(matches!(job.next(LIMITS, &mut world), Step::List(_)));
            job.cancel();
            let reply = job.answered(LIMITS, &result).expect("the end");
            assert_eq!((reply.count, reply.cancelled), (Some(sent), Some(true)));
        }
        let mut between = job(1, 200, None);
        between.cancel();
        assert!(matches!(between.next(LIMITS, &mut world), Step::End(_)));
    }
}
