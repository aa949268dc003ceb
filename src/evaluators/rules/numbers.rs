//! Kind `numbers_grounded`: quantities of the answer stand in the contexts or the input.

use std::collections::HashSet;

use serde::Deserialize;

use super::quantities::{self, Quantity};
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Options and rule of kind `numbers_grounded`: it has none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumbersGrounded {}

impl Rule for NumbersGrounded {
    fn check(&self, call: &Call) -> Finding {
        let content = &call.content;
        if content.contexts.is_empty() && content.input.is_none() {
            return Finding::not_applicable("no contexts and no input");
        }
        let mut claimed = quantities::scan(&content.answer.chars().collect::<Vec<_>>());
        claimed.retain(|q| !q.is_wording());
        if claimed.is_empty() {
            return Finding::not_applicable("no numbers");
        }
        let mut known: HashSet<String> = HashSet::new();
        for source in content.contexts.iter().map(|c| c.text.as_str()).chain(content.input.as_deref()) {
            for quantity in quantities::scan(&source.chars().collect::<Vec<_>>()) {
                known.extend(quantity.source_keys());
            }
        }
        let mut missing: Vec<&Quantity> = claimed.iter().filter(|q| !q.stands_in(&known)).collect();
        if missing.is_empty() {
            return Finding::pass();
        }
        let detail = format!("{} of {} numbers stand in no source", missing.len(), claimed.len());
        missing.truncate(MAX_SPANS);
        let span = |q: &&Quantity| Span { start: q.start, end: q.end, note: q.unit_name().into() };
        Finding::fail(detail, missing.iter().map(span).collect())
    }
}
