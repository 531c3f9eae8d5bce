//! Where a setting comes from: the INI file, the environment, or its default.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;

use zeroize::Zeroizing;

use super::ini::{self, Entries};
use super::item::{Key, Refusal, Setting};
use super::items::KEYS;

/// Where a value was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Default,
    File,
    Variable,
}

/// One setting with its value, as it may be shown to people.
#[derive(Clone)]
pub struct Shown {
    pub key: &'static Key,
    pub origin: Origin,
    shown: String,
}

impl Shown {
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// Something wrong with the configuration, in one line that names the culprit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was found, in the file and in the environment.
pub struct Source {
    file: String,
    entries: Entries,
    /// By name, and none of them is empty.
    variables: HashMap<&'static str, Zeroizing<String>>,
    pub warnings: Vec<String>,
    pub faults: Vec<Fault>,
}

impl Source {
    /// Looks into the text of the file and for the variables.
    ///
    /// # Errors
    /// What keeps the file from being read as INI at all.
    pub fn read(
        file: &str,
        text: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Source, Fault> {
        let ini::Parsed {
            entries,
            warnings,
            mut faults,
        } = ini::parse(file, text)?;
        let mut variables = HashMap::new();
        for key in KEYS {
            let Some(value) = variable(key.variable) else {
                continue;
            };
            let Ok(value) = value.into_string().map(Zeroizing::new) else {
                faults.push(Fault(format!(
                    "variable {} ([{}] {}): the value is not encoded in UTF-8",
                    key.variable, key.section, key.name
                )));
                continue;
            };
            // In a variable a secret can begin or end with a blank, and then it is meant.
            let value = match key.secret {
                true => value,
                false => Zeroizing::new(value.trim().to_string()),
            };
            // Empty counts as unset: Balena Cloud cannot delete a variable of a fleet for
            // one device, only empty it.
            if !value.is_empty() {
                variables.insert(key.variable, value);
            }
        }
        Ok(Source {
            file: file.to_string(),
            entries,
            variables,
            warnings,
            faults,
        })
    }

    /// The text of a value, and where it was found.
    fn raw(&self, key: &'static Key) -> (&str, Origin) {
        if let Some(value) = self.variables.get(key.variable) {
            return (value, Origin::Variable);
        }
        let place = (key.section.to_string(), key.name.to_string());
        match self.entries.get(&place) {
            Some(value) if !value.is_empty() => (value, Origin::File),
            _ => (key.default, Origin::Default),
        }
    }

    /// Whether a setting is set nowhere.
    pub fn is_default(&self, key: &'static Key) -> bool {
        self.raw(key).1 == Origin::Default
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// Why it is none.
    pub fn get<T>(&self, setting: &'static Setting<T>) -> Result<T, Fault> {
        let key = &setting.key;
        (setting.parse)(self.raw(key).0).map_err(|refusal| match refusal {
            Refusal::NotAllowed => self.fault(key, &format!("expected {}", key.allowed)),
            Refusal::Because(reason) => self.fault(key, &reason),
        })
    }

    /// Every setting as text, for the log and `--check`.
    pub fn shown(&self) -> Vec<Shown> {
        let value = |key: &&'static Key| {
            let (text, origin) = self.raw(key);
            let shown = match key.secret && !text.is_empty() {
                true => "***".into(),
                false => text.to_string(),
            };
            Shown { key, origin, shown }
        };
        KEYS.iter().map(value).collect()
    }

    /// Puts a fault into words: where the value came from, the value, what is allowed.
    pub fn fault(&self, key: &'static Key, allowed: &str) -> Fault {
        let Key {
            section,
            name,
            variable,
            ..
        } = key;
        let (text, origin) = self.raw(key);
        let place = match origin {
            Origin::Variable => format!("variable {variable} ([{section}] {name})"),
            Origin::File => format!("{}: [{section}] {name} (variable {variable})", self.file),
            Origin::Default => format!("default of [{section}] {name} (variable {variable})"),
        };
        let shown = match key.secret {
            true => "***".into(),
            false => format!("{text:?}"),
        };
        Fault(format!("{place} = {shown}: {allowed}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::items;

    fn read(text: &str, variables: &[(&str, &[u8])]) -> Source {
        use std::os::unix::ffi::OsStringExt;
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from_vec(value.to_vec()))
        };
        Source::read("f", text, variable).unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn a_variable_beats_the_file_and_an_empty_one_counts_as_unset() {
        let source = read(
            "[mqtt]\nhost = from-file\nport = 77\nusername =\n",
            &[
                ("MQTT_HOST", b" from-variable\n"),
                ("MQTT_PORT", b""),
                ("MQTT_USERNAME", b" "),
            ],
        );
        assert_eq!(source.get(&items::MQTT_HOST).unwrap(), "from-variable");
        assert_eq!(source.get(&items::MQTT_PORT), Ok(77));
        assert_eq!(source.raw(&items::MQTT_USERNAME.key), ("", Origin::Default));
    }

    #[test]
    fn a_variable_that_is_no_utf8_is_a_fault_that_names_it() {
        let source = read("[mqtt]\nport = 1\n", &[("MQTT_PORT", b"\xff1")]);
        assert_eq!(
            source.faults[0].0,
            "variable MQTT_PORT ([mqtt] port): the value is not encoded in UTF-8"
        );
    }

    #[test]
    fn a_secret_stays_as_it_is_and_is_not_shown() {
        let source = read("", &[("MQTT_PASSWORD", b" hunter2 ")]);
        let password = source.get(&items::MQTT_PASSWORD).unwrap();
        assert_eq!(password.as_str(), " hunter2 ");
        assert_eq!(format!("{password:?}"), "***");
        let shown = source.shown();
        let value = shown.iter().find(|value| value.key.name == "password");
        assert!(shown.iter().all(|value| !value.shown().contains("hunter")));
        assert!(value.is_some());
        assert!(
            !source
                .fault(&items::MQTT_PASSWORD.key, "x")
                .0
                .contains("hunter")
        );
    }
}
