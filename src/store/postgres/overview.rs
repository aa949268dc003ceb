//! What somebody sees of the whole at a glance, on Postgres: one snapshot, with more time than a worker's statement has.

use std::{collections::BTreeMap, time::Duration};

use super::{StoreError, deferral};
use crate::{
    database::postgres::{Database, within},
    store::{
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
