//! A delivery that is undone: its call was erased.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a sink is told to delete. It says nothing of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retraction {
    /// The delivery, by the id under which the sink was sent it. Perhaps it never arrived.
    pub delivery_id: Uuid,
    /// The evaluation: the ids of its scores are derived from it.
    pub evaluation_id: Uuid,
    /// What the sink said when it took the delivery: how it finds again what it is to delete. None where it said nothing, or where
    /// nobody knows whether it took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// The row of the golden set that was sent, where it was one: by it the sink finds it also without a receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<GoldenKey>,
}

/// A row of the golden set, as sinks know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenKey {
    /// Its id, under which sinks have it.
    pub golden_id: Uuid,
    /// Its data set.
    pub dataset: String,
}
