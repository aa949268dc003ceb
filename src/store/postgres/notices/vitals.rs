//! How the outgoing side is, for whoever watches it.

use sqlx::PgConnection;

use crate::store::{
    notices::{DAY_MS, MOST_SPENT, OPEN_ROWS, Vitals, Watched},
    rows,
};

/// Since when the oldest open delivery of each sink waits: since it was written, asked for again, or the sink's pause ended. Of sinks
/// that are paused nothing is late. A row that was tried twice has used up attempts of its own, which a sink that is down as a whole
/// does not: it counts only where the sink has taken nothing since, for a sink that takes others is alive. The rest counts from
/// when the sink last took something: a backlog that moves is not late. Marks of what was taken are up to a second too early.
/// Bounded: one row of marks, and the first open rows by the index of what is due; no row that was delivered is looked at.
const OLDEST: &str = "WITH marked AS (
         SELECT name, coalesce(taken_ms, 0) AS taken_ms, coalesce(resumed_ms, 0) AS resumed_ms
         FROM unnest($1::text[]) AS given (name) LEFT JOIN sink_marks ON sink = name
         WHERE name NOT IN (SELECT sink FROM paused_sinks))
     SELECT name, (SELECT min(greatest(since_ms, resumed_ms, CASE WHEN attempts > 1 THEN 0 ELSE taken_ms END)) FROM (
         SELECT coalesce(requeued_ms, created_ms) AS since_ms, attempts FROM outbox
         WHERE sink = name AND delivered_ms IS NULL AND dead_reason IS NULL
         ORDER BY due_ms LIMIT $2) open
         WHERE attempts <= 1 OR since_ms >= taken_ms + 1000)
     FROM marked";
/// Deliveries of each sink that were given up lately.
const GIVEN_UP: &str = "SELECT sink, count(*) FROM outbox
     WHERE sink = ANY($1) AND dead_reason IS NOT NULL AND dropped_ms IS NULL
         AND dead_ms >= $2 GROUP BY sink";
/// Whose budget of judges is spent: the empty name stands for all.
const SPENT: &str = "SELECT tenant_id FROM judge_spending WHERE day = $1
     AND CASE tenant_id WHEN '' THEN calls >= $2 OR usd >= $3 ELSE calls >= $4 OR usd >= $5 END
     ORDER BY tenant_id LIMIT $6";

/// How the outgoing side is.
pub(super) async fn vitals(tx: &mut PgConnection, watched: &Watched) -> Result<Vitals, sqlx::Error> {
    let now_ms: i64 = sqlx::query_scalar("SELECT aftercheck_now_ms()").fetch_one(&mut *tx).await?;
    let since = now_ms - watched.recent_ms;
    let dead_letters: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE created_ms >= $1")
        .bind(since)
        .fetch_one(&mut *tx)
        .await?;
    let oldest: Vec<(String, Option<i64>)> =
        sqlx::query_as(OLDEST).bind(&watched.sinks).bind(OPEN_ROWS).fetch_all(&mut *tx).await?;
    let given_up: Vec<(String, i64)> =
        sqlx::query_as(GIVEN_UP).bind(&watched.sinks).bind(since).fetch_all(&mut *tx).await?;
    let off = sqlx::query_scalar("SELECT route FROM notice_routes WHERE off IS NOT NULL ORDER BY route")
        .fetch_all(&mut *tx)
        .await?;
    let [all, each] = watched.limits.pairs();
    let spent = sqlx::query_scalar(SPENT).bind(now_ms / DAY_MS).bind(all.0).bind(all.1).bind(each.0);
    let spent = spent.bind(each.1).bind(MOST_SPENT).fetch_all(&mut *tx).await?;
    Ok(Vitals {
        now_ms,
        dead_letters: dead_letters.unsigned_abs(),
        oldest_open_ms: oldest.into_iter().filter_map(|(sink, at)| Some((sink, now_ms - at?))).collect(),
        given_up: rows::counts(given_up),
        off,
        spent,
    })
}
