//! One notice of each kind.

use std::time::Duration;

use super::{Loss, Notice};
use crate::model::settings;
use crate::model::stream_id::StreamId;

/// One of each, with a mark in the place of every text that varies: what the documentation
/// explains comes from here.
pub fn catalogue(mark: &str) -> Vec<Notice> {
    let (id, text, wait) = (StreamId::ZERO, || mark.to_string(), Duration::ZERO);
    let [unusable, changed] = [settings::Notice::Unusable, settings::Notice::Changed];
    vec![
        Notice::RedisConnected,
        Notice::RedisLost {
            reason: text(),
            wait,
        },
        Notice::RedisRefuses {
            what: "the stream",
            reason: text(),
        },
        Notice::RedisIsOld,
        Notice::Hazard(text()),
        Notice::Setting(changed(text())),
        Notice::Setting(unusable(text())),
        Notice::Cursor {
            at_start: true,
            stored: text(),
            after: id,
        },
        Notice::CursorGone,
        Notice::SecondInstance,
        Notice::CursorRefused(text()),
        Notice::Sending {
            count: 0,
            first: id,
            last: id,
            bytes: 0,
        },
        Notice::NotConfirmed(Some(text())),
        Notice::NotAccepted {
            topic: text(),
            reason: text(),
            wait,
        },
    ]
    .into_iter()
    .chain(losses(mark))
    .chain(progress())
    .collect()
}

fn losses(mark: &str) -> Vec<Notice> {
    let (id, text) = (StreamId::ZERO, || mark.to_string());
    vec![
        Notice::Lost {
            count: 0,
            after: id,
            upto: Some(id),
        },
        Notice::StreamGone {
            count: 0,
            after: id,
        },
        Notice::StreamAnew {
            newest: id,
            cursor: id,
            lost: 0,
        },
        Notice::StreamBack { after: id, told: 0 },
        Notice::LostInFlight(0),
        Notice::FurtherLosses(Loss {
            measurements: 0,
            times: 0,
            range: Some((id, id)),
        }),
        Notice::DeadLetter { id, reason: text() },
        Notice::CopyRefused { id, reason: text() },
        Notice::PoisonGone(id),
        Notice::TooManyUncopied(0),
        Notice::TrimRefused(text()),
        Notice::NotUtf8,
        Notice::DoubleField,
        Notice::LatestTooLarge(id),
        Notice::Stopped(text()),
    ]
}

fn progress() -> Vec<Notice> {
    vec![
        Notice::CatchingUp {
            sent: 0,
            left: Some(0),
            per_second: 0.0,
            seconds: Some(0),
        },
        Notice::TooSlow {
            comes: 0.0,
            goes: 0.0,
        },
        Notice::CaughtUp(0),
        Notice::BufferFills {
            percent: 99.0,
            full_in: Some(Duration::ZERO),
        },
    ]
}
