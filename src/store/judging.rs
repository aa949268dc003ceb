//! What judges may cost, and what was taken out of it. The store keeps it, because any number of workers share the budget.

/// Limits of one day (UTC); 0 where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct JudgeLimits {
    /// Questions in all.
    pub calls: u64,
    /// US dollars in all.
    pub usd: f64,
    /// Questions about calls of one tenant.
    pub tenant_calls: u64,
    /// US dollars for calls of one tenant.
    pub tenant_usd: f64,
}

impl JudgeLimits {
    /// Limits of all, and of one tenant, with what no budget reaches where there is none.
    pub(super) fn pairs(&self) -> [(i64, f64); 2] {
        let calls = |limit: u64| if limit == 0 { i64::MAX } else { i64::try_from(limit).unwrap_or(i64::MAX) };
        let usd = |limit: f64| if limit > 0.0 { limit } else { f64::MAX };
        [(calls(self.calls), usd(self.usd)), (calls(self.tenant_calls), usd(self.tenant_usd))]
    }
}

/// What was taken out of a day's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Days since 1970, UTC.
    pub(super) day: i64,
}

/// Whose row it is that counts all tenants: no tenant is called so.
pub(super) const EVERYBODY: &str = "";
