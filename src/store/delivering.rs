//! What is known of deliveries: what became of one, those that are dead, and how each sink stands.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

/// An outbox row that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The row.
    pub delivery_id: Uuid,
    /// What the sink needs to delete it again.
    pub receipt: Option<String>,
}

/// An outbox row that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The row.
    pub delivery_id: Uuid,
    /// When to try again, in milliseconds from now; none when it is given up.
    pub after_ms: Option<i64>,
    /// Whether it was an attempt on this row: it is none where the sink as a whole was down.
    pub is_attempt: bool,
    /// Why.
    pub error: String,
}

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeadDelivery {
    /// The row.
    pub delivery_id: Uuid,
    /// The sink.
    pub sink: String,
    /// Whether it was to take something back rather than to deliver it.
    pub retracts: bool,
    /// Tenant of the call; none of a retraction, whose call is erased.
    pub tenant_id: Option<String>,
    /// The producer's id of the call, likewise.
    pub request_id: Option<String>,
    /// Feature of the call, likewise.
    pub feature: Option<String>,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was written, in Unix milliseconds.
    pub created_ms: i64,
}

/// How a sink stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkState {
    /// The sink.
    pub sink: String,
    /// Rows that are neither delivered nor dead.
    pub pending: u64,
    /// Age of the oldest of them, in milliseconds.
    pub oldest_ms: Option<i64>,
    /// Rows that were given up, but for those that somebody dropped.
    pub dead: u64,
    /// Since when it is paused, in Unix milliseconds.
    pub paused_ms: Option<i64>,
    /// Why the pending row that was put off the furthest waits; where none does, why the newest dead row is dead.
    pub last_error: Option<String>,
}
