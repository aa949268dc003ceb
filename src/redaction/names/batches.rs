//! Texts, put together into requests of bounded size.

use std::ops::Range;

/// Most texts of one request: as many as an analyzer takes at a time (its `BATCH_SIZE`).
const MAX_TEXTS: usize = 500;

/// A text, or a part of one that is too long for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Which text.
    pub(super) text: usize,
    /// Its bytes.
    pub(super) bytes: Range<usize>,
}

/// The texts in order, in requests of at most so many bytes.
pub(super) fn of<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> Vec<Vec<Part>> {
    let mut batches: Vec<Vec<Part>> = Vec::new();
    let mut bytes = 0;
    for part in texts.enumerate().flat_map(|(at, text)| parts(at, text, most)) {
        let length = part.bytes.len();
        match batches.last_mut() {
            Some(batch) if bytes + length <= most && batch.len() < MAX_TEXTS => {
                batch.push(part);
                bytes += length;
            }
            _ => {
                batches.push(vec![part]);
                bytes = length;
            }
        }
    }
    batches
}

/// A text in parts of at most so many bytes.
fn parts(text: usize, whole: &str, most: usize) -> Vec<Part> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < whole.len() {
        let end = at + cut(&whole[at..], most);
        parts.push(Part { text, bytes: at..end });
        at = end;
    }
    parts
}

/// Where the first part of a text ends: at the last end of a line in reach, or else between two words, or else anywhere.
/// A name that is cut is found in two pieces, each of which is taken out.
fn cut(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let reach = &text[..text.floor_char_boundary(most)];
    // A long part before a short one: what is cut early is cut more often.
    let late = |at: &usize| *at > reach.len() / 2;
    let line = reach.rfind('\n').map(|at| at + 1).filter(late);
    let blank =
        || reach.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    // One character is a part in any case.
    let least = text.chars().next().map_or(1, char::len_utf8);
    line.or_else(|| blank().filter(late)).unwrap_or(reach.len()).max(least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_texts_are_cut_between_lines_or_words_and_short_ones_share_a_request() {
        let texts = ["one", "two words of a longer text\nthen more", "x"];
        let batches = of(texts.into_iter(), 16);
        let told: Vec<Vec<&str>> = batches
            .iter()
            .map(|batch| batch.iter().map(|part| &texts[part.text][part.bytes.clone()]).collect())
            .collect();
        let expected: Vec<Vec<&str>> =
            vec![vec!["one"], vec!["two words of a "], vec!["longer text\n"], vec!["then more", "x"]];
        assert_eq!(told, expected);
        assert_eq!(of(std::iter::repeat_n("x", MAX_TEXTS + 1), 100_000).len(), 2);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_request_is_too_big(
            texts in prop::collection::vec("[a-zé𝒳 \n]{0,40}", 0..12), most in 8usize..40
        ) {
            let batches = of(texts.iter().map(String::as_str), most);
            let mut together = vec![String::new(); texts.len()];
            for batch in &batches {
                prop_assert!(batch.iter().map(|part| part.bytes.len()).sum::<usize>() <= most);
                for part in batch {
                    together[part.text].push_str(&texts[part.text][part.bytes.clone()]);
                }
            }
            prop_assert_eq!(together, texts);
        }
    }
}
