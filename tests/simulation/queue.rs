//! What is going to happen, in order: the clock of the world jumps from one event to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use mqtt_handler::bridge;
use mqtt_handler::link;

use crate::client::{Packet, Reply};

/// Something that happens at one moment. Numbers tell what it belongs to: whoever no longer
/// exists by then is not reached.
#[derive(Debug)]
pub enum Event {
    /// A sensor appends a measurement.
    Sensor,
    /// The remote side sends a command.
    Command,
    /// A fault of the schedule is due, begins, and ends.
    Due(usize),
    /// The state is put down that a restart of Redis brings back.
    Snapshot(usize),
    Begins(usize),
    Ends(usize),
    /// The device starts again.
    Starts,
    /// A thread has waited long enough: the process and the turn it was in.
    PollerWakes(u32, u64),
    PublisherWakes(u32, u64),
    /// A message between the threads arrives.
    ToPoller(u32, Box<bridge::Input>),
    ToPublisher(u32, link::Input),
    LetterArrives(u32, link::Letter),
    /// A request arrives at Redis, its answer at the device, or its patience is over.
    RedisReceives(u64),
    RedisAnswers(u64),
    RedisPatience(u64),
    RedisUnblocks(u64),
    /// What the client of the broker is doing has gone on, or its patience is over.
    Handshake(u64),
    Written(u64),
    OperationPatience(u64),
    ToBroker(u64, Packet),
    ToClient(u64, Reply),
    BrokerSeesEnd(u64),
    KeepAlive(u64),
    /// A cursor that somebody has set must be obeyed by now: which one, in which process.
    CursorIsDue(u64, u32),
    /// The world looks whether all has recovered.
    Look,
}

#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Item>>,
    serial: u64,
}

struct Item {
    at: Instant,
    serial: u64,
    event: Event,
}

impl Queue {
    pub fn push(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.heap.push(Reverse(Item {
            at,
            serial: self.serial,
            event,
        }));
    }

    pub fn pop(&mut self) -> Option<(Instant, Event)> {
        self.heap.pop().map(|Reverse(item)| (item.at, item.event))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Item) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}
