//! The files that balena and Docker read: valid, in step with the package, and with no more
//! rights than needed.

mod support;

use std::collections::BTreeSet;

use serde_yaml_ng::Value;

/// What a service may say on balena, by its reference of docker-compose.yml fields. Others are
/// ignored or refused there.
const SERVICE_KEYS: &str = "build cap_add cap_drop cgroup_parent command cpu_shares cpu_quota cpuset \
    devices depends_on dns dns_opt dns_search domainname entrypoint environment expose extra_hosts \
    group_add healthcheck hostname image ipc labels mac_address mem_limit mem_reservation \
    network_mode networks oom_kill_disable oom_score_adj pid pids_limit ports privileged read_only \
    restart security_opt shm_size stop_grace_period stop_signal sysctls tmpfs ulimits user \
    userns_mode volumes working_dir";
const BUILD_KEYS: &str = "context dockerfile args cache_from extra_hosts labels shm_size target";
const TOP_KEYS: &str = "version volumes services networks";

fn path(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_yaml_ng::from_str(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value:?}"))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    let mapping = value.as_mapping().unwrap_or_else(|| panic!("{value:?}"));
    mapping.keys().map(text).collect()
}

fn words(list: &str) -> BTreeSet<&str> {
    list.split_whitespace().collect()
}

/// What the Dockerfile says with this instruction, in its order.
fn instructions<'a>(dockerfile: &'a str, name: &'a str) -> Vec<&'a str> {
    let lines = dockerfile.lines();
    lines
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .collect()
}

#[test]
fn docker_compose_accepts_the_file() {
    support::compose_accepts(path("docker-compose.yml").as_ref());
}

#[test]
fn no_key_is_used_that_balena_does_not_support() {
    let compose = yaml("docker-compose.yml");
    assert!(keys(&compose).is_subset(&words(TOP_KEYS)));
    let services = &compose["services"];
    assert_eq!(keys(services), words("redis mqtthandler"));
    for name in keys(services) {
        let service = &services[name];
        let unknown: Vec<_> = keys(service)
            .difference(&words(SERVICE_KEYS))
            .copied()
            .collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        if !service["build"].is_null() {
            assert!(keys(&service["build"]).is_subset(&words(BUILD_KEYS)));
        }
        if !service["depends_on"].is_null() {
            assert!(service["depends_on"].is_sequence(), "only the array form");
        }
        // No variables are filled in there, and only named volumes exist.
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let (volume, _) = text(volume).split_once(':').expect("the short form");
            assert!(keys(&compose["volumes"]).contains(volume), "{volume}");
        }
    }
    assert!(!file("docker-compose.yml").contains("${"));
}

#[test]
fn redis_is_set_up_so_that_it_forgets_nothing_and_is_not_reached_from_outside() {
    let compose = yaml("docker-compose.yml");
    let redis = &compose["services"]["redis"];
    let command = text(&redis["command"]);
    for setting in [
        "--appendonly yes",
        "--maxmemory-policy noeviction",
        "--maxmemory ",
    ] {
        assert!(command.contains(setting), "{setting}");
    }
    assert_eq!(text(&redis["volumes"][0]), "redis-data:/data");
    assert_eq!(text(&redis["restart"]), "always");
    for service in ["redis", "mqtthandler"] {
        let open =
            ["ports", "network_mode"].map(|key| !compose["services"][service][key].is_null());
        assert_eq!(open, [false, false], "{service}");
    }
}

#[test]
fn both_run_without_rights_and_within_bounds_and_the_supervisor_is_reached() {
    let compose = yaml("docker-compose.yml");
    for name in ["redis", "mqtthandler"] {
        let service = &compose["services"][name];
        assert_eq!(text(&service["restart"]), "always");
        assert_eq!(service["read_only"], Value::Bool(true));
        assert_eq!(text(&service["cap_drop"][0]), "ALL");
        assert_eq!(text(&service["security_opt"][0]), "no-new-privileges");
        assert!(text(&service["mem_limit"]).ends_with('m'));
    }
    // Without rights the first process cannot become another user.
    assert_eq!(text(&compose["services"]["redis"]["user"]), "999:999");
    let service = &compose["services"]["mqtthandler"];
    assert_eq!(
        text(&service["labels"]["io.balena.features.supervisor-api"]),
        "1"
    );
    for name in ["REDIS_HOST", "REDIS_PORT", "REDIS_DB"] {
        assert!(service["environment"][name].is_string(), "{name}");
    }
}

#[test]
fn the_image_is_pinned_and_its_user_has_no_rights() {
    let dockerfile = file("Dockerfile.template");
    let users = instructions(&dockerfile, "USER");
    assert_eq!(users, ["65534:65534"]);
    assert_eq!(instructions(&dockerfile, "STOPSIGNAL"), ["SIGTERM"]);
    let commands = instructions(&dockerfile, "CMD");
    assert!(commands[0].starts_with('['), "exec form: {commands:?}");
    for image in instructions(&dockerfile, "FROM") {
        assert!(
            image.contains(':') && !image.contains("latest") && !image.contains("balenalib"),
            "{image}"
        );
    }
    let rust = format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&rust), "the declared version builds it");
}

#[test]
fn the_build_context_has_what_the_build_needs() {
    let kept = file(".dockerignore");
    let kept: Vec<&str> = kept
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let dockerfile = file("Dockerfile.template");
    for copied in instructions(&dockerfile, "COPY") {
        if copied.starts_with("--from") {
            continue;
        }
        let mut names: Vec<&str> = copied.split(' ').collect();
        names.pop();
        for name in names {
            assert!(kept.contains(&name), "{name} is copied and ignored");
        }
    }
    let first = instructions(&dockerfile, "COPY")[0];
    for name in ["Cargo.toml", "Cargo.lock", "build.rs"] {
        assert!(first.contains(name), "{name} is not copied");
    }
    assert!(kept.contains(&"balena.yml"), "balena does not see it");
    // Cargo wants every named target to exist before it builds anything.
    let manifest = file("Cargo.toml");
    let (mut kind, mut name) = ("", "");
    for line in manifest.lines().chain(["["]) {
        if line.starts_with('[') && !name.is_empty() {
            let here = [
                format!("{kind}/{name}.rs"),
                format!("{kind}/{name}/main.rs"),
            ];
            let found = here
                .iter()
                .any(|target| dockerfile.contains(target.as_str()));
            assert!(found, "{kind}/{name} is missing in the Dockerfile");
        }
        match line {
            "[[test]]" => (kind, name) = ("tests", ""),
            "[[bench]]" => (kind, name) = ("benches", ""),
            _ if line.starts_with('[') => (kind, name) = ("", ""),
            _ if !kind.is_empty() => {
                if let Some(quoted) = line.strip_prefix("name = ") {
                    name = quoted.trim_matches('"');
                }
            }
            _ => {}
        }
    }
}

#[test]
fn balena_yml_says_what_balena_wants_to_know() {
    let application = yaml("balena.yml");
    assert_eq!(text(&application["type"]), "sw.application");
    assert_eq!(text(&application["version"]), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&application["name"]), env!("CARGO_PKG_NAME"));
    assert!(!text(&application["description"]).is_empty());
    let repository = &application["assets"]["repository"];
    assert_eq!(text(&repository["type"]), "blob.asset");
    let url = text(&repository["data"]["url"]);
    assert!(url.starts_with("https://"));
    // The one placeholder: the button leads to the same place, and who forks it is told so.
    let button = format!("https://dashboard.balena-cloud.com/deploy?repoUrl={url})");
    assert!(file("README.md").contains(&button), "{button}");
    assert!(file("CONTRIBUTING.md").contains(url), "{url}");
    let data = &application["data"];
    let devices: Vec<&str> = data["supportedDeviceTypes"]
        .as_sequence()
        .expect("a list")
        .iter()
        .map(text)
        .collect();
    assert!(devices.contains(&text(&data["defaultDeviceType"])));
    // What has armv6 only cannot run it.
    assert!(!devices.contains(&"raspberry-pi"), "{devices:?}");
    let variables = data["applicationEnvironmentVariables"]
        .as_sequence()
        .expect("a list of maps");
    let settings = file("app.conf");
    for variable in variables {
        let names = keys(variable);
        assert_eq!(names.len(), 1, "one key each: {names:?}");
        for name in names {
            assert!(settings.contains(name), "{name} is no setting");
            assert!(!name.contains("PASSWORD"), "no secrets in examples");
        }
    }
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let folder = tempfile::tempdir().expect("folder");
    let unit = file(".ci/mqtt-handler.service");
    // It is the file that must exist here, too.
    let unit = unit.replace("/usr/local/bin/mqtt-handler", "/bin/true");
    let there = folder.path().join("mqtt-handler.service");
    std::fs::write(&there, unit).expect("unit");
    let analyze = |arguments: &[&str]| {
        let mut command = std::process::Command::new("systemd-analyze");
        command.args(arguments).arg(&there).output()
    };
    let Ok(verified) = analyze(&["verify"]) else {
        return;
    };
    let complaints = String::from_utf8_lossy(&verified.stderr);
    assert!(
        verified.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    // Of 100: everything, 0: nothing that could be taken away.
    let rated = analyze(&["security", "--offline=true", "--threshold=20"]).expect("systemd");
    let report = String::from_utf8_lossy(&rated.stdout);
    assert!(rated.status.success(), "{report}");
}
