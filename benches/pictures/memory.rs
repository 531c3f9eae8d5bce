//! Peak memory against what waits, ours and a peer's.

use std::error::Error;

use plotters::prelude::*;

use super::Outcome;
use super::paper::{GRID, INK, OTHER, OURS, PAPER, grouped, legend, save};
use super::support::service::between;
use super::support::{Mosquitto, Redis, Service, holds_within};

const BACKLOGS: [u64; 4] = [10_000, 100_000, 1_000_000, 5_000_000];
const MIB: f64 = 1024.0;

/// Backlog, and peak in MiB.
type Peaks = Vec<(f64, f64)>;

pub fn draw() -> Outcome {
    let peer = std::env::var("PEER").unwrap_or_default();
    let name = std::env::var("PEER_NAME").unwrap_or_else(|_| peer.clone());
    let ours = env!("CARGO_BIN_EXE_mqtt-handler");
    let mut all: Vec<(&str, RGBColor, Peaks)> = vec![("MQTT-Handler", OURS, Vec::new())];
    if !peer.is_empty() {
        all.push((&name, OTHER, Vec::new()));
    }
    let (redis, broker) = (
        Redis::start(&["--appendonly", "no"]),
        Mosquitto::start("log_type none"),
    );
    let mut filled = 0;
    for backlog in BACKLOGS {
        redis.fill(filled + 1, backlog - filled);
        filled = backlog;
        for (name, _, peaks) in &mut all {
            let program = if *name == "MQTT-Handler" { ours } else { &peer };
            let peak = drain(program, &redis, broker.port, backlog)?;
            println!("  {name}: {backlog} waiting, {peak:.1} MiB");
            peaks.push((backlog as f64, peak));
        }
    }
    let mut svg = String::new();
    paint(&all, &mut svg)?;
    save("memory", &svg)
}

fn drain(program: &str, redis: &Redis, broker: u16, backlog: u64) -> Result<f64, Box<dyn Error>> {
    redis.command::<u64>(&["DEL", "mqtt_sender:last_id", "mqtt_sender:status"]);
    let service = Service::start_program(program, &between(redis.port, broker));
    let last = format!("({backlog}-0");
    let time = std::time::Duration::from_secs(600);
    let drained = holds_within(time, || redis.cursor().as_deref() == Some(&last));
    if !drained {
        return Err(format!("{program} does not send {backlog} measurements").into());
    }
    Ok(service.peak_memory() as f64 / MIB)
}

fn paint(all: &[(&str, RGBColor, Peaks)], svg: &mut String) -> Outcome {
    let root = SVGBackend::with_string(svg, (700, 360)).into_drawing_area();
    root.fill(&PAPER)?;
    let peaks = all.iter().flat_map(|(_, _, peaks)| peaks);
    let most = peaks.map(|(_, peak)| *peak).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Peak memory, by what waits when the service starts",
            ("sans-serif", 20).into_font().color(&INK),
        )
        .margin(15)
        .margin_right(40)
        .set_label_area_size(LabelAreaPosition::Left, 60)
        .set_label_area_size(LabelAreaPosition::Bottom, 45)
        .build_cartesian_2d(
            (BACKLOGS[0] as f64 * 0.8..BACKLOGS[3] as f64 * 1.2).log_scale(),
            0.0..most * 1.4,
        )?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(PAPER)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_desc("measurements that wait")
        .y_desc("MiB")
        .x_label_formatter(&|value| grouped(value.round() as u64))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    for (nth, (name, colour, peaks)) in all.iter().enumerate() {
        let colour = *colour;
        // Ours above, the other below.
        let beside = if nth == 0 { -22 } else { 10 };
        chart.draw_series(LineSeries::new(peaks.clone(), colour.stroke_width(2)))?;
        chart
            .draw_series(peaks.iter().map(|at| Circle::new(*at, 4, colour.filled())))?
            .label(*name)
            .legend(move |at| Circle::new((at.0 + 8, at.1), 4, colour.filled()));
        for (backlog, peak) in peaks {
            let text = format!("{peak:.1}");
            let style = ("sans-serif", 13).into_font().color(&colour);
            let place = EmptyElement::at((*backlog, *peak)) + Text::new(text, (-10, beside), style);
            chart.draw_series([place])?;
        }
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    root.present()?;
    Ok(())
}
