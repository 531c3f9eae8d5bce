//! Lines for the log, as values: a machine has no log.

/// How urgent a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    /// Something went wrong and was recovered from.
    Warn,
    /// Data is lost, or a person is needed.
    Error,
}
