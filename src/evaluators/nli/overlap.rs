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

/// What each claim shares with the contexts, and what all of them do, read one after the other; nothing without words.
pub fn overlaps(claims: &[&str], contexts: &[Context]) -> (Vec<Overlap>, Overlap) {
    let mut shared = Shared::default();
    let read: Vec<Vec<Word>> = claims.iter().map(|claim| shared.number(claim)).collect();
    let all = read.concat();
    shared.wanted = runs(&ids(&all)).collect();
    for context in contexts {
        shared.learn(&context.text);
    }
    (read.iter().map(|words| shared.overlap(words)).collect(), shared.overlap(&all))
}

/// The words of an answer's claims, looked up in its contexts.
#[derive(Debug, Default)]
struct Shared {
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
    /// Numbers the words of a claim.
    fn number(&mut self, claim: &str) -> Vec<Word> {
        let mut number = |word: &str| {
            let next = u32::try_from(self.vocabulary.len()).unwrap_or(u32::MAX);
            let id = *self.vocabulary.entry(fold(word)).or_insert(next);
            Word { id: Some(id), content: !is_function_word(word) }
        };
        claim.unicode_words().map(&mut number).collect()
    }

    /// Adds the pairs and runs of one context.
    fn learn(&mut self, context: &str) {
        let look_up = |word: &str| Word {
            id: self.vocabulary.get(&fold(word)).copied(),
            content: !is_function_word(word),
        };
        let words: Vec<Word> = context.unicode_words().map(look_up).collect();
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
            self.runs.extend(runs(&ids(run)).filter(|part| self.wanted.contains(part)));
        }
    }

    /// What these words of claims share with the contexts.
    fn overlap(&self, words: &[Word]) -> Overlap {
        let content: Vec<u32> = words.iter().filter(|word| word.content).filter_map(|word| word.id).collect();
        let pairs = match content.as_slice() {
            [] => 0.0,
            [only] => f64::from(u8::from(self.known.contains(only))),
            several => share(several.windows(2).map(|pair| self.near.contains(&(pair[0], pair[1])))),
        };
        Overlap { pairs, copied: self.copied(&ids(words)) }
    }

    /// Mean over words of ln(1 + length of the longest run that ends there).
    fn copied(&self, ids: &[u32]) -> f64 {
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
}

/// Numbers of the words that have one.
fn ids(words: &[Word]) -> Vec<u32> {
    words.iter().filter_map(|word| word.id).collect()
}

/// Hashes of all runs of the lengths that are told apart.
fn runs(ids: &[u32]) -> impl Iterator<Item = u64> {
    RUNS.iter().flat_map(|length| ids.windows(*length)).map(hashed)
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
        overlaps(&[claim], &contexts(texts)).1
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
