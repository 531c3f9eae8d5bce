//! From the Python program and back: its file, its cursor, its Redis.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::receiver::first_arrivals;
use support::stream::{consecutive, status};
use support::{Mosquitto, Receiver, Redis, Service, World, wait_until};

const CURSOR: &str = "mqtt_sender:last_id";
const VALUES: &str = "iot-projekt/device/u1/values";

/// All keys that the Python program knew and no others, as somebody wrote it by hand: comments of
/// both kinds, colons, blanks, keys in capitals, and what means something elsewhere in values.
const APP_CONF: &str = "\
# Konfiguration für den MQTT-Handler, Gerät im Gewächshaus (März 2021, Jörg)
# ACHTUNG: nach Änderungen den Container neu starten!

[main]
; wie oft gesendet wird, in Sekunden
interval_seconds = 0.2

[balena]
# nur für Tests ohne balena, sonst kommen die Werte aus den Umgebungsvariablen
device_uuid: 0123abcd
device_type = raspberrypi3
app_id=1234567
app_name = Gewächshaus Süd

[redis]
host = 127.0.0.1
port = REDIS
db = 2

[mqtt]
; Broker im Büro -- später: broker.example.com
HOST = 127.0.0.1
Port = BROKER
keepalive_seconds = 60
username = gerät#7
password = 100%;geheim\\n\"ja\"
tls_enable = False
# tls_insecure nur zum Ausprobieren
tls_insecure = False
tls_ca_certs =
tls_certfile =
tls_keyfile =

topic_broadcast = iot-projekt/device/broadcast/control
topic_request = iot-projekt/device/%(device_uuid)s/request
topic_response = iot-projekt/device/%(device_uuid)s/response
topic_values = iot-projekt/%(app_id)s/%(device_uuid)s/values
";

#[test]
fn a_file_from_2021_gives_the_same_topics_payloads_and_cursor() {
    let folder = tempfile::tempdir().expect("folder");
    let login = ["-c", "-b"];
    let made = std::process::Command::new("mosquitto_passwd")
        .args(login)
        .arg(folder.path().join("passwords"))
        .args(["gerät#7", "100%;geheim\\n\"ja\""])
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let broker = Mosquitto::start_in(
        folder,
        "allow_anonymous false\npassword_file {folder}/passwords",
    );
    let credentials = Some(("gerät#7", "100%;geheim\\n\"ja\""));
    let receiver = Receiver::start_as(broker.port, &["iot-projekt/#"], credentials);
    let redis = Redis::start(&[]);
    let mut device = redis.connection();
    let mut ask = |words: &[&str]| -> Option<String> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut device).expect(words[0])
    };
    ask(&["SELECT", "2"]);
    for (id, temperature) in [("1621122796938-0", "19.9"), ("1621122796939-0", "20.3")] {
        let fields = [
            "XADD",
            "measurement:values",
            id,
            "temperature_celsius",
            temperature,
            "Ort",
            "Fürth",
        ];
        ask(&fields);
    }
    // The Python program has sent the first.
    ask(&["SET", CURSOR, "(1621122796938-0"]);
    // With the line ends of another editor just as well.
    for line_end in ["\n", "\r\n"] {
        let text = APP_CONF
            .replace("REDIS", &redis.port.to_string())
            .replace("BROKER", &broker.port.to_string())
            .replace('\n', line_end);
        let service = Service::start_with_file(&text, &[]);
        let replies = || receiver.messages("iot-projekt/device/0123abcd/response");
        let before = replies().len();
        wait_until("a command is answered", || {
            let request = r#"{"command":"get_config","key":"mqtt_sender:last_id"}"#;
            receiver.publish("iot-projekt/device/0123abcd/request", request, false);
            replies()
                .iter()
                .skip(before)
                .any(|reply| String::from_utf8_lossy(&reply.payload).contains("(1621122796939-0"))
        });
        assert_eq!(service.count_log("unknown"), 0, "{:#?}", service.log());
    }
    assert_eq!(ask(&["GET", CURSOR]).as_deref(), Some("(1621122796939-0"));
    let sent = receiver.messages("iot-projekt/1234567/0123abcd/values");
    let payloads: Vec<String> = sent
        .iter()
        .map(|message| String::from_utf8_lossy(&message.payload).into_owned())
        .collect();
    let expected = r#"[{"_id":"1621122796939-0","_device_uuid":"0123abcd","_device_type":"raspberrypi3","_app_id":"1234567","_app_name":"Gewächshaus Süd","temperature_celsius":"20.3","Ort":"Fürth"}]"#;
    assert_eq!(payloads, [expected], "once, and not the first again");
}

/// What the Python program does with the cursor: everything from it on is published, then it is
/// written, whether or not the broker has confirmed.
fn python_round(redis: &Redis, receiver: &Receiver) {
    let cursor = redis.get(CURSOR).unwrap_or("-".into());
    let read = [
        "XRANGE",
        "measurement:values",
        &cursor,
        "+",
        "COUNT",
        "1000",
    ];
    let entries: Vec<(String, Vec<String>)> = redis.command(&read);
    let Some((last, _)) = entries.last() else {
        return;
    };
    let list: Vec<serde_json::Value> = entries
        .iter()
        .map(|(id, fields)| serde_json::json!({"_id": id, &*fields[0]: fields[1]}))
        .collect();
    receiver.publish(VALUES, serde_json::to_string(&list).expect("JSON"), false);
    redis.set(CURSOR, &format!("({last}"));
}

/// Writes measurements 1-0, 2-0, … until it is dropped.
struct Sensor {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sensor {
    fn start(redis: &Redis) -> Sensor {
        let (written, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut connection = redis.connection();
        let (count, end) = (written.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let next = count.load(Ordering::Relaxed) + 1;
                let mut command = redis::cmd("XADD");
                command.arg(&["measurement:values", &format!("{next}-0"), "n", "1"]);
                command.query::<String>(&mut connection).expect("XADD");
                count.store(next, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Sensor {
            written,
            stop,
            thread: Some(thread),
        }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until it has written so many more.
    fn pass(&self, more: u64) {
        let until = self.written() + more;
        wait_until("the sensor writes", || self.written() >= until);
    }

    fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.written()
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn the_cursor_goes_on_in_both_directions_while_the_stream_is_written() {
    let world = World::new();
    let mut sensor = Sensor::start(&world.redis);
    for gently in [true, false, true] {
        for _ in 0..5 {
            sensor.pass(20);
            python_round(&world.redis, &world.receiver);
        }
        let taken_over = world.redis.get(CURSOR).expect("the cursor");
        assert!(taken_over.starts_with('('), "{taken_over}");
        let mut service = world.start_with(&[("INTERVAL_SECONDS", "0.05")]);
        let from = sensor.written() as usize;
        sensor.pass(100);
        world.wait_for(from + 50);
        if gently {
            service.terminate();
        } else {
            service.kill();
        }
        assert_eq!(service.count_log("ERROR"), 0, "{:#?}", service.log());
        let left = world.redis.get(CURSOR).expect("the cursor");
        let id = left.strip_prefix('(').and_then(|id| id.strip_suffix("-0"));
        assert!(id.is_some_and(|id| id.parse::<u64>().is_ok()), "{left}");
    }
    let count = sensor.end();
    python_round(&world.redis, &world.receiver);
    wait_until("all have arrived", || {
        world.receiver.distinct() as u64 == count
    });
    let ids = world.receiver.ids();
    assert_eq!(
        first_arrivals(&ids),
        consecutive(1, count),
        "in order, none missing"
    );
    assert_eq!(world.redis.get(CURSOR), Some(format!("({count}-0")));
}

#[test]
fn what_the_redis_of_the_python_stack_evicts_is_told() {
    // 100 MB there; here less, so that the test is short.
    let arguments = ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start(&arguments);
    let broker = Mosquitto::start("");
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    redis.fill(1, 100);
    let service = Service::of_device(&redis, broker.port, &[]);
    service.wait_for_log("maxmemory-policy is allkeys-lru");
    wait_until("some arrive", || receiver.distinct() == 100);
    redis.wait_for_cursor("(100-0");
    redis.set("mqtt_sender:enabled", "0");
    wait_until("sending is off", || status(&redis, "enabled") == "0");
    // An outage: Redis evicts the stream as a whole, and mostly the cursor with it.
    let large = "x".repeat(100_000);
    let mut written = 100;
    let mut write = |count| {
        for _ in 0..count {
            written += 1;
            let id = format!("{written}-0");
            redis.command::<String>(&["XADD", "measurement:values", &id, "n", &large]);
        }
        written
    };
    write(30);
    wait_until("what waits is seen", || status(&redis, "backlog") == "30");
    wait_until("the stream is evicted", || {
        let written = write(20);
        redis.command::<u64>(&["XLEN", "measurement:values"]) < written - 100
    });
    redis.set("mqtt_sender:enabled", "1");
    // What was seen to wait is told as lost, whether or not the cursor is left. Before Redis 7
    // nobody can count, and that was told at the start.
    if service.count_log("this Redis is older than 7") == 0 {
        let lost = || status(&redis, "lost").parse().unwrap_or(0u64);
        wait_until("the loss is counted", || lost() >= 30);
        wait_until("the loss is told", || {
            ["were not sent", "before they were sent"]
                .iter()
                .any(|words| service.count_log(words) > 0)
        });
    }
    let left = redis.command::<u64>(&["XLEN", "measurement:values"]);
    wait_until("what is left arrives", || {
        receiver.distinct() as u64 == 100 + left
    });
}
