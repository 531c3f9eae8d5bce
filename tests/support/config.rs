//! The configuration that some variables make, for tests that drive a connection themselves.

use mqtt_handler::config::Config;

/// # Panics
/// Where the service would not start with them.
pub fn config(variables: &[(&str, &str)]) -> Config {
    let variable = |name: &str| {
        let found = variables.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| value.to_string())
    };
    Config::parse("", "", variable).unwrap_or_else(|faults| panic!("{faults:?}"))
}
