//! An answer with its claims and their evidence, as the pages show them.

use super::text::{Shown, part, shown};
use crate::domain::{Call, Claim, ClaimLabel, Evaluation, RuleOutcome};

/// Most claims that a page shows.
const MAX_CLAIMS: usize = 40;
/// Most bytes of the page for the answer.
const ANSWER_BYTES: usize = 40_000;
/// Most bytes of the page for a claim's evidence, and for a short text.
const SHORT_BYTES: usize = 800;
/// Characters that are shown before and behind the evidence.
const AROUND: usize = 120;

/// An answer in segments, with the evidence of its claims and the rules that did not pass.
#[derive(Default)]
pub(super) struct Answer {
    /// The answer in order.
    pub segments: Vec<Segment>,
    /// The claims that are shown.
    pub claims: Vec<Evidence>,
    /// Rules that did not pass.
    pub rules: Vec<Broken>,
    /// Characters of the answer that are not shown.
    pub left_off: usize,
}

/// Part of the answer.
pub(super) struct Segment {
    /// Its text.
    pub text: Shown,
    /// Number of the claim that it is, from 1; 0 where it is none.
    pub claim: usize,
    /// The claim's label.
    pub label: &'static str,
    /// The sign of the label.
    pub sign: &'static str,
}

/// A claim with what it rests on.
pub(super) struct Evidence {
    /// Its number, from 1.
    pub number: usize,
    /// The claim's label.
    pub label: &'static str,
    /// The sign of the label.
    pub sign: &'static str,
    /// Why the model could not judge it; empty where it could.
    pub doubt: &'static str,
    /// Probabilities in words.
    pub numbers: String,
    /// Name of the context.
    pub chunk: Shown,
    /// What stands before the evidence.
    pub before: Shown,
    /// The evidence.
    pub found: Shown,
    /// What stands behind it.
    pub behind: Shown,
}

/// A rule that did not pass.
pub(super) struct Broken {
    /// Its id.
    pub rule: Shown,
    /// How it ended.
    pub outcome: &'static str,
    /// What it found.
    pub detail: Shown,
    /// Where in the answer.
    pub places: Vec<Shown>,
}

/// The answer of a call under an evaluation.
pub(super) fn answer(call: &Call, evaluation: &Evaluation) -> Answer {
    let text: Vec<char> = call.content.answer.chars().collect();
    let (mut out, mut at, mut left) = (Answer::default(), 0, ANSWER_BYTES);
    let mut push = |out: &mut Answer, start: usize, end: usize, of: (usize, ClaimLabel)| {
        let segment = shown(&part(&text, start, end), left);
        let bytes = |piece: &super::text::Piece| if piece.odd { 60 } else { piece.text.len().max(5) };
        left = left.saturating_sub(segment.pieces.iter().map(bytes).sum());
        out.left_off += segment.left_off;
        let (label, sign) = (of.1.as_str(), sign(of.1));
        if !segment.pieces.is_empty() {
            out.segments.push(Segment { text: segment, claim: of.0, label, sign });
        }
    };
    for (index, claim) in evaluation.claims.iter().take(MAX_CLAIMS).enumerate() {
        push(&mut out, at, claim.start, (0, claim.label));
        push(&mut out, claim.start.max(at), claim.end, (index + 1, claim.label));
        at = at.max(claim.end);
        out.claims.push(evidence(call, claim, index + 1));
    }
    push(&mut out, at, text.len(), (0, ClaimLabel::Unsure));
    let telling = [RuleOutcome::Fail, RuleOutcome::Unsure, RuleOutcome::Error];
    let broken = evaluation.rules.iter().filter(|rule| telling.contains(&rule.outcome)).take(20);
    out.rules = broken
        .map(|rule| Broken {
            rule: shown(&rule.rule, 200),
            outcome: rule.outcome.as_str(),
            detail: shown(&rule.detail, SHORT_BYTES),
            places: rule
                .spans
                .iter()
                .take(5)
                .map(|span| shown(&part(&text, span.start, span.end), 200))
                .collect(),
        })
        .collect();
    out
}

/// What a claim rests on.
fn evidence(call: &Call, claim: &Claim, number: usize) -> Evidence {
    let context = call.content.contexts.iter().find(|context| context.id == claim.chunk_id);
    let text: Vec<char> = context.map(|context| context.text.chars().collect()).unwrap_or_default();
    let (start, end) = (claim.chunk_start, claim.chunk_end);
    // That there is more of the chunk is to be seen.
    let from = if start > AROUND { "…" } else { "" };
    let to = if end.saturating_add(AROUND) < text.len() { "…" } else { "" };
    Evidence {
        number,
        label: claim.label.as_str(),
        sign: sign(claim.label),
        doubt: claim.doubt.map_or("", |doubt| doubt.as_str()),
        numbers: format!(
            "entailment {:.2} · neutral {:.2} · contradiction {:.2}",
            claim.entailment, claim.neutral, claim.contradiction
        ),
        chunk: shown(&claim.chunk_id, 200),
        before: shown(&format!("{from}{}", part(&text, start.saturating_sub(AROUND), start)), SHORT_BYTES),
        found: shown(&part(&text, start, end), SHORT_BYTES),
        behind: shown(&format!("{}{to}", part(&text, end, end.saturating_add(AROUND))), SHORT_BYTES),
    }
}

/// A sign for a label, for who does not see colours.
fn sign(label: ClaimLabel) -> &'static str {
    match label {
        ClaimLabel::Supported => "✓",
        ClaimLabel::Contradicted => "✗",
        ClaimLabel::NotFound => "∅",
        ClaimLabel::Unsure => "?",
    }
}
