//! What the pictures share: colours, for light and for dark surroundings, and where they go.

use std::fmt::Write;
use std::path::PathBuf;

use plotters::coord::CoordTranslate;
use plotters::prelude::*;

use super::Outcome;

/// Larger ones are no pictures for a repository.
const MOST: usize = 60 << 10;

pub const PAPER: RGBColor = RGBColor(255, 255, 255);
pub const INK: RGBColor = RGBColor(31, 35, 40);
pub const GRID: RGBColor = RGBColor(208, 215, 222);
pub const OURS: RGBColor = RGBColor(9, 105, 218);
pub const OTHER: RGBColor = RGBColor(191, 135, 0);
pub const TROUBLE: RGBColor = RGBColor(207, 34, 46);

/// What each becomes where it is dark.
const DARK: [(RGBColor, &str); 6] = [
    (PAPER, "#0d1117"),
    (INK, "#e6edf3"),
    (GRID, "#3d444d"),
    (OURS, "#4493f8"),
    (OTHER, "#d29922"),
    (TROUBLE, "#f85149"),
];

/// Writes a picture in which the colours follow the surroundings.
pub fn save(name: &str, svg: &str) -> Outcome {
    let mut style = String::from("<style>@media(prefers-color-scheme:dark){");
    for (RGBColor(red, green, blue), dark) in DARK {
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        for attribute in ["fill", "stroke"] {
            write!(style, "[{attribute}=\"{light}\"]{{{attribute}:{dark}}}")?;
        }
    }
    style += "}</style>";
    let head = svg.find('>').ok_or("no SVG")? + 1;
    let text = format!("{}\n{style}{}", &svg[..head], &svg[head..]);
    keep(name, &text)
}

/// Writes a picture as it is.
pub fn keep(name: &str, svg: &str) -> Outcome {
    if svg.len() > MOST {
        return Err(format!("{name}: {} bytes", svg.len()).into());
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.svg"));
    std::fs::write(&file, svg)?;
    println!("  {} bytes: {}", svg.len(), file.display());
    Ok(())
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Says which line is which.
pub fn legend<'a, Place: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Place>,
    position: SeriesLabelPosition,
) -> Outcome {
    chart
        .configure_series_labels()
        .position(position)
        .label_font(("sans-serif", 14).into_font().color(&INK))
        .draw()?;
    Ok(())
}
