//! What others do to the stream and to the cursor: written anew, deleted, trimmed, rewritten.
//! What is lost by it is counted exactly, and nothing else is.

mod support;

use std::time::{Duration, Instant};

use support::receiver::first_arrivals;
use support::stream::{assert_arrived, consecutive, fill_fast, status};
use support::{Redis, Service, World, holds_within, wait_until};

const VALUES: &str = "measurement:values";

/// Redis 7 counts what was added; before, losses cannot be counted.
fn counts(redis: &Redis) -> bool {
    let info: String = redis.command(&["INFO", "server"]);
    let version = info.split("redis_version:").nth(1).unwrap_or_default();
    !version.starts_with('6')
}

fn command(redis: &Redis, words: &[&str]) {
    redis.command::<redis::Value>(words);
}

/// The stream is deleted and filled in one step: in between nobody sees it.
fn rewrite(redis: &Redis, ids: &[String]) {
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("DEL").arg(VALUES).ignore();
    for id in ids {
        pipe.cmd("XADD")
            .arg(VALUES)
            .arg(id)
            .arg("n")
            .arg(1)
            .ignore();
    }
    pipe.query::<()>(&mut redis.connection())
        .expect("a rewrite");
}

fn wait_for_count(redis: &Redis, service: &Service, lost: &str) {
    let counted =
        || status(redis, "lost") == lost || lost == "0" && status(redis, "lost").is_empty();
    assert!(
        holds_within(Duration::from_secs(20), counted),
        "lost {:?} instead of {lost}: {:#?}",
        status(redis, "lost"),
        service.log()
    );
    // Nothing is added to it later.
    assert!(!holds_within(Duration::from_secs(1), || !counted()));
}

#[test]
fn a_stream_written_anew_below_the_old_cursor_is_sent_from_its_start() {
    for interval in ["0.1", "0"] {
        for restart in [false, true] {
            let world = World::new();
            let settings = [("INTERVAL_SECONDS", interval)];
            world.redis.fill(20_000_000, 100);
            let mut service = world.start_with(&settings);
            world.redis.wait_for_cursor("(20000099-0");
            if restart {
                service.kill();
            }
            // Five hours back, and then the clock is set.
            let mut ids: Vec<String> = (0..20).map(|n| format!("{}-0", 2_000_000 + n)).collect();
            ids.push("20000200-0".into());
            rewrite(&world.redis, &ids);
            if restart {
                service = world.start_with(&settings);
            }
            world.redis.wait_for_cursor("(20000200-0");
            if counts(&world.redis) {
                let mut expected = consecutive(20_000_000, 100);
                expected.extend(consecutive(2_000_000, 20));
                expected.push((20_000_200, 0));
                wait_until("all have arrived", || world.receiver.distinct() >= 121);
                assert_arrived(&world.receiver.ids(), &expected);
                wait_for_count(&world.redis, &service, "0");
            }
        }
    }
}

#[test]
fn a_cursor_that_somebody_has_set_is_obeyed_in_the_new_stream_too() {
    let world = World::new();
    world.redis.fill(1000, 100);
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    world.redis.wait_for_cursor("(1099-0");
    world.redis.set("mqtt_sender:last_id", "(2000-0");
    service.wait_for_log("measurements after 2000-0 are sent");
    rewrite(&world.redis, &["5-0".into(), "6-0".into(), "2001-0".into()]);
    world.redis.wait_for_cursor("(2001-0");
    wait_until("it has arrived", || world.receiver.distinct() >= 101);
    assert_eq!(world.receiver.ids().last(), Some(&(2001, 0)));
    assert_eq!(world.receiver.distinct(), 101);
}

#[test]
fn white_space_around_what_is_set_changes_nothing() {
    let world = World::new();
    world.redis.fill(1, 100);
    world.redis.set("mqtt_sender:last_id", "$\n");
    world.redis.set("mqtt_sender:interval", " 0.1\r\n");
    let mut service = world.start();
    service.wait_for_log("measurements after 100-0 are sent");
    world.redis.wait_for_cursor("(100-0");
    service.kill();
    world.redis.fill(101, 10);
    let service = world.start();
    world.redis.wait_for_cursor("(110-0");
    world.wait_for(10);
    assert_arrived(&world.receiver.ids(), &consecutive(101, 10));
    world.redis.set("mqtt_sender:last_id", "\t(105-0 \n");
    service.wait_for_log("measurements after 105-0 are sent");
    world.redis.wait_for_cursor("(110-0");
    world.redis.set("mqtt_sender:enabled", "0\n");
    service.wait_for_log("sending is off");
    assert_eq!(service.count_log("unusable"), 0);
}

/// A device whose stream others meddle with while nothing may be sent.
struct Meddled {
    world: World,
    service: Service,
    interval: &'static str,
    last: u64,
    lost: u64,
}

impl Meddled {
    fn new(interval: &'static str) -> Meddled {
        let world = World::new();
        let service = world.start_with(&[("INTERVAL_SECONDS", interval)]);
        Meddled {
            world,
            service,
            interval,
            last: 0,
            lost: 0,
        }
    }

    /// Adds `count` while sending is off, does what is to be done, and sends: exactly so many
    /// are lost by it.
    fn round(&mut self, count: u64, restart: bool, lost: u64, meddle: impl FnOnce(&Redis, u64)) {
        let redis = &self.world.redis;
        let off = self.service.count_log("sending is off");
        redis.set("mqtt_sender:enabled", "0");
        wait_until("sending is off", || {
            self.service.count_log("sending is off") > off
        });
        redis.fill(self.last + 1, count);
        if restart {
            self.service.kill();
        }
        meddle(redis, self.last);
        if restart {
            self.service = self
                .world
                .start_with(&[("INTERVAL_SECONDS", self.interval)]);
        }
        redis.set("mqtt_sender:enabled", "1");
        self.last += count;
        self.lost += lost;
        redis.fill(self.last + 1, 1);
        self.last += 1;
        redis.wait_for_cursor(&format!("({}-0", self.last));
        wait_for_count(redis, &self.service, &self.lost.to_string());
    }
}

#[test]
fn losses_by_the_hand_of_others_are_counted_exactly() {
    std::thread::scope(|scope| {
        for interval in ["0.1", "0"] {
            scope.spawn(move || count_losses(interval));
        }
    });
}

fn count_losses(interval: &'static str) {
    let mut device = Meddled::new(interval);
    if !counts(&device.world.redis) {
        return;
    }
    for restart in [false, true] {
        // Single ones, in the middle of what waits.
        device.round(200, restart, 50, |redis, last| {
            for id in last + 100..last + 150 {
                command(redis, &["XDEL", VALUES, &format!("{id}-0")]);
            }
        });
        // The last ones.
        device.round(50, restart, 10, |redis, last| {
            for id in last + 41..last + 51 {
                command(redis, &["XDEL", VALUES, &format!("{id}-0")]);
            }
        });
        // From the front, sent ones and unsent ones.
        device.round(300, restart, 120, |redis, last| {
            let first = format!("{}-0", last + 121);
            command(redis, &["XTRIM", VALUES, "MINID", &first]);
        });
        // Sent ones only.
        device.round(20, restart, 0, |redis, last| {
            command(redis, &["XDEL", VALUES, &format!("{last}-0")]);
        });
        device.round(20, restart, 0, |redis, last| {
            let first = format!("{}-0", last + 1);
            command(redis, &["XTRIM", VALUES, "MINID", &first]);
        });
        // Somebody sets the largest ID higher.
        device.round(20, restart, 0, |redis, last| {
            let id = format!("{}-5", last + 20);
            command(redis, &["XSETID", VALUES, &id]);
        });
    }
    // All is sent; the stream is deleted, and newer ones are written.
    for restart in [false, true] {
        device.round(0, restart, 0, |redis, last| {
            let ids: Vec<String> = (1..=1000)
                .map(|n| format!("{}-1", last - 1000 + n))
                .collect();
            let newer = ids
                .iter()
                .enumerate()
                .map(|(n, _)| format!("{last}-{}", n + 1));
            rewrite(redis, &newer.collect::<Vec<_>>());
        });
    }
    wait_until("nothing waits", || {
        status(&device.world.redis, "backlog") == "0"
    });
    let arrived = first_arrivals(&device.world.receiver.ids());
    assert!(arrived.is_sorted());
    assert_eq!(arrived.iter().filter(|id| id.1 > 0).count(), 2000);
}

#[test]
fn another_redis_that_knows_nothing_of_the_old_one_is_taken_as_it_is() {
    let mut world = World::new();
    world.redis.fill(1000, 100);
    let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    world.redis.wait_for_cursor("(1099-0");
    service.kill();
    world.redis = Redis::start(&[]);
    world.redis.fill(10, 50);
    let service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
    world.redis.wait_for_cursor("(59-0");
    wait_until("all have arrived", || world.receiver.distinct() == 150);
    wait_for_count(&world.redis, &service, "0");
    assert_eq!(service.count_log("ERROR"), 0);
}

#[test]
fn settings_are_obeyed_while_a_million_entries_are_counted() {
    let world = World::new();
    fill_fast(&world.redis, 1, 1_300_000, 10);
    world.redis.set("mqtt_sender:enabled", "0");
    world.redis.set("mqtt_sender:last_id", "(10-0");
    let service = world.start_with(&[("INTERVAL_SECONDS", "1")]);
    service.wait_for_log("measurements after 10-0 are sent");
    for interval in ["7", "8", "9"] {
        world.redis.set("mqtt_sender:interval", interval);
        let begun = Instant::now();
        service.wait_for_log(&format!("the interval is {interval} s"));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    if counts(&world.redis) {
        wait_until("all are counted", || {
            status(&world.redis, "backlog") == "1299990"
        });
    }
}

/// Whoever writes many measurements at once wakes the service with the first of them.
#[test]
fn a_burst_that_is_larger_than_all_before_it_is_no_new_stream() {
    let world = World::new();
    let service = world.start_with(&[("INTERVAL_SECONDS", "0"), ("KEEP_SENT", "0")]);
    service.wait_for_log("the cursor:");
    let mut next = 1;
    for burst in [1, 5, 20, 80, 300, 900] {
        world.redis.fill(next, burst);
        next += burst;
        world.redis.wait_for_cursor(&format!("({}-0", next - 1));
    }
    wait_for_count(&world.redis, &service, "0");
    assert_eq!(service.count_log("ERROR"), 0, "{:#?}", service.log());
}

/// With the stream its cursor is gone, and everything counts again: what waited is lost all the same.
#[test]
fn what_waited_in_a_redis_that_was_emptied_is_counted() {
    for interval in ["0.1", "0"] {
        for (empty, frozen) in [
            (&["FLUSHALL"][..], false),
            (&["DEL", VALUES, "mqtt_sender:last_id"], false),
            (&["FLUSHALL"], true),
        ] {
            let mut world = World::new();
            world.redis.fill(1, 10);
            let service = world.start_with(&[("INTERVAL_SECONDS", interval)]);
            world.redis.wait_for_cursor("(10-0");
            // What is in flight to a frozen broker arrives yet.
            if frozen {
                world.broker.freeze();
            } else {
                world.broker.stop();
            }
            world.redis.fill(11, 15);
            wait_until("they are seen to wait", || {
                status(&world.redis, "backlog") == "15"
            });
            command(&world.redis, empty);
            service.wait_for_log("everything counts");
            if frozen {
                world.broker.thaw();
            } else {
                world.broker.start_again();
            }
            world.redis.fill(2001, 2);
            world.redis.wait_for_cursor("(2002-0");
            let accounted = || {
                let lost: u64 = status(&world.redis, "lost").parse().unwrap_or(0);
                let old = |id: &&(u64, u64)| (11..26).contains(&id.0);
                lost + world.receiver.ids().iter().filter(old).count() as u64
            };
            assert!(
                holds_within(Duration::from_secs(20), || accounted() == 15),
                "{interval} {empty:?}: {} of 15: {:#?}",
                accounted(),
                service.log()
            );
        }
    }
}

/// Who renames the stream away can rename it back, and a copy can be restored.
#[test]
fn a_stream_that_was_away_is_sent_on_and_what_was_told_as_lost_is_taken_back() {
    std::thread::scope(|scope| {
        for keep_sent in ["", "0"] {
            for restart in [false, true] {
                for written in [false, true] {
                    scope.spawn(move || comes_back(keep_sent, restart, written));
                }
            }
        }
    });
}

/// `written`: sensors write while it is away, and the stream comes back over that.
fn comes_back(keep_sent: &str, restart: bool, written: bool) {
    let mut world = World::new();
    if !counts(&world.redis) {
        return;
    }
    let settings = [("INTERVAL_SECONDS", "0.1"), ("KEEP_SENT", keep_sent)];
    world.redis.fill(1000, 50);
    let mut service = world.start_with(&settings);
    world.redis.wait_for_cursor("(1049-0");
    for id in 1010..1020 {
        command(&world.redis, &["XDEL", VALUES, &format!("{id}-0")]);
    }
    world.broker.stop();
    world.redis.fill(1050, 15);
    let waits = |redis: &Redis, count: &str| {
        wait_until("they are seen to wait", || {
            status(redis, "backlog") == count
        });
    };
    waits(&world.redis, "15");
    command(&world.redis, &["RENAME", VALUES, "away"]);
    if written {
        world.redis.fill(2000, 3);
    }
    wait_for_count(&world.redis, &service, "15");
    if written {
        waits(&world.redis, "3");
    }
    if restart {
        service.kill();
        service = world.start_with(&settings);
        service.wait_for_log("the cursor:");
    }
    command(&world.redis, &["RENAME", "away", VALUES]);
    // What was written meanwhile is gone instead.
    wait_for_count(&world.redis, &service, if written { "3" } else { "0" });
    world.broker.start_again();
    world.redis.fill(3000, 2);
    world.redis.wait_for_cursor("(3001-0");
    let mut expected = consecutive(1000, 65);
    expected.extend(consecutive(3000, 2));
    wait_until("all have arrived", || world.receiver.distinct() == 67);
    assert_arrived(&world.receiver.ids(), &expected);
    assert_eq!(world.receiver.ids().len(), 67, "nothing is repeated");
    wait_for_count(&world.redis, &service, if written { "3" } else { "0" });
}

#[test]
fn what_waited_in_a_stream_that_was_written_anew_while_the_service_was_down_is_counted() {
    std::thread::scope(|scope| {
        for waiting in [0, 15] {
            for kill in [true, false] {
                scope.spawn(move || rewritten_while_down(waiting, kill));
            }
        }
    });
}

fn rewritten_while_down(waiting: u64, kill: bool) {
    let mut world = World::new();
    if !counts(&world.redis) {
        return;
    }
    let mut lost = 0;
    // Older ones, newer ones, more of them than there ever were, and older ones with a newer one.
    for (round, [older, newer]) in [[13, 0], [0, 5], [0, 400], [13, 1]].into_iter().enumerate() {
        let first = 1_000_000 * (round as u64 + 1);
        world.redis.fill(first, 10);
        let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
        world.redis.wait_for_cursor(&format!("({}-0", first + 9));
        world.broker.stop();
        world.redis.fill(first + 10, waiting);
        wait_until("they are seen to wait", || {
            status(&world.redis, "backlog") == waiting.to_string()
        });
        if kill {
            service.kill();
        } else {
            service.terminate();
        }
        let ids = |first: u64, count: u64| (first..first + count).map(|ms| format!("{ms}-1"));
        let anew = ids(first - 400_000, older).chain(ids(first + 500_000, newer));
        rewrite(&world.redis, &anew.collect::<Vec<_>>());
        world.broker.start_again();
        service = world.start_with(&[("INTERVAL_SECONDS", "0.1")]);
        let last = if newer > 0 {
            first + 500_000 + newer
        } else {
            first - 400_000 + older
        };
        world.redis.wait_for_cursor(&format!("({}-1", last - 1));
        lost += waiting;
        wait_for_count(&world.redis, &service, &lost.to_string());
        // It is nothing to worry about where nothing was lost.
        let errors = service.count_log("ERROR");
        assert_eq!(errors > 0, waiting > 0, "{:#?}", service.log());
        service.terminate();
    }
    let anew = world.receiver.ids().iter().filter(|id| id.1 == 1).count();
    assert_eq!(anew, 13 + 5 + 400 + 14);
}
