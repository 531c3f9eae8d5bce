//! Remote commands.

pub mod command;
pub mod supervisor;
