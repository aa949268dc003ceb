//! Kinds `personal_data` and `secrets`: what redaction took out of the answer. The values themselves are gone before a
//! rule sees a call; their placeholders say what they were, and which are the same.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::BadOption;
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;
use crate::domain::placeholder;

/// Kinds of values that open something.
const SECRETS: [&str; 2] = ["key", "url_secret"];

/// Options and rule of kind `personal_data`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonalData {
    /// Kinds of values to look for, by the names that redaction has for them.
    detect: Vec<String>,
}

/// Options and rule of kind `secrets`: it has none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {}

impl PersonalData {
    /// The rule, where there is something to look for.
    pub(super) fn build(self) -> Result<Self, BadOption> {
        let is_name = |kind: &String| {
            !kind.is_empty() && kind.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        if self.detect.is_empty() || !self.detect.iter().all(is_name) {
            let remedy = "list some of card, ssn, iban, phone, email and the other kinds of [redaction]";
            return Err(BadOption::new("detect", "is empty or names no kind", remedy));
        }
        Ok(self)
    }
}

impl Rule for PersonalData {
    fn check(&self, call: &Call) -> Finding {
        let kinds = self.detect.iter().map(|kind| {
            let contexts = call.content.contexts.iter();
            let known = contexts.flat_map(|context| placeholder::find(&context.text, kind));
            (kind.as_str(), known.map(|placeholder| placeholder.text).collect())
        });
        told(found(&call.content.answer, kinds))
    }
}

impl Rule for Secrets {
    fn check(&self, call: &Call) -> Finding {
        // That a source shows a key is no reason to show it to a user.
        told(found(&call.content.answer, SECRETS.into_iter().map(|kind| (kind, BTreeSet::new()))))
    }
}

/// Placeholders of these kinds in an answer, ascending, but for those that are known.
fn found<'a>(answer: &str, kinds: impl Iterator<Item = (&'a str, BTreeSet<&'a str>)>) -> Vec<Span> {
    let mut spans = Vec::new();
    for (kind, known) in kinds {
        let unknown = placeholder::find(answer, kind).into_iter().filter(|one| !known.contains(one.text));
        spans.extend(unknown.map(|one| Span { start: one.start, end: one.end, note: kind.into() }));
    }
    spans.sort_by_key(|span| span.start);
    spans
}

/// The finding: a failure where something was found.
fn told(mut spans: Vec<Span>) -> Finding {
    if spans.is_empty() {
        return Finding::pass();
    }
    let kinds: BTreeSet<&str> = spans.iter().map(|span| span.note.as_str()).collect();
    let detail = format!("{} found: {}", spans.len(), Vec::from_iter(kinds).join(", "));
    spans.truncate(MAX_SPANS);
    Finding::fail(detail, spans)
}
