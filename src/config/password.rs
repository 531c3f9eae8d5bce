//! The password for the broker, which may be a token that expires.

use std::io::Read;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::secret::Secret;

/// Bytes of a password, the most that MQTT has room for.
const MAX: u64 = 65535;

/// Where the password comes from.
#[derive(Clone, Debug)]
pub enum Password {
    /// The setting itself; empty: none.
    Text(Secret),
    /// Read at every connect.
    File(PathBuf),
}

impl Password {
    /// The password of now; empty: none.
    ///
    /// # Errors
    /// Why there is none, in words and with the setting to look at.
    pub fn read(&self) -> Result<Secret, String> {
        let file = match self {
            Password::Text(text) => return Ok(text.clone()),
            Password::File(file) => file,
        };
        let fail = |why: String| {
            let file = file.display();
            Err(format!(
                "the password file {file} {why} (see mqtt.password_file)"
            ))
        };
        // With room for all of it, so that no piece is left behind where a longer one was made.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX as usize + 3));
        let read =
            std::fs::File::open(file).and_then(|file| file.take(MAX + 3).read_to_end(&mut bytes));
        if let Err(error) = read {
            return fail(format!("cannot be read: {error}"));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return fail("is not encoded in UTF-8".into());
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        match text.len() as u64 {
            0 => fail("is empty".into()),
            1..=MAX => Ok(text.into()),
            _ => fail(format!("holds more than {MAX} bytes")),
        }
    }

    /// Whether one is wanted at all.
    pub fn is_set(&self) -> bool {
        match self {
            Password::Text(text) => !text.is_empty(),
            Password::File(_) => true,
        }
    }

    /// Section and name of the setting, for "see …".
    pub fn setting(&self) -> &'static str {
        match self {
            Password::Text(_) => "mqtt.password",
            Password::File(_) => "mqtt.password_file",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_of_the_file_is_cut_off_and_what_is_no_password_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let password = Password::File(file.clone());
        let told = |why: &str| {
            let file = file.display();
            format!("the password file {file} {why} (see mqtt.password_file)")
        };
        let missing = password.read().unwrap_err();
        assert!(
            missing.contains("cannot be read: No such file"),
            "{missing}"
        );
        let long = "x".repeat(65535);
        for (content, expected) in [
            ("a b", "a b"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
            (&format!("{long}\r\n"), &long),
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(password.read().unwrap().as_str(), expected);
        }
        for (content, why) in [
            (&b"\n"[..], "is empty"),
            (b"\xff", "is not encoded in UTF-8"),
            (format!("{long}x").as_bytes(), "holds more than 65535 bytes"),
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(password.read(), Err(told(why)));
        }
    }
}
