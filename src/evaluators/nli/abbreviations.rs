//! Word lists that tell a full stop that ends a sentence from one that does not.

/// Abbreviations that something always follows, so the stop after them never ends a sentence.
const NEVER_LAST: &[&str] = &[
    "dr", "mr", "mrs", "messrs", "mme", "mlle", "prof", "e.g", "eg", "i.e", "ie", "cf", "viz", "vs", "sgt",
    "capt", "lt", "rev", "hon", "approx", "ca", "incl", "esp",
];

/// Abbreviations that may end a sentence, though mostly they do not.
const SELDOM_LAST: &[&str] = &[
    "inc", "ltd", "co", "corp", "llc", "plc", "jr", "sr", "st", "ft", "mt", "ms", "gen", "col", "gov", "sen",
    "rep", "pres", "adm", "al", "ed", "eds", "est", "dept", "univ", "assn", "bros", "ave", "blvd", "rd",
    "hwy", "min", "max", "avg", "tel", "ext", "oz", "lb", "lbs", "ph.d", "b.sc", "m.sc", "op", "resp", "def",
    "trans", "abbr", "misc", "intl", "govt",
];

/// Words that are abbreviations only when a number follows.
const BEFORE_NUMBER: &[&str] = &[
    "no", "nos", "nr", "p", "pp", "fig", "figs", "vol", "vols", "ch", "chap", "sec", "art", "eq", "para",
    "pt", "ver", "v", "c", "rs", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct",
    "nov", "dec", "mon", "tue", "tues", "wed", "thu", "thurs", "fri", "sat", "sun",
];

/// Words that begin a sentence far oftener than they continue a name, whatever their case.
const STARTERS: &[&str] = &[
    "the", "it", "he", "she", "they", "we", "you", "i", "this", "these", "those", "there", "its", "his",
    "their", "however", "it's", "he's", "she's", "they're", "i'm", "i've", "that's",
];

/// Words that begin a sentence when they carry a capital.
const CAPITAL_STARTERS: &[&str] = &[
    "a",
    "an",
    "in",
    "on",
    "at",
    "and",
    "but",
    "her",
    "our",
    "my",
    "as",
    "if",
    "when",
    "while",
    "after",
    "before",
    "by",
    "for",
    "from",
    "with",
    "so",
    "some",
    "many",
    "most",
    "also",
    "although",
    "since",
    "then",
    "that",
    "both",
    "each",
    "what",
    "who",
    "how",
    "why",
    "where",
    "according",
    "during",
    "because",
    "other",
    "all",
    "no",
    "not",
    "yes",
    "one",
    "two",
    "to",
];

/// Words of saying, after which a quotation belongs to the sentence around it.
#[rustfmt::skip]
const SAYING: &[&str] = &[
    "said", "says", "told", "tells", "added", "adds", "asked", "asks", "wrote", "writes", "and", "but",
    "or",
];

/// How often the stop after a word ends the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It never does.
    Never,
    /// It does when the next word can only begin one.
    Seldom,
    /// It does unless a number follows.
    UnlessNumber,
    /// It does.
    Usual,
}

/// Tells how the stop after `word`, lower-cased and without that stop, is to be read.
pub(super) fn ending(word: &str) -> Ending {
    if NEVER_LAST.contains(&word) {
        Ending::Never
    } else if BEFORE_NUMBER.contains(&word) {
        Ending::UnlessNumber
    } else if SELDOM_LAST.contains(&word) || is_dotted(word) {
        Ending::Seldom
    } else {
        Ending::Usual
    }
}

/// Tells whether `word` is made of dotted short groups: `u.s`, `a.m`, `ph.d`.
fn is_dotted(word: &str) -> bool {
    word.contains('.')
        && word.split('.').all(|group| {
            !group.is_empty() && group.chars().count() <= 2 && group.chars().all(char::is_alphabetic)
        })
}

/// Tells whether `word`, lower-cased, begins a sentence; `capital` is whether the text wrote it with one.
pub(super) fn is_starter(word: &str, capital: bool) -> bool {
    STARTERS.contains(&word) || (capital && CAPITAL_STARTERS.contains(&word))
}

/// Tells whether `word`, lower-cased, is one that joins a quotation to the sentence around it.
pub(super) fn is_saying(word: &str) -> bool {
    SAYING.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_are_told_apart() {
        for (word, expected) in [
            ("dr", Ending::Never),
            ("e.g", Ending::Never),
            ("u.s", Ending::Seldom),
            ("ph.d", Ending::Seldom),
            ("inc", Ending::Seldom),
            ("no", Ending::UnlessNumber),
            ("drug", Ending::Usual),
            ("example.com", Ending::Usual),
            ("", Ending::Usual),
        ] {
            assert_eq!(ending(word), expected, "{word}");
        }
    }
}
