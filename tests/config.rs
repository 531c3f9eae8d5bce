//! The configuration seen from outside: what arrives at the servers, and what a person is told.

mod support;

use std::process::Output;

use support::service::command;
use support::{Mosquitto, Receiver, Redis, Service, wait_until};

/// Runs the binary on a file with this text; it must end by itself.
fn run(text: &str, variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("app.conf"), text).expect("app.conf");
    command()
        .current_dir(folder.path())
        .envs(variables.iter().copied())
        .output()
        .expect("the binary")
}

/// What a person is told about this configuration, which must be refused.
fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    let output = run(text, variables);
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{message}");
    message
}

#[test]
fn passwords_arrive_at_the_broker_unchanged() {
    for password in [
        r#"a%b#c;d\e"f'g"#,
        "=leading",
        "trailing=",
        "#hash",
        r"ends in\",
        "ünïcode x",
    ] {
        for by_variable in [false, true] {
            let folder = tempfile::tempdir().expect("folder");
            let status = std::process::Command::new("mosquitto_passwd")
                .args(["-c", "-b"])
                .arg(folder.path().join("passwords"))
                .args(["device", password])
                .status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "mosquitto_passwd"
            );
            let broker = Mosquitto::start_in(
                folder,
                "allow_anonymous false\npassword_file {folder}/passwords",
            );
            let redis = Redis::start(&[]);
            let receiver = Receiver::start_as(broker.port, &["#"], Some(("device", password)));
            redis.fill(1, 1);
            let mut variables = vec![
                ("REDIS_HOST", "127.0.0.1".into()),
                ("REDIS_PORT", redis.port.to_string()),
                ("MQTT_HOST", "127.0.0.1".into()),
                ("MQTT_PORT", broker.port.to_string()),
            ];
            let mut text = String::new();
            if by_variable {
                variables.push(("MQTT_USERNAME", "device".into()));
                variables.push(("MQTT_PASSWORD", password.into()));
            } else {
                text = format!("[mqtt]\nusername = device\npassword = {password}\n");
            }
            let service = Service::start_with_file(&text, &variables);
            wait_until(&format!("the measurement came with {password:?}"), || {
                receiver.distinct() == 1
            });
            assert_eq!(service.count_log(password), 0, "the password is in the log");
        }
    }
}

#[test]
fn every_fault_is_told_at_once_with_place_value_and_way_out() {
    let text = "[main]\ninterval_seconds = soon\nbatch_max_count = 0\nbatch_max_bytes = 1\nkeep_sent = -1\n\
                allowed_commands = reboot, dance\n\
                [redis]\nport = 0\ndb = x\n\
                [mqtt]\nport = 65536\nkeepalive_seconds = 1.5\ntls_enable = maybe\n\
                topic_values = a/%(uuid)s\ntopic_response = a/+/b\nversion = 4\n\
                ack_timeout_seconds = 0\nreply_qos = 2\ntls_certfile = /nowhere/cert.pem\n\
                tls_ca_certs = app.conf\n";
    let message = refused(text, &[("MQTT_TOPIC_BROADCAST", "a/#/b")]);
    for expected in [
        "app.conf: [main] interval_seconds (variable INTERVAL_SECONDS) = \"soon\": expected a number of seconds from 0",
        "[main] batch_max_count (variable BATCH_MAX_COUNT) = \"0\": expected a whole number from 1 to 100000",
        "[main] batch_max_bytes (variable BATCH_MAX_BYTES) = \"1\": expected a whole number from 128",
        "[main] keep_sent (variable KEEP_SENT) = \"-1\": expected a whole number from 0",
        "\"dance\" is none of all, none, reboot, get_config, set_config, get_status, cancel, send_measurements",
        "[redis] port (variable REDIS_PORT) = \"0\": expected a whole number from 1 to 65535",
        "[redis] db (variable REDIS_DB) = \"x\"",
        "[mqtt] port (variable MQTT_PORT) = \"65536\"",
        "[mqtt] keepalive_seconds (variable MQTT_KEEPALIVE_SECONDS) = \"1.5\"",
        "[mqtt] tls_enable (variable MQTT_TLS_ENABLE) = \"maybe\": expected one of true, 1, yes, on",
        "[mqtt] topic_values (variable MQTT_TOPIC_VALUES) = \"a/%(uuid)s\": unknown placeholder \"%(uuid)s\"",
        "[mqtt] topic_response (variable MQTT_TOPIC_RESPONSE) = \"a/+/b\": a topic to publish to cannot hold the wildcards",
        "[mqtt] version (variable MQTT_VERSION) = \"4\": expected one of auto, 5, 3.1.1",
        "[mqtt] ack_timeout_seconds (variable MQTT_ACK_TIMEOUT_SECONDS) = \"0\"",
        "[mqtt] reply_qos (variable MQTT_REPLY_QOS) = \"2\": expected one of 0, 1",
        "[mqtt] tls_certfile (variable MQTT_TLS_CERTFILE) = \"/nowhere/cert.pem\": the file cannot be read: No such file",
        "[mqtt] tls_ca_certs (variable MQTT_TLS_CA_CERTS) = \"app.conf\": the file holds no certificate in PEM form",
        "a certificate and its key belong together, set tls_keyfile or tls_key_pem too",
        "variable MQTT_TOPIC_BROADCAST ([mqtt] topic_broadcast) = \"a/#/b\": the wildcard # must be the whole last level",
    ] {
        assert!(
            message.contains(expected),
            "{expected}\nis missing in\n{message}"
        );
    }
    assert_eq!(message.lines().count(), 20, "{message}");
}

#[test]
fn an_endless_loop_of_topics_is_refused() {
    let message = refused("[mqtt]\ntopic_request = iot-projekt/device/#\n", &[]);
    for name in ["topic_response", "topic_values"] {
        assert!(message.contains(&format!("[mqtt] {name}")), "{message}");
    }
    assert!(
        message.contains("\"iot-projekt/device/#\" matches it"),
        "{message}"
    );
    let message = refused(
        "",
        &[("MQTT_TOPIC_STATUS", "iot-projekt/device/broadcast/control")],
    );
    assert!(message.contains("variable MQTT_TOPIC_STATUS"), "{message}");
}

#[test]
fn a_password_is_never_shown_in_a_fault() {
    let secret = "hunter2-\u{1F511}";
    let text = format!("[mqtt]\npassword = {secret}\nport = x\n[redis]\npassword = {secret}\n");
    assert!(!refused(&text, &[]).contains("hunter2"));
    // Also where the file itself cannot be understood.
    for tail in ["", "port = 1\n"] {
        let message = refused(&format!("[mqtt]\npassword {secret}\n{tail}"), &[]);
        assert!(message.contains("app.conf, line"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_variable_that_is_no_utf8_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("app.conf"), "").expect("app.conf");
    let output = command()
        .current_dir(folder.path())
        .env("MQTT_TOPIC_VALUES", std::ffi::OsStr::from_bytes(b"a/\xff"))
        .env("MQTT_PORT", "x")
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    for part in [
        "variable MQTT_TOPIC_VALUES ([mqtt] topic_values): the value is not encoded in UTF-8",
        "variable MQTT_PORT",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn insecure_tls_without_tls_is_refused() {
    let message = refused("[mqtt]\ntls_insecure = yes\n", &[]);
    assert!(
        message.contains("[mqtt] tls_insecure (variable MQTT_TLS_INSECURE) = \"yes\": TLS is off"),
        "{message}"
    );
}

#[test]
fn wide_permissions_and_a_password_in_clear_are_warned_about() {
    let wide = "whoever may publish a command can read and change every string in Redis; a line that restricts it, with a key of another container as an example: config_keys = mqtt_sender:enabled, mqtt_sender:interval, mqtt_sender:last_id, camera:interval (variable CONFIG_KEYS)";
    let clear = "mqtt.password goes over the network in clear, as everything else does, because TLS is off (see mqtt.tls_enable)";
    let text =
        "[redis]\nport = 1\n[mqtt]\nhost = 127.0.0.1\nport = 1\nusername = u\npassword = hunter2\n";
    let service = Service::start_with_file(text, &[]);
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("app.conf"), text).expect("app.conf");
    let check = |more: &[(&str, &str)]| {
        let output = command()
            .current_dir(folder.path())
            .arg("--check")
            .envs(more.iter().copied())
            .output();
        String::from_utf8(output.expect("the binary").stdout).expect("UTF-8")
    };
    let shown = check(&[]);
    for warning in [wide, clear] {
        service.wait_for_log(warning);
        assert_eq!(service.count_log(warning), 1);
        assert!(shown.contains(warning), "{shown}");
    }
    // The line can be copied as it stands, and other settings silence it, too.
    let keys = "mqtt_sender:enabled, mqtt_sender:interval, mqtt_sender:last_id, camera:interval";
    for (name, value) in [
        ("CONFIG_KEYS", keys),
        ("ALLOWED_COMMANDS", "reboot, send_measurements"),
    ] {
        assert!(!check(&[(name, value)]).contains("whoever"), "{name}");
    }
    assert!(check(&[("ALLOWED_COMMANDS", "get_config")]).contains("can read every string"));
    assert!(!check(&[("MQTT_TLS_ENABLE", "1")]).contains("in clear"));
    assert!(!check(&[("MQTT_PASSWORD", "")]).contains("hunter2"));
}

#[test]
fn a_missing_file_is_named() {
    let output = command()
        .arg("/nowhere/x.conf")
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("/nowhere/x.conf: the file cannot be read")
    );
}

#[test]
fn an_empty_variable_counts_as_unset_and_an_unknown_key_is_a_warning() {
    let text = "[mqtt]\nhost = 127.0.0.1\nport = 1\nkeepalive = 7\n";
    let variables = [
        ("MQTT_PORT", String::new()),
        ("MQTT_HOST", "127.0.0.2".into()),
    ];
    let service = Service::start_with_file(text, &variables);
    service.wait_for_log("did you mean [mqtt] keepalive_seconds?");
    service.wait_for_log("no connection to 127.0.0.2:1:");
}

#[test]
fn the_shipped_file_is_valid_and_documents_every_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/app.conf");
    let text = std::fs::read_to_string(path).expect("app.conf");
    let config = mqtt_handler::config::Config::load(std::path::Path::new(path));
    // The one about its wide defaults, and no other.
    assert!(config.is_ok_and(
        |config| config.warnings.len() == 1 && config.warnings[0].contains("config_keys is *")
    ));
    for key in mqtt_handler::config::KEYS {
        let line = format!("{} =", key.name);
        assert!(
            text.lines().any(|l| l.starts_with(&line)),
            "{} is missing",
            key.name
        );
        assert!(
            text.contains(&format!("Variable: {}", key.variable)),
            "{} is missing",
            key.variable
        );
    }
}
