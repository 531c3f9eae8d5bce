//! The files that balena reads: in step with the package, and with no more rights than needed.

fn file(name: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_version_of_the_application_is_that_of_the_package() {
    let version = format!("version: {}", env!("CARGO_PKG_VERSION"));
    assert!(
        file("balena.yml").lines().any(|line| line == version),
        "{version}"
    );
    assert!(
        file("balena.yml")
            .lines()
            .any(|line| line == "type: sw.application")
    );
}

#[test]
fn the_container_runs_without_rights_and_stops_in_an_orderly_way() {
    let dockerfile = file("Dockerfile.template");
    let user = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("USER "))
        .next_back();
    assert!(
        user.is_some_and(|user| !user.starts_with("root") && !user.starts_with("0")),
        "{user:?}"
    );
    assert!(dockerfile.contains("\nSTOPSIGNAL SIGTERM\n"));
    assert!(
        dockerfile.lines().any(|line| line.starts_with("CMD [")),
        "exec form"
    );
    // Pinned, and not the deprecated images of balenalib.
    for image in dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
    {
        assert!(
            image.contains(':') && !image.contains("latest") && !image.contains("balenalib"),
            "{image}"
        );
    }
    let compose = file("docker-compose.yml");
    for line in [
        "read_only: true",
        "restart: always",
        "io.balena.features.supervisor-api",
    ] {
        assert!(compose.contains(line), "{line}");
    }
    assert!(
        !compose.contains("ports:"),
        "Redis is not to be reached from outside"
    );
}

#[test]
fn redis_is_set_up_so_that_it_forgets_nothing() {
    let compose = file("docker-compose.yml");
    for setting in [
        "--appendonly yes",
        "--maxmemory-policy noeviction",
        "--maxmemory ",
        "redis-data:/data",
    ] {
        assert!(compose.contains(setting), "{setting}");
    }
}

#[test]
fn the_build_context_has_what_the_build_needs() {
    let kept = file(".dockerignore");
    for needed in ["!Cargo.toml", "!Cargo.lock", "!src", "!app.conf"] {
        assert!(kept.lines().any(|line| line == needed), "{needed}");
    }
}
