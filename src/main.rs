//! Parses the options, runs the service, reports how it ended.

use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use mqtt_handler::cli::Options;
use mqtt_handler::config::{self, Config, Fault};
use mqtt_handler::logging;
use mqtt_handler::report::{check, status};
use mqtt_handler::service::{self, shutdown};

/// Wrong configuration.
const BAD_CONFIG: u8 = 2;

fn main() -> ExitCode {
    give_large_blocks_back();
    let hidden = hide_memory();
    let options = Options::parse();
    let config = Config::load(&options.config);
    // SAFETY: no other thread has been started yet.
    unsafe { config::forget_secrets() };
    match config {
        Err(faults) => refuse(&faults),
        Ok(config) if options.check => check(&config, &options),
        Ok(config) if options.status => show_status(&config, &options),
        Ok(config) => {
            logging::init();
            if let Err(error) = hidden {
                log::warn!(
                    "the memory cannot be hidden from core dumps and other processes: {error}"
                );
            }
            let code = serve(&config);
            logging::finish();
            code
        }
    }
}

fn refuse(faults: &[Fault]) -> ExitCode {
    let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
    eprintln!(
        "mqtt-handler: the configuration is wrong, nothing was started:\n{}",
        lines.join("\n")
    );
    ExitCode::from(BAD_CONFIG)
}

fn check(config: &Config, options: &Options) -> ExitCode {
    match check::run(config, &options.config.display().to_string()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs the service until a signal ends it.
fn serve(config: &Config) -> ExitCode {
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
    logging::tell_start(config);
    match service::run(config, &shutdown) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn show_status(config: &Config, options: &Options) -> ExitCode {
    match status::run(config, options.json, options.watch) {
        Ok(verdict) => ExitCode::from(verdict.exit_code()),
        Err(error) => {
            eprintln!("mqtt-handler: no status, Redis: {error}");
            ExitCode::from(status::Verdict::Stale.exit_code())
        }
    }
}

/// What a large measurement takes goes back to the system at once. By default a freed block of that
/// size teaches the allocator to keep such ones, in the heap of each thread that they go through.
fn give_large_blocks_back() {
    const LARGE: libc::c_int = 256 << 10;
    // SAFETY: it sets a number of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE)
    };
}

/// Memory holds passwords and keys: no core dump has it, and no other process of the same user
/// may look into it, or into the environment.
fn hide_memory() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
