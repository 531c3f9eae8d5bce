//! A soak on one time axis: produced and confirmed, what waits, and the faults.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Outcome;
use super::paper::{GRID, INK, OTHER, OURS, PAPER, TROUBLE, grouped, legend, save};
use super::support::schedule;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (900, 560);
/// Points on the time axis: more would be no more to see.
const POINTS: usize = 400;
const LEFT: u32 = 70;

/// A second of the record.
struct Moment {
    minute: f64,
    produced: u64,
    confirmed: u64,
    received: u64,
    fault: String,
}

pub fn draw() -> Outcome {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let minutes: u64 = number("MINUTES").unwrap_or(60);
    let given = std::env::var("SERIES").unwrap_or_default();
    let file = if given.is_empty() {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("soak.csv");
        let seed = number("SEED").unwrap_or(1);
        let time = Duration::from_secs(60 * minutes);
        println!("{}", schedule::run_into(Some(&file), seed, time, 100_000));
        file
    } else {
        given.into()
    };
    let moments = read(&file, minutes)?;
    let mut svg = String::new();
    paint(&moments, &mut svg)?;
    save("soak", &svg)
}

/// `seconds,produced,confirmed,received,fault`, as far as it is to be shown.
fn read(file: &Path, minutes: u64) -> Result<Vec<Moment>, Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    let mut moments = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.splitn(5, ',').collect();
        let [seconds, produced, confirmed, received, fault] = cells[..] else {
            continue;
        };
        let moment = Moment {
            minute: seconds.parse::<f64>()? / 60.0,
            produced: produced.parse()?,
            confirmed: confirmed.parse()?,
            received: received.parse()?,
            fault: fault.into(),
        };
        if moment.minute <= minutes as f64 {
            moments.push(moment);
        }
    }
    Ok(moments)
}

fn paint(moments: &[Moment], svg: &mut String) -> Outcome {
    let last = moments.last().ok_or("an empty record")?;
    let title = format!(
        "{:.0} minutes of faults: {} produced, {} received",
        last.minute,
        grouped(last.produced),
        grouped(last.received),
    );
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&PAPER)?;
    let root = root.titled(&title, ("sans-serif", 20).into_font().color(&INK))?;
    let (upper, rest) = root.split_vertically(190);
    let (middle, lower) = rest.split_vertically(140);
    // The worst of each stretch of time is what there is to see.
    let stretch = moments.len().div_ceil(POINTS);
    let stretches: Vec<&[Moment]> = moments.chunks(stretch).collect();
    counts(&upper, &stretches, last)?;
    backlog(&middle, &stretches, last.minute)?;
    strips(&lower, moments, last.minute)?;
    root.present()?;
    Ok(())
}

fn counts(area: &Area, stretches: &[&[Moment]], last: &Moment) -> Outcome {
    let most = last.produced.max(last.received) as f64 * 1.05 / 1000.0;
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_right(20)
        .margin_top(10)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 8)
        .build_cartesian_2d(0.0..last.minute, 0.0..most)?;
    mesh(&mut chart, "thousands")?;
    let line = |of: fn(&Moment) -> u64| {
        let ends = stretches.iter().filter_map(|part| part.last());
        ends.map(move |moment| (moment.minute, of(moment) as f64 / 1000.0))
    };
    chart
        .draw_series(LineSeries::new(line(|m| m.produced), OTHER.stroke_width(4)))?
        .label("produced")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], OTHER.stroke_width(4)));
    chart
        .draw_series(LineSeries::new(line(|m| m.confirmed), OURS.stroke_width(2)))?
        .label("confirmed by the broker")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], OURS.stroke_width(2)));
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    Ok(())
}

fn backlog(area: &Area, stretches: &[&[Moment]], end: f64) -> Outcome {
    let waiting = |moment: &Moment| moment.produced.saturating_sub(moment.confirmed);
    let worst: Vec<(f64, f64)> = stretches
        .iter()
        .filter_map(|part| {
            let most = part.iter().map(waiting).max()?;
            Some((part.first()?.minute, most.max(1) as f64))
        })
        .collect();
    let most = worst.iter().map(|(_, most)| *most).fold(10.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_right(20)
        .margin_top(10)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 8)
        .build_cartesian_2d(0.0..end, (1.0..most * 1.5).log_scale())?;
    mesh(&mut chart, "backlog")?;
    chart.draw_series(AreaSeries::new(worst, 1.0, OURS.mix(0.3)).border_style(OURS))?;
    Ok(())
}

fn mesh<Y>(
    chart: &mut ChartContext<SVGBackend, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    name: &str,
) -> Outcome
where
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>
        + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let number = |value: &f64| grouped(value.round() as u64);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(PAPER)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(0)
        .y_labels(5)
        .y_label_formatter(&number)
        .y_desc(name)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    Ok(())
}

/// Whose fault it is, from the name of a fault.
fn kind(fault: &str) -> usize {
    match fault {
        _ if fault.starts_with("service") => 0,
        _ if fault.starts_with("broker") => 1,
        _ if fault.starts_with("Redis") => 3,
        "latency" | "trickle" => 2,
        _ if fault.starts_with("black hole") || fault.starts_with("connection") => 2,
        _ => 4,
    }
}

const KINDS: [&str; 5] = ["service", "broker", "line", "Redis", "settings"];

/// A row of strokes for each kind of fault.
fn strips(area: &Area, moments: &[Moment], end: f64) -> Outcome {
    let row = |value: &f64| {
        let nth = (KINDS.len() as f64 - value).round();
        KINDS
            .get(nth as usize)
            .copied()
            .unwrap_or_default()
            .to_string()
    };
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_right(20)
        .margin_top(10)
        .margin_bottom(5)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 40)
        .build_cartesian_2d(0.0..end, 0.6..KINDS.len() as f64 + 0.6)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(GRID)
        .x_desc("minutes")
        .y_desc("faults")
        .x_labels(13)
        .y_labels(KINDS.len())
        .x_label_formatter(&|minute| format!("{minute:.0}"))
        .y_label_formatter(&row)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    for nth in 0..KINDS.len() {
        let level = (KINDS.len() - nth) as f64;
        // One line with a stroke at each fault: a shape for each would be ten times the bytes.
        let mut line = vec![(0.0, level - 0.3)];
        for moment in moments.iter().filter(|moment| !moment.fault.is_empty()) {
            if kind(&moment.fault) == nth {
                let minute = moment.minute;
                line.extend([-0.3, 0.35, -0.3].map(|up| (minute, level + up)));
            }
        }
        line.push((end, level - 0.3));
        chart.draw_series([PathElement::new(line, TROUBLE)])?;
    }
    Ok(())
}
