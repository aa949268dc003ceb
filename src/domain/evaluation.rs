//! The evaluation: what one evaluator version found out about one call.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Claim, ClaimLabel, DecidedBy, Reason, Verdict};

/// One row per (`tenant_id`, `request_id`, `evaluator_version`), for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// UUIDv8 of `occurred_at` and (`tenant_id`, `request_id`, `evaluator_version`): a repeat has the same id.
    pub evaluation_id: Uuid,
    /// Tenant of the call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// Hash over everything that can change a verdict.
    pub evaluator_version: String,
    /// Trace that the scores belong to.
    pub trace_id: String,
    /// Span within the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// Feature of the call.
    pub feature: String,
    /// When the call happened.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub occurred_at: Timestamp,
    /// When it was evaluated.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub evaluated_at: Timestamp,
    /// The conclusion.
    pub verdict: Verdict,
    /// The stage that settled it.
    pub decided_by: DecidedBy,
    /// Why, most important first.
    pub reasons: Vec<Reason>,
    /// Support of the answer by its contexts, 0..1; null where it could not be measured.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub faithfulness: Option<f64>,
    /// Whether text was cut before the model saw it; `tokens_cut` says how much.
    pub truncated: bool,
    /// Tokens of contexts or claims that no model input holds because a limit cut them.
    pub tokens_cut: u64,
    /// Claims with their evidence, in the answer's order.
    pub claims: Vec<Claim>,
    /// Outcome of every rule that applies to the feature, in pack order.
    pub rules: Vec<RuleResult>,
    /// What the LLM judge said; null when it was not asked.
    pub judge: Option<Judgement>,
    /// Each stage in order, with its outcome and duration.
    pub stages: Vec<StageReport>,
    /// What evaluating cost, in US dollars; null where a judge was asked whose price nobody knows.
    #[schemars(range(min = 0.0))]
    pub cost_usd: Option<f64>,
    /// What asking the judge would have cost, in US dollars, where a stage before it decided; null without a judge to price.
    pub judge_avoided_usd: Option<f64>,
    /// Inclusion probability of the call, (0, 1].
    pub probability: f64,
}

/// What the LLM judge said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// Model that was asked.
    pub model: String,
    /// Model that answered, as its server calls it: a name that is asked for may be an alias. None where nobody was asked, or
    /// where the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_resolved: Option<String>,
    /// Version of the judge's prompt.
    pub prompt_version: String,
    /// Support, 0..1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score: f64,
    /// The judge's label.
    pub label: String,
    /// The judge's reason; untrusted text.
    pub reason: String,
    /// Prompt tokens of the answer; those of questions that failed are with the stage.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// Cost in US dollars, that of questions that failed included; null where the price of one that was asked is unknown.
    pub cost_usd: Option<f64>,
    /// Whether all of the answer came from our cache.
    pub cached: bool,
    /// What the judge is called in the configuration.
    #[serde(default)]
    pub judge: String,
    /// Whether judge and generator are known to come from one house: it may favour its own.
    #[serde(default)]
    pub related: bool,
    /// What it said of each claim that it was asked about.
    #[serde(default)]
    pub claims: Vec<JudgedClaim>,
    /// What was asked and answered, redacted as the call; not sent to sinks, and gone where the answer is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// SHA-256 in hex of what the judge wrote, redacted; it stays where the exchange goes. None where nothing was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_sha256: Option<String>,
}

/// What the judge said of one claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JudgedClaim {
    /// Its place among the evaluation's claims, from 0.
    pub claim: usize,
    /// What the evidence says about it.
    pub label: ClaimLabel,
    /// How probable it is that the evidence supports it, 0..1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub support: f64,
    /// Why; untrusted text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether this came from our cache.
    pub cached: bool,
}

/// One question and its answer, as they went over the wire but for the marker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exchange {
    /// The document that was asked about.
    pub asked: String,
    /// What the judge wrote; untrusted text.
    pub answered: String,
}

/// What one rule found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleResult {
    /// Rule id, `pack.rule`.
    pub rule: String,
    /// Result.
    pub outcome: RuleOutcome,
    /// What was found, in a few words; never a secret or a personal value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Where in the answer, in Unicode scalar values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
}

/// Result of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// The answer satisfies the rule.
    Pass,
    /// The answer breaks the rule.
    Fail,
    /// The rule cannot tell.
    Unsure,
    /// The call has nothing that the rule speaks about.
    NotApplicable,
    /// The rule could not run.
    Error,
}

/// Part of the answer, in Unicode scalar values, end exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// What stands there: a cited id, a rule's label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// How one stage of the cascade went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// How it ended.
    pub outcome: StageOutcome,
    /// Class of the error, where `outcome` is `error`; why it was skipped, where it is `skipped`; the commonest doubt
    /// about the claims, where it is `unsure` for that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Wall time in milliseconds, waiting for a batch included.
    #[schemars(range(min = 0.0))]
    pub ms: f64,
    /// Questions to judges that brought no verdict, in the order in which they were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<JudgeFailure>,
}

/// A question to a judge that brought no verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JudgeFailure {
    /// What the judge is called in the configuration.
    pub judge: String,
    /// Why, in a word: `invalid`, `contradictory`, `declined`, `timeout`, `down`, …; `deadline` where the time for the call was over.
    pub class: String,
    /// Prompt tokens: as the server counts them, what they may have been where it may be paid and nobody says, else 0.
    pub tokens_in: u64,
    /// Completion tokens, likewise.
    pub tokens_out: u64,
    /// Cost of these in US dollars; null where the model's price is unknown.
    pub cost_usd: Option<f64>,
    /// The document that was asked about, redacted as the call. Like `answered` it is not sent to sinks, and gone where the
    /// answer is cut. None where a failure before this one has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What the judge wrote, redacted, cut to 4,000 characters; untrusted text. None where it wrote nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// SHA-256 in hex of that text, which stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_sha256: Option<String>,
}

/// A stage of the cascade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Cheap deterministic rules.
    Rules,
    /// The local NLI model.
    Nli,
    /// The LLM judge.
    Judge,
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageOutcome {
    /// It ran and was sure.
    Decided,
    /// It ran and was not sure.
    Unsure,
    /// It had nothing to run on, or is switched off.
    Skipped,
    /// It could not run. An error is never a score.
    Error,
}

impl StageOutcome {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Unsure => "unsure",
            Self::Skipped => "skipped",
            Self::Error => "error",
        }
    }
}

impl Evaluation {
    /// Takes out what judges were asked and wrote; the digests of what they wrote stay.
    pub fn forget_exchanges(&mut self) {
        if let Some(judge) = &mut self.judge {
            judge.exchange = None;
        }
        for failure in self.failures_mut() {
            (failure.asked, failure.answered) = (None, None);
        }
    }

    /// Questions to judges that brought no verdict.
    pub fn failures(&self) -> impl Iterator<Item = &JudgeFailure> {
        self.stages.iter().flat_map(|stage| &stage.failures)
    }

    /// The same, to be changed.
    pub fn failures_mut(&mut self) -> impl Iterator<Item = &mut JudgeFailure> {
        self.stages.iter_mut().flat_map(|stage| &mut stage.failures)
    }
}

impl RuleOutcome {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsure => "unsure",
            Self::NotApplicable => "not_applicable",
            Self::Error => "error",
        }
    }
}

impl Stage {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Nli => "nli",
            Self::Judge => "judge",
        }
    }
}
