//! What erasing leaves of deliveries: how many each sink may have, and what the sinks are told to delete.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::id;

/// A row that was deleted from the outbox: sink, delivery and evaluation, the sink's receipt, and from when on nobody is at it any more, in Unix
/// milliseconds; none where the sink was never sent it.
pub(super) type Deleted = (String, String, String, Option<String>, Option<i64>);

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
        for (sink, delivery_id, evaluation_id, receipt, due_ms) in deleted {
            let Some(due_ms) = due_ms else { continue };
            if retracting.contains(&sink) {
                left.rows.push(json!({
                    "delivery_id": id::derived("retraction", &[&delivery_id]),
                    "sink": sink,
                    "retracts": {"delivery_id": delivery_id, "evaluation_id": evaluation_id, "receipt": receipt},
                    "due_ms": due_ms,
                }));
            }
            *left.delivered.entry(sink).or_default() += 1;
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
