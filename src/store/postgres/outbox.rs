//! Deliveries on Postgres: leased by who takes them, marked by who made them.

use std::{borrow::Cow, collections::HashMap};

use uuid::Uuid;

use super::{StoreError, golden, harmless, reading};
use crate::{
    database::postgres::{Database, bounded},
    store::{Delivered, Due, OutboxRow, Undelivered, rows},
};

/// Leases due rows, none of a sink that is paused, and none whose call has an earlier row of this sink that is open. Rows that
/// another dispatcher is leasing at this moment are passed over, so that no two take the same. The time is asked for once: a
/// function that may change would keep the index from being used.
const LEASE: &str = "WITH mine AS MATERIALIZED (
         SELECT delivery_id, due_ms FROM outbox o
         WHERE sink = $1 AND delivered_ms IS NULL AND dead_reason IS NULL
             AND due_ms <= (SELECT aftercheck_now_ms())
             AND NOT EXISTS (SELECT FROM paused_sinks p WHERE p.sink = $1)
             AND NOT EXISTS (
                 SELECT FROM evaluations mine JOIN evaluations other USING (tenant_id, request_id)
                     JOIN outbox before ON before.evaluation_id = other.evaluation_id
                 WHERE mine.evaluation_id = o.evaluation_id
                     AND before.sink = $1 AND before.delivered_ms IS NULL AND before.dead_reason IS NULL
                     AND (before.created_ms, before.delivery_id) < (o.created_ms, o.delivery_id))
         ORDER BY due_ms LIMIT $2 FOR UPDATE OF o SKIP LOCKED)
     UPDATE outbox SET due_ms = aftercheck_now_ms() + $3 FROM mine
     WHERE outbox.delivery_id = mine.delivery_id
     RETURNING outbox.delivery_id, attempts, evaluation_id, retracts::text, label, golden_id, mine.due_ms,
         aftercheck_now_ms() - coalesce(requeued_ms, created_ms)";
/// Marks rows as delivered, in the order of their keys, also those that somebody who came before has given up: they are there. Of a
/// retraction nothing stays. That their sink takes what it is sent is marked last, when all rows are locked, and once a second: so
/// it cannot come to a deadlock, and batches that end at the same time mostly do not wait for each other's commit.
const DELIVERED: &str = "WITH mine AS MATERIALIZED (
         SELECT delivery_id, sink, given.receipt FROM outbox
         JOIN unnest($1::uuid[], $2::text[]) AS given (delivery_id, receipt) USING (delivery_id)
         WHERE delivered_ms IS NULL ORDER BY delivery_id FOR UPDATE OF outbox),
     retracted AS (
         DELETE FROM outbox USING mine WHERE outbox.delivery_id = mine.delivery_id AND retracts IS NOT NULL),
     marked AS (
         INSERT INTO sink_marks AS known (sink, taken_ms)
         SELECT DISTINCT sink, (SELECT aftercheck_now_ms()) AS now_ms FROM mine
         WHERE NOT EXISTS (SELECT FROM sink_marks m WHERE m.sink = mine.sink
             AND m.taken_ms > (SELECT aftercheck_now_ms()) - 1000)
         ORDER BY sink
         ON CONFLICT (sink) DO UPDATE SET taken_ms = greatest(known.taken_ms, excluded.taken_ms))
     UPDATE outbox SET delivered_ms = aftercheck_now_ms(), attempts = attempts + 1, last_error = NULL,
         receipt = mine.receipt, dead_reason = NULL, dead_ms = NULL, dropped_ms = NULL
     FROM mine WHERE outbox.delivery_id = mine.delivery_id AND retracts IS NULL";
/// Puts rows off or ends them, in the order of their keys; not those that have ended: who comes late changes nothing of them.
const UNDELIVERED: &str = "WITH mine AS MATERIALIZED (
         SELECT delivery_id, after_ms, attempt, error FROM outbox
         JOIN unnest($1::uuid[], $2::bigint[], $3::integer[], $4::text[])
             AS given (delivery_id, after_ms, attempt, error) USING (delivery_id)
         WHERE delivered_ms IS NULL AND dead_reason IS NULL ORDER BY delivery_id FOR UPDATE OF outbox)
     UPDATE outbox SET due_ms = aftercheck_now_ms() + coalesce(after_ms, 0), attempts = attempts + attempt,
         last_error = error, dead_reason = CASE WHEN after_ms IS NULL THEN error END,
         dead_ms = CASE WHEN after_ms IS NULL THEN aftercheck_now_ms() END
     FROM mine WHERE outbox.delivery_id = mine.delivery_id";
/// Ends one row that is open.
const GIVE_UP: &str = "UPDATE outbox SET dead_reason = $1, dead_ms = aftercheck_now_ms(), last_error = $1
     WHERE delivery_id = $2 AND delivered_ms IS NULL AND dead_reason IS NULL";

/// Counts rows that are neither delivered nor dead.
const OPEN: &str = "SELECT count(*) FROM outbox WHERE delivered_ms IS NULL AND dead_reason IS NULL";

/// A leased row: its id, attempts before, evaluation or what is retracted, what a person said, row of the golden set, when it was
/// due, age.
type Leased = (Uuid, i32, Option<Uuid>, Option<String>, Option<String>, Option<Uuid>, i64, i64);

/// Due rows of a sink, oldest first.
pub(super) async fn due(
    database: &Database,
    sink: &str,
    limit: u32,
    lease_ms: i64,
) -> Result<Vec<OutboxRow>, StoreError> {
    let mut rows: Vec<Leased> = bounded(|| async {
        let mut lent = database.connection().await?;
        let rows = sqlx::query_as(LEASE)
            .bind(sink)
            .bind(i64::from(limit))
            .bind(lease_ms)
            .fetch_all(&mut *lent)
            .await?;
        lent.give_back();
        Ok(rows)
    })
    .await?;
    rows.sort_by_key(|(delivery_id, .., due_ms, _)| (*due_ms, *delivery_id));
    let ids: Vec<Uuid> =
        rows.iter().filter(|row| row.4.is_none() && row.5.is_none()).filter_map(|row| row.2).collect();
    let mut evaluations: HashMap<Uuid, _> = reading::evaluations(database, &ids).await?;
    let mut due = Vec::with_capacity(rows.len());
    for (delivery_id, attempts, evaluation_id, retracts, label, golden_id, _, age_ms) in rows {
        let read = match (golden_id, evaluation_id, label) {
            (Some(id), ..) => Some(golden::told(database, id).await.map(|row| Due::Golden(row.into()))),
            (None, _, Some(label)) => Some(rows::label(&label).map(|label| Due::Label(label.into()))),
            (None, Some(id), None) => {
                evaluations.remove(&id).map(|read| read.map(|one| Due::Evaluation(one.into())))
            }
            (None, None, None) => Some(rows::retraction(retracts).map(Due::Retraction)),
        };
        let attempts = attempts.unsigned_abs();
        match read {
            Some(Ok(what)) => due.push(OutboxRow { delivery_id, attempts, age_ms, due: what }),
            // It will not become readable, and must not hold up those behind it.
            Some(Err(error @ StoreError::Corrupt { .. })) => give_up(database, delivery_id, &error).await?,
            Some(Err(error)) => return Err(error),
            // It was erased since the row was leased, and the row with it.
            None => {}
        }
    }
    Ok(due)
}

/// Marks rows as delivered.
pub(super) async fn delivered(database: &Database, rows: &[Delivered]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.delivery_id).collect();
    let receipts: Vec<Option<Cow<'_, str>>> =
        rows.iter().map(|row| row.receipt.as_deref().map(harmless)).collect();
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        sqlx::query(DELIVERED).bind(&ids).bind(&receipts).execute(&mut *lent).await?;
        lent.give_back();
        Ok(())
    })
    .await?)
}

/// Puts rows off, or ends them.
pub(super) async fn undelivered(database: &Database, rows: &[Undelivered]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.delivery_id).collect();
    let after: Vec<Option<i64>> = rows.iter().map(|row| row.after_ms).collect();
    let attempts: Vec<i32> = rows.iter().map(|row| i32::from(row.is_attempt)).collect();
    let errors: Vec<Cow<'_, str>> = rows.iter().map(|row| harmless(&row.error)).collect();
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        let query = sqlx::query(UNDELIVERED).bind(&ids).bind(&after).bind(&attempts).bind(&errors);
        query.execute(&mut *lent).await?;
        lent.give_back();
        Ok(())
    })
    .await?)
}

/// Rows that are neither delivered nor dead.
pub(super) async fn open(database: &Database) -> Result<u64, StoreError> {
    let open: i64 = bounded(|| async {
        let mut lent = database.connection().await?;
        let open = sqlx::query_scalar(OPEN).fetch_one(&mut *lent).await?;
        lent.give_back();
        Ok(open)
    })
    .await?;
    Ok(open.unsigned_abs())
}

/// Ends a delivery of what does not read back.
async fn give_up(database: &Database, delivery_id: Uuid, error: &StoreError) -> Result<(), StoreError> {
    tracing::error!(%delivery_id, %error, "what is delivered cannot be read, it is given up");
    let reason = error.to_string();
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        sqlx::query(GIVE_UP).bind(harmless(&reason)).bind(delivery_id).execute(&mut *lent).await?;
        lent.give_back();
        Ok(())
    })
    .await?)
}
