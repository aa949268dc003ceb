//! How the outgoing side is, for whoever watches it.

use sqlx::PgConnection;

use crate::store::{
    notices::{DAY_MS, MOST_SPENT, OPEN_ROWS, Vitals, Watched},
    rows,
};

/// When the oldest open delivery of each sink was written, or asked for again; of sinks that somebody has paused nothing is late.
/// A row that was tried twice has failed by itself, for a sink that is down uses up no attempt.
const OLDEST: &str = "SELECT name, (SELECT min(since_ms) FROM (
         SELECT coalesce(requeued_ms, created_ms) AS since_ms FROM outbox
         WHERE sink = name AND delivered_ms IS NULL AND dead_reason IS NULL
             AND attempts <= 1
         ORDER BY due_ms LIMIT $2) open)
     FROM unnest($1::text[]) AS given (name) WHERE name NOT IN (SELECT sink FROM paused_sinks)";
/// Deliveries of each sink that were given up.
const GIVEN_UP: &str = "SELECT sink, count(*) FROM outbox
     WHERE sink = ANY($1) AND dead_reason IS NOT NULL AND dropped_ms IS NULL
         AND created_ms >= $2 GROUP BY sink";
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
