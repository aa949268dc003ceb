//! What does not stay in the SQLite file, whatever becomes of it: sealed messages, keys of erased calls, dead letters.

use sqlx::SqliteConnection;

use super::{StoreError, end_attempts, notices};
use crate::{database::sqlite::Database, domain::id::sha256_hex, store::TooOld};

/// Deletes sealed messages.
const SEALED: &str = "DELETE FROM sealed WHERE rowid IN (
         SELECT rowid FROM sealed WHERE expires_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER) LIMIT ?)";
/// Deletes answers of judges.
const JUDGED: &str = "DELETE FROM judge_answers WHERE judging_key IN (
         SELECT judging_key FROM judge_answers WHERE expires_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER) LIMIT ?)";
/// Deletes what was spent before yesterday.
const SPENT: &str = "DELETE FROM judge_spending WHERE day < unixepoch() / 86400 - 1";
/// Deletes keys of erased calls.
const ERASED: &str = "DELETE FROM calls WHERE (tenant_id, request_id) IN (
         SELECT tenant_id, request_id FROM calls WHERE body_digest = '' AND received_ms < ? LIMIT ?)";
/// Deletes dead letters. Their bytes are needed only where an older version kept no digest of them.
const LETTERS: &str = "DELETE FROM dead_letters WHERE dead_letter_id IN (
         SELECT dead_letter_id FROM dead_letters WHERE created_ms < ? ORDER BY created_ms LIMIT ?)
     RETURNING iif(payload_digest = '', payload, x''), payload_digest, tenant_id, request_id";
/// Deletes the history of a call that nothing else tells of.
const HISTORY: &str = "DELETE FROM ledger WHERE request_id = ?1 AND tenant_id IS ?2
         AND event NOT IN ('erased', 'revealed')
         AND NOT EXISTS (SELECT 1 FROM calls WHERE request_id = ?1 AND tenant_id IS ?2)
         AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE request_id = ?1 AND tenant_id IS ?2)";

/// A dead letter that went: its bytes where there is no digest of them, digest, tenant and request id.
type Gone = (Vec<u8>, String, Option<String>, Option<String>);

/// Deletes what has expired.
pub(super) async fn expire(database: &Database, too_old: TooOld, limit: u32) -> Result<u64, StoreError> {
    let mut tx = database.write().await?;
    let sealed = sqlx::query(SEALED).bind(limit).execute(&mut *tx).await?;
    let judged = sqlx::query(JUDGED).bind(limit).execute(&mut *tx).await?;
    sqlx::query(SPENT).execute(&mut *tx).await?;
    let erased = sqlx::query(ERASED).bind(too_old.erased_ms).bind(limit).execute(&mut *tx).await?;
    let notices = notices::expire(&mut tx, limit).await?;
    let letters = letters(&mut tx, too_old.dead_ms, limit).await?;
    tx.commit().await?;
    Ok(notices + sealed.rows_affected() + judged.rows_affected() + erased.rows_affected() + letters)
}

/// Deletes dead letters, the attempts on them and their history.
async fn letters(tx: &mut SqliteConnection, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
    if before_ms == 0 {
        return Ok(0);
    }
    let gone: Vec<Gone> = sqlx::query_as(LETTERS).bind(before_ms).bind(limit).fetch_all(&mut *tx).await?;
    // A letter of an older version kept the bytes themselves.
    let digest = |payload: &[u8], digest: &String| match digest.is_empty() {
        true => sha256_hex(payload),
        false => digest.clone(),
    };
    let digests: Vec<String> = gone.iter().map(|(payload, of, ..)| digest(payload, of)).collect();
    end_attempts(tx, &digests.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for (.., tenant, request) in &gone {
        sqlx::query(HISTORY).bind(request).bind(tenant).execute(&mut *tx).await?;
    }
    Ok(gone.len() as u64)
}
