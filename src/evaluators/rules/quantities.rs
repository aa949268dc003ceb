//! Quantities in a text, normalised: numbers, money, percentages, durations, dates, times of day.

use std::collections::HashSet;

use super::words::{self, Token};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    /// Nothing that we know.
    Bare,
    /// Money, by currency.
    Money(&'static str),
    /// Per cent.
    Percent,
    /// Time, in seconds.
    Seconds,
    /// Time, in months.
    Months,
    /// Days without weekends.
    WorkingDays,
    /// A calendar day, month or year; a time of day.
    Date,
}

/// One quantity of a text.
#[derive(Debug)]
pub(super) struct Quantity {
    /// First character.
    pub(super) start: usize,
    /// One past the last character.
    pub(super) end: usize,
    /// What it counts.
    unit: Unit,
    /// Its size in the unit, or the date.
    value: String,
    /// Its size before the unit was applied: "2" of "2 weeks".
    plain: String,
    /// Whether it is a number word up to ten.
    small_word: bool,
}

impl Quantity {
    /// A number word up to ten without a unit: language, not a claim.
    pub(super) fn is_small_word(&self) -> bool {
        self.small_word && self.unit == Unit::Bare
    }

    /// The word for spans.
    pub(super) fn unit_name(&self) -> &'static str {
        match self.unit {
            Unit::Bare => "number",
            Unit::Money(_) => "money",
            Unit::Percent => "percentage",
            Unit::Seconds | Unit::Months | Unit::WorkingDays => "duration",
            Unit::Date => "date",
        }
    }

    /// Value with its unit.
    fn key(&self) -> String {
        format!("{:?}={}", self.unit, self.value)
    }

    /// What a source with this quantity supports: itself, the bare value, and the parts of a date.
    pub(super) fn source_keys(&self) -> Vec<String> {
        let mut keys = vec![self.key(), format!("any={}", self.plain)];
        if self.unit == Unit::Bare {
            keys.push(format!("bare={}", self.value));
        }
        if let (Unit::Date, [year, month, day]) =
            (self.unit, self.value.split('-').collect::<Vec<_>>().as_slice())
        {
            keys.extend([format!("Date={year}-{month}-"), format!("Date=-{month}-{day}")]);
            keys.push(format!("any={year}"));
        }
        keys
    }

    /// Whether a source supports it. A bare number of a source may be of any unit: tables name it elsewhere.
    pub(super) fn stands_in(&self, known: &HashSet<String>) -> bool {
        known.contains(&self.key())
            || (self.unit == Unit::Bare && known.contains(&format!("any={}", self.value)))
            || (self.unit != Unit::Date && known.contains(&format!("bare={}", self.plain)))
    }
}

/// Currencies by sign and word.
const MONEY: &[(&str, &[&str])] = &[
    ("usd", &["$", "usd", "dollar", "dollars", "us$"]),
    ("eur", &["€", "eur", "euro", "euros"]),
    ("gbp", &["£", "gbp", "pound", "pounds", "quid"]),
    ("jpy", &["¥", "jpy", "yen"]),
    ("chf", &["chf", "franc", "francs"]),
    ("inr", &["₹", "inr", "rupee", "rupees"]),
];

/// The currency of a sign or word.
fn currency(word: &str) -> Option<Unit> {
    MONEY.iter().find(|(_, words)| words.contains(&word)).map(|(name, _)| Unit::Money(name))
}

/// The unit of a word, with what one of it is worth.
fn unit(word: &str) -> Option<(Unit, f64)> {
    Some(match word {
        "%" | "percent" | "pct" | "percentage" => (Unit::Percent, 1.0),
        "second" | "seconds" | "sec" | "secs" => (Unit::Seconds, 1.0),
        "minute" | "minutes" | "min" | "mins" => (Unit::Seconds, 60.0),
        "hour" | "hours" | "hr" | "hrs" => (Unit::Seconds, 3_600.0),
        "day" | "days" => (Unit::Seconds, 86_400.0),
        "week" | "weeks" => (Unit::Seconds, 604_800.0),
        "month" | "months" => (Unit::Months, 1.0),
        "year" | "years" | "yr" | "yrs" => (Unit::Months, 12.0),
        word => (currency(word)?, 1.0),
    })
}

/// A size without needless digits.
fn shown(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

/// All quantities, ascending.
pub(super) fn scan(text: &[char]) -> Vec<Quantity> {
    let tokens = words::tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = tokens.get(at..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|i| tokens.get(i));
        match super::dates::read(rest).map(|(used, value)| (used, dated(rest, used, value))) {
            Some((used, quantity)) => {
                found.extend(quantity);
                at += used;
            }
            None => match counted(rest, before) {
                Some((used, quantity)) => {
                    found.push(quantity);
                    at += used;
                }
                None => at += 1,
            },
        }
    }
    found
}

/// A date of the first `used` tokens.
fn dated(tokens: &[Token], used: usize, value: String) -> Option<Quantity> {
    let (first, last) = (tokens.first()?, tokens.get(used.checked_sub(1)?)?);
    let plain = value.clone();
    Some(Quantity { start: first.start, end: last.end, unit: Unit::Date, value, plain, small_word: false })
}

/// A number with the unit before or behind it, and how many tokens it takes.
fn counted(tokens: &[Token], before: Option<&Token>) -> Option<(usize, Quantity)> {
    let first = tokens.first()?;
    let (mut used, mut value, from_words) = match &first.number {
        Some(number) => (1, *number, false),
        None => words::spelled(tokens).map(|(used, value)| (used, value, true))?,
    };
    let word = |at: usize| tokens.get(at).map_or("", |t| t.word.as_str());
    let scale = words::scale(word(used))
        .or_else(|| words::letter_scale(tokens.get(used.saturating_sub(1)), tokens.get(used)));
    if let Some(scale) = scale.filter(|_| !from_words) {
        value *= scale;
        used += 1;
    }
    let plain = first.long.clone().unwrap_or_else(|| shown(value));
    let mut start = first.start;
    let mut counts = None;
    if let Some(money) = before.and_then(|t| currency(&t.word)) {
        counts = Some((money, 1.0));
        start = before.map_or(start, |t| t.start);
    }
    let gap = usize::from(word(used) == "-");
    if counts.is_none()
        && matches!(word(used + gap), "business" | "working")
        && word(used + gap + 1).starts_with("day")
    {
        counts = Some((Unit::WorkingDays, 1.0));
        used += gap + 2;
    } else if counts.is_none() && word(used) == "per" && word(used + 1) == "cent" {
        counts = Some((Unit::Percent, 1.0));
        used += 2;
    } else if counts.is_none()
        && let Some(behind) = unit(word(used + gap))
    {
        counts = Some(behind);
        used += gap + 1;
    }
    let (unit, worth) = counts.unwrap_or((Unit::Bare, 1.0));
    let size = if first.long.is_some() { plain.clone() } else { shown(value * worth) };
    let end = tokens.get(used - 1).map_or(first.end, |t| t.end);
    Some((used, Quantity { start, end, unit, value: size, plain, small_word: from_words && value <= 10.0 }))
}
