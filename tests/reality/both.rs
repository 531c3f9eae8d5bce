//! The same script on a real Redis and on the one in memory, and every answer of both.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ::redis::ConnectionLike;
use mqtt_handler::bridge::{Answer, Bridge, Page, RedisFailure, Request, View};
use mqtt_handler::config::Config;
use mqtt_handler::model::settings::Raw;
use mqtt_handler::model::stream::Stream;
use mqtt_handler::model::stream_id::StreamId;
use mqtt_handler::service::{Board, Requests};

use crate::redis::Values;
use crate::schedule::Plan;
use crate::scripts::{Deed, Step, beginning, script};
use crate::stream::Entries;
use crate::support::{self, wait_until};
use crate::trace::shorten_payloads;
use crate::world::World;

type Reply = Result<Answer, RedisFailure>;

const VALUES: &str = "measurement:values";
const SETTINGS: [&str; 3] = [
    "mqtt_sender:enabled",
    "mqtt_sender:interval",
    "mqtt_sender:last_id",
];
const DEAD_LETTER: &str = "mqtt_sender:dead_letter";
/// Strings that wait for their time: a full server takes no new ones.
const SPARE: [&str; 2] = ["spare", "aside"];

/// Bytes that are always there.
const BALLAST: u64 = 10_000_000;

/// Two answers that differ, and at which step.
struct Difference {
    step: usize,
    what: String,
}

struct Both<'a> {
    server: &'a mut support::Redis,
    real: Requests,
    board: Board,
    config: &'a Config,
    world: World,
    view: View,
    page_refused: bool,
}

/// What somebody else gets to hear: nothing, or the first word of the error.
type Heard = Result<(), String>;

impl<'a> Both<'a> {
    fn new(server: &'a mut support::Redis, config: &'a Config, counts: bool) -> Both<'a> {
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        server.command::<()>(&["REPLICAOF", "NO", "ONE"]);
        server.command::<()>(&["FLUSHALL"]);
        server.set(SPARE[0], "no stream");
        // So that a little more or less is no more than a few percent.
        let ballast = BALLAST.to_string();
        server.command::<()>(&["SETRANGE", "ballast", &ballast, "x"]);
        let mut plan = Plan::new(1);
        plan.faults.clear();
        plan.setup.redis_counts = counts;
        plan.setup.room = None;
        let mut world = World::new(plan.clone(), false);
        world.redis.slice = 1000;
        world.redis.unmatched_percent = 0;
        let (mut real, board) = (Requests::new(config), Board::default());
        real.ask(Request::Connect, &board).expect("a connection");
        let view = Bridge::new(plan.setup.bridge_rules(), 1).view();
        world.device.shown = Some(Box::new(view.clone()));
        Both {
            real,
            server,
            board,
            config,
            world,
            view,
            page_refused: false,
        }
    }

    fn play(&mut self, script: &[Step]) -> Result<(), Difference> {
        for (nth, step) in script.iter().enumerate() {
            let fails = |what| Difference { step: nth, what };
            self.step(step).map_err(fails)?;
            let whole = Request::Look {
                after: StreamId::ZERO,
            };
            for request in [whole, Request::Settings, Request::Remember] {
                let same = self.ask(&request);
                same.map_err(|what| fails(format!("afterwards: {what}")))?;
            }
        }
        let what = |what| Difference {
            step: script.len(),
            what,
        };
        self.dead_letters().map_err(what)
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Ask(request) => self.ask(request),
            Step::Status(lost, dead_letters, save) => {
                self.view.counters.lost = *lost;
                self.view.counters.dead_letters = *dead_letters;
                self.board.show_measurements(&self.view);
                self.world.device.shown = Some(Box::new(self.view.clone()));
                self.ask(&Request::WriteStatus(save.clone()))
            }
            // Some servers take this, and others do not.
            Step::Others(Deed::Raise(id, _)) | Step::Meanwhile(_, Deed::Raise(id, _))
                if is_below_deleted(&self.world, *id) =>
            {
                Ok(())
            }
            Step::Others(deed) => self.others(deed),
            Step::Meanwhile(request, deed) => self.meanwhile(request, deed),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<(), String> {
        let mut real = self.real.ask(request.clone(), &self.board);
        let mut simulated = self.simulated(request);
        // A slice of one is not that of the other, but the end of all slices is.
        while let Ok(Answer::Trimmed { more: true }) = real {
            real = self.real.ask(request.clone(), &self.board);
        }
        while let Ok(Answer::Trimmed { more: true }) = simulated {
            simulated = self.simulated(request);
        }
        if let Request::Page { .. } = request {
            self.looked_otherwise(&real, &mut simulated);
        }
        compare(request, &simulated, &real)?;
        match request {
            // Along with a page that is refused it is written or not, and then written by itself.
            Request::Page { status, .. } if status.is_some() && real.is_err() => {
                self.ask(&Request::WriteStatus(status.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Where a survey was refused, or has cut a page short that reached the end, the real one still
    /// has the state of the page before; where one led to nothing, it has looked twice.
    fn looked_otherwise(&mut self, real: &Reply, simulated: &mut Reply) {
        let cut = match (real, &*simulated) {
            (Ok(Answer::Page(real)), Ok(Answer::Page(simulated))) => {
                !real.at_end && simulated.at_end
            }
            _ => false,
        };
        let refused = std::mem::replace(&mut self.page_refused, real.is_err() || cut);
        if let (Ok(Answer::Page(real)), Ok(Answer::Page(simulated))) = (real, simulated) {
            if refused && real.stream.is_none() {
                (simulated.stream, self.world.store.state) = (None, None);
            }
            let counts = self.world.redis.counts;
            let state = match &self.world.redis.data.values {
                Values::Stream(entries) => Some(entries.state(counts)),
                Values::Absent => Some(Stream::Absent),
                Values::Other => None,
            };
            if simulated.stream.is_none() && real.stream == state {
                (simulated.stream, self.world.store.state) = (state, state);
            }
        }
    }

    fn simulated(&mut self, request: &Request) -> Reply {
        match self.world.serve(1, request) {
            Some(reply) => reply,
            None => self.world.end_of_wait(1).expect("it waits"),
        }
    }

    fn meanwhile(&mut self, request: &Request, deed: &Deed) -> Result<(), String> {
        let patient = match request.clone() {
            Request::Await {
                after,
                count,
                limits,
                ..
            } => Request::Await {
                after,
                count,
                limits,
                patience: Duration::from_secs(60),
            },
            other => other,
        };
        let begun = self.world.serve(1, &patient);
        let waits = begun.is_none();
        let server = &*self.server;
        let client = self.real.client_id().load(Ordering::Relaxed).to_string();
        let (real, board) = (&mut self.real, &self.board);
        let (answer, heard) = thread::scope(|scope| {
            let asked = patient.clone();
            let asking = scope.spawn(move || real.ask(asked, board));
            wait_until("the service waits, or has its answer", || {
                asking.is_finished() || blocked(server)
            });
            if waits == asking.is_finished() {
                return (asking.join().expect("an answer"), None);
            }
            let heard = does(server, &self.world, deed);
            // Its patience is over, as far as it still waits.
            wait_until("the service has its answer", || {
                server.command::<i64>(&["CLIENT", "UNBLOCK", &client]);
                asking.is_finished()
            });
            (asking.join().expect("an answer"), Some(heard))
        });
        let Some(heard) = heard else {
            return Err(format!("the service waits: {waits} there, {answer:?} here"));
        };
        let expected = self.world_does(deed);
        let lost = || Err(RedisFailure::Lost("cut off while it waited".into()));
        let reply = begun
            .or_else(|| self.world.end_of_wait(1))
            .unwrap_or_else(lost);
        same_heard(&expected, &heard)?;
        compare(request, &reply, &answer)?;
        if matches!(reply, Err(RedisFailure::Lost(_))) {
            self.world.store.state = None;
            return self.ask(&Request::Connect);
        }
        Ok(())
    }

    fn others(&mut self, deed: &Deed) -> Result<(), String> {
        if let Deed::Restart = deed {
            self.server.stop();
            self.server.start_again();
            let lost = self.real.ask(Request::Settings, &self.board);
            if !matches!(lost, Err(RedisFailure::Lost(_))) {
                return Err(format!("{lost:?} after a restart"));
            }
        }
        let heard = does(self.server, &self.world, deed);
        let expected = self.world_does(deed);
        same_heard(&expected, &heard)
    }

    /// What a deed does to the Redis in memory.
    fn world_does(&mut self, deed: &Deed) -> Heard {
        let redis = &mut self.world.redis;
        let (data, mood, counts) = (&mut redis.data, &mut redis.mood, redis.counts);
        match deed {
            Deed::Full(full) => {
                mood.full = u32::from(*full);
                return Ok(());
            }
            Deed::ReadOnly(read_only) => {
                if *read_only && mood.read_only == 0 {
                    redis.blocked = None;
                }
                mood.read_only = u32::from(*read_only);
                return Ok(());
            }
            Deed::Restart => {
                (mood.full, mood.read_only) = (0, 0);
                self.world.store.state = None;
                return Ok(());
            }
            Deed::ForgetScripts => return Ok(()),
            Deed::Burst(first, count) => {
                let adds = burst(*first, *count).map(|id| self.world_does(&Deed::Add(id, 0)));
                let heard: Vec<Heard> = adds.collect();
                return heard.into_iter().collect();
            }
            _ if mood.read_only > 0 => return Err("READONLY".into()),
            _ => {}
        }
        let full = mood.full > 0;
        let room: Heard = if full { Err("OOM".into()) } else { Ok(()) };
        match deed {
            Deed::Add(id, pad) => {
                room?;
                if *id == StreamId::ZERO {
                    return Err("ERR".into());
                }
                let uid = self.world.ledger.added(*id, *pad, None, false);
                let entries = stream(&mut data.values, true)?;
                if *id <= entries.newest {
                    return Err("ERR".into());
                }
                entries.add(*id, uid);
                self.world.added(*id);
            }
            Deed::Delete(id) => {
                if let Ok(entries) = stream(&mut data.values, false) {
                    entries.delete(*id);
                }
                return other_type(&data.values);
            }
            Deed::Keep(keep) => {
                if let Ok(entries) = stream(&mut data.values, false) {
                    let surplus = entries.all.len().saturating_sub(*keep as usize);
                    let cut = entries.all.keys().nth(surplus).copied();
                    match cut {
                        Some(first) => drop(entries.trim_below(first)),
                        None => entries.all.clear(),
                    }
                }
                return other_type(&data.values);
            }
            Deed::KeepFrom(first) => {
                if let Ok(entries) = stream(&mut data.values, false) {
                    entries.trim_below(*first);
                }
                return other_type(&data.values);
            }
            Deed::Raise(id, numbers) => {
                room?;
                let numbers = numbers.filter(|_| counts);
                let below = |(_, deleted)| *id < deleted;
                if numbers.is_some_and(below) {
                    return Err("ERR".into());
                }
                let entries = stream(&mut data.values, false)?;
                let top = entries
                    .all
                    .last_key_value()
                    .map_or(StreamId::ZERO, |e| *e.0);
                let fewer =
                    |(added, _)| !entries.all.is_empty() && added < entries.all.len() as u64;
                if *id < top || counts && *id < entries.deleted || numbers.is_some_and(fewer) {
                    return Err("ERR".into());
                }
                entries.newest = *id;
                if let Some((added, deleted)) = numbers {
                    entries.added = added;
                    if deleted > StreamId::ZERO {
                        entries.deleted = deleted;
                    }
                }
            }
            Deed::Group(_) => {
                room?;
                stream(&mut data.values, true)?;
            }
            Deed::Drop => data.values = Values::Absent,
            Deed::OtherStream => {
                data.values = Values::Absent;
                room?;
                data.values = Values::Other;
            }
            Deed::Set(nth, text) => {
                if text.is_some() {
                    room?;
                }
                let raw = text
                    .clone()
                    .map_or(Raw::Missing, |text| Raw::from_bytes(beginning(text)));
                *[&mut data.enabled, &mut data.interval, &mut data.cursor][*nth] = raw;
            }
            Deed::OtherCursor => {
                data.cursor = Raw::Missing;
                room?;
                data.cursor = Raw::Unusable("the key does not hold a string".into());
            }
            Deed::NoCopies(no_copies) => mood.no_copies = u32::from(*no_copies),
            Deed::Burst(..)
            | Deed::Full(_)
            | Deed::ReadOnly(_)
            | Deed::ForgetScripts
            | Deed::Restart => {}
        }
        Ok(())
    }

    fn dead_letters(&mut self) -> Result<(), String> {
        let key = if self.world.redis.mood.no_copies > 0 {
            SPARE[1]
        } else {
            DEAD_LETTER
        };
        let mut command = ::redis::cmd("XRANGE");
        command.arg(key).arg("-").arg("+");
        let copies: Vec<(String, Vec<String>)> = command
            .query(&mut self.server.connection())
            .map_err(|error| error.to_string())?;
        let real: Vec<String> = copies.iter().map(|(_, words)| words[1].clone()).collect();
        let dead = &self.world.redis.data.dead;
        let simulated: Vec<String> = dead.iter().map(|(id, _)| id.to_string()).collect();
        if real != simulated {
            return Err(format!(
                "dead letters: {simulated:?} in memory, really {real:?}"
            ));
        }
        Ok(())
    }
}

/// Whether somebody waits for an entry.
fn blocked(server: &support::Redis) -> bool {
    let text: String = server.command(&["INFO", "clients"]);
    !text.contains("blocked_clients:0")
}

fn other_type(values: &Values) -> Heard {
    match values {
        Values::Other => Err("WRONGTYPE".into()),
        _ => Ok(()),
    }
}

/// The stream, made where there is none and one is wanted.
fn stream(values: &mut Values, make: bool) -> Result<&mut Entries, String> {
    if make && matches!(values, Values::Absent) {
        *values = Values::Stream(Entries::default());
    }
    match values {
        Values::Stream(entries) => Ok(entries),
        Values::Other => Err("WRONGTYPE".into()),
        Values::Absent => Err("ERR".into()),
    }
}

fn burst(first: StreamId, count: u64) -> impl Iterator<Item = StreamId> {
    (0..count).map(move |nth| StreamId::new(first.ms, first.seq + nth))
}

/// What a deed does to the real Redis.
fn does(server: &support::Redis, world: &World, deed: &Deed) -> Heard {
    let run = |words: &[&[u8]]| {
        let mut command = ::redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let answer = command.query::<::redis::Value>(&mut server.connection());
        answer
            .map(drop)
            .map_err(|error| error.code().unwrap_or("ERR").to_string())
    };
    let say = |text: &str| run(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    match deed {
        Deed::Add(id, pad) => {
            let (id, number) = (id.to_string(), world.ledger.facts.len().to_string());
            let words = ["XADD", VALUES, &id, "n", &number, "p"];
            let mut words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            words.push(&world.padding[..*pad]);
            run(&words)
        }
        Deed::Burst(first, count) => {
            let mut commands = ::redis::pipe();
            for (id, number) in burst(*first, *count).zip(world.ledger.facts.len()..) {
                let (id, number) = (id.to_string(), number.to_string());
                commands.cmd("XADD").arg(VALUES).arg(id);
                commands.arg("n").arg(number).arg("p").arg("");
            }
            let packed = commands.get_packed_pipeline();
            let answers = server
                .connection()
                .req_packed_commands(&packed, 0, *count as usize);
            let error = |value| match value {
                ::redis::Value::ServerError(error) => Err(error.code().to_string()),
                _ => Ok(()),
            };
            answers
                .map_err(|error| error.to_string())?
                .into_iter()
                .try_for_each(error)
        }
        Deed::Delete(id) => say(&format!("XDEL {VALUES} {id}")),
        Deed::Keep(keep) => say(&format!("XTRIM {VALUES} MAXLEN = {keep}")),
        Deed::KeepFrom(id) => say(&format!("XTRIM {VALUES} MINID = {id}")),
        Deed::Raise(id, numbers) => {
            let more = numbers.filter(|_| world.redis.counts);
            let more = more.map_or(String::new(), |(added, deleted)| {
                format!(" ENTRIESADDED {added} MAXDELETEDID {deleted}")
            });
            say(&format!("XSETID {VALUES} {id}{more}"))
        }
        Deed::Group(number) => say(&format!("XGROUP CREATE {VALUES} {number} $ MKSTREAM")),
        Deed::Drop => say(&format!("DEL {VALUES}")),
        Deed::OtherStream => {
            say(&format!("DEL {VALUES}"))?;
            say(&format!("LPUSH {VALUES} x"))
        }
        Deed::Set(nth, None) => say(&format!("DEL {}", SETTINGS[*nth])),
        Deed::Set(nth, Some(text)) => run(&[b"SET", SETTINGS[*nth].as_bytes(), text]),
        Deed::OtherCursor => {
            say(&format!("DEL {}", SETTINGS[2]))?;
            say(&format!("LPUSH {} x", SETTINGS[2]))
        }
        // Full, and not by so much that even copies are refused.
        Deed::Full(full) => {
            let limit = if *full { BALLAST } else { 0 };
            say(&format!("CONFIG SET maxmemory {limit}"))
        }
        Deed::ReadOnly(true) => say("REPLICAOF 127.0.0.1 1"),
        Deed::ReadOnly(false) => say("REPLICAOF NO ONE"),
        Deed::NoCopies(true) if world.redis.mood.no_copies == 0 => {
            // There may be no copies yet, but then the other name must be free of older ones.
            let (spare, aside) = (SPARE[0], SPARE[1]);
            ignore_missing(say(&format!("RENAME {DEAD_LETTER} {aside}")))?;
            say(&format!("RENAME {spare} {DEAD_LETTER}"))
        }
        Deed::NoCopies(false) if world.redis.mood.no_copies > 0 => {
            let (spare, aside) = (SPARE[0], SPARE[1]);
            say(&format!("RENAME {DEAD_LETTER} {spare}"))?;
            ignore_missing(say(&format!("RENAME {aside} {DEAD_LETTER}")))
        }
        // Even a replica says so where nothing is to be done.
        Deed::NoCopies(_) => match world.redis.mood.read_only {
            0 => Ok(()),
            _ => Err("READONLY".into()),
        },
        Deed::ForgetScripts => say("SCRIPT FLUSH"),
        Deed::Restart => Ok(()),
    }
}

fn is_below_deleted(world: &World, id: StreamId) -> bool {
    let stream = world.redis.data.stream();
    world.redis.counts && stream.is_some_and(|entries| id < entries.deleted)
}

fn ignore_missing(heard: Heard) -> Heard {
    heard.or_else(|code| if code == "ERR" { Ok(()) } else { Err(code) })
}

fn same_heard(simulated: &Heard, real: &Heard) -> Result<(), String> {
    if simulated == real {
        return Ok(());
    }
    Err(format!(
        "others hear {simulated:?} in memory, really {real:?}"
    ))
}

/// Compares two answers. Words may differ, but for the code of an error.
fn compare(request: &Request, simulated: &Reply, real: &Reply) -> Result<(), String> {
    let same = match (simulated, real) {
        (Err(RedisFailure::Refused(code)), Err(RedisFailure::Refused(words))) => {
            words.contains(code.as_str())
        }
        (Err(RedisFailure::Lost(_)), Err(RedisFailure::Lost(_))) => true,
        (Ok(Answer::Page(simulated)), Ok(Answer::Page(real))) => {
            let waited = matches!(request, Request::Await { .. });
            same_pages(simulated, real, waited)
        }
        (Ok(Answer::Look(simulated)), Ok(Answer::Look(real))) => {
            simulated.stream == real.stream
                && simulated.oldest == real.oldest
                && simulated.waiting == real.waiting
                && full(simulated.used_percent) == full(real.used_percent)
        }
        _ => format!("{simulated:?}") == format!("{real:?}"),
    };
    if same {
        return Ok(());
    }
    let shown = |reply: &Reply| {
        let mut text = format!("{reply:?}");
        shorten_payloads(&mut text);
        text
    };
    Err(format!(
        "in memory {}\nreally    {}",
        shown(simulated),
        shown(real)
    ))
}

fn full(used: Option<f64>) -> bool {
    used.is_some_and(|used| used >= 95.0)
}

fn same_pages(simulated: &Page, real: &Page, waited: bool) -> bool {
    let heads = |page: &Page| format!("{:?} {:?}", page.settings, page.stream);
    let same = simulated.entries == real.entries
        && simulated.at_end == real.at_end
        && simulated.list == real.list;
    let written = match (&simulated.written, &real.written) {
        (Some(simulated), Some(real)) => {
            let refusals = (&simulated.refused, &real.refused);
            let same = match refusals {
                (Some(code), Some(words)) => words.contains(code.as_str()),
                _ => refusals == (&None, &None),
            };
            same && full(simulated.used_percent) == full(real.used_percent)
        }
        (simulated, real) => simulated == real,
    };
    // While there is much to read, the real one looks at the sizes first, and then takes another
    // number of entries in one go: then the one that took fewer says that there may be more.
    let begins = |one: &Page, other: &Page| {
        let (one, other) = (one.list.as_ref()?, other.list.as_ref()?);
        let (_, head) = one.payload.split_last()?;
        Some(one.first == other.first && other.payload.starts_with(head))
    };
    let fewer = |one: &Page, other: &Page| {
        !waited && one.entries <= other.entries && !one.at_end && begins(one, other) == Some(true)
    };
    let same_heads = written && heads(simulated) == heads(real);
    same_heads && (same || fewer(real, simulated) || fewer(simulated, real))
}

fn config(port: u16) -> Config {
    let variables = |name: &str| match name {
        "REDIS_HOST" => Some("127.0.0.1".to_string()),
        "REDIS_PORT" => Some(port.to_string()),
        "BALENA_DEVICE_UUID" => Some("u".into()),
        _ => None,
    };
    let mut config = Config::parse("", "", variables).unwrap_or_else(|faults| panic!("{faults:?}"));
    let identity = &mut config.identity;
    identity.device_type.clear();
    identity.app_id.clear();
    identity.app_name.clear();
    config
}

/// The script without every step that is not needed for the difference.
fn shrink(mut script: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    loop {
        let shorter = (0..script.len()).rev().find_map(|nth| {
            let mut shorter = script.clone();
            shorter.remove(nth);
            fails(&shorter).then_some(shorter)
        });
        match shorter {
            Some(shorter) => script = shorter,
            None => return script,
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Before 7 it neither counts what was ever added, nor looks at its clients while it loads little.
fn is_old(server: &support::Redis) -> bool {
    let version: String = server.command(&["INFO", "server"]);
    version.contains("redis_version:6.")
}

#[test]
fn a_real_redis_gives_the_answers_of_the_one_in_memory() {
    let server = support::Redis::start(&[]);
    let config = config(server.port);
    let counts = !is_old(&server);
    let server = std::cell::RefCell::new(server);
    let play = |script: &[Step]| {
        let mut server = server.borrow_mut();
        Both::new(&mut server, &config, counts).play(script)
    };
    let seeds = match number("SCRIPT") {
        Some(seed) => seed..seed + 1,
        None => 1..number("SCRIPTS").unwrap_or(60) + 1,
    };
    for seed in seeds {
        let Err(first) = play(&script(seed)) else {
            continue;
        };
        let mut steps = script(seed);
        steps.truncate(first.step + 1);
        let steps = shrink(steps, |steps| play(steps).is_err());
        let difference = play(&steps).err().unwrap_or(first);
        let lines: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        panic!(
            "SCRIPT={seed} differs at step {}:\n{}\n{}",
            difference.step + 1,
            lines.join("\n"),
            difference.what
        );
    }
}

#[test]
fn a_redis_that_is_loading_refuses_what_the_one_in_memory_refuses() {
    let mut server = support::Redis::start(&[]);
    if is_old(&server) {
        return;
    }
    let port = server.port;
    // Many small keys in a base file: while it loads, it looks at its clients between them.
    let fill = "for i = 1, 3000 do redis.call('SET', 'k' .. i, string.rep('x', 50)) end";
    server.command::<()>(&["EVAL", fill, "0"]);
    server.command::<()>(&["BGREWRITEAOF"]);
    wait_until("the base file is written", || {
        let text: String = server.command(&["INFO", "persistence"]);
        text.contains("aof_rewrite_in_progress:0") && text.contains("aof_rewrite_scheduled:0")
    });
    server.stop();
    let config = config(port);
    let after = StreamId::ZERO;
    let mut plan = Plan::new(1);
    plan.faults.clear();
    let mut world = World::new(plan, false);
    world.redis.mood.loading = 1;
    let requests = [
        Request::Connect,
        Request::Hazards,
        Request::Settings,
        Request::Remember,
        Request::Look { after },
        Request::WriteStatus(None),
    ];
    thread::scope(|scope| {
        scope.spawn(|| server.start_loading(Duration::from_millis(700)));
        let loads = || {
            let client = ::redis::Client::open(("127.0.0.1", port)).ok()?;
            let mut info = ::redis::cmd("INFO");
            let text = info
                .arg("persistence")
                .query::<String>(&mut client.get_connection().ok()?);
            Some(text.ok()?.contains("\nloading:1"))
        };
        wait_until("it loads", || loads() == Some(true));
        let (mut real, board) = (Requests::new(&config), Board::default());
        let mut compared = 0;
        for request in requests {
            let answer = real.ask(request.clone(), &board);
            if loads() != Some(true) {
                break;
            }
            let reply = world.serve(1, &request).expect("an answer");
            compare(&request, &reply, &answer).unwrap_or_else(|what| panic!("{request:?}: {what}"));
            compared += 1;
        }
        assert!(
            compared > 2,
            "it has loaded too fast: {compared}, {:?}",
            loads()
        );
    });
}
