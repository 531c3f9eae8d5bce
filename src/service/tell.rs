//! From what a machine tells to a line in the log.

use std::fmt::Display;

use crate::model::notice::Level;

/// Writes one line, formatted only where it is wanted.
pub fn tell(level: Level, notice: &dyn Display) {
    match level {
        Level::Debug => log::debug!("{notice}"),
        Level::Info => log::info!("{notice}"),
        Level::Warn => log::warn!("{notice}"),
        Level::Error => log::error!("{notice}"),
    }
}
