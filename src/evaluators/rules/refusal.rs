//! Kind `refusal`: the model declined, or said that it does not know.

use serde::Deserialize;

use super::error::BadOption;
use super::fold::fold;
use super::phrases::Finder;
use super::{Finding, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Options of kind `refusal`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefusalOptions {
    /// How a refusal is worded.
    phrases: Vec<String>,
    /// Reasons of ending that are refusals whatever the answer says.
    #[serde(default)]
    finish_reason: Vec<String>,
    /// Characters from the start within which a phrase has to begin; 120 when absent.
    #[serde(default = "default_within")]
    within: usize,
    /// Longest answer, in characters, that a phrase makes a refusal; 600 when absent.
    #[serde(default = "default_max_characters")]
    max_characters: usize,
}

/// Where a refusal says so.
fn default_within() -> usize {
    120
}

/// Longest refusal.
fn default_max_characters() -> usize {
    600
}

/// The rule of kind `refusal`.
pub(super) struct Refusal {
    /// The options.
    options: RefusalOptions,
    /// Finds the phrases.
    finder: Finder,
}

impl RefusalOptions {
    /// The rule, where there is something to tell a refusal by.
    pub(super) fn build(self) -> Result<Refusal, BadOption> {
        if self.phrases.is_empty() && self.finish_reason.is_empty() {
            return Err(BadOption::new("phrases", "is empty", "list how refusals are worded"));
        }
        let finder = Finder::new("phrases", self.phrases.iter())?;
        Ok(Refusal { options: self, finder })
    }
}

impl Rule for Refusal {
    fn check(&self, call: &Call) -> Finding {
        if let Some(reason) =
            self.options.finish_reason.iter().find(|r| r.eq_ignore_ascii_case(&call.finish_reason))
        {
            return Finding::fail(format!("generation ended with {reason}"), Vec::new());
        }
        let answer = call.content.answer.trim_end();
        if answer.chars().nth(self.options.max_characters).is_some() {
            return Finding::pass();
        }
        let text = fold(answer);
        let declining = self.finder.find(&text).filter(|(_, _, end)| !turns(&text.text, *end));
        let spans = declining.map(|(_, start, end)| text.original(start, end));
        match spans.into_iter().find(|(start, _)| *start <= self.options.within) {
            Some((start, end)) => {
                Finding::fail("the answer declines", vec![Span { start, end, note: "refusal".into() }])
            }
            None => Finding::pass(),
        }
    }
}

/// Whether the rest of the sentence turns to an answer: "I couldn't find the date, but refunds take 60 days."
fn turns(folded: &str, from: usize) -> bool {
    let rest = folded.get(from..).unwrap_or_default();
    let stop = [". ", "! ", "? "].iter().filter_map(|stop| rest.find(stop)).min().unwrap_or(rest.len());
    let sentence = rest.get(..stop).unwrap_or_default();
    [" but ", "however"].iter().any(|turn| sentence.contains(turn))
}
