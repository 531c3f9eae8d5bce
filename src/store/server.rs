//! What the server tells about itself.

use ::redis::Value;

use super::decoding::{info, text_of};
use super::{Store, StoreError};

/// The memory of the server, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerMemory {
    pub used: u64,
    /// `maxmemory`; `None`: there is no such limit.
    pub limit: Option<u64>,
}

impl ServerMemory {
    /// From the section of INFO; `None` where this client may not ask.
    pub(super) fn from_info(text: &str) -> Option<ServerMemory> {
        let number = |name| info(text, name)?.parse::<u64>().ok();
        Some(ServerMemory {
            used: number("used_memory")?,
            limit: number("maxmemory").filter(|limit| *limit > 0),
        })
    }

    /// How much of the limit is used, in percent.
    pub fn used_percent(self) -> Option<f64> {
        Some(100.0 * self.used as f64 / self.limit? as f64)
    }
}

/// What is wrong with a server of this version, in words.
pub fn too_old(version: &str) -> Option<String> {
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    let version_of: (u64, u64) = (numbers.next()?, numbers.next()?);
    (version_of < (6, 2)).then(|| {
        format!("version {version} is too old, nothing can be read from it: 6.2 is the oldest")
    })
}

impl Store {
    /// Why Redis may lose measurements by its own settings, in words; empty where it will not,
    /// or does not say.
    ///
    /// # Errors
    /// As for every command.
    pub fn hazards(&mut self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        match self.version() {
            Ok(version) => found.extend(too_old(&version).map(|why| format!("Redis: {why}"))),
            Err(StoreError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let policy = self.setting("maxmemory-policy")?;
        if policy.starts_with("allkeys-") {
            found.push(format!(
                "maxmemory-policy is {policy}: Redis may evict the whole stream; noeviction is safe"
            ));
        }
        if self.setting("appendonly")? == "no" {
            let saves = self.setting("save")?;
            found.push(if saves.is_empty() {
                "Redis stores nothing: unsent measurements and the cursor are lost when it stops; appendonly yes is safe".into()
            } else {
                "Redis stores snapshots only: after a power cut the last minutes are lost; appendonly yes is safe".into()
            });
        }
        Ok(found)
    }

    /// The version of the server; unknown where this client may not ask.
    ///
    /// # Errors
    /// As for every command.
    pub fn version(&mut self) -> Result<String, StoreError> {
        let text = match self.info("server") {
            Err(StoreError::Refused(reason)) if reason.starts_with("NOPERM") => String::new(),
            text => text?,
        };
        Ok(info(&text, "redis_version")
            .unwrap_or("unknown")
            .to_string())
    }

    /// How much of `maxmemory` is used, in percent; `None` where there is no such limit or this
    /// client may not ask.
    ///
    /// # Errors
    /// As for every command.
    pub fn used_percent(&mut self) -> Result<Option<f64>, StoreError> {
        Ok(self.memory()?.and_then(ServerMemory::used_percent))
    }

    /// The memory of the server; `None` where this client may not ask.
    ///
    /// # Errors
    /// As for every command.
    pub fn memory(&mut self) -> Result<Option<ServerMemory>, StoreError> {
        match self.info("memory") {
            Err(StoreError::Refused(_)) => Ok(None),
            text => Ok(ServerMemory::from_info(&text?)),
        }
    }

    fn info(&mut self, section: &str) -> Result<String, StoreError> {
        let mut command = ::redis::cmd("INFO");
        command.arg(section);
        Ok(text_of(Some(self.answer(&command)?)))
    }

    /// What Redis does when its memory is full; empty where this client may not ask.
    ///
    /// # Errors
    /// As for every command.
    pub fn eviction_policy(&mut self) -> Result<String, StoreError> {
        self.setting("maxmemory-policy")
    }

    /// A setting of the server; empty where this client may not ask.
    fn setting(&mut self, name: &str) -> Result<String, StoreError> {
        let mut command = ::redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        match self.answer(&command) {
            Ok(Value::Array(mut pair)) => Ok(text_of(pair.pop())),
            Ok(_) | Err(StoreError::Refused(_)) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_be_read_is_told_by_its_version() {
        for old in ["6.0.16", "5.0.14", "6.1"] {
            assert!(too_old(old).is_some_and(|why| why.contains(old)), "{old}");
        }
        for good in [
            "6.2.0", "6.2.14", "7.0.15", "8.2.1", "10.0.0", "unknown", "",
        ] {
            assert_eq!(too_old(good), None, "{good}");
        }
    }
}
