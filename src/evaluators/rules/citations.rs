//! Kind `citations`: what the answer cites was retrieved.

use std::ops::Range;

use regex::Regex;
use serde::Deserialize;

use super::{Finding, Rule};
use crate::{
    domain::{Call, evaluation::Span},
    evaluators::nli::claims::split,
};

/// Options of `citations`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// `bracket` for [chk_91], `cjk` for 【1】, `position` for [1] by place among the contexts.
    markers: Vec<Marker>,
    /// Whether an answer without any citation fails.
    #[serde(default)]
    required: bool,
}

/// How a citation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Marker {
    Bracket,
    Cjk,
    Position,
}

/// A compiled citations rule.
pub(super) struct Citations {
    pattern: Regex,
    markers: Vec<Marker>,
    required: bool,
}

impl Citations {
    /// Compiles the markers.
    pub fn new(options: &Options) -> Result<Self, String> {
        if options.markers.is_empty() {
            return Err("`markers` is empty; name bracket, cjk or position".into());
        }
        let pattern = Regex::new(r"\[([A-Za-z0-9_.:/-]{1,80}(?:\s?[,;]\s?[A-Za-z0-9_.:/-]{1,80}){0,9})\]|【([^【】]{1,80})】")
            .map_err(|error| error.to_string())?;
        Ok(Self { pattern, markers: options.markers.clone(), required: options.required })
    }

    /// Ids cited by one marker: text between brackets, lists split.
    fn ids<'a>(&self, found: &regex::Captures<'a>, call: &'a Call) -> Vec<&'a str> {
        let (text, cjk) = match (found.get(1), found.get(2)) {
            (Some(text), _) => (text.as_str(), false),
            (_, Some(text)) => (text.as_str(), true),
            _ => return Vec::new(),
        };
        if cjk && !self.markers.contains(&Marker::Cjk) {
            return Vec::new();
        }
        text.split([',', ';']).map(str::trim).filter_map(|id| self.resolve(id, cjk, call)).collect()
    }

    /// The chunk id that one cited word means; none where it is no citation.
    fn resolve<'a>(&self, word: &'a str, cjk: bool, call: &'a Call) -> Option<&'a str> {
        if let Ok(position) = word.parse::<usize>() {
            let by_position = cjk || self.markers.contains(&Marker::Position);
            let context = call.content.contexts.get(position.wrapping_sub(1)).map(|context| context.id.as_str());
            return by_position.then(|| context.unwrap_or(word));
        }
        // A word in brackets is a citation when it looks like an id: "[sic]" and "[Note]" are none.
        let known = call.content.contexts.iter().any(|context| context.id == word);
        let id_like = word.chars().any(|c| c.is_ascii_digit()) && word.contains(['_', '-', ':', '/']);
        (self.markers.contains(&Marker::Bracket) && (known || id_like) || cjk).then_some(word)
    }
}

impl Rule for Citations {
    fn check(&self, call: &Call) -> Finding {
        let answer = &call.content.answer;
        let retrieved: Vec<&str> = match &call.retrieval_ids {
            Some(ids) => ids.iter().map(String::as_str).collect(),
            None => call.content.contexts.iter().map(|context| context.id.as_str()).collect(),
        };
        if retrieved.is_empty() && call.content.contexts.is_empty() || answer.trim().is_empty() {
            return Finding::not_applicable();
        }
        let cited: Vec<(Range<usize>, &str)> = self
            .pattern
            .captures_iter(answer)
            .take(500)
            .flat_map(|found| {
                let place = found.get(0).map_or(0..0, |whole| whole.range());
                self.ids(&found, call).into_iter().map(move |id| (place.clone(), id))
            })
            .collect();
        if cited.is_empty() {
            return match self.required {
                true => Finding::fail("no citation", Vec::new()),
                false => Finding::not_applicable(),
            };
        }
        let spans = sentences_of(answer, &cited);
        match cited.iter().filter(|(_, id)| !retrieved.contains(id)).count() {
            0 => Finding { spans, ..Finding::pass() },
            wrong => Finding::fail(format!("{wrong} of {} citations were not retrieved", cited.len()), spans),
        }
    }
}

/// The sentence that carries each citation, with the cited id. A citation after the point belongs to the
/// sentence before it.
fn sentences_of(answer: &str, cited: &[(Range<usize>, &str)]) -> Vec<Span> {
    let claims = split(answer).spans;
    cited
        .iter()
        .filter_map(|(place, id)| {
            let claim = claims
                .iter()
                .find(|claim| claim.bytes.contains(&place.start))
                .or_else(|| claims.iter().rev().find(|claim| claim.bytes.end <= place.start))?;
            let only_marker = claim.bytes.start == place.start;
            let before = claims.iter().rev().find(|other| other.bytes.end <= place.start);
            let chosen = if only_marker { before.unwrap_or(claim) } else { claim };
            Some(Span { start: chosen.chars.start, end: chosen.chars.end, note: (*id).to_owned() })
        })
        .collect()
}
