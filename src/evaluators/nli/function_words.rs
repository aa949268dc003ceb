//! English words that carry grammar and no content.

use std::{collections::HashSet, sync::LazyLock};

/// Articles, pronouns, prepositions, conjunctions, auxiliaries and a few adverbs, lower-case.
#[rustfmt::skip]
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "this", "that", "these", "those", "it", "its", "he", "his", "him", "she", "her", "hers", "they",
    "their", "theirs", "them", "i", "me", "my", "mine", "we", "us", "our", "ours", "you", "your", "yours", "who",
    "whom", "whose", "which", "what", "itself", "himself", "herself", "themselves", "yourself", "there", "here",
    "of", "to", "in", "on", "at", "for", "with", "as", "by", "from", "into", "about", "over", "after", "before", "up",
    "down", "out", "and", "or", "but", "nor", "if", "so", "then", "than", "because", "while", "when", "where", "how",
    "why", "is", "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "have", "has", "had", "having",
    "can", "could", "should", "would", "will", "may", "might", "must", "shall", "not", "no", "yes", "just", "also",
    "very", "too", "s", "t", "it's", "that's", "there's", "i'm", "you're", "they're", "we're", "he's", "she's", "don't",
    "doesn't", "didn't", "isn't", "aren't", "wasn't", "weren't", "can't", "couldn't", "won't", "wouldn't", "i've",
    "you've", "we've", "they've", "i'll", "you'll", "i'd",
];

/// The same, for looking up.
static LOOKUP: LazyLock<HashSet<&str>> = LazyLock::new(|| FUNCTION_WORDS.iter().copied().collect());

/// Whether a word carries grammar and no content, in any case and with either apostrophe.
pub(super) fn is_function_word(word: &str) -> bool {
    LOOKUP.contains(word.to_lowercase().replace('’', "'").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_told_from_content() {
        for word in ["The", "it’s", "OF", "don't"] {
            assert!(is_function_word(word), "{word}");
        }
        for word in ["refund", "30", "Paris", "never"] {
            assert!(!is_function_word(word), "{word}");
        }
    }
}
