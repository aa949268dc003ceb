//! An answer with its claims and their evidence, as the pages show them.

use askama::{Template, filters::HtmlSafe};

use super::text::{Shown, part, shown};
use crate::domain::{Call, Claim, ClaimLabel, Evaluation, RuleOutcome};

/// Most claims that a page shows.
const MAX_CLAIMS: usize = 40;
/// Most bytes of the page for the answer.
const ANSWER_BYTES: usize = 40_000;
/// Most rules that a page names.
const MAX_RULES: usize = 12;
/// Most bytes of the page for the evidence of all claims, and of one.
const EVIDENCE_BYTES: (usize, usize) = (34_000, 4_000);
/// Most contexts that a page shows, and most bytes of it for all of their texts.
const MAX_CONTEXTS: usize = 10;
const CONTEXT_BYTES: usize = 12_000;
/// Most bytes of the page for what a rule found.
const DETAIL_BYTES: usize = 800;
/// Characters that are shown before and behind the evidence.
const AROUND: usize = 120;

/// Question, answer, evidence and what was said of them: the two columns of a page, which their own template writes.
#[derive(Default, Template)]
#[template(path = "exhibit.html")]
pub(super) struct Exhibit {
    /// What was asked.
    input: Shown,
    /// What was answered.
    answer: Answer,
    /// Names and texts of the contexts.
    contexts: Vec<(Shown, Shown)>,
    /// Contexts that are not shown.
    more_contexts: usize,
    /// The judge's score and reason.
    judge: Option<(String, Shown)>,
    /// Whether there is something to see.
    pub is_kept: bool,
}

/// Its template has escaped everything.
impl HtmlSafe for Exhibit {}

impl Exhibit {
    /// What there is of a call and an evaluation of it.
    pub(super) fn of(call: &Call, evaluation: &Evaluation) -> Self {
        let judge = evaluation.judge.as_ref();
        Self {
            input: shown(call.content.input.as_deref().unwrap_or_default(), 10_000),
            answer: answer(call, evaluation),
            contexts: contexts(call),
            more_contexts: call.content.contexts.len().saturating_sub(MAX_CONTEXTS),
            judge: judge.map(|judge| (format!("{:.2}", judge.score), shown(&judge.reason, 3_000))),
            is_kept: true,
        }
    }
}

/// Names and texts of the first contexts, as far as there is room.
fn contexts(call: &Call) -> Vec<(Shown, Shown)> {
    let mut left = CONTEXT_BYTES;
    let contexts = call.content.contexts.iter().take(MAX_CONTEXTS).map(|context| {
        let text = shown(&context.text, left.min(5_000));
        left = left.saturating_sub(text.bytes);
        (shown(&context.id, 200), text)
    });
    contexts.collect()
}

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
    /// Claims that are not shown.
    pub more_claims: usize,
    /// Rules that did not pass and are not shown.
    pub more_rules: usize,
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
fn answer(call: &Call, evaluation: &Evaluation) -> Answer {
    let text: Vec<char> = call.content.answer.chars().collect();
    let (mut out, mut at, mut left) = (Answer::default(), 0, ANSWER_BYTES);
    let mut push = |out: &mut Answer, start: usize, end: usize, of: (usize, ClaimLabel)| {
        let segment = shown(&part(&text, start, end), left);
        left = left.saturating_sub(segment.bytes);
        out.left_off += segment.left_off;
        let (label, sign) = (of.1.as_str(), sign(of.1));
        if !segment.pieces.is_empty() {
            out.segments.push(Segment { text: segment, claim: of.0, label, sign });
        }
    };
    let mut room = EVIDENCE_BYTES.0;
    for (index, claim) in evaluation.claims.iter().take(MAX_CLAIMS).enumerate() {
        push(&mut out, at, claim.start, (0, claim.label));
        push(&mut out, claim.start.max(at), claim.end, (index + 1, claim.label));
        at = at.max(claim.end);
        let evidence = evidence(call, claim, index + 1, room.min(EVIDENCE_BYTES.1));
        room = room.saturating_sub(evidence.before.bytes + evidence.found.bytes + evidence.behind.bytes);
        out.claims.push(evidence);
    }
    push(&mut out, at, text.len(), (0, ClaimLabel::Unsure));
    out.more_claims = evaluation.claims.len().saturating_sub(MAX_CLAIMS);
    let telling = [RuleOutcome::Fail, RuleOutcome::Unsure, RuleOutcome::Error];
    let broken = evaluation.rules.iter().filter(|rule| telling.contains(&rule.outcome));
    out.more_rules = broken.clone().count().saturating_sub(MAX_RULES);
    out.rules = broken
        .take(MAX_RULES)
        .map(|rule| Broken {
            rule: shown(&rule.rule, 200),
            outcome: rule.outcome.as_str(),
            detail: shown(&rule.detail, DETAIL_BYTES),
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

/// What a claim rests on, in at most so many bytes of the page: what is marked comes first.
fn evidence(call: &Call, claim: &Claim, number: usize, most: usize) -> Evidence {
    let context = call.content.contexts.iter().find(|context| context.id == claim.chunk_id);
    let text: Vec<char> = context.map(|context| context.text.chars().collect()).unwrap_or_default();
    let (start, end) = (claim.chunk_start, claim.chunk_end);
    let found = shown(&part(&text, start, end), most);
    let beside = most.saturating_sub(found.bytes) / 2;
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
        before: shown(&format!("{from}{}", part(&text, start.saturating_sub(AROUND), start)), beside),
        found,
        behind: shown(&format!("{}{to}", part(&text, end, end.saturating_add(AROUND))), beside),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_most_hostile_call_leaves_the_page_small() {
        let worst = "<\u{202e}\"".repeat(30_000);
        let claims: Vec<_> = (0..200)
            .map(|n| {
                json!({"start": n * 100, "end": n * 100 + 90, "entailment": 0.1, "neutral": 0.2, "contradiction": 0.7,
                    "chunk_id": worst, "chunk_start": 40_000, "chunk_end": 60_000, "label": "contradicted"})
            })
            .collect();
        let rules: Vec<_> = (0..50)
            .map(|n| {
                let spans = vec![json!({"start": 0, "end": 5_000}); 20];
                json!({"rule": format!("a.{n}{worst}"), "outcome": "fail", "detail": worst, "spans": spans})
            })
            .collect();
        let evaluation: Evaluation = serde_json::from_value(json!({
            "evaluation_id": uuid::Uuid::nil(), "tenant_id": "t", "request_id": "r", "evaluator_version": "v",
            "trace_id": "t", "feature": "f", "occurred_at": "2026-11-02T10:00:00Z",
            "evaluated_at": "2026-11-02T10:00:00Z", "verdict": "fail", "decided_by": "nli", "reasons": [],
            "faithfulness": 0.1, "truncated": false, "tokens_cut": 0, "claims": claims, "rules": rules,
            "judge": {"model": "m", "prompt_version": "p", "score": 0.1, "label": "l", "reason": worst,
                "tokens_in": 1, "tokens_out": 1, "cost_usd": null, "cached": false},
            "stages": [], "cost_usd": null, "judge_avoided_usd": null, "probability": 1.0
        }))
        .unwrap();
        let call: Call = serde_json::from_value(json!({
            "version": 1, "request_id": "r", "trace_id": "t", "tenant_id": "a", "occurred_at": "2026-11-02T10:00:00Z",
            "feature": "f", "prompt_version": "v", "model_requested": "m", "model_resolved": "m", "provider": "p",
            "tokens_in": 1, "tokens_out": 2, "latency_ms": {"total": 3.0}, "finish_reason": "stop",
            "messages_hash": "h", "content": {"input": worst, "answer": worst, "contexts": [{"id": worst, "text": worst}]}
        }))
        .unwrap();
        let page = Exhibit::of(&call, &evaluation).render().unwrap();
        assert!(page.len() < 130_000, "{} bytes", page.len());
        assert!(
            page.contains("160 more claims are not shown") && page.contains("38 more rules did not pass")
        );
        assert!(
            page.contains("characters of the answer are not shown"),
            "nothing is left off without a word"
        );
        assert!(!page.contains('\u{202e}') && !page.contains("<\""), "everything is escaped and named");
    }
}
