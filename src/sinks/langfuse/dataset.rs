//! Rows of a golden set as items of a dataset.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    api::{Api, again},
    body::{known, observation},
    config::Target,
    ingest::Told,
};
use crate::{
    domain::Golden,
    outbound::Answer,
    sinks::{Outcome, SinkError},
};

/// Writes a row; the dataset is created where there is none of its name. Written again it overwrites.
pub(super) async fn put(api: &Api, golden: &Golden, target: Target) -> Told {
    let item = item(golden, target);
    let texts = texts(golden);
    let answer = api.post(&["dataset-items"], &item).await?;
    if answer.status != StatusCode::NOT_FOUND {
        return told(api, &answer, golden, &texts);
    }
    // It is unknown, or the id is that of an item of another dataset.
    let dataset = api.get(&["v2", "datasets", &golden.dataset], &[]).await?;
    if dataset.status.is_success() {
        let reason = "its id is that of an item in another dataset".to_owned();
        return Ok(Outcome::Never { reason });
    }
    if dataset.status != StatusCode::NOT_FOUND {
        return Err(api.fault(&dataset, &[]));
    }
    let created = api.post(&["v2", "datasets"], &json!({"name": golden.dataset})).await?;
    if !created.status.is_success() {
        return Err(api.fault(&created, &[]));
    }
    let answer = api.post(&["dataset-items"], &item).await?;
    told(api, &answer, golden, &texts)
}

/// What the answer to a row means.
fn told(api: &Api, answer: &Answer, golden: &Golden, texts: &[&str]) -> Told {
    match api.fault(answer, texts) {
        _ if answer.status.is_success() => {
            Ok(Outcome::Delivered { receipt: Some(super::retract::of_item(golden.golden_id)) })
        }
        // Somebody else wrote to the dataset at this moment.
        SinkError::Refused(said) if answer.status == StatusCode::CONFLICT => Ok(again(said, None)),
        fault => Err(fault),
    }
}

/// A row as an item.
fn item(golden: &Golden, target: Target) -> Value {
    let contexts: Vec<Value> =
        golden.contexts.iter().map(|context| json!({"id": context.id, "text": context.text})).collect();
    json!({
        "id": golden.golden_id,
        "datasetName": golden.dataset,
        "input": {"input": golden.input, "contexts": contexts},
        "expectedOutput": golden.expected,
        "metadata": {
            "label": golden.label, "notes": golden.notes, "reviewers": golden.reviewers, "agreement": golden.agreement,
            "actual": golden.actual, "source": golden.source, "tenant_id": golden.tenant_id,
            "request_id": golden.request_id, "occurred_at": golden.occurred_at, "model": golden.model,
            "evaluator_version": golden.evaluator_version, "prompt_version": golden.prompt_version,
            "policy": golden.policy, "feature": golden.feature,
        },
        "sourceTraceId": known(&golden.trace_id),
        "sourceObservationId": observation(target, golden.span_id.as_deref()),
        "status": "ACTIVE",
    })
}

/// What of it stays out of messages.
fn texts(golden: &Golden) -> Vec<&str> {
    let texts = [&golden.input, &golden.actual, &golden.notes].into_iter();
    let texts = texts.chain(&golden.expected).chain(&golden.policy);
    texts.chain(golden.contexts.iter().map(|context| &context.text)).map(String::as_str).collect()
}
