//! Secrets that are settings: what they are good for, and that nothing of them is seen.

mod support;

use std::path::Path;
use std::process::Command;

use support::certificates::Certificates;
use support::proxy::Proxy;
use support::service::command;
use support::{Mosquitto, Redis, Service, free_port, wait_until};

/// A broker with a listener for each of these certificates; the last one demands one of the
/// client.
struct Site {
    redis: Redis,
    certificates: Certificates,
    ports: Vec<u16>,
    _broker: Mosquitto,
    _folder: tempfile::TempDir,
}

const SERVERS: [&str; 3] = ["good", "expired", "good"];
const GOOD: usize = 0;
const EXPIRED: usize = 1;
const DEMANDING: usize = 2;

impl Site {
    fn start() -> Site {
        let folder = tempfile::tempdir().expect("folder");
        let certificates = Certificates::make(folder.path());
        let mut extra = "allow_anonymous true\n".to_string();
        let mut ports = Vec::new();
        for (n, server) in SERVERS.into_iter().enumerate() {
            let port = free_port();
            extra += &format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {}\n",
                certificates.path("ca.pem"),
                certificates.path(&format!("{server}.pem")),
                certificates.path(&format!("{server}.key")),
                n == DEMANDING
            );
            ports.push(port);
        }
        Site {
            redis: Redis::start(&[]),
            certificates,
            ports,
            _broker: Mosquitto::start(&extra),
            _folder: folder,
        }
    }

    fn service(&self, listener: usize, more: &[(&'static str, String)]) -> Service {
        let mut settings = vec![("MQTT_HOST", "localhost".to_string())];
        settings.extend_from_slice(more);
        Service::between(self.redis.port, self.ports[listener], &settings)
    }

    fn text(&self, name: &str) -> String {
        self.certificates.text(name)
    }
}

fn in_base64(text: &str) -> String {
    openssl::base64::encode_block(text.as_bytes())
}

#[test]
fn a_ca_alone_in_any_form_checks_the_broker() {
    let site = Site::start();
    let (ca, other) = (site.text("ca.pem"), site.text("other-ca.pem"));
    let several = format!("{other}{ca}");
    for form in [
        ca.clone(),
        ca.replace("\r\n", "\n").replace('\n', "\\n"),
        ca.replace("\r\n", " ").replace('\n', " "),
        in_base64(&ca).replace('\n', ""),
        in_base64(&several),
    ] {
        let service = site.service(GOOD, &[("MQTT_TLS_CA_PEM", form)]);
        service.wait_for_log("connected to localhost");
    }
    let service = site.service(GOOD, &[("MQTT_TLS_CA_PEM", other)]);
    service.wait_for_log("not from a CA that this device trusts (see mqtt.tls_ca_pem)");
    let service = site.service(EXPIRED, &[("MQTT_TLS_CA_PEM", ca)]);
    service.wait_for_log("the certificate of the broker has expired");
}

#[test]
fn a_client_certificate_is_shown_and_a_wrong_one_is_told() {
    let site = Site::start();
    let settings = |certificate: &str, key: &str| {
        [
            ("MQTT_TLS_CA_PEM", in_base64(&site.text("ca.pem"))),
            ("MQTT_TLS_CERT_PEM", in_base64(&site.text(certificate))),
            ("MQTT_TLS_KEY_PEM", site.text(key)),
        ]
    };
    for (certificate, key, expected) in [
        ("client.pem", "client.key", "connected to localhost"),
        (
            "client-other.pem",
            "client-other.key",
            "the broker does not trust the client certificate (see mqtt.tls_cert_pem)",
        ),
        (
            "client-expired.pem",
            "client-expired.key",
            "the broker says that the client certificate has expired (see mqtt.tls_cert_pem)",
        ),
        (
            "client.pem",
            "client-new.key",
            "the key in mqtt.tls_key_pem does not belong to the certificate in mqtt.tls_cert_pem",
        ),
    ] {
        let service = site.service(DEMANDING, &settings(certificate, key));
        service.wait_for_log(expected);
    }
    let [ca, certificate, key] = settings("client.pem", "client.key");
    // One of the two as a file, which may be the part that is no secret.
    let path = |name: &str| site.certificates.path(name);
    for (text, file) in [
        (key, ("MQTT_TLS_CERTFILE", path("client.pem"))),
        (certificate, ("MQTT_TLS_KEYFILE", path("client.key"))),
    ] {
        let service = site.service(DEMANDING, &[ca.clone(), text, file]);
        service.wait_for_log("connected to localhost");
    }
    let service = site.service(DEMANDING, &[ca]);
    service.wait_for_log("the broker wants a client certificate (see mqtt.tls_certfile");
}

#[test]
fn no_secret_is_seen_in_the_process_in_its_log_or_on_a_disk() {
    let site = Site::start();
    let password = "hunter2-secret";
    let key = site.text("client.key");
    let temporary = tempfile::tempdir().expect("folder");
    let settings = [
        ("MQTT_TLS_CA_PEM", site.text("ca.pem")),
        ("MQTT_TLS_CERT_PEM", site.text("client.pem")),
        ("MQTT_TLS_KEY_PEM", key.clone()),
        ("MQTT_USERNAME", "device".into()),
        ("MQTT_PASSWORD", password.into()),
        ("REDIS_PASSWORD", password.into()),
        ("RUST_LOG", "trace".into()),
        ("TMPDIR", temporary.path().display().to_string()),
        ("HOME", temporary.path().display().to_string()),
    ];
    let service = site.service(DEMANDING, &settings);
    service.wait_for_log("connected to localhost");
    let line = key.lines().nth(1).expect("a line of the key");
    let process = format!("/proc/{}", service.pid());
    let environment = std::fs::read(format!("{process}/environ")).expect("environ");
    let environment = String::from_utf8_lossy(&environment);
    assert!(
        environment.contains("MQTT_USERNAME=device"),
        "it can be read"
    );
    let log = service.log().join("\n");
    let check = command()
        .args(["--check", "/dev/null"])
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("the binary");
    let shown = [check.stdout, check.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("tls_key_pem"), "{shown}");
    for text in [&environment, log.as_str(), &shown] {
        for secret in [line, "hunter2", "BEGIN"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    // Nothing was written where it works or where temporary files go.
    let names = |folder: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(folder).expect("folder");
        entries
            .map(|entry| entry.expect("entry").file_name())
            .collect()
    };
    assert_eq!(names(Path::new(&format!("{process}/cwd"))), ["app.conf"]);
    assert!(names(temporary.path()).is_empty());
    // The files of the texts are of memory, and sealed.
    let files = std::fs::read_dir(format!("{process}/fd")).expect("fd");
    let files = files.map_while(Result::ok).map(|file| file.path());
    let texts: Vec<_> = files
        .filter(|file| {
            std::fs::read_link(file).is_ok_and(|to| to.to_string_lossy().contains("memfd"))
        })
        .collect();
    assert_eq!(texts.len(), 3);
    for text in texts {
        assert!(std::fs::write(text, "x").is_err(), "not sealed");
    }
}

#[test]
fn no_core_is_left_of_a_process_that_dies() {
    use std::os::unix::process::ExitStatusExt;
    let redis = Redis::start(&[]);
    let mut service = Service::between(redis.port, free_port(), &[]);
    service.wait_for_log("no connection to");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.pid()));
    let limits = limits.expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.expect("the limit").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "of the soft and the hard limit");
    support::signal("ABRT", service.pid());
    let status = service.wait_for_end();
    assert!(
        status.signal().is_some() && !status.core_dumped(),
        "{status:?}"
    );
}

#[test]
fn no_process_of_the_same_user_can_look_into_this_one() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let site = Site::start();
    let folder = tempfile::tempdir().expect("folder");
    // Where everybody may read it, for it runs as a user without rights if this one is root.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("permissions");
    std::fs::write(folder.path().join("app.conf"), "").expect("app.conf");
    let program = folder.path().join("mqtt-handler");
    std::fs::copy(env!("CARGO_BIN_EXE_mqtt-handler"), &program).expect("copy");
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let log = folder.path().join("log");
    command
        .current_dir(folder.path())
        .env_clear()
        .env("REDIS_PORT", site.redis.port.to_string())
        .env("MQTT_PORT", site.ports[GOOD].to_string())
        .env("MQTT_TLS_CA_PEM", site.text("ca.pem"))
        .stderr(std::fs::File::create(&log).expect("log"));
    let mut child = None;
    wait_until(
        "no other test starts a process that still holds the copy open",
        || {
            child = command.spawn().ok();
            child.is_some()
        },
    );
    let mut child = child.expect("the binary");
    // It can still read its own files of memory.
    let connected = support::holds_within(support::PATIENCE, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("connected to localhost"))
    });
    let files = ["environ", "mem", "maps"];
    let owners = files.map(|name| {
        let file = std::fs::metadata(format!("/proc/{}/{name}", child.id()));
        file.map_or(u32::MAX, |file| file.uid())
    });
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()));
    let limits = limits.expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<_> = core.expect("core").split_whitespace().collect();
    assert_eq!(
        core[4..6],
        ["0", "0"],
        "no core dump, and nobody may allow one"
    );
    drop(child.kill());
    drop(child.wait());
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(connected, "{log}");
    assert_eq!(owners, [0; 3], "they are root's, whoever runs it");
}

fn passwords(folder: &Path, password: &str) {
    let status = Command::new("mosquitto_passwd")
        .args(["-c", "-b"])
        .arg(folder.join("passwords"))
        .args(["device", password])
        .status();
    assert!(status.is_ok_and(|status| status.success()));
}

#[test]
fn a_token_that_changes_is_read_at_the_next_connect() {
    let folder = tempfile::tempdir().expect("folder");
    passwords(folder.path(), "first token");
    let token = folder.path().join("token");
    let mut broker = Mosquitto::start_in(
        folder,
        "allow_anonymous false\npassword_file {folder}/passwords",
    );
    let redis = Redis::start(&[]);
    let proxy = Proxy::start(broker.port);
    let settings = [
        ("MQTT_USERNAME", "device".to_string()),
        ("MQTT_PASSWORD_FILE", token.display().to_string()),
    ];
    let service = Service::between(redis.port, proxy.port, &settings);
    service.wait_for_log(
        "cannot be read: No such file or directory (os error 2) (see mqtt.password_file)",
    );
    drop(service);
    std::fs::write(&token, "first token\n").expect("token");
    let service = Service::between(redis.port, proxy.port, &settings);
    service.wait_for_log("connected to 127");
    broker.stop();
    passwords(broker.folder.path(), "second token");
    std::fs::write(&token, "second token\r\n").expect("token");
    broker.start_again();
    wait_until("the second token is used", || {
        service.count_log("connected to 127") >= 2
    });
    assert_eq!(service.count_log("first token"), 0);
    assert_eq!(service.count_log("second token"), 0);
    std::fs::write(&token, "an old token").expect("token");
    let service = Service::between(redis.port, proxy.port, &settings);
    service.wait_for_log("(see mqtt.username, mqtt.password_file");
}

#[test]
fn what_is_no_secret_of_its_kind_is_refused_and_not_shown() {
    let folder = tempfile::tempdir().expect("folder");
    let certificates = Certificates::make(folder.path());
    let text = |name: &str| certificates.text(name);
    let refused = |variables: &[(&str, String)], expected: &str| {
        std::fs::write(folder.path().join("app.conf"), "").expect("app.conf");
        let output = command()
            .current_dir(folder.path())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the binary");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{expected}\n{message}");
        assert!(!message.contains("BEGIN") && !message.contains("hunter2"));
        assert_eq!(message.lines().count(), 2, "{message}");
    };
    let file = certificates.path("ca.pem");
    refused(
        &[("MQTT_TLS_CA_PEM", file.clone())],
        "variable MQTT_TLS_CA_PEM ([mqtt] tls_ca_pem) = ***: expected a certificate in PEM form",
    );
    refused(
        &[("MQTT_TLS_CA_PEM", text("client.key"))],
        "tls_ca_pem) = ***: expected a certificate in PEM form",
    );
    refused(
        &[
            ("MQTT_TLS_CERT_PEM", text("client.pem")),
            ("MQTT_TLS_KEY_PEM", text("client-encrypted.key")),
        ],
        "tls_key_pem) = ***: the key is encrypted; `openssl pkey",
    );
    refused(
        &[
            ("MQTT_TLS_CA_PEM", text("ca.pem")),
            ("MQTT_TLS_CA_CERTS", file),
        ],
        "tls_ca_pem) = ***: tls_ca_certs is set as well, and only one of them can count",
    );
    refused(
        &[
            ("MQTT_TLS_CERT_PEM", text("client.pem")),
            ("MQTT_TLS_CERTFILE", certificates.path("client.pem")),
            ("MQTT_TLS_KEY_PEM", text("client.key")),
        ],
        "tls_cert_pem) = ***: tls_certfile is set as well, and only one of them can count",
    );
    refused(
        &[
            ("MQTT_TLS_CERT_PEM", text("client.pem")),
            ("MQTT_TLS_KEY_PEM", text("client.key")),
            ("MQTT_TLS_KEYFILE", certificates.path("client.key")),
        ],
        "tls_key_pem) = ***: tls_keyfile is set as well, and only one of them can count",
    );
    refused(
        &[("MQTT_TLS_KEY_PEM", text("client.key"))],
        "tls_key_pem) = ***: a certificate and its key belong together, set tls_certfile or tls_cert_pem too",
    );
    refused(
        &[
            ("MQTT_PASSWORD", "hunter2".into()),
            ("MQTT_PASSWORD_FILE", "/run/token".into()),
        ],
        "variable MQTT_PASSWORD_FILE ([mqtt] password_file) = \"/run/token\": password is set as well",
    );
}
