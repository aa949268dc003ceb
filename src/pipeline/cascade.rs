//! The cascade: rules, then NLI, then the judge where that is unsure, each timed, then the decision. What it is made of names
//! its version.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::json;

use super::{
    decide::{
        Circumstances, Decision, JUDGE_HI, JUDGE_LO, JudgeFound, NliFound, RulesFound, Support, decide,
    },
    judging::{Judges, Outcome as Asked, Paid},
    off_runtime::{Panicked, off_runtime},
    priority::Priorities,
    retry::share,
};
use crate::{
    domain::{
        Call, DecidedBy, Doubt, Evaluation, Judgement, RuleOutcome, RuleResult, Stage, StageOutcome,
        StageReport, call::Thumbs, id::sha256_hex,
    },
    evaluators::{
        nli::{
            calibration::Scale,
            evidence::{WindowConfig, has_text},
            score::{Faithfulness, Questions, ask, score},
        },
        rules::{OnFail, Rules},
    },
    faults::{crash_point, panic_on},
    inference::{Batcher, InferenceError},
    store::{ReviewItem, Until, evaluation_id},
};

/// Raised by hand when code changes what a verdict can be; `tests/it/revision.rs` says when.
pub const REVISION: u32 = 5;

/// Everything that judges a call.
pub struct Cascade {
    rules: Arc<Rules>,
    model: Option<(Batcher, String)>,
    nli: WindowConfig,
    scale: Scale,
    audit_rate: f64,
    priorities: Priorities,
    judges: Option<Judges>,
    version: String,
}

/// A judged call.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The evaluation.
    pub evaluation: Evaluation,
    /// The review item, where a person has to look.
    pub review: Option<ReviewItem>,
    /// The model's error, where it could not run: another attempt may do better.
    pub model_error: bool,
    /// Whether rules and model left it to the judge, be there one or not.
    pub wants_judge: bool,
    /// Why the judge cannot be asked yet, and when it may be: then this is no verdict.
    pub deferred: Option<(&'static str, Until)>,
}

impl Cascade {
    /// A cascade of these rules and, when there is one, this model with its digest, which is part of the version.
    pub fn new(
        rules: Rules,
        model: Option<(Batcher, String)>,
        nli: WindowConfig,
        scale: Scale,
        audit_rate: f64,
    ) -> Self {
        let digest = model.as_ref().map(|(_, digest)| digest.as_str());
        let ingredients = json!({
            "revision": REVISION, "rules": rules.digest(), "model": digest, "nli": nli, "scale": scale,
            "audit_rate": audit_rate,
        });
        let version = sha256_hex(ingredients.to_string().as_bytes())[..12].to_owned();
        let priorities = Priorities::default();
        Self { rules: Arc::new(rules), model, nli, scale, audit_rate, priorities, judges: None, version }
    }

    /// The same for calls that have gone through a redactor with this digest, which changes what there is to judge.
    pub fn after(self, redaction: &str) -> Self {
        let version = sha256_hex(format!("{} {redaction}", self.version).as_bytes())[..12].to_owned();
        Self { version, ..self }
    }

    /// The same with judges, whose policy is part of the version.
    pub fn with_judges(self, judges: Option<Judges>) -> Self {
        let Some(judges) = judges else { return self };
        let version = sha256_hex(format!("{} {}", self.version, judges.policy()).as_bytes())[..12].to_owned();
        Self { version, judges: Some(judges), ..self }
    }

    /// The same with what people want to see first: no verdict hangs on it.
    pub fn with_priorities(self, priorities: Priorities) -> Self {
        Self { priorities, ..self }
    }

    /// Short hash over everything that can change a verdict.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The model, for the stall watchdog.
    pub fn model(&self) -> Option<&Batcher> {
        self.model.as_ref().map(|(batcher, _)| batcher)
    }

    /// Digest of the model and the settings that change what it answers.
    pub fn model_digest(&self) -> Option<&str> {
        self.model.as_ref().map(|(_, digest)| digest.as_str())
    }

    /// Judges one call, whatever it waits for. A stage that could not run says so in the evaluation.
    ///
    /// # Errors
    /// [`Panicked`] when the call brings out a fault of ours; the caller counts it as a failed attempt.
    pub async fn judge(&self, call: &Arc<Call>) -> Result<Judged, Panicked> {
        let weighed = self.weigh(call).await?;
        Ok(self.conclude(call, weighed, Wait { waited: Duration::MAX, hold: true }).await)
    }

    /// What rules and model say of a call: all that is done here, on this machine.
    ///
    /// # Errors
    /// As [`Cascade::judge`].
    pub async fn weigh(&self, call: &Arc<Call>) -> Result<Weighed, Panicked> {
        let begun = Instant::now();
        let rules = {
            let (rules, call, bytes) = (Arc::clone(&self.rules), Arc::clone(call), text_bytes(call));
            let check = move || {
                panic_on(&call.request_id);
                rules.check(&call)
            };
            off_runtime(bytes, check).await?
        };
        let found = self.summarise(&rules);
        let stages = vec![stage(Stage::Rules, rules_outcome(found), "", begun)];
        crash_point("K3");
        let (nli, faithfulness, report) = self.faithfulness(call).await?;
        let (seen, band) = (self.circumstances(call), self.scale.band(&call.feature));
        let unjudged = decide(found, nli, JudgeFound::NotAsked, seen, band);
        let stages = stages.into_iter().chain([report]).collect();
        let faithfulness = faithfulness.unwrap_or_default();
        Ok(Weighed { rules, stages, found, nli, faithfulness, seen, unjudged })
    }

    /// The verdict on a call that was weighed: the judge is asked where rules and model are not sure.
    pub async fn conclude(&self, call: &Call, weighed: Weighed, wait: Wait) -> Judged {
        let judge = self.judge_unsure(call, &weighed, wait).await;
        let wants_judge = weighed.wants_judge();
        let Weighed { rules, mut stages, found, nli, faithfulness, seen, .. } = weighed;
        stages.extend(judge.report);
        let band = self.scale.band(&call.feature);
        let decision = decide(found, nli, judge.found, seen, band);
        let mut evaluation = self.evaluation(call, decision.clone(), faithfulness, (rules, stages));
        evaluation.judge = judge.judgement.map(|judgement| *judgement);
        let review = self.priorities.item((call, &evaluation), &decision, (band, self.audit_rate));
        (evaluation.cost_usd, evaluation.judge_avoided_usd) = (judge.paid.usd(), judge.avoided_usd);
        let model_error = nli == NliFound::Error;
        Judged { evaluation, review, model_error, wants_judge, deferred: judge.deferred }
    }

    /// Asks the judge where a decision without it wants one.
    async fn judge_unsure(&self, call: &Call, weighed: &Weighed, wait: Wait) -> JudgeStage {
        let begun = Instant::now();
        let Some(judges) = &self.judges else { return JudgeStage::default() };
        let ended = |found, outcome, why: &str| JudgeStage {
            found,
            report: Some(stage(Stage::Judge, outcome, why, begun)),
            ..JudgeStage::default()
        };
        let found = &weighed.faithfulness;
        if !weighed.wants_judge() {
            let decided = matches!(weighed.unjudged.decided_by, DecidedBy::Rules | DecidedBy::Nli);
            let avoided_usd = decided.then(|| judges.avoided_usd(call, found)).flatten();
            let skipped = ended(JudgeFound::NotAsked, StageOutcome::Skipped, "not_needed");
            return JudgeStage { avoided_usd, ..skipped };
        }
        let hold = wait.hold || !judges.may_wait(wait.waited);
        let (asked, mut paid) = judges.ask(call, found, hold).await;
        let deferred = judges.put_off(&asked, wait.waited);
        let mut judged = match asked {
            Asked::NotAsked => ended(JudgeFound::NotAsked, StageOutcome::Skipped, "nothing_to_ask"),
            Asked::Spent => ended(JudgeFound::Spent, StageOutcome::Skipped, "budget"),
            Asked::Away(why) | Asked::Failed(why) => ended(JudgeFound::Error, StageOutcome::Error, why),
            Asked::Answer(judgement, whole) => {
                let value = judgement.score;
                let sure = whole && (value <= JUDGE_LO || value >= JUDGE_HI);
                let outcome = if sure { StageOutcome::Decided } else { StageOutcome::Unsure };
                let answered = ended(JudgeFound::Score { value, whole }, outcome, "");
                JudgeStage { judgement: Some(judgement), ..answered }
            }
        };
        if let Some(report) = &mut judged.report {
            report.failures = std::mem::take(&mut paid.failures);
        }
        JudgeStage { deferred, paid, ..judged }
    }

    /// What the decision needs to know of the rules.
    fn summarise(&self, results: &[RuleResult]) -> RulesFound {
        let any = |outcome: RuleOutcome, on_fail: OnFail| {
            results
                .iter()
                .any(|result| result.outcome == outcome && self.rules.on_fail(&result.rule) == on_fail)
        };
        RulesFound {
            failed: any(RuleOutcome::Fail, OnFail::Fail),
            review: any(RuleOutcome::Fail, OnFail::Review) || any(RuleOutcome::Unsure, OnFail::Fail),
            error: results.iter().any(|result| result.outcome == RuleOutcome::Error),
            refusal: self.rules.is_refusal(results),
        }
    }

    /// Runs NLI where there is something to run it on.
    async fn faithfulness(
        &self,
        call: &Arc<Call>,
    ) -> Result<(NliFound, Option<Faithfulness>, StageReport), Panicked> {
        let begun = Instant::now();
        let skipped = |found, why| Ok((found, None, stage(Stage::Nli, StageOutcome::Skipped, why, begun)));
        if self.model.is_none() {
            return skipped(NliFound::Off, "off");
        }
        if !has_context(call) {
            return skipped(NliFound::NoContext, "no_context");
        }
        crash_point("K4");
        let band = self.scale.band(&call.feature);
        match self.measure(call).await? {
            Ok(found) => match found.and_then(|found| Some((found.score?, found))) {
                Some((value, found)) => {
                    let doubt = found.doubt();
                    let sure = doubt.is_none() && (value <= band.lo || value >= band.hi);
                    let outcome = if sure { StageOutcome::Decided } else { StageOutcome::Unsure };
                    let why = doubt.map_or("", Doubt::as_str);
                    let (lacking, truncated) = (found.is_lacking(), found.is_truncated());
                    let support = Support { value, lacking, truncated, doubt };
                    Ok((NliFound::Score(support), Some(found), stage(Stage::Nli, outcome, why, begun)))
                }
                None => skipped(NliFound::NoClaims, "no_claims"),
            },
            Err(error) => {
                log_model_error(&error, call);
                Ok((NliFound::Error, None, stage(Stage::Nli, StageOutcome::Error, error.class(), begun)))
            }
        }
    }

    /// What the model and the words of one call say about its support, whatever the rules say; none where there is no
    /// model or no context. An error within is the model's. The calibration is fitted on this.
    ///
    /// # Errors
    /// [`Panicked`] when the call brings out a fault of ours.
    pub async fn measure(
        &self,
        call: &Arc<Call>,
    ) -> Result<Result<Option<Faithfulness>, InferenceError>, Panicked> {
        let Some(model) = self.model().filter(|_| has_context(call)) else { return Ok(Ok(None)) };
        Ok(match self.questions(call, model).await? {
            Ok(questions) => score(call, questions, model, &self.scale).await.map(Some),
            Err(error) => Err(error),
        })
    }

    /// Claims, windows and tokens of one call.
    async fn questions(
        &self,
        call: &Arc<Call>,
        model: &Batcher,
    ) -> Result<Result<Questions, InferenceError>, Panicked> {
        let (call, tokenizer, nli) = (Arc::clone(call), Arc::clone(model.tokenizer()), self.nli);
        let encoder = model.encoder().map(Arc::clone);
        // Tokenising is never small.
        off_runtime(usize::MAX, move || ask(&call, &tokenizer, encoder.as_deref(), &nli)).await
    }

    /// Feedback and the audit draw. The draw hangs on the call's identity: a redelivery draws the same.
    fn circumstances(&self, call: &Call) -> Circumstances {
        let feedback = call.feedback.clone().unwrap_or_default();
        let drawn = share(&format!("audit:{}:{}", call.tenant_id, call.request_id));
        Circumstances {
            // Some producers write an empty string for "none".
            call_error: call.error_class.as_ref().is_some_and(|class| !class.trim().is_empty()),
            thumbs_down: feedback.thumbs == Some(Thumbs::Down),
            escalated: feedback.escalated,
            audited: drawn < self.audit_rate,
        }
    }

    /// Puts the evaluation together.
    fn evaluation(
        &self,
        call: &Call,
        decision: Decision,
        found: Faithfulness,
        (rules, stages): (Vec<RuleResult>, Vec<StageReport>),
    ) -> Evaluation {
        Evaluation {
            evaluation_id: evaluation_id(call, &self.version),
            tenant_id: call.tenant_id.clone(),
            request_id: call.request_id.clone(),
            evaluator_version: self.version.clone(),
            trace_id: call.trace_id.clone(),
            span_id: call.span_id.clone(),
            feature: call.feature.clone(),
            occurred_at: call.occurred_at,
            evaluated_at: Timestamp::now(),
            verdict: decision.verdict,
            decided_by: decision.decided_by,
            reasons: decision.reasons,
            faithfulness: found.score.filter(|value| value.is_finite()),
            truncated: found.is_truncated(),
            tokens_cut: found.tokens_cut,
            claims: found.claims,
            rules,
            judge: None,
            stages,
            cost_usd: Some(0.0),
            judge_avoided_usd: None,
            probability: call.sampling.probability,
        }
    }
}

/// What rules and model say of a call.
pub struct Weighed {
    rules: Vec<RuleResult>,
    stages: Vec<StageReport>,
    found: RulesFound,
    nli: NliFound,
    faithfulness: Faithfulness,
    seen: Circumstances,
    unjudged: Decision,
}

impl Weighed {
    /// Whether they leave it to the judge, be there one or not.
    pub fn wants_judge(&self) -> bool {
        self.unjudged.wants_judge()
    }
}

/// How a call waits for a judge.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// For how long it has done so.
    pub waited: Duration,
    /// Whether it waits for a place where as many calls wait as may.
    pub hold: bool,
}

/// What came of the judge.
#[derive(Default)]
struct JudgeStage {
    found: JudgeFound,
    judgement: Option<Box<Judgement>>,
    report: Option<StageReport>,
    paid: Paid,
    avoided_usd: Option<f64>,
    deferred: Option<(&'static str, Until)>,
}

/// Whether a call brings text to compare its answer with.
fn has_context(call: &Call) -> bool {
    call.content.contexts.iter().any(|context| has_text(&context.text))
}

/// Bytes of the text that the rules read.
fn text_bytes(call: &Call) -> usize {
    let content = &call.content;
    let contexts: usize = content.contexts.iter().map(|context| context.text.len()).sum();
    if content.output_schema.as_ref().is_some_and(|schema| !schema.is_string()) {
        // A schema is compiled, which may cost more than its length says.
        return usize::MAX;
    }
    let ids: usize = call.retrieval_ids.iter().flatten().map(String::len).sum();
    let tools: usize = call.tool_calls.iter().map(|tool| tool.name.len() + tool.args_hash.len()).sum();
    content.answer.len() + content.input.as_ref().map_or(0, String::len) + contexts + ids + tools
}

/// Outcome of the rules stage.
fn rules_outcome(found: RulesFound) -> StageOutcome {
    match found {
        RulesFound { failed: true, .. } => StageOutcome::Decided,
        RulesFound { error: true, .. } => StageOutcome::Error,
        _ => StageOutcome::Unsure,
    }
}

/// A stage that ends now.
fn stage(stage: Stage, outcome: StageOutcome, detail: &str, begun: Instant) -> StageReport {
    let ms = begun.elapsed().as_secs_f64() * 1000.0;
    StageReport { stage, outcome, detail: detail.to_owned(), ms, failures: Vec::new() }
}

/// Logs a model error with ids only.
fn log_model_error(error: &InferenceError, call: &Call) {
    tracing::warn!(request_id = %call.request_id, class = error.class(), %error, "model could not score a call");
}
