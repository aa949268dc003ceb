//! Where sentences end, in well-written text, in lower-case text and in text with spaces around its
//! punctuation (`it ' s popular .`), as graded data sets have it.

use std::ops::Range;

use crate::evaluators::nli::abbreviations::{Ending, ending, is_saying, is_starter};
use crate::evaluators::nli::pairs::Pairs;

/// Longest word looked at before a stop, in characters; no abbreviation is longer.
const MAX_WORD_CHARS: usize = 16;
/// Longest citation marker, in bytes.
const MAX_MARKER_BYTES: usize = 64;

/// How a whole text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// Whether sentences begin in lower case.
    lower: bool,
}

impl Style {
    /// Reads the style off a text.
    pub(super) fn of(text: &str) -> Self {
        let (mut lower, mut upper) = (0_usize, 0_usize);
        let (mut first, mut after_stop) = (None, false);
        for c in text.chars() {
            if c.is_alphabetic() {
                first = first.or(Some(c));
                lower += usize::from(after_stop && c.is_lowercase());
                upper += usize::from(after_stop && c.is_uppercase());
                after_stop = false;
            } else if matches!(c, '.' | '!' | '?') {
                after_stop = true;
            } else if !c.is_whitespace() {
                after_stop = false;
            }
        }
        let begins_lower = first.is_some_and(char::is_lowercase);
        Self { lower: lower > upper && (begins_lower || (upper == 0 && lower >= 2)) }
    }
}

/// Splits the block `block` of `text` into sentences, trimmed, in order; all of its words are in one.
pub(super) fn split_block(text: &str, block: Range<usize>, style: Style) -> Vec<Range<usize>> {
    let inner = &text[block.clone()];
    let scan = Scan { text: inner, pairs: Pairs::of(inner), style };
    let mut found: Vec<Range<usize>> = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(step) = inner[at..].find(is_terminator) {
        let stop = scan.stop(at + step);
        if scan.ends_sentence(start, &stop) {
            push(inner, start..stop.after, &mut found);
            start = stop.after + (inner.len() - stop.after - inner[stop.after..].trim_start().len());
        }
        at = stop.after;
    }
    push(inner, start..inner.len(), &mut found);
    found.into_iter().map(|span| block.start + span.start..block.start + span.end).collect()
}

/// Adds a trimmed sentence; one without a letter or digit goes to the sentence before it.
fn push(text: &str, span: Range<usize>, found: &mut Vec<Range<usize>>) {
    let span = trim(text, span);
    if span.is_empty() {
        return;
    }
    match found.last_mut() {
        Some(last) if !text[span.clone()].contains(char::is_alphanumeric) => last.end = span.end,
        _ => found.push(span),
    }
}

/// Takes the white space off both ends of a range.
pub(super) fn trim(text: &str, span: Range<usize>) -> Range<usize> {
    let inner = &text[span.clone()];
    let start = span.start + (inner.len() - inner.trim_start().len());
    start..start + inner.trim().len()
}

/// Tells whether a character can end a sentence.
pub(super) fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…') || is_wide(c)
}

/// Tells whether a character ends a sentence in scripts that put no space between sentences.
fn is_wide(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '｡' | '।' | '؟' | '۔')
}

/// A run of terminators, with the closing marks and citation markers behind it.
#[derive(Debug)]
struct Stop {
    /// The terminators.
    run: Range<usize>,
    /// Where the closing marks behind them end.
    after: usize,
    /// Whether a quotation ends here.
    quoted: bool,
}

/// What follows a stop.
#[derive(Debug)]
struct Next<'a> {
    /// Whether white space stands between.
    gap: bool,
    /// First character that is not white space.
    first: char,
    /// Whether it begins with a smiley, which closes a sentence though it begins with a colon.
    smiles: bool,
    /// First letter or digit, if it is near.
    head: Option<char>,
    /// First word, in lower case.
    word: String,
    /// What follows, from its first word on.
    rest: &'a str,
}

/// One block while it is split.
struct Scan<'a> {
    /// The block.
    text: &'a str,
    /// Its quotations and brackets.
    pairs: Pairs,
    /// How the whole text is written.
    style: Style,
}

impl<'a> Scan<'a> {
    /// Reads the stop that begins at byte `start`.
    fn stop(&self, start: usize) -> Stop {
        let mut end = start;
        loop {
            let rest = &self.text[end..];
            let length = rest.len() - rest.trim_start_matches(is_terminator).len();
            if length == 0 {
                break;
            }
            end += length;
            // Tokenised text writes an ellipsis `. . .`; but `.5` and `.NET` begin a word.
            let spaced = skip_gap(self.text, end);
            let mut ahead = self.text[spaced..].chars().skip_while(|c| is_terminator(*c)).peekable();
            if spaced == end || ahead.peek().is_some_and(|c| c.is_alphanumeric()) {
                break;
            }
            if self.text[spaced..].starts_with(is_terminator) {
                end = spaced;
            }
        }
        let (mut after, mut quoted) = (end, false);
        loop {
            let at = skip_gap(self.text, after);
            let Some(mark) = self.text[at..].chars().next() else { break };
            let attached = at == after;
            if self.pairs.closes(at) || (attached && is_closer(mark)) {
                quoted |= matches!(mark, '"' | '”' | '“' | '»' | '’' | '\'' | '」' | '』');
                after = at + mark.len_utf8();
            } else if let Some(length) = citation_marker(&self.text[at..]) {
                after = at + length;
            } else {
                break;
            }
        }
        Stop { run: start..end, after, quoted }
    }

    /// Tells whether a stop ends the sentence that began at byte `start`.
    fn ends_sentence(&self, start: usize, stop: &Stop) -> bool {
        if self.pairs.held_until(stop.run.start).is_some_and(|end| stop.after < end) {
            return false;
        }
        let Some(next) = next(&self.text[stop.after..]) else { return true };
        let run = &self.text[stop.run.clone()];
        if run.contains(is_wide) {
            return true;
        }
        if (matches!(next.first, ',' | ';' | ':') && !next.smiles)
            || (is_dash(next.first) && self.continues(&next))
        {
            return false;
        }
        if run.contains(['!', '?']) {
            return self.ends_with_emphasis(start, stop, &next);
        }
        if run.len() > 1 {
            return next.gap && next.head.is_some_and(|c| !c.is_lowercase());
        }
        self.ends_with_stop(start, stop, &next)
    }

    /// Tells whether what follows goes on in lower case where a new sentence would not.
    fn continues(&self, next: &Next<'_>) -> bool {
        !self.style.lower && next.head.is_some_and(char::is_lowercase)
    }

    /// Tells whether `!` or `?` ends a sentence.
    fn ends_with_emphasis(&self, start: usize, stop: &Stop, next: &Next<'_>) -> bool {
        if !next.gap {
            return next.first.is_uppercase() && !self.in_address(stop.run.start);
        }
        if next.head.is_some_and(char::is_lowercase) {
            if stop.quoted {
                return self.style.lower && !joins_quotation(next.rest);
            }
            // A name with an exclamation mark: `Yahoo! announced`.
            let word = self.word_before(stop.run.start);
            let inside = self.text[start..stop.run.start].trim().len() > word.len();
            return !(inside && word.starts_with(char::is_uppercase) && !is_starter(&next.word, false));
        }
        true
    }

    /// Tells whether a single `.` ends a sentence.
    fn ends_with_stop(&self, start: usize, stop: &Stop, next: &Next<'_>) -> bool {
        if !next.gap {
            return self.ends_without_space(stop, next);
        }
        let at = stop.run.start;
        let spaced = self.text[..at].ends_with(char::is_whitespace);
        let word = self.word_before(at);
        if self.numbers_an_item(start, at, word) {
            return false;
        }
        let capital = next.head.is_some_and(char::is_uppercase);
        // One letter with its own stop is an initial, though `A` could begin a sentence.
        let initial = next.word.chars().count() == 1
            && next.rest.chars().skip(1).find(|c| !c.is_whitespace()) == Some('.');
        let fresh = !initial && is_starter(&next.word, capital);
        let folded = word.to_lowercase();
        let digit_next = next.head.is_some_and(|c| c.is_ascii_digit());
        match ending(&folded) {
            Ending::Never => return false,
            Ending::Seldom => return fresh,
            Ending::UnlessNumber if digit_next => return false,
            Ending::UnlessNumber | Ending::Usual => {}
        }
        let possessive = before_word(&self.text[..at], word).ends_with(['\'', '’']);
        let letter = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
        if letter && word.is_ascii() && folded != "i" && !possessive {
            return fresh;
        }
        if next.head.is_some_and(char::is_lowercase) {
            return self.ends_before_lower_case(stop, next, word, spaced);
        }
        true
    }

    /// Tells whether a stop ends a sentence though a lower-case word follows.
    fn ends_before_lower_case(&self, stop: &Stop, next: &Next<'_>, word: &str, spaced: bool) -> bool {
        if stop.quoted {
            return (self.style.lower || spaced) && !joins_quotation(next.rest);
        }
        // A long word is no abbreviation that the lists lack; `iPhone` stands for a capital.
        let long = word.chars().count() >= 6 && word.chars().all(char::is_lowercase);
        let camel = next.rest.chars().nth(1).is_some_and(char::is_uppercase);
        self.style.lower || spaced || long || camel || is_starter(&next.word, false)
    }

    /// Tells whether a stop with no white space behind it ends a sentence: `the end.The next`.
    fn ends_without_space(&self, stop: &Stop, next: &Next<'_>) -> bool {
        if !next.first.is_uppercase() || self.in_address(stop.run.start) {
            return false;
        }
        let word = self.word_before(stop.run.start);
        if stop.after > stop.run.end {
            return ending(&word.to_lowercase()) == Ending::Usual;
        }
        let mut letters = next.rest.chars().skip_while(|c| c.is_alphabetic() && !c.is_whitespace());
        let ends_plainly = letters.next().is_none_or(|c| c.is_whitespace() || c == ',');
        let plain = word.chars().count() > 1 && word.chars().all(|c| c.is_lowercase() || c.is_ascii_digit());
        // `Paris.The` is a sentence end; `System.Text` is a name.
        ends_plainly && !word.contains('.') && word.len() > 1 && (plain || is_starter(&next.word, true))
    }

    /// Tells whether `word` before the stop numbers an item: `1. Paris`, `steps: 2. Wait`.
    fn numbers_an_item(&self, start: usize, at: usize, word: &str) -> bool {
        if word.is_empty() || word.len() > 3 || !word.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        let before = before_word(&self.text[start..at], word);
        // Only a short beginning is searched, so that hostile punctuation costs linear time.
        before.ends_with([':', ';']) || (before.len() < 16 && !before.contains(char::is_alphanumeric))
    }

    /// Gives the word that ends at byte `at`, past white space; `""` where there is none.
    fn word_before(&self, at: usize) -> &'a str {
        let mut end = at;
        for c in self.text[..at].chars().rev().take(2).take_while(|c| c.is_whitespace()) {
            end -= c.len_utf8();
        }
        let mut start = end;
        let letters = self.text[..end].chars().rev().take(MAX_WORD_CHARS);
        for c in letters.take_while(|c| c.is_alphanumeric() || *c == '.') {
            start -= c.len_utf8();
        }
        self.text[start..end].trim_start_matches('.')
    }

    /// Tells whether byte `at` lies in a web or mail address, as far as the characters near it say.
    fn in_address(&self, at: usize) -> bool {
        let near = self.text[..at].chars().rev().take(120).take_while(|c| !c.is_whitespace());
        let token: String = near.collect();
        token.contains("//:") || token.contains('@') || token.ends_with(".www")
    }
}

/// Gives what stands before the last word of a text.
fn before_word<'a>(text: &'a str, word: &str) -> &'a str {
    let text = text.trim_end();
    text.strip_suffix(word).unwrap_or(text).trim_end()
}

/// Skips up to two characters of white space from byte `at`, as tokenised text has them.
fn skip_gap(text: &str, at: usize) -> usize {
    at + text[at..].chars().take(2).take_while(|c| c.is_whitespace()).map(char::len_utf8).sum::<usize>()
}

/// Tells whether a mark right behind a stop belongs to the sentence that the stop ends.
fn is_closer(mark: char) -> bool {
    matches!(mark, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '}' | '*' | '_' | '」' | '』' | '）' | '】')
        || matches!(mark, '¹' | '²' | '³' | '⁰' | '⁴'..='⁹')
}

/// Tells whether a character is a dash.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '–' | '—')
}

/// Gives the length of the citation marker that a text begins with: `[1]`, `[2, 3]`, `[^4]`, `[chk_5]`, `【6†source】`.
fn citation_marker(text: &str) -> Option<usize> {
    let (open, close) = if text.starts_with('[') { ('[', ']') } else { ('【', '】') };
    let inner = text.strip_prefix(open)?;
    let length = inner.char_indices().take(MAX_MARKER_BYTES).find(|(_, c)| *c == close)?.0;
    let marker = &inner[..length];
    let numeric = marker.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | ' ' | '^' | '-' | '–'));
    let cites = marker.contains(|c: char| c.is_ascii_digit())
        && (numeric || open == '【' || marker.split([',', ';']).all(is_id));
    cites.then_some(open.len_utf8() + length + close.len_utf8())
}

/// Tells whether a word in brackets is an id: no blank within it, and a digit.
fn is_id(word: &str) -> bool {
    let word = word.trim();
    let plain = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '#' | '.' | '/'));
    plain && word.contains(|c: char| c.is_ascii_digit())
}

/// Reads what follows a stop; `None` at the end of the text.
fn next(text: &str) -> Option<Next<'_>> {
    let trimmed = text.trim_start();
    let first = trimmed.chars().next()?;
    let skip: usize = trimmed.chars().take(6).take_while(|c| !c.is_alphanumeric()).map(char::len_utf8).sum();
    let rest = &trimmed[skip..];
    let word =
        rest.chars().take(MAX_WORD_CHARS).take_while(|c| c.is_alphanumeric() || matches!(c, '\'' | '’'));
    Some(Next {
        gap: trimmed.len() < text.len(),
        first,
        smiles: [":)", ":-)", ":(", ":D", ";)", ";-)", ": )"]
            .iter()
            .any(|smiley| trimmed.starts_with(smiley)),
        head: rest.chars().next().filter(|c| c.is_alphanumeric()),
        word: word.flat_map(char::to_lowercase).map(|c| if c == '’' { '\'' } else { c }).collect(),
        rest,
    })
}

/// Tells whether the words behind a quotation belong to its sentence: `" … " he said`.
fn joins_quotation(rest: &str) -> bool {
    let near = rest.char_indices().nth(60).map_or(rest.len(), |(at, _)| at);
    let mut words = rest[..near].split_whitespace().take(3).enumerate();
    words.any(|(index, word)| {
        let saying = is_saying(&word.to_lowercase());
        saying && (index == 0 || !matches!(word, "and" | "but" | "or"))
    })
}
