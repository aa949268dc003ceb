//! What a person said of one evaluation.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A person's judgement of an answer: the newest of an evaluation counts, under one id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// UUIDv5 of the evaluation and who said it: said again, it overwrites.
    pub label_id: Uuid,
    /// The evaluation that was judged.
    pub evaluation_id: Uuid,
    /// Tenant of the call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// Trace that the label belongs to.
    pub trace_id: String,
    /// Span within the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// When the call happened: it stamps the score, and is part of its identity in some backends.
    pub occurred_at: Timestamp,
    /// When it was said.
    pub labelled_at: Timestamp,
    /// What was said.
    pub label: Said,
    /// Who said it.
    pub reviewer: String,
    /// Why; a person's own words, perhaps empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What a person says of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// Nobody can tell.
    Unsure,
}

impl Said {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsure => "unsure",
        }
    }

    /// What a word says; none where it is none of the three.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Pass, Self::Fail, Self::Unsure].into_iter().find(|said| said.as_str() == word)
    }
}
