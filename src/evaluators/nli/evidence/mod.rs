//! Cuts contexts into windows that the model can read, and chooses the windows for each claim.
//!
//! A window is a run of whole sentences within a token budget. Neighbours overlap, so that a fact spread over
//! two sentences is whole in one of them. What the caps leave out is counted, never silently lost.

mod passage;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::call::Context;
use crate::evaluators::nli::{claims::sentences, doubts::tables::Tables};

pub use passage::{MAX_PASSAGE_BYTES, PASSAGES, Passage};

/// Tokens of a window unless configured: no worse than longer or more windows with the shipped model, and cheaper.
const DEFAULT_WINDOW_TOKENS: usize = 50;
/// Tokens that neighbouring windows share unless configured.
const DEFAULT_OVERLAP_TOKENS: usize = 16;
/// Windows per claim unless configured.
const DEFAULT_WINDOWS_PER_CLAIM: usize = 1;
/// Windows per call unless configured: more than a message of 1 MiB and 10000 contexts makes at the other defaults,
/// so that the choice for each claim is among all that was sent.
const DEFAULT_MAX_WINDOWS: usize = 50_000;

/// Windows that repeat others after which no further ones are looked for: a context may be sent a thousand times.
const MAX_REPEATS: usize = 64;

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

/// The bytes of each token of a text: where it starts and ends.
pub type Offsets = Vec<(usize, usize)>;

/// A piece of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Index of the context.
    pub context: usize,
    /// Its bytes in the context's text.
    pub bytes: Range<usize>,
    /// Its tokens, as counted in the whole context.
    pub tokens: usize,
    /// Whether it holds rows of a table whose header lies outside it.
    pub cuts_table: bool,
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

/// A window and how well it fits a claim; the greatest fits best, and of equals the earliest does.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    /// Its score.
    score: f64,
    /// Its index.
    window: usize,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.window.cmp(&self.window))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Cuts the contexts of a call into windows and indexes them.
///
/// `token_offsets` gives the bytes of each token of a text, in order and without special tokens.
///
/// # Errors
/// That of `token_offsets`: a context that could not be read is not one without text.
pub fn windows<E>(
    contexts: &[Context],
    token_offsets: &dyn Fn(&str) -> Result<Offsets, E>,
    config: &WindowConfig,
) -> Result<Windows, E> {
    let mut found = Windows::default();
    for (context, passage) in contexts.iter().enumerate() {
        let tokens = token_offsets(&passage.text)?;
        let tables = Tables::of(&passage.text);
        let mut covered = 0;
        for run in runs(&units(&passage.text, &tokens, config), config) {
            if found.all.len() >= config.max_windows {
                break;
            }
            let Some(bytes) = byte_range(&passage.text, &tokens[run.clone()]) else { continue };
            covered = run.end;
            found.index(&passage.text[bytes.clone()]);
            let cuts_table = tables.are_cut_by(&bytes);
            found.all.push(Window { context, bytes, tokens: run.len(), cuts_table });
        }
        found.tokens_cut += (tokens.len() - covered) as u64;
    }
    Ok(found)
}

/// Tells whether a text shows anything: white space, control and zero-width characters alone do not.
pub fn has_text(text: &str) -> bool {
    text.chars().any(|c| !(c.is_whitespace() || c.is_control() || is_invisible(c)))
}

/// Tells whether a character has no width and no ink: soft hyphen, joiners, direction marks, fillers, variation
/// selectors and tags, which `char` has no test for.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
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
        let mut chosen = self.best_cited(&scores, cited.unwrap_or_default());
        chosen.truncate(k);
        if chosen.len() == k {
            return chosen;
        }
        let taken: HashSet<usize> = chosen.iter().copied().collect();
        let ranked = (0..self.all.len()).filter(|window| !taken.contains(window));
        // A heap, because few of many windows are taken: sorting them all for each claim costs more.
        let mut ranked: BinaryHeap<Ranked> =
            ranked.map(|window| Ranked { score: scores[window], window }).collect();
        let mut repeated = Vec::new();
        while let Some(Ranked { window, .. }) = ranked.pop() {
            if chosen.iter().any(|other| self.repeats(window, *other)) {
                repeated.push(window);
                if repeated.len() == MAX_REPEATS {
                    break;
                }
                continue;
            }
            chosen.push(window);
            if chosen.len() == k {
                return chosen;
            }
        }
        let left = k - chosen.len();
        chosen.extend(repeated.into_iter().take(left));
        chosen
    }

    /// Gives the best window of each of these contexts, best first.
    fn best_cited(&self, scores: &[f64], contexts: &[usize]) -> Vec<usize> {
        let mut best: Vec<Ranked> = Vec::new();
        for context in contexts {
            let start = self.all.partition_point(|window| window.context < *context);
            let end = self.all.partition_point(|window| window.context <= *context);
            best.extend((start..end).map(|window| Ranked { score: scores[window], window }).max());
        }
        best.sort_unstable_by(|a, b| b.cmp(a));
        best.dedup();
        best.into_iter().map(|ranked| ranked.window).collect()
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
pub(super) fn fold(word: &str) -> String {
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
