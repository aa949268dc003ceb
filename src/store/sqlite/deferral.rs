//! Calls in the SQLite file whose judge could not be asked yet.

use sqlx::SqliteConnection;

use super::{Record, Recorded, StoreError, end_attempts, note, writing};
use crate::{
    database::sqlite::Database,
    domain::Evaluation,
    store::{Deferred, Until, deferral::told},
};

/// Ends a call's waiting.
const END: &str = "DELETE FROM deferred WHERE tenant_id = ? AND request_id = ? AND evaluator_version = ?";

/// Keeps a call until its judge can be asked.
pub(super) async fn defer(
    database: &Database,
    record: &Record,
    call: &str,
    until: Until,
    why: &str,
) -> Result<Recorded, StoreError> {
    let mut tx = database.write().await?;
    let evaluation = &record.evaluation;
    let (tenant, request) = (evaluation.tenant_id.as_str(), evaluation.request_id.as_str());
    // The first body is kept, as that of a call with a verdict; of one that was erased, nothing.
    let refused = writing::insert_call(&mut tx, record).await?;
    if refused.is_none() {
        let due = due_ms(&mut tx, until).await?;
        sqlx::query(
            "INSERT INTO deferred (tenant_id, request_id, evaluator_version, body_digest, call, payload_digest, user_key,
                 since_ms, due_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER), ?) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(request)
        .bind(&evaluation.evaluator_version)
        .bind(&record.kept.body_digest)
        .bind(call)
        .bind(&record.payload_digest)
        .bind(&record.kept.user_key)
        .bind(due)
        .execute(&mut *tx)
        .await?;
        note(&mut tx, Some(tenant), Some(request), "deferred", &told(why, due)).await?;
    }
    end_attempts(&mut tx, &[&record.payload_digest]).await?;
    tx.commit().await?;
    Ok(refused.unwrap_or(Recorded::New))
}

/// When a call is due: after so long, or when the next day begins (UTC), spread over ten minutes.
async fn due_ms(tx: &mut SqliteConnection, until: Until) -> Result<i64, sqlx::Error> {
    let (most_ms, tomorrow) = until.ms();
    sqlx::query_scalar(
        "SELECT min(CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?1,
             iif(?2, (unixepoch() / 86400 + 1) * 86400000 + abs(random() % 600000), ?3))",
    )
    .bind(most_ms)
    .bind(tomorrow)
    .bind(i64::MAX)
    .fetch_one(&mut *tx)
    .await
}

/// The oldest due call of a version, or of another one where nobody has for a day; leased.
pub(super) async fn due(
    database: &Database,
    evaluator_version: &str,
    lease_ms: i64,
) -> Result<Option<Deferred>, StoreError> {
    let mut tx = database.write().await?;
    let due = sqlx::query_as(
        "UPDATE deferred SET due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?1, tries = tries + 1
         WHERE rowid IN (
             SELECT rowid FROM deferred
             WHERE due_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER)
                 AND (evaluator_version = ?2 OR due_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER) - 86400000)
             ORDER BY since_ms LIMIT 1)
         RETURNING tenant_id, request_id, evaluator_version, body_digest, call, payload_digest, user_key,
             CAST(unixepoch('subsec') * 1000 AS INTEGER) - since_ms AS age_ms, tries",
    )
    .bind(lease_ms)
    .bind(evaluator_version)
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(due)
}

/// Puts a call off.
pub(super) async fn put_off(
    database: &Database,
    call: &Deferred,
    until: Until,
    failed: bool,
) -> Result<(), StoreError> {
    let mut tx = database.write().await?;
    let due = due_ms(&mut tx, until).await?;
    sqlx::query(
        "UPDATE deferred SET due_ms = ?, tries = iif(?, tries, 0)
         WHERE tenant_id = ? AND request_id = ? AND evaluator_version = ?",
    )
    .bind(due)
    .bind(failed)
    .bind(&call.tenant_id)
    .bind(&call.request_id)
    .bind(&call.evaluator_version)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Ends a call's waiting.
pub(super) async fn end(database: &Database, call: &Deferred) -> Result<(), StoreError> {
    let mut tx = database.write().await?;
    sqlx::query(END)
        .bind(&call.tenant_id)
        .bind(&call.request_id)
        .bind(&call.evaluator_version)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Ends the waiting of a call that is decided: it may have come again meanwhile.
pub(super) async fn decided(tx: &mut SqliteConnection, record: &Record) -> Result<(), sqlx::Error> {
    let Evaluation { tenant_id, request_id, evaluator_version, .. } = &record.evaluation;
    sqlx::query(END).bind(tenant_id).bind(request_id).bind(evaluator_version).execute(&mut *tx).await?;
    Ok(())
}

/// How many calls wait.
pub(super) async fn count(database: &Database) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM deferred").fetch_one(database.read()).await?;
    Ok(count.unsigned_abs())
}
