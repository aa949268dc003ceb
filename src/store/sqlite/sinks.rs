//! How sinks stand on SQLite: what they have given up, and whether somebody has paused them.

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{StoreError, json};
use crate::{
    database::sqlite::Database,
    store::{DeadDelivery, SinkState, reviewing::Scope, rows::uuid},
};

/// Dead deliveries that nobody has dropped.
const DEAD: &str = "SELECT delivery_id, sink, retracts IS NOT NULL AS is_retraction, tenant_id, request_id, feature, dead_reason, attempts,
         created_ms
     FROM outbox LEFT JOIN evaluations USING (evaluation_id)
     WHERE dead_reason IS NOT NULL AND dropped_ms IS NULL
         AND (?1 IS NULL OR sink = ?1) AND (?2 IS NULL OR delivery_id = ?2)
         AND (?4 IS NULL OR tenant_id IN (SELECT value FROM json_each(?4)))
         AND (?5 IS NULL OR feature IN (SELECT value FROM json_each(?5)))
     ORDER BY created_ms DESC, delivery_id LIMIT ?3";
/// How each sink stands.
const STATES: &str = "WITH open AS (
         SELECT sink, count(*) AS pending, max(0, CAST(unixepoch('subsec') * 1000 AS INTEGER) - min(created_ms)) AS oldest_ms
         FROM outbox WHERE delivered_ms IS NULL AND dead_reason IS NULL GROUP BY sink),
     given_up AS (
         SELECT sink, count(*) AS dead FROM outbox WHERE dead_reason IS NOT NULL AND dropped_ms IS NULL GROUP BY sink),
     known AS (SELECT sink FROM open UNION SELECT sink FROM given_up UNION SELECT sink FROM paused_sinks)
     SELECT sink, coalesce(pending, 0) AS pending, oldest_ms, coalesce(dead, 0) AS dead, since_ms AS paused_ms,
         coalesce(
             (SELECT last_error FROM outbox o WHERE o.sink = known.sink AND delivered_ms IS NULL AND dead_reason IS NULL
                  AND last_error IS NOT NULL ORDER BY due_ms DESC LIMIT 1),
             (SELECT dead_reason FROM outbox o WHERE o.sink = known.sink AND dead_reason IS NOT NULL
                  AND dropped_ms IS NULL ORDER BY created_ms DESC LIMIT 1)) AS last_error
     FROM known LEFT JOIN open USING (sink) LEFT JOIN given_up USING (sink) LEFT JOIN paused_sinks USING (sink)
     ORDER BY sink";
/// Has a dead delivery tried again, unless it was made all the same. It is not due when it was written: it may have been sent.
const REQUEUE: &str = "UPDATE outbox SET dead_reason = NULL, dead_ms = NULL, dropped_ms = NULL, attempts = 0,
         requeued_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER),
         due_ms = max(CAST(unixepoch('subsec') * 1000 AS INTEGER), created_ms + 1)
     WHERE delivery_id = ? AND dead_reason IS NOT NULL AND delivered_ms IS NULL";
/// The same of a page of a sink's.
const REQUEUE_PAGE: &str = "UPDATE outbox SET dead_reason = NULL, dead_ms = NULL, attempts = 0,
         requeued_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER),
         due_ms = max(CAST(unixepoch('subsec') * 1000 AS INTEGER), created_ms + 1)
     WHERE delivery_id IN (
         SELECT delivery_id FROM outbox
         WHERE sink = ?1 AND delivery_id > ?2 AND dead_reason IS NOT NULL AND dropped_ms IS NULL
             AND delivered_ms IS NULL
         ORDER BY delivery_id LIMIT ?3)
     RETURNING delivery_id";
/// What pauses a sink; one that is paused stays so since when it was.
const PAUSE: &str =
    "INSERT INTO paused_sinks (sink, since_ms) VALUES (?, CAST(unixepoch('subsec') * 1000 AS INTEGER))
     ON CONFLICT DO NOTHING";
/// What ends a pause.
const RESUME: &str = "DELETE FROM paused_sinks WHERE sink = ?";
/// Keeps when a pause ended: what waited for that has not waited for the sink.
const RESUMED: &str =
    "INSERT INTO sink_marks (sink, resumed_ms) VALUES (?, CAST(unixepoch('subsec') * 1000 AS INTEGER))
     ON CONFLICT (sink) DO UPDATE SET resumed_ms = excluded.resumed_ms";
/// Takes a dead delivery off the list.
const DROP: &str = "UPDATE outbox SET dropped_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
     WHERE delivery_id = ? AND dead_reason IS NOT NULL AND dropped_ms IS NULL";

/// What was done with deliveries, in the ledgers of their calls.
const ENTER: &str = "INSERT INTO ledger (tenant_id, request_id, event, detail, at_ms)
     SELECT tenant_id, request_id, ?2, delivery_id || ' of sink ' || sink || ' by ' || ?3,
         CAST(unixepoch('subsec') * 1000 AS INTEGER)
     FROM outbox JOIN evaluations USING (evaluation_id)
     WHERE delivery_id IN (SELECT value FROM json_each(?1))";

/// Dead deliveries, newest first.
pub(super) async fn dead(
    database: &Database,
    sink: Option<&str>,
    scope: &Scope,
    limit: u32,
) -> Result<Vec<DeadDelivery>, StoreError> {
    let listed = |names: &Option<Vec<String>>| names.as_ref().map(|names| json("names", names)).transpose();
    let (tenants, features) = (listed(&scope.tenants)?, listed(&scope.features)?);
    let query = sqlx::query_as(DEAD).bind(sink).bind(None::<String>).bind(limit).bind(tenants).bind(features);
    Ok(query.fetch_all(database.read()).await?)
}

/// One dead delivery.
pub(super) async fn dead_one(database: &Database, id: Uuid) -> Result<Option<DeadDelivery>, StoreError> {
    let all = None::<String>;
    let query = sqlx::query_as(DEAD).bind(&all).bind(id.to_string()).bind(1).bind(&all).bind(&all);
    Ok(query.fetch_optional(database.read()).await?)
}

/// Has a dead delivery tried again, and says in the ledger of its call by whom.
pub(super) async fn requeue(database: &Database, id: Uuid, by: &str) -> Result<bool, StoreError> {
    change_dead(database, REQUEUE, id, ("requeued", by)).await
}

/// Has a page of a sink's dead deliveries tried again, and says in the ledgers of their calls by whom; gives back which, in
/// their order.
pub(super) async fn requeue_page(
    database: &Database,
    sink: &str,
    after: Option<Uuid>,
    limit: u32,
    by: &str,
) -> Result<Vec<Uuid>, StoreError> {
    let mut tx = database.write().await?;
    let page = sqlx::query_scalar(REQUEUE_PAGE).bind(sink);
    let page = page.bind(after.map(|id| id.to_string()).unwrap_or_default()).bind(limit);
    let ids: Vec<String> = page.fetch_all(&mut *tx).await?;
    enter(&mut tx, &ids, ("requeued", by)).await?;
    tx.commit().await?;
    let mut ids = ids.iter().map(|id| uuid("delivery id", id)).collect::<Result<Vec<Uuid>, StoreError>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Takes a dead delivery off the list, and says in the ledger of its call by whom.
pub(super) async fn drop_dead(database: &Database, id: Uuid, by: &str) -> Result<bool, StoreError> {
    change_dead(database, DROP, id, ("dropped", by)).await
}

/// Pauses a sink, or ends the pause.
pub(super) async fn pause(database: &Database, sink: &str, paused: bool) -> Result<bool, StoreError> {
    let mut tx = database.write().await?;
    let statement = if paused { PAUSE } else { RESUME };
    let done = sqlx::query(statement).bind(sink).execute(&mut *tx).await?.rows_affected() > 0;
    if done && !paused {
        sqlx::query(RESUMED).bind(sink).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(done)
}

/// How each sink stands.
pub(super) async fn states(database: &Database) -> Result<Vec<SinkState>, StoreError> {
    Ok(sqlx::query_as(STATES).fetch_all(database.read()).await?)
}

/// Whether a statement about a dead delivery changed it; if so, its call's ledger says what was done, and by whom.
async fn change_dead(
    database: &Database,
    statement: &'static str,
    id: Uuid,
    (event, by): (&str, &str),
) -> Result<bool, StoreError> {
    let mut tx = database.write().await?;
    let id = id.to_string();
    let done = sqlx::query(statement).bind(&id).execute(&mut *tx).await?.rows_affected() > 0;
    if done {
        enter(&mut tx, &[id], (event, by)).await?;
    }
    tx.commit().await?;
    Ok(done)
}

/// Says in the ledgers of deliveries' calls what was done with them, and by whom.
async fn enter(
    tx: &mut SqliteConnection,
    ids: &[String],
    (event, by): (&str, &str),
) -> Result<(), StoreError> {
    // Each time is an entry of its own: a fresh id tells them apart.
    let by = format!("{by} {}", Uuid::now_v7());
    sqlx::query(ENTER).bind(json("deliveries", &ids)?).bind(event).bind(by).execute(&mut *tx).await?;
    Ok(())
}
