//! What leaves the store: with age, or because somebody asked for it.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was deleted with age, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Evaluations with their claims, scores, closed review items and ended deliveries.
    pub evaluations: u64,
    /// Calls that no evaluation needs any more.
    pub calls: u64,
    /// Ledger entries of those calls.
    pub ledger: u64,
    /// When the newest of the evaluations was made, in Unix milliseconds: nothing older is left that may go, but for
    /// what else was made in that millisecond. None where there was nothing to delete.
    #[serde(skip)]
    pub reached_ms: Option<i64>,
}

/// Whose calls are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// One call, in every tenant unless one is named.
    Call {
        /// The producer's id.
        request_id: String,
        /// Its tenant.
        tenant_id: Option<String>,
    },
    /// Everything of a customer, in every tenant unless one is named.
    User {
        /// The producer's name for the customer.
        user_key: String,
        /// The tenant.
        tenant_id: Option<String>,
    },
    /// Everything of a tenant.
    Tenant(String),
}

impl Whose {
    /// Columns and what they hold. A statement names those that are asked for and no other, so that it uses their index.
    pub(super) fn columns(&self) -> Vec<(&'static str, &str)> {
        let (first, tenant_id) = match self {
            Self::Call { request_id, tenant_id } => (Some(("request_id", request_id)), tenant_id.as_ref()),
            Self::User { user_key, tenant_id } => (Some(("user_key", user_key)), tenant_id.as_ref()),
            Self::Tenant(tenant_id) => (None, Some(tenant_id)),
        };
        let columns = first.into_iter().chain(tenant_id.map(|tenant| ("tenant_id", tenant)));
        columns.map(|(column, value)| (column, value.as_str())).collect()
    }
}

/// Unix times in milliseconds; what is from before one of them is too old. 0: nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TooOld {
    /// For keys of erased calls, by when they were erased.
    pub erased_ms: i64,
    /// For dead letters, by when they were written last.
    pub dead_ms: i64,
}

/// What was erased, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Calls, with their sealed copies.
    pub calls: u64,
    /// Their evaluations, with all that belongs to them.
    pub evaluations: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Deliveries of those evaluations that were made or tried, by sink: what is there is not erased with them. The outbox
    /// tells the sinks that are named to delete it.
    pub delivered: BTreeMap<String, u64>,
    /// The last call that was looked at, by request id and tenant: the next batch begins behind it. None when there is no
    /// more.
    #[serde(skip)]
    pub reached: Option<(String, String)>,
}
