//! What somebody sees of the whole at a glance.

use std::collections::BTreeMap;

use serde::Serialize;

/// Newest evaluations over which features and rules are counted: a rule's outcomes lie within its evaluation's row, and to unpack
/// those of millions takes longer than anybody waits for a page.
pub const NEWEST: u32 = 10_000;

/// Counts by verdict.
pub type Verdicts = BTreeMap<String, u64>;

/// What somebody sees of the whole at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// Verdicts by the day (UTC, `2026-11-27`) on which they were made; a day without any is not there.
    pub days: BTreeMap<String, Verdicts>,
    /// Evaluations that are counted below: those of these days, and of them the [`NEWEST`].
    pub newest: u64,
    /// Of the newest by feature, then verdict.
    pub features: BTreeMap<String, Verdicts>,
    /// Of the newest by rule, then outcome, those that failed, could not tell or could not run.
    pub rules: BTreeMap<String, BTreeMap<String, u64>>,
    /// Dead letters by class, of every age. Of one no feature is known: who is held to some sees none.
    pub dead_letters: BTreeMap<String, u64>,
    /// Calls that wait for a judge, in every tenant.
    pub deferred: u64,
}
