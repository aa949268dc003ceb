//! Kinds that look at how the call went: `empty`, `truncated`, `length`, `tool_loop`.

use std::collections::HashMap;

use serde::Deserialize;
use unicode_segmentation::UnicodeSegmentation;

use super::error::BadOption;
use super::{Finding, Rule};
use crate::domain::Call;

/// Fails an answer without a visible character. Not applicable to tool turns and to typed errors other than
/// `empty`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

impl Rule for Empty {
    fn check(&self, call: &Call) -> Finding {
        let invisible = |c: char| {
            c.is_whitespace()
                || c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
        };
        if !call.content.answer.chars().all(invisible) {
            return Finding::pass();
        }
        match call.error_class.as_deref() {
            Some(class) if class != "empty" => Finding::not_applicable("the call ended in a typed error"),
            _ if !call.tool_calls.is_empty() => Finding::not_applicable("a turn of tool calls"),
            _ => Finding::fail("no visible character", Vec::new()),
        }
    }
}

/// Fails an answer whose generation ended for one of these reasons.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Truncated {
    /// Reasons, compared without case.
    finish_reason: Vec<String>,
}

impl Truncated {
    /// The rule, where there is a reason to look for.
    pub(super) fn build(self) -> Result<Self, BadOption> {
        if self.finish_reason.is_empty() {
            return Err(BadOption::new("finish_reason", "is empty", "list at least one reason"));
        }
        Ok(self)
    }
}

impl Rule for Truncated {
    fn check(&self, call: &Call) -> Finding {
        match self.finish_reason.iter().find(|r| r.eq_ignore_ascii_case(&call.finish_reason)) {
            Some(reason) => Finding::fail(format!("generation ended with {reason}"), Vec::new()),
            None => Finding::pass(),
        }
    }
}

/// Fails an answer that is too short or too long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Length {
    /// Fewest Unicode scalar values.
    min_characters: Option<usize>,
    /// Most Unicode scalar values.
    max_characters: Option<usize>,
    /// Fewest words (UAX #29).
    min_words: Option<usize>,
    /// Most words.
    max_words: Option<usize>,
    /// Fewest sentences (UAX #29).
    min_sentences: Option<usize>,
    /// Most sentences.
    max_sentences: Option<usize>,
}

impl Length {
    /// Bounds with the unit they count.
    fn bounds(&self) -> [(&'static str, Option<usize>, Option<usize>); 3] {
        [
            ("characters", self.min_characters, self.max_characters),
            ("words", self.min_words, self.max_words),
            ("sentences", self.min_sentences, self.max_sentences),
        ]
    }

    /// The rule, where at least one bound is given and none contradicts.
    pub(super) fn build(self) -> Result<Self, BadOption> {
        if self.bounds().iter().all(|(_, min, max)| min.is_none() && max.is_none()) {
            return Err(BadOption::new("max_characters", "no bound is given", "give at least one bound"));
        }
        for (unit, min, max) in self.bounds() {
            if min.zip(max).is_some_and(|(min, max)| min > max) {
                let message = format!("the fewest {unit} are more than the most");
                return Err(BadOption::new("min", message, "swap the two bounds"));
            }
        }
        Ok(self)
    }
}

impl Rule for Length {
    fn check(&self, call: &Call) -> Finding {
        let answer = call.content.answer.as_str();
        for (unit, min, max) in self.bounds() {
            if min.is_none() && max.is_none() {
                continue;
            }
            let count = match unit {
                "characters" => answer.chars().count(),
                "words" => answer.unicode_words().count(),
                _ => answer.unicode_sentences().count(),
            };
            if let Some(min) = min.filter(|min| count < *min) {
                return Finding::fail(format!("{count} {unit}, at least {min} wanted"), Vec::new());
            }
            if let Some(max) = max.filter(|max| count > *max) {
                return Finding::fail(format!("{count} {unit}, at most {max} wanted"), Vec::new());
            }
        }
        Finding::pass()
    }
}

/// Fails a call that used the same tool with the same arguments again and again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolLoop {
    /// Repeats that make a loop; 3 when absent.
    #[serde(default = "default_repeats")]
    repeats: usize,
}

/// Repeats that make a loop.
fn default_repeats() -> usize {
    3
}

impl ToolLoop {
    /// The rule, where a loop needs two calls or more.
    pub(super) fn build(self) -> Result<Self, BadOption> {
        if self.repeats < 2 {
            return Err(BadOption::new("repeats", "is less than 2", "a loop needs at least two calls"));
        }
        Ok(self)
    }
}

impl Rule for ToolLoop {
    fn check(&self, call: &Call) -> Finding {
        if call.tool_calls.is_empty() {
            return Finding::not_applicable("no tool calls");
        }
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        for tool in &call.tool_calls {
            *counts.entry((&tool.name, &tool.args_hash)).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        if most < self.repeats {
            return Finding::pass();
        }
        Finding::fail(format!("one tool was called {most} times with the same arguments"), Vec::new())
    }
}
