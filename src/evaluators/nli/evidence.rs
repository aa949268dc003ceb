//! Evidence windows: runs of whole sentences of a context, within a token budget, and the choice among them.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use unicode_segmentation::UnicodeSegmentation;

use super::claims::sentences;
use crate::domain::Context;

/// Bounds of windows.
#[derive(Debug, Clone, Copy)]
pub struct WindowConfig {
    /// Most tokens of one window.
    pub window_tokens: usize,
    /// Tokens that neighbouring windows share, about.
    pub overlap_tokens: usize,
    /// Most windows of one call.
    pub max_windows: usize,
}

/// A piece of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Which context.
    pub context: usize,
    /// Bytes of its text.
    pub bytes: Range<usize>,
    /// Tokens it holds.
    pub tokens: usize,
}

/// All windows of a call, indexed by word.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    /// The windows, in the order of the contexts.
    pub all: Vec<Window>,
    /// Tokens of contexts that no window holds, because `max_windows` was reached.
    pub tokens_cut: u64,
    postings: HashMap<String, Vec<u32>>,
}

/// Cuts contexts into windows. `offsets` gives the byte offsets of each token of a text.
pub fn windows(
    contexts: &[Context],
    offsets: &dyn Fn(&str) -> Vec<(usize, usize)>,
    config: WindowConfig,
) -> Windows {
    let mut windows = Windows::default();
    for (context, text) in contexts.iter().map(|context| context.text.as_str()).enumerate() {
        let tokens = offsets(text);
        let units = units(text, &tokens, config);
        let runs = runs(&units, config);
        let room = config.max_windows.saturating_sub(windows.all.len());
        let held = runs.get(..room.min(runs.len())).and_then(<[_]>::last).map_or(0, |run| run.end);
        windows.tokens_cut += units[held..].iter().map(|unit| unit.len() as u64).sum::<u64>();
        for run in runs.into_iter().take(room) {
            let (first, last) = (units[run.start].start, units[run.end - 1].end);
            let bytes = boundary(text, tokens[first].0)..boundary(text, tokens[last - 1].1);
            windows.all.push(Window { context, bytes, tokens: last - first });
        }
    }
    windows.index(contexts);
    windows
}

/// Sentences as token ranges; one longer than the budget is cut into overlapping pieces.
fn units(text: &str, tokens: &[(usize, usize)], config: WindowConfig) -> Vec<Range<usize>> {
    let budget = config.window_tokens.max(1);
    let mut units = Vec::new();
    let mut at = 0;
    for sentence in sentences(text) {
        let start = at;
        while at < tokens.len() && tokens[at].0 < sentence.end {
            at += 1;
        }
        units.extend((start..at).step_by(budget).map(|from| from..(from + budget).min(at)));
    }
    if at < tokens.len() {
        units.extend((at..tokens.len()).step_by(budget).map(|from| from..(from + budget).min(tokens.len())));
    }
    units
}

/// Runs of units within the budget; the next begins so that about `overlap_tokens` are shared.
fn runs(units: &[Range<usize>], config: WindowConfig) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < units.len() {
        let (mut end, mut tokens) = (start, 0);
        while end < units.len() && (end == start || tokens + units[end].len() <= config.window_tokens) {
            tokens += units[end].len();
            end += 1;
        }
        runs.push(start..end);
        if end == units.len() {
            break;
        }
        let (mut next, mut shared) = (end, 0);
        while next > start + 1 && shared + units[next - 1].len() <= config.overlap_tokens {
            next -= 1;
            shared += units[next].len();
        }
        start = next;
    }
    runs
}

impl Windows {
    /// Builds the word index.
    fn index(&mut self, contexts: &[Context]) {
        for (number, window) in self.all.iter().enumerate() {
            let text = &contexts[window.context].text[window.bytes.clone()];
            for word in words(text) {
                self.postings.entry(word).or_default().push(number as u32);
            }
        }
    }

    /// The `k` windows that share most with the claim, weighted by how rare each word is in this call. The best
    /// window of each cited context comes first; near copies of a chosen window come last.
    pub fn best_for(&self, claim: &str, cited: &[usize], k: usize) -> Vec<usize> {
        let total = self.all.len() as f64;
        let mut overlap = vec![0.0f64; self.all.len()];
        for word in words(claim) {
            if let Some(windows) = self.postings.get(&word) {
                let rarity = (1.0 + total / windows.len() as f64).ln();
                windows.iter().for_each(|&window| overlap[window as usize] += rarity);
            }
        }
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by(|&a, &b| overlap[b].total_cmp(&overlap[a]).then(a.cmp(&b)));
        let mut chosen: Vec<usize> =
            cited.iter().filter_map(|&context| order.iter().copied().find(|&w| self.all[w].context == context)).collect();
        chosen.truncate(k);
        for crowding in [false, true] {
            for &window in &order {
                if chosen.len() >= k {
                    break;
                }
                if !chosen.contains(&window) && (crowding || !self.crowds(window, &chosen)) {
                    chosen.push(window);
                }
            }
        }
        chosen
    }

    /// Whether most of a window stands in one that was chosen already.
    fn crowds(&self, window: usize, chosen: &[usize]) -> bool {
        let this = &self.all[window];
        chosen.iter().map(|&other| &self.all[other]).filter(|other| other.context == this.context).any(|other| {
            let shared = this.bytes.end.min(other.bytes.end).saturating_sub(this.bytes.start.max(other.bytes.start));
            shared * 5 > this.bytes.len() * 4
        })
    }
}

/// Distinct folded words: lower-case, without plural and verb endings.
fn words(text: &str) -> HashSet<String> {
    text.unicode_words().map(|word| stem(&word.to_lowercase()).to_owned()).collect()
}

/// Cuts the commonest English endings of longer words.
fn stem(word: &str) -> &str {
    let cut = ["ing", "ed", "es", "s"].into_iter().find_map(|ending| word.strip_suffix(ending));
    cut.filter(|stem| stem.len() >= 3).unwrap_or(word)
}

/// The nearest character boundary at or before a byte: byte-level tokenizers may split a character.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Byte range of a text as Unicode scalar values.
pub fn char_range(text: &str, bytes: Range<usize>) -> Range<usize> {
    let start = text[..bytes.start].chars().count();
    start..start + text[bytes].chars().count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One token per word.
    fn word_offsets(text: &str) -> Vec<(usize, usize)> {
        text.unicode_word_indices().map(|(at, word)| (at, at + word.len())).collect()
    }

    fn context(text: &str) -> Context {
        Context { id: "c".into(), text: text.into(), score: None }
    }

    const SMALL: WindowConfig = WindowConfig { window_tokens: 8, overlap_tokens: 4, max_windows: 2000 };

    #[test]
    fn the_window_that_speaks_of_the_claim_is_first() {
        let text = "Cats sleep all day. Dogs bark at night. Refunds are paid within thirty days. Birds sing.";
        let contexts = [context(text)];
        let found = windows(&contexts, &word_offsets, SMALL);
        let best = found.best_for("refund is paid in thirty days", &[], 1);
        assert!(text[found.all[best[0]].bytes.clone()].contains("Refunds are paid"));
    }

    #[test]
    fn a_cited_context_comes_first() {
        let contexts = [context("Refunds take thirty days."), context("Something else entirely.")];
        let found = windows(&contexts, &word_offsets, SMALL);
        assert_eq!(found.best_for("Refunds take thirty days", &[1], 2), vec![1, 0]);
    }

    #[test]
    fn what_is_cut_is_counted() {
        let contexts = [context(&"One two three four five six seven eight. ".repeat(10))];
        let found = windows(&contexts, &word_offsets, WindowConfig { max_windows: 3, ..SMALL });
        assert_eq!((found.all.len(), found.tokens_cut), (3, 56));
    }

    proptest! {
        #[test]
        fn windows_cover_every_token_within_budget(texts in prop::collection::vec("([a-zé]{1,6}[ .]{1,2}){0,60}", 0..4)) {
            let contexts: Vec<Context> = texts.iter().map(|text| context(text)).collect();
            let found = windows(&contexts, &word_offsets, SMALL);
            prop_assert_eq!(found.tokens_cut, 0);
            for (number, text) in texts.iter().enumerate() {
                for (start, end) in word_offsets(text) {
                    let held = found.all.iter().any(|window| {
                        window.context == number && window.bytes.start <= start && end <= window.bytes.end
                    });
                    prop_assert!(held);
                }
            }
            prop_assert!(found.all.iter().all(|window| window.tokens <= SMALL.window_tokens));
            let best = found.best_for("a é b", &[], 3);
            prop_assert_eq!(best.len(), found.all.len().min(3));
            prop_assert_eq!(best.iter().collect::<HashSet<_>>().len(), best.len());
        }
    }
}
