//! Kind `numbers_grounded`: numbers, money, percentages, dates and durations of the answer stand in contexts or
//! input, however they are written. Values are compared, not units; sums and differences are not followed.

use std::{collections::HashSet, ops::Range, sync::LazyLock};

use regex::{Captures, Regex};
use serde::Deserialize;

use super::{Finding, Rule, fold::fold, spans};
use crate::domain::Call;

/// Numbers looked at in one text.
const MAX_NUMBERS: usize = 5000;

/// Options of `numbers_grounded`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Whole numbers up to it need no source: "one of the two reasons".
    #[serde(default = "default_ignore")]
    ignore_up_to: u32,
}

fn default_ignore() -> u32 {
    0
}

/// Months and their numbers.
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Number words up to twenty.
const SMALL: [&str; 21] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
];
/// Tens from twenty.
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// Dates, numbers with scale, number words, in this order of preference.
static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let month = "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?";
    let small = SMALL[1..].join("|");
    let tens = TENS.join("|");
    Regex::new(&format!(
        r"(?x)
        (?P<iso>\b(?P<y1>[0-9]{{4}})-(?P<m1>[0-9]{{2}})-(?P<d1>[0-9]{{2}})\b)
      | (?P<dmy>\b(?P<d2>[0-9]{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?(?P<m2>{month})\b\.?(?:,?\s(?P<y2>[0-9]{{4}})\b)?)
      | (?P<mdy>\b(?P<m3>{month})\.?\s(?P<d3>[0-9]{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s(?P<y3>[0-9]{{4}})\b)?)
      | (?P<number>[0-9]{{1,15}}(?:[.,][0-9]{{1,9}}){{0,6}})
        (?:\s?(?P<scale>k|thousand|mn|million|m|bn|billion|b)\b)?
      | \b(?P<tens>{tens})[-\s](?P<ones>one|two|three|four|five|six|seven|eight|nine)\b
      | \b(?P<word>{tens}|{small}|hundred|dozen)\b(?:\s(?P<wscale>hundred|thousand|million|billion)\b)?
        "
    ))
    .ok()
});

/// One thing that was found: where, and every reading of it.
struct Found {
    bytes: Range<usize>,
    readings: Vec<String>,
    small_word: bool,
}

impl Rule for Options {
    fn check(&self, call: &Call) -> Finding {
        let content = &call.content;
        let has_context = content.contexts.iter().any(|context| !context.text.trim().is_empty());
        if !has_context && content.input.as_ref().is_none_or(|input| input.trim().is_empty()) {
            return Finding::not_applicable();
        }
        let folded = fold(&content.answer);
        let numbers: Vec<Found> = find(&folded.text)
            .into_iter()
            .filter(|found| !found.small_word && !is_marker(&folded.text, &found.bytes) && !self.ignores(found))
            .collect();
        if numbers.is_empty() {
            return Finding::not_applicable();
        }
        let mut known = HashSet::new();
        for text in content.contexts.iter().map(|context| &context.text).chain(&content.input) {
            known.extend(find(&fold(text).text).into_iter().flat_map(|found| found.readings));
        }
        let ungrounded: Vec<_> = numbers
            .into_iter()
            .filter(|found| !found.readings.iter().any(|reading| known.contains(reading)))
            .map(|found| (folded.origin(found.bytes), "not in the sources".to_owned()))
            .filter(|(range, _)| !range.is_empty())
            .collect();
        Finding::of_spans("numbers that no source holds", spans(&content.answer, &ungrounded))
    }
}

impl Options {
    /// Whether a number is too small to need a source.
    fn ignores(&self, found: &Found) -> bool {
        found.readings.iter().any(|reading| {
            reading.parse::<f64>().is_ok_and(|value| value.fract() == 0.0 && value <= f64::from(self.ignore_up_to))
        })
    }
}

/// Everything in a folded text that reads as a number or date.
fn find(text: &str) -> Vec<Found> {
    let Some(pattern) = PATTERN.as_ref() else { return Vec::new() };
    pattern
        .captures_iter(text)
        .take(MAX_NUMBERS)
        .filter_map(|captures| {
            let whole = captures.get(0)?;
            // "chk_12", "v2" and "b2b" are names, not numbers.
            let before = text[..whole.start()].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                return None;
            }
            let readings = readings(&captures);
            let small_word = captures.name("word").is_some_and(|word| SMALL[..11].contains(&word.as_str()))
                && captures.name("wscale").is_none();
            (!readings.is_empty()).then(|| Found { bytes: whole.range(), readings, small_word })
        })
        .collect()
}

/// Every way to read one match.
fn readings(captures: &Captures<'_>) -> Vec<String> {
    let text = |name: &str| captures.name(name).map(|found| found.as_str());
    let any = |names: [&str; 3]| names.into_iter().find_map(text);
    if let (Some(day), Some(month)) = (any(["d1", "d2", "d3"]), any(["m1", "m2", "m3"])) {
        let month = month.parse().ok().or_else(|| {
            MONTHS.iter().position(|name| month.starts_with(name)).map(|at| at as u32 + 1)
        });
        let (Some(month), Ok(day)) = (month, day.parse::<u32>()) else { return Vec::new() };
        // With a year, only the same year grounds it.
        let year = any(["y1", "y2", "y3"]);
        return vec![format!("date {}-{month}-{day}", year.unwrap_or("any"))];
    }
    if let Some(number) = text("number") {
        let scale = text("scale").map_or(1.0, scale);
        return values(number).into_iter().flat_map(|value| [show(value * scale)]).collect();
    }
    let scale = text("wscale").map_or(1.0, scale);
    let value = match (text("tens"), text("ones"), text("word")) {
        (Some(tens), Some(ones), _) => word(tens).zip(word(ones)).map(|(tens, ones)| tens + ones),
        (_, _, Some(one)) => word(one),
        _ => None,
    };
    value.map(|value| show(value * scale)).into_iter().collect()
}

/// Readings of digits with points and commas: English and continental.
fn values(number: &str) -> Vec<f64> {
    let english = number.replace(',', "");
    let continental = number.replace('.', "").replace(',', ".");
    let mut values: Vec<f64> = [english, continental].iter().filter_map(|text| text.parse().ok()).collect();
    values.dedup();
    values
}

/// Value of a number word.
fn word(word: &str) -> Option<f64> {
    let tens = TENS.iter().position(|name| *name == word).map(|at| (at + 2) as f64 * 10.0);
    let small = SMALL.iter().position(|name| *name == word).map(|at| at as f64);
    small.or(tens).or(match word {
        "hundred" => Some(100.0),
        "dozen" => Some(12.0),
        _ => None,
    })
}

/// Factor of a scale word.
fn scale(word: &str) -> f64 {
    match word {
        "hundred" => 1e2,
        "k" | "thousand" => 1e3,
        "m" | "mn" | "million" => 1e6,
        "b" | "bn" | "billion" => 1e9,
        _ => 1.0,
    }
}

/// A value as a key: nine decimals are more than any answer means.
fn show(value: f64) -> String {
    let rounded = (value * 1e9).round() / 1e9;
    format!("{rounded}")
}

/// Whether a number is a list ordinal or a citation marker.
fn is_marker(text: &str, bytes: &Range<usize>) -> bool {
    let line_start = text[..bytes.start].rfind('\n').map_or(0, |at| at + 1);
    let alone = text[line_start..bytes.start].trim().is_empty();
    let after = &text[bytes.end..];
    let ordinal = alone && (after.starts_with(". ") || after.starts_with(") ") || after.starts_with(".)"));
    let bracketed = text[..bytes.start].ends_with(['[', '【']) && after.starts_with([']', '】']);
    ordinal || bracketed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ungrounded(answer: &str, context: &str) -> usize {
        let example = super::super::pack::Example {
            answer: answer.into(),
            contexts: vec![crate::domain::Context { id: "c".into(), text: context.into(), score: None }],
            ..Default::default()
        };
        Options { ignore_up_to: 0 }.check(&example.into_call()).spans.len()
    }

    #[test]
    fn the_same_value_in_other_words_is_grounded() {
        let table = [
            ("Refunds take 30 days.", "Refunds take thirty days."),
            ("It costs $1,200.00.", "The price is 1200 dollars."),
            ("About 1.2k people came.", "1,200 people came."),
            ("On 12 March 2026.", "On 2026-03-12."),
            ("On March 12, 2026.", "On 12 March 2026."),
            ("That is 50%.", "That is fifty percent."),
            ("2.5 million users", "2,500,000 users"),
            ("1.200,00 €", "1200 €"),
            ("twenty-five days", "25 days"),
            ("one of the options [1]", "the options"),
            ("1. First\n2. Second", "first, second"),
            ("see chk_91 and v2", "nothing"),
        ];
        for (answer, context) in table {
            assert_eq!(ungrounded(answer, context), 0, "{answer} | {context}");
        }
    }

    #[test]
    fn another_value_is_not() {
        let table = [
            ("Refunds take 60 days.", "Refunds take 30 days."),
            ("On 13 March 2026.", "On 2026-03-12."),
            ("On 12 March 2025.", "On 2026-03-12."),
            ("It costs $12.50.", "It costs $12.05."),
            ("three million users", "3 users"),
        ];
        for (answer, context) in table {
            assert_eq!(ungrounded(answer, context), 1, "{answer} | {context}");
        }
    }
}
