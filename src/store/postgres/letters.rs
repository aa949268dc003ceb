//! Dead letters on Postgres.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Burial, Buried, StoreError,
    attempts::{end_attempts, is_counted, lock_attempts},
    dead_letter_id, harmless, note, noted,
};
use crate::{
    database::postgres::{Database, bounded},
    domain::DeadClass,
};

/// Writes a dead letter, or makes it a newer one.
const BURY: &str = "INSERT INTO dead_letters AS stored (dead_letter_id, payload, payload_digest, user_key, class,
         pointer, detail, remedy, tenant_id, request_id, attempts, source, created_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, aftercheck_now_ms())
     ON CONFLICT (dead_letter_id) DO UPDATE
     SET created_ms = greatest(excluded.created_ms, stored.created_ms + 1), payload = excluded.payload, attempts = excluded.attempts,
         class = excluded.class, pointer = excluded.pointer, detail = excluded.detail, remedy = excluded.remedy";

/// Writes a dead letter, unless its call was erased or nobody counts its attempts.
pub(super) async fn bury(database: &Database, burial: &Burial) -> Result<Buried, StoreError> {
    let letter = &burial.letter;
    let (tenant, request) = (letter.tenant_id.as_deref(), letter.request_id.as_deref());
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let used_up = letter.class == DeadClass::AttemptsExhausted;
        if used_up && !is_counted(&mut tx, &burial.payload_digest).await? {
            tx.commit().await?;
            return Ok(Buried::Uncounted);
        }
        if is_erased(&mut tx, tenant, request).await? {
            end_attempts(&mut tx, &[&burial.payload_digest]).await?;
            tx.commit().await?;
            return Ok(Buried::Erased);
        }
        sqlx::query(BURY)
            .bind(dead_letter_id(&burial.payload_digest))
            .bind(&burial.payload[..])
            .bind(&burial.payload_digest)
            .bind(burial.user_key.as_deref().map(harmless))
            .bind(letter.class.as_str())
            .bind(harmless(&letter.pointer))
            .bind(harmless(&letter.detail))
            .bind(harmless(&letter.remedy))
            .bind(tenant.map(harmless))
            .bind(request.map(harmless))
            .bind(i64::from(burial.attempts))
            .bind(burial.source)
            .execute(&mut *tx)
            .await?;
        note(&mut tx, tenant, request, "dead", letter.class.as_str()).await?;
        if !used_up {
            end_attempts(&mut tx, &[&burial.payload_digest]).await?;
        }
        tx.commit().await?;
        Ok(Buried::Written)
    })
    .await?)
}

/// Removes a dead letter and its payload's attempts, leaving a ledger entry.
pub(super) async fn remove(
    database: &Database,
    dead_letter_id: Uuid,
    created_ms: i64,
    event: &'static str,
    by: &str,
) -> Result<bool, StoreError> {
    // Each requeue is an entry of its own: the detail carries the time through a fresh id.
    let detail = format!("{dead_letter_id} by {by} {}", Uuid::now_v7());
    let mut begun = false;
    let removed = bounded(|| {
        let again = std::mem::replace(&mut begun, true);
        let detail = &detail;
        async move {
            let mut tx = database.transaction().await?;
            lock_attempts(&mut tx, &[dead_letter_id]).await?;
            let gone: Option<(String, Option<String>, Option<String>)> = sqlx::query_as(
                "DELETE FROM dead_letters WHERE dead_letter_id = $1 AND created_ms = $2
                 RETURNING payload_digest, tenant_id, request_id",
            )
            .bind(dead_letter_id)
            .bind(created_ms)
            .fetch_optional(&mut *tx)
            .await?;
            let Some((digest, tenant, request)) = gone else {
                // Perhaps the first try removed it and its answer was lost: then its entry is there.
                let done = again && noted(&mut tx, event, detail).await?;
                tx.commit().await?;
                return Ok(done);
            };
            note(&mut tx, tenant.as_deref(), request.as_deref(), event, detail).await?;
            end_attempts(&mut tx, &[&digest]).await?;
            tx.commit().await?;
            Ok(true)
        }
    })
    .await?;
    Ok(removed)
}

/// Whether a call was erased. It stays so until this transaction ends: its key is locked.
async fn is_erased(
    tx: &mut PgConnection,
    tenant_id: Option<&str>,
    request_id: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let digest: Option<String> = sqlx::query_scalar(
        "SELECT body_digest FROM calls WHERE request_id = $1 AND tenant_id = $2 FOR KEY SHARE",
    )
    .bind(request_id.map(harmless))
    .bind(tenant_id.map(harmless))
    .fetch_optional(&mut *tx)
    .await?;
    Ok(digest.is_some_and(|digest| digest.is_empty()))
}
