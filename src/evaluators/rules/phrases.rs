//! Kind `phrases`: words that must not, or must, stand in the answer.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use serde::Deserialize;

use super::error::BadOption;
use super::fold::{Folded, fold};
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Options of kind `phrases`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PhrasesOptions {
    /// None of these may stand in the answer.
    #[serde(default)]
    banned: Vec<String>,
    /// Each of these has to.
    #[serde(default)]
    required: Vec<String>,
}

/// Phrases to find in one pass, whole words only, whatever their case and form.
pub(super) struct Finder {
    /// Finds all folded phrases.
    automaton: AhoCorasick,
}

impl Finder {
    /// A finder of these phrases; `field` is where they stand.
    pub(super) fn new<'a>(
        field: &'static str,
        phrases: impl Iterator<Item = &'a String>,
    ) -> Result<Self, BadOption> {
        let folded: Vec<String> = phrases.map(|p| fold(p).text.trim().to_owned()).collect();
        if folded.iter().any(String::is_empty) {
            return Err(BadOption::new(field, "has an empty phrase", "remove it"));
        }
        let automaton = AhoCorasickBuilder::new().build(folded);
        let automaton =
            automaton.map_err(|e| BadOption::new(field, e.to_string(), "use fewer or shorter phrases"))?;
        Ok(Self { automaton })
    }

    /// Number of the phrase, and the bytes it takes in the folded text, for every whole-word match.
    pub(super) fn find<'a>(&'a self, text: &'a Folded) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
        self.automaton
            .find_overlapping_iter(&text.text)
            .filter(|m| text.is_word_bounded(m.start(), m.end()))
            .map(|m| (m.pattern().as_usize(), m.start(), m.end()))
    }
}

/// The rule of kind `phrases`.
pub(super) struct Phrases {
    /// Finds banned phrases first, then required ones.
    finder: Finder,
    /// How many are banned.
    banned: usize,
    /// What has to be there.
    required: Vec<String>,
}

impl PhrasesOptions {
    /// The rule, where there is a phrase to look for.
    pub(super) fn build(self) -> Result<Phrases, BadOption> {
        if self.banned.is_empty() && self.required.is_empty() {
            return Err(BadOption::new("banned", "no phrase is given", "list phrases in banned or required"));
        }
        let finder = Finder::new("banned", self.banned.iter().chain(&self.required))?;
        Ok(Phrases { finder, banned: self.banned.len(), required: self.required })
    }
}

impl Rule for Phrases {
    fn check(&self, call: &Call) -> Finding {
        let text = fold(&call.content.answer);
        let mut spans = Vec::new();
        let mut found = vec![false; self.required.len()];
        for (phrase, start, end) in self.finder.find(&text) {
            if let Some(seen) = phrase.checked_sub(self.banned).and_then(|i| found.get_mut(i)) {
                *seen = true;
            } else if spans.len() < MAX_SPANS {
                let (start, end) = text.original(start, end);
                spans.push(Span { start, end, note: "banned".into() });
            }
        }
        let missing = self.required.iter().zip(&found).find(|(_, seen)| !**seen);
        match (spans.len(), missing) {
            (0, None) => Finding::pass(),
            (0, Some((phrase, _))) => Finding::fail(format!("{phrase:?} is missing"), spans),
            (n, _) => Finding::fail(format!("{n} banned phrases"), spans),
        }
    }
}
