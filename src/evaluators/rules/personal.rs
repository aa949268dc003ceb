//! Kind `personal_data`: cards, social security numbers, IBANs, phone numbers and e-mail addresses that do
//! not stand in the contexts. Never quoted.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use serde::Deserialize;

use super::error::BadOption;
use super::fold::Visible;
use super::numbered::{self, Said};
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Characters before a number that can say what it is.
const CONTEXT: usize = 30;
/// Whose number one in the form of a social security number may be.
const OTHER_NUMBERS: [&str; 17] = [
    "part",
    "parts",
    "order",
    "invoice",
    "case",
    "ticket",
    "item",
    "ref",
    "reference",
    "sku",
    "serial",
    "model",
    "product",
    "tracking",
    "catalog",
    "catalogue",
    "article",
];
/// Longest part of an address before the `@`, and after it (RFC 5321).
const ADDRESS: (usize, usize) = (64, 255);

/// What can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Personal {
    /// Payment card number.
    Card,
    /// US social security number.
    Ssn,
    /// Bank account number.
    Iban,
    /// Phone number.
    Phone,
    /// E-mail address.
    Email,
}

/// Options and rule of kind `personal_data`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonalData {
    /// What to look for.
    detect: Vec<Personal>,
}

impl PersonalData {
    /// The rule, where there is something to look for.
    pub(super) fn build(self) -> Result<Self, BadOption> {
        if self.detect.is_empty() {
            let remedy = "list some of card, ssn, iban, phone and email";
            return Err(BadOption::new("detect", "is empty", remedy));
        }
        Ok(self)
    }
}

impl Rule for PersonalData {
    fn check(&self, call: &Call) -> Finding {
        let answer = Visible::of(&call.content.answer);
        let (mut spans, mut kinds) = (Vec::new(), Vec::new());
        for kind in &self.detect {
            let found = kind.scan(&answer.text);
            let values: Vec<String> =
                found.iter().map(|(start, end)| kind.value(answer.text.get(*start..*end))).collect();
            let Some(known) = kind.standing_in(call, &values) else {
                return Finding::error("too many values to compare");
            };
            let before = spans.len();
            for ((start, end), _) in found.into_iter().zip(known).filter(|(_, known)| !known) {
                let (start, end) = answer.original(start, end);
                spans.push(Span { start, end, note: kind.name().into() });
            }
            if spans.len() > before {
                kinds.push(kind.name());
            }
        }
        if spans.is_empty() {
            return Finding::pass();
        }
        spans.sort_by_key(|s| s.start);
        let detail = format!("{} found: {}", spans.len(), kinds.join(", "));
        spans.truncate(MAX_SPANS);
        Finding::fail(detail, spans)
    }
}

/// Letters and digits only, lower case.
fn squash(text: &[char]) -> String {
    text.iter().filter(|c| c.is_alphanumeric()).flat_map(|c| c.to_lowercase()).collect()
}

/// Which numbers stand in the contexts, whatever separates their groups. None where they cannot be compared.
fn numbers_standing_in(call: &Call, values: &[String]) -> Option<Vec<bool>> {
    let distinct: Vec<&String> = values.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let automaton = AhoCorasick::new(&distinct).ok()?;
    let mut found = BTreeSet::new();
    for context in &call.content.contexts {
        for hit in automaton.find_overlapping_iter(&squash(&Visible::of(&context.text).text)) {
            found.extend(distinct.get(hit.pattern().as_usize()).copied());
        }
    }
    Some(values.iter().map(|value| found.contains(value)).collect())
}

/// Which e-mail addresses are addresses of the contexts.
fn emails_standing_in(call: &Call, values: &[String]) -> Vec<bool> {
    let mut found = BTreeSet::new();
    for context in &call.content.contexts {
        let context = Visible::of(&context.text).text;
        let emails = Personal::Email.scan(&context).into_iter();
        found.extend(emails.map(|(start, end)| Personal::Email.value(context.get(start..end))));
    }
    values.iter().map(|value| found.contains(value)).collect()
}

impl Personal {
    /// The word used in packs, details and spans.
    fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Ssn => "ssn",
            Self::Iban => "iban",
            Self::Phone => "phone",
            Self::Email => "email",
        }
    }

    /// What is compared of a value: an address as it stands, of numbers the letters and digits.
    fn value(self, text: Option<&[char]>) -> String {
        let text = text.unwrap_or_default();
        match self {
            Self::Email => text.iter().flat_map(|c| c.to_lowercase()).collect(),
            _ => squash(text),
        }
    }

    /// Which values the contexts have. None where they cannot be compared.
    fn standing_in(self, call: &Call, values: &[String]) -> Option<Vec<bool>> {
        match self {
            _ if values.is_empty() || call.content.contexts.is_empty() => Some(vec![false; values.len()]),
            Self::Email => Some(emails_standing_in(call, values)),
            _ => numbers_standing_in(call, values),
        }
    }

    /// Characters of all values of this sort in the text, ascending.
    fn scan(self, text: &[char]) -> Vec<(usize, usize)> {
        let mut places = Vec::new();
        let mut at = 0;
        let mut free = 0;
        while at < text.len() {
            let found = match self {
                Self::Card => numbered::card(text, at).map(|end| (at, end)),
                Self::Ssn => numbered::ssn(text, at, || said(text, at)).map(|end| (at, end)),
                Self::Iban => numbered::iban(text, at).map(|end| (at, end)),
                Self::Phone => phone(text, at).map(|end| (at, end)),
                Self::Email => email(text, at, free),
            };
            match found {
                Some((start, end)) => {
                    places.push((start, end));
                    free = end;
                    at = end.max(at + 1);
                }
                None => at += 1,
            }
        }
        places
    }
}

/// What stands shortly before, in lower case.
fn before(text: &[char], at: usize) -> String {
    let before = text.get(at.saturating_sub(CONTEXT)..at).unwrap_or_default();
    before.iter().flat_map(|c| c.to_lowercase()).collect()
}

/// Whether one of these words stands shortly before.
fn names(text: &[char], at: usize, words: &[&str]) -> bool {
    let before = before(text, at);
    words.iter().any(|word| before.contains(word))
}

/// What is said of a number that may be one of social security.
fn said(text: &[char], at: usize) -> Said {
    let before = before(text, at);
    let mut words = before.split(|c: char| !c.is_alphanumeric());
    if before.contains("ssn") || before.contains("social security") {
        Said::Ssn
    } else if words.any(|word| OTHER_NUMBERS.contains(&word)) || before.contains("account n") {
        Said::Other
    } else {
        Said::Nothing
    }
}

/// End of the phone number that begins here: `+` and 8 to 15 digits, or 7 to 15 after a word that says so.
fn phone(text: &[char], at: usize) -> Option<usize> {
    let first = *text.get(at)?;
    let before = at.checked_sub(1).and_then(|i| text.get(i));
    if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '+' | '.' | '-' | '(' | '$' | '€' | '£'))
    {
        return None;
    }
    let plus = first == '+';
    if !plus && first != '(' && numbered::digit(first).is_none() {
        return None;
    }
    let (mut digits, mut end, mut gap) = (0, at, 0);
    for (i, c) in text.iter().enumerate().skip(at + usize::from(plus)).take(32) {
        if numbered::digit(*c).is_some() {
            digits += 1;
            end = i + 1;
            gap = 0;
        } else if (numbered::is_separator(*c) || matches!(c, '.' | '(' | ')' | '/')) && gap < 2 {
            gap += 1;
        } else {
            break;
        }
    }
    let goes_on = text.get(end).is_some_and(|c| c.is_alphanumeric());
    let fits = if plus { (8..=15).contains(&digits) } else { (7..=15).contains(&digits) };
    let words = ["phone", "call us", "call ", "tel.", "tel:", "tel ", "mobile", "fax", "whatsapp", "hotline"];
    (fits && !goes_on && (plus || names(text, at, &words))).then_some(end)
}

/// The e-mail address whose `@` stands here; it begins at `free` or later.
pub(super) fn email(text: &[char], at: usize, free: usize) -> Option<(usize, usize)> {
    if text.get(at) != Some(&'@') {
        return None;
    }
    let local = |c: char| c.is_alphanumeric() || "._%+-'".contains(c);
    let from = at.saturating_sub(ADDRESS.0).max(free);
    let length = text.get(from..at)?.iter().rev().take_while(|c| local(**c)).count();
    let start = at - length;
    let rest = text.get(at + 1..)?.iter().take(ADDRESS.1);
    let mut end = at + 1 + rest.take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '-')).count();
    while end > at + 1 && text.get(end - 1).is_some_and(|c| matches!(c, '.' | '-')) {
        end -= 1;
    }
    let domain: String = text.get(at + 1..end)?.iter().collect();
    let (name, tld) = domain.rsplit_once('.')?;
    let real = tld.chars().count() >= 2 && tld.chars().all(char::is_alphabetic) && !name.is_empty();
    (length > 0 && real && !domain.starts_with('.')).then_some((start, end))
}
