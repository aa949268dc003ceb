//! What is written of an evaluation and of a label: the same scores, names and comments in every backend.

use uuid::Uuid;

use super::{Labelled, Scored};
use crate::{
    domain::{RuleOutcome, id},
    faults::broken,
};

/// Name of the score that says how far the contexts support the answer.
pub const FAITHFULNESS: &str = "faithfulness";
/// Name of the score that says the conclusion.
pub const VERDICT: &str = "verdict";
/// Name of what the LLM judge said.
pub const JUDGE: &str = "judge";
/// What the name of a rule's score begins with.
pub const RULE: &str = "rule.";
/// Name of what a person said.
pub const REVIEW: &str = "review";

/// One score of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// UUIDv5 of what is scored and the name: written again, it overwrites.
    pub id: Uuid,
    /// `faithfulness`, `verdict`, `judge`, `rule.<id>` or `review`.
    pub name: String,
    /// How it stands.
    pub value: Value,
    /// The same in a word, where there is one: for backends that show a word beside a number.
    pub label: Option<&'static str>,
    /// Who says it.
    pub by: Annotator,
    /// Why. Untrusted text, as long as it comes: [`cut`](super::cut) it to what the backend takes; the link stands before what is
    /// quoted.
    pub comment: String,
}

/// How a score stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// From 0 to 1.
    Number(f64),
    /// True: it holds.
    Flag(bool),
    /// One of a few words.
    Label(String),
}

/// Who says a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annotator {
    /// A rule, the cascade, or a local model: the same input has the same score.
    Code,
    /// An LLM.
    Model,
    /// A person.
    Human,
}

/// Id of a score of something, by its name: what a retraction deletes is found by it without its content.
pub fn score_id(of: Uuid, name: &str) -> Uuid {
    if broken("random_score_id") {
        return Uuid::now_v7();
    }
    id::derived("score", &[&of.to_string(), name])
}

/// The scores of an evaluation: its verdict, then faithfulness and judge where they are, then each rule that passed or failed. A
/// rule that is unsure, does not apply or could not run is no score.
pub fn scores(scored: &Scored) -> Vec<Score> {
    let evaluation = &scored.evaluation;
    let score = |name: &str, value, label, by, comment| Score {
        id: score_id(evaluation.evaluation_id, name),
        name: name.to_owned(),
        value,
        label,
        by,
        comment,
    };
    let why = why(scored);
    let word = evaluation.verdict.as_str();
    let verdict = Value::Label(word.to_owned());
    let mut scores = vec![score(VERDICT, verdict, Some(word), Annotator::Code, why.clone())];
    if let Some(value) = evaluation.faithfulness {
        scores.push(score(FAITHFULNESS, Value::Number(value), None, Annotator::Code, why));
    }
    if let Some(judge) = &evaluation.judge {
        let said = [judge.model_resolved.as_ref().unwrap_or(&judge.model), &judge.reason];
        let comment = joined(said.map(String::as_str).into_iter().chain(scored.link.as_deref()));
        scores.push(score(JUDGE, Value::Number(judge.score), None, Annotator::Model, comment));
    }
    for rule in &evaluation.rules {
        let passed = match rule.outcome {
            RuleOutcome::Pass => true,
            RuleOutcome::Fail => false,
            RuleOutcome::Unsure | RuleOutcome::NotApplicable | RuleOutcome::Error => continue,
        };
        let comment = joined([rule.detail.as_str()].into_iter().chain(scored.link.as_deref()));
        let (name, value) = (format!("{RULE}{}", rule.rule), Value::Flag(passed));
        scores.push(score(&name, value, Some(rule.outcome.as_str()), Annotator::Code, comment));
    }
    scores
}

/// What a person said, as a score of the evaluation. The note comes last: a cut takes its end, and neither name nor link.
pub fn review(said: &Labelled) -> Score {
    let label = &said.label;
    let word = label.label.as_str();
    Score {
        id: score_id(label.evaluation_id, REVIEW),
        name: REVIEW.to_owned(),
        value: Value::Label(word.to_owned()),
        label: Some(word),
        by: Annotator::Human,
        comment: joined(
            [label.reviewer.as_str()].into_iter().chain(said.link.as_deref()).chain([label.note.as_str()]),
        ),
    }
}

/// Why the verdict is what it is: reasons, link, then what is quoted, so that a cut takes the end of the chunk first.
fn why(scored: &Scored) -> String {
    let evaluation = &scored.evaluation;
    let reasons: Vec<&str> = evaluation.reasons.iter().map(|reason| reason.as_str()).collect();
    let supported = evaluation.claims.iter().filter(|claim| claim.label.as_str() == "supported").count();
    let claims = match evaluation.claims.len() {
        0 => String::new(),
        all => format!("{supported} of {all} claims supported"),
    };
    let quoted = scored
        .quote
        .iter()
        .flat_map(|quote| [format!("claim: “{}”", quote.claim), format!("compared with: “{}”", quote.chunk)]);
    let quoted: Vec<String> = quoted.collect();
    let said = [reasons.join(", "), claims];
    let said = said.iter().map(String::as_str).chain(scored.link.as_deref());
    joined(said.chain(quoted.iter().map(String::as_str)))
}

/// Parts that are not empty, a line each.
fn joined<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{domain::Evaluation, sinks::Quote};

    fn scored() -> Scored {
        let rule =
            |rule, outcome| json!({"rule": rule, "outcome": outcome, "detail": format!("about {rule}")});
        let evaluation: Evaluation = serde_json::from_value(json!({
            "evaluation_id": Uuid::from_u128(1), "tenant_id": "t", "request_id": "r", "evaluator_version": "v",
            "trace_id": "t", "feature": "f", "occurred_at": "2026-11-02T10:00:00Z",
            "evaluated_at": "2026-11-02T10:00:01Z", "verdict": "fail", "decided_by": "judge",
            "reasons": ["judge_not_supported", "rule_failed"], "faithfulness": 0.25, "truncated": false, "tokens_cut": 0,
            "claims": [], "stages": [], "cost_usd": 0.0, "judge_avoided_usd": null, "probability": 1.0,
            "rules": [rule("a.b", "pass"), rule("a.c", "fail"), rule("a.d", "unsure"), rule("a.e", "not_applicable"),
                rule("a.f", "error")],
            "judge": {"model": "asked", "model_resolved": "answered", "prompt_version": "p", "score": 0.1,
                "label": "not_supported", "reason": "no evidence", "tokens_in": 1, "tokens_out": 1, "cost_usd": 0.0,
                "cached": false},
        }))
        .unwrap();
        let quote = Quote { claim: "It is free.".into(), chunk: "It costs 5.".into() };
        Scored { evaluation, quote: Some(quote), link: Some("https://h/calls/t/r".into()) }
    }

    #[test]
    fn what_is_written_has_names_values_and_ids_of_its_own() {
        let written = scores(&scored());
        let short: Vec<_> =
            written.iter().map(|one| (one.name.as_str(), one.value.clone(), one.by)).collect();
        let expected = [
            ("verdict", Value::Label("fail".into()), Annotator::Code),
            ("faithfulness", Value::Number(0.25), Annotator::Code),
            ("judge", Value::Number(0.1), Annotator::Model),
            ("rule.a.b", Value::Flag(true), Annotator::Code),
            ("rule.a.c", Value::Flag(false), Annotator::Code),
        ];
        assert_eq!(short, expected);
        let again = scores(&scored());
        assert_eq!(written, again, "a repeat overwrites");
        let ids: std::collections::BTreeSet<Uuid> = written.iter().map(|one| one.id).collect();
        assert_eq!(ids.len(), written.len());
        assert!(written.iter().all(|one| one.id.get_version_num() == 5));
        assert_eq!(written[0].id, score_id(Uuid::from_u128(1), "verdict"), "as a retraction finds it");
    }

    #[test]
    fn comments_say_why_and_lose_their_quotes_first() {
        let written = scores(&scored());
        assert_eq!(
            written[0].comment,
            "judge_not_supported, rule_failed\nhttps://h/calls/t/r\nclaim: “It is free.”\ncompared with: “It costs 5.”"
        );
        assert_eq!(written[2].comment, "answered\nno evidence\nhttps://h/calls/t/r");
        assert_eq!(written[4].comment, "about a.c\nhttps://h/calls/t/r");
        let plain = Scored { quote: None, link: None, ..scored() };
        assert_eq!(scores(&plain)[1].comment, "judge_not_supported, rule_failed");
    }

    #[test]
    fn what_a_person_said_leads_back_to_our_page() {
        let label = json!({
            "label_id": Uuid::from_u128(2), "evaluation_id": Uuid::from_u128(1), "tenant_id": "t", "request_id": "r",
            "trace_id": "t", "span_id": null, "occurred_at": "2026-11-02T10:00:00Z", "labelled_at": "2026-11-02T11:00:00Z",
            "label": "fail", "reviewer": "jo", "note": "looked",
        });
        let said = Labelled {
            label: serde_json::from_value(label).unwrap(),
            link: Some("https://h/calls/t/r".into()),
        };
        assert_eq!(review(&said).comment, "jo\nhttps://h/calls/t/r\nlooked");
        assert_eq!(review(&Labelled { link: None, ..said }).comment, "jo\nlooked");
    }

    #[test]
    fn what_could_not_be_measured_is_no_score() {
        let mut scored = scored();
        (scored.evaluation.faithfulness, scored.evaluation.judge) = (None, None);
        scored.evaluation.rules.clear();
        let names: Vec<String> = scores(&scored).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["verdict"]);
    }
}
