//! The review of one evaluation: what has been said so far, and what follows from it. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Reason, label::Said};

/// How much earlier than others of its time the most telling item is shown: everything that is older than this goes before it,
/// so that nothing waits for ever.
pub const HEAD_START_MS: i64 = 7 * 86_400_000;
/// For how long a prompt or model version counts as new, from its first review item on; its newness wears off evenly.
pub const FRESH_MS: i64 = 7 * 86_400_000;

/// Where a review item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// It wants a label, the first or the second.
    Open,
    /// Its labels differ: somebody else decides.
    Disputed,
    /// It is decided.
    Closed,
}

impl ReviewState {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Disputed => "disputed",
            Self::Closed => "closed",
        }
    }
}

/// A label that stands: the newest of its reviewer, and not taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Who said it.
    pub reviewer: String,
    /// What was said.
    pub said: Said,
    /// Whether it decides between the others.
    pub adjudicates: bool,
}

/// What follows from the labels that stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Where the item stands.
    pub state: ReviewState,
    /// The place of the label that counts, among those that were given; none where nothing is decided.
    pub counts: Option<usize>,
}

/// Decides by the labels that stand, oldest first, of which `wanted` are needed: the newest adjudication counts before all;
/// else, once there are enough, the newest of labels that agree. Labels that differ, `unsure` included, are disputed.
pub fn settle(standing: &[Standing], wanted: u32) -> Settled {
    if let Some(at) = standing.iter().rposition(|one| one.adjudicates) {
        return Settled { state: ReviewState::Closed, counts: Some(at) };
    }
    let Some(last) = standing.last() else { return Settled { state: ReviewState::Open, counts: None } };
    if standing.iter().any(|one| one.said != last.said) {
        return Settled { state: ReviewState::Disputed, counts: None };
    }
    match u32::try_from(standing.len()).is_ok_and(|count| count < wanted) {
        true => Settled { state: ReviewState::Open, counts: None },
        false => Settled { state: ReviewState::Closed, counts: Some(standing.len() - 1) },
    }
}

/// Share of the labels, adjudications left out, that say the same as the one that counts, 0..1; none where fewer than two people
/// looked.
pub fn agreement(standing: &[Standing], said: Said) -> Option<f64> {
    let blind: Vec<&Standing> = standing.iter().filter(|one| !one.adjudicates).collect();
    let same = blind.iter().filter(|one| one.said == said).count();
    (blind.len() >= 2).then(|| same as f64 / blind.len() as f64)
}

/// Whether two things that were found contradict one another: nothing is less sure.
pub fn is_conflict(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ThumbsDown | Reason::Escalated | Reason::JudgeDisagrees | Reason::ClaimNotSupported
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label(reviewer: &str, said: Said, adjudicates: bool) -> Standing {
        Standing { reviewer: reviewer.into(), said, adjudicates }
    }

    #[test]
    fn the_table() {
        use ReviewState::{Closed, Disputed, Open};
        use Said::{Fail, Pass, Unsure};
        let [ana, ben] = ["ana", "ben"];
        let rows: [(Vec<Standing>, u32, ReviewState, Option<usize>); 8] = [
            (vec![], 1, Open, None),
            (vec![label(ana, Unsure, false)], 1, Closed, Some(0)),
            (vec![label(ana, Pass, false)], 2, Open, None),
            (vec![label(ana, Pass, false), label(ben, Pass, false)], 2, Closed, Some(1)),
            (vec![label(ana, Pass, false), label(ben, Fail, false)], 2, Disputed, None),
            (vec![label(ana, Pass, false), label(ben, Unsure, false)], 2, Disputed, None),
            // Two people labelled side by side although one was enough.
            (vec![label(ana, Pass, false), label(ben, Fail, false)], 1, Disputed, None),
            (
                vec![label(ana, Pass, false), label(ben, Fail, false), label("eve", Fail, true)],
                2,
                Closed,
                Some(2),
            ),
        ];
        for (standing, wanted, state, counts) in rows {
            assert_eq!(settle(&standing, wanted), Settled { state, counts }, "{standing:?} of {wanted}");
        }
        let three = [label(ana, Pass, false), label(ben, Fail, false), label("eve", Fail, true)];
        assert_eq!(agreement(&three, Fail), Some(0.5));
        assert_eq!(agreement(&three[..1], Pass), None);
    }

    fn said() -> impl Strategy<Value = Said> {
        prop_oneof![Just(Said::Pass), Just(Said::Fail), Just(Said::Unsure)]
    }

    proptest! {
        #[test]
        fn what_counts_is_what_was_said_and_only_a_closed_item_counts(
            given in prop::collection::vec((0u8..5, said(), prop::bool::weighted(0.2)), 0..6), wanted in 1u32..3,
        ) {
            let standing: Vec<Standing> =
                given.iter().map(|(who, said, last)| label(&who.to_string(), *said, *last)).collect();
            let settled = settle(&standing, wanted);
            prop_assert_eq!(settled.counts.is_some(), settled.state == ReviewState::Closed);
            if let Some(at) = settled.counts {
                let counts = &standing[at];
                prop_assert!(counts.adjudicates || standing.iter().all(|one| one.said == counts.said));
                prop_assert!(counts.adjudicates || standing.len() >= wanted as usize);
            }
            // Whoever decides between labels ends every dispute.
            let mut decided = standing.clone();
            decided.push(label("judge", Said::Fail, true));
            prop_assert_eq!(settle(&decided, wanted).state, ReviewState::Closed);
            // The order in which two people spoke changes no state.
            let turned: Vec<Standing> = standing.iter().rev().cloned().collect();
            prop_assert_eq!(settle(&turned, wanted).state, settled.state);
        }
    }
}
