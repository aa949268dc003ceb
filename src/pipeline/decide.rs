//! The decision: one pure function from what the stages found to verdict, decider and reasons.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{DecidedBy, Doubt, Reason, Verdict},
    evaluators::nli::calibration::Band,
};

/// `[cascade]`: thresholds and the audit slice.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CascadeConfig {
    /// Faithfulness at or below it is "not supported", 0..1; absent: what the calibration found, else 0.2.
    pub lo: Option<f64>,
    /// Faithfulness at or above it is "supported", 0..1; absent: what the calibration found, else 0.8.
    pub hi: Option<f64>,
    /// Whether a calibration is used; without one, faithfulness is the mean entailment, which is no probability.
    pub calibrated: bool,
    /// The calibration; absent: `calibration.json` of the model folder, where there is one.
    pub calibration: Option<PathBuf>,
    /// Share of confident verdicts that a person sees all the same, 0..1.
    pub audit_rate: f64,
}

impl Default for CascadeConfig {
    fn default() -> Self {
        Self { lo: None, hi: None, calibrated: true, calibration: None, audit_rate: 0.01 }
    }
}

/// What the rules said, as far as the decision needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RulesFound {
    /// A rule with `on_fail = "fail"` failed.
    pub failed: bool,
    /// A rule with `on_fail = "review"` failed, or one with `on_fail = "fail"` could not tell.
    pub review: bool,
    /// A rule could not run.
    pub error: bool,
    /// The answer is a refusal.
    pub refusal: bool,
}

/// How well the contexts support an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Support {
    /// Faithfulness, 0..1.
    pub value: f64,
    /// A claim is contradicted or found nowhere.
    pub lacking: bool,
    /// A limit kept the model from reading all of it.
    pub truncated: bool,
    /// Fewer than half of the claims can be judged, most commonly for this reason.
    pub doubt: Option<Doubt>,
}

impl Support {
    /// Why the value decides nothing: it is doubted, or not about all of the answer.
    fn caveats(&self) -> Vec<Reason> {
        let doubt = self.doubt.map(Reason::from);
        doubt.into_iter().chain(self.truncated.then_some(Reason::Truncated)).collect()
    }
}

/// What NLI said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NliFound {
    /// It measured the answer's support.
    Score(Support),
    /// The call brought no contexts.
    NoContext,
    /// Nothing in the answer can be checked.
    NoClaims,
    /// The model is switched off.
    Off,
    /// The model could not run.
    Error,
}

/// What the judge said about the claims that are not sure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum JudgeFound {
    /// There is none, or nothing to ask it.
    #[default]
    NotAsked,
    /// Its score.
    Score {
        /// How probable it is that the evidence supports all of them, 0..1.
        value: f64,
        /// Whether it was asked about all of them.
        whole: bool,
    },
    /// It gave no answer that can be used.
    Error,
    /// The budget is spent.
    Spent,
}

/// At or below this score of the judge an answer fails.
pub const JUDGE_LO: f64 = 0.4;
/// At or above this score of the judge an answer passes.
pub const JUDGE_HI: f64 = 0.6;
/// Judge and model that differ by more say nearly the opposite.
const MAX_DISAGREEMENT: f64 = 0.5;

/// What the user did, and whether the call is in the audit slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The producer recorded a typed error.
    pub call_error: bool,
    /// The user's thumb is down.
    pub thumbs_down: bool,
    /// The user asked for a person.
    pub escalated: bool,
    /// The call was drawn for the audit slice.
    pub audited: bool,
}

/// A verdict with its decider and reasons, most important first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// Why.
    pub reasons: Vec<Reason>,
    /// A confident verdict that a person sees all the same.
    pub audited: bool,
}

impl Decision {
    /// Whether a judge could settle it: the model is not sure, and nothing else speaks for a person.
    pub fn wants_judge(&self) -> bool {
        use Reason::{Code, Formula, Language, Pronoun, TableCut, TooShort, Truncated, UnsureBand};
        let unsure = [UnsureBand, Language, Code, Formula, TableCut, Pronoun, TooShort];
        self.verdict == Verdict::Review
            && self.reasons.iter().any(|reason| unsure.contains(reason))
            && self.reasons.iter().all(|reason| unsure.contains(reason) || *reason == Truncated)
    }
}

/// Decides, by the steps of the cascade. It is asked twice where [`Decision::wants_judge`]: without the judge, and with it.
pub fn decide(
    rules: RulesFound,
    nli: NliFound,
    judge: JudgeFound,
    seen: Circumstances,
    band: Band,
) -> Decision {
    let mut decision = settle(rules, nli, seen, band);
    if decision.wants_judge() {
        decision = judged(decision, nli, judge, seen);
    }
    // The verdict stays: rates counted over verdicts would be wrong by the audit rate otherwise.
    if seen.audited && matches!(decision.verdict, Verdict::Pass | Verdict::Fail) {
        decision.audited = true;
        decision.reasons.push(Reason::AuditSlice);
    }
    decision
}

/// What the judge makes of a decision that the model is not sure of.
fn judged(unsure: Decision, nli: NliFound, judge: JudgeFound, seen: Circumstances) -> Decision {
    let decision =
        |verdict, decided_by, reasons: Vec<Reason>| Decision { verdict, decided_by, reasons, audited: false };
    let review = |reasons| decision(Verdict::Review, DecidedBy::Policy, reasons);
    let also = |reason| review(unsure.reasons.iter().copied().chain([reason]).collect());
    let (value, whole) = match judge {
        JudgeFound::NotAsked => return unsure,
        JudgeFound::Error => return also(Reason::JudgeError),
        JudgeFound::Spent => return also(Reason::JudgeBudget),
        JudgeFound::Score { value, whole } => (value, whole),
    };
    let (model, truncated) = match nli {
        NliFound::Score(found) => (found.doubt.is_none().then_some(found.value), found.truncated),
        _ => (None, false),
    };
    if model.is_some_and(|model| (model - value).abs() > MAX_DISAGREEMENT) {
        return review(vec![Reason::JudgeDisagrees]);
    }
    if value <= JUDGE_LO {
        return decision(Verdict::Fail, DecidedBy::Judge, vec![Reason::JudgeNotSupported]);
    }
    // What is not whole can be found wanting, and not right.
    let doubts = [
        (value < JUDGE_HI, Reason::JudgeUnsure),
        (truncated, Reason::Truncated),
        (!whole, Reason::JudgeLeftOut),
        (seen.thumbs_down, Reason::ThumbsDown),
        (seen.escalated, Reason::Escalated),
    ];
    let doubts: Vec<Reason> = doubts.into_iter().filter_map(|(is, reason)| is.then_some(reason)).collect();
    match doubts.is_empty() {
        true => decision(Verdict::Pass, DecidedBy::Judge, vec![Reason::JudgeSupported]),
        false => review(doubts),
    }
}

/// The decision of rules and model, before the audit slice.
fn settle(rules: RulesFound, nli: NliFound, seen: Circumstances, band: Band) -> Decision {
    let decision =
        |verdict, decided_by, reasons: Vec<Reason>| Decision { verdict, decided_by, reasons, audited: false };
    let review = |reasons| decision(Verdict::Review, DecidedBy::Policy, reasons);
    let none = |reason| decision(Verdict::NotApplicable, DecidedBy::Policy, vec![reason]);
    if rules.failed {
        return decision(Verdict::Fail, DecidedBy::Rules, vec![Reason::RuleFailed]);
    }
    let mut doubts = Vec::new();
    doubts.extend(rules.error.then_some(Reason::RuleError));
    doubts.extend(rules.review.then_some(Reason::RuleReview));
    if seen.call_error {
        return none(Reason::CallError);
    }
    match nli {
        NliFound::Score(found) if found.value <= band.lo && found.caveats().is_empty() && !rules.refusal => {
            decision(Verdict::Fail, DecidedBy::Nli, vec![Reason::NotSupported])
        }
        _ if !doubts.is_empty() => review(doubts),
        NliFound::Score(found) if !found.caveats().is_empty() => review(found.caveats()),
        NliFound::Score(found) if found.value >= band.hi => {
            doubts.extend(found.lacking.then_some(Reason::ClaimNotSupported));
            doubts.extend(seen.thumbs_down.then_some(Reason::ThumbsDown));
            doubts.extend(seen.escalated.then_some(Reason::Escalated));
            if doubts.is_empty() {
                decision(Verdict::Pass, DecidedBy::Nli, vec![Reason::Supported])
            } else {
                review(doubts)
            }
        }
        // A refusal that goes on to state something is looked at, never failed.
        NliFound::Score(_) if rules.refusal => review(vec![Reason::Refusal]),
        NliFound::Score(_) => review(vec![Reason::UnsureBand]),
        NliFound::Off => review(vec![Reason::NliOff]),
        NliFound::Error => review(vec![Reason::NliError]),
        _ if rules.refusal => none(Reason::Refusal),
        NliFound::NoContext => none(Reason::NoContext),
        NliFound::NoClaims => none(Reason::NoClaims),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAND: Band = Band { lo: 0.2, hi: 0.8 };
    const CLEAN: RulesFound = RulesFound { failed: false, review: false, error: false, refusal: false };
    const CALM: Circumstances =
        Circumstances { call_error: false, thumbs_down: false, escalated: false, audited: false };

    /// What was found, and what is decided.
    type Row = (RulesFound, NliFound, Circumstances, Verdict, DecidedBy, Vec<Reason>);

    /// Decides each row.
    fn check(table: Vec<Row>) {
        for (rules, nli, seen, verdict, decided_by, reasons) in table {
            let audited = reasons.contains(&Reason::AuditSlice);
            let expected = Decision { verdict, decided_by, reasons, audited };
            let decided = decide(rules, nli, JudgeFound::NotAsked, seen, BAND);
            assert_eq!(decided, expected, "{rules:?} {nli:?} {seen:?}");
        }
    }

    #[test]
    fn the_whole_table() {
        use DecidedBy::{Nli, Policy, Rules};
        use NliFound::{Error, NoClaims, NoContext, Off};
        use Verdict::{Fail, NotApplicable, Pass, Review};
        #[expect(non_snake_case, reason = "reads like the variant")]
        let Score = |value| NliFound::Score(Support { value, ..Support::default() });
        let lacking = NliFound::Score(Support { value: 0.9, lacking: true, ..Support::default() });
        let cut = |value| NliFound::Score(Support { value, truncated: true, ..Support::default() });
        let failed = RulesFound { failed: true, ..CLEAN };
        let doubtful = RulesFound { review: true, ..CLEAN };
        let broken = RulesFound { error: true, ..CLEAN };
        let refusal = RulesFound { refusal: true, ..CLEAN };
        let down = Circumstances { thumbs_down: true, ..CALM };
        let escalated = Circumstances { escalated: true, ..CALM };
        let audited = Circumstances { audited: true, ..CALM };
        let errored = Circumstances { call_error: true, ..CALM };
        check(vec![
            (CLEAN, Score(0.8), CALM, Pass, Nli, vec![Reason::Supported]),
            (CLEAN, Score(0.79), CALM, Review, Policy, vec![Reason::UnsureBand]),
            (CLEAN, Score(0.2), CALM, Fail, Nli, vec![Reason::NotSupported]),
            (CLEAN, Score(0.21), CALM, Review, Policy, vec![Reason::UnsureBand]),
            (CLEAN, NoContext, CALM, NotApplicable, Policy, vec![Reason::NoContext]),
            (CLEAN, NoClaims, CALM, NotApplicable, Policy, vec![Reason::NoClaims]),
            (CLEAN, Off, CALM, Review, Policy, vec![Reason::NliOff]),
            (CLEAN, Error, CALM, Review, Policy, vec![Reason::NliError]),
            (failed, Score(0.9), CALM, Fail, Rules, vec![Reason::RuleFailed]),
            (failed, NoContext, CALM, Fail, Rules, vec![Reason::RuleFailed]),
            (failed, Error, errored, Fail, Rules, vec![Reason::RuleFailed]),
            (doubtful, Score(0.9), CALM, Review, Policy, vec![Reason::RuleReview]),
            (doubtful, Score(0.1), CALM, Fail, Nli, vec![Reason::NotSupported]),
            (doubtful, NoContext, CALM, Review, Policy, vec![Reason::RuleReview]),
            (broken, Score(0.9), CALM, Review, Policy, vec![Reason::RuleError]),
            (CLEAN, lacking, CALM, Review, Policy, vec![Reason::ClaimNotSupported]),
            (CLEAN, cut(0.9), CALM, Review, Policy, vec![Reason::Truncated]),
            (CLEAN, cut(0.1), CALM, Review, Policy, vec![Reason::Truncated]),
            (failed, cut(0.1), CALM, Fail, Rules, vec![Reason::RuleFailed]),
            (doubtful, cut(0.1), CALM, Review, Policy, vec![Reason::RuleReview]),
            (refusal, Score(0.1), CALM, Review, Policy, vec![Reason::Refusal]),
            (refusal, Score(0.5), CALM, Review, Policy, vec![Reason::Refusal]),
            (refusal, Score(0.9), CALM, Pass, Nli, vec![Reason::Supported]),
            (refusal, Error, CALM, Review, Policy, vec![Reason::NliError]),
            (refusal, Off, CALM, Review, Policy, vec![Reason::NliOff]),
            (refusal, NoContext, CALM, NotApplicable, Policy, vec![Reason::Refusal]),
            (refusal, NoClaims, CALM, NotApplicable, Policy, vec![Reason::Refusal]),
            (CLEAN, Score(0.9), down, Review, Policy, vec![Reason::ThumbsDown]),
            (CLEAN, Score(0.9), escalated, Review, Policy, vec![Reason::Escalated]),
            (CLEAN, Score(0.1), down, Fail, Nli, vec![Reason::NotSupported]),
            (CLEAN, Score(0.9), audited, Pass, Nli, vec![Reason::Supported, Reason::AuditSlice]),
            (failed, Score(0.9), audited, Fail, Rules, vec![Reason::RuleFailed, Reason::AuditSlice]),
            (CLEAN, Score(0.5), audited, Review, Policy, vec![Reason::UnsureBand]),
            (CLEAN, NoContext, audited, NotApplicable, Policy, vec![Reason::NoContext]),
            (CLEAN, NoClaims, errored, NotApplicable, Policy, vec![Reason::CallError]),
        ]);
    }

    #[test]
    fn the_judge_settles_what_the_model_is_not_sure_of_and_nothing_else() {
        use DecidedBy::{Judge, Nli, Policy};
        use JudgeFound::{Error, NotAsked, Spent};
        use Verdict::{Fail, Pass, Review};
        let score = |value| JudgeFound::Score { value, whole: true };
        let part = |value| JudgeFound::Score { value, whole: false };
        let of = |value| NliFound::Score(Support { value, ..Support::default() });
        let doubted =
            |value| NliFound::Score(Support { value, doubt: Some(Doubt::Language), ..Support::default() });
        let cut = |value| NliFound::Score(Support { value, truncated: true, ..Support::default() });
        let cut_and_doubted = NliFound::Score(Support {
            value: 0.5,
            truncated: true,
            doubt: Some(Doubt::Code),
            lacking: false,
        });
        let down = Circumstances { thumbs_down: true, ..CALM };
        let audited = Circumstances { audited: true, ..CALM };
        for (nli, judge, seen, verdict, decided_by, reasons) in [
            (of(0.5), NotAsked, CALM, Review, Policy, vec![Reason::UnsureBand]),
            (of(0.5), Error, CALM, Review, Policy, vec![Reason::UnsureBand, Reason::JudgeError]),
            (of(0.5), Spent, CALM, Review, Policy, vec![Reason::UnsureBand, Reason::JudgeBudget]),
            (of(0.5), score(0.6), CALM, Pass, Judge, vec![Reason::JudgeSupported]),
            (of(0.5), score(0.59), CALM, Review, Policy, vec![Reason::JudgeUnsure]),
            (of(0.5), score(0.41), CALM, Review, Policy, vec![Reason::JudgeUnsure]),
            (of(0.5), score(0.4), CALM, Fail, Judge, vec![Reason::JudgeNotSupported]),
            (of(0.3), score(0.9), CALM, Review, Policy, vec![Reason::JudgeDisagrees]),
            (of(0.7), score(0.1), CALM, Review, Policy, vec![Reason::JudgeDisagrees]),
            (of(0.5), part(0.9), CALM, Review, Policy, vec![Reason::JudgeLeftOut]),
            (of(0.5), part(0.1), CALM, Fail, Judge, vec![Reason::JudgeNotSupported]),
            (of(0.5), score(0.9), down, Review, Policy, vec![Reason::ThumbsDown]),
            (of(0.5), score(0.9), audited, Pass, Judge, vec![Reason::JudgeSupported, Reason::AuditSlice]),
            // A number that is doubted disagrees with nobody.
            (doubted(0.3), score(0.9), CALM, Pass, Judge, vec![Reason::JudgeSupported]),
            (doubted(0.9), score(0.1), CALM, Fail, Judge, vec![Reason::JudgeNotSupported]),
            (cut_and_doubted, score(0.9), CALM, Review, Policy, vec![Reason::Truncated]),
            (cut_and_doubted, score(0.1), CALM, Fail, Judge, vec![Reason::JudgeNotSupported]),
            // These are none of its business.
            (of(0.9), score(0.1), CALM, Pass, Nli, vec![Reason::Supported]),
            (of(0.1), score(0.9), CALM, Fail, Nli, vec![Reason::NotSupported]),
            (cut(0.5), score(0.9), CALM, Review, Policy, vec![Reason::Truncated]),
            (NliFound::Error, score(0.9), CALM, Review, Policy, vec![Reason::NliError]),
        ] {
            let audited = reasons.contains(&Reason::AuditSlice);
            let expected = Decision { verdict, decided_by, reasons, audited };
            assert_eq!(decide(CLEAN, nli, judge, seen, BAND), expected, "{nli:?} {judge:?}");
        }
        let doubtful = RulesFound { review: true, ..CLEAN };
        let decided = decide(doubtful, of(0.5), score(0.9), CALM, BAND);
        assert_eq!(decided.reasons, [Reason::RuleReview], "a rule that failed is for a person");
    }

    #[test]
    fn a_doubted_number_decides_nothing() {
        use DecidedBy::{Policy, Rules};
        use Doubt::{Code, Formula, Language, Pronoun, Short, Table};
        use Verdict::{Fail, NotApplicable, Review};
        let of = |value, doubt| NliFound::Score(Support { value, doubt: Some(doubt), ..Support::default() });
        let cut_too = Support { value: 0.9, lacking: true, truncated: true, doubt: Some(Table) };
        let failed = RulesFound { failed: true, ..CLEAN };
        let doubtful = RulesFound { review: true, ..CLEAN };
        let refusal = RulesFound { refusal: true, ..CLEAN };
        let down = Circumstances { thumbs_down: true, ..CALM };
        let audited = Circumstances { audited: true, ..CALM };
        let errored = Circumstances { call_error: true, ..CALM };
        check(vec![
            (CLEAN, of(0.0, Language), CALM, Review, Policy, vec![Reason::Language]),
            (CLEAN, of(1.0, Code), CALM, Review, Policy, vec![Reason::Code]),
            (CLEAN, of(1.0, Formula), down, Review, Policy, vec![Reason::Formula]),
            (CLEAN, of(1.0, Table), CALM, Review, Policy, vec![Reason::TableCut]),
            (CLEAN, of(0.5, Pronoun), audited, Review, Policy, vec![Reason::Pronoun]),
            (refusal, of(0.0, Short), CALM, Review, Policy, vec![Reason::TooShort]),
            (
                CLEAN,
                NliFound::Score(cut_too),
                CALM,
                Review,
                Policy,
                vec![Reason::TableCut, Reason::Truncated],
            ),
            (failed, of(1.0, Short), CALM, Fail, Rules, vec![Reason::RuleFailed]),
            (doubtful, of(0.0, Short), CALM, Review, Policy, vec![Reason::RuleReview]),
            (CLEAN, of(1.0, Short), errored, NotApplicable, Policy, vec![Reason::CallError]),
        ]);
    }
}
