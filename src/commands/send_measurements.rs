//! `{"command":"send_measurements","min_id":A,"max_id":B,"count":N}`: sends a range again.
//!
//! It may take hours, so it runs beside the other commands as a `Job`: one at a time, one list
//! after the other. `cancel` ends it.

use super::desk::Asker;
use super::job::Job;
use super::request::Fields;
use crate::model::stream_id::StreamId;

pub const NAME: &str = "send_measurements";

#[derive(Debug, PartialEq, Eq)]
pub struct SendMeasurements {
    /// The first ID and the last, both included.
    pub range: (StreamId, StreamId),
    /// At most so many.
    pub count: Option<u64>,
}

impl SendMeasurements {
    pub fn parse(fields: &Fields) -> Result<SendMeasurements, String> {
        let first = bound(fields, "min_id", true)?.unwrap_or(StreamId::ZERO);
        let last = bound(fields, "max_id", false)?.unwrap_or(StreamId::MAX);
        Ok(SendMeasurements {
            range: (first, last),
            count: count(fields)?,
        })
    }

    /// Begins; the reply comes from the job, when it has ended.
    ///
    /// # Errors
    /// Another one is running.
    pub fn apply(self, asker: Asker, running: &mut Option<Job>) -> Result<(), String> {
        if running.is_some() {
            return Err("another send_measurements is running; the command cancel ends it".into());
        }
        *running = Some(Job::new(&self, asker));
        Ok(())
    }
}

/// A bound of a range as Redis reads it: `-`, `+`, an ID, or an ID behind `(`, which excludes
/// it. A bare time stands for its first or its last entry.
fn bound(fields: &Fields, name: &str, lower: bool) -> Result<Option<StreamId>, String> {
    let Some(raw) = fields.optional(name) else {
        return Ok(None);
    };
    let invalid =
        || format!("{name:?} is no stream ID such as 1621122796939-0, and neither - nor +");
    let text = match raw.get() {
        text if text.starts_with('"') => {
            serde_json::from_str::<String>(text).map_err(|_| invalid())?
        }
        number => number.to_string(),
    };
    let text = text.trim();
    if text == "-" || text == "+" {
        return Ok(Some(if text == "-" {
            StreamId::ZERO
        } else {
            StreamId::MAX
        }));
    }
    let (text, exclusive) = match text.strip_prefix('(') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut id: StreamId = text.parse().map_err(|_| invalid())?;
    if !lower && !text.contains('-') && !exclusive {
        id.seq = u64::MAX;
    }
    Ok(Some(match (exclusive, lower) {
        (false, _) => id,
        (true, true) => id.next(),
        (true, false) => id.before(),
    }))
}

fn count(fields: &Fields) -> Result<Option<u64>, String> {
    let Some(raw) = fields.optional("count") else {
        return Ok(None);
    };
    let text = raw.get();
    let text = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_string());
    match text.trim().parse() {
        Ok(count) => Ok(Some(count)),
        Err(_) => Err("\"count\" is no whole number from 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Range = ((StreamId, StreamId), Option<u64>);

    fn range(fields: &str) -> Result<Range, String> {
        let text = format!("{{{fields}}}");
        let command = SendMeasurements::parse(&Fields::read(&text)?)?;
        Ok((command.range, command.count))
    }

    #[test]
    fn ranges_are_read_as_redis_reads_them() {
        let (zero, max) = (StreamId::ZERO, StreamId::MAX);
        assert_eq!(range(r#""min_id":null"#), Ok(((zero, max), None)));
        assert_eq!(
            range(r#""min_id":"-","max_id":"+","count":"7""#),
            Ok(((zero, max), Some(7)))
        );
        assert_eq!(
            range(r#""min_id":5,"max_id":6,"count":0"#),
            Ok(((StreamId::new(5, 0), StreamId::new(6, u64::MAX)), Some(0)))
        );
        assert_eq!(
            range(r#""min_id":"(5-1","max_id":"(6-0""#),
            Ok(((StreamId::new(5, 2), StreamId::new(5, u64::MAX)), None))
        );
        for bad in [
            r#""min_id":"x""#,
            r#""max_id":1.5"#,
            r#""min_id":true"#,
            r#""count":-1"#,
            r#""count":"many""#,
        ] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
