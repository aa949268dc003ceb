//! Verdicts by day as bars of an SVG, which its own template writes. Colours are those of the style sheet.

use std::collections::BTreeMap;

use askama::{Template, filters::HtmlSafe};

use super::top::plain;

/// Verdicts from the bottom of a bar to its top.
pub(super) const ORDER: [&str; 4] = ["fail", "review", "pass", "not_applicable"];
/// Height of the tallest bar, in units of the view box.
const HEIGHT: f64 = 140.0;
/// Width that a day has, likewise.
const SLOT: f64 = 78.0;

/// Bars of days.
#[derive(Debug, Template)]
#[template(path = "chart.html")]
pub(super) struct Chart {
    bars: Vec<Bar>,
    /// What the tallest bar stands for.
    most: u64,
    /// What the picture shows, in a sentence.
    told: String,
}

/// Its template escapes everything.
impl HtmlSafe for Chart {}

/// A day.
#[derive(Debug)]
struct Bar {
    day: String,
    /// The day as it stands below the bar.
    short: String,
    middle: f64,
    left: f64,
    counts: [u64; 4],
    parts: Vec<Part>,
}

/// Part of a bar.
#[derive(Debug)]
struct Part {
    verdict: &'static str,
    told: String,
    top: f64,
    height: f64,
}

impl Chart {
    /// The bars of these days, oldest first.
    pub(super) fn of(days: &[String], counts: &BTreeMap<String, BTreeMap<String, u64>>) -> Self {
        let count = |day: &String| {
            ORDER.map(|verdict| counts.get(day).and_then(|day| day.get(verdict)).copied().unwrap_or(0))
        };
        let counted: Vec<[u64; 4]> = days.iter().map(count).collect();
        let most = counted.iter().map(|counts| counts.iter().sum()).max().unwrap_or(0);
        let all = |place: usize| counted.iter().map(|counts| counts[place]).sum::<u64>();
        let told = format!(
            "Verdicts of {} days: {} failed, {} for review, {} passed, {} not applicable.",
            days.len(),
            all(0),
            all(1),
            all(2),
            all(3)
        );
        let bars = (0u32..)
            .zip(days.iter().zip(counted))
            .map(|(place, (day, counts))| bar(place, day, counts, most));
        Self { bars: bars.collect(), most, told }
    }
}

/// The bar of a day.
fn bar(place: u32, day: &str, counts: [u64; 4], most: u64) -> Bar {
    let mut top = HEIGHT;
    let mut parts = Vec::new();
    for (verdict, count) in ORDER.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
        let height = share(count, most) * HEIGHT;
        top -= height;
        parts.push(Part { verdict, told: format!("{day}: {count} {}", plain(verdict)), top, height });
    }
    let left = f64::from(place) * SLOT;
    let short = day.get(5..).unwrap_or(day).to_owned();
    Bar { day: day.to_owned(), short, middle: left + SLOT / 2.0, left: left + SLOT * 0.2, counts, parts }
}

/// A count as a share of another, 0..1.
#[expect(clippy::cast_precision_loss, reason = "a picture shows no more than a thousandth")]
pub(super) fn share(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(verdict, count)| ((*verdict).to_owned(), *count)).collect()
    }

    #[test]
    fn bars_stand_on_the_ground_and_the_tallest_is_as_high_as_the_picture() {
        let days = ["2026-11-26".to_owned(), "2026-11-27".to_owned()];
        let counted = BTreeMap::from([
            (days[0].clone(), counts(&[("pass", 3), ("fail", 1)])),
            (days[1].clone(), counts(&[("pass", 2), ("unheard_of", 9)])),
        ]);
        let chart = Chart::of(&days, &counted);
        assert_eq!(chart.most, 4);
        let places: Vec<(&str, f64, f64)> =
            chart.bars[0].parts.iter().map(|part| (part.verdict, part.top, part.height)).collect();
        assert_eq!(places, [("fail", 105.0, 35.0), ("pass", 0.0, 105.0)]);
        assert_eq!(chart.bars[1].parts.len(), 1);
        let page = chart.render().unwrap();
        assert!(page.contains("2026-11-26: 1 fail") && page.contains("role=\"img\""), "{page}");
        assert!(!page.contains("style="), "the policy forbids it");
    }

    #[test]
    fn days_without_verdicts_are_empty_bars() {
        let chart = Chart::of(&["2026-11-27".to_owned()], &BTreeMap::new());
        assert_eq!((chart.most, chart.bars[0].parts.len()), (0, 0));
    }
}
