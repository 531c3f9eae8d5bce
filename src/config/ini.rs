//! The text of the INI file, taken apart.
//!
//! Values are taken literally. `%`, `#`, `;`, `\` and quotes mean nothing here, so a password
//! needs no escaping; only white space around a value is cut off.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::items::KEYS;
use super::source::Fault;

/// Values by section and name, both in lower case.
pub type Entries = HashMap<(String, String), Zeroizing<String>>;

/// What a file holds, and what is odd and wrong about it.
#[derive(Default)]
pub struct Parsed {
    pub entries: Entries,
    pub warnings: Vec<String>,
    pub faults: Vec<Fault>,
}

/// Takes the text of `file` apart.
///
/// # Errors
/// What keeps it from being read as INI at all.
pub fn parse(file: &str, text: &str) -> Result<Parsed, Fault> {
    // The parser joins a line that ends in a backslash with the next one, whatever its
    // options say. A blank behind the backslash prevents it and is trimmed off again.
    let text = text.trim_start_matches('\u{feff}').replace("\\\n", "\\ \n");
    let text = Zeroizing::new(text);
    let options = ini::ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        ..Default::default()
    };
    let ini = ini::Ini::load_from_str_opt(&text, options)
        .map_err(|error| Fault(format!("{file}, line {}: {}", error.line, error.msg)))?;
    let mut parsed = Parsed::default();
    for (section, properties) in ini.iter() {
        let section = section.unwrap_or("").trim().to_lowercase();
        for (name, value) in properties.iter() {
            if let Some((line, _)) = name.split_once(['\n', '\r']) {
                // Its number and not the line itself: it may be a part of a password.
                let number = text
                    .lines()
                    .position(|other| other.trim() == line.trim())
                    .map_or(0, |at| at + 1);
                parsed.faults.push(Fault(format!(
                    "{file}, line {number}: [{section}] expected \"key = value\""
                )));
                continue;
            }
            parsed.add(file, &section, &name.trim().to_lowercase(), value.trim());
        }
    }
    Ok(parsed)
}

impl Parsed {
    fn add(&mut self, file: &str, section: &str, name: &str, value: &str) {
        let is_known = |key: &&&_| is(key, section, name);
        if KEYS.iter().find(is_known).is_none() {
            self.warnings.push(unknown(file, section, name));
        }
        let place = (section.to_string(), name.to_string());
        let value = Zeroizing::new(value.to_string());
        if self.entries.insert(place, value).is_some() {
            self.warnings.push(format!(
                "{file}: [{section}] {name} is set twice, the last one counts"
            ));
        }
    }
}

fn is(key: &super::item::Key, section: &str, name: &str) -> bool {
    key.section == section && key.name == name
}

fn unknown(file: &str, section: &str, name: &str) -> String {
    let wanted = format!("{section}.{name}");
    let nearest = KEYS
        .iter()
        .map(|key| {
            let known = format!("{}.{}", key.section, key.name);
            (strsim::levenshtein(&wanted, &known), key)
        })
        .min_by_key(|(distance, key)| (!key.name.starts_with(name), *distance));
    let hint = match nearest {
        Some((distance, key)) if key.name.starts_with(name) || distance <= 1 + wanted.len() / 3 => {
            format!("; did you mean [{}] {}?", key.section, key.name)
        }
        _ => String::new(),
    };
    format!("{file}: [{section}] {name} is unknown and ignored{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Parsed {
        parse("app.conf", text).unwrap_or_else(|fault| panic!("{fault}"))
    }

    fn value(parsed: &Parsed, section: &str, name: &str) -> String {
        parsed.entries[&(section.into(), name.into())].to_string()
    }

    #[test]
    fn values_are_taken_literally() {
        for password in [
            r#"a%b#c;d\e"f'g"#,
            "=a=",
            "#a",
            ";a",
            "a # b",
            "'a'",
            "\"a\"",
            r"a\",
            r"\n",
            "%(x)s",
        ] {
            let parsed = read(&format!("[mqtt]\npassword = {password}\nhost = h\n"));
            assert_eq!(value(&parsed, "mqtt", "password"), password);
            assert_eq!(value(&parsed, "mqtt", "host"), "h", "after {password}");
        }
    }

    #[test]
    fn keys_and_sections_are_read_in_any_case_and_with_windows_line_ends() {
        let parsed = read("\u{feff}[MQTT]\r\nHost = a\\\r\nPORT=1\r\n");
        assert_eq!(value(&parsed, "mqtt", "host"), "a\\");
        assert_eq!(value(&parsed, "mqtt", "port"), "1");
    }

    #[test]
    fn an_unknown_key_is_warned_about_with_the_nearest_known_name() {
        let parsed = read("[mqtt]\nkeepalive = 5\ntls_cacerts = x\n[main]\nzzz = 1\n");
        assert!(parsed.warnings[0].contains("did you mean [mqtt] keepalive_seconds?"));
        assert!(parsed.warnings[1].contains("did you mean [mqtt] tls_ca_certs?"));
        assert_eq!(
            parsed.warnings[2],
            "app.conf: [main] zzz is unknown and ignored"
        );
    }

    #[test]
    fn a_line_without_a_value_is_a_fault_and_swallows_no_other_key() {
        let parsed = read("[mqtt]\nhost\nport = 1\n");
        assert_eq!(
            parsed.faults[0].0,
            "app.conf, line 2: [mqtt] expected \"key = value\""
        );
    }
}
