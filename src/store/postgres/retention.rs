//! What is deleted with age on Postgres, and what never is.

use std::{ops::Range, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Pruned, StoreError};
use crate::database::postgres::{Database, bounded, within};

/// How long counting may take.
const COUNT_LIMIT: Duration = Duration::from_secs(600);

/// The oldest evaluations that may go: not one whose review is open, not one with a delivery that has not ended, not one
/// that is in the golden set. Rows
/// that another prune is deleting are passed over, and so are those of a call that another evaluation or an erasure holds: nobody
/// waits here for who waits for us, and two prunes do not leave a call to each other.
const CHOOSE: &str = "SELECT evaluation_id, tenant_id, request_id, evaluated_ms
     FROM evaluations e JOIN calls c USING (tenant_id, request_id)
     WHERE evaluated_ms >= $1 AND evaluated_ms < $2
         AND NOT EXISTS (SELECT 1 FROM review_items r WHERE r.evaluation_id = e.evaluation_id AND state <> 'closed')
         AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.evaluation_id = e.evaluation_id
             AND delivered_ms IS NULL AND dead_reason IS NULL)
         AND NOT EXISTS (SELECT 1 FROM golden g WHERE g.evaluation_id = e.evaluation_id)
     ORDER BY evaluated_ms LIMIT $3 FOR UPDATE OF e, c SKIP LOCKED";
/// What belongs to evaluations, children first. The state is looked at again: of rows that changed since they were
/// chosen the evaluation is still referred to, and the batch is made again without it.
const CHILDREN: [&str; 9] = [
    "DELETE FROM claims WHERE evaluation_id = ANY($1)",
    "DELETE FROM scores WHERE evaluation_id = ANY($1)",
    "DELETE FROM final_labels WHERE evaluation_id = ANY($1)",
    "DELETE FROM standing_labels WHERE evaluation_id = ANY($1)",
    "DELETE FROM labels WHERE evaluation_id = ANY($1)",
    "DELETE FROM review_skips USING review_items r
     WHERE r.evaluation_id = ANY($1) AND review_skips.review_id = r.review_id",
    "DELETE FROM review_items WHERE evaluation_id = ANY($1) AND state = 'closed'",
    "DELETE FROM outbox WHERE evaluation_id = ANY($1) AND (delivered_ms IS NOT NULL OR dead_reason IS NOT NULL)",
    "DELETE FROM evaluations WHERE evaluation_id = ANY($1)",
];
/// Calls that no evaluation needs any more, in the order of their keys, their sealed messages and their ledger entries; those of a call
/// that has a dead letter stay, because they tell how it came to it. A worker that evaluates such a call at this
/// moment makes this break the foreign key, and the batch is made again without the call.
const CALLS: &str = "WITH chosen AS MATERIALIZED (
         SELECT c.tenant_id, c.request_id
         FROM calls c JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS given (tenant_id, request_id)) g
             USING (tenant_id, request_id)
         WHERE NOT EXISTS (
             SELECT 1 FROM evaluations e WHERE e.tenant_id = c.tenant_id AND e.request_id = c.request_id)
             AND NOT EXISTS (
                 SELECT 1 FROM deferred d WHERE d.tenant_id = c.tenant_id AND d.request_id = c.request_id)
         ORDER BY c.tenant_id, c.request_id FOR UPDATE OF c),
     gone AS (
         DELETE FROM calls USING chosen
         WHERE calls.tenant_id = chosen.tenant_id AND calls.request_id = chosen.request_id
         RETURNING calls.tenant_id, calls.request_id),
     unsealed AS (
         DELETE FROM sealed USING gone
         WHERE sealed.tenant_id = gone.tenant_id AND sealed.request_id = gone.request_id),
     unjudged AS (
         DELETE FROM judge_answers USING gone
         WHERE judge_answers.tenant_id = gone.tenant_id AND judge_answers.request_id = gone.request_id),
     history AS (
         DELETE FROM ledger USING gone
         WHERE ledger.tenant_id = gone.tenant_id AND ledger.request_id = gone.request_id AND event <> 'revealed'
             AND NOT EXISTS (SELECT 1 FROM dead_letters d
                 WHERE d.tenant_id = gone.tenant_id AND d.request_id = gone.request_id)
         RETURNING 1)
     SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM history)";
/// Keeps from when everything is there. The last statement of its transaction: two prunes wait for each other no longer than that.
const HORIZON: &str = "UPDATE prune_horizon SET evaluated_ms = $1 WHERE evaluated_ms < $1";
/// Counts what [`prune`] would delete in all.
const COUNT: &str = "WITH old AS MATERIALIZED (
         SELECT tenant_id, request_id, count(*) AS evaluations FROM evaluations e
         WHERE evaluated_ms < $1
             AND NOT EXISTS (SELECT 1 FROM review_items r WHERE r.evaluation_id = e.evaluation_id AND state <> 'closed')
             AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.evaluation_id = e.evaluation_id
                 AND delivered_ms IS NULL AND dead_reason IS NULL)
             AND NOT EXISTS (SELECT 1 FROM golden g WHERE g.evaluation_id = e.evaluation_id)
         GROUP BY tenant_id, request_id),
     gone AS MATERIALIZED (
         SELECT tenant_id, request_id FROM old
         WHERE evaluations = (SELECT count(*) FROM evaluations e
             WHERE e.tenant_id = old.tenant_id AND e.request_id = old.request_id))
     SELECT coalesce((SELECT sum(evaluations) FROM old), 0)::bigint, (SELECT count(*) FROM gone),
         (SELECT count(*) FROM ledger JOIN gone USING (tenant_id, request_id)
          WHERE NOT EXISTS (SELECT 1 FROM dead_letters d
              WHERE d.tenant_id = gone.tenant_id AND d.request_id = gone.request_id))";

/// Deletes one batch.
pub(super) async fn prune(
    database: &Database,
    evaluated_ms: Range<i64>,
    limit: u32,
) -> Result<Pruned, StoreError> {
    let span = &evaluated_ms;
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let pruned = batch(&mut tx, span, limit).await?;
        tx.commit().await?;
        Ok(pruned)
    })
    .await?)
}

/// Deletes one batch within a transaction.
async fn batch(tx: &mut PgConnection, span: &Range<i64>, limit: u32) -> Result<Pruned, sqlx::Error> {
    let chosen: Vec<(Uuid, String, String, i64)> = sqlx::query_as(CHOOSE)
        .bind(span.start)
        .bind(span.end)
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await?;
    let Some(reached_ms) = chosen.last().map(|row| row.3) else { return Ok(Pruned::default()) };
    let ids: Vec<Uuid> = chosen.iter().map(|row| row.0).collect();
    for statement in CHILDREN {
        sqlx::query(statement).bind(&ids).execute(&mut *tx).await?;
    }
    let (tenants, requests): (Vec<&str>, Vec<&str>) =
        chosen.iter().map(|row| (row.1.as_str(), row.2.as_str())).unzip();
    let (calls, ledger): (i64, i64) =
        sqlx::query_as(CALLS).bind(&tenants).bind(&requests).fetch_one(&mut *tx).await?;
    // Of this very time more may be left.
    sqlx::query(HORIZON).bind(reached_ms + 1).execute(&mut *tx).await?;
    Ok(Pruned {
        evaluations: chosen.len() as u64,
        calls: calls.unsigned_abs(),
        ledger: ledger.unsigned_abs(),
        reached_ms: Some(reached_ms),
    })
}

/// Counts what could be deleted.
pub(super) async fn prunable(database: &Database, before_ms: i64) -> Result<Pruned, StoreError> {
    let (evaluations, calls, ledger): (i64, i64, i64) = within(COUNT_LIMIT, || async {
        let mut tx = database.snapshot(COUNT_LIMIT).await?;
        let counted = sqlx::query_as(COUNT).bind(before_ms).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(counted)
    })
    .await?;
    Ok(Pruned {
        evaluations: evaluations.unsigned_abs(),
        calls: calls.unsigned_abs(),
        ledger: ledger.unsigned_abs(),
        reached_ms: None,
    })
}
