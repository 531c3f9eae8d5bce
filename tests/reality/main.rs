//! The world of the simulation held against reality: its Redis gives the answers of a real one,
//! and its broker tells the link what a real Mosquitto tells it.
//!
//! `SCRIPTS=2000 cargo test --test reality redis` plays more scripts, `SCRIPT=7` repeats one;
//! `REDIS_SERVER` names another server than the `redis-server` of the system.

#![allow(
    dead_code,
    reason = "the world in memory can do more than is asked for here"
)]

#[path = "../simulation/broker.rs"]
mod broker;
#[path = "../simulation/client.rs"]
mod client;
#[path = "../simulation/device.rs"]
mod device;
#[path = "../simulation/faults.rs"]
mod faults;
#[path = "../simulation/ledger.rs"]
mod ledger;
#[path = "../simulation/others.rs"]
mod others;
#[path = "../simulation/queue.rs"]
mod queue;
#[path = "../simulation/redis.rs"]
mod redis;
#[path = "../simulation/schedule.rs"]
mod schedule;
#[path = "../simulation/settling.rs"]
mod settling;
#[path = "../simulation/store.rs"]
mod store;
#[path = "../simulation/stream.rs"]
mod stream;
#[path = "../support/mod.rs"]
mod support;
#[path = "../simulation/trace.rs"]
mod trace;
#[path = "../simulation/watch.rs"]
mod watch;
#[path = "../simulation/world.rs"]
mod world;

use support::random;

mod both;
mod conversations;

mod scripts;
