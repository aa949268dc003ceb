//! Attempts on payloads on Postgres: counted before the work, so that what kills the process is counted too.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{StoreError, dead_letter_id};
use crate::{
    database::postgres::{Database, bounded},
    domain::DeadClass,
};

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

/// How often each payload was begun before.
pub(super) async fn read(database: &Database, payload_digests: &[String]) -> Result<Vec<u32>, StoreError> {
    let rows: Vec<(String, i32)> = bounded(|| async {
        let mut lent = database.connection().await?;
        let rows =
            sqlx::query_as("SELECT payload_digest, attempts FROM attempts WHERE payload_digest = ANY($1)")
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

/// Counts one more attempt of each payload.
pub(super) async fn count(
    database: &Database,
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
        let mut lent = database.connection().await?;
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

/// Whether a payload has attempts that no record has ended. They are locked: a record that ends them waits for this
/// transaction, and finds its letter.
pub(super) async fn is_counted(tx: &mut PgConnection, payload_digest: &str) -> Result<bool, sqlx::Error> {
    let counted: Option<i32> =
        sqlx::query_scalar("SELECT attempts FROM attempts WHERE payload_digest = $1 FOR UPDATE")
            .bind(payload_digest)
            .fetch_optional(&mut *tx)
            .await?;
    Ok(counted.is_some())
}

/// Locks the attempts of the payloads of letters, in the order of their keys: who records or buries takes attempts before
/// letters, too.
pub(super) async fn lock_attempts(
    tx: &mut PgConnection,
    dead_letter_ids: &[Uuid],
) -> Result<(), sqlx::Error> {
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
pub(super) async fn end_attempts(tx: &mut PgConnection, payload_digests: &[&str]) -> Result<(), sqlx::Error> {
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
