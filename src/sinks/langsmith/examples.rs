//! Rows of a golden set as examples of a data set.

use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{LangsmithSink, Receipt, accepted, runs};
use crate::{
    domain::{Golden, Said},
    sinks::{Outcome, SinkError},
};

impl LangsmithSink {
    /// Writes a row. What was written before is changed.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn golden(&self, golden: &Golden) -> Result<Outcome, SinkError> {
        let Some(dataset) = self.dataset(&golden.dataset).await? else {
            let reason =
                format!("LangSmith has no data set {:?}: make one, or promote to another", golden.dataset);
            return Ok(Outcome::Again { reason, after: None });
        };
        let mut row = row(golden, dataset);
        // A run that is gone, because its retention is over, does not keep the row away.
        let sources = [runs::run(&golden.trace_id, golden.span_id.as_deref()).ok(), None];
        for source in sources.iter().skip(usize::from(sources[0].is_none())) {
            row["source_run_id"] = json!(source.map(|run| run.id));
            let request = self.wire.request(Method::POST, "api/v1/examples").json(&row);
            let answer = self.wire.send(request).await?;
            match answer.status {
                StatusCode::NOT_FOUND => {}
                StatusCode::CONFLICT => return self.change(golden.golden_id, &row).await,
                _ => return accepted(answer).map(|_| delivered(golden.golden_id)),
            }
        }
        self.forget_dataset(&golden.dataset).await;
        Ok(Outcome::Again { reason: format!("data set {:?} is gone", golden.dataset), after: None })
    }

    /// Changes a row that is there.
    async fn change(&self, id: Uuid, row: &Value) -> Result<Outcome, SinkError> {
        let change = json!({"dataset_id": row["dataset_id"], "inputs": row["inputs"], "outputs": row["outputs"],
            "metadata": row["metadata"]});
        let request = self.wire.request(Method::PATCH, &format!("api/v1/examples/{id}")).json(&change);
        let answer = self.wire.send(request).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Outcome::Again {
                reason: "the example is there and cannot be changed".into(),
                after: None,
            }),
            _ => accepted(answer).map(|_| delivered(id)),
        }
    }

    /// Deletes a row for good: LangSmith would keep it for older versions of the data set otherwise. Says whether it was there.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn delete_example(&self, id: Uuid) -> Result<bool, SinkError> {
        let body = json!({"example_ids": [id], "hard_delete": true});
        let request = self.wire.request(Method::POST, "api/v1/platform/datasets/examples/delete").json(&body);
        let answer = self.wire.send(request).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        accepted(answer).map(|_| true)
    }
}

/// A row was written.
fn delivered(id: Uuid) -> Outcome {
    Outcome::Delivered { receipt: Receipt { example: Some(id), ..Receipt::default() }.written() }
}

/// The row. Its output is what should have been answered: what was answered, where people found that right.
fn row(golden: &Golden, dataset: Uuid) -> Value {
    let contexts: Vec<Value> =
        golden.contexts.iter().map(|context| json!({"id": context.id, "text": context.text})).collect();
    let right = golden.expected.as_ref().or((golden.label == Said::Pass).then_some(&golden.actual));
    let outputs: Map<String, Value> =
        right.map(|answer| ("answer".into(), json!(answer))).into_iter().collect();
    json!({
        "id": golden.golden_id, "dataset_id": dataset, "use_source_run_io": false,
        "inputs": {"question": golden.input, "contexts": contexts}, "outputs": outputs,
        "metadata": {
            "actual": golden.actual, "label": golden.label, "notes": golden.notes, "reviewers": golden.reviewers,
            "agreement": golden.agreement, "evaluator_version": golden.evaluator_version,
            "prompt_version": golden.prompt_version, "model": golden.model, "source": golden.source,
            "tenant_id": golden.tenant_id, "request_id": golden.request_id, "trace_id": golden.trace_id,
            "occurred_at": golden.occurred_at, "policy": golden.policy, "feature": golden.feature,
        },
    })
}
