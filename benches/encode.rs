//! Encoding a list of measurements, the pure part of the way from Redis to the broker.

use std::collections::VecDeque;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mqtt_handler::config::BatchLimits;
use mqtt_handler::measurement::{Encoder, Entry};
use mqtt_handler::stream_id::StreamId;
use mqtt_handler::topic::Identity;

fn entries(count: u64, fields: usize) -> VecDeque<Entry> {
    let fields: Vec<Vec<u8>> = (0..fields)
        .flat_map(|n| [format!("sensor_{n}_celsius").into_bytes(), b"20.3".to_vec()])
        .collect();
    (1..=count)
        .map(|ms| Entry {
            id: StreamId::new(1_621_122_796_939 + ms, 0),
            fields: fields.clone(),
        })
        .collect()
}

fn encode(criterion: &mut Criterion) {
    let identity = Identity {
        device_uuid: "0123456789abcdef0123456789abcdef".into(),
        device_type: "raspberrypi4-64".into(),
        app_id: "1234567".into(),
        app_name: "Weather Stations".into(),
    };
    let limits = BatchLimits {
        max_bytes: 10_000_000,
        max_count: 1000,
    };
    let mut group = criterion.benchmark_group("encode a list of 300");
    group.throughput(Throughput::Elements(300));
    for fields in [2, 10, 50] {
        let page = entries(300, fields);
        let mut encoder = Encoder::new(&identity);
        group.bench_function(format!("{fields} fields"), |bencher| {
            bencher.iter_batched(
                || page.clone(),
                |mut page| encoder.batch(&mut page, limits),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
