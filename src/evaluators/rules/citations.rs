//! Kind `citations`: what the answer cites is what retrieval returned.

use std::collections::HashSet;

use serde::Deserialize;

use super::error::BadOption;
use super::sentences;
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Longest text between brackets that can be a citation, in characters.
const MAX_MARKER: usize = 300;
/// Longest id, as in the call.
const MAX_ID: usize = 200;

/// How an answer cites.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Marker {
    /// `[chk_91]`, also `[chk_1, chk_2]`.
    Bracket,
    /// `【1】`, `【chk_91】`, `【1†source】`.
    Cjk,
    /// `[1]`: place of the passage, from 1.
    Position,
}

/// Options and rule of kind `citations`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Citations {
    /// How answers cite.
    markers: Vec<Marker>,
    /// Whether an answer without a citation fails.
    #[serde(default)]
    required: bool,
}

impl Citations {
    /// The rule, where at least one marker is given.
    pub(super) fn build(self) -> Result<Self, BadOption> {
        if self.markers.is_empty() {
            let remedy = "list some of bracket, cjk and position";
            return Err(BadOption::new("markers", "is empty", remedy));
        }
        Ok(self)
    }

    /// Whether answers cite like this.
    fn has(&self, marker: Marker) -> bool {
        self.markers.contains(&marker)
    }
}

/// Ids that may be cited.
struct Known<'a> {
    /// All of them.
    ids: HashSet<&'a str>,
    /// In the order that positions count.
    order: Vec<&'a str>,
    /// What stands in the ids before their first digit.
    stems: HashSet<String>,
}

/// One thing cited: its id, and whether it may be.
struct Cited {
    /// Characters of the marker.
    at: (usize, usize),
    /// Id, or what stands there instead.
    id: String,
    /// Whether retrieval returned it.
    known: bool,
}

impl<'a> Known<'a> {
    /// `retrieval_ids`, else the ids of the contexts; none where the call has neither.
    fn of(call: &'a Call) -> Option<Self> {
        let contexts: Vec<&str> = call.content.contexts.iter().map(|c| c.id.as_str()).collect();
        let retrieved: Vec<&str> = call.retrieval_ids.iter().flatten().map(String::as_str).collect();
        if contexts.is_empty() && call.retrieval_ids.is_none() {
            return None;
        }
        let ids: HashSet<&str> =
            if call.retrieval_ids.is_some() { &retrieved } else { &contexts }.iter().copied().collect();
        let order = if contexts.is_empty() { retrieved } else { contexts };
        let stems = ids.iter().map(|id| stem(id)).filter(|s| s.chars().count() > 1).collect();
        Some(Self { ids, order, stems })
    }

    /// Whether a word that retrieval did not return is still meant as an id, not as a word in brackets.
    fn is_id_like(&self, word: &str) -> bool {
        let digit = word.chars().any(|c| c.is_ascii_digit());
        let plain = word.chars().all(|c| c.is_alphanumeric() || "_-:#./".contains(c));
        let letter = word.chars().any(char::is_alphabetic);
        let long = word.chars().count() >= 8;
        plain
            && digit
            && letter
            && (long || word.contains(['_', ':', '#']) || self.stems.contains(&stem(word)))
    }
}

/// What stands before the first digit, in lower case.
fn stem(id: &str) -> String {
    id.chars().take_while(|c| !c.is_ascii_digit()).flat_map(char::to_lowercase).collect()
}

impl Rule for Citations {
    fn check(&self, call: &Call) -> Finding {
        let Some(known) = Known::of(call) else {
            return Finding::not_applicable("nothing was retrieved");
        };
        let text: Vec<char> = call.content.answer.chars().collect();
        let cited = self.scan(&text, &known);
        if cited.is_empty() {
            let blank = text.iter().all(|c| c.is_whitespace());
            return match (self.required, blank) {
                (true, false) => Finding::fail("nothing is cited", Vec::new()),
                (true, true) => Finding::not_applicable("no answer"),
                _ => Finding::pass(),
            };
        }
        let mut markers: Vec<(usize, usize)> = cited.iter().map(|c| c.at).collect();
        markers.dedup();
        let ends = sentences::ends(&text, &markers);
        let mut wrong: Vec<&Cited> = cited.iter().filter(|c| !c.known).collect();
        let count = wrong.len();
        wrong.truncate(3);
        // Wrong citations come first, so that the limit on spans never hides them.
        let ordered = cited.iter().filter(|c| !c.known).chain(cited.iter().filter(|c| c.known));
        let spans = ordered.take(MAX_SPANS).map(|c| {
            let (start, end) = sentences::around(&text, &ends, c.at.0);
            Span { start, end, note: c.id.clone() }
        });
        let mut finding = Finding { spans: spans.collect(), ..Finding::pass() };
        if count > 0 {
            let ids: Vec<String> = wrong.iter().map(|c| format!("{:?}", c.id)).collect();
            finding.detail = format!("{count} citations of what was not retrieved: {}", ids.join(", "));
            finding.outcome = crate::domain::RuleOutcome::Fail;
        }
        finding
    }
}

impl Citations {
    /// All citations outside of code, ascending.
    fn scan(&self, text: &[char], known: &Known) -> Vec<Cited> {
        let mut cited = Vec::new();
        let code = code(text);
        let mut at = 0;
        while let Some(&open) = text.get(at) {
            let close = match open {
                '[' => ']',
                '【' => '】',
                _ => {
                    at += 1;
                    continue;
                }
            };
            let inner = text.get(at + 1..text.len().min(at + 2 + MAX_MARKER)).unwrap_or_default();
            let length = inner.iter().position(|c| *c == close || matches!(c, '[' | '【' | '\n'));
            let Some(length) = length.filter(|l| inner.get(*l) == Some(&close)) else {
                // The next bracket is at least where this search stopped, unless there is none in reach.
                at += 1 + length.unwrap_or(inner.len());
                continue;
            };
            let end = at + length + 2;
            let link = open == '[' && text.get(end) == Some(&'(');
            let hidden = code.partition_point(|(_, end)| *end <= at);
            if !link && code.get(hidden).is_none_or(|(start, _)| *start > at) {
                let word: String = inner.iter().take(length).collect();
                cited.extend(self.read(&word, open == '【', (at, end), known));
            }
            at = end;
        }
        cited
    }

    /// What one pair of brackets cites.
    fn read(&self, inner: &str, cjk: bool, at: (usize, usize), known: &Known) -> Vec<Cited> {
        let mut cited = Vec::new();
        if cjk && !self.has(Marker::Cjk) {
            return cited;
        }
        let inner = inner.split('†').next().unwrap_or_default().trim().trim_start_matches('^');
        let ids = cjk || self.has(Marker::Bracket);
        if ids && known.ids.contains(inner) {
            return vec![Cited { at, id: inner.to_owned(), known: true }];
        }
        for word in inner.split([',', ';']).map(str::trim) {
            let position = word.parse::<usize>().ok().filter(|_| word.len() <= 3);
            if ids && known.ids.contains(word) {
                cited.push(Cited { at, id: word.to_owned(), known: true });
            } else if let Some(position) = position.filter(|_| cjk || self.has(Marker::Position)) {
                let id = position.checked_sub(1).and_then(|i| known.order.get(i)).copied();
                let found = id.is_some_and(|id| known.ids.contains(id));
                cited.push(Cited { at, id: id.unwrap_or(word).to_owned(), known: found });
            } else if ids && known.is_id_like(word) {
                cited.push(Cited { at, id: word.chars().take(MAX_ID).collect(), known: false });
            }
        }
        cited
    }
}

/// Ranges between matching runs of backticks, ascending.
fn code(text: &[char]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in text.iter().enumerate().filter(|(_, c)| **c == '`') {
        match runs.last_mut() {
            Some((_, end)) if *end == at => *end = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    let mut ranges = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (start, end) in runs {
        match open {
            Some((from, length)) if length == end - start => {
                ranges.push((from, end));
                open = None;
            }
            None => open = Some((start, end - start)),
            Some(_) => {}
        }
    }
    ranges
}
