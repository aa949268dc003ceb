//! Dead letters: inputs that will never become an evaluation, kept with the reason and the redacted bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why one input can never be evaluated, and what its producer can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{class} at {}: {detail}; {remedy}", if pointer.is_empty() { "the message" } else { pointer })]
pub struct DeadLetter {
    /// What kind of fault it is.
    pub class: DeadClass,
    /// JSON Pointer (RFC 6901) to the field; empty for the whole message.
    pub pointer: String,
    /// What was found, without quoting content.
    pub detail: String,
    /// What to change.
    pub remedy: String,
    /// Tenant, where the message could be read that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Request id, where the message could be read that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Kind of fault that ends in the dead-letter table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadClass {
    /// No bytes, or white space only.
    Empty,
    /// More than 1 MiB.
    TooLarge,
    /// Not UTF-8.
    BadUtf8,
    /// A byte order mark in front.
    Bom,
    /// Not one JSON value: syntax, lone surrogate, NaN, trailing text.
    BadJson,
    /// Nested deeper than 64.
    TooDeep,
    /// `version` is not 1.
    UnknownVersion,
    /// A required field is absent.
    MissingField,
    /// A field has another JSON type.
    WrongType,
    /// A value is out of its range, too long or not one of its words.
    BadValue,
    /// The call was tried as often as allowed without an evaluation.
    AttemptsExhausted,
    /// The call waited for a judge, and its attempts then ended without an evaluation.
    Deferred,
}

impl DeadClass {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::BadUtf8 => "bad_utf8",
            Self::Bom => "bom",
            Self::BadJson => "bad_json",
            Self::TooDeep => "too_deep",
            Self::UnknownVersion => "unknown_version",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::BadValue => "bad_value",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Deferred => "deferred",
        }
    }
}

impl std::fmt::Display for DeadClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
