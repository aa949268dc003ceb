//! Cuts contexts into windows that the model can read, and chooses the windows for each claim.
//!
//! A window is a run of whole sentences within a token budget. Neighbours overlap, so that a fact spread over
//! two sentences is whole in one of them. What the caps leave out is counted, never silently lost.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::call::Context;
use crate::evaluators::nli::claims::sentences;

/// Tokens of a window unless configured: no worse than longer or more windows with the starter model, and cheaper.
const DEFAULT_WINDOW_TOKENS: usize = 50;
/// Tokens that neighbouring windows share unless configured.
const DEFAULT_OVERLAP_TOKENS: usize = 16;
/// Windows per claim unless configured.
const DEFAULT_WINDOWS_PER_CLAIM: usize = 1;
/// Windows per call unless configured.
const DEFAULT_MAX_WINDOWS: usize = 2000;

/// How contexts are cut and how many windows a claim is read against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Most tokens of a window, special tokens not counted.
    pub window_tokens: usize,
    /// Most tokens that a window shares with the one before it; half a window at most.
    pub overlap_tokens: usize,
    /// Windows that each claim is read against.
    pub windows_per_claim: usize,
    /// Most windows of one call.
    pub max_windows: usize,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            window_tokens: DEFAULT_WINDOW_TOKENS,
            overlap_tokens: DEFAULT_OVERLAP_TOKENS,
            windows_per_claim: DEFAULT_WINDOWS_PER_CLAIM,
            max_windows: DEFAULT_MAX_WINDOWS,
        }
    }
}

/// A piece of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Index of the context.
    pub context: usize,
    /// Its bytes in the context's text.
    pub bytes: Range<usize>,
    /// Its tokens, as counted in the whole context.
    pub tokens: usize,
}

/// The windows of a call, with an index of their words.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    /// All windows, by context and place.
    pub all: Vec<Window>,
    /// Tokens of context that no window holds because there were too many windows.
    pub tokens_cut: u64,
    /// The windows that hold each word, ascending.
    postings: HashMap<String, Vec<usize>>,
    /// A hash of each window's words, which tells repeated passages.
    prints: Vec<u64>,
}

/// Cuts the contexts of a call into windows and indexes them.
///
/// `token_offsets` gives the bytes of each token of a text, in order and without special tokens.
pub fn windows(
    contexts: &[Context],
    token_offsets: &dyn Fn(&str) -> Vec<(usize, usize)>,
    config: &WindowConfig,
) -> Windows {
    let mut found = Windows::default();
    for (context, passage) in contexts.iter().enumerate() {
        let tokens = token_offsets(&passage.text);
        let mut covered = 0;
        for run in runs(&units(&passage.text, &tokens, config), config) {
            if found.all.len() >= config.max_windows {
                break;
            }
            let Some(bytes) = byte_range(&passage.text, &tokens[run.clone()]) else { continue };
            covered = run.end;
            found.index(&passage.text[bytes.clone()]);
            found.all.push(Window { context, bytes, tokens: run.len() });
        }
        found.tokens_cut += (tokens.len() - covered) as u64;
    }
    found
}

impl Windows {
    /// The text of a window of these contexts, which must be those it was made from.
    pub fn text<'a>(&self, contexts: &'a [Context], window: usize) -> &'a str {
        let place = &self.all[window];
        &contexts[place.context].text[place.bytes.clone()]
    }

    /// Adds the words of the next window to the index.
    fn index(&mut self, text: &str) {
        let window = self.all.len();
        let mut hasher = DefaultHasher::new();
        for word in words(text) {
            word.hash(&mut hasher);
            let posting = self.postings.entry(word).or_default();
            if posting.last() != Some(&window) {
                posting.push(window);
            }
        }
        self.prints.push(hasher.finish());
    }

    /// Chooses at most `k` windows for a claim, best first.
    ///
    /// Each context in `cited` comes first with its best window. Windows that repeat a chosen one come last,
    /// and windows without a common word fill up in order.
    pub fn best_for(&self, claim: &str, cited: Option<&[usize]>, k: usize) -> Vec<usize> {
        let scores = self.scores(claim);
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        // The sort is stable: ties keep the earlier window first.
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut chosen: Vec<usize> = Vec::with_capacity(k.min(order.len()));
        if let Some(cited) = cited {
            let mut wanted: HashSet<usize> = cited.iter().copied().collect();
            chosen.extend(order.iter().filter(|window| wanted.remove(&self.all[**window].context)).take(k));
        }
        let mut taken: HashSet<usize> = chosen.iter().copied().collect();
        for &window in &order {
            if chosen.len() >= k {
                break;
            }
            if !taken.contains(&window) && !chosen.iter().any(|other| self.repeats(window, *other)) {
                taken.insert(window);
                chosen.push(window);
            }
        }
        let left = k.saturating_sub(chosen.len());
        chosen.extend(order.into_iter().filter(|window| !taken.contains(window)).take(left));
        chosen
    }

    /// Weighs each window by the claim's words it holds, each by how rare it is among the windows.
    fn scores(&self, claim: &str) -> Vec<f64> {
        let mut scores = vec![0.0; self.all.len()];
        let total = self.all.len() as f64;
        let mut seen = HashSet::new();
        for word in words(claim) {
            let Some(posting) = self.postings.get(&word) else { continue };
            if seen.insert(word) {
                let count = posting.len() as f64;
                let weight = (1.0 + (total - count + 0.5) / (count + 0.5)).ln();
                posting.iter().for_each(|window| scores[*window] += weight);
            }
        }
        scores
    }

    /// Tells whether two windows hold mostly the same text.
    fn repeats(&self, one: usize, other: usize) -> bool {
        if self.prints[one] == self.prints[other] {
            return true;
        }
        let (one, other) = (&self.all[one], &self.all[other]);
        if one.context != other.context {
            return false;
        }
        let shared =
            one.bytes.end.min(other.bytes.end).saturating_sub(one.bytes.start.max(other.bytes.start));
        2 * shared > one.bytes.len() + other.bytes.len() - shared
    }
}

/// Turns a byte range of `text` into one of Unicode scalar values.
pub fn char_range(text: &str, bytes: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(bytes.start);
    let end = text.ceil_char_boundary(bytes.end).max(start);
    let before = text[..start].chars().count();
    before..before + text[start..end].chars().count()
}

/// Divides the tokens of a text into the units that windows are packed from: sentences, or pieces of one
/// that is longer than a window.
fn units(text: &str, tokens: &[(usize, usize)], config: &WindowConfig) -> Vec<Range<usize>> {
    let window = config.window_tokens.max(1);
    // Pieces as long as the overlap make neighbours share one of them.
    let pieces = window.div_ceil(overlap(config).max(1)).min(window);
    let piece = if overlap(config) == 0 { window } else { window / pieces };
    let mut units: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    let sentences = sentences(text);
    for index in 0..=sentences.len() {
        let next = sentences.get(index + 1).map(|sentence| sentence.start);
        let end = next.map_or(tokens.len(), |next| tokens.partition_point(|token| token.0 < next));
        if end <= start {
            continue;
        }
        let step = if end - start > window { piece.max(1) } else { window };
        units.extend((start..end).step_by(step).map(|at| at..(at + step).min(end)));
        start = end;
    }
    units
}

/// Gives the overlap in force, which leaves each window room for something new.
fn overlap(config: &WindowConfig) -> usize {
    config.overlap_tokens.min(config.window_tokens / 2)
}

/// Packs units into overlapping windows within the budget; gives their tokens.
fn runs(units: &[Range<usize>], config: &WindowConfig) -> Vec<Range<usize>> {
    let window = config.window_tokens.max(1);
    let mut runs = Vec::new();
    let mut first = 0;
    while first < units.len() {
        let start = units[first].start;
        let next =
            (first + 1..units.len()).find(|unit| units[*unit].end - start > window).unwrap_or(units.len());
        let end = units[next - 1].end;
        runs.push(start..end);
        let Some(following) = units.get(next) else { break };
        // Whole units come along again, as long as what follows them still fits.
        first = (first + 1..next)
            .find(|unit| {
                end - units[*unit].start <= overlap(config) && following.end - units[*unit].start <= window
            })
            .unwrap_or(next);
    }
    runs
}

/// Gives the bytes from the first token to the last, widened to whole characters; `None` without text.
fn byte_range(text: &str, tokens: &[(usize, usize)]) -> Option<Range<usize>> {
    let start = text.floor_char_boundary(tokens.first()?.0);
    let end = text.ceil_char_boundary(tokens.last()?.1.min(text.len()));
    (start < end).then_some(start..end)
}

/// Gives the words of a text, folded for comparison.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.unicode_words().map(fold)
}

/// Folds case and the commonest English endings, so that `Wars` meets `war` and `played` meets `plays`.
fn fold(word: &str) -> String {
    let mut word = word.to_lowercase().replace('’', "'");
    if let Some(bare) = word.strip_suffix("'s") {
        word.truncate(bare.len());
    }
    if !word.is_ascii() || word.len() < 4 {
        return word;
    }
    for (ending, kept) in [("ies", 3), ("ing", 4), ("ed", 3), ("es", 3), ("s", 3)] {
        if word.len() >= ending.len() + kept && word.ends_with(ending) && !word.ends_with("ss") {
            word.truncate(word.len() - ending.len());
            break;
        }
    }
    // `made` and `making`, `city` and `cities` meet without their last vowel.
    if word.len() >= 4 && word.ends_with(['e', 'y']) {
        word.pop();
    }
    word
}

#[cfg(test)]
mod tests;
