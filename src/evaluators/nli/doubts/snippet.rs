//! Whether a text is mostly code.

use crate::evaluators::nli::citations::code;

/// Marks that prose does not have within a word.
const MARKS: &[&str] =
    &["::", "->", "=>", "==", "!=", "&&", "||", "+=", "</", "/>", "{{", "()", "(\"", "('", "[]"];

/// Characters of a text, white space not counted.
#[derive(Debug, Default)]
struct Count {
    /// All of them.
    all: usize,
    /// Those in code.
    coded: usize,
    /// Pieces of code; inline code counts twice, because nobody writes a name so.
    pieces: usize,
}

/// Tells whether more than half of a text is inline code, identifiers or operators.
pub(super) fn is_code(text: &str) -> bool {
    let (mut count, mut at) = (Count::default(), 0);
    for inline in code(text) {
        let inner = text[inline.clone()].trim_matches('`');
        count.prose(&text[at..inline.start]);
        // A quotation in tokenised text has white space inside its marks: ` so he said `.
        if inner.trim() == inner {
            count.add(width(inner), 2);
        } else {
            count.prose(inner);
        }
        at = inline.end;
    }
    count.prose(&text[at..]);
    // One identifier alone may be a name: `kaSenzangakhona`.
    count.pieces >= 2 && 2 * count.coded > count.all
}

impl Count {
    /// Counts text outside inline code, and its words that are code.
    fn prose(&mut self, text: &str) {
        for word in text.split_whitespace() {
            if is_code_word(word) {
                self.add(width(word), 1);
            } else {
                self.all += width(word);
            }
        }
    }

    /// Counts code.
    fn add(&mut self, width: usize, pieces: usize) {
        self.all += width;
        self.coded += width;
        self.pieces += pieces;
    }
}

/// Counts characters that are not white space.
fn width(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// Tells whether a word, with the marks around it, is an identifier, an operator or a path.
fn is_code_word(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    // An address is no code, and neither is LaTeX or an id in brackets.
    if word.contains("://")
        || word.contains(['\\', '$'])
        || word.contains('@')
        || (word.starts_with(['[', '【']) && !bare.is_empty())
    {
        return false;
    }
    MARKS.iter().any(|mark| word.contains(mark))
        || word.contains(['{', '}'])
        || word == "="
        || (word.starts_with("--") && word[2..].starts_with(char::is_alphabetic))
        || is_path(word)
        || is_snake(bare)
        || is_camel(bare)
}

/// Tells whether a word is a path below the root, here or at home.
fn is_path(word: &str) -> bool {
    let rest = ["/", "./", "~/"].iter().find_map(|start| word.strip_prefix(start));
    rest.is_some_and(|rest| rest.contains('/') && rest.starts_with(|c: char| c.is_alphanumeric() || c == '.'))
}

/// Tells whether a word has an underscore between letters or digits.
fn is_snake(word: &str) -> bool {
    word.contains('_') && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':'))
}

/// Tells whether a word goes from lower case to a capital and back, as `getUser` does and `iPhone` does not.
fn is_camel(word: &str) -> bool {
    let lower = word.len() - word.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
    let mut rest = word[lower..].chars();
    lower >= 2
        && rest.next().is_some_and(|c| c.is_ascii_uppercase())
        && rest.next().is_some_and(|c| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
}
