//! What this device allows a remote side: the settings `allowed_commands` and `config_keys`.

use crate::config::{COMMANDS, Permissions};
use crate::model::quote::Quoted;

/// # Errors
/// There is no such command, or it is not allowed here.
pub fn command(permissions: &Permissions, name: &str) -> Result<(), String> {
    if !COMMANDS.contains(&name) {
        let known = COMMANDS.join(", ");
        return Err(format!("unknown command; known are {known}"));
    }
    if !permissions.commands.iter().any(|allowed| allowed == name) {
        return Err(format!(
            "{name} is not allowed on this device (setting main.allowed_commands)"
        ));
    }
    Ok(())
}

/// # Errors
/// The key is not one of those that may be touched.
pub fn key(permissions: &Permissions, key: &str) -> Result<(), String> {
    if permissions.keys.iter().any(|pattern| glob(pattern, key)) {
        return Ok(());
    }
    Err(format!(
        "the key {} is not allowed on this device (setting main.config_keys)",
        Quoted(key)
    ))
}

/// Whether a pattern with `*` (any characters) and `?` (one character) matches all of a text.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last * stands, and up to where it has been tried.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, tried)) => {
                    star = Some((at, tried + 1));
                    p = at + 1;
                    t = tried + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_restrict_commands_and_keys() {
        let some = Permissions {
            commands: vec!["get_config".into()],
            keys: vec!["sensor:?:*".into()],
        };
        assert!(command(&some, "get_config").is_ok());
        assert!(command(&some, "reboot").is_err_and(|error| error.contains("not allowed")));
        assert!(command(&some, "dance").is_err_and(|error| error.contains("unknown")));
        assert!(key(&some, "sensor:1:rate").is_ok());
        assert!(key(&some, "sensor:12:rate").is_err());
    }

    #[test]
    fn globs_match_the_whole_text() {
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "abc"),
            ("a*c", "ac"),
            ("*a*b*", "xaxbx"),
            ("ü?", "üß"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "ab"),
            ("?", ""),
            ("a*c", "abd"),
            ("*ab", "aab c"),
        ] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }
}
