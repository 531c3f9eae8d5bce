use super::*;
use crate::commands::reply::Reply;
use crate::commands::world::all;
use proptest::prelude::*;

fn rejection(text: &str) -> Rejection {
    parse(text.as_bytes(), &all()).expect_err(text)
}

#[test]
fn commands_are_matched_without_regard_to_case() {
    for name in ["reboot", "REBOOT", "ReBoot"] {
        let request = parse(format!(r#"{{"command":"{name}"}}"#).as_bytes(), &all());
        let command = request.expect("a request").command;
        assert!(matches!(command, Command::Reboot(Reboot { force: false })));
    }
}

#[test]
fn every_command_that_is_known_is_implemented() {
    for name in crate::config::COMMANDS {
        let text = format!(r#"{{"command":"{name}","key":"k","value":1}}"#);
        let request = parse(text.as_bytes(), &all()).expect(name);
        assert_eq!(request.command.name(), name);
    }
}

#[test]
fn what_cannot_be_read_is_answered_without_a_name() {
    let long = "secret ".repeat(2000);
    for (text, reason) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("\"reboot\"", "not a JSON object"),
        (&format!("\"{long}\""), "not a JSON object"),
        (&format!("\"{long}\" {{"), "not JSON"),
        (r#"{"\ud800":1}"#, "not JSON"),
        ("{}", "\"command\" is missing"),
        (r#"{"command":7}"#, "\"command\" is not a string"),
    ] {
        let Rejection { command, error, .. } = rejection(text);
        assert_eq!(command, None);
        assert!(error.contains(reason) && error.len() < 150, "{error}");
    }
}

#[test]
fn an_id_is_kept_to_the_letter() {
    for id in [
        "null",
        "1.50",
        "12345678901234567890123",
        r#"{"a":[1, 2]}"#,
        "\"x\"",
        r#"[[[[[[[["[[[\"[["]]]]]]]]"#,
    ] {
        let rejection = rejection(&format!(r#"{{"id":{id},"command":"dance"}}"#));
        assert_eq!(rejection.id.as_deref().map(RawValue::get), Some(id));
        assert_eq!(rejection.command.as_deref(), Some("dance"));
    }
}

#[test]
fn an_id_that_would_break_a_reader_is_refused_and_left_out() {
    let nested = |levels| ["[".repeat(levels), "]".repeat(levels)].concat();
    for id in [
        nested(9),
        nested(30_000),
        format!("\"{}\"", "x".repeat(1023)),
        "\"\\ud800\"".into(),
        "1e999".into(),
    ] {
        let rejection = rejection(&format!(r#"{{"id":{id},"command":"get_status"}}"#));
        assert!(rejection.id.is_none());
        assert_eq!(rejection.command.as_deref(), Some("get_status"));
        assert!(rejection.error.starts_with("\"id\" ") && rejection.error.len() < 150);
    }
    let fits = format!(r#"{{"id":"{}","command":"get_status"}}"#, "x".repeat(1022));
    assert!(parse(fits.as_bytes(), &all()).is_ok());
}

#[test]
fn a_long_key_is_refused() {
    let text = |bytes| {
        format!(
            r#"{{"command":"get_config","key":"{}"}}"#,
            "k".repeat(bytes)
        )
    };
    assert!(parse(text(MAX_KEY).as_bytes(), &all()).is_ok());
    assert!(rejection(&text(MAX_KEY + 1)).error.contains("1025 bytes"));
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = ["[".repeat(10_000), "]".repeat(10_000)].concat();
    let ignored = format!(r#"{{"command":"reboot","x":{deep}}}"#);
    assert!(parse(ignored.as_bytes(), &all()).is_ok());
    let read = format!(r#"{{"command":{deep}}}"#);
    assert!(parse(read.as_bytes(), &all()).is_err());
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let word = prop_oneof![
        Just("reboot".to_string()),
        Just("SET_config".to_string()),
        Just("get_config".to_string()),
        Just("send_measurements".to_string()),
        Just("mqtt_sender:interval".to_string()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        word.clone().prop_map(serde_json::Value::from),
    ];
    let names = prop_oneof![
        4 => prop::sample::select(vec!["command", "key", "value", "id", "min_id", "max_id", "count", "force"])
            .prop_map(String::from),
        1 => word,
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::hash_map(names.clone(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A command, or an error that can be answered as JSON.
fn always_answered(payload: &[u8]) {
    if let Err(rejection) = parse(payload, &all()) {
        assert!(!rejection.error.is_empty() && rejection.error.len() < 700);
        let reply = Reply {
            id: rejection.id,
            ..Reply::error(rejection.command.as_deref(), rejection.error)
        };
        let reply: serde_json::Value = serde_json::from_slice(&reply.to_json()).expect("a reply");
        assert!(reply.get("error").is_some() && reply.get("command").is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50_000, failure_persistence: None, ..Default::default() })]
    #[test]
    fn arbitrary_bytes_become_a_command_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        always_answered(&payload);
    }

    #[test]
    fn arbitrary_json_becomes_a_command_or_an_error(value in json()) {
        always_answered(value.to_string().as_bytes());
    }
}
