//! `[judge]`: who is asked, how long, and for how much.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    evaluators::judge::{
        config::{BadModel, ModelConfig},
        prices::BadPrices,
    },
    store::JudgeLimits,
};

/// `[judge]`: LLMs that are asked about claims of which the model is not sure.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// Whether they are asked.
    pub enabled: bool,
    /// The judges in the order in which they are asked: the next one where one is out or fails on a call.
    pub models: Vec<ModelConfig>,
    /// Longest that one call takes with all judges and attempts, in seconds; below `[pipeline] call_deadline_secs`.
    pub deadline_secs: u64,
    /// Days for which an answer about a claim and its passages is kept and used again.
    pub cache_days: u64,
    /// File of prices in place of those that come with aftercheck.
    pub prices: Option<PathBuf>,
    /// What becomes of a call whose judge cannot be asked: the budget is spent, all judges are out, or too many calls wait.
    pub when_unavailable: WhenUnavailable,
    /// Hours after which a deferred call goes to review all the same.
    pub defer_hours: u64,
    /// What may be spent.
    pub budget: BudgetConfig,
}

/// What becomes of a call whose judge cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnavailable {
    /// It waits in the store, and is judged when it can be, the oldest first.
    #[default]
    Defer,
    /// A person looks at it.
    Review,
}

/// `[judge.budget]`: what may be spent in a day (UTC), by all workers on one store together; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Questions.
    pub calls_per_day: u64,
    /// US dollars; needs a price of every judge.
    pub usd_per_day: f64,
    /// Questions about calls of one tenant.
    pub tenant_calls_per_day: u64,
    /// US dollars for calls of one tenant.
    pub tenant_usd_per_day: f64,
}

impl BudgetConfig {
    /// The same as the store wants it.
    pub fn limits(self) -> JudgeLimits {
        JudgeLimits {
            calls: self.calls_per_day,
            usd: self.usd_per_day,
            tenant_calls: self.tenant_calls_per_day,
            tenant_usd: self.tenant_usd_per_day,
        }
    }
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            models: Vec::new(),
            deadline_secs: 60,
            cache_days: 30,
            prices: None,
            when_unavailable: WhenUnavailable::default(),
            defer_hours: 48,
            budget: BudgetConfig::default(),
        }
    }
}

/// Why judges cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadJudge {
    /// A model is not what it must be.
    #[error(transparent)]
    Model(#[from] BadModel),
    /// The price table cannot be used.
    #[error(transparent)]
    Prices(#[from] BadPrices),
    /// A value is out of its range.
    #[error("[judge] {0}")]
    Range(&'static str),
    /// A budget in dollars cannot be kept for a judge without a price.
    #[error(
        "[judge.budget] usd_per_day: nobody knows what {0} costs; give it a price in a file that [judge] prices names"
    )]
    NoPrice(String),
}

impl JudgeConfig {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// [`BadJudge`] naming the key and the remedy.
    pub fn check(&self) -> Result<(), BadJudge> {
        let names: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
        let is_first = |(at, name): (usize, &&str)| !names[..at].contains(name);
        let usd = [self.budget.usd_per_day, self.budget.tenant_usd_per_day];
        let checks = [
            (!self.enabled || !names.is_empty(), "models: need one at least, or enabled = false"),
            (names.len() <= 10, "models: need at most 10"),
            (names.iter().enumerate().all(is_first), "models: each needs a name of its own"),
            ((1..=3600).contains(&self.deadline_secs), "deadline_secs: need 1 to 3600"),
            ((1..=3650).contains(&self.cache_days), "cache_days: need 1 to 3650"),
            ((1..=8760).contains(&self.defer_hours), "defer_hours: need 1 to 8760"),
            (usd.iter().all(|usd| usd.is_finite() && *usd >= 0.0), "budget: need dollars from 0 on"),
        ];
        if let Some((_, remedy)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(BadJudge::Range(remedy));
        }
        self.models.iter().try_for_each(ModelConfig::check).map_err(BadJudge::from)
    }
}
