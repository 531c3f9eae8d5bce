//! The pure part of the way from Redis to the broker: reading a page, and encoding a list of it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mqtt_handler::model::compression::Compression;
use mqtt_handler::model::measurement::BatchLimits;
use mqtt_handler::model::measurement::Encoder;
use mqtt_handler::model::topic::Identity;
use mqtt_handler::store::Page;

/// The reply of Redis to a request for a page.
fn reply(count: u64, fields: usize) -> Vec<u8> {
    let string = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let mut reply = format!("*{count}\r\n");
    for ms in 1..=count {
        let id = string(&format!("{}-0", 1_621_122_796_939 + ms));
        reply += &format!("*2\r\n{id}*{}\r\n", 2 * fields);
        for n in 0..fields {
            reply += &string(&format!("sensor_{n}_celsius"));
            reply += &string("20.3");
        }
    }
    reply.into_bytes()
}

fn read_and_encode(criterion: &mut Criterion) {
    let identity = Identity {
        device_uuid: "0123456789abcdef0123456789abcdef".into(),
        device_type: "raspberrypi4-64".into(),
        app_id: "1234567".into(),
        app_name: "Weather Stations".into(),
    };
    let limits = BatchLimits {
        max_bytes: 10_000_000,
        max_count: 1000,
        compression: Compression::None,
    };
    let mut group = criterion.benchmark_group("a page of 300");
    group.throughput(Throughput::Elements(300));
    for fields in [2, 10, 50] {
        let reply = reply(300, fields);
        group.bench_function(format!("read, {fields} fields"), |bencher| {
            bencher.iter_batched(
                || reply.clone(),
                |reply| Page::new(reply, 0),
                BatchSize::SmallInput,
            );
        });
        let page = Page::new(reply, 0).expect("a page");
        let mut encoder = Encoder::new(&identity);
        group.bench_function(format!("encode, {fields} fields"), |bencher| {
            bencher.iter(|| encoder.batch(black_box(&page).entries(), limits));
        });
    }
    group.finish();
}

criterion_group!(benches, read_and_encode);
criterion_main!(benches);
