//! As the build.rs of the program: the library that is fuzzed refers to the wrapped functions.

fn main() {
    for function in [
        "Socket_new",
        "SSLSocket_getPendingRead",
        "WebSocket_getch",
        "WebSocket_getdata",
        "WebSocket_putdatas",
    ] {
        println!("cargo:rustc-link-arg=-Wl,--wrap={function}");
    }
}
