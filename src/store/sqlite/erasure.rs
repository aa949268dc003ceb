//! What is erased from the SQLite file on somebody's demand, and the sealed messages that somebody asks for.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{Erased, StoreError, Whose, golden, json, note, notices, retention::CHILDREN};
use crate::{
    database::sqlite::Database,
    domain::id::sha256_hex,
    store::{
        retracting::{Deleted, Left},
        rows,
    },
};

/// Evaluations of calls, which are given as a JSON array of request id and tenant.
const EVALUATIONS: &str = "SELECT evaluation_id FROM evaluations
     WHERE (request_id, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))";
/// Deletes deliveries of evaluations. Of one that was made the time is 0, of one that was tried or begun it is when that would have
/// been due next: nobody is at it any more then. One that was never begun has none. Of a row of the golden set the history knows
/// the data set also where the row was taken out.
const DELIVERIES: &str = "DELETE FROM outbox WHERE evaluation_id IN (SELECT value FROM json_each(?))
     RETURNING sink, delivery_id, evaluation_id, receipt, golden_id,
         (SELECT dataset FROM golden_history h WHERE h.golden_id = outbox.golden_id LIMIT 1) AS dataset,
         CASE WHEN delivered_ms IS NOT NULL THEN 0 WHEN attempts > 0 OR due_ms > created_ms THEN due_ms END AS until_ms";
/// Tells sinks what to delete, also what they were told before: the call came again since.
const RETRACT: &str = "INSERT INTO outbox (delivery_id, sink, retracts, created_ms, due_ms)
     SELECT value ->> 'delivery_id', value ->> 'sink', value -> 'retracts',
         CAST(unixepoch('subsec') * 1000 AS INTEGER),
         max(CAST(unixepoch('subsec') * 1000 AS INTEGER), value ->> 'due_ms')
     FROM json_each(?) WHERE TRUE ON CONFLICT (delivery_id) DO UPDATE
     SET due_ms = excluded.due_ms, attempts = 0, dead_reason = NULL, dead_ms = NULL,
         retracts = excluded.retracts";
/// What is left of calls, and what else is known under their keys.
const CONTENT: [&str; 5] = [
    "UPDATE calls SET body = '', body_digest = '', user_key = NULL, feature = '',
         received_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
     WHERE (request_id, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
    "DELETE FROM sealed WHERE (request_id, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
    "DELETE FROM deferred WHERE (request_id, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
    "DELETE FROM judge_answers WHERE (request_id, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
    "DELETE FROM ledger WHERE event <> 'revealed'
         AND (request_id, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
];
/// The key of a call that was never evaluated, as of an erased one.
const TOMBSTONE: &str =
    "INSERT INTO calls (tenant_id, request_id, body_digest, body, feature, occurred_ms, received_ms, source)
     VALUES (?, ?, '', '', '', 0, CAST(unixepoch('subsec') * 1000 AS INTEGER), 'erased') ON CONFLICT DO NOTHING";

/// A dead letter: payload, digest, tenant and request id.
type Letter = (Vec<u8>, String, Option<String>, Option<String>);

/// The conditions of a statement about whom it is, each with its value.
fn conditions(whose: &Whose) -> String {
    whose.columns().iter().map(|(column, _)| format!(" AND {column} = ?")).collect()
}

/// Erases one batch.
pub(super) async fn erase(
    database: &Database,
    whose: &Whose,
    after: Option<&(String, String)>,
    limit: u32,
    retracting: &[String],
) -> Result<Erased, StoreError> {
    let (after_request, after_tenant) = after.map_or(("", ""), |(request, tenant)| (request, tenant));
    let mut tx = database.write().await?;
    let choose = format!(
        "SELECT request_id, tenant_id FROM calls WHERE body_digest <> ''{} AND (request_id, tenant_id) > (?, ?)
         ORDER BY request_id, tenant_id LIMIT ?",
        conditions(whose)
    );
    let mut chosen = sqlx::query_as(AssertSqlSafe(choose));
    for (_, value) in whose.columns() {
        chosen = chosen.bind(value);
    }
    let chosen = chosen.bind(after_request).bind(after_tenant).bind(limit);
    let calls: Vec<(String, String)> = chosen.fetch_all(&mut *tx).await?;
    let (evaluations, delivered) = erase_calls(&mut tx, &calls, retracting).await?;
    let dead_letters = erase_letters(&mut tx, whose, limit).await?;
    tx.commit().await?;
    let (count, reached) = (calls.len() as u64, calls.into_iter().next_back());
    Ok(Erased { calls: count, evaluations, dead_letters, delivered, reached })
}

/// Erases calls; gives the number of their evaluations, and of deliveries by sink.
async fn erase_calls(
    tx: &mut SqliteConnection,
    calls: &[(String, String)],
    retracting: &[String],
) -> Result<(u64, BTreeMap<String, u64>), StoreError> {
    let keys = json("keys", &calls)?;
    let ids: Vec<String> = sqlx::query_scalar(EVALUATIONS).bind(&keys).fetch_all(&mut *tx).await?;
    let evaluations = json("ids", &ids)?;
    let deleted: Vec<Deleted> = sqlx::query_as(DELIVERIES).bind(&evaluations).fetch_all(&mut *tx).await?;
    let mut left = Left::of(deleted, retracting);
    left.told(notices::erase(tx, &evaluations).await?);
    golden::erase(tx, &evaluations).await?;
    if let Some(rows) = left.json() {
        sqlx::query(RETRACT).bind(rows).execute(&mut *tx).await?;
    }
    for statement in CHILDREN {
        sqlx::query(statement).bind(&evaluations).execute(&mut *tx).await?;
    }
    for statement in CONTENT {
        sqlx::query(statement).bind(&keys).execute(&mut *tx).await?;
    }
    for (request, tenant) in calls {
        note(tx, Some(tenant), Some(request), "erased", "").await?;
    }
    Ok((ids.len() as u64, left.delivered))
}

/// Erases dead letters with their attempts and their history. Of their calls the keys stay, as of those that were evaluated.
async fn erase_letters(tx: &mut SqliteConnection, whose: &Whose, limit: u32) -> Result<u64, StoreError> {
    let delete = format!(
        "DELETE FROM dead_letters WHERE dead_letter_id IN (
             SELECT dead_letter_id FROM dead_letters WHERE TRUE{} LIMIT ?)
         RETURNING payload, payload_digest, tenant_id, request_id",
        conditions(whose)
    );
    let mut letters = sqlx::query_as(AssertSqlSafe(delete));
    for (_, value) in whose.columns() {
        letters = letters.bind(value);
    }
    let letters: Vec<Letter> = letters.bind(limit).fetch_all(&mut *tx).await?;
    for (payload, digest, tenant, request) in &letters {
        // A letter of an older version kept the bytes themselves.
        let digest = if digest.is_empty() { sha256_hex(payload) } else { digest.clone() };
        super::end_attempts(tx, &[&digest]).await?;
        // Of a letter without a request id the history is not told from that of others.
        let Some(request) = request else { continue };
        if let Some(tenant) = tenant {
            sqlx::query(TOMBSTONE).bind(tenant).bind(request).execute(&mut *tx).await?;
        }
        sqlx::query(
            "DELETE FROM ledger WHERE tenant_id IS ?1 AND request_id = ?2 AND event NOT IN ('erased', 'revealed')
                 AND NOT EXISTS (
                     SELECT 1 FROM calls WHERE tenant_id IS ?1 AND request_id = ?2 AND body_digest <> '')",
        )
        .bind(tenant)
        .bind(request)
        .execute(&mut *tx)
        .await?;
        note(tx, tenant.as_deref(), Some(request), "erased", "").await?;
    }
    Ok(letters.len() as u64)
}

/// Counts what could be erased.
pub(super) async fn erasable(database: &Database, whose: &Whose) -> Result<Erased, StoreError> {
    let asked = conditions(whose);
    let count = async |from: String| {
        let mut counted = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {from}{asked}")));
        for (_, value) in whose.columns() {
            counted = counted.bind(value);
        }
        let count: i64 = counted.fetch_one(database.read()).await?;
        Ok::<_, sqlx::Error>(count.unsigned_abs())
    };
    let evaluated = "evaluations JOIN calls USING (tenant_id, request_id)";
    let sent = format!(
        "SELECT sink, count(*) FROM outbox JOIN evaluations USING (evaluation_id)
             JOIN calls USING (tenant_id, request_id)
         WHERE (delivered_ms IS NOT NULL OR attempts > 0 OR due_ms > created_ms){asked} GROUP BY sink"
    );
    let mut delivered = sqlx::query_as(AssertSqlSafe(sent));
    for (_, value) in whose.columns() {
        delivered = delivered.bind(value);
    }
    let delivered: Vec<(String, i64)> = delivered.fetch_all(database.read()).await?;
    Ok(Erased {
        calls: count("calls WHERE body_digest <> ''".into()).await?,
        evaluations: count(format!("{evaluated} WHERE TRUE")).await?,
        dead_letters: count("dead_letters WHERE TRUE".into()).await?,
        delivered: rows::counts(delivered),
        reached: None,
    })
}

/// Sealed messages of a request id; the ledger says that they were asked for.
pub(super) async fn reveal(
    database: &Database,
    tenant_id: Option<&str>,
    request_id: &str,
    detail: &str,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut tx = database.write().await?;
    let sealed: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "SELECT tenant_id, message FROM sealed
         WHERE request_id = ?1 AND (?2 IS NULL OR tenant_id = ?2)
             AND expires_ms > CAST(unixepoch('subsec') * 1000 AS INTEGER) ORDER BY tenant_id",
    )
    .bind(request_id)
    .bind(tenant_id)
    .fetch_all(&mut *tx)
    .await?;
    for (tenant, _) in &sealed {
        note(&mut tx, Some(tenant), Some(request_id), "revealed", detail).await?;
    }
    tx.commit().await?;
    Ok(sealed)
}
