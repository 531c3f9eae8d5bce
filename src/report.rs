//! What the program prints for people: `--status` and `--check`.

pub mod check;
pub mod status;
