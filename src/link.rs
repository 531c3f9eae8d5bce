//! Decides about the connection to the broker.

pub mod backoff;
