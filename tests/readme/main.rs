//! What the README and the pages in docs/ print must work as printed, and what they list must be
//! all there is.

mod commands;
mod log;
mod pages;
mod protocol;
mod redis;
mod security;
mod settings;
#[path = "../support/mod.rs"]
mod support;
