//! Rows of the golden set as examples of a dataset. They are appended, by an id of our own: a row that is there is overwritten.
//! The action `update` is never sent, because it deletes every example that it does not name.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    domain::{Golden, label::Said},
    sinks::ids::Place,
};

/// Most bytes of a dataset's name that a receipt holds.
pub(super) const MAX_NAME_BYTES: usize = 1000;

/// The body that appends rows of one dataset, each id once.
pub(super) fn append(dataset: &str, rows: &[&Golden]) -> Value {
    let column = |cell: fn(&Golden) -> Value| rows.iter().map(|row| cell(row)).collect::<Vec<Value>>();
    json!({
        "action": "append",
        "name": dataset,
        "inputs": column(input),
        "outputs": column(output),
        "metadata": column(metadata),
        // A span that Phoenix does not have is no error: the example has no link then.
        "span_ids": column(|row| {
            let place = Place::read(&row.trace_id, row.span_id.as_deref()).ok();
            json!(place.and_then(Place::span_hex))
        }),
        "example_ids": column(|row| json!(row.golden_id)),
    })
}

/// The body that takes the texts out of an example.
pub(super) fn emptied(dataset: &str, golden_id: Uuid) -> Value {
    json!({
        "action": "append", "name": dataset, "inputs": [{}], "outputs": [{}],
        "metadata": [{"erased": true}], "example_ids": [golden_id],
    })
}

/// What was asked.
fn input(row: &Golden) -> Value {
    json!({"input": row.input, "contexts": row.contexts})
}

/// What the answer should be: what somebody wrote down, else the answer where people let it pass; otherwise nobody knows.
fn output(row: &Golden) -> Value {
    let passed = (row.label == Said::Pass).then_some(&row.actual);
    match row.expected.as_ref().or(passed) {
        Some(answer) => json!({"answer": answer}),
        None => json!({}),
    }
}

/// All else that is known of it.
fn metadata(row: &Golden) -> Value {
    json!({
        "actual": row.actual, "label": row.label, "notes": row.notes, "reviewers": row.reviewers, "agreement": row.agreement,
        "tenant_id": row.tenant_id, "request_id": row.request_id, "trace_id": row.trace_id, "occurred_at": row.occurred_at,
        "evaluator_version": row.evaluator_version, "prompt_version": row.prompt_version, "model": row.model,
        "source": row.source, "policy": row.policy, "feature": row.feature,
    })
}
