//! Deliveries on SQLite: leased by who takes them, marked by who made them.

use super::{StoreError, golden, json, reading};
use crate::{
    database::sqlite::Database,
    store::{Delivered, Due, OutboxRow, Undelivered, rows},
};

/// Due rows, none of a sink that is paused, and none whose call has an earlier row of this sink that is open.
const DUE: &str = "SELECT delivery_id, attempts, evaluation_id, retracts, label, golden_id, due_ms,
         CAST(unixepoch('subsec') * 1000 AS INTEGER) - coalesce(requeued_ms, created_ms)
     FROM outbox o
     WHERE sink = ?1 AND delivered_ms IS NULL AND dead_reason IS NULL
         AND due_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER)
         AND NOT EXISTS (SELECT 1 FROM paused_sinks p WHERE p.sink = ?1)
         AND NOT EXISTS (
             SELECT 1 FROM evaluations mine JOIN evaluations other USING (tenant_id, request_id)
                 JOIN outbox before ON before.evaluation_id = other.evaluation_id
             WHERE mine.evaluation_id = o.evaluation_id
                 AND before.sink = ?1 AND before.delivered_ms IS NULL AND before.dead_reason IS NULL
                 AND (before.created_ms, before.delivery_id) < (o.created_ms, o.delivery_id))
     ORDER BY due_ms LIMIT ?2";
/// Leases them. They are read before and not returned here: what is returned has no order, and is as it is afterwards.
const LEASE: &str = "UPDATE outbox SET due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?1
     WHERE delivery_id IN (SELECT value FROM json_each(?2))";
/// Marks that sinks take what they are sent, once a second: one small row of a sink, in the transaction of its deliveries.
const TAKEN: &str = "INSERT INTO sink_marks (sink, taken_ms)
     SELECT DISTINCT sink, CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM outbox
     WHERE delivery_id IN (SELECT value ->> 0 FROM json_each(?)) AND delivered_ms IS NULL
     ON CONFLICT (sink) DO UPDATE SET taken_ms = excluded.taken_ms
     WHERE taken_ms IS NULL OR taken_ms <= excluded.taken_ms - 1000";
/// Marks rows as delivered, also those that somebody who came before has given up: they are there.
const DELIVERED: &str = "UPDATE outbox SET delivered_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER),
         attempts = attempts + 1, last_error = NULL, receipt = given.receipt,
         dead_reason = NULL, dead_ms = NULL, dropped_ms = NULL
     FROM (SELECT value ->> 0 AS id, value ->> 1 AS receipt FROM json_each(?)) AS given
     WHERE delivery_id = given.id AND delivered_ms IS NULL";
/// Puts rows off or ends them; not those that have ended: who comes late changes nothing of them.
const UNDELIVERED: &str = "UPDATE outbox SET
         due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + coalesce(given.after_ms, 0),
         attempts = attempts + given.attempt, last_error = given.error,
         dead_reason = iif(given.after_ms IS NULL, given.error, NULL),
         dead_ms = iif(given.after_ms IS NULL, CAST(unixepoch('subsec') * 1000 AS INTEGER), NULL)
     FROM (SELECT value ->> 0 AS id, value ->> 1 AS after_ms, value ->> 2 AS attempt, value ->> 3 AS error
           FROM json_each(?)) AS given
     WHERE delivery_id = given.id AND delivered_ms IS NULL AND dead_reason IS NULL";
/// Ends one row that is open.
const GIVE_UP: &str =
    "UPDATE outbox SET dead_reason = ?1, dead_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER),
         last_error = ?1
     WHERE delivery_id = ?2 AND delivered_ms IS NULL AND dead_reason IS NULL";

/// A due row: its id, attempts before, evaluation or what is retracted, what a person said, row of the golden set, when it was
/// due, age.
type Leased = (String, u32, Option<String>, Option<String>, Option<String>, Option<String>, i64, i64);

/// Due rows of a sink, oldest first.
pub(super) async fn due(
    database: &Database,
    sink: &str,
    limit: u32,
    lease_ms: i64,
) -> Result<Vec<OutboxRow>, StoreError> {
    let leased = lease(database, sink, limit, lease_ms).await?;
    let mut due = Vec::with_capacity(leased.len());
    for (delivery_id, attempts, evaluation_id, retracts, label, golden_id, _, age_ms) in leased {
        let read = match (golden_id, evaluation_id, label) {
            (Some(id), ..) => golden::told(database, &id).await.map(|row| Due::Golden(row.into())),
            (None, _, Some(label)) => rows::label(&label).map(|label| Due::Label(label.into())),
            (None, Some(id), None) => {
                reading::evaluation(database, &id).await.map(|one| Due::Evaluation(one.into()))
            }
            (None, None, None) => rows::retraction(retracts).map(Due::Retraction),
        };
        match read {
            Ok(what) => {
                let delivery_id = rows::uuid("delivery id", &delivery_id)?;
                due.push(OutboxRow { delivery_id, attempts, age_ms, due: what });
            }
            // It will not become readable, and must not hold up those behind it.
            Err(error @ StoreError::Corrupt { .. }) => give_up(database, &delivery_id, &error).await?,
            // It was erased since the row was leased, and the row with it.
            Err(StoreError::Refused(sqlx::Error::RowNotFound)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(due)
}

/// Takes due rows, so that no one else does, oldest first; of those that are due at the same time the lowest id.
async fn lease(
    database: &Database,
    sink: &str,
    limit: u32,
    lease_ms: i64,
) -> Result<Vec<Leased>, StoreError> {
    // Nobody writes between: the transaction has the one place of a writer from its beginning.
    let mut tx = database.write().await?;
    let mut leased: Vec<Leased> = sqlx::query_as(DUE).bind(sink).bind(limit).fetch_all(&mut *tx).await?;
    if !leased.is_empty() {
        let ids: Vec<&str> = leased.iter().map(|(delivery_id, ..)| delivery_id.as_str()).collect();
        sqlx::query(LEASE).bind(lease_ms).bind(json("deliveries", &ids)?).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    leased.sort_by(|(id, .., due_ms, _), (other, .., other_ms, _)| (due_ms, id).cmp(&(other_ms, other)));
    Ok(leased)
}

/// Marks rows as delivered. Of a retraction nothing stays.
pub(super) async fn delivered(database: &Database, rows: &[Delivered]) -> Result<(), StoreError> {
    let rows: Vec<_> = rows.iter().map(|row| (row.delivery_id, &row.receipt)).collect();
    let rows = json("rows", &rows)?;
    let mut tx = database.write().await?;
    sqlx::query(TAKEN).bind(&rows).execute(&mut *tx).await?;
    sqlx::query(
        "DELETE FROM outbox
         WHERE delivery_id IN (SELECT value ->> 0 FROM json_each(?)) AND retracts IS NOT NULL",
    )
    .bind(&rows)
    .execute(&mut *tx)
    .await?;
    sqlx::query(DELIVERED).bind(&rows).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Puts rows off, or ends them.
pub(super) async fn undelivered(database: &Database, rows: &[Undelivered]) -> Result<(), StoreError> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.delivery_id, row.after_ms, u32::from(row.is_attempt), &row.error))
        .collect();
    let mut tx = database.write().await?;
    sqlx::query(UNDELIVERED).bind(json("rows", &rows)?).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Rows that are neither delivered nor dead.
pub(super) async fn open(database: &Database) -> Result<u64, StoreError> {
    let open: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE delivered_ms IS NULL AND dead_reason IS NULL")
            .fetch_one(database.read())
            .await?;
    Ok(open.unsigned_abs())
}

/// Ends a delivery of what does not read back.
async fn give_up(database: &Database, delivery_id: &str, error: &StoreError) -> Result<(), StoreError> {
    tracing::error!(delivery_id, %error, "what is delivered cannot be read, it is given up");
    let mut tx = database.write().await?;
    sqlx::query(GIVE_UP).bind(error.to_string()).bind(delivery_id).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}
