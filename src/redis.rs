//! The connection to Redis and the bytes on it. Knows nothing of streams or cursors.

pub mod reply;
pub mod wire;
