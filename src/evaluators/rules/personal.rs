//! Kind `personal_data`: no personal value stands in the answer that its contexts do not hold. Values are never quoted.

use std::ops::Range;

use regex::Regex;
use serde::Deserialize;

use super::{Finding, Rule, fold::fold, spans};
use crate::domain::Call;

/// Values looked at in one answer.
const MAX_CANDIDATES: usize = 1000;

/// Options of `personal_data`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// `card`, `ssn`, `iban`, `phone`, `email`.
    detect: Vec<Detector>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Detector {
    Card,
    Ssn,
    Iban,
    Phone,
    Email,
}

/// A compiled rule.
pub(super) struct Personal {
    detectors: Vec<(Detector, Regex)>,
}

impl Detector {
    /// Shape of a candidate; [`Detector::holds`] checks it.
    fn pattern(self) -> &'static str {
        match self {
            Self::Card => r"[0-9](?:[ -]?[0-9]){12,18}",
            Self::Ssn => r"[0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{3} [0-9]{2} [0-9]{4}",
            Self::Iban => r"[a-z]{2}[0-9]{2}(?: ?[a-z0-9]){11,30}",
            Self::Phone => r"\+[1-9](?:[ ()./-]{0,2}[0-9]){7,14}|\(?[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4}",
            Self::Email => r"[a-z0-9._%+-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,5}",
        }
    }

    /// The word in spans.
    fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Ssn => "ssn",
            Self::Iban => "iban",
            Self::Phone => "phone",
            Self::Email => "email",
        }
    }

    /// Whether a candidate is one.
    fn holds(self, text: &str) -> bool {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
        match self {
            Self::Card => is_card(&digits),
            Self::Ssn => is_ssn(&digits),
            Self::Iban => is_iban(text),
            Self::Phone | Self::Email => true,
        }
    }
}

impl Personal {
    /// Compiles the detectors.
    pub fn new(options: &Options) -> Result<Self, String> {
        if options.detect.is_empty() {
            return Err("`detect` is empty; name card, ssn, iban, phone or email".into());
        }
        let detectors = options
            .detect
            .iter()
            .map(|detector| Ok((*detector, Regex::new(detector.pattern()).map_err(|error| error.to_string())?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { detectors })
    }
}

impl Rule for Personal {
    fn check(&self, call: &Call) -> Finding {
        let answer = &call.content.answer;
        let folded = fold(answer);
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        for (detector, pattern) in &self.detectors {
            for place in pattern.find_iter(&folded.text).take(MAX_CANDIDATES) {
                if folded.is_word(&place.range()) && detector.holds(place.as_str()) && !in_contexts(call, place.as_str()) {
                    found.push((folded.origin(place.range()), detector.name().to_owned()));
                }
            }
        }
        found.retain(|(range, _)| !range.is_empty());
        found.sort_by_key(|(range, _)| range.start);
        Finding::of_spans("personal values", spans(answer, &found))
    }
}

/// A value that the sources hold is theirs to tell: the shop's own address is no leak.
fn in_contexts(call: &Call, value: &str) -> bool {
    call.content.contexts.iter().any(|context| fold(&context.text).text.contains(value))
}

/// Issuer range (ISO/IEC 7812 with Mastercard's 2-series), length 13 to 19 and the Luhn check of its annex B.
fn is_card(digits: &[u32]) -> bool {
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let prefix = |n: usize| digits[..n].iter().fold(0, |number, digit| number * 10 + digit);
    let issuer = matches!(prefix(1), 4)
        || matches!(prefix(2), 51..=55 | 34 | 37 | 36 | 38 | 39 | 62 | 65)
        || matches!(prefix(4), 2221..=2720 | 6011 | 3528..=3589)
        || matches!(prefix(3), 300..=305 | 644..=649);
    let luhn: u32 = digits.iter().rev().enumerate().map(|(place, &digit)| match place % 2 {
        0 => digit,
        _ if digit > 4 => digit * 2 - 9,
        _ => digit * 2,
    }).sum();
    issuer && luhn.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}

/// Area, group and serial as the SSA assigns them; numbers printed in advertisements are none.
fn is_ssn(digits: &[u32]) -> bool {
    let number = |range: Range<usize>| digits[range].iter().fold(0, |number, digit| number * 10 + digit);
    if digits.len() != 9 {
        return false;
    }
    let (area, group, serial) = (number(0..3), number(3..5), number(5..9));
    let advertised = matches!(number(0..9), 123_456_789 | 987_654_321 | 78_051_120);
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !advertised
}

/// ISO 13616: 15 to 34 characters, the first four moved to the end, letters as 10 to 35, modulo 97 is 1.
fn is_iban(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let remainder = plain[4..].iter().chain(&plain[..4]).filter_map(|c| c.to_digit(36)).fold(0u32, |rest, value| {
        (rest * if value > 9 { 100 } else { 10 } + value) % 97
    });
    remainder == 1
}
