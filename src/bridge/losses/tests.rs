use std::time::{Duration, Instant};

use super::super::tests::rules;
use super::super::{Action, Answer, Input, Look, Page, RedisFailure, Rules};
use super::*;
use crate::model::measurement::Batch;
use crate::model::settings::RawSettings;
use crate::model::stream::{Remembered, Saved};

const INTERVAL: Duration = Duration::from_secs(1);

/// A Redis with a stream of these IDs, nothing else, and all that the bridge wants to be done.
struct World {
    bridge: Bridge,
    now: Instant,
    ids: Vec<u64>,
    /// The first and the last ID of each list, and each cursor.
    lists: Vec<(u64, u64)>,
    cursors: Vec<String>,
    refuses: fn(&Request) -> Option<RedisFailure>,
    waits: Instant,
}

impl World {
    fn new(ids: &[u64]) -> World {
        let rules = Rules {
            ack_timeout: INTERVAL,
            ..rules()
        };
        let mut bridge = Bridge::new(rules, 1);
        let now = Instant::now();
        let limit = usize::MAX;
        bridge.handle(now, Input::LinkUp { link: 1, limit });
        World {
            bridge,
            now,
            ids: ids.to_vec(),
            lists: Vec::new(),
            cursors: Vec::new(),
            refuses: |_| None,
            waits: now,
        }
    }

    fn runs(&mut self) {
        self.now += INTERVAL;
        loop {
            match self.bridge.next(self.now) {
                Action::Ask(request) => {
                    let refused = (self.refuses)(&request);
                    let answer = refused.map_or_else(|| Ok(self.answer(request)), Err);
                    self.bridge.handle(self.now, Input::Redis(answer));
                }
                Action::Publish { list, .. } => self.lists.push((list.first.ms, list.last.ms)),
                Action::Wait(until) if until > self.now => return self.waits = until,
                _ => {}
            }
        }
    }

    fn answer(&mut self, request: Request) -> Answer {
        let id = |ms: &u64| StreamId::new(*ms, 0);
        let count = self.ids.len() as u64;
        let stream = Stream::Present(Extent {
            newest: self.ids.last().map_or(StreamId::ZERO, id),
            length: count,
            added: Some(count),
            first: self.ids.first().map(id),
            deleted: StreamId::ZERO,
        });
        let last_id = match self.cursors.last() {
            Some(cursor) => crate::model::settings::Raw::Text(cursor.clone()),
            None => crate::model::settings::Raw::Missing,
        };
        let settings = RawSettings {
            last_id,
            ..RawSettings::default()
        };
        match request {
            Request::Hazards => Answer::Hazards(Vec::new()),
            Request::Remember => Answer::Remembered(Remembered::default()),
            Request::Settings => Answer::Settings(settings),
            Request::Look { after } => Answer::Look(Look {
                stream,
                oldest: self.ids.iter().map(id).find(|id| *id > after),
                waiting: None,
                used_percent: None,
            }),
            Request::Page { after, .. } => {
                let behind: Vec<StreamId> =
                    self.ids.iter().map(id).filter(|id| *id > after).collect();
                Answer::Page(Page {
                    settings,
                    stream: Some(stream),
                    entries: behind.len(),
                    at_end: true,
                    list: behind.first().map(|first| Batch {
                        payload: Vec::new(),
                        first: *first,
                        last: behind[behind.len() - 1],
                        count: behind.len(),
                    }),
                    ..Page::default()
                })
            }
            Request::Save(save) => {
                self.cursors.push(save.cursor);
                Answer::Saved(Saved::Yes)
            }
            _ => Answer::Done,
        }
    }
}

#[test]
fn a_list_of_the_old_stream_moves_no_cursor_in_a_new_one_where_somebody_else_has_set_it() {
    for (anew, list) in [([10, 11], (10, 11)), ([10, 200], (10, 200))] {
        let mut world = World::new(&[100, 101]);
        world.runs();
        assert_eq!(world.lists, [(100, 101)]);
        world.ids = anew.to_vec();
        world.runs();
        world.bridge.handle(world.now, Input::Delivered(Ok(())));
        world.runs();
        assert_eq!(world.cursors, [""; 0], "{anew:?}");
        assert_eq!(world.lists, [(100, 101), list]);
    }
}

#[test]
fn what_cannot_be_asked_for_is_not_waited_for() {
    let mut world = World::new(&[100]);
    world.refuses = |request| match request {
        Request::NoteAccount(_) => Some(RedisFailure::Refused("OOM".into())),
        _ => None,
    };
    world.runs();
    world.refuses = |request| match request {
        Request::Connect => None,
        Request::Remember => Some(RedisFailure::Refused("LOADING".into())),
        _ => Some(RedisFailure::Lost("it restarts".into())),
    };
    for _ in 0..100 {
        world.runs();
        assert!(world.waits > world.now + INTERVAL / 100);
    }
}
