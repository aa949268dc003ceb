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
    /// Whether it is language, not a claim: a number word up to ten without a unit, "a year", "Step 1".
    wording: bool,
    /// Another key that it can be read as: `3/12/2026` the other way round, "5m" as a sum.
    other: Option<String>,
    /// What it is put together from: "1 hour 30 minutes", "555-010-9999".
    parts: Vec<Quantity>,
}

impl Quantity {
    /// One without other readings and parts.
    fn new((start, end): (usize, usize), unit: Unit, value: String, plain: String) -> Self {
        Self { start, end, unit, value, plain, wording: false, other: None, parts: Vec::new() }
    }

    /// Whether it is language, not a claim.
    pub(super) fn is_wording(&self) -> bool {
        self.wording
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
        let mut keys = vec![self.key()];
        keys.extend(self.other.clone());
        keys.extend(self.parts.iter().flat_map(Self::source_keys));
        if !self.plain.is_empty() {
            keys.push(format!("any={}", self.plain));
        }
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
        let whole = !self.parts.is_empty() && self.parts.iter().all(|part| part.stands_in(known));
        known.contains(&self.key())
            || whole
            || self.other.as_ref().is_some_and(|key| known.contains(key))
            || (self.unit == Unit::Bare && known.contains(&format!("any={}", self.value)))
            || (self.unit != Unit::Date && known.contains(&format!("bare={}", self.plain)))
    }
}

/// Words whose number is a name.
const LABELS: [&str; 3] = ["step", "option", "version"];
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
    let mut found: Vec<Quantity> = Vec::new();
    let (mut at, mut free) = (0, 0);
    while at < tokens.len() {
        let rest = tokens.get(at..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|i| tokens.get(i));
        let read = dated(rest, before)
            .or_else(|| grouped(text, rest))
            .or_else(|| counted(rest, before))
            .or_else(|| single(rest));
        let Some((used, quantity)) = read else {
            at += 1;
            continue;
        };
        let gap = tokens.get(free..at).unwrap_or_default();
        let adjacent = gap.is_empty() || matches!(gap, [word] if word.word == "and");
        match found.pop() {
            Some(last) if adjacent && last.continues_with(&quantity) => found.push(last.joined(quantity)),
            last => found.extend(last.into_iter().chain([quantity])),
        }
        at += used;
        free = at;
    }
    found
}

impl Quantity {
    /// Whether both are one length of time: "1 hour 30 minutes".
    fn continues_with(&self, next: &Self) -> bool {
        let size = |q: &Self| (q.value.parse::<f64>().ok(), q.plain.parse::<f64>().ok());
        let ((Some(a), Some(n)), (Some(b), Some(m))) = (size(self), size(next)) else { return false };
        let timed = matches!(self.unit, Unit::Seconds | Unit::Months) && self.unit == next.unit;
        timed && n > 0.0 && m > 0.0 && b / m < a / n && self.parts.is_empty()
    }

    /// One length of time from two.
    fn joined(self, next: Self) -> Self {
        let sum = [&self, &next].iter().filter_map(|q| q.value.parse::<f64>().ok()).sum();
        let whole = Self::new((self.start, next.end), self.unit, shown(sum), String::new());
        Self { parts: vec![self, next], ..whole }
    }
}

/// The date that these tokens begin with, and how many it takes.
fn dated(tokens: &[Token], before: Option<&Token>) -> Option<(usize, Quantity)> {
    let date = super::dates::read(tokens, before)?;
    let (first, last) = (tokens.first()?, tokens.get(date.used.checked_sub(1)?)?);
    let plain = date.value.clone();
    let quantity = Quantity::new((first.start, last.end), Unit::Date, date.value, plain);
    let swapped = date.swapped.map(|value| format!("{:?}={value}", Unit::Date));
    // "9:30" is written "9.30", too.
    let dotted = plain_time(&quantity.value).map(|time| format!("any={time}"));
    let other = swapped.or(dotted);
    Some((date.used, Quantity { other, ..quantity }))
}

/// A time of day as if its minutes were decimals.
fn plain_time(value: &str) -> Option<String> {
    let (hour, minute) = value.split_once(':')?;
    Some(shown(hour.parse::<f64>().ok()? + minute.parse::<f64>().ok()? / 100.0))
}

/// Three or more groups of digits with hyphens between them, such as a phone number.
fn grouped(text: &[char], tokens: &[Token]) -> Option<(usize, Quantity)> {
    let digits = |t: &&Token| t.number.is_some_and(|n| n.fract() == 0.0) && t.word.is_empty();
    let mut groups = vec![tokens.first().filter(digits)?];
    for pair in tokens.get(1..)?.chunks_exact(2) {
        let [hyphen, group] = pair else { break };
        let close = groups.last().is_some_and(|last| last.end == hyphen.start) && hyphen.end == group.start;
        if hyphen.word != "-" || !close || !digits(&group) {
            break;
        }
        groups.push(group);
    }
    let (first, last) = (groups.first()?, groups.last()?);
    let written: String = text.get(first.start..last.end)?.iter().filter(|c| c.is_ascii_digit()).collect();
    let value = written.trim_start_matches('0').to_owned();
    let part = |t: &&Token| {
        let plain = t.long.clone().unwrap_or_else(|| shown(t.number.unwrap_or_default()));
        Quantity::new((t.start, t.end), Unit::Bare, plain.clone(), plain)
    };
    let parts = groups.iter().map(part).collect();
    let quantity = Quantity::new((first.start, last.end), Unit::Bare, value.clone(), value);
    (groups.len() >= 3).then_some((2 * groups.len() - 1, Quantity { parts, ..quantity }))
}

/// "a year", "an hour": what a source says so, an answer may say in numbers.
fn single(tokens: &[Token]) -> Option<(usize, Quantity)> {
    let (article, counted) = (tokens.first()?, tokens.get(1)?);
    let (unit, worth) = unit(&counted.word).filter(|_| matches!(article.word.as_str(), "a" | "an"))?;
    let timed = matches!(unit, Unit::Seconds | Unit::Months);
    let quantity = Quantity::new((article.start, counted.end), unit, shown(worth), String::new());
    timed.then_some((2, Quantity { wording: true, ..quantity }))
}

/// A number with the unit before or behind it, and how many tokens it takes.
fn counted(tokens: &[Token], before: Option<&Token>) -> Option<(usize, Quantity)> {
    let first = tokens.first()?;
    let (mut used, mut value, from_words) = match &first.number {
        Some(number) => (1, *number, false),
        None => words::spelled(tokens).map(|(used, value)| (used, value, true))?,
    };
    let word = |at: usize| tokens.get(at).map_or("", |t| t.word.as_str());
    let mut other = None;
    let letter = words::letter_scale(tokens.get(used.saturating_sub(1)), tokens.get(used));
    // "$5m" is a sum, "5m" may be a length as well; "5k" is a count.
    let sum = before.is_some_and(|t| currency(&t.word).is_some()) || currency(word(used + 1)).is_some();
    match words::scale(word(used)).or(letter).filter(|_| !from_words) {
        Some(scale) if letter.is_none() || sum || word(used) == "k" => {
            value *= scale;
            used += 1;
        }
        Some(scale) => other = Some(format!("any={}", shown(value * scale))),
        None => {}
    }
    let plain = first.long.clone().unwrap_or_else(|| shown(value));
    let mut start = first.start;
    let mut counts = None;
    // The third year is not three years.
    let ordinal = tokens.get(used - 1).is_some_and(words::is_ordinal);
    if let Some(money) = before.and_then(|t| currency(&t.word)) {
        counts = Some((money, 1.0));
        start = before.map_or(start, |t| t.start);
    } else if let Some((end, behind)) = unit_behind(tokens, used).filter(|_| !ordinal) {
        counts = Some(behind);
        used = end;
    }
    let (unit, worth) = counts.unwrap_or((Unit::Bare, 1.0));
    let size = if first.long.is_some() { plain.clone() } else { shown(value * worth) };
    let end = tokens.get(used - 1).map_or(first.end, |t| t.end);
    let labelled = before.is_some_and(|t| LABELS.contains(&t.word.as_str()));
    let wording = unit == Unit::Bare && ((from_words && value <= 10.0) || labelled);
    Some((used, Quantity { wording, other, ..Quantity::new((start, end), unit, size, plain) }))
}

/// The unit that stands from this token on, and the token after it.
fn unit_behind(tokens: &[Token], at: usize) -> Option<(usize, (Unit, f64))> {
    let word = |at: usize| tokens.get(at).map_or("", |t| t.word.as_str());
    let from = at + usize::from(word(at) == "-");
    if matches!(word(from), "business" | "working") && word(from + 1).starts_with("day") {
        return Some((from + 2, (Unit::WorkingDays, 1.0)));
    }
    if word(at) == "per" && word(at + 1) == "cent" {
        return Some((at + 2, (Unit::Percent, 1.0)));
    }
    Some((from + 1, unit(word(from))?))
}
