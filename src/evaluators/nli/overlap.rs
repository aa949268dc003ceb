//! Words that claims share with the contexts, counted in two ways that an entailment model does not see well.
//!
//! * `pairs`: the share of neighbouring content words of the claims that stand near each other in a context too. A
//!   claim that joins words of two passages has its words, and not its pairs.
//! * `copied`: how long the runs are that are copied word for word, after the density of extractive fragments of
//!   Grusky et al. 2018 (arXiv:1804.11283), in steps of powers of two so that it takes linear time.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use unicode_segmentation::UnicodeSegmentation;

use super::{evidence::fold, function_words::is_function_word};
use crate::domain::call::Context;

/// How far apart, in content words, two words of a context may stand and still be near each other.
const NEAR: usize = 4;
/// Lengths of copied runs that are told apart, in words.
const RUNS: [usize; 5] = [1, 2, 4, 8, 16];

/// What claims share with the contexts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overlap {
    /// Share of neighbouring content words that are neighbours in a context, 0..1.
    pub pairs: f64,
    /// Mean over words of ln(1 + length of the longest copied run that ends there), 0..ln 17.
    pub copied: f64,
}

/// The words of an answer's claims, looked up in its contexts.
#[derive(Debug, Default)]
pub struct Shared {
    /// A number for each word of the claims.
    vocabulary: HashMap<String, u32>,
    /// Content words that stand near each other in a context, in order.
    near: HashSet<(u32, u32)>,
    /// Content words of the contexts.
    known: HashSet<u32>,
    /// Hashes of the runs of each length of [`RUNS`] that the claims have, so that hostile contexts take no memory.
    wanted: HashSet<u64>,
    /// Those of them that a context has too.
    runs: HashSet<u64>,
}

/// A word of a claim or a context.
#[derive(Debug, Clone, Copy)]
struct Word {
    /// Its number; none for a word that no claim has.
    id: Option<u32>,
    /// Whether it carries content.
    content: bool,
}

impl Shared {
    /// Looks the words of these claims up in the contexts.
    pub fn of(claims: &[&str], contexts: &[Context]) -> Self {
        let mut shared = Self::default();
        for word in claims.iter().flat_map(|claim| claim.unicode_words()) {
            let next = u32::try_from(shared.vocabulary.len()).unwrap_or(u32::MAX);
            shared.vocabulary.entry(fold(word)).or_insert(next);
        }
        let ids: Vec<u32> =
            claims.iter().flat_map(|claim| shared.words(claim)).filter_map(|word| word.id).collect();
        shared.wanted = RUNS.iter().flat_map(|length| ids.windows(*length)).map(hashed).collect();
        for context in contexts {
            let words = shared.words(&context.text);
            shared.learn(&words);
        }
        shared
    }

    /// Adds the pairs and runs of one context.
    fn learn(&mut self, words: &[Word]) {
        let content: Vec<Option<u32>> =
            words.iter().filter(|word| word.content).map(|word| word.id).collect();
        self.known.extend(content.iter().flatten());
        for (place, first) in content.iter().enumerate() {
            let Some(first) = first else { continue };
            let following = &content[place + 1..content.len().min(place + 1 + NEAR)];
            self.near.extend(following.iter().flatten().map(|second| (*first, *second)));
        }
        // A word that no claim has ends every run.
        for run in words.split(|word| word.id.is_none()) {
            let ids: Vec<u32> = run.iter().filter_map(|word| word.id).collect();
            let parts = RUNS.iter().flat_map(|length| ids.windows(*length)).map(hashed);
            self.runs.extend(parts.filter(|part| self.wanted.contains(part)));
        }
    }

    /// What these claims, read one after the other, share with the contexts; nothing without words.
    pub fn overlap(&self, claims: &[&str]) -> Overlap {
        let words: Vec<Word> = claims.iter().flat_map(|claim| self.words(claim)).collect();
        let content: Vec<u32> = words.iter().filter(|word| word.content).filter_map(|word| word.id).collect();
        let pairs = match content.as_slice() {
            [] => 0.0,
            [only] => f64::from(u8::from(self.known.contains(only))),
            several => share(several.windows(2).map(|pair| self.near.contains(&(pair[0], pair[1])))),
        };
        Overlap { pairs, copied: self.copied(&words) }
    }

    /// Mean over words of ln(1 + length of the longest run that ends there).
    fn copied(&self, words: &[Word]) -> f64 {
        let ids: Vec<u32> = words.iter().filter_map(|word| word.id).collect();
        if ids.is_empty() {
            return 0.0;
        }
        let longest = |end: usize| {
            let copied =
                |length: &&usize| end >= **length && self.runs.contains(&hashed(&ids[end - **length..end]));
            RUNS.iter().rev().find(copied).copied().unwrap_or(0)
        };
        (1..=ids.len()).map(|end| (longest(end) as f64).ln_1p()).sum::<f64>() / ids.len() as f64
    }

    /// The words of a text with their numbers.
    fn words(&self, text: &str) -> Vec<Word> {
        let word = |word: &str| Word {
            id: self.vocabulary.get(&fold(word)).copied(),
            content: !is_function_word(word),
        };
        text.unicode_words().map(word).collect()
    }
}

/// Hash of a run of words; two runs with one hash would only count as one.
fn hashed(run: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}

/// Share of what is true; there is at least one.
fn share(found: impl ExactSizeIterator<Item = bool>) -> f64 {
    let count = found.len() as f64;
    found.filter(|found| *found).count() as f64 / count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::growth::assert_linear;

    fn contexts(texts: &[&str]) -> Vec<Context> {
        let context = |text: &&str| Context { id: "c".into(), text: (*text).into(), score: None };
        texts.iter().map(context).collect()
    }

    fn overlap(claim: &str, texts: &[&str]) -> Overlap {
        Shared::of(&[claim], &contexts(texts)).overlap(&[claim])
    }

    #[test]
    fn joined_passages_share_words_and_not_pairs() {
        let passages = ["Anna moved to Paris.", "Bernd studied chemistry in Rome."];
        assert_eq!(overlap("Anna moved to Paris.", &passages).pairs, 1.0);
        assert_eq!(overlap("Anna studied chemistry in Paris.", &passages).pairs, 1.0 / 3.0);
        assert_eq!(overlap("Clara sold houses.", &passages), Overlap { pairs: 0.0, copied: 0.0 });
    }

    #[test]
    fn longer_copies_count_more() {
        let passage = ["Refunds are paid within thirty days of the purchase by card."];
        let whole = overlap("Refunds are paid within thirty days of the purchase.", &passage).copied;
        let parts = overlap("Within thirty days refunds are of the purchase paid.", &passage).copied;
        assert!(whole > parts && parts > 0.0, "{whole} {parts}");
    }

    #[test]
    fn runs_do_not_reach_over_contexts() {
        let apart = overlap("red house", &["red", "house"]);
        assert_eq!((apart.pairs, apart.copied), (0.0, 2f64.ln()));
    }

    #[test]
    fn nothing_shares_nothing() {
        assert_eq!(overlap("", &["text"]), Overlap::default());
        assert_eq!(overlap("?!", &[]), Overlap::default());
    }

    proptest! {
        #[test]
        fn shares_stay_in_range(claim in "\\PC{0,80}", context in "\\PC{0,120}") {
            let found = overlap(&claim, &[&context]);
            prop_assert!((0.0..=1.0).contains(&found.pairs));
            prop_assert!((0.0..=17f64.ln()).contains(&found.copied));
            // A claim that is a context is copied whole.
            prop_assert!(overlap(&claim, &[&claim]).copied >= found.copied - 1e-9);
        }
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        for unit in ["a ", "a b ", "word another ", "x"] {
            assert_linear(unit, |text| {
                overlap(text, &[text]);
            });
        }
    }
}
