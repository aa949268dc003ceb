//! What is delivered, and how a dispatcher goes about it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aftercheck::{
    domain::{Golden, GoldenKey, Label, Retraction},
    sinks::{self, Content, Item, Labelled, Outcome, Quote, Scored, Sink, SinkConfig, SinkError},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

/// The trace of a number.
pub fn trace(number: u128) -> String {
    format!("4bf92f3577b34da6a3ce929d{number:08x}")
}

/// The span of a number.
pub fn span(number: u128) -> String {
    format!("00f067aa{number:08x}")
}

/// An evaluation, evaluated just now, with a faithfulness of many decimals, two rules and a judge.
pub fn evaluation(number: u128, verdict: &str) -> Value {
    let rule = |rule: &str, outcome: &str| json!({"rule": rule, "outcome": outcome, "detail": format!("about {rule}")});
    json!({
        "evaluation_id": Uuid::from_u128(0xe000 + number), "tenant_id": "acme", "request_id": format!("r-{number}"),
        "evaluator_version": "sha256:0123", "trace_id": trace(number), "span_id": span(number), "feature": "f",
        "occurred_at": "2026-11-02T10:00:00Z", "evaluated_at": Timestamp::now(), "verdict": verdict,
        "decided_by": "judge", "reasons": ["judge_not_supported"], "faithfulness": 1.0 / (number as f64 + 3.0),
        "truncated": false, "tokens_cut": 0, "claims": [], "stages": [], "cost_usd": 0.0, "judge_avoided_usd": null,
        "probability": 1.0,
        "rules": [rule("grounding.citations", "pass"), rule("format.json", "fail"), rule("safety.none", "unsure")],
        "judge": {"model": "asked", "model_resolved": "answered", "prompt_version": "p", "score": 0.125,
            "label": "not_supported", "reason": "no evidence", "tokens_in": 1, "tokens_out": 1, "cost_usd": 0.0,
            "cached": false},
    })
}

/// Names and values of the scores of [`evaluation`], as JSON writes them.
pub fn expected(number: u128, verdict: &str) -> BTreeMap<String, Value> {
    let scores = [
        ("verdict", json!(verdict)),
        ("faithfulness", json!(1.0 / (number as f64 + 3.0))),
        ("judge", json!(0.125)),
        ("rule.grounding.citations", json!(true)),
        ("rule.format.json", json!(false)),
    ];
    scores.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An item of an evaluation.
pub fn scored(evaluation: Value) -> Item {
    let evaluation: aftercheck::domain::Evaluation = serde_json::from_value(evaluation).unwrap();
    let delivery_id = Uuid::from_u128(evaluation.evaluation_id.as_u128() ^ (1 << 64));
    let quote = Quote { claim: "It is free.".into(), chunk: "It costs 5.".into() };
    let scored = Scored { evaluation, quote: Some(quote), link: Some("https://h.example/calls/t/r".into()) };
    Item { delivery_id, content: Content::Evaluation(Box::new(scored)) }
}

/// Items of so many evaluations; every fourth one has to be looked at.
pub fn batch(count: u128) -> Vec<Item> {
    (0..count).map(|number| scored(evaluation(number, verdict(number)))).collect()
}

/// The verdict of a number, in [`batch`].
pub fn verdict(number: u128) -> &'static str {
    ["pass", "fail", "not_applicable", "review"][number as usize % 4]
}

/// What a person said of the evaluation of a number.
pub fn label(number: u128, said: &str) -> Item {
    let label: Label = serde_json::from_value(json!({
        "label_id": Uuid::from_u128(0x1abe1), "evaluation_id": Uuid::from_u128(0xe000 + number), "tenant_id": "acme",
        "request_id": format!("r-{number}"), "trace_id": trace(number), "span_id": span(number),
        "occurred_at": "2026-11-02T10:00:00Z", "labelled_at": Timestamp::now(), "label": said, "reviewer": "jo",
        "note": "looked",
    }))
    .unwrap();
    let said = Labelled { label, link: Some("https://h.example/calls/t/r".into()) };
    Item { delivery_id: Uuid::from_u128(0x1abe1), content: Content::Label(Box::new(said)) }
}

/// A row of a golden set.
pub fn golden(number: u128, dataset: &str, expected: Option<&str>) -> Item {
    let golden: Golden = serde_json::from_value(json!({
        "golden_id": Uuid::from_u128(0x901d + number), "dataset": dataset, "tenant_id": "acme",
        "request_id": format!("r-{number}"), "trace_id": trace(number), "span_id": span(number),
        "occurred_at": "2026-11-02T10:00:00Z", "input": format!("What is {number}?"),
        "contexts": [{"id": "c1", "text": "A number."}], "actual": "Nothing.", "expected": expected, "label": "fail",
        "notes": "it is wrong", "reviewers": ["jo", "al"], "agreement": 1.0, "evaluator_version": "sha256:0123",
        "prompt_version": "v", "model": "m", "source": "production", "policy": "Say the number.", "feature": "numbers",
    }))
    .unwrap();
    Item { delivery_id: Uuid::from_u128(0x901d_0000 + number), content: Content::Golden(Box::new(golden)) }
}

/// A sink of this configuration, which is TOML.
pub fn sink(config: &str) -> Arc<dyn Sink> {
    try_sink(config).unwrap()
}

/// The same, or what is wrong with it.
pub fn try_sink(config: &str) -> Result<Arc<dyn Sink>, String> {
    let config: SinkConfig = toml::from_str(config).map_err(|error| error.to_string())?;
    let built =
        sinks::build(&BTreeMap::from([("it".to_owned(), config)])).map_err(|error| error.to_string())?;
    Ok(Arc::clone(&built[0].1))
}

/// Delivers as a dispatcher does: again and again what may still work. Says how each item ended, and in how many rounds.
pub async fn deliver(sink: &dyn Sink, items: &[Item]) -> (Vec<Outcome>, usize) {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; items.len()];
    for round in 1..=60 {
        let open: Vec<usize> = (0..items.len()).filter(|at| outcomes[*at].is_none()).collect();
        let Some(batch) = open.chunks(sink.batch() as usize).next() else {
            return (outcomes.into_iter().flatten().collect(), round - 1);
        };
        let sent: Vec<Item> = batch.iter().map(|at| items[*at].clone()).collect();
        match sink.deliver(&sent).await {
            Ok(said) => {
                assert_eq!(said.len(), sent.len(), "one outcome for each item");
                for (at, outcome) in batch.iter().zip(said) {
                    if !matches!(outcome, Outcome::Again { .. } | Outcome::Unclear { .. }) {
                        outcomes[*at] = Some(outcome);
                    }
                }
            }
            Err(SinkError::Again { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("not delivered after 60 rounds: {outcomes:?}")
}

/// Retractions of delivered items.
pub fn retractions(items: &[Item], outcomes: &[Outcome]) -> Vec<Retraction> {
    let one = |(item, outcome): (&Item, &Outcome)| {
        let receipt = match outcome {
            Outcome::Delivered { receipt } => receipt,
            Outcome::Unsent { reason: None } => &None,
            other => panic!("{other:?}"),
        };
        let evaluation_id = match &item.content {
            Content::Evaluation(scored) => scored.evaluation.evaluation_id,
            Content::Label(said) => said.label.evaluation_id,
            // Nothing of it has an id that is derived from this.
            Content::Golden(golden) => Uuid::from_u128(golden.golden_id.as_u128() ^ (1 << 64)),
        };
        let golden = match &item.content {
            Content::Golden(golden) => {
                Some(GoldenKey { golden_id: golden.golden_id, dataset: golden.dataset.clone() })
            }
            Content::Evaluation(_) | Content::Label(_) => None,
        };
        Retraction { delivery_id: item.delivery_id, evaluation_id, receipt: receipt.clone(), golden }
    };
    items.iter().zip(outcomes).map(one).collect()
}
