//! Certificates and keys, and the settings that they come from.

use std::fmt;
use std::path::{Path, PathBuf};

use super::item::Key;

/// Certificates or a key, and the setting that they come from.
#[derive(Clone)]
pub struct Pem {
    key: &'static Key,
    path: PathBuf,
}

impl Pem {
    /// A file that others made, and may replace.
    pub fn file(key: &'static Key, path: PathBuf) -> Pem {
        Pem { key, path }
    }

    /// What to open, in this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Section and name of the setting, for "see …".
    pub fn setting(&self) -> String {
        format!("{}.{}", self.key.section, self.key.name)
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
