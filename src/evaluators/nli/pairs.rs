//! Pairs of quotation marks and brackets, inside which no sentence ends.

use std::ops::Range;

/// Longest quotation or bracket, in bytes, that is held together; a longer one is split like plain text.
const MAX_HELD_BYTES: usize = 400;
/// How deep a closing bracket looks for its opening one, so that hostile nesting costs linear time.
const MAX_LOOK_BACK: usize = 8;

/// The pairs of one block of text.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Where a mark closes a pair, ascending.
    closing: Vec<usize>,
    /// What is held together, disjoint and ascending; ends lie after the closing mark.
    held: Vec<Range<usize>>,
}

/// What a mark does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It opens a pair that the given character closes.
    Open(char),
    /// It closes.
    Close,
    /// It opens unless its like is open: a straight quotation mark with no hint around it.
    Toggle,
}

impl Pairs {
    /// Finds the pairs of `text`.
    pub(super) fn of(text: &str) -> Self {
        let mut pairs = Self::default();
        let mut open: Vec<(char, usize)> = Vec::new();
        let mut before = None;
        for (at, mark) in text.char_indices() {
            let end = at + mark.len_utf8();
            match role(mark, before, &text[end..], &open) {
                Some(Mark::Open(close)) => open.push((close, at)),
                Some(Mark::Close | Mark::Toggle) => {
                    let seen = open.iter().rev().take(MAX_LOOK_BACK).position(|(close, _)| *close == mark);
                    match seen {
                        Some(depth) => {
                            let index = open.len() - 1 - depth;
                            pairs.add(text, open[index].1..end, at);
                            open.truncate(index);
                        }
                        None if mark == '"' && role_is_toggle(before, &text[end..]) => open.push((mark, at)),
                        None => {}
                    }
                }
                None => {}
            }
            before = Some(mark);
        }
        pairs.merge();
        pairs
    }

    /// Adds the pair that spans `span` and whose closing mark stands at `close`.
    fn add(&mut self, text: &str, span: Range<usize>, close: usize) {
        self.closing.push(close);
        if span.len() <= MAX_HELD_BYTES && !stands_alone(text, &span) {
            self.held.push(span);
        }
    }

    /// Joins nested and touching spans, so that lookups can search by halves.
    fn merge(&mut self) {
        self.held.sort_by_key(|span| span.start);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(self.held.len());
        for span in self.held.drain(..) {
            match merged.last_mut() {
                Some(last) if span.start < last.end => last.end = last.end.max(span.end),
                _ => merged.push(span),
            }
        }
        self.held = merged;
    }

    /// Tells whether the mark at byte `at` closes a pair.
    pub(super) fn closes(&self, at: usize) -> bool {
        self.closing.binary_search(&at).is_ok()
    }

    /// Gives the end of what is held together around byte `at`.
    pub(super) fn held_until(&self, at: usize) -> Option<usize> {
        let next = self.held.partition_point(|span| span.start <= at);
        let span = self.held.get(next.checked_sub(1)?)?;
        (at < span.end).then_some(span.end)
    }
}

/// Tells what `mark` does between the character `before` it and the text `after` it.
fn role(mark: char, before: Option<char>, after: &str, open: &[(char, usize)]) -> Option<Mark> {
    let next = after.chars().next();
    match mark {
        '(' => Some(Mark::Open(')')),
        '[' => Some(Mark::Open(']')),
        '「' => Some(Mark::Open('」')),
        '『' => Some(Mark::Open('』')),
        '（' => Some(Mark::Open('）')),
        '【' => Some(Mark::Open('】')),
        '«' => Some(Mark::Open('»')),
        '„' => Some(Mark::Open('“')),
        // A German quotation ends with the mark that begins an English one.
        '“' if !matches!(open.last(), Some(('“', _))) => Some(Mark::Open('”')),
        ')' | ']' | '」' | '』' | '）' | '】' | '»' | '“' | '”' => Some(Mark::Close),
        '"' if role_is_toggle(before, after) => Some(Mark::Toggle),
        '"' if before.is_none_or(|c| !c.is_alphanumeric()) && next.is_some_and(char::is_alphanumeric) => {
            Some(Mark::Open('"'))
        }
        '"' => Some(Mark::Close),
        _ => None,
    }
}

/// Tells whether nothing around a straight quotation mark says if it opens or closes.
fn role_is_toggle(before: Option<char>, after: &str) -> bool {
    let word_before = before.is_some_and(|c| !c.is_whitespace());
    let word_after = after.chars().next().is_some_and(|c| !c.is_whitespace());
    let punctuated = before.is_some_and(|c| !c.is_alphanumeric() && !c.is_whitespace());
    word_before == word_after && !(punctuated && after.starts_with(char::is_alphanumeric))
}

/// Tells whether `span` is a sentence or more by itself, and so may be split inside.
fn stands_alone(text: &str, span: &Range<usize>) -> bool {
    let before = text[..span.start].chars().rev().take(3).find(|c| !c.is_whitespace());
    let after = text[span.end..].chars().take(3).find(|c| !c.is_whitespace());
    before.is_none_or(|c| matches!(c, '.' | '!' | '?' | '。' | '！' | '？' | '"' | '”'))
        && after.is_none_or(|c| c.is_uppercase() || matches!(c, '"' | '“'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &str) -> Vec<&str> {
        Pairs::of(text).held.into_iter().map(|span| &text[span]).collect()
    }

    #[test]
    fn quotations_and_brackets_are_held_together() {
        for (text, expected) in [
            ("He said \"Go. Now.\" and left", vec!["\"Go. Now.\""]),
            ("he said \" go . now . \" and left", vec!["\" go . now . \""]),
            ("a (b. (c. d) e.) f", vec!["(b. (c. d) e.)"]),
            ("彼は「行け。今。」と言った", vec!["「行け。今。」"]),
            ("sagte „Los. Jetzt.“ und ging", vec!["„Los. Jetzt.“"]),
            ("\"Go. Now.\" He left", vec![]),
            ("a 12\" pipe. And a \"b. c\" d", vec!["\"b. c\""]),
            ("never ( closed . and \" open", vec![]),
            ("1) one 2) two", vec![]),
        ] {
            assert_eq!(held(text), expected, "{text}");
        }
    }
}
