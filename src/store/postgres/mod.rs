//! The store on Postgres: its transactions here, the rows of a group in `writing` and `verdicts.sql`, attempts in `attempts`,
//! dead letters in `letters`, accounts in `accounts`, reviews in `reviewing` and `labelling`, the outbox in `outbox`, reading in `reading`, totals in `report`, what goes with age in
//! `retention` and `expiry`, what is erased in `erasure`.
//!
//! Every use of the server runs under [`bounded`] and is made again where it failed in a way that passes. A commit
//! whose answer was lost may have taken effect; the repeat then finds the keys of [`Store::record`] there and says
//! [`Recorded::AlreadyThere`], counts no attempt twice unless another worker counted the same payload in between (then
//! once too often), makes a dead letter a newer one, and leases other outbox rows, so that those that were leased
//! unseen are delivered when their lease has run out.

mod accounts;
mod attempts;
mod deferral;
mod erasure;
mod expiry;
mod golden;
mod hearing;
mod judging;
mod labelling;
mod letters;
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

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use self::attempts::end_attempts;
use super::{
    Burial, Buried, CallKey, Checked, DeadDelivery, DeadLetterRow, Decided, Deferred, Delivered, Erased,
    JudgeLimits, OutboxRow, Overview, Page, Pruned, Record, Recorded, Report, Reservation, ScanTurn, Scope,
    SinkState, Sought, Store, StoreError, Stored, StoredText, Story, TooOld, Undelivered, Until, Whose,
    dead_letter_id, short,
};
use crate::{
    database::postgres::{Database, bounded},
    domain::Call,
    faults::crash_point,
};

/// A store on a Postgres server.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    database: Database,
}

impl PostgresStore {
    /// A store on an open server.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn attempts(&self, payload_digests: &[String]) -> Result<Vec<u32>, StoreError> {
        attempts::read(&self.database, payload_digests).await
    }

    async fn count_attempts(
        &self,
        payload_digests: &[String],
        counting: Uuid,
    ) -> Result<Vec<u32>, StoreError> {
        attempts::count(&self.database, payload_digests, counting).await
    }

    async fn decided(
        &self,
        calls: &[Arc<CallKey>],
        evaluator_version: &str,
    ) -> Result<Vec<Decided>, StoreError> {
        let tenants: Vec<&str> = calls.iter().map(|call| call.tenant_id.as_str()).collect();
        let requests: Vec<&str> = calls.iter().map(|call| call.request_id.as_str()).collect();
        let rows: Vec<(i64, String, bool)> = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let query = sqlx::query_as(DECIDED).bind(evaluator_version).bind(&tenants).bind(&requests);
            let rows = query.fetch_all(&mut *lent).await?;
            lent.give_back();
            Ok(rows)
        })
        .await?;
        let mut decided = vec![Decided::No; calls.len()];
        for (place, digest, by_this_version) in rows {
            // Places count from 1.
            let place = usize::try_from(place - 1).ok();
            let found = place.and_then(|place| Some((calls.get(place)?, decided.get_mut(place)?)));
            let Some((call, decided)) = found else {
                let detail = "no call was asked for there".to_owned();
                return Err(StoreError::Corrupt { what: "place of a call", detail });
            };
            *decided = match by_this_version {
                _ if digest.is_empty() => Decided::Erased,
                _ if digest != call.body_digest => Decided::Conflict,
                true => Decided::Same,
                false => Decided::No,
            };
        }
        Ok(decided)
    }

    async fn note_duplicate(
        &self,
        call: &CallKey,
        payload_digest: &str,
        conflict: bool,
    ) -> Result<(), StoreError> {
        let entry = (call.tenant_id.as_str(), call.request_id.as_str(), call.body_digest.as_str());
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            if conflict {
                note_all(&mut tx, "conflict", &[entry]).await?;
            }
            end_attempts(&mut tx, &[payload_digest]).await?;
            tx.commit().await
        })
        .await?)
    }

    async fn enter(
        &self,
        tenant_id: Option<&str>,
        request_id: &str,
        event: &'static str,
        detail: &str,
    ) -> Result<(), StoreError> {
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            note(&mut tx, tenant_id, Some(request_id), event, detail).await?;
            tx.commit().await
        })
        .await?)
    }

    async fn record(&self, records: &[Record]) -> Result<Vec<Recorded>, StoreError> {
        let group = writing::Group::new(records)?;
        let payloads = group.payloads();
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let outcomes = group.write(&mut tx).await?;
            deferral::decided(&mut tx, records).await?;
            end_attempts(&mut tx, &payloads).await?;
            crash_point("K6");
            tx.commit().await?;
            Ok(outcomes)
        })
        .await?)
    }

    async fn bury(&self, burial: &Burial) -> Result<Buried, StoreError> {
        letters::bury(&self.database, burial).await
    }

    async fn forget_attempts(&self, payload_digest: &str) -> Result<(), StoreError> {
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            end_attempts(&mut tx, &[payload_digest]).await?;
            tx.commit().await
        })
        .await?)
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
        letters::remove(&self.database, dead_letter_id, created_ms, event, by).await
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

/// Of calls that are kept: their place in the question, the digest of their body, and whether a version has decided
/// them.
const DECIDED: &str = "SELECT place, body_digest, EXISTS (
         SELECT 1 FROM evaluations e WHERE e.tenant_id = c.tenant_id AND e.request_id = c.request_id
             AND evaluator_version = $1)
     FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS given (tenant_id, request_id, place)
     JOIN calls c USING (tenant_id, request_id)";

/// Adds a ledger entry; the same entry again changes nothing.
async fn note(
    tx: &mut PgConnection,
    tenant_id: Option<&str>,
    request_id: Option<&str>,
    event: &str,
    detail: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ledger (tenant_id, request_id, event, detail, at_ms)
         VALUES ($1, $2, $3, $4, aftercheck_now_ms()) ON CONFLICT DO NOTHING",
    )
    .bind(tenant_id.map(harmless))
    .bind(request_id.map(harmless))
    .bind(event)
    .bind(harmless(short(detail)))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Adds ledger entries of one kind: tenant, request and detail of each, in the order of their keys.
async fn note_all(
    tx: &mut PgConnection,
    event: &str,
    entries: &[(&str, &str, &str)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ledger (tenant_id, request_id, event, detail, at_ms)
         SELECT tenant_id, request_id, $4, detail, aftercheck_now_ms()
         FROM unnest($1::text[], $2::text[], $3::text[]) AS given (tenant_id, request_id, detail)
         ON CONFLICT DO NOTHING",
    )
    .bind(entries.iter().map(|entry| entry.0).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.1).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.2).collect::<Vec<_>>())
    .bind(event)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Whether the ledger holds this entry. Asked after a lost answer only: it reads the newest entries, no index.
async fn noted(tx: &mut PgConnection, event: &str, detail: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT 1 FROM (SELECT event, detail FROM ledger ORDER BY entry_id DESC LIMIT 10000) newest
             WHERE event = $1 AND detail = $2)",
    )
    .bind(event)
    .bind(detail)
    .fetch_one(&mut *tx)
    .await
}

/// Text as Postgres takes it. Decoding has replaced U+0000 in calls; here it is replaced in what others say, an error
/// of a sink for one, because a statement that holds it would be refused for ever.
fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

/// JSON text as Postgres takes it, as [`harmless`] does.
fn harmless_json(text: &str) -> Cow<'_, str> {
    // Six characters that also end an escaped backslash: rare enough to look twice.
    if !text.contains("\\u0000") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        match escape.strip_prefix("\\u0000") {
            Some(after) => {
                out.push('\u{fffd}');
                rest = after;
            }
            None => {
                // A backslash and what it escapes are one: in `\\u0000` it is a backslash, and no escape follows.
                let pair = escape.len().min(2);
                out.push_str(&escape[..pair]);
                rest = &escape[pair..];
            }
        }
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_in_text_and_json_and_nothing_else_is() {
        assert_eq!(harmless("a\0b"), "a\u{fffd}b");
        assert_eq!(harmless("ab"), "ab");
        let value = serde_json::json!({"a\0": ["\0\0", "\\u0000", "\\\0", "ä\n\"\0\""]});
        let text = value.to_string();
        let read: serde_json::Value = serde_json::from_str(&harmless_json(&text)).unwrap();
        let want = serde_json::json!({"a\u{fffd}": ["\u{fffd}\u{fffd}", "\\u0000", "\\\u{fffd}", "ä\n\"\u{fffd}\""]});
        assert_eq!(read, want);
    }
}
