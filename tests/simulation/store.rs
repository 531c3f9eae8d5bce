//! The connection of the device to Redis: one request at a time, and what becomes of it when
//! Redis is away, frozen or restarted.

use std::collections::BTreeMap;
use std::time::Duration;

use mqtt_handler::bridge::{Answer, Input, RedisFailure, Request};
use mqtt_handler::model::stream::Stream;

use crate::queue::Event;
use crate::redis::PATIENCE;
use crate::world::World;

type Reply = Result<Answer, RedisFailure>;

#[derive(Default)]
pub struct Store {
    /// The Redis that it is connected to.
    epoch: Option<u64>,
    number: u64,
    /// The request whose answer is awaited.
    pending: Option<u64>,
    /// On the way there, and what Redis was by then.
    flying: BTreeMap<u64, (u64, Request)>,
    answers: BTreeMap<u64, Reply>,
    /// The state of the stream at the end of the last page: with another one now, nothing is
    /// known about the moment between.
    pub state: Option<Stream>,
    pub asked: u64,
}

fn lost(why: &str) -> Reply {
    Err(RedisFailure::Lost(why.into()))
}

impl World {
    pub fn ask(&mut self, request: Request) {
        self.store.asked += 1;
        self.store.number += 1;
        let number = self.store.number;
        self.store.pending = Some(number);
        let connected = request == Request::Connect || self.store.epoch == Some(self.redis.epoch);
        if self.redis.mood.down > 0 || !connected {
            return self.reply(number, lost("there is no connection"));
        }
        let more = match &request {
            Request::Await { patience, .. } => *patience,
            _ => Duration::ZERO,
        };
        let flight = (self.redis.epoch, request);
        self.store.flying.insert(number, flight);
        let at = self.now + self.redis_latency();
        self.queue.push(at, Event::RedisReceives(number));
        let at = self.now + PATIENCE + more;
        self.queue.push(at, Event::RedisPatience(number));
    }

    pub fn redis_receives(&mut self, number: u64) {
        let Some((epoch, request)) = self.store.flying.get(&number).cloned() else {
            return;
        };
        if epoch != self.redis.epoch {
            self.store.flying.remove(&number);
            return;
        }
        if self.redis.mood.frozen > 0 {
            return self.redis.stalled.push(number);
        }
        self.store.flying.remove(&number);
        if let Some(reply) = self.serve(number, &request) {
            self.reply(number, reply);
        }
    }

    /// The answer is on its way.
    pub fn reply(&mut self, number: u64, reply: Reply) {
        self.store.answers.insert(number, reply);
        let at = self.now + self.redis_latency();
        self.queue.push(at, Event::RedisAnswers(number));
    }

    pub fn redis_answers(&mut self, number: u64) {
        let Some(reply) = self.store.answers.remove(&number) else {
            return;
        };
        if self.store.pending != Some(number) {
            return;
        }
        self.store.pending = None;
        match &reply {
            Err(RedisFailure::Lost(_)) => (self.store.epoch, self.store.state) = (None, None),
            _ if self.store.epoch.is_none() => self.store.epoch = Some(self.redis.epoch),
            _ => {}
        }
        self.watch_answer(&reply);
        self.poller_has_answer(Input::Redis(reply));
    }

    pub fn redis_patience(&mut self, number: u64) {
        if self.store.pending == Some(number) {
            self.redis.blocked.take_if(|b| b.number == number);
            self.store.answers.insert(number, lost("no answer in 5 s"));
            self.redis_answers(number);
        }
    }

    /// Every connection to Redis breaks.
    pub fn redis_breaks(&mut self) {
        self.redis.epoch += 1;
        self.redis.stalled.clear();
        self.redis.blocked = None;
        self.store.flying.clear();
        if let Some(number) = self.store.pending {
            self.store.answers.remove(&number);
            self.reply(number, lost("the connection broke"));
        }
    }

    pub fn redis_thaws(&mut self) {
        for number in std::mem::take(&mut self.redis.stalled) {
            self.queue.push(self.now, Event::RedisReceives(number));
        }
    }

    /// The process is gone: its requests may still arrive, its answers do not.
    pub fn store_is_gone(&mut self) {
        self.store.pending = None;
        (self.store.epoch, self.store.state) = (None, None);
        self.store.answers.clear();
        self.redis.blocked = None;
    }
}
