//! A row of the golden set: a call of production with what people said of it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Context, id, label::Said};

/// One example that the next release is tested with. Its texts are those of a call, redacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Golden {
    /// UUIDv5 of data set and call: promoted again, it overwrites.
    pub golden_id: Uuid,
    /// The data set it belongs to, by its name at the backend.
    pub dataset: String,
    /// Tenant of the call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// Trace of the call.
    pub trace_id: String,
    /// Span within the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// Feature of the call.
    #[serde(default)]
    pub feature: String,
    /// When the call happened.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub occurred_at: Timestamp,
    /// What the user asked.
    pub input: String,
    /// What the answer should stand on, in the order that the model saw.
    pub contexts: Vec<Context>,
    /// What the model answered.
    pub actual: String,
    /// The schema that the call wanted its answer to satisfy, or the name of one: rules hold fresh answers to it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// What it should have answered, where somebody wrote it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What the answer has to keep to, where no one answer is the right one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What people said of the answer.
    pub label: Said,
    /// Why; people's own words, perhaps empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// Who said it.
    pub reviewers: Vec<String>,
    /// Share of the reviewers that said the same, 0..1; none where one person looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Version that evaluated the call.
    pub evaluator_version: String,
    /// Version of the call's prompt.
    pub prompt_version: String,
    /// Model that answered.
    pub model: String,
    /// Where the row is from: `production`.
    pub source: String,
}

impl Golden {
    /// The id of a call in a data set.
    pub fn id(dataset: &str, tenant_id: &str, request_id: &str) -> Uuid {
        id::derived("golden", &[dataset, tenant_id, request_id])
    }
}
