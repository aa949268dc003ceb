//! The risk–coverage curve: what deciding more costs in errors (El-Yaniv and Wiener 2010), as numbers and as SVG.

use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::IntoDrawingArea,
    series::{DashedLineSeries, LineSeries},
    style::{Color, RGBColor, WHITE},
};

use super::band::{Labelled, upper_bound};

/// Points of the curve.
const POINTS: usize = 20;
/// Confidence of the upper bound of each point by itself.
const POINT_CONFIDENCE: f64 = 0.95;
/// Pixels.
const SIZE: (u32, u32) = (720, 440);

/// Deciding this share of the calls, those that are surest first.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// Share decided, 0..1.
    pub coverage: f64,
    /// Least confidence max(p, 1 - p) among them.
    pub confidence: f64,
    /// Share of errors among them.
    pub error: f64,
    /// Upper end of its one-sided interval at 95 %, for this point alone.
    pub bound: f64,
}

/// The curve over calls with their probabilities; empty without calls.
pub fn points(labelled: &[Labelled]) -> Vec<Point> {
    let mut sorted: Vec<(f64, bool)> =
        labelled.iter().map(|(p, supported)| (p.max(1.0 - p), (*p >= 0.5) == *supported)).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut found: Vec<Point> = Vec::with_capacity(POINTS);
    for step in 1..=POINTS {
        let decided = sorted.len() * step / POINTS;
        let Some((confidence, _)) = decided.checked_sub(1).and_then(|last| sorted.get(last)) else {
            continue;
        };
        let errors = sorted[..decided].iter().filter(|(_, right)| !right).count();
        found.push(Point {
            coverage: decided as f64 / sorted.len() as f64,
            confidence: *confidence,
            error: errors as f64 / decided as f64,
            bound: upper_bound(errors, decided, POINT_CONFIDENCE),
        });
    }
    found
}

/// The curve as an SVG picture, with the target and the share that the chosen band decides.
///
/// # Errors
/// The drawing library's words.
pub fn svg(points: &[Point], target: f64, decided: f64) -> Result<String, String> {
    let mut picture = String::new();
    draw(&mut picture, points, target, decided)?;
    Ok(picture)
}

/// Draws the curve.
fn draw(picture: &mut String, points: &[Point], target: f64, decided: f64) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let highest = points.iter().map(|point| point.bound.min(0.6)).fold(target, f64::max) * 1.1;
    let root = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Error among the decided calls", ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..1.0, 0.0..highest)
        .map_err(|error| failed(&error))?;
    let percent = |share: &f64| format!("{:.0} %", share * 100.0);
    chart
        .configure_mesh()
        .x_desc("share of calls decided without judge or person")
        .y_desc("share of them decided wrongly")
        .x_label_formatter(&percent)
        .y_label_formatter(&percent)
        .bold_line_style(RGBColor(225, 225, 225))
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;
    let (blue, red, grey) = (RGBColor(31, 99, 180), RGBColor(190, 40, 40), RGBColor(110, 110, 110));
    let line = |value: fn(&Point) -> f64| points.iter().map(move |point| (point.coverage, value(point)));
    chart
        .draw_series(LineSeries::new(line(|point| point.error), blue.stroke_width(2)))
        .map_err(|error| failed(&error))?
        .label("measured")
        .legend(move |at| plotters::element::PathElement::new([at, (at.0 + 18, at.1)], blue.stroke_width(2)));
    chart
        .draw_series(DashedLineSeries::new(line(|point| point.bound), 4, 4, blue.stroke_width(1)))
        .map_err(|error| failed(&error))?
        .label("upper bound, 95 %")
        .legend(move |at| plotters::element::PathElement::new([at, (at.0 + 18, at.1)], blue.stroke_width(1)));
    chart
        .draw_series(LineSeries::new([(0.0, target), (1.0, target)], red.stroke_width(1)))
        .map_err(|error| failed(&error))?
        .label("target")
        .legend(move |at| plotters::element::PathElement::new([at, (at.0 + 18, at.1)], red.stroke_width(1)));
    chart
        .draw_series(DashedLineSeries::new([(decided, 0.0), (decided, highest)], 2, 3, grey.stroke_width(1)))
        .map_err(|error| failed(&error))?
        .label("decided by the band")
        .legend(move |at| plotters::element::PathElement::new([at, (at.0 + 18, at.1)], grey.stroke_width(1)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(grey)
        .draw()
        .map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}
