//! Kinds that look at the call's shape: `empty`, `length`, `truncated`, `tool_loop`.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Finding, Rule};
use crate::{domain::Call, evaluators::nli::claims::sentences};

/// `empty`: the answer holds something readable. Not applicable where the producer recorded an error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

impl Rule for Empty {
    fn check(&self, call: &Call) -> Finding {
        match call.content.answer.chars().any(char::is_alphanumeric) {
            true => Finding::pass(),
            false if call.error_class.is_some() => Finding::not_applicable(),
            false => Finding::fail("no letter or digit in the answer", Vec::new()),
        }
    }
}

/// `length`: bounds of characters, words and sentences, all inclusive, each optional.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Length {
    min_characters: Option<usize>,
    max_characters: Option<usize>,
    min_words: Option<usize>,
    max_words: Option<usize>,
    min_sentences: Option<usize>,
    max_sentences: Option<usize>,
}

impl Rule for Length {
    fn check(&self, call: &Call) -> Finding {
        let answer = &call.content.answer;
        let counts = [
            ("characters", answer.chars().count(), self.min_characters, self.max_characters),
            ("words", answer.split_whitespace().count(), self.min_words, self.max_words),
            ("sentences", sentences(answer).len(), self.min_sentences, self.max_sentences),
        ];
        for (unit, count, min, max) in counts {
            if min.is_some_and(|min| count < min) || max.is_some_and(|max| count > max) {
                return Finding::fail(format!("{count} {unit}"), Vec::new());
            }
        }
        Finding::pass()
    }
}

/// `truncated`: `finish_reason` is none of these.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Truncated {
    finish_reasons: Vec<String>,
}

impl Rule for Truncated {
    fn check(&self, call: &Call) -> Finding {
        match self.finish_reasons.iter().any(|reason| reason.eq_ignore_ascii_case(&call.finish_reason)) {
            true => Finding::fail("generation was cut", Vec::new()),
            false => Finding::pass(),
        }
    }
}

/// `tool_loop`: no tool is called `times` times with the same arguments.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolLoop {
    times: usize,
}

impl Rule for ToolLoop {
    fn check(&self, call: &Call) -> Finding {
        if call.tool_calls.is_empty() {
            return Finding::not_applicable();
        }
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        for tool in &call.tool_calls {
            *counts.entry((&tool.name, &tool.args_hash)).or_default() += 1;
        }
        match counts.into_iter().max_by_key(|(_, count)| *count) {
            Some((_, count)) if count >= self.times => {
                Finding::fail(format!("one tool {count} times with the same arguments"), Vec::new())
            }
            _ => Finding::pass(),
        }
    }
}
