//! `--status`: the state of the running service from Redis, for people and for programs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::model::status::{self, Record, seconds, shown_percent};
use crate::model::stream::Waiting;
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

/// How often the status is drawn for who watches it.
const EVERY: Duration = Duration::from_secs(1);
/// The time between the two looks that tell the rate.
const SAMPLE: Duration = Duration::from_millis(500);
/// Behind by so many intervals is trouble.
const BEHIND: f64 = 10.0;

/// From so many percent of `maxmemory` on, the buffer is in danger.
const FULL: f64 = 80.0;

/// A look at the service.
struct Observation {
    record: Record,
    running: bool,
    /// Measurements a second.
    rate: Option<f64>,
}

/// Prints the status once, or again and again until somebody ends it or nobody reads any more.
///
/// # Errors
/// Redis cannot be reached or refuses; who watches sees that in the place of the status.
pub fn run(config: &Config, json: bool, watch: bool) -> Result<Verdict, StoreError> {
    let mut store = Store::new(&config.redis, "mqtt-handler-status");
    let terminal = std::io::stdout().is_terminal();
    // Home and clear: a terminal is drawn anew, other readers get one record after another.
    let (clear, end) = match (watch, terminal) {
        (true, true) => ("\x1b[H\x1b[2J", ""),
        (true, false) if !json => ("", "\n"),
        _ => ("", ""),
    };
    loop {
        let begun = Instant::now();
        let (text, verdict) = match look(&mut store, config) {
            Ok(look) => shown(look, json, terminal),
            Err(error) if watch => (no_status(&error, json), Verdict::Stale),
            Err(error) => return Err(error),
        };
        let mut out = std::io::stdout();
        let written = write!(out, "{clear}{text}{end}").and_then(|()| out.flush());
        // Nobody reads any more, as in a pipe to `head`.
        if written.is_err() || !watch {
            return Ok(verdict);
        }
        std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
}

fn shown(look: Option<Observation>, json: bool, colour: bool) -> (String, Verdict) {
    let verdict = verdict(&look);
    let text = match look {
        None if json => "{\"running\":false}\n".to_string(),
        None => "There is no status in Redis: the service has never run here.\n".to_string(),
        Some(look) if json => render_json(&look, verdict) + "\n",
        Some(look) => render(&look, verdict, colour),
    };
    (text, verdict)
}

fn no_status(error: &StoreError, json: bool) -> String {
    if json {
        serde_json::json!({ "error": error.to_string() }).to_string() + "\n"
    } else {
        format!("no status, Redis: {error}\n")
    }
}

fn look(store: &mut Store, config: &Config) -> Result<Option<Observation>, StoreError> {
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
    record.backlog = match live.oldest {
        None => Some(Waiting::Exactly(0)),
        Some(_) => live.backlog.map(Waiting::Exactly).or(record.backlog),
    };
    record.oldest_age_seconds = live.oldest.map_or(0, |oldest| age(oldest.ms));
    record.redis_used_percent = live.used_percent.map(shown_percent);
    record.redis_full_in_seconds = record
        .redis_full_in_seconds
        .filter(|_| live.used_percent.is_some());
    Ok(Some(Observation {
        rate: held_to(config, &record).filter(|_| live.running).or(rate),
        record,
        running: live.running,
    }))
}

/// Measurements a second, where `catch_up_bytes_per_second` holds them back: lists may be so far
/// apart that a look meets one or none.
fn held_to(config: &Config, record: &Record) -> Option<f64> {
    let counters = &record.counters;
    let sends = record.enabled && record.link.connected && counters.sent_bytes > 0;
    if config.catch_up == 0 || !sends {
        return None;
    }
    let bytes = counters.sent_bytes as f64 / counters.sent_measurements.max(1) as f64;
    let list = (config.batch.max_bytes as f64 / bytes).min(config.batch.max_count as f64);
    let behind = record.backlog?.number() as f64 > list;
    behind.then(|| config.catch_up as f64 / bytes)
}

/// Seconds since a time in milliseconds.
fn age(ms: u64) -> u64 {
    status::now().saturating_sub(ms) / 1000
}

fn verdict(look: &Option<Observation>) -> Verdict {
    match look {
        None => Verdict::Stale,
        Some(look) if !look.running => Verdict::Stale,
        Some(look) if !look.record.link.connected || behind(&look.record) => Verdict::Troubled,
        Some(look) if look.record.is_stale() => Verdict::Troubled,
        Some(_) => Verdict::Well,
    }
}

fn behind(record: &Record) -> bool {
    record.oldest_age_seconds as f64 > BEHIND * record.interval.max(1.0)
}

fn render_json(look: &Observation, verdict: Verdict) -> String {
    let mut value = serde_json::to_value(&look.record).unwrap_or_default();
    value["running"] = look.running.into();
    value["well"] = (verdict == Verdict::Well).into();
    value["rate"] = look.rate.into();
    value.to_string()
}

fn render(look: &Observation, verdict: Verdict, colour: bool) -> String {
    let paint = Paint { colour };
    let record = &look.record;
    let mut rows = vec![
        ("service", service(look, &paint)),
        ("broker", broker(look, &paint)),
        ("sending", sending(record, &paint)),
        ("backlog", backlog(record, look.rate)),
        ("confirmed up to", confirmed(&record.last_id)),
        ("sent since start", sent(record)),
    ];
    if let Some(percent) = record.redis_used_percent {
        let mut words = format!("{percent:.0} % of maxmemory");
        if let Some(time) = record.redis_full_in_seconds {
            words += &format!(", full in about {} at the present rate", seconds(time));
        }
        let words = if percent >= FULL {
            paint.bad(words)
        } else {
            words
        };
        rows.push(("Redis", words));
    }
    let mut trouble = |name, count: u64, words: &str| {
        if count > 0 {
            rows.push((name, paint.bad(format!("{count} measurements {words}"))));
        }
    };
    let counters = &record.counters;
    trouble("lost", counters.lost, "were removed before they were sent");
    trouble(
        "dead letters",
        counters.dead_letters,
        "were refused by the broker",
    );
    if record.link.connected && !record.link.last_error.is_empty() {
        rows.push(("last error", record.link.last_error.clone()));
    }
    if verdict == Verdict::Troubled && record.link.connected {
        let age = seconds(record.oldest_age_seconds);
        rows.push((
            "behind",
            paint.bad(format!("the oldest one waits for {age}")),
        ));
    }
    rows.iter()
        .map(|(name, value)| format!("{name:18}{value}\n"))
        .collect()
}

/// Colours, where there is a terminal.
struct Paint {
    colour: bool,
}

impl Paint {
    fn in_colour(&self, text: String, code: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text
        }
    }

    fn good(&self, text: String) -> String {
        self.in_colour(text, "32")
    }

    fn bad(&self, text: String) -> String {
        self.in_colour(text, "31")
    }
}

fn sent(record: &Record) -> String {
    let counters = &record.counters;
    format!(
        "{} measurements in {} messages",
        counters.sent_measurements, counters.sent_messages
    )
}

fn service(look: &Observation, paint: &Paint) -> String {
    let version = &look.record.program.version;
    let ago = seconds(age(look.record.updated));
    if look.running && look.record.is_stale() {
        return paint.bad(format!(
            "running, but what it tells is {ago} old: see its log (version {version})"
        ));
    }
    if look.running {
        return format!("running, version {version}");
    }
    paint.bad(format!(
        "not running; it last wrote {ago} ago (version {version})"
    ))
}

fn broker(look: &Observation, paint: &Paint) -> String {
    let link = &look.record.link;
    match (look.running, link.connected) {
        (false, _) => "unknown".into(),
        (true, true) if link.protocol.is_empty() => paint.good("connected".into()),
        (true, true) => paint.good(format!("connected (MQTT {})", link.protocol)),
        (true, false) if link.last_error.is_empty() => paint.bad("not connected yet".into()),
        (true, false) => paint.bad(format!("not connected: {}", link.last_error)),
    }
}

fn sending(record: &Record, paint: &Paint) -> String {
    match (record.enabled, record.interval) {
        (false, _) => paint.bad("off".into()),
        (true, 0.0) => "on, at once".into(),
        (true, interval) => format!("on, every {interval} s"),
    }
}

fn backlog(record: &Record, rate: Option<f64>) -> String {
    let Some(backlog) = record.backlog else {
        let age = seconds(record.oldest_age_seconds);
        return format!("not counted yet, the oldest {age} old");
    };
    let mut text = format!("{backlog} measurements");
    if backlog.number() > 0 {
        text += &format!(", the oldest {} old", seconds(record.oldest_age_seconds));
    }
    if let Some(rate) = rate.filter(|rate| *rate >= 1.0 && backlog.number() > 0) {
        text += &format!(
            "; {rate:.0} a second, about {} to go",
            seconds((backlog.number() as f64 / rate) as u64)
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
    let age = seconds(age(id.ms));
    match i64::try_from(id.ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        Some(time) => format!("{}, {age} ago", time.strftime("%Y-%m-%d %H:%M:%S UTC")),
        None => "a time beyond the calendar".into(),
    }
}

#[cfg(test)]
mod tests;
