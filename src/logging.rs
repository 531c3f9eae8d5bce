//! The log: one line an event, to stderr, which never holds the service up.
//!
//! On balena the log collector adds time stamps and an emulated terminal asks for colours, so
//! there both are off unless somebody asks for them.

mod line;
mod writer;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use log::{Level, Log, Metadata, Record, error, info, warn};

use crate::config::Config;
use line::{MAX_LINE, Style};
use writer::Queue;

/// At the end, and before a panic goes on: how long nothing may be read, and all that together.
const END_PAUSE: Duration = Duration::from_millis(300);
const END_LIMIT: Duration = Duration::from_secs(2);

/// The lines of this target are as long as they are.
const UNCUT: &str = "mqtt_handler::settings";

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    filter: env_filter::Filter,
    style: Style,
    queue: Queue,
}

/// Starts the log as `RUST_LOG` and `RUST_LOG_STYLE` say; at first info. Panics are told in it.
pub fn init() {
    let (filter, fault) = filter();
    let logger = LOGGER.get_or_init(|| {
        let style = style();
        let told = move |missing: u64| {
            let text = format!(
                "{missing} lines of the log are missing here: they could not be written in time"
            );
            style.line(Level::Warn, "log", &format_args!("{text}"), MAX_LINE)
        };
        Logger {
            filter,
            style,
            queue: Queue::start(std::io::stderr(), Box::new(told)),
        }
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.filter.filter());
    }
    std::panic::set_hook(Box::new(tell_panic));
    if let Some(fault) = fault {
        warn!("RUST_LOG is not understood and counts as info: {fault}");
    }
}

/// As the standard hook does it, but in the log.
fn tell_panic(panic: &std::panic::PanicHookInfo) {
    let payload = panic.payload();
    let text = match payload.downcast_ref::<&str>() {
        Some(text) => text,
        None => payload.downcast_ref::<String>().map_or("", |text| text),
    };
    let place = panic.location().map(ToString::to_string);
    error!(
        "a fault of this program at {}: {text}",
        place.unwrap_or_default()
    );
    // A panic in a callback of the library ends the process at once.
    finish();
}

/// Tells what starts, with which settings, and what is odd about them.
pub fn tell_start(config: &Config) {
    info!("mqtt-handler {} starts", env!("CARGO_PKG_VERSION"));
    let settings = config.effective.iter().map(|value| {
        let (section, name) = (value.key.section, value.key.name);
        format!("{section}.{name}={:?}", value.shown())
    });
    let settings: Vec<String> = settings.collect();
    info!(target: UNCUT, "settings: {}", settings.join(" "));
    for warning in &config.warnings {
        warn!("{warning}");
    }
}

/// Waits until what was logged is written, as long as somebody reads it, and not for long.
pub fn finish() {
    if let Some(logger) = LOGGER.get() {
        logger.queue.drain(END_PAUSE, END_LIMIT);
    }
}

/// What `RUST_LOG` says, or why it is not understood.
fn filter() -> (env_filter::Filter, Option<String>) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let mut builder = env_filter::Builder::new();
    let fault = match wanted.trim() {
        "" => builder.try_parse("info").err(),
        wanted => builder.try_parse(wanted).err(),
    };
    match fault {
        None => (builder.build(), None),
        Some(fault) => {
            let mut builder = env_filter::Builder::new();
            builder.filter_level(log::LevelFilter::Info);
            (builder.build(), Some(fault.to_string()))
        }
    }
}

fn style() -> Style {
    let on_balena = std::env::var_os("BALENA").is_some();
    let wanted = std::env::var("RUST_LOG_STYLE").unwrap_or_default();
    let colour = match wanted.as_str() {
        "always" => true,
        "auto" => std::io::stderr().is_terminal(),
        "" => std::io::stderr().is_terminal() && !on_balena,
        _ => false,
    };
    Style {
        time: !on_balena,
        colour,
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Libraries log their options, and with them passwords and keys; and the MQTT library
        // would have a line made for every packet.
        metadata.target().starts_with("mqtt_handler") && self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let limit = match record.target() {
            UNCUT => usize::MAX,
            _ => MAX_LINE,
        };
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("-");
        let line = self.style.line(record.level(), name, record.args(), limit);
        self.queue.put(line);
    }

    fn flush(&self) {
        finish();
    }
}
