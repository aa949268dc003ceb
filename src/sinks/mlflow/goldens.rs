//! Rows of a golden set as records of an evaluation data set. MLflow merges records with equal inputs.

use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{MlflowSink, Receipt, accepted, is_missing, json_of, trace};
use crate::{
    domain::{Golden, Said},
    sinks::{Outcome, SinkError},
};

/// Most pages that are read of a list.
const MAX_PAGES: usize = 100;
/// Under which tag a record has the id of its row.
const ID: &str = "golden_id";

impl MlflowSink {
    /// Writes a row. What was written before is changed.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn golden(&self, golden: &Golden) -> Result<Outcome, SinkError> {
        let Some(dataset) = self.dataset(&golden.dataset).await? else {
            let (name, experiment) = (&golden.dataset, &self.experiment);
            let reason =
                format!("experiment {experiment} has no data set {name:?}: make one, or promote to another");
            return Ok(Outcome::Again { reason, after: None });
        };
        // The records are a text within the text.
        let body = json!({"records": Value::Array(vec![record(golden)]).to_string()});
        let request = self.request(Method::POST, &["datasets", &dataset, "records"]).json(&body);
        accepted(self.wire.send(request).await?)?;
        Ok(Receipt::Golden(dataset, golden.golden_id).delivered())
    }

    /// The id of a data set of the experiment, the oldest of its name; none where there is none.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn dataset(&self, name: &str) -> Result<Option<String>, SinkError> {
        let mut token = String::new();
        for _ in 0..MAX_PAGES {
            let mut body = json!({"experiment_ids": [self.experiment], "max_results": 100, "order_by": ["created_time ASC"]});
            if !token.is_empty() {
                body["page_token"] = json!(token);
            }
            // A name with a quotation mark cannot stand in a filter.
            if !name.contains(['\'', '\\']) {
                body["filter_string"] = json!(format!("name = '{name}'"));
            }
            let request = self.request(Method::POST, &["datasets", "search"]).json(&body);
            let found = json_of(&accepted(self.wire.send(request).await?)?)?;
            let is_it = |one: &&Value| one["name"] == name;
            if let Some(one) = found["datasets"].as_array().and_then(|all| all.iter().find(is_it)) {
                return Ok(one["dataset_id"].as_str().map(str::to_owned));
            }
            match found["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => break,
            }
        }
        Ok(None)
    }

    /// Deletes the record of a row; says whether it was there.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn delete_record(&self, dataset: &str, golden: Uuid) -> Result<bool, SinkError> {
        let (mut ids, mut token) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let path = ["api", "3.0", "mlflow", "datasets", dataset, "records"];
            let answer =
                self.wire.send(self.query(&path, &[("max_results", "100"), ("page_token", &token)])).await?;
            if is_missing(&answer) {
                return Ok(false);
            }
            let found = json_of(&accepted(answer)?)?;
            let records: Vec<Value> = found["records"]
                .as_str()
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default();
            let ours = |one: &Value| one["tags"][ID] == golden.to_string();
            ids.extend(records.iter().filter(|one| ours(one)).map(|one| one["dataset_record_id"].clone()));
            match found["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => break,
            }
        }
        if ids.is_empty() {
            return Ok(false);
        }
        let request = self.request(Method::DELETE, &["datasets", dataset, "records"]);
        accepted(self.wire.send(request.json(&json!({"dataset_record_ids": ids}))).await?).map(|_| true)
    }
}

/// The row. What is expected is what should have been answered: what was answered, where people found that right.
fn record(golden: &Golden) -> Value {
    let contexts: Vec<Value> =
        golden.contexts.iter().map(|context| json!({"id": context.id, "text": context.text})).collect();
    let right = golden.expected.as_ref().or((golden.label == Said::Pass).then_some(&golden.actual));
    let expected: Map<String, Value> =
        right.map(|answer| ("answer".into(), json!(answer))).into_iter().collect();
    // Tags are strings.
    let mut tags = json!({
        ID: golden.golden_id.to_string(), "label": golden.label.as_str(), "notes": golden.notes,
        "reviewers": golden.reviewers.join(", "), "evaluator_version": golden.evaluator_version,
        "prompt_version": golden.prompt_version, "model": golden.model, "source": golden.source,
        "tenant_id": golden.tenant_id, "request_id": golden.request_id, "occurred_at": golden.occurred_at.to_string(), "feature": golden.feature,
    });
    if let Some(policy) = &golden.policy {
        tags["policy"] = json!(policy);
    }
    if let Some(agreement) = golden.agreement {
        tags["agreement"] = json!(agreement.to_string());
    }
    let mut record = json!({
        "inputs": {"question": golden.input, "contexts": contexts}, "outputs": {"answer": golden.actual},
        "expectations": expected, "tags": tags,
    });
    if let Ok(trace) = trace(&golden.trace_id) {
        record["source"] = json!({"source_type": "TRACE", "source_data": {"trace_id": trace}});
    }
    record
}
