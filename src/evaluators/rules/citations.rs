//! Kind `citations`: what the answer cites is what retrieval returned.

use serde::Deserialize;
use serde_json::Value;

use super::error::BadOption;
use super::retrieved::Retrieved;
use super::sentences;
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Longest text between brackets that can be a citation, in characters.
const MAX_MARKER: usize = 300;
/// Most blanks between a key of JSON and its array that are looked over.
const MAX_BLANKS: usize = 8;
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

/// A pair of brackets in the answer.
struct Brackets {
    /// Its characters.
    at: (usize, usize),
    /// Whether they are `【】`.
    cjk: bool,
    /// See [`is_glued`]; brackets right behind a citation are not.
    glued: bool,
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

impl Rule for Citations {
    fn check(&self, call: &Call) -> Finding {
        let Some(retrieved) = Retrieved::of(call) else {
            return Finding::not_applicable("nothing was retrieved");
        };
        let text: Vec<char> = call.content.answer.chars().collect();
        let cited = if is_json(&call.content.answer) { Vec::new() } else { self.scan(&text, &retrieved) };
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
    fn scan(&self, text: &[char], retrieved: &Retrieved) -> Vec<Cited> {
        let mut cited: Vec<Cited> = Vec::new();
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
                let chained = cited.last().is_some_and(|c| c.at.1 == at);
                let cjk = open == '【';
                let glued = !cjk && !chained && is_glued(text, at);
                cited.extend(self.read(&word, &Brackets { at: (at, end), cjk, glued }, retrieved));
            }
            at = end;
        }
        cited
    }

    /// What stands cited within one pair of brackets.
    fn read(&self, inner: &str, brackets: &Brackets, retrieved: &Retrieved) -> Vec<Cited> {
        let Brackets { at, cjk, glued } = *brackets;
        if cjk && !self.has(Marker::Cjk) {
            return Vec::new();
        }
        let inner = inner.split('†').next().unwrap_or_default().trim().trim_start_matches('^');
        let ids = cjk || self.has(Marker::Bracket);
        let cite = |id: &str, known| Cited { at, id: id.chars().take(MAX_ID).collect(), known };
        if let Some(id) = retrieved.id(inner).filter(|_| ids) {
            return vec![cite(id, true)];
        }
        let words: Vec<&str> = inner.split([',', ';']).map(str::trim).collect();
        let numbers: Vec<&str> = words
            .iter()
            .filter(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()))
            .copied()
            .collect();
        let positions = (cjk || self.has(Marker::Position)) && retrieved.are_positions(&numbers, glued);
        let read = |word: &&str| match retrieved.id(word).filter(|_| ids) {
            Some(id) => Some(cite(id, true)),
            None if numbers.contains(word) => {
                let id = word.parse().ok().and_then(|position| retrieved.at(position));
                positions.then(|| cite(id.unwrap_or(word), id.is_some()))
            }
            None => (ids && retrieved.is_id_like(word)).then(|| cite(word, false)),
        };
        words.iter().filter_map(read).collect()
    }
}

/// Whether the whole answer is a JSON object or array: brackets are its own then.
fn is_json(answer: &str) -> bool {
    let answer = answer.trim();
    answer.starts_with(['{', '[']) && serde_json::from_str::<Value>(answer).is_ok()
}

/// Whether a bracket belongs to what stands before it: `array[0]`, `f(x)[1]`, `"sizes": [12, 5]`.
fn is_glued(text: &[char], at: usize) -> bool {
    let mut before = text.get(..at).unwrap_or_default().iter().rev();
    let last = before.clone().next().copied().unwrap_or(' ');
    let mut key = before.by_ref().take(MAX_BLANKS).skip_while(|c| c.is_whitespace());
    last.is_alphanumeric()
        || "_)]\"'".contains(last)
        || (key.next() == Some(&':') && matches!(key.next(), Some('"' | '\'')))
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
