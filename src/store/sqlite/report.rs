//! Totals over what the SQLite store holds.

use std::collections::BTreeMap;

use super::{StoreError, deferral, reading::story};
use crate::{
    database::sqlite::Database,
    store::{Report, read::StageTotals, rows},
};

const VERDICTS: &str = "SELECT verdict, count(*) FROM evaluations WHERE evaluated_ms >= ? GROUP BY 1";
const FEATURES: &str =
    "SELECT feature, verdict, count(*) FROM evaluations WHERE evaluated_ms >= ? GROUP BY 1, 2";
const RULES: &str = "SELECT value ->> 'rule', value ->> 'outcome', count(*)
     FROM evaluations, json_each(rules) WHERE evaluated_ms >= ? GROUP BY 1, 2";
const REASONS: &str =
    "SELECT value, count(*) FROM evaluations, json_each(reasons) WHERE evaluated_ms >= ? GROUP BY 1";
const CLAIMS: &str = "SELECT coalesce(doubt, ''), count(*) FROM claims JOIN evaluations USING (evaluation_id)
     WHERE evaluated_ms >= ? GROUP BY 1";
const DEAD_LETTERS: &str = "SELECT class, count(*) FROM dead_letters WHERE created_ms >= ? GROUP BY 1";
const REVIEWS: &str =
    "SELECT reason, count(*) FROM review_items WHERE created_ms >= ? AND state = 'open' GROUP BY 1";
const DELIVERIES: &str = "SELECT sink, CASE WHEN delivered_ms IS NOT NULL THEN 'delivered'
         WHEN dead_reason IS NOT NULL THEN 'dead' ELSE 'open' END, count(*)
     FROM outbox WHERE created_ms >= ? GROUP BY 1, 2";
/// Percentiles by nearest rank; the stage `all` is the sum over an evaluation's stages.
const STAGES: &str = "WITH apart AS (
         SELECT evaluation_id, value ->> 'stage' AS stage, value ->> 'outcome' AS outcome,
             CAST(value ->> 'ms' AS REAL) AS ms
         FROM evaluations, json_each(stages) WHERE evaluated_ms >= ?),
     timed AS (
         SELECT stage, outcome, ms FROM apart
         UNION ALL SELECT 'all', '', sum(ms) FROM apart GROUP BY evaluation_id),
     ranked AS (
         SELECT stage, outcome, ms, row_number() OVER (PARTITION BY stage, outcome ORDER BY ms) AS place,
             count(*) OVER (PARTITION BY stage, outcome) AS calls
         FROM timed)
     SELECT stage, outcome, calls, max(ms) AS max_ms,
         max(CASE WHEN place = (calls * 50 + 99) / 100 THEN ms END) AS p50_ms,
         max(CASE WHEN place = (calls * 95 + 99) / 100 THEN ms END) AS p95_ms
     FROM ranked GROUP BY stage, outcome, calls ORDER BY stage = 'all', stage, outcome";
const WORST: &str = "SELECT tenant_id, request_id FROM evaluations
     WHERE evaluated_ms >= ? AND faithfulness IS NOT NULL ORDER BY faithfulness, request_id LIMIT ?";

/// Totals since a time, and the stories of the calls with the lowest faithfulness.
pub(super) async fn report(database: &Database, since_ms: i64, worst: u32) -> Result<Report, StoreError> {
    let pool = database.read();
    let stages = sqlx::query_as::<_, StageTotals>(STAGES).bind(since_ms).fetch_all(pool).await?;
    let lowest: Vec<(String, String)> =
        sqlx::query_as(WORST).bind(since_ms).bind(worst).fetch_all(pool).await?;
    let mut stories = Vec::with_capacity(lowest.len());
    for (tenant, request_id) in lowest {
        stories.push(story(database, Some(tenant), &request_id).await?);
    }
    Ok(Report {
        verdicts: counts(database, VERDICTS, since_ms).await?,
        features: table(database, FEATURES, since_ms).await?,
        rules: table(database, RULES, since_ms).await?,
        stages,
        reasons: counts(database, REASONS, since_ms).await?,
        deferred: deferral::count(database).await?,
        claims: rows::claim_totals(words(database, CLAIMS, since_ms).await?),
        dead_letters: counts(database, DEAD_LETTERS, since_ms).await?,
        reviews: counts(database, REVIEWS, since_ms).await?,
        deliveries: table(database, DELIVERIES, since_ms).await?,
        worst: stories,
    })
}

/// Counts by one word, as they come.
async fn words(
    database: &Database,
    query: &'static str,
    since_ms: i64,
) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(sqlx::query_as(query).bind(since_ms).fetch_all(database.read()).await?)
}

/// Counts by one word.
async fn counts(
    database: &Database,
    query: &'static str,
    since_ms: i64,
) -> Result<BTreeMap<String, u64>, StoreError> {
    Ok(rows::counts(words(database, query, since_ms).await?))
}

/// Counts by two words.
async fn table(
    database: &Database,
    query: &'static str,
    since_ms: i64,
) -> Result<BTreeMap<String, BTreeMap<String, u64>>, StoreError> {
    Ok(rows::table(sqlx::query_as(query).bind(since_ms).fetch_all(database.read()).await?))
}
