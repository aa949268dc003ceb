//! Citation markers of an answer: they name a claim's evidence, and are no part of what it claims.
//!
//! The markers are those of the shipped `citations` rules: `[id]`, `[id1, id2]`, `[1]`, `【1†source】`. "[chk_7]" says
//! nothing about the world, and lowers entailment when the model reads it.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use super::claims::ClaimSpan;
use crate::domain::Call;

/// Longest text between the brackets of a marker, in characters, as in the `citations` rules.
const MAX_MARKER_CHARS: usize = 300;

/// What a word in a marker names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cited {
    /// The contexts with an id, by the id's place in [`Known::groups`]: ids may repeat.
    Id(usize),
    /// One context, by its place from 0.
    Place(usize),
}

/// What markers may name.
#[derive(Debug, Default)]
struct Known<'a> {
    /// Where each id stands in `groups`.
    ids: HashMap<&'a str, usize>,
    /// The contexts with each id; none for an id that was retrieved and not sent along.
    groups: Vec<Vec<usize>>,
    /// How many contexts there are.
    contexts: usize,
}

/// One marker.
#[derive(Debug)]
struct Marker {
    /// Its bytes, brackets included.
    bytes: Range<usize>,
    /// What it names.
    cites: Vec<Cited>,
}

/// A claim without its markers, and what they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cleared {
    /// The claim as the model reads it.
    pub(super) text: String,
    /// The contexts that it cites, ascending.
    pub(super) contexts: Vec<usize>,
}

/// The markers of an answer.
#[derive(Debug)]
pub(super) struct Citations<'a> {
    /// The answer.
    answer: &'a str,
    /// What may be named.
    known: Known<'a>,
    /// The markers in order, disjoint.
    markers: Vec<Marker>,
}

impl<'a> Known<'a> {
    /// Reads ids and number of what was retrieved.
    fn of(call: &'a Call) -> Self {
        let mut known = Self { contexts: call.content.contexts.len(), ..Self::default() };
        for (place, context) in call.content.contexts.iter().enumerate() {
            let group = known.group(&context.id);
            known.groups[group].push(place);
        }
        for id in call.retrieval_ids.iter().flatten() {
            known.group(id);
        }
        known
    }

    /// Gives the place of an id, new or not.
    fn group(&mut self, id: &'a str) -> usize {
        let next = self.groups.len();
        let group = *self.ids.entry(id).or_insert(next);
        if group == next {
            self.groups.push(Vec::new());
        }
        group
    }

    /// Gives what a word names.
    fn named(&self, word: &str) -> Option<Cited> {
        let id = self.ids.get(word).copied().map(Cited::Id);
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        id.or_else(|| {
            let place = word.parse::<usize>().ok().filter(|_| digits)?.checked_sub(1)?;
            (place < self.contexts).then_some(Cited::Place(place))
        })
    }

    /// Reads what stands between two brackets; `None` where that is no marker.
    fn read(&self, inner: &str, wide: bool) -> Option<Vec<Cited>> {
        let (inner, sourced) = match inner.split_once('†') {
            Some((inner, _)) if wide => (inner, true),
            _ => (inner, false),
        };
        let inner = inner.trim().trim_start_matches('^');
        if let Some(cited) = self.named(inner) {
            return Some(vec![cited]);
        }
        let mut cites = Vec::new();
        for word in inner.split([',', ';']).map(str::trim) {
            let cited = self.named(word);
            // An unknown id may stand beside a known one; any other word makes it no marker.
            let id_like = !word.contains(char::is_whitespace) && word.contains(|c: char| c.is_ascii_digit());
            if cited.is_none() && !id_like {
                return sourced.then_some(cites);
            }
            cites.extend(cited);
        }
        (sourced || !cites.is_empty()).then_some(cites)
    }
}

impl<'a> Citations<'a> {
    /// Finds the markers of a call's answer.
    pub(super) fn of(call: &'a Call) -> Self {
        let (answer, known) = (call.content.answer.as_str(), Known::of(call));
        let code = code(answer);
        let mut markers = Vec::new();
        let mut at = 0;
        while let Some(step) = answer[at..].find(['[', '【']) {
            let start = at + step;
            let wide = answer[start..].starts_with('【');
            let (open, close) = if wide { ('【', '】') } else { ('[', ']') };
            let inner = &answer[start + open.len_utf8()..];
            let mut near = inner.char_indices().take(MAX_MARKER_CHARS + 1);
            let Some((length, mark)) = near.find(|(_, c)| matches!(c, '[' | ']' | '【' | '】' | '\n'))
            else {
                // No bracket is in reach: the search goes on behind it, so that nothing is searched twice.
                let reach =
                    inner.char_indices().nth(MAX_MARKER_CHARS).map_or(inner.len(), |(reach, _)| reach);
                at = answer.len() - inner.len() + reach;
                continue;
            };
            at = answer.len() - inner.len() + length;
            if mark != close {
                at += if matches!(mark, '[' | '【') { 0 } else { mark.len_utf8() };
                continue;
            }
            at += mark.len_utf8();
            let link = !wide && answer[at..].starts_with('(');
            let hidden = code.get(code.partition_point(|code| code.end <= start));
            if !link && hidden.is_none_or(|code| code.start > start) {
                let cites = known.read(&inner[..length], wide);
                markers.extend(cites.map(|cites| Marker { bytes: start..at, cites }));
            }
        }
        Self { answer, known, markers }
    }

    /// Tells whether a claim says anything besides its markers.
    pub(super) fn states(&self, claim: &ClaimSpan) -> bool {
        self.text(&claim.bytes).contains(char::is_alphanumeric)
    }

    /// Gives each of these ordered claims without its markers, and what it cites: by a marker within it or right
    /// behind it. A marker that begins a claim belongs to the claim before it, unless that has its own.
    pub(super) fn clear(&self, claims: &[ClaimSpan]) -> Vec<Cleared> {
        let mut taken = 0;
        let clear = |(index, claim): (usize, &ClaimSpan)| {
            let inside = self.inside(&claim.bytes);
            let own = inside.start.max(taken)..inside.end;
            let next = claims.get(index + 1).map(|next| next.bytes.start);
            let limit = next.filter(|_| !own.is_empty()).unwrap_or(usize::MAX);
            taken = self.behind(claim.bytes.end, inside.end, limit).max(own.start);
            let names = self.markers[own.start..taken].iter().flat_map(|marker| &marker.cites);
            Cleared { text: self.text(&claim.bytes), contexts: self.contexts(names.copied().collect()) }
        };
        claims.iter().enumerate().map(clear).collect()
    }

    /// Gives the markers within a claim.
    fn inside(&self, claim: &Range<usize>) -> Range<usize> {
        let start = self.markers.partition_point(|marker| marker.bytes.start < claim.start);
        start..self.markers.partition_point(|marker| marker.bytes.end <= claim.end).max(start)
    }

    /// Gives the end of the markers, from `first` on and before byte `limit`, that stand right behind byte `at`.
    fn behind(&self, mut at: usize, first: usize, limit: usize) -> usize {
        let between = |c: char| matches!(c, ',' | ';' | '.' | '(' | ')') || (c.is_whitespace() && c != '\n');
        let follows = |marker: &&Marker| {
            let start = marker.bytes.start;
            let near = start >= at && start < limit && self.answer[at..start].chars().all(between);
            at = marker.bytes.end;
            near
        };
        first + self.markers[first..].iter().take_while(follows).count()
    }

    /// Gives the contexts that are named, ascending.
    fn contexts(&self, names: BTreeSet<Cited>) -> Vec<usize> {
        let mut contexts = BTreeSet::new();
        for name in names {
            match name {
                Cited::Id(group) => contexts.extend(&self.known.groups[group]),
                Cited::Place(place) => {
                    contexts.insert(place);
                }
            }
        }
        contexts.into_iter().collect()
    }

    /// Gives a part of the answer without its markers, the blanks before them and what joins them.
    fn text(&self, span: &Range<usize>) -> String {
        let mut plain = String::with_capacity(span.len());
        let mut at = span.start;
        for marker in &self.markers[self.inside(span)] {
            let before = &self.answer[at..marker.bytes.start];
            let joins = |c: char| c.is_whitespace() || matches!(c, ',' | ';');
            if at == span.start || !before.chars().all(joins) {
                plain.push_str(before);
            }
            plain.truncate(plain.trim_end().len());
            at = marker.bytes.end;
            if plain.ends_with('(') && self.answer[at..span.end].starts_with(')') {
                plain.pop();
                plain.truncate(plain.trim_end().len());
                at += 1;
            }
        }
        plain.push_str(&self.answer[at..span.end]);
        plain.trim().to_owned()
    }
}

/// Gives what stands between matching runs of backticks, ascending: `list[1]` in code is no marker.
pub(super) fn code(answer: &str) -> Vec<Range<usize>> {
    let mut code = Vec::new();
    let mut open: Option<Range<usize>> = None;
    let mut at = 0;
    while let Some(step) = answer[at..].find('`') {
        let start = at + step;
        at = start + answer[start..].bytes().take_while(|byte| *byte == b'`').count();
        match &open {
            Some(run) if run.len() == at - start => {
                code.push(run.start..at);
                open = None;
            }
            Some(_) => {}
            None => open = Some(start..at),
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{evaluators::nli::claims::split, growth::assert_linear};

    /// A call with these ids of contexts.
    fn call(answer: &str, ids: &[&str]) -> Call {
        let contexts: Vec<_> = ids.iter().map(|id| json!({ "id": id, "text": "It is big." })).collect();
        serde_json::from_value(json!({
            "version": 1, "request_id": "r", "trace_id": "t", "occurred_at": "2026-11-02T10:00:00Z",
            "feature": "f", "tenant_id": "t", "prompt_version": "v1", "model_requested": "m",
            "model_resolved": "m", "provider": "p", "tokens_in": 1, "tokens_out": 1,
            "latency_ms": { "total": 1.0 }, "finish_reason": "stop", "messages_hash": "0",
            "content": { "answer": answer, "contexts": contexts },
        }))
        .unwrap()
    }

    fn cleared(answer: &str, ids: &[&str]) -> Vec<(String, Vec<usize>)> {
        let call = call(answer, ids);
        let citations = Citations::of(&call);
        let mut claims = split(answer).spans;
        claims.retain(|claim| citations.states(claim));
        citations.clear(&claims).into_iter().map(|claim| (claim.text, claim.contexts)).collect()
    }

    #[test]
    fn markers_are_no_part_of_what_is_claimed() {
        for (answer, text, contexts) in [
            ("Refunds take 30 days [chk_0].", "Refunds take 30 days.", vec![0]),
            ("Refunds take 30 days [1].", "Refunds take 30 days.", vec![0]),
            ("Refunds take 30 days.[1][2]", "Refunds take 30 days.", vec![0, 1]),
            ("Refunds take 30 days [1], [2].", "Refunds take 30 days.", vec![0, 1]),
            ("Refunds take 30 days [1, 2].", "Refunds take 30 days.", vec![0, 1]),
            ("Refunds take 30 days【1】.", "Refunds take 30 days.", vec![0]),
            ("Refunds take 30 days 【2†source】.", "Refunds take 30 days.", vec![1]),
            ("Refunds take 30 days 【9†a file.pdf】.", "Refunds take 30 days.", vec![]),
            ("Refunds take 30 days 【chk_1】.", "Refunds take 30 days.", vec![1]),
            ("Both [chk_0, chk_1] agree.", "Both agree.", vec![0, 1]),
            ("Both [chk_0; chk_9] agree.", "Both agree.", vec![0]),
            ("Refunds take 30 days ([1]).", "Refunds take 30 days.", vec![0]),
            ("[2] Refunds take 30 days.", "Refunds take 30 days.", vec![1]),
            ("Refunds take 30 days [^1].", "Refunds take 30 days.", vec![0]),
            ("Yes [chk_1][chk_0], it is [sic].", "Yes, it is [sic].", vec![0, 1]),
        ] {
            assert_eq!(cleared(answer, &["chk_0", "chk_1"]), [(text.to_owned(), contexts)], "{answer}");
        }
    }

    #[test]
    fn other_brackets_stay() {
        for answer in [
            "He said [sic] so.",
            "It takes [3] days, or [0].",
            "See [1](https://a.example).",
            "Take `list[1]` first.",
            "It is [chk_0, or so they say].",
            "【重要】 It is big.",
            "a [b",
        ] {
            assert_eq!(cleared(answer, &["chk_0", "chk_1"]), [(answer.to_owned(), vec![])], "{answer}");
        }
    }

    #[test]
    fn a_marker_belongs_to_the_claim_that_it_stands_in_or_behind() {
        for (answer, expected) in [
            ("refunds take 30 days [c0]. shipping is free on all orders.", vec![vec![0], vec![]]),
            ("Refunds take 30 days. [c0] Shipping is free. [c1]", vec![vec![0], vec![1]]),
            ("Refunds take 30 days. [c0, c1] Shipping is free.", vec![vec![0, 1], vec![]]),
            ("[c1] Refunds take 30 days. Shipping is free.", vec![vec![1], vec![]]),
            ("- Refunds take 30 days\n- [c1] Shipping is free", vec![vec![], vec![1]]),
            ("Refunds take 30 days. [c0] [c1]\n\nShipping is free.", vec![vec![0, 1], vec![]]),
            ("Refunds take 30 days. Hope this helps! [c0]", vec![vec![]]),
            ("[c0]", vec![]),
        ] {
            let cited: Vec<_> = cleared(answer, &["c0", "c1"]).into_iter().map(|(_, cited)| cited).collect();
            assert_eq!(cited, expected, "{answer}");
        }
    }

    #[test]
    fn an_id_may_repeat() {
        assert_eq!(cleared("It is big [d].", &["d", "e", "d"]), [("It is big.".to_owned(), vec![0, 2])]);
    }

    #[test]
    fn what_was_retrieved_and_not_sent_along_is_a_marker_too() {
        let mut call = call("It is big [z].", &["a"]);
        call.retrieval_ids = Some(vec!["z".to_owned()]);
        let cleared = Citations::of(&call).clear(&split("It is big [z].").spans);
        assert_eq!(cleared, [Cleared { text: "It is big.".to_owned(), contexts: vec![] }]);
    }

    #[test]
    fn hostile_answers_take_linear_time() {
        let ids = vec!["d"; 10_000];
        for unit in ["[", "]", "[1", "[d]", "[1] ", "It is [d]. ", "`", "``a`", "【", "[d, d, d]", "([1])"] {
            assert_linear(unit, |answer| {
                cleared(answer, &ids);
            });
        }
    }
}
