//! What does not stay on Postgres, whatever becomes of it: sealed messages, keys of erased calls, dead letters.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    StoreError,
    attempts::{end_attempts, lock_attempts},
    notices,
};
use crate::{
    database::postgres::{Database, bounded},
    store::TooOld,
};

/// Deletes sealed messages. Workers do it side by side: rows that another deletes are passed over.
const SEALED: &str = "DELETE FROM sealed WHERE (request_id, tenant_id) IN (
         SELECT request_id, tenant_id FROM sealed WHERE expires_ms <= aftercheck_now_ms()
         LIMIT $1 FOR UPDATE SKIP LOCKED)";
/// Deletes answers of judges.
const JUDGED: &str = "DELETE FROM judge_answers WHERE judging_key IN (
         SELECT judging_key FROM judge_answers WHERE expires_ms <= aftercheck_now_ms() LIMIT $1 FOR UPDATE SKIP LOCKED)";
/// Deletes what was spent before yesterday.
const SPENT: &str = "DELETE FROM judge_spending WHERE day < aftercheck_now_ms() / 86400000 - 1";
/// Deletes keys of erased calls.
const ERASED: &str = "DELETE FROM calls WHERE (request_id, tenant_id) IN (
         SELECT request_id, tenant_id FROM calls WHERE body_digest = '' AND received_ms < $1
         LIMIT $2 FOR UPDATE SKIP LOCKED)";
/// Dead letters that are too old.
const OLD: &str =
    "SELECT dead_letter_id FROM dead_letters WHERE created_ms < $1 ORDER BY created_ms LIMIT $2";
/// Deletes dead letters, but for those that were written again meanwhile.
const LETTERS: &str = "DELETE FROM dead_letters WHERE dead_letter_id = ANY($1) AND created_ms < $2
     RETURNING payload_digest, tenant_id, request_id";
/// Deletes the history of calls that nothing else tells of.
const HISTORY: &str =
    "DELETE FROM ledger l USING unnest($1::text[], $2::text[]) AS given (tenant_id, request_id)
     WHERE l.request_id = given.request_id AND l.tenant_id IS NOT DISTINCT FROM given.tenant_id
         AND event NOT IN ('erased', 'revealed')
         AND NOT EXISTS (SELECT 1 FROM calls c
             WHERE c.request_id = l.request_id AND c.tenant_id = l.tenant_id)
         AND NOT EXISTS (SELECT 1 FROM dead_letters d
             WHERE d.request_id = l.request_id AND d.tenant_id IS NOT DISTINCT FROM l.tenant_id)";

/// Deletes what has expired.
pub(super) async fn expire(database: &Database, too_old: TooOld, limit: u32) -> Result<u64, StoreError> {
    let others = bounded(|| async {
        let mut tx = database.transaction().await?;
        let sealed = sqlx::query(SEALED).bind(i64::from(limit)).execute(&mut *tx).await?;
        let judged = sqlx::query(JUDGED).bind(i64::from(limit)).execute(&mut *tx).await?;
        sqlx::query(SPENT).execute(&mut *tx).await?;
        let erased = sqlx::query(ERASED).bind(too_old.erased_ms).bind(i64::from(limit));
        let erased = erased.execute(&mut *tx).await?;
        let notices = notices::expire(&mut tx, limit).await?;
        tx.commit().await?;
        Ok(notices + sealed.rows_affected() + judged.rows_affected() + erased.rows_affected())
    })
    .await?;
    if too_old.dead_ms == 0 {
        return Ok(others);
    }
    // A transaction of its own: who buries takes attempts before calls.
    let letters = bounded(|| async {
        let mut tx = database.transaction().await?;
        let letters = letters(&mut tx, too_old.dead_ms, limit).await?;
        tx.commit().await?;
        Ok(letters)
    })
    .await?;
    Ok(letters + others)
}

/// Deletes dead letters, the attempts on them and their history.
async fn letters(tx: &mut PgConnection, before_ms: i64, limit: u32) -> Result<u64, sqlx::Error> {
    let old: Vec<Uuid> =
        sqlx::query_scalar(OLD).bind(before_ms).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
    if old.is_empty() {
        return Ok(0);
    }
    lock_attempts(tx, &old).await?;
    let gone: Vec<(String, Option<String>, Option<String>)> =
        sqlx::query_as(LETTERS).bind(&old).bind(before_ms).fetch_all(&mut *tx).await?;
    let digests: Vec<&str> = gone.iter().map(|(digest, ..)| digest.as_str()).collect();
    end_attempts(tx, &digests).await?;
    let (tenants, requests): (Vec<Option<&str>>, Vec<Option<&str>>) =
        gone.iter().map(|(_, tenant, request)| (tenant.as_deref(), request.as_deref())).unzip();
    sqlx::query(HISTORY).bind(&tenants).bind(&requests).execute(&mut *tx).await?;
    Ok(gone.len() as u64)
}
