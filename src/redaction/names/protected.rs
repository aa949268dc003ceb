//! What of a text no name is taken out of: placeholders, which would be broken, and citations, which would cite nothing.

use std::{collections::HashSet, ops::Range};

use super::texts::Form;
use crate::domain::{Call, placeholder};

/// Longest text between the brackets of a citation, in characters, as in the `citations` rules.
const MAX_MARKER_CHARS: usize = 300;

/// What has to stay whole in a call.
pub(super) struct Known<'a> {
    /// Kinds that have placeholders.
    kinds: Vec<&'a str>,
    /// What may be cited, in small letters: rules compare ids so.
    ids: HashSet<String>,
}

impl<'a> Known<'a> {
    /// Reads the ids of what was retrieved.
    pub(super) fn of(call: &Call, kinds: &[&'a str]) -> Self {
        let contexts = call.content.contexts.iter().map(|context| &context.id);
        let ids = contexts.chain(call.retrieval_ids.iter().flatten()).map(|id| id.to_lowercase());
        Self { kinds: kinds.to_vec(), ids: ids.collect() }
    }

    /// The bytes that stay, ascending, without overlap.
    pub(super) fn protected(&self, text: &str, form: Form) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if text.contains('<') {
            found.extend(self.kinds.iter().flat_map(|kind| placeholder::places(text, kind)));
        }
        if !self.ids.is_empty() {
            match form {
                Form::Prose => self.cited(text, &mut found),
                Form::Field => self.listed(text, 0..text.len(), &mut found),
            }
        }
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let mut apart: Vec<Range<usize>> = Vec::new();
        for range in found {
            match apart.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }

    /// Adds the ids between brackets.
    fn cited(&self, text: &str, found: &mut Vec<Range<usize>>) {
        for (open, bracket) in text.match_indices(['[', '【']) {
            let start = open + bracket.len();
            let rest = text.get(start..).unwrap_or_default();
            let ends = |c: char| matches!(c, '[' | ']' | '【' | '】' | '\n');
            let end = rest.char_indices().take(MAX_MARKER_CHARS + 1).find(|(_, c)| ends(*c));
            if let Some((length, ']' | '】')) = end {
                self.listed(text, start..start + length, found);
            }
        }
    }

    /// Adds the ids of a list, or the one that it is.
    fn listed(&self, text: &str, list: Range<usize>, found: &mut Vec<Range<usize>>) {
        let inner = text.get(list.clone()).unwrap_or_default();
        if let Some(id) = self.id(inner, list.start) {
            return found.push(id);
        }
        let mut at = list.start;
        for word in inner.split([',', ';']) {
            found.extend(self.id(word, at));
            at += word.len() + 1;
        }
    }

    /// Where the id is that a word is, with what citations write around it: `^a`, `a†source`.
    fn id(&self, word: &str, at: usize) -> Option<Range<usize>> {
        let before = word.split('†').next().unwrap_or_default().trim_end();
        let id = before.trim_start().trim_start_matches('^');
        self.ids.contains(&id.to_lowercase()).then(|| at + before.len() - id.len()..at + before.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, form: Form) -> Vec<&str> {
        let ids = ["doc-Paris", "Jane Doe", "7"].map(str::to_lowercase).into();
        let known = Known { kinds: vec!["card", "person"], ids };
        known.protected(text, form).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn placeholders_and_cited_ids_stay() {
        let text = "<CARD> in Paris [doc-paris, x; 7] 【^Jane Doe†source】 <PERSON_2> <ORDER> [Jane] Jane Doe [doc-Paris";
        assert_eq!(kept(text, Form::Prose), ["<CARD>", "doc-paris", "7", "Jane Doe", "<PERSON_2>"]);
        assert_eq!(kept("doc-Paris,doc-Rome; Jane Doe", Form::Field), ["doc-Paris", "Jane Doe"]);
        assert_eq!(kept("[[[doc-Paris]", Form::Prose), ["doc-Paris"]);
    }
}
