//! The job of a device, done by what `SERVICE` starts instead of the binary of this machine: the
//! file system of a container (`make image`), a binary for ARM under an emulator (`make arm`).

mod support;

use support::{Mosquitto, Receiver, Redis, Service, wait_until};

const MEASUREMENTS: u64 = 10_000;

fn main() {
    let (redis, broker) = (Redis::start(&[]), Mosquitto::start(""));
    let receiver = Receiver::start(broker.port, &["iot-projekt/device/#"]);
    redis.fill(1, MEASUREMENTS);
    let device = [("BALENA_DEVICE_UUID", "u1".to_string())];
    let mut service = Service::between(redis.port, broker.port, &device);
    let end = format!("({MEASUREMENTS}-0");
    redis.wait_for_cursor(&end);
    wait_until("all measurements have arrived", || {
        receiver.distinct() as u64 == MEASUREMENTS
    });
    let expected: Vec<(u64, u64)> = (1..=MEASUREMENTS).map(|ms| (ms, 0)).collect();
    assert_eq!(receiver.ids(), expected, "in order and once");

    receiver.publish(
        "iot-projekt/device/u1/request",
        r#"{"command": "get_config", "key": "mqtt_sender:last_id"}"#,
        false,
    );
    wait_until("a command is answered", || receiver.replies().len() == 1);
    let reply = &receiver.replies()[0];
    assert_eq!(reply["value"], end.as_str(), "{reply}");

    let (status, _) = service.terminate();
    assert!(status.success(), "{status}: {}", service.log().join("\n"));
    println!(
        "{MEASUREMENTS} measurements arrived in order, the cursor is {end}, get_config is answered, and SIGTERM ends it with 0"
    );
}
