//! How sinks stand on Postgres: what they have given up, and whether somebody has paused them.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{StoreError, harmless};
use crate::{
    database::postgres::{Database, bounded},
    store::{DeadDelivery, SinkState, reviewing::Scope},
};

/// Dead deliveries that nobody has dropped.
const DEAD: &str = "SELECT delivery_id::text, sink, retracts IS NOT NULL AS is_retraction, tenant_id, request_id, feature, dead_reason,
         attempts::bigint, created_ms
     FROM outbox LEFT JOIN evaluations USING (evaluation_id)
     WHERE dead_reason IS NOT NULL AND dropped_ms IS NULL";
/// How each sink stands.
const STATES: &str = "WITH open AS (
         SELECT sink, count(*) AS pending, greatest(0, aftercheck_now_ms() - min(created_ms)) AS oldest_ms
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
         requeued_ms = aftercheck_now_ms(), due_ms = greatest(aftercheck_now_ms(), created_ms + 1)
     WHERE delivery_id = $1 AND dead_reason IS NOT NULL AND delivered_ms IS NULL";
/// The same of a page of a sink's.
const REQUEUE_PAGE: &str = "UPDATE outbox SET dead_reason = NULL, dead_ms = NULL, attempts = 0,
         requeued_ms = aftercheck_now_ms(), due_ms = greatest(aftercheck_now_ms(), created_ms + 1)
     WHERE delivery_id IN (
         SELECT delivery_id FROM outbox
         WHERE sink = $1 AND delivery_id > $2 AND dead_reason IS NOT NULL AND dropped_ms IS NULL
             AND delivered_ms IS NULL
         ORDER BY delivery_id LIMIT $3 FOR UPDATE)
     RETURNING delivery_id";
/// What pauses a sink; one that is paused stays so since when it was.
const PAUSE: &str =
    "INSERT INTO paused_sinks (sink, since_ms) VALUES ($1, aftercheck_now_ms()) ON CONFLICT DO NOTHING";
/// What ends a pause, and keeps when: what waited for that has not waited for the sink.
const RESUME: &str = "WITH ended AS (DELETE FROM paused_sinks WHERE sink = $1 RETURNING sink)
     INSERT INTO sink_marks (sink, resumed_ms) SELECT sink, aftercheck_now_ms() FROM ended
     ON CONFLICT (sink) DO UPDATE SET resumed_ms = excluded.resumed_ms";
/// Takes a dead delivery off the list.
const DROP: &str = "UPDATE outbox SET dropped_ms = aftercheck_now_ms()
     WHERE delivery_id = $1 AND dead_reason IS NOT NULL AND dropped_ms IS NULL";

/// What was done with deliveries, in the ledgers of their calls.
const ENTER: &str = "INSERT INTO ledger (tenant_id, request_id, event, detail, at_ms)
     SELECT tenant_id, request_id, $2, delivery_id || ' of sink ' || sink || ' by ' || $3, aftercheck_now_ms()
     FROM outbox JOIN evaluations USING (evaluation_id)
     WHERE delivery_id = ANY($1)";

/// Dead deliveries, newest first.
pub(super) async fn dead(
    database: &Database,
    sink: Option<&str>,
    scope: &Scope,
    limit: u32,
) -> Result<Vec<DeadDelivery>, StoreError> {
    let of_sink = format!(
        "{DEAD} AND ($1::text IS NULL OR sink = $1) AND ($2::text[] IS NULL OR tenant_id = ANY($2))
             AND ($3::text[] IS NULL OR feature = ANY($3))
             ORDER BY outbox.created_ms DESC, outbox.delivery_id LIMIT $4"
    );
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        let query = sqlx::query_as(AssertSqlSafe(of_sink.clone())).bind(sink);
        let query = query.bind(&scope.tenants).bind(&scope.features).bind(i64::from(limit));
        let dead = query.fetch_all(&mut *lent).await?;
        lent.give_back();
        Ok(dead)
    })
    .await?)
}

/// One dead delivery.
pub(super) async fn dead_one(database: &Database, id: Uuid) -> Result<Option<DeadDelivery>, StoreError> {
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        let query = sqlx::query_as(AssertSqlSafe(format!("{DEAD} AND delivery_id = $1"))).bind(id);
        let dead = query.fetch_optional(&mut *lent).await?;
        lent.give_back();
        Ok(dead)
    })
    .await?)
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
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let page = sqlx::query_scalar(REQUEUE_PAGE).bind(sink).bind(after.unwrap_or_default());
        let mut ids: Vec<Uuid> = page.bind(i64::from(limit)).fetch_all(&mut *tx).await?;
        enter(&mut tx, &ids, ("requeued", by)).await?;
        tx.commit().await?;
        ids.sort_unstable();
        Ok(ids)
    })
    .await?)
}

/// Takes a dead delivery off the list, and says in the ledger of its call by whom.
pub(super) async fn drop_dead(database: &Database, id: Uuid, by: &str) -> Result<bool, StoreError> {
    change_dead(database, DROP, id, ("dropped", by)).await
}

/// Pauses a sink, or ends the pause.
pub(super) async fn pause(database: &Database, sink: &str, paused: bool) -> Result<bool, StoreError> {
    let statement = if paused { PAUSE } else { RESUME };
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        let done = sqlx::query(statement).bind(sink).execute(&mut *lent).await?;
        lent.give_back();
        Ok(done.rows_affected() > 0)
    })
    .await?)
}

/// How each sink stands.
pub(super) async fn states(database: &Database) -> Result<Vec<SinkState>, StoreError> {
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        let states = sqlx::query_as(STATES).fetch_all(&mut *lent).await?;
        lent.give_back();
        Ok(states)
    })
    .await?)
}

/// Whether a statement about a dead delivery changed it; if so, its call's ledger says what was done, and by whom.
async fn change_dead(
    database: &Database,
    statement: &'static str,
    id: Uuid,
    (event, by): (&str, &str),
) -> Result<bool, StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let done = sqlx::query(statement).bind(id).execute(&mut *tx).await?.rows_affected() > 0;
        if done {
            enter(&mut tx, &[id], (event, by)).await?;
        }
        tx.commit().await?;
        Ok(done)
    })
    .await?)
}

/// Says in the ledgers of deliveries' calls what was done with them, and by whom.
async fn enter(tx: &mut PgConnection, ids: &[Uuid], (event, by): (&str, &str)) -> Result<(), sqlx::Error> {
    // Each time is an entry of its own: a fresh id tells them apart.
    let by = format!("{} {}", harmless(by), Uuid::now_v7());
    sqlx::query(ENTER).bind(ids).bind(event).bind(by).execute(&mut *tx).await?;
    Ok(())
}
