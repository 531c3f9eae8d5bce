//! The forms of things: IDs and cursors, topics, measurements on the wire, settings, the status
//! record, messages. Nothing here decides anything, and nothing here knows a server.

pub mod backoff;
pub mod compression;
pub mod connection;
pub mod failure;
pub mod flood;
pub mod jitter;
pub mod measurement;
pub mod message;
pub mod notice;
pub mod packet;
pub mod quote;
pub mod settings;
pub mod status;
pub mod stream;
pub mod stream_id;
pub mod told;
pub mod topic;
