//! The store on Postgres: its transactions here, the rows of a group in `writing` and `verdicts.sql`, the outbox in
//! `outbox`, reading in `reading`, totals in `report`, retention in `retention`.
//!
//! Every use of the server runs under [`bounded`] and is made again where it failed in a way that passes. A commit
//! whose answer was lost may have taken effect; the repeat then finds the keys of [`Store::record`] there and says
//! [`Recorded::AlreadyThere`], counts no attempt twice unless another worker counted the same payload in between (then
//! once too often), makes a dead letter a newer one, and leases other outbox rows, so that those that were leased
//! unseen are delivered when their lease has run out.

mod erasure;
mod outbox;
mod reading;
mod report;
mod retention;
mod texts;
mod writing;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Burial, Buried, CallKey, DeadLetterRow, Decided, Erased, OutboxRow, Pruned, Record, Recorded, Report,
    Store, StoreError, StoredText, Story, Undelivered, Whose, dead_letter_id, short,
};
use crate::{
    database::postgres::{Database, bounded},
    domain::DeadClass,
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
        let rows: Vec<(String, i32)> = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let rows = sqlx::query_as(
                "SELECT payload_digest, attempts FROM attempts WHERE payload_digest = ANY($1)",
            )
            .bind(payload_digests)
            .fetch_all(&mut *lent)
            .await?;
            lent.give_back();
            Ok(rows)
        })
        .await?;
        let counts: HashMap<String, i32> = rows.into_iter().collect();
        Ok(payload_digests.iter().map(|digest| counts.get(digest).map_or(0, |n| n.unsigned_abs())).collect())
    }

    async fn count_attempts(
        &self,
        payload_digests: &[String],
        counting: Uuid,
    ) -> Result<Vec<u32>, StoreError> {
        let mut times: BTreeMap<&str, i32> = BTreeMap::new();
        for digest in payload_digests {
            *times.entry(digest).or_default() += 1;
        }
        // In the order of their keys, so that two workers do not deadlock.
        let (digests, counts): (Vec<&str>, Vec<i32>) = times.iter().map(|(digest, n)| (*digest, *n)).unzip();
        let rows: Vec<(String, i32)> = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let rows = sqlx::query_as(COUNT_ATTEMPTS)
                .bind(&digests)
                .bind(&counts)
                .bind(counting)
                .fetch_all(&mut *lent)
                .await?;
            lent.give_back();
            Ok(rows)
        })
        .await?;
        // A payload that is there several times was counted several times.
        let mut counted: HashMap<String, u32> = rows
            .into_iter()
            .map(|(digest, count)| {
                let before = count - times.get(digest.as_str()).copied().unwrap_or(0);
                (digest, before.unsigned_abs())
            })
            .collect();
        let count = |digest: &String| {
            let count = counted.get_mut(digest)?;
            *count += 1;
            Some(*count)
        };
        payload_digests
            .iter()
            .map(count)
            .collect::<Option<_>>()
            .ok_or_else(|| StoreError::Refused(sqlx::Error::RowNotFound))
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
            end_attempts(&mut tx, &payloads).await?;
            crash_point("K6");
            tx.commit().await?;
            Ok(outcomes)
        })
        .await?)
    }

    async fn bury(&self, burial: &Burial) -> Result<Buried, StoreError> {
        let letter = &burial.letter;
        let (tenant, request) = (letter.tenant_id.as_deref(), letter.request_id.as_deref());
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
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
        // Each requeue is an entry of its own: the detail carries the time through a fresh id.
        let detail = format!("{dead_letter_id} {}", Uuid::now_v7());
        let mut begun = false;
        let removed = bounded(|| {
            let again = std::mem::replace(&mut begun, true);
            let detail = &detail;
            async move {
                let mut tx = self.database.transaction().await?;
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

    async fn report(&self, since_ms: i64, worst: u32) -> Result<Report, StoreError> {
        report::report(&self.database, since_ms, worst).await
    }

    async fn due(&self, sink: &str, limit: u32, lease_ms: i64) -> Result<Vec<OutboxRow>, StoreError> {
        outbox::due(&self.database, sink, limit, lease_ms).await
    }

    async fn delivered(&self, delivery_ids: &[Uuid]) -> Result<(), StoreError> {
        outbox::delivered(&self.database, delivery_ids).await
    }

    async fn undelivered(&self, rows: &[Undelivered], error: &str) -> Result<(), StoreError> {
        outbox::undelivered(&self.database, rows, error).await
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

/// Counts attempts; the repeat of a call of `count_attempts` counts nothing. The commit does not wait for the disk: the
/// count has to outlive this process, which the payload may kill. One that takes the server down too, before the count is on
/// its disk, is new each time, until the queue's own limit of deliveries ends it.
const COUNT_ATTEMPTS: &str =
    "WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
     INSERT INTO attempts AS stored (payload_digest, attempts, counted_by, first_ms, last_ms)
     SELECT payload_digest, times, $3, aftercheck_now_ms(), aftercheck_now_ms()
     FROM relaxed, unnest($1::text[], $2::integer[]) AS given (payload_digest, times)
     ON CONFLICT (payload_digest) DO UPDATE
     SET attempts = stored.attempts
             + CASE WHEN stored.counted_by = excluded.counted_by THEN 0 ELSE excluded.attempts END,
         counted_by = excluded.counted_by, last_ms = excluded.last_ms
     RETURNING payload_digest, attempts";
/// Forgets attempts, in the order of their keys.
const END_ATTEMPTS: &str = "WITH ended AS MATERIALIZED (
         SELECT payload_digest FROM attempts WHERE payload_digest = ANY($1) ORDER BY payload_digest FOR UPDATE)
     DELETE FROM attempts USING ended WHERE attempts.payload_digest = ended.payload_digest
     RETURNING attempts.payload_digest, attempts";
/// Of calls that are kept: their place in the question, the digest of their body, and whether a version has decided
/// them.
const DECIDED: &str = "SELECT place, body_digest, EXISTS (
         SELECT 1 FROM evaluations e WHERE e.tenant_id = c.tenant_id AND e.request_id = c.request_id
             AND evaluator_version = $1)
     FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS given (tenant_id, request_id, place)
     JOIN calls c USING (tenant_id, request_id)";
/// Writes a dead letter, or makes it a newer one.
const BURY: &str = "INSERT INTO dead_letters AS stored (dead_letter_id, payload, payload_digest, user_key, class,
         pointer, detail, remedy, tenant_id, request_id, attempts, source, created_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, aftercheck_now_ms())
     ON CONFLICT (dead_letter_id) DO UPDATE
     SET created_ms = greatest(excluded.created_ms, stored.created_ms + 1), payload = excluded.payload, attempts = excluded.attempts,
         class = excluded.class, pointer = excluded.pointer, detail = excluded.detail, remedy = excluded.remedy";

/// Whether a payload has attempts that no record has ended. They are locked: a record that ends them waits for this
/// transaction, and finds its letter.
async fn is_counted(tx: &mut PgConnection, payload_digest: &str) -> Result<bool, sqlx::Error> {
    let counted: Option<i32> =
        sqlx::query_scalar("SELECT attempts FROM attempts WHERE payload_digest = $1 FOR UPDATE")
            .bind(payload_digest)
            .fetch_optional(&mut *tx)
            .await?;
    Ok(counted.is_some())
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

/// Locks the attempts of the payloads of letters, in the order of their keys: who records or buries takes attempts before
/// letters, too.
async fn lock_attempts(tx: &mut PgConnection, dead_letter_ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT 1 FROM attempts WHERE payload_digest IN (
             SELECT payload_digest FROM dead_letters WHERE dead_letter_id = ANY($1))
         ORDER BY payload_digest FOR UPDATE",
    )
    .bind(dead_letter_ids)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Forgets the attempts of payloads that have come to their end, in the order of their keys, and the letters that say
/// that they were used up.
async fn end_attempts(tx: &mut PgConnection, payload_digests: &[&str]) -> Result<(), sqlx::Error> {
    let ended: Vec<(String, i32)> =
        sqlx::query_as(END_ATTEMPTS).bind(payload_digests).fetch_all(&mut *tx).await?;
    // A first attempt is no last one: few payloads are looked for. A statement of its own: the one above does not see
    // a letter that was committed while it waited.
    let again = ended.iter().filter(|(_, attempts)| *attempts > 1);
    let letters: Vec<Uuid> = again.map(|(digest, _)| dead_letter_id(digest)).collect();
    if !letters.is_empty() {
        sqlx::query("DELETE FROM dead_letters WHERE dead_letter_id = ANY($1) AND class = $2")
            .bind(&letters)
            .bind(DeadClass::AttemptsExhausted.as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

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
