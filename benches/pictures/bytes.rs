//! Bytes on the line for each measurement, by how many go in one list, plain and gzip.

use plotters::prelude::*;

use super::Outcome;
use super::paper::{GRID, INK, OTHER, OURS, PAPER, legend, save};
use super::support::proxy::Proxy;
use super::support::service::between;
use super::support::{Mosquitto, Redis, Service};

const SIZES: [u64; 5] = [1, 10, 100, 250, 1000];
/// Weather of 5000 seconds.
const MEASUREMENTS: u64 = 5000;

pub fn draw() -> Outcome {
    let (redis, broker) = (Redis::start(&[]), Mosquitto::start("log_type none"));
    fill(&redis);
    let mut all = [("plain", OTHER, vec![]), ("gzip", OURS, vec![])];
    for (name, _, bytes) in &mut all {
        for size in SIZES {
            let measured = send(&redis, broker.port, name, size);
            println!("  {name}, {size} a list: {measured:.1} bytes a measurement");
            bytes.push(measured);
        }
    }
    let mut svg = String::new();
    paint(&all, &mut svg)?;
    save("bytes", &svg)
}

/// Three fields that wander like weather, once a second.
fn fill(redis: &Redis) {
    let mut pipe = redis::pipe();
    for n in 0..MEASUREMENTS {
        let phase = n as f64 / 500.0;
        pipe.cmd("XADD").arg("measurement:values");
        pipe.arg(format!("{}-0", 1_621_122_796_939 + n * 1000));
        pipe.arg("temperature_celsius");
        pipe.arg(format!("{:.1}", 20.0 + 5.0 * phase.sin()));
        pipe.arg("humidity_percent");
        pipe.arg(format!("{:.0}", 55.0 + 20.0 * (phase / 3.0).cos()));
        pipe.arg("pressure_hpa");
        pipe.arg(format!("{:.1}", 1013.0 + 8.0 * (phase / 7.0).sin()))
            .ignore();
    }
    pipe.query::<()>(&mut redis.connection()).expect("XADD");
}

/// What the service has written to the broker, divided by the measurements.
fn send(redis: &Redis, broker: u16, compression: &str, size: u64) -> f64 {
    redis.command::<u64>(&["DEL", "mqtt_sender:last_id", "mqtt_sender:status"]);
    let proxy = Proxy::start(broker);
    proxy.record();
    let mut variables = between(redis.port, proxy.port);
    variables.extend([
        (
            "BALENA_DEVICE_UUID",
            "7d3e9c0f5a1b4c2d8e6f0a9b8c7d6e5f".into(),
        ),
        ("BALENA_DEVICE_TYPE", "raspberrypi4-64".into()),
        ("BALENA_APP_ID", "1234567".into()),
        ("BALENA_APP_NAME", "weather".into()),
        ("BATCH_MAX_COUNT", size.to_string()),
        ("BATCH_MAX_BYTES", "1000000".into()),
    ]);
    if compression != "plain" {
        variables.push(("COMPRESSION", compression.into()));
    }
    let _service = Service::start(&variables);
    let last = 1_621_122_796_939 + (MEASUREMENTS - 1) * 1000;
    redis.wait_for_cursor(&format!("({last}-0"));
    proxy.recorded().len() as f64 / MEASUREMENTS as f64
}

fn paint(all: &[(&str, RGBColor, Vec<f64>)], svg: &mut String) -> Outcome {
    let root = SVGBackend::with_string(svg, (700, 360)).into_drawing_area();
    root.fill(&PAPER)?;
    let most = all.iter().flat_map(|(_, _, bytes)| bytes);
    let most = most.copied().fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Bytes on the line for each measurement of three fields",
            ("sans-serif", 20).into_font().color(&INK),
        )
        .margin(15)
        .set_label_area_size(LabelAreaPosition::Left, 60)
        .set_label_area_size(LabelAreaPosition::Bottom, 45)
        .build_cartesian_2d(-0.5..SIZES.len() as f64 - 0.5, 0.0..most * 1.15)?;
    let size = |at: &f64| match SIZES.get(at.round() as usize) {
        Some(size) if (at - at.round()).abs() < 0.01 => size.to_string(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(PAPER)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_desc("measurements in one list")
        .y_desc("bytes")
        .x_label_formatter(&size)
        .y_label_formatter(&|bytes| format!("{bytes:.0}"))
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    let width = 0.8 / all.len() as f64;
    for (nth, (name, colour, bytes)) in all.iter().enumerate() {
        let colour = *colour;
        let left = |at: usize| at as f64 - 0.4 + nth as f64 * width;
        let bars = bytes.iter().enumerate().map(|(at, bytes)| {
            let corners = [(left(at), 0.0), (left(at) + width * 0.95, *bytes)];
            Rectangle::new(corners, colour.filled())
        });
        chart
            .draw_series(bars)?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        let style = ("sans-serif", 13).into_font().color(&INK);
        for (at, bytes) in bytes.iter().enumerate() {
            let place = (left(at) + width * 0.3, *bytes);
            let text = Text::new(format!("{bytes:.0}"), (0, -18), style.clone());
            chart.draw_series([EmptyElement::at(place) + text])?;
        }
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)?;
    root.present()?;
    Ok(())
}
