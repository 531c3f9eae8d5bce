//! MQTT-Handler: sends every measurement of a Redis stream over MQTT, with confirmation, and
//! executes a few remote commands.
//!
//! The promise is in docs/delivery.md: at least once, in order, nothing lost. Everything below
//! serves it.
//!
//! # Rooms
//! Arrows between rooms go down only.
//!
//! * `service`: the threads and what goes between them: thin loops that wait, feed a machine and
//!   do what it says. `report`: `--status` and `--check`. `cli`, `logging`: options, form of the log.
//! * `commands`: what a remote side may ask for, one file a command.
//! * `bridge`: decides about measurements. `link`: decides about the connection to the broker.
//!   Machines: time, results and seeds come in, actions and notices go out.
//! * `store`: every Redis key and command of this program. `mqtt`: every call of the MQTT library.
//! * `redis`: the connection to Redis and the bytes on it. `net`: the way to both servers.
//! * `config`: the INI file and the environment, checked, as one type.
//! * `model`: the forms of things: IDs and cursors, topics, lists, settings, the status record.
//!
//! ```text
//! Redis ──► poller ──── Letter ───► publisher ──► Paho ──► broker
//!              ▲                     │  ▲  │
//!              └─────── Event ───────┘  │  └─── Incoming ──► dispatcher ──► Redis,
//!                                       └────── Letter ──────────┘          supervisor
//! ```

pub mod bridge;
pub mod cli;
pub mod commands;
pub mod config;
pub mod link;
pub mod logging;
pub mod model;
pub mod mqtt;
mod net;
mod random;
mod redis;
pub mod report;
pub mod service;
pub mod store;
