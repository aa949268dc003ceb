//! Dates and times of day among the tokens of a text.

use super::words::Token;

/// Months by their first three letters.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Months in full.
const FULL: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Number of the month that a word names.
fn month(word: &str) -> Option<usize> {
    let short = MONTHS.iter().position(|m| *m == word || (word == "sept" && *m == "sep"));
    short.or_else(|| FULL.iter().position(|m| *m == word)).map(|i| i + 1)
}

/// The date or time that these tokens begin with: how many it takes, and `year-month-day` with empty parts.
pub(super) fn read(tokens: &[Token]) -> Option<(usize, String)> {
    let word = |at: usize| tokens.get(at).map_or("", |t| t.word.as_str());
    let whole = |at: usize| {
        let value = tokens.get(at)?.number.filter(|n| n.fract() == 0.0 && (0.0..=9999.0).contains(n))?;
        Some(value as u32)
    };
    let day = |at: usize| whole(at).filter(|d| (1..=31).contains(d));
    let year = |at: usize| whole(at).filter(|y| (1900..=2199).contains(y));
    if let (Some(y), "-", Some(m), "-", Some(d)) = (year(0), word(1), whole(2), word(3), day(4))
        && (1..=12).contains(&m)
    {
        return Some((5, format!("{y}-{m}-{d}")));
    }
    if let (Some(h), ":", Some(minute)) =
        (whole(0).filter(|h| *h < 24), word(1), whole(2).filter(|m| *m < 60))
    {
        let (used, hour) = match word(3) {
            "pm" if h < 12 => (4, h + 12),
            "am" if h == 12 => (4, 0),
            "am" | "pm" => (4, h),
            _ => (3, h),
        };
        return Some((used, format!("{hour}:{minute}")));
    }
    if let (Some(d), of) = (day(0), usize::from(word(1) == "of"))
        && let Some(m) = month(word(1 + of))
    {
        let comma = usize::from(word(2 + of) == ",");
        return Some(match year(2 + of + comma) {
            Some(y) => (3 + of + comma, format!("{y}-{m}-{d}")),
            None => (2 + of, format!("-{m}-{d}")),
        });
    }
    let m = month(word(0))?;
    if let Some(d) = day(1) {
        let comma = usize::from(word(2) == ",");
        return Some(match year(2 + comma) {
            Some(y) => (3 + comma, format!("{y}-{m}-{d}")),
            None => (2, format!("-{m}-{d}")),
        });
    }
    year(1).map(|y| (2, format!("{y}-{m}-")))
}
