//! What erasing leaves of deliveries: how many each sink may have, and what the sinks are told to delete.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::id;

/// A row that was deleted from the outbox.
pub(super) struct Deleted {
    /// The sink.
    pub sink: String,
    /// The delivery.
    pub delivery_id: String,
    /// The evaluation.
    pub evaluation_id: String,
    /// The sink's receipt.
    pub receipt: Option<String>,
    /// The row of the golden set that it was of.
    pub golden_id: Option<String>,
    /// That row's data set.
    pub dataset: Option<String>,
    /// From when on nobody is at it any more, in Unix milliseconds; none where the sink was never sent it.
    pub until_ms: Option<i64>,
}

/// What is left.
#[derive(Default)]
pub(super) struct Left {
    /// Deliveries that were made, tried or begun, by sink.
    pub delivered: BTreeMap<String, u64>,
    /// Outbox rows to be written: `delivery_id`, `sink`, `retracts`, `due_ms`.
    pub rows: Vec<Value>,
}

impl Left {
    /// What is left of deleted rows, where the sinks of these names are told.
    pub(super) fn of(deleted: Vec<Deleted>, retracting: &[String]) -> Self {
        let mut left = Self::default();
        for row in deleted {
            let Some(due_ms) = row.until_ms else { continue };
            if retracting.contains(&row.sink) {
                let Deleted { sink, delivery_id, evaluation_id, receipt, .. } = &row;
                let golden = row.golden_id.as_ref().zip(row.dataset.as_ref());
                let golden = golden.map(|(id, dataset)| json!({"golden_id": id, "dataset": dataset}));
                left.rows.push(json!({
                    "delivery_id": id::derived("retraction", &[delivery_id]),
                    "sink": sink,
                    "retracts": {
                        "delivery_id": delivery_id, "evaluation_id": evaluation_id, "receipt": receipt, "golden": golden,
                    },
                    "due_ms": due_ms,
                }));
            }
            *left.delivered.entry(row.sink).or_default() += 1;
        }
        left
    }

    /// Adds routes that may have told somebody, each as often as it may.
    pub(super) fn told(&mut self, routes: Vec<String>) {
        for route in routes {
            *self.delivered.entry(format!("notify.{route}")).or_default() += 1;
        }
    }

    /// The rows as a JSON array; none where there is nothing to write.
    pub(super) fn json(&self) -> Option<String> {
        (!self.rows.is_empty()).then(|| Value::from_iter(self.rows.iter().cloned()).to_string())
    }
}
