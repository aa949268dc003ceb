//! What a sink is sent of an evaluation: what the policy lets it have, and what its comments quote.

use std::collections::HashMap;

use reqwest::Url;
use uuid::Uuid;

use crate::{
    domain::{Call, Claim, ClaimLabel, Evaluation, Golden, Judgement, Label},
    faults::broken,
    outbound,
    redaction::Redactor,
    sinks::{self, Content, Item, Labelled, Quote, Scored},
};

/// Most bytes of a claim or a chunk that are quoted: a sentence and a window of evidence are much shorter.
const MAX_QUOTE_BYTES: usize = 2000;

/// A call by tenant and request id.
pub(super) type Key = (String, String);

/// The key of an evaluation's call.
pub(super) fn key(evaluation: &Evaluation) -> Key {
    (evaluation.tenant_id.clone(), evaluation.request_id.clone())
}

/// Makes the items of one sink.
pub(super) struct Maker<'a> {
    /// The sink.
    pub name: &'a str,
    /// Says what it may have.
    pub redactor: &'a Redactor,
    /// Where our pages are.
    pub pages: Option<&'a Url>,
}

impl Maker<'_> {
    /// What the sink gets of an evaluation: what the policy lets it have. `calls` are those that may be quoted.
    pub(super) fn item(
        &self,
        delivery_id: Uuid,
        mut evaluation: Evaluation,
        calls: &HashMap<Key, Call>,
    ) -> Item {
        let delivery_id = if broken("random_delivery_id") { Uuid::now_v7() } else { delivery_id };
        let link = self.pages.and_then(|pages| page(pages, &evaluation.tenant_id, &evaluation.request_id));
        let mut quote = calls.get(&key(&evaluation)).and_then(|call| quote(&evaluation, call));
        // Texts of the call, which no sink is sent.
        evaluation.forget_exchanges();
        // Its other texts are words of ours, and the call's own ids, in which a value is a pseudonym always.
        let found = evaluation
            .rules
            .iter_mut()
            .flat_map(|rule| rule.spans.iter_mut().map(|span| &mut span.note).chain([&mut rule.detail]));
        let chunks = evaluation.claims.iter_mut().map(|claim| &mut claim.chunk_id);
        let reasons = evaluation.judge.iter_mut().flat_map(reasons);
        let quoted = quote.iter_mut().flat_map(|quote| [&mut quote.claim, &mut quote.chunk]);
        let mut texts: Vec<&mut String> = found.chain(chunks).chain(reasons).chain(quoted).collect();
        self.redactor.sent(self.name, &evaluation.tenant_id, &mut texts);
        Item { delivery_id, content: Content::Evaluation(Box::new(Scored { evaluation, quote, link })) }
    }

    /// What the sink gets of what a person said.
    pub(super) fn label(&self, delivery_id: Uuid, mut label: Label) -> Item {
        let tenant_id = label.tenant_id.clone();
        self.redactor.sent(self.name, &tenant_id, &mut [&mut label.note]);
        let link = self.pages.and_then(|pages| page(pages, &label.tenant_id, &label.request_id));
        Item { delivery_id, content: Content::Label(Box::new(Labelled { label, link })) }
    }

    /// What the sink gets of a row of the golden set.
    pub(super) fn golden(&self, delivery_id: Uuid, mut golden: Golden) -> Item {
        let tenant_id = golden.tenant_id.clone();
        let contexts = golden.contexts.iter_mut().map(|context| &mut context.text);
        let texts = [&mut golden.input, &mut golden.actual, &mut golden.notes].into_iter();
        let mut texts: Vec<&mut String> =
            texts.chain(&mut golden.expected).chain(&mut golden.policy).chain(contexts).collect();
        self.redactor.sent(self.name, &tenant_id, &mut texts);
        Item { delivery_id, content: Content::Golden(Box::new(golden)) }
    }
}

/// What a judge said in its own words, and what its server calls it.
fn reasons(judge: &mut Judgement) -> impl Iterator<Item = &mut String> {
    let reasons = judge.claims.iter_mut().map(|claim| &mut claim.reason).chain([&mut judge.reason]);
    reasons.chain(&mut judge.model_resolved)
}

/// Our page about a call; none where its ids would lead elsewhere.
pub fn page(pages: &Url, tenant_id: &str, request_id: &str) -> Option<String> {
    let ids = [tenant_id, request_id];
    // In an address they mean this folder and the one above, however they are written.
    let leads_elsewhere = ids.iter().any(|id| matches!(*id, "." | ".."));
    (!leads_elsewhere).then(|| outbound::below_segments(pages, ["calls"].into_iter().chain(ids)).into())
}

/// The worst claim and its evidence, as far as the call's texts are kept; none where all claims are supported.
fn quote(evaluation: &Evaluation, call: &Call) -> Option<Quote> {
    let claims = evaluation.claims.iter().filter(|claim| claim.label != ClaimLabel::Supported);
    let worst = claims.min_by(|a, b| {
        (badness(a), a.entailment)
            .partial_cmp(&(badness(b), b.entailment))
            .unwrap_or(std::cmp::Ordering::Equal)
    })?;
    let chunk = call.content.contexts.iter().find(|context| context.id == worst.chunk_id)?;
    Some(Quote {
        claim: part(&call.content.answer, worst.start, worst.end)?,
        chunk: part(&chunk.text, worst.chunk_start, worst.chunk_end)?,
    })
}

/// The order in which claims are the worst: a contradiction first, a claim that nobody could judge last.
fn badness(claim: &Claim) -> u8 {
    match claim.label {
        ClaimLabel::Contradicted => 0,
        ClaimLabel::NotFound => 1,
        ClaimLabel::Unsure => 2,
        ClaimLabel::Supported => 3,
    }
}

/// Part of a text by its characters; none where that is not all there.
fn part(text: &str, start: usize, end: usize) -> Option<String> {
    let length = end.checked_sub(start).filter(|length| *length > 0)?;
    let mut chars = text.chars().skip(start);
    let part: String = chars.by_ref().take(length).collect();
    (part.chars().count() == length).then(|| sinks::cut(&part, MAX_QUOTE_BYTES).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::redaction::RedactionConfig;

    const ANSWER: &str = "Ä yes. Call +44 20 7946 0958 now.";

    fn call() -> Call {
        serde_json::from_value(json!({
            "version": 1, "request_id": "r/1", "trace_id": "t", "occurred_at": "2026-11-02T10:00:00Z", "feature": "f",
            "tenant_id": "acme ?", "prompt_version": "p", "model_requested": "m", "model_resolved": "m",
            "provider": "p", "tokens_in": 1, "tokens_out": 1, "latency_ms": {"total": 1.0}, "finish_reason": "stop",
            "messages_hash": "h",
            "content": {"answer": ANSWER, "contexts": [{"id": "c1", "text": "Ring +44 20 7946 0958."}]},
        }))
        .unwrap()
    }

    fn evaluation() -> Evaluation {
        let claim = |label, entailment, (start, end)| {
            json!({"start": start, "end": end, "entailment": entailment, "neutral": 0.0, "contradiction": 0.0,
                "chunk_id": "c1", "chunk_start": 0, "chunk_end": 22, "label": label})
        };
        serde_json::from_value(json!({
            "evaluation_id": Uuid::from_u128(1), "tenant_id": "acme ?", "request_id": "r/1", "evaluator_version": "v",
            "trace_id": "t", "feature": "f", "occurred_at": "2026-11-02T10:00:00Z",
            "evaluated_at": "2026-11-02T10:00:01Z", "verdict": "fail", "decided_by": "nli", "reasons": ["not_supported"],
            "faithfulness": 0.2, "truncated": false, "tokens_cut": 0, "rules": [], "judge": null, "stages": [],
            "claims": [claim("supported", 0.9, (0, 6)), claim("unsure", 0.0, (0, 6)), claim("not_found", 0.1, (7, 33))],
            "cost_usd": 0.0, "judge_avoided_usd": null, "probability": 1.0,
        }))
        .unwrap()
    }

    fn made(redactor: &Redactor, evaluation: Evaluation, call: Call) -> Scored {
        let pages = Url::parse("https://aftercheck.example/ui/").unwrap();
        let maker = Maker { name: "out", redactor, pages: Some(&pages) };
        let calls = HashMap::from([(key(&evaluation), call)]);
        let item = maker.item(Uuid::from_u128(2), evaluation, &calls);
        assert_eq!(item.delivery_id, Uuid::from_u128(2));
        let Content::Evaluation(scored) = item.content else { panic!("an evaluation") };
        *scored
    }

    #[test]
    fn the_worst_claim_is_quoted_with_its_chunk_and_a_link_to_the_call() {
        let scored = made(&Redactor::shipped(), evaluation(), call());
        let quote = scored.quote.unwrap();
        assert_eq!(
            quote.claim, "Call +44 20 7946 0958 now.",
            "by characters, and what is kept was redacted before"
        );
        assert_eq!(quote.chunk, "Ring +44 20 7946 0958.");
        assert_eq!(scored.link.unwrap(), "https://aftercheck.example/ui/calls/acme%20%3F/r%2F1");
        let above = Evaluation { request_id: "..".into(), ..evaluation() };
        assert_eq!(made(&Redactor::shipped(), above, call()).link, None);
    }

    #[test]
    fn a_quote_has_nothing_that_the_destination_may_not_have() {
        let exception = json!({"destination": "out", "kinds": {"phone": "mask"}});
        let config: RedactionConfig = serde_json::from_value(json!({"exceptions": [exception]})).unwrap();
        let scored = made(&Redactor::new(&config).unwrap(), evaluation(), call());
        let quote = scored.quote.unwrap();
        assert_eq!((quote.claim.as_str(), quote.chunk.as_str()), ("Call <PHONE> now.", "Ring <PHONE>."));
    }

    #[test]
    fn what_is_not_kept_or_not_at_fault_is_not_quoted() {
        let mut short = call();
        short.content.answer.truncate(12);
        assert_eq!(made(&Redactor::shipped(), evaluation(), short).quote, None, "its end was cut off");
        let mut supported = evaluation();
        supported.claims.truncate(1);
        assert_eq!(made(&Redactor::shipped(), supported, call()).quote, None);
        let mut other = call();
        other.content.contexts[0].id = "c2".into();
        assert_eq!(made(&Redactor::shipped(), evaluation(), other).quote, None);
    }
}
