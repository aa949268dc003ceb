//! What somebody sees of the whole at a glance, on Postgres: one snapshot, with more time than a worker's statement has.

use std::{collections::BTreeMap, time::Duration};

use super::{StoreError, deferral};
use crate::{
    database::postgres::{Database, within},
    store::{
        checked::{Checked, Sought},
        overview::{NEWEST, Overview},
        reviewing::Scope,
        rows,
    },
};

/// How long it may take: somebody waits for it.
const LIMIT: Duration = Duration::from_secs(20);

const DAYS: &str = "SELECT to_char(to_timestamp(evaluated_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), verdict, count(*)
     FROM evaluations
     WHERE evaluated_ms >= $1 AND ($2::text[] IS NULL OR tenant_id = ANY($2)) AND ($3::text[] IS NULL OR feature = ANY($3))
         AND $4::bigint > 0
     GROUP BY 1, 2";
const FEATURES: &str = "WITH newest AS (SELECT feature, verdict FROM evaluations
         WHERE evaluated_ms >= $1 AND ($2::text[] IS NULL OR tenant_id = ANY($2))
             AND ($3::text[] IS NULL OR feature = ANY($3))
         ORDER BY evaluated_ms DESC LIMIT $4)
     SELECT feature, verdict, count(*) FROM newest GROUP BY 1, 2";
const RULES: &str = "WITH newest AS (SELECT rules FROM evaluations
         WHERE evaluated_ms >= $1 AND ($2::text[] IS NULL OR tenant_id = ANY($2))
             AND ($3::text[] IS NULL OR feature = ANY($3))
         ORDER BY evaluated_ms DESC LIMIT $4)
     SELECT one ->> 'rule', one ->> 'outcome', count(*) FROM newest, jsonb_array_elements(rules) AS one
     WHERE one ->> 'outcome' IN ('fail', 'unsure', 'error') GROUP BY 1, 2";

const CHECKED: &str = "WITH newest AS (SELECT evaluation_id FROM evaluations
         WHERE evaluated_ms >= $1 AND ($2::text[] IS NULL OR tenant_id = ANY($2))
             AND ($3::text[] IS NULL OR feature = ANY($3))
         ORDER BY evaluated_ms DESC LIMIT $4)
     SELECT evaluation_id::text AS evaluation_id, tenant_id, request_id, feature, verdict, decided_by, reasons::text,
         faithfulness, evaluated_ms
     FROM newest JOIN evaluations e USING (evaluation_id)
     WHERE ($5::text IS NULL OR verdict = $5) AND ($6::text IS NULL OR feature = $6)
         AND ($7::text IS NULL OR EXISTS (SELECT FROM jsonb_array_elements(rules) AS one
             WHERE one ->> 'rule' = $7 AND one ->> 'outcome' IN ('fail', 'unsure', 'error')))
         AND ($8::bigint IS NULL OR (evaluated_ms, e.evaluation_id) < ($8, $9::uuid))
     ORDER BY evaluated_ms DESC, e.evaluation_id DESC LIMIT $10";

const LETTERS: &str = "SELECT class, count(*) FROM dead_letters
     WHERE ($1::text[] IS NULL OR tenant_id = ANY($1)) AND $2::text[] IS NULL GROUP BY 1";

/// What a scope holds of the evaluations since a time.
pub(super) async fn overview(
    database: &Database,
    scope: &Scope,
    since_ms: i64,
) -> Result<Overview, StoreError> {
    Ok(within(LIMIT, || async {
        let mut tx = database.snapshot(LIMIT).await?;
        let mut tables = Vec::with_capacity(3);
        for statement in [DAYS, FEATURES, RULES] {
            let query = sqlx::query_as(statement).bind(since_ms).bind(&scope.tenants).bind(&scope.features);
            tables.push(rows::table(query.bind(i64::from(NEWEST)).fetch_all(&mut *tx).await?));
        }
        let letters = sqlx::query_as(LETTERS).bind(&scope.tenants).bind(&scope.features);
        let letters = letters.fetch_all(&mut *tx).await?;
        let deferred = sqlx::query_scalar::<_, i64>(deferral::COUNT).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        let mut tables = tables.into_iter();
        let mut table = || tables.next().unwrap_or_default();
        let (days, features, rules) = (table(), table(), table());
        let newest = features.values().flat_map(BTreeMap::values).sum();
        let (dead_letters, deferred) = (rows::counts(letters), deferred.unsigned_abs());
        Ok(Overview { days, newest, features, rules, dead_letters, deferred })
    })
    .await?)
}

/// Evaluations of a scope by what they say, newest first.
pub(super) async fn checked(
    database: &Database,
    scope: &Scope,
    sought: &Sought<'_>,
) -> Result<Vec<Checked>, StoreError> {
    let (before_ms, before_id) = sought.before.map(|at| (at.evaluated_ms, at.evaluation_id)).unzip();
    let found = within(LIMIT, || async {
        let mut tx = database.snapshot(LIMIT).await?;
        let query = sqlx::query(CHECKED).bind(sought.since_ms).bind(&scope.tenants).bind(&scope.features);
        let query = query.bind(i64::from(NEWEST)).bind(sought.verdict).bind(sought.feature).bind(sought.rule);
        let query = query.bind(before_ms).bind(before_id).bind(i64::from(sought.limit));
        let found = query.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(found)
    })
    .await?;
    found.iter().map(Checked::of).collect()
}
