//! Examples that stand beside a rule: what must pass and what must fail.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domain::call::{Latency, Sampling, ToolCall};
use crate::domain::{Call, Content, Context};

/// The parts of a call that rules look at.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    /// The answer.
    pub(super) answer: String,
    /// What the user asked.
    input: Option<String>,
    /// Passages.
    #[serde(default)]
    contexts: Vec<Context>,
    /// Ids of what retrieval returned.
    retrieval_ids: Option<Vec<String>>,
    /// Why generation ended; `stop` when absent.
    finish_reason: Option<String>,
    /// Tool calls in order.
    #[serde(default)]
    tool_calls: Vec<ToolCall>,
    /// Typed error.
    error_class: Option<String>,
    /// Schema that the answer should satisfy.
    output_schema: Option<Value>,
}

impl Example {
    /// A call that has these parts.
    pub(super) fn call(&self) -> Call {
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
            tokens_in: 1,
            tokens_out: 1,
            cached_tokens: None,
            eval_judge_tokens: None,
            embedding_tokens: None,
            cost_usd: None,
            latency_ms: Latency { ttft: None, total: 1.0, tools: None },
            finish_reason: self.finish_reason.clone().unwrap_or_else(|| "stop".into()),
            error_class: self.error_class.clone(),
            messages_hash: word(),
            response_hash: None,
            retrieval_ids: self.retrieval_ids.clone(),
            tool_calls: self.tool_calls.clone(),
            guardrail_decisions: Vec::new(),
            feedback: None,
            metadata: Map::new(),
            content: Content {
                input: self.input.clone(),
                answer: self.answer.clone(),
                contexts: self.contexts.clone(),
                output_schema: self.output_schema.clone(),
            },
            sampling: Sampling::default(),
        }
    }
}
