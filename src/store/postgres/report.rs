//! Totals over what the Postgres store holds: one snapshot, with more time than a worker's statement has.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, postgres::PgRow};

use super::{StoreError, deferral, reading::Chapters};
use crate::{
    database::postgres::{Database, within},
    store::{Report, read::StageTotals, rows},
};

/// How long a report may take; over all of ten million evaluations it takes minutes.
const LIMIT: Duration = Duration::from_secs(600);

const VERDICTS: &str = "SELECT verdict, count(*) FROM evaluations WHERE evaluated_ms >= $1 GROUP BY 1";
const FEATURES: &str =
    "SELECT feature, verdict, count(*) FROM evaluations WHERE evaluated_ms >= $1 GROUP BY 1, 2";
const RULES: &str = "SELECT one ->> 'rule', one ->> 'outcome', count(*)
     FROM evaluations, jsonb_array_elements(rules) AS one WHERE evaluated_ms >= $1 GROUP BY 1, 2";
const REASONS: &str = "SELECT reason, count(*) FROM evaluations, jsonb_array_elements_text(reasons) AS reason
     WHERE evaluated_ms >= $1 GROUP BY 1";
const CLAIMS: &str = "SELECT coalesce(doubt, ''), count(*) FROM claims JOIN evaluations USING (evaluation_id)
     WHERE evaluated_ms >= $1 GROUP BY 1";
const DEAD_LETTERS: &str = "SELECT class, count(*) FROM dead_letters WHERE created_ms >= $1 GROUP BY 1";
const REVIEWS: &str =
    "SELECT reason, count(*) FROM review_items WHERE created_ms >= $1 AND state = 'open' GROUP BY 1";
const DELIVERIES: &str = "SELECT sink, CASE WHEN delivered_ms IS NOT NULL THEN 'delivered'
         WHEN dead_reason IS NOT NULL THEN 'dead' ELSE 'open' END, count(*)
     FROM outbox WHERE created_ms >= $1 GROUP BY 1, 2";
/// Percentiles by nearest rank; the stage `all` is the sum over an evaluation's stages.
const STAGES: &str = "WITH apart AS (
         SELECT evaluation_id, one ->> 'stage' AS stage, one ->> 'outcome' AS outcome,
             (one ->> 'ms')::double precision AS ms
         FROM evaluations, jsonb_array_elements(stages) AS one WHERE evaluated_ms >= $1),
     timed AS (
         SELECT stage, outcome, ms FROM apart
         UNION ALL SELECT 'all', '', sum(ms) FROM apart GROUP BY evaluation_id)
     SELECT stage, outcome, count(*) AS calls, max(ms) AS max_ms,
         percentile_disc(0.5) WITHIN GROUP (ORDER BY ms) AS p50_ms,
         percentile_disc(0.95) WITHIN GROUP (ORDER BY ms) AS p95_ms
     FROM timed GROUP BY stage, outcome ORDER BY stage = 'all', stage COLLATE \"C\", outcome COLLATE \"C\"";
const WORST: &str = "SELECT tenant_id, request_id FROM evaluations
     WHERE evaluated_ms >= $1 AND faithfulness IS NOT NULL ORDER BY faithfulness, request_id LIMIT $2";

/// Totals since a time, and the stories of the calls with the lowest faithfulness.
pub(super) async fn report(database: &Database, since_ms: i64, worst: u32) -> Result<Report, StoreError> {
    let (mut report, chapters) = within(LIMIT, || async {
        let mut tx = database.snapshot(LIMIT).await?;
        let report = totals(&mut tx, since_ms).await?;
        let chapters = lowest(&mut tx, since_ms, worst).await?;
        tx.commit().await?;
        Ok((report, chapters))
    })
    .await?;
    report.worst = chapters.into_iter().map(Chapters::told).collect::<Result<_, _>>()?;
    Ok(report)
}

/// Everything that is counted.
async fn totals(tx: &mut PgConnection, since_ms: i64) -> Result<Report, sqlx::Error> {
    Ok(Report {
        verdicts: rows::counts(all(tx, VERDICTS, since_ms).await?),
        features: rows::table(all(tx, FEATURES, since_ms).await?),
        rules: rows::table(all(tx, RULES, since_ms).await?),
        stages: all::<StageTotals>(tx, STAGES, since_ms).await?,
        reasons: rows::counts(all(tx, REASONS, since_ms).await?),
        deferred: sqlx::query_scalar::<_, i64>(deferral::COUNT).fetch_one(&mut *tx).await?.unsigned_abs(),
        claims: rows::claim_totals(all(tx, CLAIMS, since_ms).await?),
        dead_letters: rows::counts(all(tx, DEAD_LETTERS, since_ms).await?),
        reviews: rows::counts(all(tx, REVIEWS, since_ms).await?),
        deliveries: rows::table(all(tx, DELIVERIES, since_ms).await?),
        worst: Vec::new(),
    })
}

/// Rows of the calls with the lowest faithfulness.
async fn lowest(tx: &mut PgConnection, since_ms: i64, worst: u32) -> Result<Vec<Chapters>, sqlx::Error> {
    let calls: Vec<(String, String)> =
        sqlx::query_as(WORST).bind(since_ms).bind(i64::from(worst)).fetch_all(&mut *tx).await?;
    let mut chapters = Vec::with_capacity(calls.len());
    for (tenant, request_id) in calls {
        chapters.push(Chapters::read(tx, Some(tenant), &request_id).await?);
    }
    Ok(chapters)
}

/// All rows since a time.
async fn all<T>(tx: &mut PgConnection, query: &'static str, since_ms: i64) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    sqlx::query_as(query).bind(since_ms).fetch_all(&mut *tx).await
}
