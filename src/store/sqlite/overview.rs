//! What somebody sees of the whole at a glance, on SQLite.

use std::collections::BTreeMap;

use super::{StoreError, deferral, reviewing::names};
use crate::{
    database::sqlite::Database,
    store::{
        overview::{NEWEST, Overview},
        reviewing::Scope,
        rows,
    },
};

const DAYS: &str =
    "SELECT strftime('%Y-%m-%d', evaluated_ms / 1000, 'unixepoch'), verdict, count(*) FROM evaluations
     WHERE evaluated_ms >= ?1 AND (?2 IS NULL OR tenant_id IN (SELECT value FROM json_each(?2)))
         AND (?3 IS NULL OR feature IN (SELECT value FROM json_each(?3)))
     GROUP BY 1, 2";
const FEATURES: &str = "WITH newest AS (SELECT feature, verdict FROM evaluations
         WHERE evaluated_ms >= ?1 AND (?2 IS NULL OR tenant_id IN (SELECT value FROM json_each(?2)))
             AND (?3 IS NULL OR feature IN (SELECT value FROM json_each(?3)))
         ORDER BY evaluated_ms DESC LIMIT ?4)
     SELECT feature, verdict, count(*) FROM newest GROUP BY 1, 2";
const RULES: &str = "WITH newest AS (SELECT rules FROM evaluations
         WHERE evaluated_ms >= ?1 AND (?2 IS NULL OR tenant_id IN (SELECT value FROM json_each(?2)))
             AND (?3 IS NULL OR feature IN (SELECT value FROM json_each(?3)))
         ORDER BY evaluated_ms DESC LIMIT ?4)
     SELECT value ->> 'rule', value ->> 'outcome', count(*) FROM newest, json_each(rules)
     WHERE value ->> 'outcome' IN ('fail', 'unsure', 'error') GROUP BY 1, 2";

const LETTERS: &str = "SELECT class, count(*) FROM dead_letters
     WHERE (?1 IS NULL OR tenant_id IN (SELECT value FROM json_each(?1))) AND ?2 IS NULL GROUP BY 1";

/// What a scope holds of the evaluations since a time.
pub(super) async fn overview(
    database: &Database,
    scope: &Scope,
    since_ms: i64,
) -> Result<Overview, StoreError> {
    let (tenants, features) = (names(&scope.tenants)?, names(&scope.features)?);
    let table =
        async |statement: &'static str| -> Result<BTreeMap<String, BTreeMap<String, u64>>, StoreError> {
            let query = sqlx::query_as(statement).bind(since_ms).bind(&tenants).bind(&features).bind(NEWEST);
            Ok(rows::table(query.fetch_all(database.read()).await?))
        };
    let letters = sqlx::query_as(LETTERS).bind(&tenants).bind(&features);
    let letters = letters.fetch_all(database.read()).await?;
    let features = table(FEATURES).await?;
    Ok(Overview {
        days: table(DAYS).await?,
        newest: features.values().flat_map(BTreeMap::values).sum(),
        features,
        rules: table(RULES).await?,
        dead_letters: rows::counts(letters),
        deferred: deferral::count(database).await?,
    })
}
