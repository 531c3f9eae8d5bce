//! From the text of a value to its type: the parsers that the settings share.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::item::Refusal;
use super::pem::Kind;
use super::secret::Secret;
use super::{COMMANDS, Version};
use crate::model::compression::Compression;
use crate::model::settings::{MAX_INTERVAL_SECONDS, parse_interval};
use crate::model::topic::{self, Identity};

type Parsed<T> = Result<T, Refusal>;

/// Any text is fine.
pub fn text(text: &str) -> Parsed<String> {
    Ok(text.into())
}

pub fn secret(text: &str) -> Parsed<Secret> {
    Ok(text.into())
}

pub fn whole<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Parsed<T> {
    let number = text.parse().map_err(|_| Refusal::NotAllowed)?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(Refusal::NotAllowed)
    }
}

pub fn seconds(text: &str, range: RangeInclusive<u64>) -> Parsed<Duration> {
    whole(text, range).map(Duration::from_secs)
}

/// The same as in Redis, but one that is too long is told here.
pub fn interval(text: &str) -> Parsed<Duration> {
    whole(text, 0.0..=MAX_INTERVAL_SECONDS)?;
    parse_interval(text).map_err(|_| Refusal::NotAllowed)
}

/// `None` for an empty text.
pub fn optional<T>(text: &str, parse: impl Fn(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some)
}

/// The items between commas, without the empty ones.
pub fn list(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(String::from)
        .collect()
}

/// Names of commands in lower case.
pub fn commands(text: &str) -> Parsed<Vec<String>> {
    let mut commands = Vec::new();
    for name in list(&text.to_lowercase()) {
        match name.as_str() {
            "all" => commands.extend(COMMANDS.map(String::from)),
            "none" => {}
            known if COMMANDS.contains(&known) => commands.push(name),
            _ => {
                return Err(Refusal::Because(format!(
                    "{name:?} is none of all, none, {}",
                    COMMANDS.join(", ")
                )));
            }
        }
    }
    Ok(commands)
}

pub fn boolean(text: &str) -> Parsed<bool> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Refusal::NotAllowed),
    }
}

pub fn compression(text: &str) -> Parsed<Compression> {
    match text.to_lowercase().as_str() {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        _ => Err(Refusal::NotAllowed),
    }
}

pub fn version(text: &str) -> Parsed<Version> {
    match text.to_lowercase().as_str() {
        "auto" => Ok(Version::Auto),
        "5" => Ok(Version::V5),
        "3.1.1" => Ok(Version::V311),
        _ => Err(Refusal::NotAllowed),
    }
}

/// A text with placeholders, which stay in it: they are filled when all settings are known.
pub fn template(text: &str) -> Parsed<String> {
    let anybody = Identity {
        device_uuid: String::new(),
        device_type: String::new(),
        app_id: String::new(),
        app_name: String::new(),
    };
    match topic::expand(text, &anybody) {
        Ok(_) => Ok(text.into()),
        Err(placeholder) => Err(Refusal::Because(format!(
            "unknown placeholder {placeholder:?}; known are %(device_uuid)s, %(device_type)s, %(app_id)s, %(app_name)s, and %% for a percent sign"
        ))),
    }
}

/// A file that may come later.
pub fn file(text: &str) -> Parsed<Option<PathBuf>> {
    optional(text, |text| Ok(text.into()))
}

/// A file that is there, readable, and holds what it should. Whether that fits is found out at
/// each connect, because it may change until then.
pub fn pem_file(text: &str, kind: Kind) -> Parsed<Option<PathBuf>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = std::fs::read(text)
        .map_err(|error| Refusal::Because(format!("the file cannot be read: {error}")))?;
    let bytes = Zeroizing::new(bytes);
    let found = bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        line.starts_with(b"-----BEGIN ")
            && line.ends_with(format!("{}-----", kind.label()).as_bytes())
    });
    if found {
        Ok(Some(text.into()))
    } else {
        Err(Refusal::Because(format!(
            "the file holds no {kind} in PEM form"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_lose_blanks_and_empty_items() {
        assert_eq!(list(" a, b ,,c"), ["a", "b", "c"]);
        assert_eq!(commands("ALL"), Ok(COMMANDS.map(String::from).to_vec()));
        assert_eq!(commands("none"), Ok(Vec::new()));
    }

    #[test]
    fn an_interval_above_zero_is_at_least_a_hundredth_of_a_second() {
        for (text, milliseconds) in [("0", 0), ("1e-9", 10), ("0.01", 10), ("2", 2000)] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)));
        }
    }

    #[test]
    fn a_file_must_hold_what_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pem").display().to_string();
        std::fs::write(
            &file,
            "note\n-----BEGIN CERTIFICATE-----\r\nMA==\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        let found = pem_file(&file, Kind::Certificates);
        assert_eq!(found, Ok(Some(file.clone().into())));
        let refused = Refusal::Because("the file holds no private key in PEM form".into());
        assert_eq!(pem_file(&file, Kind::PrivateKey), Err(refused));
    }
}
