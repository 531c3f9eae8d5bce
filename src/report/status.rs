//! `--status`: the state of the running service from Redis, for people and for programs.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::config::Config;
use crate::model::status::{self, Record};
use crate::model::stream_id::{Cursor, StreamId};
use crate::store::{Store, StoreError};

/// How `--status` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Running, connected, and not behind.
    Well,
    /// Running, but not connected or behind.
    Troubled,
    /// No status, or one that nobody keeps up.
    Stale,
}

impl Verdict {
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Well => 0,
            Verdict::Troubled => 1,
            Verdict::Stale => 3,
        }
    }
}

/// The time between the two looks that tell the rate.
const SAMPLE: Duration = Duration::from_millis(500);
/// Behind by so many intervals is trouble.
const BEHIND: f64 = 10.0;

/// A look at the service.
struct Look {
    record: Record,
    running: bool,
    /// Measurements a second.
    rate: Option<f64>,
}

/// Prints the status once, or again and again.
///
/// # Errors
/// Redis cannot be reached or refuses.
pub fn run(config: &Config, json: bool, watch: bool) -> Result<Verdict, StoreError> {
    let mut store = Store::new(&config.redis, "mqtt-handler-status");
    loop {
        let look = look(&mut store)?;
        let verdict = verdict(&look);
        let text = match look {
            None if json => "{\"running\":false}\n".to_string(),
            None => "There is no status in Redis: the service has never run here.\n".to_string(),
            Some(look) if json => render_json(&look, verdict) + "\n",
            Some(look) => render(&look, verdict, std::io::stdout().is_terminal()),
        };
        // Home and clear: the screen is drawn anew.
        let clear = if watch { "\x1b[H\x1b[2J" } else { "" };
        let written =
            write!(std::io::stdout(), "{clear}{text}").and_then(|()| std::io::stdout().flush());
        if written.is_err() {
            // Nobody reads any more, as in a pipe to `head`.
            return Ok(verdict);
        }
        if !watch {
            return Ok(verdict);
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(SAMPLE));
    }
}

fn look(store: &mut Store) -> Result<Option<Look>, StoreError> {
    let Some(mut live) = store.live()? else {
        return Ok(None);
    };
    let mut rate = None;
    if let (true, Some(before)) = (live.running, live.accounted) {
        std::thread::sleep(SAMPLE);
        if let Some(again) = store.live()? {
            live = again;
            let sent = live.accounted.map(|after| after.saturating_sub(before));
            rate = sent.map(|sent| sent as f64 / SAMPLE.as_secs_f64());
        }
    }
    let mut record = live.record;
    record.last_id.clone_from(&live.cursor);
    record.backlog = live.backlog.or(record.backlog);
    if let Some(oldest) = live.oldest {
        record.oldest_age_seconds = status::now().saturating_sub(oldest.ms) / 1000;
    } else {
        record.oldest_age_seconds = 0;
    }
    Ok(Some(Look {
        record,
        running: live.running,
        rate,
    }))
}

fn verdict(look: &Option<Look>) -> Verdict {
    match look {
        None => Verdict::Stale,
        Some(look) if !look.running => Verdict::Stale,
        Some(look) if !look.record.connected || behind(&look.record) => Verdict::Troubled,
        Some(_) => Verdict::Well,
    }
}

fn behind(record: &Record) -> bool {
    record.oldest_age_seconds as f64 > BEHIND * record.interval.max(1.0)
}

fn render_json(look: &Look, verdict: Verdict) -> String {
    let mut value = serde_json::to_value(&look.record).unwrap_or_default();
    value["running"] = look.running.into();
    value["well"] = (verdict == Verdict::Well).into();
    value["rate"] = look.rate.into();
    value.to_string()
}

fn render(look: &Look, verdict: Verdict, colour: bool) -> String {
    let Look {
        record,
        running,
        rate,
    } = look;
    let paint = |text: String, code: &str| {
        if colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text
        }
    };
    let good = |text: String| paint(text, "32");
    let bad = |text: String| paint(text, "31");
    let mut rows: Vec<(&str, String)> = Vec::new();
    let ago = seconds(status::now().saturating_sub(record.updated) / 1000);
    rows.push((
        "service",
        match running {
            true => format!("running, version {}", record.version),
            false => bad(format!(
                "not running; it last wrote {ago} ago (version {})",
                record.version
            )),
        },
    ));
    rows.push((
        "broker",
        match (running, record.connected) {
            (false, _) => "unknown".into(),
            (true, true) => good("connected".into()),
            (true, false) => bad(format!("not connected: {}", record.last_error)),
        },
    ));
    let mode = if record.interval == 0.0 {
        "at once".into()
    } else {
        format!("every {} s", record.interval)
    };
    rows.push((
        "sending",
        if record.enabled {
            format!("on, {mode}")
        } else {
            bad("off".into())
        },
    ));
    rows.push(("backlog", backlog(record, *rate)));
    rows.push(("confirmed up to", confirmed(&record.last_id)));
    rows.push((
        "sent since start",
        format!(
            "{} measurements in {} messages",
            record.sent_measurements, record.sent_messages
        ),
    ));
    if record.lost > 0 {
        rows.push((
            "lost",
            bad(format!(
                "{} measurements were removed before they were sent",
                record.lost
            )),
        ));
    }
    if record.dead_letters > 0 {
        rows.push((
            "dead letters",
            bad(format!(
                "{} measurements were refused by the broker",
                record.dead_letters
            )),
        ));
    }
    if record.connected && !record.last_error.is_empty() {
        rows.push(("last error", record.last_error.clone()));
    }
    if verdict == Verdict::Troubled && record.connected {
        rows.push((
            "behind",
            bad(format!(
                "the oldest one waits for {}",
                seconds(record.oldest_age_seconds)
            )),
        ));
    }
    rows.iter()
        .map(|(name, value)| format!("{name:18}{value}\n"))
        .collect()
}

fn backlog(record: &Record, rate: Option<f64>) -> String {
    let Some(backlog) = record.backlog else {
        return match record.oldest_age_seconds {
            0 => "unknown (this Redis does not count)".into(),
            age => format!(
                "the oldest one waits for {} (this Redis does not count)",
                seconds(age)
            ),
        };
    };
    let mut text = format!("{backlog} measurements");
    if backlog > 0 {
        text += &format!(", the oldest {} old", seconds(record.oldest_age_seconds));
    }
    if let Some(rate) = rate.filter(|rate| *rate >= 1.0 && backlog > 0) {
        text += &format!(
            "; {rate:.0} a second, about {} to go",
            seconds((backlog as f64 / rate) as u64)
        );
    }
    text
}

fn confirmed(last_id: &str) -> String {
    match last_id.parse() {
        Ok(Cursor::After(id)) if id > StreamId::ZERO => format!("{id} ({})", when(id)),
        _ if last_id.is_empty() => "nothing yet".into(),
        _ => last_id.to_string(),
    }
}

/// The time in an ID, in words.
fn when(id: StreamId) -> String {
    let age = seconds(status::now().saturating_sub(id.ms) / 1000);
    match i64::try_from(id.ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        Some(time) => format!("{}, {age} ago", time.strftime("%Y-%m-%d %H:%M:%S UTC")),
        None => "a time beyond the calendar".into(),
    }
}

/// A time span in its two largest units.
pub fn seconds(total: u64) -> String {
    match total {
        0..60 => format!("{total} s"),
        60..3600 => format!("{} min {} s", total / 60, total % 60),
        3600..86_400 => format!("{} h {} min", total / 3600, total / 60 % 60),
        _ => format!("{} d {} h", total / 86_400, total / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_id_is_told_in_words() {
        assert!(when(StreamId::new(1_621_122_796_939, 0)).starts_with("2021-05-15 23:53:16 UTC, "));
        assert_eq!(when(StreamId::MAX), "a time beyond the calendar");
    }

    #[test]
    fn spans_are_told_in_two_units() {
        assert_eq!(seconds(59), "59 s");
        assert_eq!(seconds(61), "1 min 1 s");
        assert_eq!(seconds(7260), "2 h 1 min");
        assert_eq!(seconds(90_000), "1 d 1 h");
    }

    #[test]
    fn the_verdict_follows_connection_and_delay() {
        let look = |running, connected, age, interval| {
            Some(Look {
                record: Record {
                    connected,
                    oldest_age_seconds: age,
                    interval,
                    ..Record::default()
                },
                running,
                rate: None,
            })
        };
        assert_eq!(verdict(&None), Verdict::Stale);
        assert_eq!(verdict(&look(false, true, 0, 1.0)), Verdict::Stale);
        assert_eq!(verdict(&look(true, false, 0, 1.0)), Verdict::Troubled);
        assert_eq!(verdict(&look(true, true, 11, 1.0)), Verdict::Troubled);
        assert_eq!(verdict(&look(true, true, 11, 2.0)), Verdict::Well);
    }
}
