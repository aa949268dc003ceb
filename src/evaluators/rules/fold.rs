//! Text folded for comparison, with the way back to the original's offsets.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// NFKC, lower case, one blank for any run of white space, plain apostrophes, no invisible characters.
pub(super) struct Folded {
    /// The folded text.
    pub(super) text: String,
    /// Where each piece begins: byte in `text`, character in the original. Ascending in both.
    pieces: Vec<(usize, usize)>,
    /// Characters of the original.
    characters: usize,
}

/// Folds a text in linear time. A base character and its combining marks are normalised together.
pub(super) fn fold(original: &str) -> Folded {
    let pieces = Vec::with_capacity(original.len());
    let mut folded = Folded { text: String::with_capacity(original.len()), pieces, characters: 0 };
    let mut cluster = String::new();
    let mut cluster_start = 0;
    for (at, c) in original.chars().enumerate() {
        folded.characters = at + 1;
        if (c.is_ascii() || canonical_combining_class(c) == 0) && !cluster.is_empty() {
            folded.push(&cluster, cluster_start);
            cluster.clear();
        }
        if cluster.is_empty() {
            cluster_start = at;
        }
        cluster.push(c);
    }
    folded.push(&cluster, cluster_start);
    folded
}

impl Folded {
    /// Adds one cluster that begins at character `start`.
    fn push(&mut self, cluster: &str, start: usize) {
        self.pieces.push((self.text.len(), start));
        // Nearly every character is ASCII, which NFKC leaves as it is.
        if let [byte] = cluster.as_bytes() {
            let c = char::from(*byte).to_ascii_lowercase();
            match c.is_whitespace() {
                true if self.text.ends_with(' ') => {}
                true => self.text.push(' '),
                false => self.text.push(c),
            }
            return;
        }
        for c in cluster.nfkc().flat_map(char::to_lowercase) {
            match c {
                c if is_invisible(c) => {}
                '\u{2018}' | '\u{2019}' | '\u{2bc}' => self.text.push('\''),
                c if c.is_whitespace() => {
                    if !self.text.ends_with(' ') {
                        self.text.push(' ');
                    }
                }
                c => self.text.push(c),
            }
        }
    }

    /// Characters of the original that hold the bytes `start..end` of the folded text, end exclusive.
    pub(super) fn original(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.pieces.partition_point(|(byte, _)| *byte <= start).saturating_sub(1);
        let after = self.pieces.partition_point(|(byte, _)| *byte < end);
        let from = self.pieces.get(first).map_or(0, |(_, at)| *at);
        (from, self.pieces.get(after).map_or(self.characters, |(_, at)| *at))
    }

    /// Whether the bytes `start..end` neither begin nor end within a word.
    pub(super) fn is_word_bounded(&self, start: usize, end: usize) -> bool {
        let inside = |side: Option<char>, edge: Option<char>| {
            side.is_some_and(char::is_alphanumeric) && edge.is_some_and(char::is_alphanumeric)
        };
        let (Some(before), Some(found), Some(after)) =
            (self.text.get(..start), self.text.get(start..end), self.text.get(end..))
        else {
            return false;
        };
        !inside(before.chars().next_back(), found.chars().next())
            && !inside(after.chars().next(), found.chars().next_back())
    }
}

/// Whether a character takes no room: joiners, soft hyphens, marks of direction.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}
