//! What is deleted with age in the SQLite file, and what never is.

use std::ops::Range;

use sqlx::SqliteConnection;

use super::{StoreError, json};
use crate::{database::sqlite::Database, store::Pruned};

/// The oldest evaluations that may go: not one whose review is open, not one with a delivery that has not ended, not one
/// that is in the golden set.
const CHOOSE: &str = "SELECT evaluation_id, tenant_id, request_id, evaluated_ms FROM evaluations e
     WHERE evaluated_ms >= ? AND evaluated_ms < ?
         AND NOT EXISTS (SELECT 1 FROM review_items r WHERE r.evaluation_id = e.evaluation_id AND state <> 'closed')
         AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.evaluation_id = e.evaluation_id
             AND delivered_ms IS NULL AND dead_reason IS NULL)
         AND NOT EXISTS (SELECT 1 FROM golden g WHERE g.evaluation_id = e.evaluation_id)
     ORDER BY evaluated_ms LIMIT ?";
/// What belongs to evaluations, children first.
pub(super) const CHILDREN: [&str; 9] = [
    "DELETE FROM claims WHERE evaluation_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM scores WHERE evaluation_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM final_labels WHERE evaluation_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM standing_labels WHERE evaluation_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM labels WHERE evaluation_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM review_skips WHERE review_id IN (
         SELECT review_id FROM review_items JOIN json_each(?) ON evaluation_id = value)",
    "DELETE FROM review_items WHERE evaluation_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM outbox WHERE evaluation_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM evaluations WHERE evaluation_id IN (SELECT value FROM json_each(?))",
];
/// Calls that no evaluation needs any more.
const CALLS: &str = "DELETE FROM calls WHERE (tenant_id, request_id) IN (
         SELECT value ->> 0, value ->> 1 FROM json_each(?))
         AND NOT EXISTS (SELECT 1 FROM evaluations e
             WHERE e.tenant_id = calls.tenant_id AND e.request_id = calls.request_id)
         AND NOT EXISTS (SELECT 1 FROM deferred d
             WHERE d.tenant_id = calls.tenant_id AND d.request_id = calls.request_id)
     RETURNING tenant_id, request_id";
/// Their sealed messages.
const SEALED: &str = "DELETE FROM sealed WHERE (request_id, tenant_id) IN (
         SELECT value ->> 1, value ->> 0 FROM json_each(?))";
/// Answers of judges about them.
const JUDGED: &str = "DELETE FROM judge_answers WHERE (request_id, tenant_id) IN (
         SELECT value ->> 1, value ->> 0 FROM json_each(?))";
/// Ledger entries of calls; those of a call that has a dead letter stay, because they tell how it came to it.
const LEDGER: &str = "DELETE FROM ledger WHERE (request_id, tenant_id) IN (
         SELECT value ->> 1, value ->> 0 FROM json_each(?))
         AND event <> 'revealed'
         AND NOT EXISTS (SELECT 1 FROM dead_letters d
             WHERE d.tenant_id = ledger.tenant_id AND d.request_id = ledger.request_id)";
/// Keeps from when everything is there. The last statement of its transaction: two prunes wait for each other no longer than that.
const HORIZON: &str = "UPDATE prune_horizon SET evaluated_ms = ?1 WHERE evaluated_ms < ?1";
/// Counts what [`prune`] would delete in all.
const COUNT: &str = "WITH old AS MATERIALIZED (
         SELECT tenant_id, request_id, count(*) AS evaluations FROM evaluations e
         WHERE evaluated_ms < ?
             AND NOT EXISTS (SELECT 1 FROM review_items r WHERE r.evaluation_id = e.evaluation_id AND state <> 'closed')
             AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.evaluation_id = e.evaluation_id
                 AND delivered_ms IS NULL AND dead_reason IS NULL)
             AND NOT EXISTS (SELECT 1 FROM golden g WHERE g.evaluation_id = e.evaluation_id)
         GROUP BY tenant_id, request_id),
     gone AS MATERIALIZED (
         SELECT tenant_id, request_id FROM old
         WHERE evaluations = (SELECT count(*) FROM evaluations e
             WHERE e.tenant_id = old.tenant_id AND e.request_id = old.request_id))
     SELECT coalesce((SELECT sum(evaluations) FROM old), 0), (SELECT count(*) FROM gone),
         (SELECT count(*) FROM gone CROSS JOIN ledger USING (request_id, tenant_id)
          WHERE NOT EXISTS (SELECT 1 FROM dead_letters d
              WHERE d.tenant_id = gone.tenant_id AND d.request_id = gone.request_id))";

/// Deletes one batch.
pub(super) async fn prune(
    database: &Database,
    evaluated_ms: Range<i64>,
    limit: u32,
) -> Result<Pruned, StoreError> {
    let mut tx = database.write().await?;
    let pruned = batch(&mut tx, &evaluated_ms, limit).await?;
    tx.commit().await?;
    Ok(pruned)
}

/// Deletes one batch within a transaction.
async fn batch(tx: &mut SqliteConnection, span: &Range<i64>, limit: u32) -> Result<Pruned, StoreError> {
    let chosen: Vec<(String, String, String, i64)> =
        sqlx::query_as(CHOOSE).bind(span.start).bind(span.end).bind(limit).fetch_all(&mut *tx).await?;
    let Some(reached_ms) = chosen.last().map(|row| row.3) else { return Ok(Pruned::default()) };
    let ids: Vec<&str> = chosen.iter().map(|row| row.0.as_str()).collect();
    let ids = json("ids", &ids)?;
    for statement in CHILDREN {
        sqlx::query(statement).bind(&ids).execute(&mut *tx).await?;
    }
    let keys: Vec<(&str, &str)> = chosen.iter().map(|row| (row.1.as_str(), row.2.as_str())).collect();
    let gone: Vec<(String, String)> =
        sqlx::query_as(CALLS).bind(json("keys", &keys)?).fetch_all(&mut *tx).await?;
    let gone_keys = json("keys", &gone)?;
    sqlx::query(SEALED).bind(&gone_keys).execute(&mut *tx).await?;
    sqlx::query(JUDGED).bind(&gone_keys).execute(&mut *tx).await?;
    let ledger = sqlx::query(LEDGER).bind(&gone_keys).execute(&mut *tx).await?.rows_affected();
    // Of this very time more may be left.
    sqlx::query(HORIZON).bind(reached_ms + 1).execute(&mut *tx).await?;
    Ok(Pruned {
        evaluations: chosen.len() as u64,
        calls: gone.len() as u64,
        ledger,
        reached_ms: Some(reached_ms),
    })
}

/// Counts what could be deleted.
pub(super) async fn prunable(database: &Database, before_ms: i64) -> Result<Pruned, StoreError> {
    let (evaluations, calls, ledger): (i64, i64, i64) =
        sqlx::query_as(COUNT).bind(before_ms).fetch_one(database.read()).await?;
    Ok(Pruned {
        evaluations: evaluations.unsigned_abs(),
        calls: calls.unsigned_abs(),
        ledger: ledger.unsigned_abs(),
        reached_ms: None,
    })
}
