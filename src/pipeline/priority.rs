//! Which calls a person should look at, and how telling each label would be. Pure.
//!
//! The value of an item is `0.5 × unsureness + 0.3 × newness + 0.2 × weight`, each 0..1:
//! * unsureness: 1 at a threshold, falling evenly to 0 at the place that is farthest from both: of the judge where it was asked,
//!   else of the model. 1 where two findings contradict one another, 0.5 where nothing was measured.
//! * newness: 1 for the first item of a feature's prompt version and model, falling evenly to 0 in seven days. The store knows it.
//! * weight: of the tenant, by `[review] tenant_weights`; 0.5 unless named.
//!
//! An item is shown as if it had come earlier by its value's share of seven days. The value of an item of the audit slice is drawn
//! by its id instead, between 0 and 1: which of them people get to is chance, so that those they got to stand for the others.

use std::collections::BTreeMap;

use super::{decide::Decision, decide::JUDGE_HI, decide::JUDGE_LO, retry::share};
use crate::{
    domain::{Call, Evaluation, Reason, Verdict, review::is_conflict},
    evaluators::nli::calibration::Band,
    store::ReviewItem,
};

/// Parts of the value.
const UNSURE: f64 = 0.5;
const NEW: f64 = 0.3;
const WEIGHT: f64 = 0.2;
/// Weight of a tenant that is not named.
const DEFAULT_WEIGHT: f64 = 0.5;

/// What people want to see first, and how many of them look.
#[derive(Debug, Clone, Default)]
pub struct Priorities {
    /// Weights of tenants, 0..1.
    pub tenant_weights: BTreeMap<String, f64>,
    /// Share of the items that two people label, 0..1.
    pub second_share: f64,
}

impl Priorities {
    /// The review item of a call whose user contradicted a verdict later.
    pub(super) fn late(&self, call: &Call, reason: Reason) -> ReviewItem {
        let (prompt_version, model) = (call.prompt_version.clone(), call.model_resolved.clone());
        let value = UNSURE + WEIGHT * self.weight(call);
        let wanted = self.wanted(call);
        ReviewItem { reason, probability: 1.0, value, newness: NEW, prompt_version, model, wanted }
    }

    /// How much a call's tenant matters, 0..1.
    fn weight(&self, call: &Call) -> f64 {
        self.tenant_weights.get(&call.tenant_id).copied().unwrap_or(DEFAULT_WEIGHT).clamp(0.0, 1.0)
    }

    /// How many people label a call; drawn by its identity.
    fn wanted(&self, call: &Call) -> u32 {
        let drawn = share(&format!("second:{}:{}", call.tenant_id, call.request_id));
        if drawn < self.second_share { 2 } else { 1 }
    }

    /// The review item of a decision; none where no person has to look. What is drawn hangs on the call's identity: a
    /// redelivery draws the same.
    pub(super) fn item(
        &self,
        (call, evaluation): (&Call, &Evaluation),
        decision: &Decision,
        (band, audit_rate): (Band, f64),
    ) -> Option<ReviewItem> {
        let key = format!("{}:{}", call.tenant_id, call.request_id);
        let (prompt_version, model) = (call.prompt_version.clone(), call.model_resolved.clone());
        let wanted = self.wanted(call);
        if decision.audited {
            let (reason, value) = (Reason::AuditSlice, share(&format!("rank:{key}")));
            let probability = audit_rate;
            return Some(ReviewItem {
                reason,
                probability,
                value,
                newness: 0.0,
                prompt_version,
                model,
                wanted,
            });
        }
        let reason = *decision.reasons.first()?;
        let value = UNSURE * unsureness(evaluation, &decision.reasons, band) + WEIGHT * self.weight(call);
        let item =
            ReviewItem { reason, probability: 1.0, value, newness: NEW, prompt_version, model, wanted };
        (decision.verdict == Verdict::Review).then_some(item)
    }
}

/// How unsure an evaluation is, 0..1.
fn unsureness(evaluation: &Evaluation, reasons: &[Reason], band: Band) -> f64 {
    if reasons.iter().copied().any(is_conflict) {
        return 1.0;
    }
    match (&evaluation.judge, evaluation.faithfulness) {
        (Some(judge), _) => nearness(judge.score, JUDGE_LO, JUDGE_HI),
        (None, Some(value)) => nearness(value, band.lo, band.hi),
        (None, None) => 0.5,
    }
}

/// How near a value is to one of two thresholds: 1 on it, 0 at the place that is farthest from both.
fn nearness(value: f64, lo: f64, hi: f64) -> f64 {
    let farthest = lo.max(1.0 - hi).max((hi - lo) / 2.0);
    if !value.is_finite() || farthest <= 0.0 {
        return 0.5;
    }
    (1.0 - (value - lo).abs().min((value - hi).abs()) / farthest).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_nearer_than_a_threshold(value in 0.0f64..=1.0, lo in 0.0f64..0.5, wide in 0.0f64..0.5) {
            let hi = lo + wide;
            let near = nearness(value, lo, hi);
            prop_assert!((0.0..=1.0).contains(&near));
            prop_assert_eq!(nearness(lo, lo, hi), 1.0);
            prop_assert_eq!(nearness(hi, lo, hi), 1.0);
            // Going away from the nearer threshold never brings it nearer.
            let away = if (value - lo).abs() < (value - hi).abs() { lo } else { hi };
            prop_assert!(nearness(away + (value - away) / 2.0, lo, hi) >= near - 1e-9);
        }
    }

    #[test]
    fn what_was_not_measured_is_middling() {
        assert_eq!(nearness(f64::NAN, 0.2, 0.8), 0.5);
        assert!(nearness(0.5, 0.2, 0.8) < 1e-9);
        assert!((nearness(0.35, 0.2, 0.8) - 0.5).abs() < 1e-9);
    }
}
