//! What somebody sees of the whole at a glance, on SQLite.

use std::collections::BTreeMap;

use super::{StoreError, deferral, reviewing::names};
use crate::{
    database::sqlite::Database,
    store::{
        checked::{Checked, Sought},
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

const CHECKED: &str = "WITH newest AS (SELECT evaluation_id FROM evaluations
         WHERE evaluated_ms >= ?1 AND (?2 IS NULL OR tenant_id IN (SELECT value FROM json_each(?2)))
             AND (?3 IS NULL OR feature IN (SELECT value FROM json_each(?3)))
         ORDER BY evaluated_ms DESC LIMIT ?4)
     SELECT evaluation_id, tenant_id, request_id, feature, verdict, decided_by, reasons, faithfulness, evaluated_ms
     FROM newest JOIN evaluations USING (evaluation_id)
     WHERE (?5 IS NULL OR verdict = ?5) AND (?6 IS NULL OR feature = ?6)
         AND (?7 IS NULL OR EXISTS (SELECT 1 FROM json_each(rules)
             WHERE value ->> 'rule' = ?7 AND value ->> 'outcome' IN ('fail', 'unsure', 'error')))
         AND (?8 IS NULL OR (evaluated_ms, evaluation_id) < (?8, ?9))
     ORDER BY evaluated_ms DESC, evaluation_id DESC LIMIT ?10";

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

/// Evaluations of a scope by what they say, newest first.
pub(super) async fn checked(
    database: &Database,
    scope: &Scope,
    sought: &Sought<'_>,
) -> Result<Vec<Checked>, StoreError> {
    let query = sqlx::query(CHECKED).bind(sought.since_ms);
    let query = query.bind(names(&scope.tenants)?).bind(names(&scope.features)?).bind(NEWEST);
    let query = query.bind(sought.verdict).bind(sought.feature).bind(sought.rule);
    let (before_ms, before_id) = sought.before.map(|at| (at.evaluated_ms, at.evaluation_id)).unzip();
    let query = query.bind(before_ms).bind(before_id.map(|id| id.to_string())).bind(sought.limit);
    let found = query.fetch_all(database.read()).await?;
    found.iter().map(Checked::of).collect()
}
