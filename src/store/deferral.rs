//! Calls that wait for a judge: any worker of their evaluator version may take them up again.

use jiff::Timestamp;

/// A call whose judge could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferred {
    /// Its tenant.
    pub tenant_id: String,
    /// The producer's id.
    pub request_id: String,
    /// The evaluator version that deferred it.
    pub evaluator_version: String,
    /// Digest of its body, as in [`CallKey`](super::CallKey).
    pub body_digest: String,
    /// The call as JSON, redacted and whole.
    pub call: String,
    /// Digest of its payload.
    pub payload_digest: String,
    /// Whose call it is, as in [`Kept`](super::Kept).
    pub user_key: Option<String>,
    /// How long it has waited, in milliseconds.
    pub age_ms: i64,
    /// How often it was taken since it last came to an orderly end, this time included.
    pub tries: i64,
}

/// What the ledger says of a call that begins to wait: why, and until when at first.
pub(super) fn told(why: &str, due_ms: i64) -> String {
    // A time that cannot be written is none that anyone waits for.
    Timestamp::from_millisecond(due_ms)
        .map_or_else(|_| why.to_owned(), |due| format!("{why}, at first until {due:.0}"))
}

/// When a deferred call is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When the next day begins (UTC), and with it another budget; at the latest after so many milliseconds.
    Tomorrow {
        /// Longest wait in milliseconds.
        most_ms: i64,
    },
    /// After so many milliseconds.
    In(i64),
}

impl Until {
    /// Milliseconds from now, at the latest; and whether the next day, which the store's clock knows, comes before.
    pub(super) fn ms(self) -> (i64, bool) {
        match self {
            Self::Tomorrow { most_ms } => (most_ms, true),
            Self::In(ms) => (ms, false),
        }
    }
}
