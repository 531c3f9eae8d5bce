//! The store against a real Redis: a full one, one with large entries, one with odd values.
//! `REDIS_SERVER` names another server than the `redis-server` of the system.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mqtt_handler::config;
use mqtt_handler::model::settings::Raw;
use mqtt_handler::model::status::Record;
use mqtt_handler::model::stream::{Copied, Position, Saved, Sent, Stream, Waiting};
use mqtt_handler::model::stream_id::{Cursor, StreamId};
use mqtt_handler::store::{Page, Save, Store, StoreError, Trimmed, Within, written_along};
use support::Redis;

const LAST_ID: &str = "mqtt_sender:last_id";
const DEAD_LETTER: &str = "mqtt_sender:dead_letter";

fn store(redis: &Redis) -> Store {
    store_at(redis.port)
}

fn store_at(port: u16) -> Store {
    let config = config::Redis {
        host: "127.0.0.1".into(),
        port,
        db: 0,
        username: String::new(),
        password: config::Secret::default(),
    };
    Store::new(&config, "mqtt-handler-test")
}

fn id(ms: u64) -> StreamId {
    StreamId::new(ms, 0)
}

/// All up to a measurement was sent.
fn sent(upto: u64) -> Sent {
    Sent {
        cursor: id(upto),
        accounted: None,
        oldest: StreamId::ZERO,
    }
}

fn save(cursor: &str) -> Save<'_> {
    Save {
        cursor,
        accounted: Some(7),
        seen: None,
        former: None,
        foreign: false,
        lost: None,
        dead_letters: None,
    }
}

/// Fills the memory until a sensor is refused, and returns how many measurements there are.
fn fill_up(redis: &Redis) -> u64 {
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let used = info(redis, "memory", "used_memory");
    redis.command::<()>(&[
        "CONFIG",
        "SET",
        "maxmemory",
        &(used + 3_000_000).to_string(),
    ]);
    let mut connection = redis.connection();
    for ms in 1.. {
        let added = redis::cmd("XADD")
            .arg("measurement:values")
            .arg(ms)
            .arg("n")
            .arg("v".repeat(200))
            .query::<String>(&mut connection);
        if let Err(error) = added {
            assert_eq!(error.code(), Some("OOM"), "{error}");
            return ms - 1;
        }
    }
    0
}

fn info(redis: &Redis, section: &str, name: &str) -> u64 {
    let text: String = redis.command(&["INFO", section]);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("{name} in {text}"))
}

fn is_7(redis: &Redis) -> bool {
    let text: String = redis.command(&["INFO", "server"]);
    !text.contains("redis_version:6.")
}

/// Adds `count` entries of so many bytes, behind what is there.
fn add_large(redis: &Redis, first: u64, count: u64, bytes: usize) {
    let mut connection = redis.connection();
    let value = "x".repeat(bytes);
    for ms in first..first + count {
        redis::cmd("XADD")
            .arg("measurement:values")
            .arg(ms)
            .arg("image")
            .arg(&value)
            .query::<()>(&mut connection)
            .expect("XADD");
    }
}

/// Reads everything behind `after` as the service would; page by page.
fn drain(store: &mut Store, after: StreamId, mut each: impl FnMut(&Page)) -> u64 {
    let (mut after, mut count) = (after, 0);
    loop {
        let (_, _, page) = store.page(after, 1000, 131_072, None).expect("a page");
        each(&page);
        count += page.len() as u64;
        match page.last() {
            Some(last) => after = last,
            None if page.more() => {}
            None => return count,
        }
    }
}

/// The peak of this process so far, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    1024 * kilobytes.expect("VmHWM in kB")
}

/// The longest that another client had to wait while `work` went on.
fn worst_wait(redis: &Redis, work: impl FnOnce()) -> Duration {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut connection = redis.connection();
            let mut worst = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begin = Instant::now();
                redis::cmd("PING")
                    .query::<()>(&mut connection)
                    .expect("PING");
                worst = worst.max(begin.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
            worst
        });
        work();
        done.store(true, Ordering::Relaxed);
        watch.join().expect("the watch")
    })
}

#[test]
fn a_full_redis_is_read_saved_to_looked_at_and_trimmed() {
    let redis = Redis::start(&[]);
    redis.set(LAST_ID, "(0-1");
    let count = fill_up(&redis);
    let mut store = store(&redis);
    let (settings, state, page) = store
        .page(StreamId::ZERO, 100, 1 << 20, None)
        .expect("page");
    assert_eq!(page.len(), 100);
    assert!(matches!(state, Some(Stream::Present(extent)) if extent.length == count));
    let cursor = Cursor::written(id(count));
    let save = Save {
        lost: Some(3),
        dead_letters: Some(4),
        ..save(&cursor)
    };
    assert_eq!(
        store.save_cursor(&settings.last_id, &save).expect("save"),
        Saved::Yes
    );
    assert_eq!(redis.cursor().as_deref(), Some(cursor.as_str()));
    let look = store.look(id(5)).expect("look");
    assert_eq!(look.oldest, Some(id(6)));
    assert!(
        look.used_percent.is_some_and(|used| used > 95.0),
        "{look:?}"
    );
    let live = store.live().expect("live").expect("a status");
    assert_eq!(
        (live.record.counters.lost, live.record.counters.dead_letters),
        (3, 4)
    );
    let record = |sent_bytes| {
        let mut record = Record::default();
        record.counters.sent_bytes = sent_bytes;
        record
    };
    let sent_bytes = |store: &mut Store| {
        let live = store.live().expect("live").expect("a status");
        live.record.counters.sent_bytes
    };
    store.write_status(&record(7), None).expect("the status");
    assert_eq!(sent_bytes(&mut store), 7);
    let along = (record(8), self::save(&cursor));
    let (_, _, page) = store
        .page(StreamId::ZERO, 100, 1 << 20, Some(&along))
        .expect("page");
    let (written, used) = written_along(&page);
    written.expect("the status along with a page");
    assert!(used > Some(95.0) && sent_bytes(&mut store) == 8);
    store.note_account(&save).expect("the account");
    let mut removed = 0;
    loop {
        let trimmed = store.trim_sent(&sent(count), 10).expect("trim");
        removed += trimmed.removed;
        if !trimmed.more {
            break;
        }
    }
    assert_eq!(removed, count - 10);
    redis.command::<()>(&["XADD", "measurement:values", "*", "n", "1"]);
}

#[test]
fn a_stream_with_older_entries_than_it_ever_had_is_not_trimmed() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.fill(1, 100);
    redis.set(LAST_ID, "(100-0");
    let of = |oldest| Sent {
        oldest: id(oldest),
        ..sent(100)
    };
    let trimmed = store.trim_sent(&of(2), 0).expect("trim");
    assert_eq!(trimmed, Trimmed::default());
    assert_eq!(store.trim_sent(&of(1), 0).expect("trim").removed, 100);
}

#[test]
fn a_measurement_that_comes_by_itself_is_read_with_its_state_at_once() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.fill(1, 3);
    store
        .page(StreamId::ZERO, 100, 1 << 16, None)
        .expect("page");
    redis.fill(4, 1);
    let (_, state, page) = store.page(id(3), 100, 1 << 16, None).expect("page");
    assert_eq!(page.len(), 1);
    assert!(matches!(state, Some(Stream::Present(extent)) if extent.length == 4));
}

#[test]
fn a_look_at_the_memory_costs_no_round_trip_of_its_own() {
    let redis = Redis::start(&["--maxmemory", "100mb"]);
    redis.fill(1, 1);
    let mut store = store(&redis);
    store.look(id(1)).expect("look");
    let reads = || info(&redis, "stats", "total_reads_processed");
    // What asking itself costs, of a connection of its own.
    let asking = [reads(), reads()];
    let before = reads();
    let look = store.look(id(1)).expect("look");
    let trips = reads() - before - (asking[1] - asking[0]);
    assert_eq!((trips, look.oldest), (1, None));
    assert!(look.used_percent.is_some_and(|used| used > 0.0));
}

#[test]
fn settings_are_told_apart_and_read_bounded() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.set("mqtt_sender:enabled", "");
    redis.command::<()>(&["SETRANGE", "mqtt_sender:interval", "100000000", "1"]);
    let (sent, begin) = (
        info(&redis, "stats", "total_net_output_bytes"),
        Instant::now(),
    );
    let settings = store.settings().expect("settings");
    let sent = info(&redis, "stats", "total_net_output_bytes") - sent;
    assert!(sent < 20_000, "{sent} bytes in {:?}", begin.elapsed());
    assert_eq!(settings.enabled, Raw::Text(String::new()));
    let why = settings.interval.text().expect_err("too long").0;
    assert!(
        why.ends_with("is longer than 1 KiB") && why.len() < 900,
        "{why}"
    );
    assert_eq!(settings.last_id, Raw::Missing);
    redis.command::<()>(&["LPUSH", LAST_ID, "1"]);
    assert!(matches!(
        store.settings().expect("settings").last_id,
        Raw::Unusable(_)
    ));
    let within = |store: &mut Store, key, bytes| store.get_within(key, bytes).expect("get");
    assert_eq!(
        within(&mut store, "mqtt_sender:interval", 1000),
        Within::Longer
    );
    assert_eq!(within(&mut store, "nothing", 10), Within::Missing);
    assert_eq!(
        within(&mut store, "mqtt_sender:enabled", 10),
        Within::Whole(String::new())
    );
}

#[test]
fn the_cursor_is_saved_only_over_what_was_read() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    let mut saved = |expected: &Raw, cursor: &str| {
        store
            .save_cursor(expected, &save(cursor))
            .expect("an answer")
    };
    assert_eq!(saved(&Raw::Missing, "(1-0"), Saved::Yes);
    // The answer was lost: the same again.
    assert_eq!(saved(&Raw::Missing, "(1-0"), Saved::Yes);
    let own = Raw::Text("(1-0".into());
    assert_eq!(saved(&own, "(2-0"), Saved::Yes);
    let foreign = Saved::Foreign(Raw::Text("(2-0".into()));
    assert_eq!(saved(&own, "(3-0"), foreign);
    assert_eq!(saved(&Raw::Missing, "(3-0"), foreign);
    redis.set(LAST_ID, "");
    let empty = Raw::Text(String::new());
    assert_eq!(saved(&Raw::Missing, "(3-0"), Saved::Foreign(empty.clone()));
    assert_eq!(saved(&empty, "(3-0"), Saved::Yes);
    redis.command::<()>(&["DEL", LAST_ID]);
    let own = Raw::Text("(3-0".into());
    assert_eq!(saved(&own, "(4-0"), Saved::Foreign(Raw::Missing));
    redis.command::<()>(&["LPUSH", LAST_ID, "1"]);
    assert!(matches!(
        saved(&own, "(4-0"),
        Saved::Foreign(Raw::Unusable(_))
    ));
    let position = store.remembered().expect("remembered").position;
    let at = |accounted, seen| {
        let cursor = "(3-0".into();
        Some(Position {
            cursor,
            accounted: Some(accounted),
            seen,
            former: None,
            foreign: false,
        })
    };
    assert_eq!(position, at(7, None));
    // What goes with the cursor may be new although the cursor is not.
    let seen = match store.look(StreamId::ZERO).expect("a look").stream {
        Stream::Present(extent) => Some(extent),
        Stream::Absent => None,
    };
    redis.set(LAST_ID, "(3-0");
    let more = Save {
        accounted: Some(8),
        seen,
        lost: Some(1),
        ..save("(3-0")
    };
    let own = Raw::Text("(3-0".into());
    assert_eq!(store.save_cursor(&own, &more).expect("answer"), Saved::Yes);
    let remembered = store.remembered().expect("remembered");
    assert_eq!(remembered.position, at(8, seen));
    assert_eq!(remembered.lost, 1);
    let status = store.write_status(&Record::default(), Some(&save("(3-0")));
    status.expect("written");
    let remembered = store.remembered().expect("remembered");
    assert_eq!(remembered.position, at(7, None));
}

#[test]
fn a_cursor_that_took_the_place_of_another_type_is_somebody_elses() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.command::<()>(&["LPUSH", LAST_ID, "1"]);
    let read = store.settings().expect("settings").last_id;
    assert!(matches!(read, Raw::Unusable(_)));
    redis.command::<()>(&["DEL", LAST_ID]);
    let found = store.save_cursor(&read, &save("(2-0")).expect("answer");
    assert_eq!(found, Saved::Foreign(Raw::Missing));
    redis.set(LAST_ID, "");
    let found = store.save_cursor(&read, &save("(2-0")).expect("answer");
    assert_eq!(found, Saved::Foreign(Raw::Text(String::new())));
}

#[test]
fn there_is_nothing_to_trim_where_the_stream_is_gone_or_the_cursor_is_another() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.set(LAST_ID, "(1-0");
    let nothing = Trimmed::default();
    assert_eq!(store.trim_sent(&sent(1), 0).expect("answer"), nothing);
    redis.command::<()>(&["DEL", LAST_ID]);
    redis.command::<()>(&["LPUSH", LAST_ID, "1"]);
    redis.fill(1, 1);
    assert_eq!(store.trim_sent(&sent(1), 0).expect("answer"), nothing);
}

#[test]
fn a_cursor_that_is_no_text_is_overwritten_only_while_it_is_unchanged() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    let mut connection = redis.connection();
    for odd in [b"(1-0\xff".to_vec(), vec![b'9'; 5000]] {
        let set = |connection: &mut redis::Connection, value: &[u8]| {
            redis::cmd("SET")
                .arg(LAST_ID)
                .arg(value)
                .query::<()>(connection)
                .expect("SET");
        };
        set(&mut connection, &odd);
        let read = store.settings().expect("settings").last_id;
        assert!(matches!(read, Raw::Bytes(_)));
        let other = [b"x", &odd[..]].concat();
        set(&mut connection, &other);
        let found = store.save_cursor(&read, &save("(2-0")).expect("answer");
        assert!(matches!(&found, Saved::Foreign(raw) if *raw != read));
        set(&mut connection, &odd);
        let found = store.save_cursor(&read, &save("(2-0")).expect("answer");
        assert_eq!(found, Saved::Yes);
    }
}

#[test]
fn poison_is_copied_once_whatever_the_number_of_its_fields() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    let mut add = redis::cmd("XADD");
    add.arg("measurement:values").arg("1-0");
    add.arg("_id").arg("mine").arg("_reason").arg("none");
    for field in 0..5000 {
        add.arg(format!("f{field}")).arg(field);
    }
    add.query::<()>(&mut redis.connection()).expect("XADD");
    for _ in 0..2 {
        let copied = store.copy_poison(id(1), "too odd").expect("copied");
        assert_eq!(copied, Copied::Yes);
    }
    let copies: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", DEAD_LETTER, "-", "+"]);
    assert_eq!(copies.len(), 1);
    let fields = &copies[0].1;
    assert_eq!(fields.len(), 2 * 5004);
    let head = [
        "_id", "1-0", "_reason", "too odd", "__id", "mine", "__reason", "none", "f0",
    ];
    assert_eq!(fields[..9], head);
    let gone = store.copy_poison(id(9), "x").expect("gone");
    assert!(matches!(gone, Copied::Gone(Stream::Present(_))));
    redis.command::<()>(&["DEL", "measurement:values"]);
    let gone = store.copy_poison(id(9), "x").expect("gone");
    assert_eq!(gone, Copied::Gone(Stream::Absent));
}

#[test]
fn a_full_redis_takes_copies_up_to_a_quarter_more() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.fill(1, 2);
    add_large(&redis, 3, 1, 300_000);
    let mut add = redis::cmd("XADD");
    add.arg("measurement:values").arg("4-0");
    for field in 0..10_000 {
        add.arg(format!("f{field}")).arg(field);
    }
    add.query::<()>(&mut redis.connection()).expect("XADD");
    redis.set("ballast", &"x".repeat(10_000_000));
    let used = info(&redis, "memory", "used_memory");
    let limit = |bytes: u64| {
        redis.command::<()>(&["CONFIG", "SET", "maxmemory", &bytes.to_string()]);
    };
    limit(used - 500_000);
    for ms in [1, 3, 4] {
        for _ in 0..2 {
            let copied = store.copy_poison(id(ms), "x").expect("copied");
            assert_eq!(copied, Copied::Yes);
        }
    }
    let copies: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", DEAD_LETTER, "-", "+"]);
    let ids: Vec<&str> = copies.iter().map(|copy| copy.1[1].as_str()).collect();
    // A call of a script has 8000 words.
    assert_eq!(ids, ["1-0", "3-0", "4-0", "4-0", "4-0"]);
    let fields = copies[2..].iter().flat_map(|copy| &copy.1[4..]);
    let of_all = (0..10_000).flat_map(|field| [format!("f{field}"), field.to_string()]);
    assert!(
        fields.eq(&of_all.collect::<Vec<_>>()),
        "all of them, in order"
    );
    limit(used * 3 / 4);
    let refused = store.copy_poison(id(2), "x");
    assert!(
        matches!(&refused, Err(StoreError::Refused(why)) if why.starts_with("OOM")),
        "{refused:?}"
    );
}

#[test]
fn a_copy_that_is_impossible_is_refused_with_the_reason() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.set(DEAD_LETTER, "x");
    redis.fill(1, 2);
    let refused = store.copy_poison(id(1), "x");
    assert!(
        matches!(&refused, Err(StoreError::Refused(why)) if why.starts_with("WRONGTYPE")),
        "{refused:?}"
    );
    redis.command::<()>(&["DEL", DEAD_LETTER]);
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = store.copy_poison(id(1), "x");
    assert!(
        matches!(&refused, Err(StoreError::Refused(why)) if why.starts_with("OOM")),
        "{refused:?}"
    );
    assert!(store.connected());
}

#[test]
fn a_stream_that_is_none_is_refused_and_the_connection_stays() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.set("measurement:values", "x");
    let is_refused = |answer: Option<StoreError>| match answer {
        Some(StoreError::Refused(why)) => assert!(why.starts_with("WRONGTYPE"), "{why}"),
        other => panic!("{other:?}"),
    };
    is_refused(store.page(StreamId::ZERO, 9, 999, None).err());
    is_refused(store.look(StreamId::ZERO).err());
    is_refused(store.count(StreamId::ZERO, StreamId::MAX).err());
    let wait = Duration::from_millis(1);
    is_refused(store.wait(StreamId::ZERO, 9, 999, wait).err());
    assert!(store.connected());
    redis.command::<()>(&["DEL", "measurement:values"]);
    redis.fill(1, 3);
    let (_, state, page) = store.page(StreamId::MAX, 9, 999, None).expect("page");
    assert_eq!(page.len(), 0);
    assert!(matches!(state, Some(Stream::Present(_))));
}

#[test]
fn what_waits_is_counted_where_the_server_does_not() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    assert_eq!(store.look(id(1)).expect("look").stream, Stream::Absent);
    redis.fill(1, 12_000);
    let waiting = |store: &mut Store, after| store.look(id(after)).expect("look").waiting;
    if is_7(&redis) {
        assert_eq!(waiting(&mut store, 0), None);
    } else {
        assert_eq!(waiting(&mut store, 0), Some(Waiting::AtLeast(10_000)));
        assert_eq!(waiting(&mut store, 2000), Some(Waiting::Exactly(10_000)));
        assert_eq!(waiting(&mut store, 12_000), Some(Waiting::Exactly(0)));
    }
    let (mut after, mut counted) = (id(100), 0);
    loop {
        let (count, end) = store.count(after, id(11_900)).expect("count");
        (counted, after) = (counted + count, end);
        if count == 0 {
            break;
        }
    }
    assert_eq!(counted, 11_800);
}

#[test]
fn a_page_tells_the_state_only_where_nothing_has_changed() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.fill(1, 100);
    let (_, first, page) = store.page(StreamId::ZERO, 10, 1 << 20, None).expect("page");
    assert!(page.more() && first.is_some());
    redis.fill(101, 1);
    let (_, changed, _) = store.page(id(10), 10, 1 << 20, None).expect("page");
    assert_eq!(changed, None);
    let (_, again, _) = store.page(id(10), 10, 1 << 20, None).expect("page");
    assert!(matches!(again, Some(Stream::Present(extent)) if extent.length == 101));
}

#[test]
fn a_million_sent_entries_are_trimmed_and_nobody_waits() {
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, 1_000_000);
    let mut store = store(&redis);
    redis.set(LAST_ID, &Cursor::written(id(999_000)));
    // A cursor that is not the stored one removes nothing.
    assert_eq!(
        store.trim_sent(&sent(1_000_000), 0).expect("trim"),
        Trimmed::default()
    );
    let (mut removed, mut steps) = (0, 0);
    let worst = worst_wait(&redis, || {
        loop {
            let trimmed = store.trim_sent(&sent(999_000), 5000).expect("trim");
            (removed, steps) = (removed + trimmed.removed, steps + 1);
            if !trimmed.more {
                break;
            }
        }
    });
    assert_eq!(removed, 994_000, "{steps} steps");
    assert_eq!(redis.command::<u64>(&["XLEN", "measurement:values"]), 6000);
    eprintln!("{steps} steps, another client waited at most {worst:?}");
    assert!(worst < Duration::from_millis(300), "{worst:?}");
}

#[test]
fn a_backlog_is_read_whole_and_in_order() {
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, 200_000);
    let mut store = store(&redis);
    let (mut expected, mut pages) = (1, 0);
    let begin = Instant::now();
    let count = drain(&mut store, StreamId::ZERO, |page| {
        pages += 1;
        for entry in page.entries() {
            assert_eq!(entry.id, id(expected));
            expected += 1;
        }
    });
    assert_eq!(count, 200_000);
    eprintln!("{pages} pages in {:?}", begin.elapsed());
    assert!(pages < 400, "{pages}");
}

#[test]
fn large_entries_behind_small_ones_take_memory_one_by_one() {
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, 100_000);
    add_large(&redis, 200_000, 400, 500_000);
    let mut store = store(&redis);
    redis.command::<()>(&["CONFIG", "RESETSTAT"]);
    let before = info(&redis, "memory", "used_memory");
    let (mut largest, mut peak) = (0, 0);
    let count = drain(&mut store, StreamId::ZERO, |page| {
        let bytes = page.measure().sent;
        largest = largest.max(bytes);
        peak = peak.max(info(&redis, "memory", "used_memory_peak"));
    });
    assert_eq!(count, 100_400);
    assert!(largest < 2_000_000, "a page of {largest} bytes");
    assert!(
        peak < before + 10_000_000,
        "Redis grew by {}",
        peak - before
    );
    let page = store
        .range((id(199_990), StreamId::MAX), 1000, 131_072)
        .expect("range");
    assert!(page.measure().sent < 2_000_000);
    let (_, _, page) = store
        .wait(id(199_990), 1000, 131_072, Duration::from_millis(1))
        .expect("wait");
    assert!((1..=4).contains(&page.len()));
}

#[test]
fn an_answer_that_is_larger_than_expected_is_given_up() {
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, 800_000);
    add_large(&redis, 800_001, 11, 500_000);
    redis.fill(900_000, 200_000);
    let mut store = store(&redis);
    store.connect().expect("a connection");
    let client = store.client_id();
    let before = client.load(Ordering::Relaxed);
    let (mut largest, mut expected) = (0, 0);
    let count = drain(&mut store, StreamId::ZERO, |page| {
        largest = largest.max(page.measure().sent);
        for entry in page.entries() {
            assert!(entry.id > id(expected));
            expected = entry.id.ms;
        }
    });
    assert_eq!(count, 1_000_011);
    assert!(largest < 5_000_000, "a page of {largest} bytes");
    let after = client.load(Ordering::Relaxed);
    assert_ne!(before, after, "it was not given up");
}

#[test]
fn the_peak_of_a_process_does_not_follow_the_size_of_entries() {
    const PORT: &str = "STORE_TEST_PORT";
    if let Ok(port) = std::env::var(PORT) {
        return drain_in_little_memory(port.parse().expect("a port"));
    }
    let redis = Redis::start(&["--appendonly", "no"]);
    redis.fill(1, 100_000);
    add_large(&redis, 200_000, 400, 500_000);
    add_large(&redis, 300_000, 50, 1_000_000);
    // A process of its own, so that other tests do not count.
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "the_peak_of_a_process_does_not_follow_the_size_of_entries",
        ])
        .env(PORT, redis.port.to_string())
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

fn drain_in_little_memory(port: u16) {
    let mut store = store_at(port);
    let begin = peak_memory();
    let count = drain(&mut store, StreamId::ZERO, |_| {});
    let peak = peak_memory();
    assert_eq!(count, 100_450);
    assert!(
        peak < 24_000_000,
        "{begin} bytes at first, {peak} in the end"
    );
}

#[test]
fn foreign_text_in_the_status_is_harmless() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    assert!(store.live().expect("live").is_none());
    let mut connection = redis.connection();
    redis::cmd("HSET")
        .arg("mqtt_sender:status")
        .arg("last_error")
        .arg("\x1b[2J\nforged")
        .arg("version")
        .arg("v".repeat(1_000_000))
        .query::<()>(&mut connection)
        .expect("HSET");
    redis.set(LAST_ID, "(1-0\x07");
    let live = store.live().expect("live").expect("a status");
    assert_eq!(live.record.link.last_error, "\\u{1b}[2J\\nforged");
    assert_eq!(live.record.program.version, "");
    assert_eq!(live.cursor, "(1-0\\u{7}");
}

#[test]
fn scripts_that_the_server_has_forgotten_are_brought_again() {
    let redis = Redis::start(&[]);
    let mut store = store(&redis);
    redis.fill(1, 3);
    for _ in 0..2 {
        let (settings, _, page) = store.page(StreamId::ZERO, 9, 999, None).expect("page");
        assert_eq!(page.len(), 3);
        let cursor = Cursor::written(id(3));
        let saved = store.save_cursor(&settings.last_id, &save(&cursor));
        assert_eq!(saved.expect("save"), Saved::Yes);
        redis.command::<()>(&["SCRIPT", "FLUSH"]);
    }
}
