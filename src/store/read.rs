//! What a store tells: the story of a call, dead letters, due deliveries, the report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::reviewing::LabelEntry;
use crate::domain::{Call, Evaluation, Golden, Label, Retraction};

/// Everything known about one call.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Story {
    /// Tenant, where known.
    pub tenant_id: Option<String>,
    /// The producer's id.
    pub request_id: String,
    /// The call as received first, and when (Unix milliseconds) and from which source.
    pub received: Option<Received>,
    /// Evaluations, one per evaluator version, oldest first.
    pub evaluations: Vec<Evaluation>,
    /// Deliveries to sinks.
    pub deliveries: Vec<DeliveryRow>,
    /// Why it is in review, by evaluation.
    pub reviews: Vec<ReviewRow>,
    /// What people said, by evaluation, oldest first.
    pub labels: Vec<LabelEntry>,
    /// Dead letters with this request id.
    pub dead_letters: Vec<DeadLetterRow>,
    /// History, oldest first.
    pub ledger: Vec<LedgerEntry>,
}

/// The first reception of a call.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Received {
    /// The call, as far as it is kept.
    pub call: Call,
    /// What was cut off.
    pub cut: Option<Cut>,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// From which source.
    pub source: String,
}

/// A stored evaluation with its call.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The call, as far as it is kept.
    pub call: Call,
    /// Whether its answer was cut.
    pub cut: bool,
    /// The evaluation.
    pub evaluation: Evaluation,
}

/// Which evaluations are read.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// From this Unix time in milliseconds on.
    pub since_ms: i64,
    /// Behind this one, by time and id.
    pub after: Option<(i64, Uuid)>,
    /// At most so many.
    pub limit: u32,
}

impl Page {
    /// The first page.
    pub fn since(since_ms: i64, limit: u32) -> Self {
        Self { since_ms, after: None, limit }
    }

    /// The page behind this evaluation.
    pub(super) fn behind(&self, evaluated_ms: i64, evaluation_id: Uuid) -> Self {
        Self { after: Some((evaluated_ms, evaluation_id)), ..*self }
    }

    /// Where it begins: behind this time and id.
    pub(super) fn begin(&self) -> (i64, Uuid) {
        self.after.unwrap_or((self.since_ms.saturating_sub(1), Uuid::max()))
    }
}

/// What an answer was before it was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// Its characters.
    pub answer_chars: usize,
    /// SHA-256 of all of it, in hex.
    pub answer_sha256: String,
}

/// One outbox row as `why` shows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DeliveryRow {
    /// Sink.
    pub sink: String,
    /// Attempts so far.
    pub attempts: i64,
    /// When it was delivered, in Unix milliseconds.
    pub delivered_ms: Option<i64>,
    /// Why it will not be delivered any more.
    pub dead_reason: Option<String>,
    /// What the last attempt said.
    pub last_error: Option<String>,
}

/// One review item as `why` shows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ReviewRow {
    /// The item.
    pub review_id: Uuid,
    /// Why it is there.
    pub reason: String,
    /// Its inclusion probability.
    pub probability: f64,
    /// `open` until people have decided, `disputed` while they differ.
    pub state: String,
}

/// One dead letter.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DeadLetterRow {
    /// UUIDv5 of the payload.
    pub dead_letter_id: Uuid,
    /// What redaction left of the bytes; not serialised, they may be anything. Empty in a list.
    #[serde(skip)]
    pub payload: Vec<u8>,
    /// Size of the payload.
    pub payload_bytes: usize,
    /// Class, as in [`crate::domain::DeadClass`].
    pub class: String,
    /// JSON Pointer to the field.
    pub pointer: String,
    /// What was found.
    pub detail: String,
    /// What to change.
    pub remedy: String,
    /// Tenant, where known.
    pub tenant_id: Option<String>,
    /// Request id, where known.
    pub request_id: Option<String>,
    /// How often it was tried.
    pub attempts: i64,
    /// Where it came from.
    pub source: String,
    /// When it was written, in Unix milliseconds.
    pub created_ms: i64,
}

impl DeadLetterRow {
    /// Where it is wrong, in words.
    pub fn place(&self) -> &str {
        if self.pointer.is_empty() { "the message" } else { &self.pointer }
    }
}

/// One entry of a call's history.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LedgerEntry {
    /// What happened: `evaluated`, `retried`, `conflict`, `dead`, `requeued`, `dropped`, `revealed`, `erased`,
    /// `names_left`, `labelled`, `unlabelled`, `feedback`, `asked`.
    pub event: String,
    /// Evaluator version, digest or class.
    pub detail: String,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
}

/// One due delivery with what a sink needs for it.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    /// UUIDv8 of time, sink and evaluation: the receiver's idempotency key. Of a retraction, a UUIDv5 of its own.
    pub delivery_id: Uuid,
    /// Attempts before this one.
    pub attempts: u32,
    /// For how long it has waited, in milliseconds, since it was written or requeued.
    pub age_ms: i64,
    /// What the sink is to do.
    pub due: Due,
}

/// What a sink is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Due {
    /// Take the scores of an evaluation.
    Evaluation(Box<Evaluation>),
    /// Take what a person said of one, in place of what was said before.
    Label(Box<Label>),
    /// Take a row of the golden set, in place of what it was before.
    Golden(Box<Golden>),
    /// Delete what it was sent.
    Retraction(Retraction),
}

/// Totals over stored evaluations.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Report {
    /// Evaluations by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// By feature, then verdict.
    pub features: BTreeMap<String, BTreeMap<String, u64>>,
    /// By rule, then outcome.
    pub rules: BTreeMap<String, BTreeMap<String, u64>>,
    /// By stage.
    pub stages: Vec<StageTotals>,
    /// Reasons of verdicts.
    pub reasons: BTreeMap<String, u64>,
    /// Calls that wait for a judge, since whenever.
    pub deferred: u64,
    /// Claims, and how many the model could not judge.
    pub claims: ClaimTotals,
    /// Dead letters by class.
    pub dead_letters: BTreeMap<String, u64>,
    /// Open review items by reason.
    pub reviews: BTreeMap<String, u64>,
    /// Outbox rows by sink and state.
    pub deliveries: BTreeMap<String, BTreeMap<String, u64>>,
    /// Calls with the lowest faithfulness.
    pub worst: Vec<Story>,
}

/// How many claims were read, and how many of them the model could not judge.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct ClaimTotals {
    /// All claims.
    pub claims: u64,
    /// Those with a doubt, by its code.
    pub doubted: BTreeMap<String, u64>,
}

/// How often a stage ended in one way and how long it took, by nearest rank. The stage `all` is the sum over an
/// evaluation's stages.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StageTotals {
    /// The stage.
    pub stage: String,
    /// The outcome.
    pub outcome: String,
    /// How often.
    pub calls: i64,
    /// Half of them took at most so many milliseconds.
    pub p50_ms: f64,
    /// 95 of 100 took at most so many milliseconds.
    pub p95_ms: f64,
    /// Longest time in milliseconds.
    pub max_ms: f64,
}
