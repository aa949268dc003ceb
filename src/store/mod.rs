//! The store: where every effect happens once. One trait, so that SQLite and Postgres can keep it.
//!
//! What a store promises: [`Store::record`] is one transaction over everything a verdict consists of, guarded
//! by the unique key (`tenant_id`, `request_id`, `evaluator_version`); attempts are counted before the work;
//! a repeat of any call here changes nothing that is already true.
//!
//! Nothing is kept for ever that nobody needs: [`Store::prune`] deletes what is old, reviewed and delivered. A call
//! that was pruned and comes again is evaluated again.

pub mod postgres;
pub mod read;
mod rows;
pub mod sqlite;

use std::{borrow::Cow, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{error::DatabaseError as _, sqlite::SqliteError};
use uuid::Uuid;

use crate::{
    database::{self, DatabaseError, DatabaseKind, Databases},
    domain::{Call, DeadLetter, Evaluation, Reason, id},
};
pub use read::{ClaimTotals, DeadLetterRow, LedgerEntry, OutboxRow, Report, Story};

/// `[store]`: where verdicts are kept.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Which database.
    pub kind: DatabaseKind,
}

/// The store in the database that is configured.
///
/// # Errors
/// [`DatabaseError::NotOpen`].
pub fn build(config: &StoreConfig, databases: &Databases) -> Result<Arc<dyn Store>, DatabaseError> {
    Ok(match config.kind {
        DatabaseKind::Sqlite => Arc::new(sqlite::SqliteStore::new(databases.sqlite()?)),
        DatabaseKind::Postgres => Arc::new(postgres::PostgresStore::new(databases.postgres()?)),
    })
}

/// Everything that one verdict writes.
#[derive(Debug, Clone)]
pub struct Record {
    /// The call as decoded.
    pub call: Call,
    /// SHA-256 of the payload; its attempts end with this record.
    pub payload_digest: String,
    /// The source that delivered it.
    pub source: &'static str,
    /// The evaluation.
    pub evaluation: Evaluation,
    /// The review item, where a person has to look.
    pub review: Option<ReviewItem>,
    /// Names of the sinks that want the scores.
    pub sinks: Vec<String>,
}

/// A call that a person should look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReviewItem {
    /// Why.
    pub reason: Reason,
    /// Probability with which such a call is sent to review: 1, or the audit slice's rate.
    pub probability: f64,
}

/// A payload that can never become an evaluation.
#[derive(Debug, Clone)]
pub struct Burial {
    /// What is kept of it: its bytes, or those that redaction left.
    pub payload: Bytes,
    /// Digest of its bytes as they were delivered: its attempts are counted under it.
    pub payload_digest: String,
    /// Why.
    pub letter: DeadLetter,
    /// How often it was tried.
    pub attempts: u32,
    /// The source that delivered it.
    pub source: &'static str,
}

/// What the store knows about a call under one evaluator version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// This version has not decided it.
    No,
    /// This version has decided it.
    Same,
    /// The call is known with another body, whichever version decided it: the first body is kept, and evidence about
    /// this one would point into the wrong text.
    Conflict,
}

/// An outbox row whose delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undelivered {
    /// The row.
    pub delivery_id: Uuid,
    /// When to try again, in milliseconds from now; none when it is given up.
    pub after_ms: Option<i64>,
}

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It was written.
    New,
    /// The key was there already: another delivery of the same call won.
    AlreadyThere,
    /// The call is there with another body: nothing but a ledger entry was written.
    Conflict,
}

/// One stored text that came from a call.
#[derive(Debug)]
pub struct StoredText<'t> {
    /// Its table and column, such as `calls.body`.
    pub place: &'static str,
    /// The key of its row.
    pub key: Cow<'t, str>,
    /// Its bytes.
    pub text: &'t [u8],
}

/// What was deleted with age, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Evaluations with their claims, rule outcomes, scores, closed review items and ended deliveries.
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

/// Why a store could not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Busy, locked, timed out, disconnected: the same call may work later.
    #[error("store is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Anything else, a broken constraint included: trying again gives the same.
    #[error("store refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// A stored value does not read back.
    #[error("stored {what} is not readable: {detail}")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// A place for calls, verdicts, evidence and what is still to be sent.
#[async_trait]
pub trait Store: Send + Sync {
    /// How often each payload was begun before; 0 for a payload that is new or done.
    async fn attempts(&self, payload_digests: &[String]) -> Result<Vec<u32>, StoreError>;

    /// Counts one more attempt of each payload, committed before this returns. Returns the new counts. Called again under
    /// the same `counting`, because the answer was lost, it counts nothing unless another worker counted the same payload
    /// in between.
    async fn count_attempts(
        &self,
        payload_digests: &[String],
        counting: Uuid,
    ) -> Result<Vec<u32>, StoreError>;

    /// Whether this evaluator version has decided each call already, and on the same body.
    async fn decided(&self, calls: &[Arc<Call>], evaluator_version: &str)
    -> Result<Vec<Decided>, StoreError>;

    /// Ends the payload of a call that was decided already; a conflicting body is entered in the ledger.
    async fn note_duplicate(
        &self,
        call: &Call,
        payload_digest: &str,
        conflict: bool,
    ) -> Result<(), StoreError>;

    /// Enters a failed attempt in the ledger of a call that is not evaluated yet, the first [`DETAIL_BYTES`] of the
    /// detail. The same entry again changes nothing.
    async fn note_retry(
        &self,
        tenant_id: Option<&str>,
        request_id: &str,
        detail: &str,
    ) -> Result<(), StoreError>;

    /// Writes all records in one transaction. A key that is there already is left as it is.
    async fn record(&self, records: &[Record]) -> Result<Vec<Recorded>, StoreError>;

    /// Writes a dead letter. The same payload again makes it a newer one, so that [`Store::remove_dead_letter`] of the
    /// older finds nothing. The attempts of a payload that used them up stay, so that its redelivery after a crash
    /// is no new beginning; they go with the letter.
    async fn bury(&self, burial: &Burial) -> Result<(), StoreError>;

    /// Everything known about a request id, in every tenant unless one is named.
    async fn stories(&self, tenant_id: Option<&str>, request_id: &str) -> Result<Vec<Story>, StoreError>;

    /// Dead letters, newest first, at most `limit`, of one class when given.
    async fn dead_letters(&self, class: Option<&str>, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError>;

    /// One dead letter.
    async fn dead_letter(&self, dead_letter_id: Uuid) -> Result<Option<DeadLetterRow>, StoreError>;

    /// Removes a dead letter and its payload's attempts, leaving a ledger entry: `requeued` or `dropped`. False when
    /// it is not there, or when it was written again since `created_ms`.
    async fn remove_dead_letter(
        &self,
        dead_letter_id: Uuid,
        created_ms: i64,
        event: &'static str,
    ) -> Result<bool, StoreError>;

    /// Totals and the `worst` lowest faithfulness values, of evaluations since a Unix time in milliseconds.
    async fn report(&self, since_ms: i64, worst: u32) -> Result<Report, StoreError>;

    /// Due outbox rows of one sink, oldest first, put off by `lease_ms` so that no one else takes them.
    async fn due(&self, sink: &str, limit: u32, lease_ms: i64) -> Result<Vec<OutboxRow>, StoreError>;

    /// Marks outbox rows as delivered.
    async fn delivered(&self, delivery_ids: &[Uuid]) -> Result<(), StoreError>;

    /// Puts off outbox rows whose delivery failed, or ends them.
    async fn undelivered(&self, rows: &[Undelivered], error: &str) -> Result<(), StoreError>;

    /// Outbox rows that are neither delivered nor dead.
    async fn outbox_open(&self) -> Result<u64, StoreError>;

    /// Shows every stored text that came from a call, in no order.
    async fn each_text(
        &self,
        visit: &mut (dyn for<'t> FnMut(StoredText<'t>) + Send),
    ) -> Result<(), StoreError>;

    /// Counts what [`Store::prune`] would delete of everything that was evaluated before a Unix time in milliseconds.
    async fn prunable(&self, before_ms: i64) -> Result<Pruned, StoreError>;

    /// Deletes the oldest evaluations of a span of Unix milliseconds, at most `limit` in one transaction, with all that
    /// belongs to them, then the calls that no evaluation needs any more and their ledger entries. Never an evaluation
    /// whose review is open or that has a delivery which is neither made nor given up, and never a dead letter or the
    /// ledger entries that tell of it. A pruned call that comes again is evaluated again. A repeat deletes the next.
    async fn prune(&self, evaluated_ms: Range<i64>, limit: u32) -> Result<Pruned, StoreError>;
}

/// Longest detail of a ledger entry: it is part of a key.
pub const DETAIL_BYTES: usize = 1000;

/// The detail of a ledger entry, cut where it is too long.
fn short(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_BYTES)]
}

impl StoreError {
    /// Whether it passes only once somebody has mended it: the login, a right, the tables, the file itself.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Unavailable(error) => database::postgres::needs_operator(error),
            Self::Refused(_) | Self::Corrupt { .. } => true,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let transient = match &error {
            sqlx::Error::Database(inner) => match inner.try_downcast_ref::<SqliteError>() {
                // SQLITE_BUSY 5, LOCKED 6, READONLY 8, IOERR 10, FULL 13, CANTOPEN 14 in the low byte of the extended code:
                // none of them is about what is written.
                Some(inner) => {
                    let code = inner.code().and_then(|code| code.parse::<u32>().ok());
                    code.is_some_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
                }
                None => database::postgres::passes(&error),
            },
            _ => database::postgres::passes(&error),
        };
        if transient { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}

/// Digest of a call's meaning: the same call written with other white space or key order has the same.
pub fn body_digest(body: &str) -> String {
    id::sha256_hex(body.as_bytes())
}

/// Id of the dead letter of a payload, by the digest of its bytes.
pub fn dead_letter_id(payload_digest: &str) -> Uuid {
    id::derived("dead_letter", &[payload_digest])
}

/// Id of the evaluation of a call by one evaluator version.
pub fn evaluation_id(call: &Call, evaluator_version: &str) -> Uuid {
    id::derived_at(call.occurred_at, "evaluation", &[&call.tenant_id, &call.request_id, evaluator_version])
}
