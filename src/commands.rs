//! Remote commands: one file a command, with its parsing and its effect side by side.
//!
//! Whatever bytes arrive, the result is one reply that fits into a message. Whoever may publish
//! a command can cost neither a measurement nor the memory, the log or the line: every input,
//! every output and every rate has a limit, and they are all in `limits`.
//!
//! Nothing here knows a thread, a channel or a clock: `Desk` takes messages, results and the
//! present moment, and gives messages to be published. The thread around it is
//! `service::dispatcher`. The protocol is docs/protocol.md.

pub mod cancel;
mod desk;
pub mod get_config;
pub mod get_status;
mod job;
pub mod limits;
mod lines;
mod outbox;
mod permissions;
pub mod reboot;
pub mod reply;
pub mod request;
pub mod send_measurements;
pub mod set_config;
pub mod supervisor;
#[cfg(test)]
mod world;

pub use desk::{Asker, Desk};
pub use lines::Line;
pub use outbox::Form;

use crate::model::measurement::{Batch, BatchLimits};
use crate::model::status::Record;
use crate::model::stream_id::StreamId;
use crate::store::Within;
use supervisor::RebootError;

/// A command that has been understood and is allowed.
#[derive(Debug)]
pub enum Command {
    Reboot(reboot::Reboot),
    GetConfig(get_config::GetConfig),
    SetConfig(set_config::SetConfig),
    GetStatus,
    Cancel,
    SendMeasurements(send_measurements::SendMeasurements),
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Command::Reboot(_) => reboot::NAME,
            Command::GetConfig(_) => get_config::NAME,
            Command::SetConfig(_) => set_config::NAME,
            Command::GetStatus => get_status::NAME,
            Command::Cancel => cancel::NAME,
            Command::SendMeasurements(_) => send_measurements::NAME,
        }
    }
}

/// What commands need from the world. Errors are in words, for the reply.
pub trait Context {
    /// Bytes that the payload of one list may have on the present connection.
    fn maximum_payload(&self) -> usize;

    /// The value of a key, if it has at most so many bytes.
    ///
    /// # Errors
    /// Redis is out of reach or refuses.
    fn get(&mut self, key: &str, bytes: usize) -> Result<Within, String>;

    /// Sets a key, or deletes it.
    ///
    /// # Errors
    /// Redis is out of reach or refuses, or the key does not hold a string.
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String>;

    /// How much of its memory Redis uses, where it has a limit.
    ///
    /// # Errors
    /// Redis is out of reach.
    fn memory_used_percent(&mut self) -> Result<Option<f64>, String>;

    /// A list of the first measurements of a range, of at most `read` of them, and how many
    /// were read.
    ///
    /// # Errors
    /// Redis is out of reach or refuses.
    fn list(
        &mut self,
        range: (StreamId, StreamId),
        read: usize,
        limits: BatchLimits,
    ) -> Result<Option<(Batch, usize)>, String>;

    /// The status of this moment.
    fn status(&self) -> Record;

    /// One of the service's own settings was set: it counts at once.
    fn settings_changed(&mut self);

    /// # Errors
    /// There is nobody who could reboot the device.
    fn can_reboot(&self) -> Result<(), RebootError>;

    /// Lets what is in flight be confirmed and the cursor be saved, and nothing new begin.
    fn quiesce(&mut self);

    /// Ends what `quiesce` began.
    fn resume(&mut self);

    /// Asks for a reboot of the device.
    ///
    /// # Errors
    /// It is refused, or there was no answer.
    fn reboot(&mut self, force: bool) -> Result<(), RebootError>;
}
