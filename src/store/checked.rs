//! The newest evaluations of a scope, by what they say: what counts at a glance leads to its calls.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{StoreError, rows};

/// Which evaluations are looked for. A field that is none lets all through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sought<'a> {
    /// Made at this Unix time in milliseconds, or later.
    pub since_ms: i64,
    /// With this verdict, as JSON writes it.
    pub verdict: Option<&'a str>,
    /// Of this feature.
    pub feature: Option<&'a str>,
    /// Of which this rule failed, could not tell or could not run.
    pub rule: Option<&'a str>,
    /// Older than this one, by time and id.
    pub before: Option<(i64, Uuid)>,
    /// At most so many.
    pub limit: u32,
}

/// What a list shows of an evaluation. Its words are read by nobody but people: one of another version hides no list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Checked {
    /// The evaluation.
    pub evaluation_id: Uuid,
    /// Tenant of its call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// Feature of the call.
    pub feature: String,
    /// What is concluded.
    pub verdict: String,
    /// Who decided.
    pub decided_by: String,
    /// Why.
    pub reasons: Vec<String>,
    /// How well the contexts support the answer, 0 to 1.
    pub faithfulness: Option<f64>,
    /// When it was made, in Unix milliseconds.
    pub evaluated_ms: i64,
}

impl Checked {
    /// Reads a row.
    pub(super) fn of<R: rows::Columns>(row: &R) -> Result<Self, StoreError> {
        Ok(Self {
            evaluation_id: rows::uuid("evaluation id", &rows::text(row, "evaluation_id")?)?,
            tenant_id: rows::text(row, "tenant_id")?,
            request_id: rows::text(row, "request_id")?,
            feature: rows::text(row, "feature")?,
            verdict: rows::text(row, "verdict")?,
            decided_by: rows::text(row, "decided_by")?,
            reasons: rows::json(row, "reasons")?,
            faithfulness: row.real("faithfulness")?,
            evaluated_ms: row.number("evaluated_ms")?,
        })
    }
}
