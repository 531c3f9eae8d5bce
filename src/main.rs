//! Parses the options, runs the service, reports how it ended.

use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use log::LevelFilter;
use mqtt_handler::cli::Options;
use mqtt_handler::config::Config;
use mqtt_handler::shutdown;

/// Wrong configuration.
const BAD_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
            eprintln!(
                "mqtt-handler: the configuration is wrong, nothing was started:\n{}",
                lines.join("\n")
            );
            return ExitCode::from(BAD_CONFIG);
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        // The library logs its options, and with them the password.
        .filter_module("paho_mqtt", LevelFilter::Off)
        .init();
    let (trigger, shutdown) = shutdown::channel();
    let trigger = Mutex::new(Some(trigger));
    let handler = ctrlc::set_handler(move || {
        // The first signal asks for the end, a second one is the end.
        if trigger
            .lock()
            .map_or(None, |mut trigger| trigger.take())
            .is_none()
        {
            std::process::exit(1);
        }
    });
    if let Err(error) = handler {
        log::warn!("signals cannot be caught ({error}): the service only ends the hard way");
    }
    match mqtt_handler::run(&config, &shutdown) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("{failure}");
            ExitCode::FAILURE
        }
    }
}
