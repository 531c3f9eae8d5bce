//! A Redis that is full: nothing may depend on memory that it does not give.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use support::receiver::{first_arrivals, ids_of};
use support::scripted::{Answer, Kind, Scripted};
use support::stream::{assert_arrived, dead_letters, ids, length, status};
use support::{Redis, Service, World, holds_within, wait_until};

/// What a Redis of a small device has.
const LIMIT: [&str; 4] = ["--maxmemory", "20mb", "--maxmemory-policy", "noeviction"];

/// One measurement, as a sensor writes it.
fn sensor_writes(redis: &Redis) -> bool {
    let mut command = redis::cmd("XADD");
    command
        .arg("measurement:values")
        .arg("*")
        .arg("temperature_celsius")
        .arg("x".repeat(300));
    command.query::<String>(&mut redis.connection()).is_ok()
}

/// Writes until Redis refuses to take more.
fn fill_up(redis: &Redis) {
    let mut connection = redis.connection();
    let value = "x".repeat(300);
    loop {
        let mut pipe = redis::pipe();
        for _ in 0..200 {
            pipe.cmd("XADD")
                .arg("measurement:values")
                .arg("*")
                .arg("temperature_celsius")
                .arg(&value)
                .ignore();
        }
        if pipe.query::<()>(&mut connection).is_err() {
            break;
        }
    }
    drop(connection);
    // A connection less, and a few more fit.
    while sensor_writes(redis) {}
}

/// What the binary says when it is asked for something else than its service.
fn asked(world: &World, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = support::service::command();
    command.envs(world.settings()).args(arguments);
    let output = command.output().expect("the binary");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.code())
}

/// `--status` says how it stands.
fn status_answers(world: &World) {
    let (text, code) = asked(world, &["--status"]);
    assert!(
        text.contains("backlog") && code != Some(2),
        "{code:?} {text}"
    );
}

/// `--status` tells the truth soon, although Redis is full.
fn status_tells(world: &World, words: [&str; 2], code: i32) {
    let mut told = (String::new(), None);
    let right = holds_within(Duration::from_secs(10), || {
        told = asked(world, &["--status"]);
        words.iter().all(|words| told.0.contains(words)) && told.1 == Some(code)
    });
    assert!(right, "{words:?}, {code}: {told:?}");
}

/// The broker is away until Redis is full, and comes back.
fn overflow(version: &str, keep_sent: Option<&str>) {
    let mut world = World::new();
    world.redis = Redis::start(&LIMIT);
    let mut settings = vec![("INTERVAL_SECONDS", "0.1"), ("MQTT_VERSION", version)];
    settings.extend(keep_sent.map(|keep| ("KEEP_SENT", keep)));
    assert!(sensor_writes(&world.redis));
    let service = world.start_with(&settings);
    world.wait_for(1);
    let first = world.receiver.ids();
    world.broker.stop();
    service.wait_for_log("disconnected from");
    fill_up(&world.redis);
    let mut waiting = first;
    waiting.extend(ids(&world.redis));
    waiting.dedup();
    status_tells(&world, ["not connected: ", " 100 % of maxmemory"], 1);

    world.broker.start_again();
    if keep_sent.is_some() {
        assert!(
            holds_within(Duration::from_secs(30), || sensor_writes(&world.redis)),
            "sensors are still refused"
        );
        wait_until("the sent ones are trimmed", || {
            length(&world.redis) < waiting.len() as u64 / 2
        });
    }
    let (ms, seq) = waiting.last().expect("a stream");
    let last = format!("({ms}-{seq}");
    assert!(
        holds_within(Duration::from_secs(60), || {
            let cursor = world.redis.cursor().unwrap_or_default();
            cursor == last || keep_sent.is_some() && cursor > last
        }),
        "the cursor is {:?} instead of {last}",
        world.redis.cursor()
    );
    wait_until("all have arrived", || {
        world.receiver.distinct() >= waiting.len()
    });
    assert_arrived(&world.receiver.ids(), &everything(&world, &waiting));
    status_tells(&world, [" connected (MQTT ", " 0 measurements\n"], 0);
    assert_eq!(service.count_log("refuses the status"), 0);
    assert_eq!(service.count_log("were removed"), 0);
    assert_eq!(service.count_log("written anew"), 0);
}

/// What waited, and what sensors have written behind it.
fn everything(world: &World, waiting: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let last = waiting.last().copied();
    let mut all = waiting.to_vec();
    let arrived = world.receiver.ids();
    let mut behind: Vec<_> = arrived.into_iter().filter(|id| Some(*id) > last).collect();
    behind.sort_unstable();
    behind.dedup();
    all.extend(behind);
    all
}

#[test]
fn all_is_delivered_from_a_full_redis_and_the_cursor_is_stored() {
    overflow("5", None);
}

#[test]
fn with_keep_sent_sensors_can_write_again() {
    overflow("5", Some("0"));
}

#[test]
fn with_keep_sent_that_keeps_some_sensors_can_write_again() {
    overflow("3.1.1", Some("1000"));
}

#[test]
fn a_service_that_starts_at_a_full_redis_sends_as_well() {
    let mut world = World::new();
    world.redis = Redis::start(&LIMIT);
    fill_up(&world.redis);
    let waiting = ids(&world.redis);
    let service = world.start_with(&[("INTERVAL_SECONDS", "0"), ("KEEP_SENT", "10")]);
    assert!(
        holds_within(Duration::from_secs(60), || sensor_writes(&world.redis)),
        "sensors are still refused"
    );
    world.wait_for(waiting.len());
    assert_arrived(&world.receiver.ids(), &everything(&world, &waiting));
    wait_until("the rest is trimmed", || length(&world.redis) <= 20);
    status_answers(&world);
    assert_eq!(service.count_log("ERROR"), service.count_log("% full"));
}

/// What the broker refuses: first of all, in a row, in the middle, of many fields, of a mebibyte.
const POISON: [(u64, usize, usize); 6] = [
    (1, 1, 10),
    (2, 1, 300),
    (500, 1, 10),
    (600, 5000, 10),
    (700, 1, 1 << 20),
    (701, 1, 10),
];

fn is_poison(id: &(u64, u64)) -> bool {
    POISON.iter().any(|(poison, ..)| (*poison, 0) == *id)
}

fn fields_of(fields: usize, bytes: usize) -> HashMap<String, String> {
    let value = "x".repeat(bytes);
    (0..fields)
        .map(|nth| (format!("field{nth}"), value.clone()))
        .collect()
}

/// The dead letters, each from all of its entries.
fn whole_letters(redis: &Redis) -> HashMap<String, HashMap<String, String>> {
    let mut whole: HashMap<String, HashMap<String, String>> = HashMap::new();
    for mut letter in dead_letters(redis) {
        let id = letter.remove("_id").expect("an ID");
        letter.remove("_reason").expect("a reason");
        whole.entry(id).or_default().extend(letter);
    }
    whole
}

fn poison_in_a_full_redis(prepare: impl Fn(&Redis)) -> (Redis, Service) {
    let (redis, broker) = (Redis::start(&LIMIT), Scripted::start());
    prepare(&redis);
    let mut filled = 0;
    for (id, fields, bytes) in POISON {
        redis.fill(filled + 1, id - filled - 1);
        let mut command = redis::cmd("XADD");
        command.arg("measurement:values").arg(format!("{id}-0"));
        for (name, value) in fields_of(fields, bytes) {
            command.arg(name).arg(value);
        }
        command
            .query::<()>(&mut redis.connection())
            .expect("poison");
        filled = id;
    }
    fill_up(&redis);
    let mut good = ids(&redis);
    good.retain(|id| !is_poison(id));
    broker.script(|packet| match packet.kind {
        Kind::Publish if ids_of(&packet.payload).iter().any(is_poison) => Answer::Code(0x99),
        _ => Answer::Honest,
    });
    let service = Service::of_device(&redis, broker.port, &[("KEEP_SENT", "100")]);
    assert!(
        holds_within(Duration::from_secs(30), || sensor_writes(&redis)),
        "sensors are still refused: {:#?}",
        service.log()
    );
    wait_until("all is sent and trimmed", || length(&redis) <= 110);
    let last = *good.last().expect("a stream");
    let mut arrived = first_arrivals(&broker.ids());
    arrived.retain(|id| !is_poison(id) && *id <= last);
    assert_arrived(&arrived, &good);
    let letters = whole_letters(&redis);
    assert_eq!(letters.len(), POISON.len());
    for (id, fields, bytes) in POISON {
        assert!(
            letters[&format!("{id}-0")] == fields_of(fields, bytes),
            "{id}"
        );
    }
    (redis, service)
}

#[test]
fn poison_in_a_full_redis_does_not_keep_it_full() {
    let (redis, service) = poison_in_a_full_redis(|_| {});
    wait_until("they are counted", || status(&redis, "dead_letters") == "6");
    assert_eq!(status(&redis, "lost"), "0");
    assert_eq!(service.count_log("was copied to"), 6);
    assert_eq!(service.count_log("cannot be copied"), 0);
}

#[test]
fn nor_where_the_status_is_refused_as_well() {
    poison_in_a_full_redis(|redis| redis.set("mqtt_sender:status", "of another type"));
}

/// Writes until so many percent of the memory are used. What a connection buffers counts for
/// a moment only: whoever waits for what a fill brings fills again as long as it waits.
fn fill_to(redis: &Redis, percent: f64) {
    let mut connection = redis.connection();
    loop {
        let info: String = redis::cmd("INFO")
            .arg("memory")
            .query(&mut connection)
            .expect("INFO");
        let number = |name: &str| -> f64 {
            let value = info.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|n| n.parse().ok()).expect(name)
        };
        if 100.0 * number("used_memory:") / number("maxmemory:") >= percent {
            return;
        }
        let mut pipe = redis::pipe();
        for _ in 0..50 {
            pipe.cmd("XADD")
                .arg("measurement:values")
                .arg(&["*", "temperature_celsius", &"x".repeat(300)])
                .ignore();
        }
        pipe.query::<()>(&mut connection).expect("XADD");
    }
}

#[test]
fn a_filling_redis_is_told_once_a_limit_with_the_time_that_is_left() {
    let mut world = World::new();
    world.redis = Redis::start(&LIMIT);
    world.broker.stop();
    let topic = ("MQTT_TOPIC_STATUS", "iot-projekt/device/u1/status");
    let service = world.start_with(&[topic]);
    service.wait_for_log("connected to Redis");
    wait_until("the status is written", || {
        world.redis.command(&["EXISTS", "mqtt_sender:status"])
    });
    let told = |level: &str| {
        let lines = service.log();
        let line = |line: &&String| line.contains(level) && line.contains("% full (maxmemory)");
        lines.iter().filter(line).cloned().collect::<Vec<_>>()
    };
    wait_until("it is warned", || {
        fill_to(&world.redis, 82.0);
        told("WARN").len() == 1
    });
    let line = told("WARN").remove(0);
    assert!(
        line.contains("; at the present rate that is in about "),
        "{line}"
    );
    let field = |name: &str| -> f64 {
        let text: Option<String> = world.redis.command(&["HGET", "mqtt_sender:status", name]);
        text.and_then(|text| text.parse().ok()).unwrap_or(-1.0)
    };
    wait_until("the record tells it", || {
        (80.0..95.0).contains(&field("redis_used_percent"))
    });
    assert!(field("redis_full_in_seconds") >= 0.0);
    let (text, _) = asked(&world, &["--status"]);
    assert!(text.contains("% of maxmemory, full in about"), "{text}");
    let (text, _) = asked(&world, &["--status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for name in ["redis_used_percent", "redis_full_in_seconds"] {
        assert!(json[name].is_number(), "{json}");
    }
    wait_until("it is an error", || {
        fill_to(&world.redis, 97.0);
        told("ERROR").len() == 1
    });
    // The same on the status topic.
    world.broker.start_again();
    let announced = || world.receiver.messages(topic.1);
    wait_until("it is announced", || !announced().is_empty());
    let status: serde_json::Value =
        serde_json::from_slice(&announced()[0].payload).expect("the status");
    assert!(
        status["redis_used_percent"].as_f64() >= Some(95.0)
            && status.get("redis_full_in_seconds").is_some(),
        "{status}"
    );
    let percent = status["redis_used_percent"].to_string();
    assert!(percent.len() <= "100.1".len(), "{percent}");
    // Clearly below and up again: it is told again.
    world.broker.stop();
    world
        .redis
        .command::<u64>(&["XTRIM", "measurement:values", "MAXLEN", "100"]);
    wait_until("the record tells it", || field("redis_used_percent") < 75.0);
    wait_until("it is warned again", || {
        fill_to(&world.redis, 82.0);
        told("WARN").len() == 2
    });
    assert_eq!(told("ERROR").len(), 1);
}

#[test]
fn what_others_write_is_noticed_within_a_minute_while_nothing_is_sent() {
    let mut world = World::new();
    world.redis = Redis::start(&LIMIT);
    let service = world.start_with(&[]);
    let field = || -> Option<String> {
        let name = ["HGET", "mqtt_sender:status", "connected"];
        world.redis.command(&name)
    };
    wait_until("the connection is told", || field().as_deref() == Some("1"));
    for nth in 0..17 {
        world
            .redis
            .set(&format!("ballast{nth}"), &"x".repeat(1_000_000));
    }
    let told = || {
        let lines = service.log();
        lines.iter().any(|line| line.contains("% full (maxmemory)"))
    };
    assert!(holds_within(Duration::from_secs(25), told), "it is warned");
    // And `--status` does not go by what was.
    let shown = || asked(&world, &["--status"]).0.contains("% of maxmemory");
    assert!(shown());
    world
        .redis
        .command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(!shown());
}

#[test]
fn check_says_what_it_means_that_there_is_no_limit_or_an_eviction() {
    let mut world = World::new();
    let check = |world: &World| asked(world, &["--check"]);
    let (text, code) = check(&world);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("warn  Redis: there is no maxmemory: "),
        "{text}"
    );
    world.redis = Redis::start(&["--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru"]);
    let (text, _) = check(&world);
    assert!(text.contains(" of 20 MiB used (maxmemory)"), "{text}");
    assert!(
        text.contains("warn  Redis: maxmemory-policy is allkeys-lru"),
        "{text}"
    );
}

#[test]
fn who_may_not_ask_for_the_memory_is_served_as_well() {
    let world = World::new();
    world.redis.command::<()>(&[
        "ACL", "SETUSER", "sender", "on", ">pw", "~*", "+@all", "-info", "-config", "-memory",
    ]);
    let user = [("REDIS_USERNAME", "sender"), ("REDIS_PASSWORD", "pw")];
    world.redis.fill(1, 3000);
    let service = world.start_with(&user);
    world.wait_for(3000);
    world.redis.wait_for_cursor("(3000-0");
    wait_until("the status is written", || {
        let used: Option<String> =
            world
                .redis
                .command(&["HGET", "mqtt_sender:status", "redis_used_percent"]);
        used.as_deref() == Some("")
    });
    assert_eq!(service.count_log("WARN  poller"), 0, "{:?}", service.log());
    let mut command = support::service::command();
    command.envs(world.settings()).envs(user).arg("--check");
    let output = command.output().expect("the binary");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("may not ask for its memory"),
        "{text}"
    );
}
