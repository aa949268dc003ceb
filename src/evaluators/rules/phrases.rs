//! Kinds `phrases` and `refusal`: many phrases in one pass, folded and word-bounded.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;

use super::{Finding, Rule, fold::{Folded, fold}, spans};
use crate::domain::Call;

/// Answers longer than this are no refusals, whatever they contain, in characters.
const MAX_REFUSAL_CHARS: usize = 500;

/// `phrases`: none of `banned`, all of `required`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default)]
    banned: Vec<String>,
    #[serde(default)]
    required: Vec<String>,
}

/// Compiled phrases.
pub(super) struct Phrases {
    banned: Matcher,
    required: Matcher,
}

/// An automaton over folded phrases.
struct Matcher {
    automaton: AhoCorasick,
    phrases: usize,
}

impl Matcher {
    /// Compiles folded phrases.
    fn new(phrases: &[String]) -> Result<Self, String> {
        let folded: Vec<String> = phrases.iter().map(|phrase| fold(phrase).text).collect();
        if folded.iter().any(|phrase| phrase.trim().is_empty()) {
            return Err("an empty phrase matches everything; remove it".into());
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&folded)
            .map_err(|error| error.to_string())?;
        Ok(Self { automaton, phrases: phrases.len() })
    }

    /// Phrase numbers and places that stand as whole words.
    fn find<'a>(&'a self, folded: &'a Folded) -> impl Iterator<Item = (usize, Range<usize>)> + 'a {
        self.automaton
            .find_iter(&folded.text)
            .map(|found| (found.pattern().as_usize(), found.range()))
            .filter(|(_, range)| folded.is_word(range))
    }
}

impl Phrases {
    /// Compiles both lists.
    pub fn new(options: &Options) -> Result<Self, String> {
        if options.banned.is_empty() && options.required.is_empty() {
            return Err("needs `banned` or `required`".into());
        }
        Ok(Self { banned: Matcher::new(&options.banned)?, required: Matcher::new(&options.required)? })
    }
}

impl Rule for Phrases {
    fn check(&self, call: &Call) -> Finding {
        let answer = &call.content.answer;
        let folded = fold(answer);
        let banned: Vec<(Range<usize>, String)> =
            self.banned.find(&folded).map(|(_, range)| (folded.origin(range), "banned".into())).collect();
        if !banned.is_empty() {
            return Finding::of_spans("banned phrases", spans(answer, &banned));
        }
        let mut present = vec![false; self.required.phrases];
        self.required.find(&folded).for_each(|(phrase, _)| present[phrase] = true);
        match present.iter().filter(|present| !**present).count() {
            0 => Finding::pass(),
            missing => Finding::fail(format!("{missing} required phrases are missing"), Vec::new()),
        }
    }
}

/// `refusal`: fails when a short answer holds one of `phrases`; with `on_fail = "label"` it only labels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusal {
    phrases: Vec<String>,
}

/// A compiled refusal rule.
pub(super) struct RefusalRule(Matcher);

impl RefusalRule {
    /// Compiles the phrases.
    pub fn new(options: &Refusal) -> Result<Self, String> {
        Matcher::new(&options.phrases).map(Self)
    }
}

impl Rule for RefusalRule {
    fn check(&self, call: &Call) -> Finding {
        let answer = &call.content.answer;
        if answer.chars().nth(MAX_REFUSAL_CHARS).is_some() {
            return Finding::pass();
        }
        let folded = fold(answer);
        let found: Vec<_> = self.0.find(&folded).map(|(_, range)| (folded.origin(range), "refusal".into())).collect();
        match found.is_empty() {
            true => Finding::pass(),
            false => Finding::fail("the answer refuses", spans(answer, &found)),
        }
    }
}
