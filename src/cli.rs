//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Sends every measurement of a Redis stream over MQTT, confirmed, and executes a few remote
/// commands.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Options {
    /// The configuration file (INI). Variables of the environment beat what it says.
    #[arg(default_value = "app.conf")]
    pub config: PathBuf,
}
