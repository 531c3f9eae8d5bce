//! Topic names and filters: the placeholders in the settings, what is well formed, and whether
//! a filter matches a name.

/// Who this device is. Fills the placeholders and the constant part of every measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub device_uuid: String,
    pub device_type: String,
    pub app_id: String,
    pub app_name: String,
}

/// Fills `%(device_uuid)s`, `%(device_type)s`, `%(app_id)s`, `%(app_name)s` and `%%`.
///
/// # Errors
/// The offending piece of the template, where a `%` starts none of these.
pub fn expand(template: &str, identity: &Identity) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (placeholder, value) = [
            ("%%", "%"),
            ("%(device_uuid)s", &identity.device_uuid),
            ("%(device_type)s", &identity.device_type),
            ("%(app_id)s", &identity.app_id),
            ("%(app_name)s", &identity.app_name),
        ]
        .into_iter()
        .find(|(placeholder, _)| rest.starts_with(placeholder))
        .ok_or_else(|| offending(rest))?;
        out.push_str(value);
        rest = &rest[placeholder.len()..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The placeholder as the user wrote it, for the error message.
fn offending(rest: &str) -> String {
    match rest.find(")s") {
        Some(end) if rest.starts_with("%(") => rest[..end + 2].to_string(),
        _ => rest.chars().take(2).collect(),
    }
}

/// Checks a topic that is published to.
///
/// # Errors
/// What is wrong, as half a sentence.
pub fn check_name(topic: &str) -> Result<(), &'static str> {
    check_common(topic)?;
    if topic.contains(['+', '#']) {
        return Err("a topic to publish to cannot hold the wildcards + and #");
    }
    Ok(())
}

/// Checks a topic filter that is subscribed to.
///
/// # Errors
/// What is wrong, as half a sentence.
pub fn check_filter(filter: &str) -> Result<(), &'static str> {
    check_common(filter)?;
    let levels: Vec<&str> = filter.split('/').collect();
    for (index, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || index + 1 != levels.len()) {
            return Err("the wildcard # must be the whole last level");
        }
        if level.contains('+') && *level != "+" {
            return Err("the wildcard + must be a whole level");
        }
    }
    Ok(())
}

fn check_common(topic: &str) -> Result<(), &'static str> {
    if topic.is_empty() {
        return Err("a topic cannot be empty");
    }
    if topic.len() > 65535 {
        return Err("a topic has at most 65535 bytes");
    }
    if topic.contains('\0') {
        return Err("a topic cannot hold the character U+0000");
    }
    Ok(())
}

/// Whether a message published to `name` reaches a subscription to `filter` (MQTT 5, 4.7).
pub fn matches(filter: &str, name: &str) -> bool {
    // A shared subscription, $share/<group>/<filter>, gets what its filter matches.
    let filter = match filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((_group, filter)) => filter,
        None => filter,
    };
    // Wildcards do not reach into the broker's own topics.
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    let mut filters = filter.split('/');
    loop {
        match (filters.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            device_uuid: "u1".into(),
            device_type: "pi".into(),
            app_id: "7".into(),
            app_name: "A %(app_id)s".into(),
        }
    }

    #[test]
    fn placeholders_are_filled_once_and_a_doubled_percent_sign_is_one() {
        let filled = expand(
            "a/%(device_uuid)s/%(device_type)s/%(app_id)s/100%%",
            &identity(),
        );
        assert_eq!(filled.as_deref(), Ok("a/u1/pi/7/100%"));
        // A value that looks like a placeholder is not filled again.
        assert_eq!(
            expand("%(app_name)s", &identity()).as_deref(),
            Ok("A %(app_id)s")
        );
    }

    #[test]
    fn an_unknown_placeholder_is_named() {
        assert_eq!(expand("x/%(uuid)s/y", &identity()), Err("%(uuid)s".into()));
        assert_eq!(expand("x/%s", &identity()), Err("%s".into()));
        assert_eq!(expand("x/%", &identity()), Err("%".into()));
        assert_eq!(expand("x/%ü", &identity()), Err("%ü".into()));
    }

    #[test]
    fn names_take_no_wildcards_and_filters_take_them_as_whole_levels() {
        assert!(check_name("a/b").is_ok());
        for bad in ["", "a/+", "a/#", "a\0b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["a/+/b", "#", "+", "a/#", "$share/g/a/+"] {
            assert!(check_filter(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a/#/b", "a/b#", "a+/b"] {
            assert!(check_filter(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn filters_match_as_the_protocol_says() {
        for (filter, name) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("+/+", "/x"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("#", "a/b"),
            ("$share/g/a/+", "a/b"),
            ("$SYS/#", "$SYS/x"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in [
            ("a/b", "a/B"),
            ("a/+", "a"),
            ("a/+", "a/b/c"),
            ("a/b/#", "a"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
        ] {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }
}
