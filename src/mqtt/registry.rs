//! Which line belongs to what the library passes.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::line::Line;

/// A connection that exists.
pub struct Entry {
    /// What the library was told in the place of the port.
    pub number: c_int,
    /// The address of its `Net`, 0 as long as it has none.
    pub net: usize,
    pub line: Arc<Line>,
}

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// All that exist. A panic elsewhere is no reason for one in a thread of the library.
pub fn entries() -> MutexGuard<'static, Vec<Entry>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line whose `Net` has this address.
pub fn line_at(net: usize) -> Option<Arc<Line>> {
    let entries = entries();
    let found = entries.iter().find(|entry| entry.net == net)?;
    Some(found.line.clone())
}
