//! Kind `personal_data`: cards, social security numbers, IBANs, phone numbers and e-mail addresses that do
//! not stand in the contexts. Never quoted.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use serde::Deserialize;

use super::error::BadOption;
use super::numbered;
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Characters before a number that can say what it is.
const CONTEXT: usize = 30;
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
        let text: Vec<char> = call.content.answer.chars().collect();
        let mut spans: Vec<Span> = self.detect.iter().flat_map(|kind| kind.scan(&text)).collect();
        let values =
            spans.iter().map(|s| squash(text.get(s.start..s.end).unwrap_or_default().iter().copied()));
        let Some(known) = standing_in(call, &values.collect::<Vec<_>>()) else {
            return Finding::error("too many values to compare");
        };
        let mut known = known.into_iter();
        spans.retain(|_| !known.next().unwrap_or_default());
        if spans.is_empty() {
            return Finding::pass();
        }
        spans.sort_by_key(|s| s.start);
        let mut kinds: Vec<&str> = self.detect.iter().map(|k| k.name()).collect();
        kinds.retain(|kind| spans.iter().any(|s| s.note == *kind));
        let detail = format!("{} found: {}", spans.len(), kinds.join(", "));
        spans.truncate(MAX_SPANS);
        Finding::fail(detail, spans)
    }
}

/// Letters and digits only, lower case.
fn squash(text: impl Iterator<Item = char>) -> String {
    text.filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Which values stand in the contexts, whatever separates their groups. None where they cannot be compared.
fn standing_in(call: &Call, values: &[String]) -> Option<Vec<bool>> {
    let distinct: Vec<&String> = values.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = BTreeSet::new();
    if !values.is_empty() && !call.content.contexts.is_empty() {
        let automaton = AhoCorasick::new(&distinct).ok()?;
        for context in &call.content.contexts {
            for hit in automaton.find_overlapping_iter(&squash(context.text.chars())) {
                found.extend(distinct.get(hit.pattern().as_usize()).copied());
            }
        }
    }
    Some(values.iter().map(|value| found.contains(value)).collect())
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

    /// All values of this sort in the text.
    fn scan(self, text: &[char]) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut at = 0;
        let mut free = 0;
        while at < text.len() {
            let found = match self {
                Self::Card => numbered::card(text, at).map(|end| (at, end)),
                Self::Ssn => numbered::ssn(text, at, || names(text, at, &["ssn", "social security"]))
                    .map(|end| (at, end)),
                Self::Iban => numbered::iban(text, at).map(|end| (at, end)),
                Self::Phone => phone(text, at).map(|end| (at, end)),
                Self::Email => email(text, at, free),
            };
            match found {
                Some((start, end)) => {
                    spans.push(Span { start, end, note: self.name().into() });
                    free = end;
                    at = end.max(at + 1);
                }
                None => at += 1,
            }
        }
        spans
    }
}

/// Whether one of these words stands shortly before.
fn names(text: &[char], at: usize, words: &[&str]) -> bool {
    let before = text.get(at.saturating_sub(CONTEXT)..at).unwrap_or_default();
    let before: String = before.iter().flat_map(|c| c.to_lowercase()).collect();
    words.iter().any(|word| before.contains(word))
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
