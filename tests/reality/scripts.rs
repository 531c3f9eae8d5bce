//! Random scripts: what the service asks of Redis, and what others do there meanwhile.

use std::time::Duration;

use mqtt_handler::bridge::{Request, Save};
use mqtt_handler::model::compression::Compression;
use mqtt_handler::model::measurement::BatchLimits;
use mqtt_handler::model::settings::Raw;
use mqtt_handler::model::stream::{Extent, Former, Sent};
use mqtt_handler::model::stream_id::{Cursor, StreamId};

use crate::random::Random;

#[derive(Clone, Debug)]
pub enum Step {
    /// The service asks.
    Ask(Request),
    /// The service has counted so many losses and dead letters, and writes its status.
    Status(u64, u64, Option<Save>),
    Others(Deed),
    /// The service waits for an entry, and others do this as soon as it waits.
    Meanwhile(Request, Deed),
}

/// What others do, each in one step.
#[derive(Clone, Debug)]
pub enum Deed {
    /// XADD, of an entry with so many bytes beside its number.
    Add(StreamId, usize),
    /// XADD of so many entries from this one on, all sent at once.
    Burst(StreamId, u64),
    /// XDEL
    Delete(StreamId),
    /// XTRIM MAXLEN
    Keep(u64),
    /// XTRIM MINID
    KeepFrom(StreamId),
    /// XSETID, with entries-added and max-deleted-entry-id where the server knows them.
    Raise(StreamId, Option<(u64, StreamId)>),
    /// XGROUP CREATE MKSTREAM, of a group with this number.
    Group(u64),
    /// DEL of the stream.
    Drop,
    /// A list in the place of the stream.
    OtherStream,
    /// One of the settings, in the order in which they are read; `None`: DEL.
    Set(usize, Option<Vec<u8>>),
    /// A list in the place of the cursor.
    OtherCursor,
    /// `maxmemory` is used up, or not.
    Full(bool),
    /// It is a replica, or not.
    ReadOnly(bool),
    /// A string in the place of the dead letters, or not.
    NoCopies(bool),
    /// SCRIPT FLUSH
    ForgetScripts,
    /// The server stops and starts again.
    Restart,
}

/// The script of a seed. There are few IDs and few texts, so that they often meet.
pub fn script(seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps: Vec<Step> = (0..60).map(|_| step(&mut random)).collect();
    if random.percent(5) {
        let at = random.below(steps.len() as u64) as usize;
        steps.insert(at, Step::Others(Deed::Restart));
    }
    steps
}

fn step(random: &mut Random) -> Step {
    match random.below(20) {
        0..=9 => Step::Others(deed(random)),
        10 => Step::Meanwhile(wait(random), deed(random)),
        11 => {
            let account = random.percent(50).then(|| save(random));
            Step::Status(random.below(9), random.below(9), account)
        }
        _ => Step::Ask(request(random)),
    }
}

fn id(random: &mut Random) -> StreamId {
    match random.below(40) {
        0 => StreamId::ZERO,
        1 => StreamId::MAX,
        2..=5 => StreamId::new(random.below(60), u64::MAX - random.below(2)),
        _ => StreamId::new(random.below(60), random.below(3)),
    }
}

fn limits(random: &mut Random) -> BatchLimits {
    BatchLimits {
        max_bytes: random.pick(&[100, 600, 3000, 65536]),
        max_count: random.pick(&[1, 4, 1000]),
        compression: Compression::None,
    }
}

fn wait(random: &mut Random) -> Request {
    Request::Await {
        after: id(random),
        count: random.pick(&[1, 2, 5, 100]),
        limits: limits(random),
        patience: Duration::from_millis(random.pick(&[0, 1, 20])),
    }
}

fn request(random: &mut Random) -> Request {
    match random.below(20) {
        0 => Request::Connect,
        1 => Request::Hazards,
        2 => Request::Remember,
        3 => Request::Settings,
        4..=7 => Request::Page {
            after: id(random),
            count: random.pick(&[1, 2, 5, 100, 1000]),
            limits: limits(random),
            status: random.percent(30).then(|| save(random)),
        },
        8 => wait(random),
        9 => Request::Look { after: id(random) },
        10 => Request::Count {
            after: id(random),
            last: id(random),
        },
        11..=14 => Request::Save(save(random)),
        15 => Request::NoteAccount(save(random)),
        16..=17 => Request::Copy {
            id: id(random),
            reason: "the broker refused it".into(),
        },
        _ => Request::Trim {
            sent: Sent {
                cursor: random.pick(&CURSORS),
                accounted: random.percent(50).then(|| random.below(8)),
                oldest: if random.percent(30) {
                    id(random)
                } else {
                    StreamId::ZERO
                },
            },
            keep: random.pick(&[0, 1, 4, 30]),
        },
    }
}

const CURSORS: [StreamId; 4] = [
    StreamId { ms: 9, seq: 0 },
    StreamId { ms: 20, seq: 1 },
    StreamId { ms: 40, seq: 0 },
    StreamId::ZERO,
];

fn save(random: &mut Random) -> Save {
    let cursor = |random: &mut Random| Cursor::written(random.pick(&CURSORS));
    Save {
        expected: match random.below(8) {
            0 => Raw::Missing,
            1 => Raw::Unusable("the key does not hold a string".into()),
            2 => text(random).map_or(Raw::Missing, |text| Raw::from_bytes(beginning(text))),
            _ => Raw::Text(cursor(random)),
        },
        cursor: cursor(random),
        accounted: random.percent(80).then(|| random.below(50)),
        seen: random.percent(70).then(|| extent(random)),
        former: random.percent(30).then(|| former(random)),
        foreign: random.percent(20),
        lost: random.below(9),
        dead_letters: random.below(9),
    }
}

fn former(random: &mut Random) -> Former {
    Former {
        place: random.pick(&CURSORS),
        accounted: random.percent(80).then(|| random.below(50)),
        seen: extent(random),
        told: random.below(9),
    }
}

fn extent(random: &mut Random) -> Extent {
    Extent {
        newest: id(random),
        length: random.below(9),
        added: random.percent(70).then(|| random.below(20)),
        first: random.percent(70).then(|| id(random)),
        deleted: id(random),
    }
}

/// As much of a value as is looked at.
pub fn beginning(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(1025);
    bytes
}

/// What somebody writes to a setting.
fn text(random: &mut Random) -> Option<Vec<u8>> {
    Some(match random.below(10) {
        0 => return None,
        1 => Vec::new(),
        2 => b"$".to_vec(),
        3 => b" (20-1\n".to_vec(),
        4 => b"(1-0\xff".to_vec(),
        5 => vec![b'9'; 1024 + random.below(3) as usize],
        _ => Cursor::written(random.pick(&CURSORS)).into_bytes(),
    })
}

fn deed(random: &mut Random) -> Deed {
    match random.below(40) {
        0..=15 => Deed::Add(id(random), random.pick(&[0, 0, 20, 200, 3000])),
        16..=19 => {
            let first = StreamId::new(1 + random.below(60), random.below(3));
            Deed::Burst(first, 2 + random.below(6))
        }
        20..=21 => Deed::Delete(id(random)),
        22 => Deed::Keep(random.below(6)),
        23 => Deed::KeepFrom(id(random)),
        24 => {
            let counts = (random.below(12), StreamId::new(random.below(20), 0));
            Deed::Raise(id(random), random.percent(50).then_some(counts))
        }
        25 => Deed::Group(random.next()),
        26..=27 => Deed::Drop,
        28 => Deed::OtherStream,
        29..=32 => Deed::Set(random.below(3) as usize, text(random)),
        33 => Deed::OtherCursor,
        34 => Deed::Full(true),
        35 => Deed::Full(false),
        36 => Deed::ReadOnly(random.percent(30)),
        37 => Deed::NoCopies(random.percent(50)),
        38 => Deed::ForgetScripts,
        _ => Deed::ReadOnly(false),
    }
}
