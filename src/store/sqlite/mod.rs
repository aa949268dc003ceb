//! The store on SQLite: its transactions here, the rows of a verdict in `writing`, the outbox in `outbox`, reading in
//! `reading`, totals in `report`, accounts in `accounts`, reviews in `reviewing` and `labelling`, what goes with age in `retention` and `expiry`, what is erased in `erasure`.

mod accounts;
mod deferral;
mod erasure;
mod expiry;
mod golden;
mod hearing;
mod judging;
mod labelling;
mod notices;
mod outbox;
mod overview;
mod reading;
mod report;
mod retention;
pub mod reviewing;
mod scans;
mod sinks;
mod texts;
mod writing;

use std::{collections::HashMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    Burial, Buried, CallKey, Checked, DeadDelivery, DeadLetterRow, Decided, Deferred, Delivered, Erased,
    JudgeLimits, OutboxRow, Overview, Page, Pruned, Record, Recorded, Report, Reservation, ScanTurn, Scope,
    SinkState, Sought, Store, StoreError, Stored, StoredText, Story, TooOld, Undelivered, Until, Whose,
    dead_letter_id, json, short,
};
use crate::{
    database::sqlite::Database,
    domain::{Call, DeadClass, id},
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
            deferral::decided(&mut tx, record).await?;
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

    async fn dead_letters(
        &self,
        class: Option<&str>,
        tenants: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<DeadLetterRow>, StoreError> {
        reading::dead_letters(&self.database, class, tenants, limit).await
    }

    async fn dead_letter(&self, dead_letter_id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
        reading::dead_letter(&self.database, dead_letter_id).await
    }

    async fn remove_dead_letter(
        &self,
        dead_letter_id: Uuid,
        created_ms: i64,
        event: &'static str,
        by: &str,
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
            let detail = format!("{dead_letter_id} by {by} {}", Uuid::now_v7());
            note(&mut tx, tenant.as_deref(), request.as_deref(), event, &detail).await?;
        }
        tx.commit().await?;
        Ok(gone.is_some())
    }

    async fn evaluated(&self, page: &Page) -> Result<(Vec<Stored>, Option<Page>), StoreError> {
        reading::page(&self.database, page).await
    }

    async fn report(&self, since_ms: i64, worst: u32) -> Result<Report, StoreError> {
        report::report(&self.database, since_ms, worst).await
    }

    async fn overview(&self, scope: &Scope, since_ms: i64) -> Result<Overview, StoreError> {
        overview::overview(&self.database, scope, since_ms).await
    }

    async fn checked(&self, scope: &Scope, sought: &Sought<'_>) -> Result<Vec<Checked>, StoreError> {
        overview::checked(&self.database, scope, sought).await
    }

    async fn due(&self, sink: &str, limit: u32, lease_ms: i64) -> Result<Vec<OutboxRow>, StoreError> {
        outbox::due(&self.database, sink, limit, lease_ms).await
    }

    async fn delivered(&self, rows: &[Delivered]) -> Result<(), StoreError> {
        outbox::delivered(&self.database, rows).await
    }

    async fn undelivered(&self, rows: &[Undelivered]) -> Result<(), StoreError> {
        outbox::undelivered(&self.database, rows).await
    }

    async fn calls(&self, keys: &[(String, String)]) -> Result<Vec<Option<Call>>, StoreError> {
        reading::calls(&self.database, keys).await
    }

    async fn dead_deliveries(
        &self,
        sink: Option<&str>,
        scope: &Scope,
        limit: u32,
    ) -> Result<Vec<DeadDelivery>, StoreError> {
        sinks::dead(&self.database, sink, scope, limit).await
    }

    async fn dead_delivery(&self, delivery_id: Uuid) -> Result<Option<DeadDelivery>, StoreError> {
        sinks::dead_one(&self.database, delivery_id).await
    }

    async fn requeue_delivery(&self, delivery_id: Uuid, by: &str) -> Result<bool, StoreError> {
        sinks::requeue(&self.database, delivery_id, by).await
    }

    async fn requeue_deliveries(
        &self,
        sink: &str,
        after: Option<Uuid>,
        limit: u32,
        by: &str,
    ) -> Result<Vec<Uuid>, StoreError> {
        sinks::requeue_page(&self.database, sink, after, limit, by).await
    }

    async fn drop_delivery(&self, delivery_id: Uuid, by: &str) -> Result<bool, StoreError> {
        sinks::drop_dead(&self.database, delivery_id, by).await
    }

    async fn pause_sink(&self, sink: &str, paused: bool) -> Result<bool, StoreError> {
        sinks::pause(&self.database, sink, paused).await
    }

    async fn sink_states(&self) -> Result<Vec<SinkState>, StoreError> {
        sinks::states(&self.database).await
    }

    async fn outbox_open(&self) -> Result<u64, StoreError> {
        outbox::open(&self.database).await
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
        retracting: &[String],
    ) -> Result<Erased, StoreError> {
        erasure::erase(&self.database, whose, after, limit, retracting).await
    }

    async fn reveal(
        &self,
        tenant_id: Option<&str>,
        request_id: &str,
        detail: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        erasure::reveal(&self.database, tenant_id, request_id, detail).await
    }

    async fn defer(
        &self,
        record: &Record,
        call: &str,
        until: Until,
        why: &'static str,
    ) -> Result<Recorded, StoreError> {
        deferral::defer(&self.database, record, call, until, why).await
    }

    async fn deferred(&self, evaluator_version: &str, lease_ms: i64) -> Result<Option<Deferred>, StoreError> {
        deferral::due(&self.database, evaluator_version, lease_ms).await
    }

    async fn put_off(&self, call: &Deferred, until: Until, failed: bool) -> Result<(), StoreError> {
        deferral::put_off(&self.database, call, until, failed).await
    }

    async fn end_deferred(&self, call: &Deferred) -> Result<(), StoreError> {
        deferral::end(&self.database, call).await
    }

    async fn deferred_calls(&self) -> Result<u64, StoreError> {
        deferral::count(&self.database).await
    }

    async fn judged(&self, keys: &[String]) -> Result<HashMap<String, String>, StoreError> {
        judging::judged(&self.database, keys).await
    }

    async fn remember_judged(
        &self,
        call: (&str, &str),
        answers: &[(String, String)],
        keep_ms: i64,
    ) -> Result<(), StoreError> {
        judging::remember(&self.database, call, answers, keep_ms).await
    }

    async fn reserve_judging(
        &self,
        tenant_id: &str,
        usd: f64,
        limits: &JudgeLimits,
    ) -> Result<Option<Reservation>, StoreError> {
        judging::reserve(&self.database, tenant_id, usd, limits).await
    }

    async fn correct_judging(
        &self,
        tenant_id: &str,
        reservation: Reservation,
        usd: f64,
    ) -> Result<(), StoreError> {
        judging::correct(&self.database, tenant_id, reservation, usd).await
    }

    async fn expire(&self, too_old: TooOld, limit: u32) -> Result<u64, StoreError> {
        expiry::expire(&self.database, too_old, limit).await
    }

    async fn take_scan(&self, lease_ms: i64) -> Result<ScanTurn, StoreError> {
        scans::take(&self.database, lease_ms).await
    }

    async fn end_scan(&self, found: u64, next_ms: i64) -> Result<(), StoreError> {
        scans::end(&self.database, i64::try_from(found).unwrap_or(i64::MAX), next_ms).await
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
