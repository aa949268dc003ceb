//! The store: where every effect happens once. One trait, so that SQLite and Postgres can keep it.
//!
//! What a store promises: [`Store::record`] is one transaction over everything a verdict consists of, guarded
//! by the unique key (`tenant_id`, `request_id`, `evaluator_version`); attempts are counted before the work;
//! a repeat of any call here changes nothing that is already true.
//!
//! Nothing is kept for ever that nobody needs: [`Store::prune`] deletes what is old, reviewed and delivered. A call
//! that was pruned and comes again is evaluated again.

pub mod accounts;
pub mod checked;
mod deferral;
mod delivering;
pub mod golden;
pub mod judging;
mod leaving;
pub mod notices;
pub mod overview;
pub mod postgres;
pub mod read;
mod retracting;
pub mod reviewing;
mod rows;
pub mod sqlite;

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{error::DatabaseError as _, sqlite::SqliteError};
use uuid::Uuid;

use crate::{
    database::{self, DatabaseError, DatabaseKind, Databases},
    domain::{Addressed, Call, DeadLetter, Evaluation, Reason, id},
};
pub use accounts::Accounts;
pub use checked::{Checked, Place, Sought};
pub use deferral::{Deferred, Until};
pub use delivering::{DeadDelivery, Delivered, SinkState, Undelivered};
pub use golden::Goldens;
pub use judging::{JudgeLimits, Reservation};
pub use leaving::{Erased, Pruned, TooOld, Whose};
pub use overview::Overview;
pub use read::{ClaimTotals, Cut, DeadLetterRow, Due, LedgerEntry, OutboxRow, Page, Report, Stored, Story};
pub use reviewing::Reviews;
use reviewing::Scope;

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

/// A call as it is asked for: its key, and the digest by which another body under the same key is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallKey {
    /// Its tenant.
    pub tenant_id: String,
    /// The producer's id.
    pub request_id: String,
    /// Digest of all of it, whatever is kept.
    pub body_digest: String,
}

impl CallKey {
    /// The key of a call, and the digest of all of it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the call cannot be written as JSON.
    pub fn of(call: &Call) -> Result<Self, StoreError> {
        let body_digest = body_digest(&json("call", call)?);
        let Call { tenant_id, request_id, .. } = call;
        Ok(Self { tenant_id: tenant_id.clone(), request_id: request_id.clone(), body_digest })
    }
}

/// What is kept of a call.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The call as JSON, whole or with its answer cut.
    pub body: String,
    /// Digest of all of it, as in [`CallKey`].
    pub body_digest: String,
    /// Whose call it is, by the name that its producer has for the customer: what `aftercheck erase --user` finds.
    pub user_key: Option<String>,
    /// The message as it was delivered, where it is in the debug share.
    pub sealed: Option<Sealed>,
}

/// A message under a key that only whoever may reveal it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The message, encrypted.
    pub message: Vec<u8>,
    /// When it is deleted, in Unix milliseconds.
    pub expires_ms: i64,
}

/// Everything that one verdict writes.
#[derive(Debug, Clone)]
pub struct Record {
    /// What is kept of the call.
    pub kept: Kept,
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
    /// What people should hear of it, a notice for each route.
    pub notices: Vec<Addressed>,
}

/// A call that a person should look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReviewItem {
    /// Why.
    pub reason: Reason,
    /// Probability with which such a call is sent to review: 1, or the audit slice's rate.
    pub probability: f64,
    /// How telling a label would be, 0..1, but for what newness adds: a share of
    /// [`crate::domain::review::HEAD_START_MS`].
    pub value: f64,
    /// What it adds that the prompt or model version is new, 0..1: the store knows since when it is known.
    pub newness: f64,
    /// Version of the call's prompt.
    pub prompt_version: String,
    /// Model that answered.
    pub model: String,
    /// Labels that it wants, each by another person: 1 or 2.
    pub wanted: u32,
}

impl ReviewItem {
    /// An item of middling value that one person looks at.
    pub fn new(reason: Reason, probability: f64) -> Self {
        let (prompt_version, model) = (String::new(), String::new());
        Self { reason, probability, value: 0.5, newness: 0.0, prompt_version, model, wanted: 1 }
    }
}

/// A payload that can never become an evaluation.
#[derive(Debug, Clone)]
pub struct Burial {
    /// What is kept of it: its bytes, or those that redaction left.
    pub payload: Bytes,
    /// Digest of its bytes as they were delivered: its attempts are counted under it.
    pub payload_digest: String,
    /// Whose call it was to be, as in [`Kept`].
    pub user_key: Option<String>,
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
    /// It was erased: nothing of it is kept again.
    Erased,
}

impl Decided {
    /// Label of the metric of repeats.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "new",
            Self::Same => "same",
            Self::Conflict => "conflict",
            Self::Erased => "erased",
        }
    }
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buried {
    /// It was written.
    Written,
    /// The call was erased: nothing of it is kept again.
    Erased,
    /// Its attempts are not counted, so that they cannot be used up: another delivery of the same bytes has come to its end
    /// meanwhile, or a server has forgotten them. The payload has to come again to tell.
    Uncounted,
}

/// Whether it is this worker's turn to scan what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanTurn {
    /// A scan was due, and nobody else has it.
    pub is_ours: bool,
    /// Values that the last scan found, whoever made it; 0 before the first.
    pub found: u64,
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
    /// The call was erased: nothing was written.
    Erased,
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
pub trait Store: notices::Notices + Reviews + Goldens + Accounts {
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
    async fn decided(
        &self,
        calls: &[Arc<CallKey>],
        evaluator_version: &str,
    ) -> Result<Vec<Decided>, StoreError>;

    /// Ends the payload of a call that was decided already; a conflicting body is entered in the ledger.
    async fn note_duplicate(
        &self,
        call: &CallKey,
        payload_digest: &str,
        conflict: bool,
    ) -> Result<(), StoreError>;

    /// Enters an event in the ledger of a call that is not evaluated yet, such as a failed attempt, with the first
    /// [`DETAIL_BYTES`] of the detail. The same entry again changes nothing.
    async fn enter(
        &self,
        tenant_id: Option<&str>,
        request_id: &str,
        event: &'static str,
        detail: &str,
    ) -> Result<(), StoreError>;

    /// Writes all records in one transaction. A key that is there already is left as it is, and of an erased call nothing is
    /// written. A dead letter that says that
    /// the payload's attempts are used up goes: another delivery of the same bytes came through.
    async fn record(&self, records: &[Record]) -> Result<Vec<Recorded>, StoreError>;

    /// Writes a dead letter. The same payload again makes it a newer one, so that [`Store::remove_dead_letter`] of the
    /// older finds nothing. The attempts of a payload that used them up stay, so that its redelivery after a crash
    /// is no new beginning; they go with the letter. Not every letter is written: see [`Buried`].
    async fn bury(&self, burial: &Burial) -> Result<Buried, StoreError>;

    /// Forgets the attempts of a payload, and with them a letter that says that they are used up: it has not begun.
    async fn forget_attempts(&self, payload_digest: &str) -> Result<(), StoreError>;

    /// Everything known about a request id, in every tenant unless one is named.
    async fn stories(&self, tenant_id: Option<&str>, request_id: &str) -> Result<Vec<Story>, StoreError>;

    /// Dead letters without their payloads, newest first, at most `limit`, of one class when given. Where tenants are named, of
    /// these.
    async fn dead_letters(
        &self,
        class: Option<&str>,
        tenants: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<DeadLetterRow>, StoreError>;

    /// One dead letter.
    async fn dead_letter(&self, dead_letter_id: Uuid) -> Result<Option<DeadLetterRow>, StoreError>;

    /// Removes a dead letter and its payload's attempts, leaving a ledger entry: `requeued` or `dropped`, and by whom. False when
    /// it is not there, or when it was written again since `created_ms`.
    async fn remove_dead_letter(
        &self,
        dead_letter_id: Uuid,
        created_ms: i64,
        event: &'static str,
        by: &str,
    ) -> Result<bool, StoreError>;

    /// Evaluations with their calls, in the order in which they were made, and where the next page begins; none where there is
    /// no more. One that cannot be read is left out.
    async fn evaluated(&self, page: &Page) -> Result<(Vec<Stored>, Option<Page>), StoreError>;

    /// Totals and the `worst` lowest faithfulness values, of evaluations since a Unix time in milliseconds.
    async fn report(&self, since_ms: i64, worst: u32) -> Result<Report, StoreError>;

    /// What a scope holds of the evaluations since a Unix time in milliseconds, at a glance.
    async fn overview(&self, scope: &Scope, since_ms: i64) -> Result<Overview, StoreError>;

    /// Evaluations of a scope by what they say, newest first: of the [`overview::NEWEST`] of it.
    async fn checked(&self, scope: &Scope, sought: &Sought<'_>) -> Result<Vec<Checked>, StoreError>;

    /// Due outbox rows of one sink, oldest first, put off by `lease_ms` so that no one else takes them. None of a sink that is
    /// paused, and none whose call has an earlier row for this sink that is neither delivered nor dead.
    async fn due(&self, sink: &str, limit: u32, lease_ms: i64) -> Result<Vec<OutboxRow>, StoreError>;

    /// Marks outbox rows as delivered, with what is needed to take them back. Of a retraction nothing stays.
    async fn delivered(&self, rows: &[Delivered]) -> Result<(), StoreError>;

    /// Puts off outbox rows that were not delivered, or ends them.
    async fn undelivered(&self, rows: &[Undelivered]) -> Result<(), StoreError>;

    /// Calls as far as they are kept, by tenant and request id, in the order of the keys; none for one that is erased, gone or
    /// cannot be read.
    async fn calls(&self, keys: &[(String, String)]) -> Result<Vec<Option<Call>>, StoreError>;

    /// Deliveries within a scope that were given up, of one sink when given, newest first, at most `limit`; not those that were
    /// dropped.
    async fn dead_deliveries(
        &self,
        sink: Option<&str>,
        scope: &Scope,
        limit: u32,
    ) -> Result<Vec<DeadDelivery>, StoreError>;

    /// One delivery that was given up.
    async fn dead_delivery(&self, delivery_id: Uuid) -> Result<Option<DeadDelivery>, StoreError>;

    /// Has a delivery that was given up tried again, as if it were new; the ledger of its call says by whom. False where there is
    /// none.
    async fn requeue_delivery(&self, delivery_id: Uuid, by: &str) -> Result<bool, StoreError>;

    /// The same of deliveries of a sink that nobody has dropped, at most `limit` of those behind `after` in the order of their ids:
    /// page by page each is requeued once, also where it dies again meanwhile. Gives back which.
    async fn requeue_deliveries(
        &self,
        sink: &str,
        after: Option<Uuid>,
        limit: u32,
        by: &str,
    ) -> Result<Vec<Uuid>, StoreError>;

    /// Takes a delivery that was given up off the list; should its call be erased, its sink is told all the same. The ledger of
    /// its call says by whom. False where there is none.
    async fn drop_delivery(&self, delivery_id: Uuid, by: &str) -> Result<bool, StoreError>;

    /// Pauses a sink, or ends the pause: for all workers, until somebody ends it. A batch that is at work is not ended. False
    /// where it was so already.
    async fn pause_sink(&self, sink: &str, paused: bool) -> Result<bool, StoreError>;

    /// How each sink stands that has pending or dead rows or is paused, in the order of their names.
    async fn sink_states(&self) -> Result<Vec<SinkState>, StoreError>;

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

    /// Counts what [`Store::erase`] would erase in all.
    async fn erasable(&self, whose: &Whose) -> Result<Erased, StoreError>;

    /// Erases the next calls behind `after` (request id and tenant), at most `limit` in one transaction, and as many dead
    /// letters: reviewed or not, delivered or not. Of a call its key stays, and a ledger entry `erased`, so that no
    /// redelivery writes it again; nothing else does. What is still in a queue is not known here. The sinks of
    /// `retracting` are told to delete what they may have been sent: an outbox row each, due once no dispatcher can be at
    /// the delivery any more.
    async fn erase(
        &self,
        whose: &Whose,
        after: Option<&(String, String)>,
        limit: u32,
        retracting: &[String],
    ) -> Result<Erased, StoreError>;

    /// Sealed messages of a request id by tenant, in every tenant unless one is named, that have not expired. That they
    /// were asked for is entered in the ledger with this detail, committed before this returns.
    async fn reveal(
        &self,
        tenant_id: Option<&str>,
        request_id: &str,
        detail: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Keeps a call, as JSON, until its judge can be asked, with what else is kept of it, and ends its payload. Nothing is kept of
    /// a call that was erased, or that is there with another body, which is a ledger entry. A repeat changes nothing.
    async fn defer(
        &self,
        record: &Record,
        call: &str,
        until: Until,
        why: &'static str,
    ) -> Result<Recorded, StoreError>;

    /// The oldest deferred call of an evaluator version that is due, put off by `lease_ms` so that no one else takes it. One of
    /// another version is taken where no worker of that version has for a day.
    async fn deferred(&self, evaluator_version: &str, lease_ms: i64) -> Result<Option<Deferred>, StoreError>;

    /// Puts a deferred call off; where it did not fail, it is as if it had not been taken.
    async fn put_off(&self, call: &Deferred, until: Until, failed: bool) -> Result<(), StoreError>;

    /// Ends a call's waiting, because it is decided or buried.
    async fn end_deferred(&self, call: &Deferred) -> Result<(), StoreError>;

    /// How many calls wait for a judge.
    async fn deferred_calls(&self) -> Result<u64, StoreError>;

    /// Answers of judges by their keys, those that are known and have not expired.
    async fn judged(&self, keys: &[String]) -> Result<HashMap<String, String>, StoreError>;

    /// Keeps answers of a judge about a call, each under its key, for so many milliseconds; one that is there already stays.
    /// Nothing of them is kept where the call was erased.
    async fn remember_judged(
        &self,
        call: (&str, &str),
        answers: &[(String, String)],
        keep_ms: i64,
    ) -> Result<(), StoreError>;

    /// Takes one question to a judge, of about this cost in US dollars, out of the budget of the day (UTC, by the store's
    /// clock) and of the tenant; none where one of them is spent. Asked again because an answer was lost, it may take twice.
    async fn reserve_judging(
        &self,
        tenant_id: &str,
        usd: f64,
        limits: &JudgeLimits,
    ) -> Result<Option<Reservation>, StoreError>;

    /// Corrects what a question was thought to cost by this much.
    async fn correct_judging(
        &self,
        tenant_id: &str,
        reservation: Reservation,
        usd: f64,
    ) -> Result<(), StoreError>;

    /// Deletes sealed messages that have expired, old notices, and what is older than [`TooOld`] says, at most `limit` of each; returns
    /// how many rows went. With a dead letter goes its history, unless the call is known otherwise.
    async fn expire(&self, too_old: TooOld, limit: u32) -> Result<u64, StoreError>;

    /// Takes the scan of what is kept, where one is due, for one of all workers; another takes it where it has not ended
    /// after `lease_ms`.
    async fn take_scan(&self, lease_ms: i64) -> Result<ScanTurn, StoreError>;

    /// Ends a scan: what it found is kept, and the next one is due in `next_ms`.
    async fn end_scan(&self, found: u64, next_ms: i64) -> Result<(), StoreError>;
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

/// JSON text of a value that is stored whole.
pub(crate) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt { what, detail: error.to_string() })
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
