//! `make pictures`: what people would rather look at than read, drawn into docs/pictures from real
//! runs. PART leaves all but one out: soak, bytes, memory, demo or status.
//!
//! `MINUTES` is the length of the soak; `SERIES` names the record of one that has run already
//! (`SERIES=… make soak` writes it). `PEER` is a program that runs beside ours where memory is
//! measured, `PEER_NAME` what it is called.

mod bytes;
mod memory;
mod paper;
mod screen;
mod soak;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::error::Error;

type Outcome = Result<(), Box<dyn Error>>;
/// Its name, and what draws it.
type Part = (&'static str, fn() -> Outcome);

fn main() -> Outcome {
    let wanted = std::env::var("PART").unwrap_or_default();
    let parts: [Part; 5] = [
        ("demo", screen::demo),
        ("status", screen::status),
        ("bytes", bytes::draw),
        ("memory", memory::draw),
        ("soak", soak::draw),
    ];
    for (name, draw) in parts {
        if wanted.is_empty() || wanted == name {
            println!("{name} …");
            draw()?;
        }
    }
    Ok(())
}
