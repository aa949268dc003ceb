//! Dates and times of day among the tokens of a text.

use std::{collections::HashMap, sync::LazyLock};

use super::words::Token;

/// Names of the months: English in short and in full, then German, French, Spanish, Italian, Portuguese, Dutch.
const MONTHS: [&str; 12] = [
    "jan january januar janvier enero gennaio janeiro januari",
    "feb february februar février febrero febbraio fevereiro februari",
    "mar march märz mars marzo março maart",
    "apr april avril abril aprile",
    "may mai mayo maggio maio mei",
    "jun june juni juin junio giugno junho",
    "jul july juli juillet julio luglio julho",
    "aug august août agosto augustus",
    "sep sept september septembre septiembre settembre setembro",
    "oct october oktober octobre octubre ottobre outubro",
    "nov november novembre noviembre novembro",
    "dec december dezember décembre diciembre dicembre dezembro",
];
/// Number of the month by each of its names: every word of every source is looked up.
static BY_NAME: LazyLock<HashMap<&str, u32>> = LazyLock::new(|| {
    let numbered = (1..).zip(MONTHS);
    numbered.flat_map(|(number, names)| names.split(' ').map(move |name| (name, number))).collect()
});
/// Words before "May" that make it a month, not a verb.
const BEFORE_MAY: [&str; 10] = ["on", "by", "until", "till", "from", "since", "of", "to", "before", "after"];

/// A date or a time of day.
pub(super) struct Date {
    /// How many tokens it takes.
    pub(super) used: usize,
    /// `year-month-day` with empty parts, or `hour:minute`.
    pub(super) value: String,
    /// The same with day and month the other way round, where both are possible.
    pub(super) swapped: Option<String>,
}

impl Date {
    /// A date that can be read in one way.
    fn new(used: usize, value: String) -> Self {
        Self { used, value, swapped: None }
    }
}

/// Number of the month that a word names.
fn month(word: &str) -> Option<u32> {
    BY_NAME.get(word).copied()
}

/// Tokens from where a date is looked for.
struct Reader<'a>(&'a [Token]);

impl Reader<'_> {
    /// The word at a place; of a number its suffix, if any.
    fn word(&self, at: usize) -> &str {
        self.0.get(at).map_or("", |t| t.word.as_str())
    }

    /// A whole number of at most four digits.
    fn whole(&self, at: usize) -> Option<u32> {
        let value = self.0.get(at)?.number.filter(|n| n.fract() == 0.0 && (0.0..=9999.0).contains(n))?;
        Some(value as u32)
    }

    /// A whole number within these bounds.
    fn within(&self, at: usize, least: u32, most: u32) -> Option<u32> {
        self.whole(at).filter(|n| (least..=most).contains(n))
    }

    /// A year of four digits.
    fn year(&self, at: usize) -> Option<u32> {
        self.within(at, 1900, 2199)
    }

    /// How many of these words stand there: 0 or 1.
    fn skip(&self, at: usize, words: &[&str]) -> usize {
        usize::from(words.contains(&self.word(at)))
    }

    /// Characters of a token.
    fn length(&self, at: usize) -> usize {
        self.0.get(at).map_or(0, |t| t.end - t.start)
    }
}

/// The date or time that these tokens begin with; `before` is the token before them.
pub(super) fn read(tokens: &[Token], before: Option<&Token>) -> Option<Date> {
    let reader = Reader(tokens);
    numeric(&reader).or_else(|| time(&reader)).or_else(|| named(&reader, before))
}

/// `2026-03-12`, `2026年3月12日`, `12.3.2026`, `3/12/2026`.
fn numeric(r: &Reader) -> Option<Date> {
    if let (Some(y), "-", Some(m), "-", Some(d)) =
        (r.year(0), r.word(1), r.within(2, 1, 12), r.word(3), r.within(4, 1, 31))
    {
        return Some(Date::new(5, format!("{y}-{m}-{d}")));
    }
    if let (Some(y), "年", Some(m), "月", Some(d), "日") =
        (r.year(0), r.word(1), r.within(2, 1, 12), r.word(3), r.within(4, 1, 31), r.word(5))
    {
        return Some(Date::new(6, format!("{y}-{m}-{d}")));
    }
    let (a, b, y) = (r.within(0, 1, 31)?, r.within(2, 1, 31)?, r.year(4)?);
    let date = |m: u32, d: u32| (m <= 12).then(|| format!("{y}-{m}-{d}"));
    match (r.word(1), r.word(3)) {
        (".", ".") => Some(Date::new(5, date(b, a)?)),
        ("/", "/") => {
            let (value, other) = (date(a, b), date(b, a));
            let both = value.is_some();
            Some(Date { used: 5, value: value.or_else(|| other.clone())?, swapped: other.filter(|_| both) })
        }
        _ => None,
    }
}

/// `17:30`, `5:30 pm`, `5 pm`.
fn time(r: &Reader) -> Option<Date> {
    let hour = r.within(0, 0, 23)?;
    let minute = r.within(2, 0, 59).filter(|_| r.word(1) == ":" && r.length(2) == 2);
    let used = if minute.is_some() { 3 } else { 1 };
    let (used, hour) = match r.word(used) {
        "pm" if hour < 12 => (used + 1, hour + 12),
        "am" if hour == 12 => (used + 1, 0),
        "am" | "pm" => (used + 1, hour),
        _ if minute.is_some() => (used, hour),
        _ => return None,
    };
    Some(Date::new(used, format!("{hour}:{}", minute.unwrap_or_default())))
}

/// `12 March 2026`, `9 de diciembre`, `Mar. 12, 2026`, `March 2026`.
fn named(r: &Reader, before: Option<&Token>) -> Option<Date> {
    // "May 5 people come?" is no date; "on May 5 we close", "May 5th" and "May 5." are.
    let told = before.is_some_and(|t| BEFORE_MAY.contains(&t.word.as_str()));
    let noun_follows = |at: usize| r.word(at).starts_with(char::is_alphabetic) && !told;
    if let Some(d) = r.within(0, 1, 31) {
        let month_at = 1 + r.skip(1, &["of", "de", "."]);
        let m = month(r.word(month_at))?;
        let behind = month_at + 1 + r.skip(month_at + 1, &["."]);
        let year_at = behind + r.skip(behind, &[",", "de", "of"]);
        return match r.year(year_at) {
            Some(y) => Some(Date::new(year_at + 1, format!("{y}-{m}-{d}"))),
            None if r.word(month_at) == "may" && noun_follows(month_at + 1) => None,
            None => Some(Date::new(month_at + 1, format!("-{m}-{d}"))),
        };
    }
    let m = month(r.word(0))?;
    let day_at = 1 + r.skip(1, &[".", "de"]);
    if let Some(d) = r.within(day_at, 1, 31) {
        let year_at = day_at + 1 + r.skip(day_at + 1, &[","]);
        let ordinal = !r.word(day_at).is_empty();
        return match r.year(year_at) {
            Some(y) => Some(Date::new(year_at + 1, format!("{y}-{m}-{d}"))),
            None if r.word(0) == "may" && !ordinal && noun_follows(day_at + 1) => None,
            None => Some(Date::new(day_at + 1, format!("-{m}-{d}"))),
        };
    }
    r.year(day_at).map(|y| Date::new(day_at + 1, format!("{y}-{m}-")))
}
