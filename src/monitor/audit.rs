//! How often a verdict is wrong, by the audit slice.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    domain::{Said, Verdict},
    store::reviewing::Audited,
};

/// 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Share {
    /// The estimate, 0..1.
    pub share: f64,
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Sampled calls that it rests on.
    pub n: u64,
    /// As many calls of one weight would tell as much.
    pub effective_n: f64,
}

/// What the audit slice tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct AuditReport {
    /// Calls that were drawn.
    pub drawn: u64,
    /// Those of them that people have decided.
    pub labelled: u64,
    /// Those of which nobody could tell: they count for neither side.
    pub unsure: u64,
    /// Share of the passed calls that people fail; none where none was labelled.
    pub false_pass: Option<Share>,
    /// Share of the failed calls that people pass.
    pub false_fail: Option<Share>,
    /// Share of the passed calls that people fail, by feature.
    pub false_pass_by_feature: BTreeMap<String, Share>,
}

/// Estimates how often verdicts are wrong over all calls that were made, not only those that were sampled.
///
/// Each labelled call is weighted with the inverse of the probability with which it came here, that of the sample times that of the
/// slice (the ratio form of the Horvitz–Thompson estimator: Hájek 1971; Särndal, Swensson and Wretman, *Model Assisted Survey
/// Sampling*, 1992, §5.7). It is unbiased but for a term of the order 1/n, as long as which calls of the slice were labelled so far
/// is chance: their places in the queue are drawn, so skipping them is what would bias it. The interval is Wilson's (1927) with an
/// effective sample size in place of n: as many calls of one weight as would have the estimate's linearised variance (Korn and
/// Graubard, *Survey Methodology* 24, 1998), and never more than Kish's (*Survey Sampling*, 1965, §11.7), which alone is too many
/// where the calls with large weights fail more often. So it stays within 0..1, and has a width where nobody has found a fault yet.
pub fn estimate(slice: &[Audited]) -> AuditReport {
    let labelled = || slice.iter().filter_map(|one| one.said.map(|said| (one, said)));
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    // Once through: the slice of months is long, and this is done while others wait.
    let mut passed_by_feature: BTreeMap<&str, Vec<Weighted>> = BTreeMap::new();
    for (one, said) in labelled().filter(|(_, said)| *said != Said::Unsure) {
        let weighted = |is: bool| (1.0 / (one.sampled * one.drawn), f64::from(u8::from(is)));
        match one.verdict {
            Verdict::Pass => {
                passed.push(weighted(said == Said::Fail));
                passed_by_feature.entry(&one.feature).or_default().push(weighted(said == Said::Fail));
            }
            Verdict::Fail => failed.push(weighted(said == Said::Pass)),
            Verdict::Review | Verdict::NotApplicable => {}
        }
    }
    let by_feature = passed_by_feature.into_iter();
    let by_feature = by_feature.filter_map(|(feature, passed)| Some((feature.to_owned(), share(&passed)?)));
    AuditReport {
        drawn: slice.len() as u64,
        labelled: labelled().count() as u64,
        unsure: labelled().filter(|(_, said)| *said == Said::Unsure).count() as u64,
        false_pass: share(&passed),
        false_fail: share(&failed),
        false_pass_by_feature: by_feature.collect(),
    }
}

/// The weight of a call, and 1 where its verdict is wrong, else 0.
type Weighted = (f64, f64);

/// The weighted share of what is wrong; none of nothing.
fn share(rows: &[Weighted]) -> Option<Share> {
    let total = |each: &dyn Fn(&(f64, f64)) -> f64| rows.iter().map(each).sum::<f64>();
    let (sum, squares) = (total(&|(weight, _)| *weight), total(&|(weight, _)| weight * weight));
    if !(sum.is_finite() && squares > 0.0) {
        return None;
    }
    let share = (total(&|(weight, so)| weight * so) / sum).clamp(0.0, 1.0);
    let variance = total(&|(weight, so)| (weight * (so - share)).powi(2)) / (sum * sum);
    let by_variance = share * (1.0 - share) / variance;
    // NaN where all are alike, which tells nothing of the variance: `min` leaves the other then.
    let effective_n = (sum * sum / squares).min(by_variance);
    let z2 = Z * Z / effective_n;
    let middle = (share + z2 / 2.0) / (1.0 + z2);
    let half = Z * (share * (1.0 - share) / effective_n + z2 / (4.0 * effective_n)).sqrt() / (1.0 + z2);
    let (lo, hi) = ((middle - half).max(0.0), (middle + half).min(1.0));
    Some(Share { share, lo, hi, n: rows.len() as u64, effective_n })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::sha256_hex;
    use crate::growth::assert_linear;

    /// A number that looks drawn from 0..1, the same for the same key.
    fn drawn(key: &str) -> f64 {
        f64::from(u32::from_str_radix(&sha256_hex(key.as_bytes())[..8], 16).unwrap()) / f64::from(u32::MAX)
    }

    fn one(verdict: Verdict, sampled: f64, said: Option<Said>) -> Audited {
        Audited { verdict, feature: "f".into(), sampled, drawn: 0.5, said }
    }

    #[test]
    fn a_plain_share_is_wilsons() {
        // Wilson's interval of 2 of 20, worked out apart from this.
        let slice: Vec<Audited> = (0..20)
            .map(|n| one(Verdict::Pass, 1.0, Some(if n < 2 { Said::Fail } else { Said::Pass })))
            .chain([one(Verdict::Pass, 1.0, Some(Said::Unsure)), one(Verdict::Pass, 1.0, None)])
            .collect();
        let report = estimate(&slice);
        assert_eq!((report.drawn, report.labelled, report.unsure), (22, 21, 1));
        let found = report.false_pass.unwrap();
        assert_eq!((found.share, found.n), (0.1, 20));
        assert!((found.effective_n - 20.0).abs() < 1e-9, "{found:?}");
        assert!((found.lo - 0.027_866).abs() < 1e-5 && (found.hi - 0.301_034).abs() < 1e-5, "{found:?}");
        assert_eq!(report.false_pass_by_feature["f"], found);
        assert_eq!(report.false_fail, None, "no failed call was drawn");
        assert_eq!(estimate(&[]), AuditReport::default());
    }

    #[test]
    fn each_feature_has_its_own_share_and_time_is_linear_in_the_calls() {
        let said = |n: u32| Some(if n.is_multiple_of(4) { Said::Fail } else { Said::Pass });
        let of = |n: u32| Audited { feature: format!("f{}", n % 3), ..one(Verdict::Pass, 1.0, said(n)) };
        let slice: Vec<Audited> = (0..4_000).map(of).collect();
        assert_linear("thirty-two bytes stand for a call", |text| {
            assert!(estimate(&slice[..text.len() / 33]).false_pass.is_some());
        });
        let shares = estimate(&slice).false_pass_by_feature;
        assert_eq!(shares.keys().collect::<Vec<_>>(), ["f0", "f1", "f2"]);
        for (n, share) in (0..3).zip(shares.values()) {
            let own: Vec<Audited> = (n..4_000).step_by(3).map(of).collect();
            assert_eq!(estimate(&own).false_pass, Some(*share));
        }
    }

    /// Half of the calls are sampled with a tenth of the probability of the others and fail far more often: unweighted the rate
    /// would be far too low.
    #[test]
    fn the_estimate_is_unbiased_and_its_interval_covers() {
        let (rounds, mut sum, mut covered) = (100, 0.0, 0);
        let truth = 0.5 * 0.02 + 0.5 * 0.30;
        for round in 0..rounds {
            let mut slice = Vec::new();
            for n in 0..4000 {
                let (sampled, wrong) = if n % 2 == 0 { (1.0, 0.02) } else { (0.1, 0.30) };
                let draw = |what: &str| drawn(&format!("{what}:{round}:{n}"));
                if draw("sampled") < sampled && draw("slice") < 0.5 {
                    let said = if draw("wrong") < wrong { Said::Fail } else { Said::Pass };
                    slice.push(one(Verdict::Pass, sampled, Some(said)));
                }
            }
            let found = estimate(&slice).false_pass.unwrap();
            sum += found.share;
            covered += u32::from((found.lo..=found.hi).contains(&truth));
        }
        let mean = sum / f64::from(rounds);
        // Three standard errors of a mean of 100 estimates; without weights it would be about 0.05.
        assert!((mean - truth).abs() < 0.0075, "{mean} for {truth}");
        let covered = f64::from(covered) / f64::from(rounds);
        // With Kish's size alone it is 0.91.
        assert!(covered > 0.93, "{covered}");
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_share(rows in prop::collection::vec((0.001f64..=1.0, any::<bool>()), 1..60)) {
            let said = |fails: bool| Some(if fails { Said::Fail } else { Said::Pass });
            let slice: Vec<Audited> = rows.iter().map(|(p, fails)| one(Verdict::Pass, *p, said(*fails))).collect();
            let found = estimate(&slice).false_pass.unwrap();
            prop_assert!(0.0 <= found.lo && found.lo <= found.share + 1e-12);
            prop_assert!(found.share <= found.hi + 1e-12 && found.hi <= 1.0);
            prop_assert!(found.effective_n <= found.n as f64 + 1e-9);
        }
    }
}
