//! Puts the gate between the MQTT library and the network: the linker leads five functions of the
//! library through `src/mqtt/library.rs`.

use std::path::Path;

/// The functions are internal ones: another release may lack them or call them otherwise.
const LIBRARY: [(&str, &str); 2] = [("paho-mqtt", "0.14.0"), ("paho-mqtt-sys", "0.11.0")];
const WRAPPED: [&str; 5] = [
    "Socket_new",
    "SSLSocket_getPendingRead",
    "WebSocket_getch",
    "WebSocket_getdata",
    "WebSocket_putdatas",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.lock");
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let lock = std::fs::read_to_string(Path::new(&root).join("Cargo.lock"))
        .expect("Cargo.lock belongs to this program and is missing");
    for (name, version) in LIBRARY {
        assert!(
            lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")),
            "{name} is not {version}: src/mqtt/library.rs wraps internal functions of the C library \
             ({}); see whether they still exist, take the same arguments and are called from \
             another file of the library, then change the version here and in Cargo.toml",
            WRAPPED.join(", ")
        );
    }
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    assert!(
        target == "linux",
        "this program is made for Linux: its linker has --wrap, and src/mqtt/library.rs relies on it"
    );
    for function in WRAPPED {
        println!("cargo:rustc-link-arg=-Wl,--wrap={function}");
    }
}
