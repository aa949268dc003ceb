//! How a rule pack is written: the TOML of `rules/*.toml`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{OnFail, Rule, citations, json_schema, numbers, personal, phrases, secrets, shape, urls};
use crate::domain::{
    Call, Content, Context,
    call::{Latency, Sampling, ToolCall},
};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pack {
    /// Rules in order.
    #[serde(default)]
    pub rule: Vec<Written>,
    /// Named JSON schemas, as JSON text.
    #[serde(default)]
    pub schemas: BTreeMap<String, String>,
}

/// One rule as written. Unknown keys are refused by the kind's own options, which see what is left over.
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    /// Unique in its pack.
    pub id: String,
    /// For people.
    #[serde(default, rename = "description")]
    _description: String,
    /// What a failure means.
    pub on_fail: OnFail,
    /// Features it applies to; empty for all.
    #[serde(default)]
    pub features: Vec<String>,
    /// Calls that pass.
    #[serde(default)]
    pub passes: Vec<Example>,
    /// Calls that fail.
    #[serde(default)]
    pub fails: Vec<Example>,
    /// What it checks.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a rule checks, with its options.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    Citations(citations::Options),
    Phrases(phrases::Options),
    JsonSchema(json_schema::Options),
    Length(shape::Length),
    Empty(shape::Empty),
    Refusal(phrases::Refusal),
    Truncated(shape::Truncated),
    NumbersGrounded(numbers::Options),
    UrlsGrounded(urls::Options),
    ToolLoop(shape::ToolLoop),
    Secrets(secrets::Options),
    PersonalData(personal::Options),
}

impl Kind {
    /// All kinds by name.
    #[cfg(test)]
    pub const NAMES: [&'static str; 12] = [
        "citations", "phrases", "json_schema", "length", "empty", "refusal", "truncated", "numbers_grounded",
        "urls_grounded", "tool_loop", "secrets", "personal_data",
    ];

    /// The word in the pack.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Citations(_) => "citations",
            Self::Phrases(_) => "phrases",
            Self::JsonSchema(_) => "json_schema",
            Self::Length(_) => "length",
            Self::Empty(_) => "empty",
            Self::Refusal(_) => "refusal",
            Self::Truncated(_) => "truncated",
            Self::NumbersGrounded(_) => "numbers_grounded",
            Self::UrlsGrounded(_) => "urls_grounded",
            Self::ToolLoop(_) => "tool_loop",
            Self::Secrets(_) => "secrets",
            Self::PersonalData(_) => "personal_data",
        }
    }

    /// Compiles the rule; the error says which option and what to do.
    pub fn build(&self, schemas: &BTreeMap<String, String>) -> Result<Box<dyn Rule>, String> {
        Ok(match self {
            Self::Citations(options) => Box::new(citations::Citations::new(options)?),
            Self::Phrases(options) => Box::new(phrases::Phrases::new(options)?),
            Self::JsonSchema(options) => Box::new(json_schema::JsonSchema::new(options, schemas)?),
            Self::Length(options) => Box::new(options.clone()),
            Self::Empty(options) => Box::new(options.clone()),
            Self::Refusal(options) => Box::new(phrases::RefusalRule::new(options)?),
            Self::Truncated(options) => Box::new(options.clone()),
            Self::NumbersGrounded(options) => Box::new(options.clone()),
            Self::UrlsGrounded(options) => Box::new(urls::Urls::new(options)?),
            Self::ToolLoop(options) => Box::new(options.clone()),
            Self::Secrets(_) => Box::new(secrets::Secrets::new()?),
            Self::PersonalData(options) => Box::new(personal::Personal::new(options)?),
        })
    }
}

/// A call in a pack: what differs from a minimal one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Example {
    pub answer: String,
    pub input: Option<String>,
    pub contexts: Vec<Context>,
    pub retrieval_ids: Option<Vec<String>>,
    pub finish_reason: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    pub error_class: Option<String>,
    pub output_schema: Option<Value>,
}

impl Example {
    /// The call that it stands for.
    pub fn into_call(self) -> Call {
        let word = || "example".to_owned();
        Call {
            version: 1,
            request_id: word(),
            trace_id: word(),
            span_id: None,
            occurred_at: Timestamp::UNIX_EPOCH,
            feature: word(),
            tenant_id: word(),
            prompt_version: word(),
            environment: word(),
            model_requested: word(),
            model_resolved: word(),
            provider: word(),
            provider_request_id: None,
            attempt: None,
            temperature: None,
            seed: None,
            tokens_in: 0,
            tokens_out: 0,
            cached_tokens: None,
            eval_judge_tokens: None,
            embedding_tokens: None,
            cost_usd: None,
            latency_ms: Latency { ttft: None, total: 0.0, tools: None },
            finish_reason: self.finish_reason.unwrap_or_else(|| "stop".into()),
            error_class: self.error_class,
            messages_hash: word(),
            response_hash: None,
            retrieval_ids: self.retrieval_ids,
            tool_calls: self.tool_calls,
            guardrail_decisions: Vec::new(),
            feedback: None,
            metadata: Map::<String, Value>::new(),
            content: Content {
                input: self.input,
                answer: self.answer,
                contexts: self.contexts,
                output_schema: self.output_schema,
            },
            sampling: Sampling::default(),
        }
    }
}
