//! Text of a call as a page shows it: escaped by the template, bounded here, and with nothing in it that cannot be seen.

use askama::{Template, filters::HtmlSafe};

/// What a character that cannot be seen takes in the page, in bytes.
const MARK_BYTES: usize = 60;
/// What a character takes that markup has a use for: `"` is written as `&#34;`.
const ESCAPED_BYTES: usize = 5;

/// A run of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// What is shown.
    pub text: String,
    /// Whether it stands for a character that cannot be seen or changes the order of others.
    pub odd: bool,
}

/// A text in pieces, whole or its beginning. It stands in a page as its own template writes it.
#[derive(Debug, Default, PartialEq, Eq, Template)]
#[template(path = "shown.html")]
pub(super) struct Shown {
    /// The pieces in order.
    pub pieces: Vec<Piece>,
    /// Characters that did not fit.
    pub left_off: usize,
    /// Bytes of the page that it takes, about.
    pub bytes: usize,
}

/// Its template has escaped every piece.
impl HtmlSafe for Shown {}

/// As much of a text as fits into so many bytes of the page.
pub(super) fn shown(text: &str, most_bytes: usize) -> Shown {
    let (mut out, mut used) = (Shown::default(), 0);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        let odd = is_odd(c);
        used += match c {
            _ if odd => MARK_BYTES,
            '<' | '>' | '&' | '"' | '\'' => ESCAPED_BYTES,
            _ => c.len_utf8(),
        };
        if used > most_bytes {
            out.left_off = 1 + characters.count();
            break;
        }
        out.bytes = used;
        match out.pieces.last_mut().filter(|piece| !odd && !piece.odd) {
            Some(piece) => piece.text.push(c),
            None if odd => out.pieces.push(Piece { text: format!("⟨U+{:04X}⟩", u32::from(c)), odd }),
            None => out.pieces.push(Piece { text: c.to_string(), odd }),
        }
    }
    out
}

/// The characters `start..end` of a text, whatever the offsets are.
pub(super) fn part(text: &[char], start: usize, end: usize) -> String {
    let (start, end) = (start.min(text.len()), end.min(text.len()));
    text.get(start..end).unwrap_or_default().iter().collect()
}

/// Whether a character steers, hides or reorders text.
fn is_odd(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
    ) || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_named() {
        let pieces: Vec<(String, bool)> =
            shown("a\u{202e}b\nc", 1000).pieces.into_iter().map(|piece| (piece.text, piece.odd)).collect();
        let expected = [("a", false), ("⟨U+202E⟩", true), ("b\nc", false)];
        assert_eq!(pieces, expected.map(|(text, odd)| (text.to_owned(), odd)));
    }

    #[test]
    fn what_is_shown_is_never_markup() {
        let page = shown("<b>&\"\u{202e}", 1000).render().unwrap();
        assert_eq!(page, "&#60;b&#62;&#38;&#34;<span class=\"odd\">⟨U+202E⟩</span>");
        assert!(shown("<<", 5).render().unwrap().ends_with("… 1 more characters</span>"));
    }

    #[test]
    fn a_text_is_cut_where_it_would_fill_the_page() {
        assert_eq!(shown(&"<".repeat(100), 50).left_off, 90);
        assert_eq!(shown(&"\u{200b}".repeat(100), 600).left_off, 90);
        assert_eq!(shown("", 0), Shown::default());
    }

    #[test]
    fn offsets_beyond_the_text_take_nothing() {
        let text: Vec<char> = "äöü".chars().collect();
        assert_eq!(part(&text, 1, 2), "ö");
        assert_eq!(part(&text, 2, 99), "ü");
        assert_eq!(part(&text, 3, 1), "");
    }
}
