//! The connection to Redis and the bytes on it (RESP 2). Knows nothing of streams or cursors.

pub mod connection;
pub mod reply;
