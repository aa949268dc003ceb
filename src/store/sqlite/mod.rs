//! The store on SQLite: its transactions here, the rows of a verdict in `writing`, reading in `reading`, totals in
//! `report`, retention in `retention`.

mod erasure;
mod reading;
mod report;
mod retention;
mod texts;
mod writing;

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    Burial, Buried, CallKey, DeadLetterRow, Decided, Erased, OutboxRow, Pruned, Record, Recorded, Report,
    Store, StoreError, StoredText, Story, Undelivered, Whose, dead_letter_id, json, rows, short,
};
use crate::{
    database::sqlite::Database,
    domain::{DeadClass, id},
    faults::crash_point,
};

/// A store in the one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    /// A store on an open database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn attempts(&self, payload_digests: &[String]) -> Result<Vec<u32>, StoreError> {
        let counts = sqlx::query_scalar(
            "SELECT coalesce(attempts, 0) FROM json_each(?) LEFT JOIN attempts ON payload_digest = value
             ORDER BY key",
        )
        .bind(json("digests", &payload_digests)?)
        .fetch_all(self.database.read())
        .await?;
        Ok(counts)
    }

    // No answer is lost between a process and its file.
    async fn count_attempts(&self, payload_digests: &[String], _: Uuid) -> Result<Vec<u32>, StoreError> {
        let mut tx = self.database.write().await?;
        let mut counts = Vec::with_capacity(payload_digests.len());
        for digest in payload_digests {
            let count = sqlx::query_scalar::<_, u32>(
                "INSERT INTO attempts (payload_digest, attempts, first_ms, last_ms)
                 VALUES (?, 1, CAST(unixepoch('subsec') * 1000 AS INTEGER), CAST(unixepoch('subsec') * 1000 AS INTEGER))
                 ON CONFLICT (payload_digest) DO UPDATE
                 SET attempts = attempts + 1, last_ms = excluded.last_ms
                 RETURNING attempts",
            )
            .bind(digest)
            .fetch_one(&mut *tx)
            .await?;
            counts.push(count);
        }
        tx.commit().await?;
        Ok(counts)
    }

    async fn decided(
        &self,
        calls: &[Arc<CallKey>],
        evaluator_version: &str,
    ) -> Result<Vec<Decided>, StoreError> {
        let mut decided = Vec::with_capacity(calls.len());
        for call in calls {
            let stored: Option<(String, bool)> = sqlx::query_as(
                "SELECT body_digest, EXISTS (
                     SELECT 1 FROM evaluations e WHERE e.tenant_id = c.tenant_id AND e.request_id = c.request_id
                         AND evaluator_version = ?)
                 FROM calls c WHERE tenant_id = ? AND request_id = ?",
            )
            .bind(evaluator_version)
            .bind(&call.tenant_id)
            .bind(&call.request_id)
            .fetch_optional(self.database.read())
            .await?;
            decided.push(match stored {
                None => Decided::No,
                Some((digest, _)) if digest.is_empty() => Decided::Erased,
                Some((digest, _)) if digest != call.body_digest => Decided::Conflict,
                Some((_, true)) => Decided::Same,
                Some((_, false)) => Decided::No,
            });
        }
        Ok(decided)
    }

    async fn note_duplicate(
        &self,
        call: &CallKey,
        payload_digest: &str,
        conflict: bool,
    ) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        if conflict {
            let (tenant, request) = (Some(call.tenant_id.as_str()), Some(call.request_id.as_str()));
            note(&mut tx, tenant, request, "conflict", &call.body_digest).await?;
        }
        end_attempts(&mut tx, &[payload_digest]).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn enter(
        &self,
        tenant_id: Option<&str>,
        request_id: &str,
        event: &'static str,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        note(&mut tx, tenant_id, Some(request_id), event, detail).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn record(&self, records: &[Record]) -> Result<Vec<Recorded>, StoreError> {
        let mut tx = self.database.write().await?;
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            outcomes.push(writing::insert(&mut tx, record).await?);
        }
        let digests: Vec<&str> = records.iter().map(|record| record.payload_digest.as_str()).collect();
        end_attempts(&mut tx, &digests).await?;
        crash_point("K6");
        tx.commit().await?;
        Ok(outcomes)
    }

    async fn bury(&self, burial: &Burial) -> Result<Buried, StoreError> {
        let mut tx = self.database.write().await?;
        let letter = &burial.letter;
        let is_over = letter.class == DeadClass::AttemptsExhausted
            && !is_counted(&mut tx, &burial.payload_digest).await?;
        if is_over {
            return Ok(Buried::Uncounted);
        }
        let erased: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM calls WHERE tenant_id = ? AND request_id = ? AND body_digest = '')",
        )
        .bind(&letter.tenant_id)
        .bind(&letter.request_id)
        .fetch_one(&mut *tx)
        .await?;
        if erased {
            end_attempts(&mut tx, &[&burial.payload_digest]).await?;
            tx.commit().await?;
            return Ok(Buried::Erased);
        }
        sqlx::query(
            "INSERT INTO dead_letters (dead_letter_id, payload, payload_digest, user_key, class, pointer, detail, remedy,
                 tenant_id, request_id, attempts, source, created_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER))
             ON CONFLICT (dead_letter_id) DO UPDATE
             SET created_ms = max(excluded.created_ms, created_ms + 1), payload = excluded.payload, attempts = excluded.attempts,
                 class = excluded.class, pointer = excluded.pointer, detail = excluded.detail,
                 remedy = excluded.remedy",
        )
        .bind(dead_letter_id(&burial.payload_digest).to_string())
        .bind(&burial.payload[..])
        .bind(&burial.payload_digest)
        .bind(&burial.user_key)
        .bind(letter.class.as_str())
        .bind(&letter.pointer)
        .bind(&letter.detail)
        .bind(&letter.remedy)
        .bind(&letter.tenant_id)
        .bind(&letter.request_id)
        .bind(burial.attempts)
        .bind(burial.source)
        .execute(&mut *tx)
        .await?;
        let (tenant, request) = (letter.tenant_id.as_deref(), letter.request_id.as_deref());
        note(&mut tx, tenant, request, "dead", letter.class.as_str()).await?;
        if letter.class != DeadClass::AttemptsExhausted {
            end_attempts(&mut tx, &[&burial.payload_digest]).await?;
        }
        tx.commit().await?;
        Ok(Buried::Written)
    }

    async fn forget_attempts(&self, payload_digest: &str) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        end_attempts(&mut tx, &[payload_digest]).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn stories(&self, tenant_id: Option<&str>, request_id: &str) -> Result<Vec<Story>, StoreError> {
        reading::stories(&self.database, tenant_id, request_id).await
    }

    async fn dead_letters(&self, class: Option<&str>, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        reading::dead_letters(&self.database, class, limit).await
    }

    async fn dead_letter(&self, dead_letter_id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        reading::dead_letter(&self.database, dead_letter_id).await
    }

    async fn remove_dead_letter(
        &self,
        dead_letter_id: Uuid,
        created_ms: i64,
        event: &'static str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.database.write().await?;
        let gone: Option<(Vec<u8>, String, Option<String>, Option<String>)> = sqlx::query_as(
            "DELETE FROM dead_letters WHERE dead_letter_id = ? AND created_ms = ?
             RETURNING payload, payload_digest, tenant_id, request_id",
        )
        .bind(dead_letter_id.to_string())
        .bind(created_ms)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some((payload, digest, tenant, request)) = &gone {
            // A letter of an older version kept the bytes themselves.
            let digest = if digest.is_empty() { id::sha256_hex(payload) } else { digest.clone() };
            end_attempts(&mut tx, &[&digest]).await?;
            // Each requeue is an entry of its own: the detail carries the time through a fresh id.
            let detail = format!("{dead_letter_id} {}", Uuid::now_v7());
            note(&mut tx, tenant.as_deref(), request.as_deref(), event, &detail).await?;
        }
        tx.commit().await?;
        Ok(gone.is_some())
    }

    async fn report(&self, since_ms: i64, worst: u32) -> Result<Report, StoreError> {
        report::report(&self.database, since_ms, worst).await
    }

    async fn due(&self, sink: &str, limit: u32, lease_ms: i64) -> Result<Vec<OutboxRow>, StoreError> {
        let mut tx = self.database.write().await?;
        let rows: Vec<(String, u32, String)> = sqlx::query_as(
            "UPDATE outbox SET due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
             WHERE delivery_id IN (
                 SELECT delivery_id FROM outbox
                 WHERE sink = ? AND delivered_ms IS NULL AND dead_reason IS NULL
                   AND due_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER)
                 ORDER BY due_ms LIMIT ?)
             RETURNING delivery_id, attempts, evaluation_id",
        )
        .bind(lease_ms)
        .bind(sink)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut due = Vec::with_capacity(rows.len());
        for (delivery_id, attempts, evaluation_id) in rows {
            match reading::evaluation(&self.database, &evaluation_id).await {
                Ok(evaluation) => {
                    let delivery_id = rows::uuid("delivery id", &delivery_id)?;
                    due.push(OutboxRow { delivery_id, attempts, evaluation });
                }
                // It will not become readable, and must not hold up those behind it.
                Err(error @ StoreError::Corrupt { .. }) => self.give_up(&delivery_id, &error).await?,
                // It was erased since the row was leased, and the row with it.
                Err(StoreError::Refused(sqlx::Error::RowNotFound)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(due)
    }

    async fn delivered(&self, delivery_ids: &[Uuid]) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        for delivery_id in delivery_ids {
            sqlx::query(
                "UPDATE outbox SET delivered_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER), attempts = attempts + 1,
                     last_error = NULL WHERE delivery_id = ? AND delivered_ms IS NULL",
            )
            .bind(delivery_id.to_string())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn undelivered(&self, rows: &[Undelivered], error: &str) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        for row in rows {
            sqlx::query(
                "UPDATE outbox SET due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + coalesce(?1, 0),
                     attempts = attempts + 1, last_error = ?2, dead_reason = iif(?1 IS NULL, ?2, NULL)
                 WHERE delivery_id = ?3 AND delivered_ms IS NULL",
            )
            .bind(row.after_ms)
            .bind(error)
            .bind(row.delivery_id.to_string())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn outbox_open(&self) -> Result<u64, StoreError> {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM outbox WHERE delivered_ms IS NULL AND dead_reason IS NULL",
        )
        .fetch_one(self.database.read())
        .await?;
        Ok(open.unsigned_abs())
    }

    async fn each_text(
        &self,
        visit: &mut (dyn for<'t> FnMut(StoredText<'t>) + Send),
    ) -> Result<(), StoreError> {
        texts::each(&self.database, visit).await
    }

    async fn prunable(&self, before_ms: i64) -> Result<Pruned, StoreError> {
        retention::prunable(&self.database, before_ms).await
    }

    async fn prune(&self, evaluated_ms: Range<i64>, limit: u32) -> Result<Pruned, StoreError> {
        retention::prune(&self.database, evaluated_ms, limit).await
    }

    async fn erasable(&self, whose: &Whose) -> Result<Erased, StoreError> {
        erasure::erasable(&self.database, whose).await
    }

    async fn erase(
        &self,
        whose: &Whose,
        after: Option<&(String, String)>,
        limit: u32,
    ) -> Result<Erased, StoreError> {
        erasure::erase(&self.database, whose, after, limit).await
    }

    async fn reveal(
        &self,
        tenant_id: Option<&str>,
        request_id: &str,
        detail: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        erasure::reveal(&self.database, tenant_id, request_id, detail).await
    }

    async fn expire(&self, erased_before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        erasure::expire(&self.database, erased_before_ms, limit).await
    }
}

impl SqliteStore {
    /// Ends a delivery whose evaluation does not read back.
    async fn give_up(&self, delivery_id: &str, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(delivery_id, %error, "evaluation cannot be read, its delivery is given up");
        let mut tx = self.database.write().await?;
        sqlx::query("UPDATE outbox SET dead_reason = ?1, last_error = ?1 WHERE delivery_id = ?2")
            .bind(error.to_string())
            .bind(delivery_id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Whether a payload has attempts that no record has ended.
async fn is_counted(tx: &mut SqliteConnection, payload_digest: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM attempts WHERE payload_digest = ?)")
        .bind(payload_digest)
        .fetch_one(&mut *tx)
        .await
}

/// Forgets the attempts of payloads that have come to their end, and the letters that say that they were used up.
async fn end_attempts(tx: &mut SqliteConnection, payload_digests: &[&str]) -> Result<(), StoreError> {
    let ended: Vec<(String, i64)> = sqlx::query_as(
        "DELETE FROM attempts WHERE payload_digest IN (SELECT value FROM json_each(?))
         RETURNING payload_digest, attempts",
    )
    .bind(json("digests", &payload_digests)?)
    .fetch_all(&mut *tx)
    .await?;
    // A first attempt is no last one: few payloads are looked for.
    for (digest, _) in ended.iter().filter(|(_, attempts)| *attempts > 1) {
        sqlx::query("DELETE FROM dead_letters WHERE dead_letter_id = ? AND class = ?")
            .bind(dead_letter_id(digest).to_string())
            .bind(DeadClass::AttemptsExhausted.as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Adds a ledger entry; the same entry again changes nothing.
async fn note(
    tx: &mut SqliteConnection,
    tenant_id: Option<&str>,
    request_id: Option<&str>,
    event: &str,
    detail: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO ledger (tenant_id, request_id, event, detail, at_ms)
         VALUES (?, ?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER)) ON CONFLICT DO NOTHING",
    )
    .bind(tenant_id)
    .bind(request_id)
    .bind(event)
    .bind(short(detail))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// The word that serde writes for a unit variant.
fn word<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    json("word", value).map(|text| text.trim_matches('"').to_owned())
}
