//! The call: one production LLM request and its answer, message version 1.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Largest message accepted, in bytes. SQS carries at most as much (1 MiB since 2025).
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Deepest nesting of arrays and objects accepted.
pub const MAX_DEPTH: usize = 64;
/// Largest `metadata`, in bytes of its JSON.
pub const MAX_METADATA_BYTES: usize = 16_000;

/// One LLM call as its producer saw it. Identity is (`tenant_id`, `request_id`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// Message version; 1 is the only one.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The producer's id of this call, unique within the tenant.
    #[schemars(length(min = 1, max = 200))]
    pub request_id: String,
    /// Trace that scores are attached to: 32 hex digits, or the trace backend's own id.
    #[schemars(length(min = 1, max = 200))]
    pub trace_id: String,
    /// Span within the trace: 16 hex digits, or the trace backend's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub span_id: Option<String>,
    /// When the call happened (RFC 3339 with offset); stamps every score.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub occurred_at: Timestamp,
    /// Product feature that made the call; a slice.
    #[schemars(length(min = 1, max = 200))]
    pub feature: String,
    /// Tenant the call belongs to; a slice and a border of access.
    #[schemars(length(min = 1, max = 200))]
    pub tenant_id: String,
    /// Version of the prompt; a slice.
    #[schemars(length(min = 1, max = 200))]
    pub prompt_version: String,
    /// Deployment environment: `production`, `staging`, …
    #[serde(default = "default_environment")]
    #[schemars(length(min = 1, max = 100))]
    pub environment: String,
    /// Model that was asked for.
    #[schemars(length(min = 1, max = 200))]
    pub model_requested: String,
    /// Model that answered; a difference to `model_requested` is a silent swap.
    #[schemars(length(min = 1, max = 200))]
    pub model_resolved: String,
    /// Provider that served the call.
    #[schemars(length(min = 1, max = 200))]
    pub provider: String,
    /// The provider's own id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub provider_request_id: Option<String>,
    /// Which try of the same request this is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: Option<f64>,
    /// Sampling seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// Prompt tokens served from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Tokens that an inline judge of the producer used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_judge_tokens: Option<u64>,
    /// Tokens that retrieval's embedding used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_tokens: Option<u64>,
    /// Cost of the call in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cost_usd: Option<f64>,
    /// Latencies of the call.
    pub latency_ms: Latency,
    /// Why generation ended, in the provider's word: `stop`, `length`, `tool_calls`, …
    #[schemars(length(min = 1, max = 100))]
    pub finish_reason: String,
    /// Typed error: `rate_limit`, `context_overflow`, `guardrail_block`, `empty`, `invalid_tool_args`,
    /// `provider_5xx`, `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub error_class: Option<String>,
    /// Hash of the prompt messages.
    #[schemars(length(min = 1, max = 200))]
    pub messages_hash: String,
    /// First 16 hex digits of SHA-256 of the whitespace-folded, lower-cased answer; computed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub response_hash: Option<String>,
    /// Ids of what retrieval returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10_000))]
    pub retrieval_ids: Option<Vec<String>>,
    /// Tool calls in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub tool_calls: Vec<ToolCall>,
    /// What guardrails decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1_000))]
    pub guardrail_decisions: Vec<GuardrailDecision>,
    /// What the user thought; may also arrive later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
    /// Scalars by name, 16 kB at most. Unknown top-level fields of the message are kept under `extra`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "metadata_schema")]
    pub metadata: Map<String, Value>,
    /// What is evaluated.
    pub content: Content,
    /// How this call came into the sample.
    #[serde(default)]
    pub sampling: Sampling,
}

/// Latencies in milliseconds. Decoding took `total` − `ttft`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Time to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub ttft: Option<f64>,
    /// The whole call.
    #[schemars(range(min = 0.0))]
    pub total: f64,
    /// Time spent in tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub tools: Option<f64>,
}

/// One tool call of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// Tool name.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// Hash of the arguments; the same name and hash again and again is a loop.
    #[schemars(length(min = 1, max = 200))]
    pub args_hash: String,
    /// How long the tool took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub latency_ms: Option<f64>,
}

/// One decision of a guardrail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuardrailDecision {
    /// Where it stood: `input`, `output`, …
    #[schemars(length(max = 100))]
    pub stage: String,
    /// What it did: `allow`, `block`, …
    #[schemars(length(max = 100))]
    pub action: String,
    /// What it looked for: `toxicity`, `injection`, …
    #[schemars(length(max = 100))]
    pub dimension: String,
}

/// What the user thought of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Feedback {
    /// Thumb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbs: Option<Thumbs>,
    /// Whether the user asked for a person.
    #[serde(default)]
    pub escalated: bool,
    /// Customer satisfaction, 1 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub csat: Option<u8>,
}

/// Direction of a thumb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Thumbs {
    /// Good.
    Up,
    /// Bad.
    Down,
}

/// What is evaluated: input, answer and the contexts that the answer should stand on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Content {
    /// What the user asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// What the model answered.
    pub answer: String,
    /// Retrieved passages in the order they were shown to the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub contexts: Vec<Context>,
    /// Name of a schema in the rule packs, or a schema, that the answer should satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

/// One retrieved passage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Context {
    /// Id of the passage, as in `retrieval_ids`.
    #[schemars(length(min = 1, max = 200))]
    pub id: String,
    /// Text of the passage.
    pub text: String,
    /// Retrieval's score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// How a call came into the sample; rates are weighted by 1 / `probability`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sampling {
    /// Why it was taken.
    #[serde(default = "default_sampling_reason")]
    pub reason: SamplingReason,
    /// Inclusion probability, in (0, 1]; 1 when absent.
    #[serde(default = "default_probability")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    pub probability: f64,
    /// Stratum it was drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub stratum: Option<String>,
}

/// Why a call was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplingReason {
    /// Head sampling with a fixed rate.
    Head,
    /// Drawn within its stratum.
    Stratified,
    /// Every failed call is taken.
    AlwaysError,
    /// Every blocked call is taken.
    AlwaysBlock,
    /// Every call with feedback is taken.
    AlwaysFeedback,
    /// From the staging environment.
    Staging,
    /// Sent by hand.
    Manual,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { reason: default_sampling_reason(), probability: default_probability(), stratum: None }
    }
}

/// Where a call ran that does not say.
fn default_environment() -> String {
    "production".into()
}

/// Why a call was taken that does not say.
fn default_sampling_reason() -> SamplingReason {
    SamplingReason::Head
}

/// How likely a call was taken that does not say: certain.
fn default_probability() -> f64 {
    1.0
}

/// Schema of `metadata`: scalars, and the object `extra` with the unknown fields of the message.
fn metadata_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "properties": { "extra": { "type": "object" } },
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] }
    })
}
