//! A world in memory for the tests of this room.

use std::collections::HashMap;

use super::Context;
use super::supervisor::RebootError;
use crate::config::{COMMANDS, Permissions};
use crate::model::measurement::{Batch, BatchLimits};
use crate::model::status::Record;
use crate::model::stream_id::StreamId;
use crate::store::Within;

/// Bytes of each measurement in a list.
const BYTES: usize = 200;

pub struct World {
    pub keys: HashMap<String, String>,
    /// Percent of the memory of Redis.
    pub used: Option<f64>,
    /// The stream holds `1-0`, `2-0` … up to this.
    pub measurements: u64,
    pub maximum: usize,
    /// What was asked of the world, in order.
    pub done: Vec<&'static str>,
    /// What the next reboot is answered with.
    pub refusal: Option<RebootError>,
}

impl Default for World {
    fn default() -> World {
        World {
            keys: HashMap::new(),
            used: None,
            measurements: 0,
            maximum: usize::MAX,
            done: Vec::new(),
            refusal: None,
        }
    }
}

impl World {
    /// With so many measurements in the stream.
    pub fn with(measurements: u64) -> World {
        World {
            measurements,
            ..World::default()
        }
    }
}

/// Everything is allowed.
pub fn all() -> Permissions {
    Permissions {
        commands: COMMANDS.map(String::from).to_vec(),
        keys: vec!["*".into()],
    }
}

impl Context for World {
    fn maximum_payload(&self) -> usize {
        self.maximum
    }

    fn get(&mut self, key: &str, bytes: usize) -> Result<Within, String> {
        Ok(match self.keys.get(key) {
            None => Within::Missing,
            Some(value) if value.len() > bytes => Within::Longer,
            Some(value) => Within::Whole(value.clone()),
        })
    }

    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        match value {
            Some(value) => drop(self.keys.insert(key.into(), value.into())),
            None => drop(self.keys.remove(key)),
        }
        Ok(())
    }

    fn memory_used_percent(&mut self) -> Result<Option<f64>, String> {
        Ok(self.used)
    }

    fn list(
        &mut self,
        range: (StreamId, StreamId),
        read: usize,
        limits: BatchLimits,
    ) -> Result<Option<(Batch, usize)>, String> {
        let found: Vec<StreamId> = (1..=self.measurements)
            .map(|ms| StreamId::new(ms, 0))
            .filter(|id| *id >= range.0 && *id <= range.1)
            .take(read)
            .collect();
        let count = (limits.max_bytes / BYTES)
            .clamp(1, limits.max_count)
            .min(found.len());
        let batch = found[..count].first().map(|first| Batch {
            payload: vec![b' '; BYTES * count],
            first: *first,
            last: found[count - 1],
            count,
        });
        Ok(batch.map(|batch| (batch, found.len())))
    }

    fn status(&self) -> Record {
        Record {
            program: crate::model::status::Program {
                version: "1".into(),
                ..Default::default()
            },
            ..Record::default()
        }
    }

    fn settings_changed(&mut self) {
        self.done.push("settings_changed");
    }

    fn can_reboot(&self) -> Result<(), RebootError> {
        Ok(())
    }

    fn quiesce(&mut self) {
        self.done.push("quiesce");
    }

    fn resume(&mut self) {
        self.done.push("resume");
    }

    fn reboot(&mut self, _: bool) -> Result<(), RebootError> {
        self.done.push("reboot");
        self.refusal.take().map_or(Ok(()), Err)
    }
}
