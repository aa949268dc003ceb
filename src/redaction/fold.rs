//! The copy of a text that recognisers read, with the way back to the original's bytes.

use std::borrow::Cow;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// Most characters that are normalised together. Unicode's stream-safe format has room for 30 marks; without a bound
/// one base with a million marks would be a single piece.
const MAX_CLUSTER: usize = 32;

/// Where the scripts' digits 0 to 9 begin (general category Nd); NFKC makes ASCII of the full-width and mathematical.
const ZEROS: [u32; 64] = [
    0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0,
    0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50,
    0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0x104A0, 0x10D30, 0x10D40, 0x11066, 0x110F0,
    0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11BF0,
    0x11C50, 0x11D50, 0x11DA0, 0x11F50, 0x16A60, 0x16AC0, 0x16B50, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E5F1,
    0x1E950, 0x1FBF0,
];

/// NFKC with ASCII digits and hyphens and without invisible characters. ASCII text is borrowed as it stands.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    /// The folded text.
    pub(super) text: Cow<'a, str>,
    /// Pieces of it, ascending; empty where nothing was changed.
    pieces: Vec<Piece>,
    /// The original.
    original: &'a str,
}

/// A part of the folded text that reaches to where the next begins.
#[derive(Debug)]
struct Piece {
    /// Its first byte in the folded text.
    folded: usize,
    /// Its first byte in the original.
    original: usize,
    /// Whether the original has the same bytes.
    copied: bool,
}

/// Folds a text in linear time.
pub(super) fn fold(original: &str) -> Folded<'_> {
    if original.is_ascii() {
        return Folded { text: Cow::Borrowed(original), pieces: Vec::new(), original };
    }
    let mut folding = Folding { text: String::with_capacity(original.len()), pieces: Vec::new() };
    let mut at = 0;
    while let Some(rest) = original.get(at..).filter(|rest| !rest.is_empty()) {
        let same = unchanged(rest);
        if same > 0 {
            folding.copy(at, rest.get(..same).unwrap_or_default());
            at += same;
        } else {
            let length = cluster(rest);
            folding.change(at, rest.get(..length).unwrap_or_default());
            at += length;
        }
    }
    Folded { text: Cow::Owned(folding.text), pieces: folding.pieces, original }
}

/// Bytes at the beginning that fold to themselves.
fn unchanged(text: &str) -> usize {
    let mut last = 0;
    for (at, c) in text.char_indices() {
        if c.is_ascii() || is_letter(c) {
            last = at;
        } else if joins(c) {
            // A mark changes the character before it, too.
            return last;
        } else if is_plain(c) {
            last = at;
        } else {
            return at;
        }
    }
    text.len()
}

/// Whether it is one of the usual letters, quotes and signs that fold to themselves and join nothing: an answer without
/// the tables of Unicode for nearly all of what people write.
fn is_letter(c: char) -> bool {
    matches!(c, '\u{c0}'..='\u{ff}' | '\u{400}'..='\u{45f}' | '\u{2018}'..='\u{201f}' | '\u{20ac}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// Whether a character may join the one before it under normalisation.
fn joins(c: char) -> bool {
    c >= '\u{300}'
        && (canonical_combining_class(c) != 0 || is_nfkc_quick(std::iter::once(c)) == IsNormalized::Maybe)
}

/// Whether a character that joins nothing folds to itself.
fn is_plain(c: char) -> bool {
    is_nfkc_quick(std::iter::once(c)) == IsNormalized::Yes
        && !is_invisible(c)
        && digit(c).is_none()
        && !is_dash(c)
}

/// Length in bytes of the first character and the marks that join it.
fn cluster(text: &str) -> usize {
    let mut characters = text.char_indices();
    let Some((_, first)) = characters.next() else { return 0 };
    if is_invisible(first) {
        return first.len_utf8();
    }
    let joined = characters.take(MAX_CLUSTER - 1).take_while(|(_, c)| joins(*c) && !is_invisible(*c));
    first.len_utf8() + joined.map(|(_, c)| c.len_utf8()).sum::<usize>()
}

/// A folded text while it is made.
struct Folding {
    /// The text so far.
    text: String,
    /// Its pieces so far.
    pieces: Vec<Piece>,
}

impl Folding {
    /// Adds a part that folds to itself.
    fn copy(&mut self, original: usize, part: &str) {
        self.pieces.push(Piece { folded: self.text.len(), original, copied: true });
        self.text.push_str(part);
    }

    /// Adds one cluster in its folded form.
    fn change(&mut self, original: usize, part: &str) {
        self.pieces.push(Piece { folded: self.text.len(), original, copied: false });
        let mut is_digit = false;
        for c in part.nfkc() {
            // A digit that is struck out or underlined is that digit.
            if is_digit && canonical_combining_class(c) != 0 {
                continue;
            }
            is_digit = c.is_ascii_digit() || digit(c).is_some();
            match digit(c) {
                Some(ascii) => self.text.push(ascii),
                None if is_invisible(c) => {}
                None => self.text.push(if is_dash(c) { '-' } else { c }),
            }
        }
    }
}

impl Folded<'_> {
    /// Bytes of the original that hold the bytes `start..end` of the folded text, on character borders.
    pub(super) fn original(&self, start: usize, end: usize) -> (usize, usize) {
        let (mut from, mut to) =
            match (self.piece(start), end.checked_sub(1).map(|last| (last, self.piece(last)))) {
                (Some((first, _)), Some((last, Some((piece, next))))) => {
                    let from =
                        if first.copied { first.original + (start - first.folded) } else { first.original };
                    let next = next.map_or(self.original.len(), |piece| piece.original);
                    (from, if piece.copied { piece.original + (last + 1 - piece.folded) } else { next })
                }
                _ => (start, end),
            };
        // Recognisers read bytes; whatever they say, a caller can slice the original with it.
        while from > 0 && !self.original.is_char_boundary(from) {
            from -= 1;
        }
        while to < self.original.len() && !self.original.is_char_boundary(to) {
            to += 1;
        }
        (from, to.min(self.original.len()))
    }

    /// The piece that holds a byte of the folded text, and the piece after it.
    fn piece(&self, at: usize) -> Option<(&Piece, Option<&Piece>)> {
        let after = self.pieces.partition_point(|piece| piece.folded <= at);
        Some((self.pieces.get(after.checked_sub(1)?)?, self.pieces.get(after)))
    }
}

/// The ASCII form of a digit of another script.
fn digit(c: char) -> Option<char> {
    let code = u32::from(c);
    if code < 0x660 {
        return None;
    }
    let zero = *ZEROS.get(ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?)?;
    char::from_digit(code - zero, 10)
}

/// Hyphens and dashes that stand between digits. The em dash is punctuation: what follows it is another word.
fn is_dash(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2013}' | '\u{2212}')
}

/// Whether a character takes no room: joiners, soft hyphens, marks of direction, fillers, keycaps, selectors, tags.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{115f}' | '\u{1160}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{20e3}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folded text, and what of the original each of its characters stands for.
    fn pieces(original: &str) -> (String, Vec<&str>) {
        let folded = fold(original);
        let ends = |at: usize, c: char| folded.original(at, at + c.len_utf8());
        let parts = folded.text.char_indices().map(|(at, c)| {
            let (start, end) = ends(at, c);
            &original[start..end]
        });
        (folded.text.to_string(), parts.collect())
    }

    #[test]
    fn the_usual_letters_fold_to_themselves() {
        for c in ('\0'..=char::MAX).filter(|c| is_letter(*c)) {
            assert!(!joins(c) && is_plain(c) && std::iter::once(c).nfkc().eq([c]), "{c}");
        }
    }

    #[test]
    fn ascii_is_borrowed() {
        assert!(matches!(fold("4111 1111").text, Cow::Borrowed(_)));
        assert_eq!(fold("abc").original(1, 3), (1, 3));
    }

    #[test]
    fn digits_dashes_and_blanks_become_ascii() {
        assert_eq!(fold("１२\u{2011}٣٤–५६\u{a0}۷\u{3000}𝟖").text, "12-34-56 7 8");
    }

    #[test]
    fn every_zero_is_a_digit_and_ascending() {
        assert!(ZEROS.is_sorted());
        for zero in ZEROS {
            assert!(char::from_u32(zero).is_some_and(char::is_numeric), "{zero:x}");
        }
    }

    #[test]
    fn invisible_characters_go_and_offsets_stay() {
        let (folded, parts) = pieces("é4\u{200b}2\u{ad}x");
        assert_eq!(folded, "é42x");
        assert_eq!(parts, ["é", "4", "2", "x"]);
        let whole = fold("é4\u{200b}2\u{ad}x");
        assert_eq!(whole.original(2, 4), (2, 7), "from the 4 to the 2, with what stands between them");
    }

    #[test]
    fn one_character_may_become_many_and_many_one() {
        let (folded, parts) = pieces("ﬁe\u{301}x");
        assert_eq!(folded, "fiéx");
        assert_eq!(parts, ["ﬁ", "ﬁ", "e\u{301}", "x"]);
    }

    #[test]
    fn a_tower_of_marks_is_cut() {
        let tower = format!("a{}", "\u{301}".repeat(100));
        let folded = fold(&tower);
        assert!(folded.pieces.len() > 3);
        assert_eq!(folded.original(0, folded.text.len()), (0, tower.len()));
    }
}
