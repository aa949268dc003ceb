//! How the outgoing side is, for whoever watches it.

use super::NOW;
use crate::{
    database::sqlite::Database,
    store::{
        StoreError, json,
        notices::{DAY_MS, MOST_SPENT, OPEN_ROWS, Vitals, Watched},
        rows,
    },
};

/// Since when the oldest open delivery of each sink waits: since it was written, asked for again, or the sink's pause ended. Of sinks
/// that are paused nothing is late. A row that was tried twice has used up attempts of its own, which a sink that is down as a whole
/// does not: it counts only where the sink has taken nothing since, for a sink that takes others is alive. The rest counts from
/// when the sink last took something: a backlog that moves is not late. Marks of what was taken are up to a second too early.
/// Bounded: one row of marks, and the first open rows by the index of what is due; no row that was delivered is looked at.
const OLDEST: &str = "WITH marked AS (
         SELECT value AS name, coalesce(taken_ms, 0) AS taken_ms, coalesce(resumed_ms, 0) AS resumed_ms
         FROM json_each(?1) LEFT JOIN sink_marks ON sink = value WHERE value NOT IN (SELECT sink FROM paused_sinks))
     SELECT name, (SELECT min(max(since_ms, resumed_ms, iif(attempts > 1, 0, taken_ms))) FROM (
         SELECT coalesce(requeued_ms, created_ms) AS since_ms, attempts FROM outbox
         WHERE sink = name AND delivered_ms IS NULL AND dead_reason IS NULL
         ORDER BY due_ms LIMIT ?2)
         WHERE attempts <= 1 OR since_ms >= taken_ms + 1000)
     FROM marked";
/// Deliveries of each sink that were given up lately.
const GIVEN_UP: &str = "SELECT sink, count(*) FROM outbox
     WHERE sink IN (SELECT value FROM json_each(?)) AND dead_reason IS NOT NULL AND dropped_ms IS NULL
         AND dead_ms >= ? GROUP BY sink";
/// Whose budget of judges is spent: the empty name stands for all.
const SPENT: &str = "SELECT tenant_id FROM judge_spending WHERE day = ?1
     AND CASE tenant_id WHEN '' THEN calls >= ?2 OR usd >= ?3 ELSE calls >= ?4 OR usd >= ?5 END
     ORDER BY tenant_id LIMIT ?6";

/// How the outgoing side is.
pub(super) async fn vitals(database: &Database, watched: &Watched) -> Result<Vitals, StoreError> {
    let read = database.read();
    let now_ms: i64 = sqlx::query_scalar(NOW).fetch_one(read).await?;
    let since = now_ms - watched.recent_ms;
    let dead_letters: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE created_ms >= ?")
        .bind(since)
        .fetch_one(read)
        .await?;
    let sinks = json("sinks", &watched.sinks)?;
    let oldest: Vec<(String, Option<i64>)> =
        sqlx::query_as(OLDEST).bind(&sinks).bind(OPEN_ROWS).fetch_all(read).await?;
    let given_up: Vec<(String, i64)> =
        sqlx::query_as(GIVEN_UP).bind(&sinks).bind(since).fetch_all(read).await?;
    let off = sqlx::query_scalar("SELECT route FROM notice_routes WHERE off IS NOT NULL ORDER BY route")
        .fetch_all(read)
        .await?;
    let [all, each] = watched.limits.pairs();
    let spent = sqlx::query_scalar(SPENT).bind(now_ms / DAY_MS).bind(all.0).bind(all.1).bind(each.0);
    let spent = spent.bind(each.1).bind(MOST_SPENT).fetch_all(read).await?;
    Ok(Vitals {
        now_ms,
        dead_letters: dead_letters.unsigned_abs(),
        oldest_open_ms: oldest.into_iter().filter_map(|(sink, at)| Some((sink, now_ms - at?))).collect(),
        given_up: rows::counts(given_up),
        off,
        spent,
    })
}
