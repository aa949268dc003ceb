//! Folded text: compatibility forms unified, lower-cased, invisible characters gone, offsets kept.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;

/// A folded copy of a text and where each of its bytes came from.
pub(super) struct Folded {
    /// The copy.
    pub text: String,
    origins: Vec<usize>,
    length: usize,
}

/// Folds a text: NFKC of each character, lower case, without zero-width and other invisible characters.
pub(super) fn fold(text: &str) -> Folded {
    let mut folded = Folded { text: String::with_capacity(text.len()), origins: Vec::new(), length: text.len() };
    for (at, c) in text.char_indices().filter(|(_, c)| !is_invisible(*c)) {
        for c in std::iter::once(c).nfkc().flat_map(char::to_lowercase) {
            let c = if c == '’' { '\'' } else { c };
            folded.text.push(c);
            folded.origins.resize(folded.text.len(), at);
        }
    }
    folded
}

/// Characters that show nothing and split words for no reader.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}' | '\u{e0000}'..='\u{e007f}')
}

impl Folded {
    /// Bytes of the original for bytes of the copy.
    pub fn origin(&self, range: Range<usize>) -> Range<usize> {
        let start = self.origins.get(range.start).copied().unwrap_or(self.length);
        let end = self.origins.get(range.end).copied().unwrap_or(self.length);
        start..end.max(start)
    }

    /// Whether no letter or digit touches the range.
    pub fn is_word(&self, range: &Range<usize>) -> bool {
        let before = self.text[..range.start].chars().next_back();
        let after = self.text[range.end..].chars().next();
        ![before, after].into_iter().flatten().any(char::is_alphanumeric)
    }
}
