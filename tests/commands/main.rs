//! Remote commands from outside: a real broker, and the supervisor as a real HTTP server.

mod broker;
mod contract;
mod limits;
mod pressure;
mod reboot;
mod send;
mod storm;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Service, World, holds_within, wait_until};

const REQUEST: &str = "iot-projekt/device/u1/request";
const BROADCAST: &str = "iot-projekt/device/broadcast/control";

/// Starts the service and waits until it hears commands.
fn start(world: &World, settings: &[(&'static str, &str)]) -> Service {
    let service = world.start_with(settings);
    hears(world, REQUEST);
    service
}

/// Publishes a harmless command until it is answered, and forgets the answers.
fn hears(world: &World, topic: &str) {
    let probe = format!("probe-{}", world.receiver.total_messages());
    wait_until("commands are heard", || {
        world.receiver.publish(
            topic,
            json!({"command": "none", "id": probe}).to_string(),
            false,
        );
        holds_within(Duration::from_millis(300), || {
            replies(world)
                .iter()
                .any(|reply| reply["id"] == probe.as_str())
        })
    });
}

/// Replies without those to the probes.
fn replies(world: &World) -> Vec<Value> {
    world.receiver.replies()
}

/// Sends a command and waits for its reply, which is told by its ID.
fn ask(world: &World, topic: &str, mut request: Value) -> Value {
    let id = format!("ask-{}", world.receiver.total_messages());
    request["id"] = json!(id);
    world.receiver.publish(topic, request.to_string(), false);
    let mut found = None;
    wait_until(&format!("{request} is answered"), || {
        found = replies(world)
            .into_iter()
            .find(|reply| reply["id"] == id.as_str());
        found.is_some()
    });
    let mut reply = found.expect("a reply");
    reply.as_object_mut().expect("an object").remove("id");
    reply
}

/// Sends raw bytes and waits for the next reply.
fn ask_raw(world: &World, payload: &[u8]) -> Value {
    ask_raw_on(world, REQUEST, payload)
}

fn ask_raw_on(world: &World, topic: &str, payload: &[u8]) -> Value {
    let before = replies(world).len();
    world.receiver.publish(topic, payload, false);
    wait_until("raw bytes are answered", || replies(world).len() > before);
    replies(world).swap_remove(before)
}

fn error_of(reply: &Value) -> String {
    reply["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{reply} is no error"))
        .to_string()
}
