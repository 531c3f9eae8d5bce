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

    /// Show the effective configuration, with secrets masked, and try Redis and the broker.
    /// Exit code 0: all fine; 1: a server cannot be reached or refuses; 2: the configuration
    /// is wrong.
    #[arg(long, conflicts_with = "status")]
    pub check: bool,

    /// Show the status of the running service from Redis. Exit code 0: running and connected;
    /// 1: running, but not connected or behind; 3: no status, or a stale one.
    #[arg(long)]
    pub status: bool,

    /// With --status: as JSON, for programs.
    #[arg(long, requires = "status")]
    pub json: bool,

    /// With --status: draw it anew every second.
    #[arg(long, requires = "status")]
    pub watch: bool,
}
