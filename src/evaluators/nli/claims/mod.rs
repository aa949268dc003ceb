//! Splits an answer into claims, and a context into sentences.

use std::ops::Range;

use serde::de::IgnoredAny;

use crate::evaluators::nli::boundaries::{Style, is_terminator, split_block, trim};
use crate::evaluators::nli::letter::frame;
use crate::evaluators::nli::lines::{Block, LineKind, blocks};
use crate::evaluators::nli::not_claims::{Worth, worth};

/// Most claims of one answer that are checked.
pub const MAX_CLAIMS: usize = 200;
/// Longest line, in words, that is dropped because it leads in a list.
const MAX_LEAD_IN_WORDS: usize = 25;
/// Longest line, in words, that is dropped as a title.
const MAX_TITLE_WORDS: usize = 8;
/// Words that make a short line a title.
const TITLE_WORDS: &[&str] = &[
    "overview",
    "summary",
    "introduction",
    "background",
    "conclusion",
    "conclusions",
    "findings",
    "takeaways",
    "details",
    "notes",
    "references",
    "sources",
    "steps",
    "explanation",
    "examples",
    "example",
    "answer",
    "analysis",
    "recommendations",
    "highlights",
    "facts",
    "points",
];

/// What part of an answer a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimKind {
    /// A sentence of a paragraph.
    Sentence,
    /// A sentence of a list item.
    ListItem,
    /// A row of a table.
    TableRow,
}

/// Where a claim stands in its answer; ends are exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSpan {
    /// Its Unicode scalar values.
    pub chars: Range<usize>,
    /// Its bytes.
    pub bytes: Range<usize>,
    /// What part of the answer it is.
    pub kind: ClaimKind,
}

/// The claims of an answer, in order and disjoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The first [`MAX_CLAIMS`] of them.
    pub spans: Vec<ClaimSpan>,
    /// How many more there were.
    pub dropped: usize,
}

/// A claim before it is known whether the answer holds better ones.
struct Candidate {
    /// Its bytes.
    bytes: Range<usize>,
    /// What part of the answer it is.
    kind: ClaimKind,
    /// What it is good for.
    worth: Worth,
}

/// Splits an answer into its claims; empty when it states nothing.
pub fn split(answer: &str) -> Claims {
    if is_json(answer) {
        return Claims::default();
    }
    let blocks = blocks(answer);
    let framing = frame(answer, &blocks);
    let style = Style::of(answer);
    let bold = blocks.iter().filter(|block| is_bold(&answer[block.bytes.clone()])).count();
    let mut found: Vec<Candidate> = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let following = blocks.get(index + 1);
        if !framing.contains(&index) && !is_title(answer, block, following, bold) {
            candidates(answer, block, following, style, &mut found);
        }
    }
    let best = found.iter().any(|candidate| candidate.worth == Worth::Claim);
    found.retain(|candidate| !best || candidate.worth == Worth::Claim);
    let dropped = found.len().saturating_sub(MAX_CLAIMS);
    found.truncate(MAX_CLAIMS);
    Claims { spans: spans(answer, found), dropped }
}

/// Tells whether an answer is a JSON object or array as a whole: data, which has no sentences.
fn is_json(answer: &str) -> bool {
    answer.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(answer).is_ok()
}

/// Splits a text into sentences, with the boundaries that [`split`] uses; bytes, trimmed, in order.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let style = Style::of(text);
    blocks(text).into_iter().flat_map(|block| split_block(text, block.bytes, style)).collect()
}

/// Adds the candidates of one block.
fn candidates(
    answer: &str,
    block: &Block,
    following: Option<&Block>,
    style: Style,
    found: &mut Vec<Candidate>,
) {
    let kind = match block.kind {
        LineKind::TableRow => ClaimKind::TableRow,
        LineKind::Item => ClaimKind::ListItem,
        LineKind::Text => ClaimKind::Sentence,
        _ => return,
    };
    if kind == ClaimKind::TableRow {
        if answer[block.bytes.clone()].contains(char::is_alphanumeric) {
            found.push(Candidate { bytes: block.bytes.clone(), kind, worth: Worth::Claim });
        }
        return;
    }
    let mut sentences = split_block(answer, block.bytes.clone(), style);
    let leads = sentences.last().is_some_and(|last| leads_in(&answer[last.clone()], kind, following));
    if leads {
        sentences.pop();
    }
    for bytes in sentences {
        let worth = worth(&answer[bytes.clone()]);
        if worth != Worth::Nothing {
            found.push(Candidate { bytes: trim(answer, bytes), kind, worth });
        }
    }
}

/// Tells whether a sentence only leads in the list, table or code that follows it.
fn leads_in(sentence: &str, kind: ClaimKind, following: Option<&Block>) -> bool {
    let bare = sentence.trim_end_matches(['*', '_', ' ']);
    let led = following.is_some_and(|next| match next.kind {
        LineKind::Item | LineKind::TableHeader | LineKind::TableRow | LineKind::Code => true,
        // `France:` before its paragraph; an item's colon belongs to its own text.
        LineKind::Text => kind == ClaimKind::Sentence && bare.split_whitespace().count() <= 4,
        _ => false,
    });
    led && bare.ends_with([':', '：']) && bare.split_whitespace().count() <= MAX_LEAD_IN_WORDS
}

/// Tells whether a line is bold throughout.
fn is_bold(line: &str) -> bool {
    ["**", "__"].iter().any(|mark| {
        let inner = line.trim_end_matches(':').strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        inner.is_some_and(|inner| !inner.is_empty() && !inner.contains(mark))
    })
}

/// Tells whether a block is a title: short, above other text, and bold like others or of a title's words.
fn is_title(answer: &str, block: &Block, following: Option<&Block>, bold: usize) -> bool {
    let line = &answer[block.bytes.clone()];
    let words = line.split_whitespace().take(MAX_TITLE_WORDS + 1).count();
    let Some(following) = following.filter(|_| block.kind == LineKind::Text && words <= MAX_TITLE_WORDS)
    else {
        return false;
    };
    // A single bold line may well be the answer itself, and so may a bold sentence.
    let bare = line.trim_matches(|c: char| matches!(c, '*' | '_') || c.is_whitespace());
    if is_bold(line) && (bold >= 2 || line.contains(':')) && !bare.ends_with(is_terminator) {
        // Bold lines right below each other are a list.
        return block.opens || !is_bold(&answer[following.bytes.clone()]);
    }
    if !block.opens {
        return false;
    }
    let plain = line.trim_matches(|c: char| matches!(c, '*' | '_' | ':'));
    let last = plain.split_whitespace().next_back().unwrap_or_default().to_lowercase();
    words <= 5 && TITLE_WORDS.contains(&last.as_str()) && plain.starts_with(char::is_uppercase)
}

/// Counts the characters of ordered candidates in one pass.
fn spans(answer: &str, found: Vec<Candidate>) -> Vec<ClaimSpan> {
    let (mut bytes, mut chars) = (0, 0);
    let mut count = |to: usize| {
        chars += answer[bytes..to].chars().count();
        bytes = to;
        chars
    };
    let span = |candidate: Candidate| ClaimSpan {
        chars: count(candidate.bytes.start)..count(candidate.bytes.end),
        bytes: candidate.bytes,
        kind: candidate.kind,
    };
    found.into_iter().map(span).collect()
}
#[cfg(test)]
mod tests;
