//! Knows what the model cannot judge: why a claim is left unsure, whatever the model says of it.
//!
//! Each kind of doubt has its file; [`Doubt`] lists them, the one that counts first first. All of them would rather
//! miss a claim than doubt a good one, and read a text in linear time.

mod formula;
mod language;
mod pronoun;
mod snippet;
pub(super) mod tables;
#[cfg(test)]
mod tests;

use unicode_segmentation::UnicodeSegmentation;
use whatlang::Lang;

use self::language::Reading;
use super::{claims::ClaimSpan, function_words::is_function_word, not_claims::fold};
use crate::domain::Doubt;

/// Fewest content words of a claim that says enough to be judged.
const MIN_CONTENT_WORDS: usize = 3;

/// What an answer says about the doubts of its claims.
pub(super) struct Doubts<'a> {
    /// The languages that the model reads; empty for any.
    languages: &'a [Lang],
    /// How its claims read together, for those that are too short to tell.
    whole: Reading,
    /// The byte from which on a pronoun may stand for something that was named before.
    named: usize,
}

impl<'a> Doubts<'a> {
    /// Reads an answer and its claims, which are cleared of citation markers.
    pub(super) fn of<'c>(answer: &str, claims: impl Iterator<Item = &'c str>, languages: &'a [Lang]) -> Self {
        let whole = match languages {
            [] => Reading::Unsure,
            _ => language::reading(&language::joined(claims), languages),
        };
        Self { languages, whole, named: pronoun::named(answer) }
    }

    /// Finds why a claim cannot be judged, as far as the answer says: `text` is the claim at `span` without its
    /// citation markers.
    pub(super) fn of_claim(&self, text: &str, span: &ClaimSpan) -> Option<Doubt> {
        let folded = fold(text);
        if self.is_foreign(text) {
            Some(Doubt::Language)
        } else if snippet::is_code(text) {
            Some(Doubt::Code)
        } else if formula::is_formula(text) {
            Some(Doubt::Formula)
        } else if span.bytes.start < self.named && pronoun::is_only_subject(&folded) {
            Some(Doubt::Pronoun)
        } else {
            (content_words(&folded) < MIN_CONTENT_WORDS).then_some(Doubt::Short)
        }
    }

    /// Finds why a window is no evidence for any claim; `cut` tells that it holds a table without its header.
    pub(super) fn of_window(&self, text: &str, cut: bool) -> Option<Doubt> {
        if !self.languages.is_empty() && language::reading(text, self.languages) == Reading::Foreign {
            return Some(Doubt::Language);
        }
        cut.then_some(Doubt::Table)
    }

    /// Tells whether a claim is in a language that the model does not read.
    fn is_foreign(&self, text: &str) -> bool {
        !self.languages.is_empty()
            && match language::reading(text, self.languages) {
                Reading::Foreign => true,
                Reading::Listed => false,
                Reading::Unsure => self.whole == Reading::Foreign,
            }
    }
}

/// Counts the words of a folded text that carry content, as far as it matters.
fn content_words(folded: &str) -> usize {
    folded.unicode_words().filter(|word| !is_function_word(word)).take(MIN_CONTENT_WORDS).count()
}
