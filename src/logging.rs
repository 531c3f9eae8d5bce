//! The log: one line an event, to stderr.
//!
//! On balena the log collector adds time stamps and an emulated terminal asks for colours, so
//! there both are off unless somebody asks for them.

use std::io::Write;

/// Starts the log as `RUST_LOG` and `RUST_LOG_STYLE` say; at first info.
pub fn init() {
    let on_balena = std::env::var_os("BALENA").is_some();
    let mut builder =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    if on_balena && std::env::var_os("RUST_LOG_STYLE").is_none() {
        builder.write_style(env_logger::WriteStyle::Never);
    }
    // It would format a line with the local time for every packet.
    builder.filter_module("paho_mqtt_c", log::LevelFilter::Off);
    builder.format(move |out, record| {
        // Libraries log their options, and with them passwords and keys.
        if !record.target().starts_with("mqtt_handler") {
            return Ok(());
        }
        let level = record.level();
        let style = out.default_level_style(level);
        if !on_balena {
            write!(out, "{} ", out.timestamp_millis())?;
        }
        let thread = std::thread::current();
        writeln!(
            out,
            "{style}{level:5}{style:#} {}: {}",
            thread.name().unwrap_or("-"),
            record.args()
        )
    });
    builder.init();
}
