//! The golden set on SQLite.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, StoreError, notices, reviewing::names};
use crate::{
    database::sqlite::Database,
    domain::Golden,
    store::{
        golden::{
            GoldenChange, GoldenEntry, GoldenPage, GoldenRow, Goldens, MAX_GOLDENS, Shelved, Shelving, rows,
        },
        reviewing::{FinalLabel, Scope, rows as reviewing},
    },
};

/// Writes a row, or writes it over.
const WRITE: &str =
    "INSERT INTO golden (golden_id, evaluation_id, dataset, tenant_id, feature, content, digest,
         promoted_ms, changed_ms)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, CAST(unixepoch('subsec') * 1000 AS INTEGER),
         CAST(unixepoch('subsec') * 1000 AS INTEGER))
     ON CONFLICT (golden_id) DO UPDATE SET evaluation_id = excluded.evaluation_id, feature = excluded.feature,
         content = excluded.content, digest = excluded.digest, changed_ms = excluded.changed_ms";
/// Adds an entry to the history.
const ENTER: &str =
    "INSERT INTO golden_history (golden_id, dataset, tenant_id, request_id, change, done_by, digest, at_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER)) RETURNING entry_id";
/// Deletes what sinks were to be told of a row and were not: nobody has begun with it.
const UNSENT: &str = "DELETE FROM outbox WHERE evaluation_id = ?1 AND golden_id = ?2 AND delivered_ms IS NULL
         AND dead_reason IS NULL AND attempts = 0 AND due_ms = created_ms";
/// Tells a sink. Behind everything else that it has of the evaluation, so that they arrive in this order.
const TELL: &str = "INSERT INTO outbox (delivery_id, sink, evaluation_id, golden_id, created_ms, due_ms)
     SELECT ?1, ?2, ?3, ?4, at_ms, at_ms
     FROM (SELECT max(CAST(unixepoch('subsec') * 1000 AS INTEGER), 1 + coalesce(
         (SELECT max(created_ms) FROM outbox WHERE evaluation_id = ?3 AND sink = ?2), 0)) AS at_ms)";
/// What is read of a row.
const ROWS: &str = "SELECT content, evaluation_id, digest, promoted_ms, changed_ms FROM golden";
/// Rows of evaluations, which are given as a JSON array, as they are erased.
const ERASED: &str =
    "INSERT INTO golden_history (golden_id, dataset, tenant_id, request_id, change, done_by, digest, at_ms)
     SELECT golden_id, dataset, tenant_id, content ->> 'request_id', 'erased', '', digest,
         CAST(unixepoch('subsec') * 1000 AS INTEGER)
     FROM golden WHERE evaluation_id IN (SELECT value FROM json_each(?))";
/// Whether an entry is what counts of an evaluation.
const COUNTS: &str = "SELECT EXISTS (SELECT 1 FROM final_labels WHERE evaluation_id = ? AND entry_id = ?)";
/// What counts of an evaluation.
const FINAL: &str = "SELECT l.entry_id, saying_id, l.evaluation_id, l.reviewer, kind, said, note, expected, at_ms,
         f.decided_ms, e.tenant_id, e.request_id, e.feature, e.evaluator_version, e.verdict, e.decided_by, e.reasons
     FROM final_labels f JOIN labels l USING (entry_id) JOIN evaluations e ON e.evaluation_id = f.evaluation_id
     WHERE f.evaluation_id = ?";

#[async_trait]
impl Goldens for SqliteStore {
    async fn shelve(&self, shelving: &Shelving) -> Result<Shelved, StoreError> {
        let mut tx = self.database.write().await?;
        let (evaluation_id, golden_id) =
            (shelving.evaluation_id.to_string(), shelving.golden.golden_id.to_string());
        let there = sqlx::query("SELECT 1 FROM evaluations WHERE evaluation_id = ?");
        if there.bind(&evaluation_id).fetch_optional(&mut *tx).await?.is_none() {
            return Ok(Shelved::Missing);
        }
        let (content, digest) = shelving.content()?;
        let before: Option<String> = sqlx::query_scalar("SELECT digest FROM golden WHERE golden_id = ?")
            .bind(&golden_id)
            .fetch_optional(&mut *tx)
            .await?;
        if before.as_ref() == Some(&digest) {
            return Ok(Shelved::Same);
        }
        let is_stale = shelving.over.is_some() && shelving.over != before;
        if is_stale || !counts_still(&mut tx, shelving).await? {
            return Ok(Shelved::Stale);
        }
        let Golden { dataset, tenant_id, feature, .. } = &shelving.golden;
        sqlx::query(WRITE)
            .bind(&golden_id)
            .bind(&evaluation_id)
            .bind(dataset)
            .bind(tenant_id)
            .bind(feature)
            .bind(content)
            .bind(&digest)
            .execute(&mut *tx)
            .await?;
        let entry_id = enter(&mut tx, &shelving.golden, (shelving.change, &shelving.by), &digest).await?;
        sqlx::query(UNSENT).bind(&evaluation_id).bind(&golden_id).execute(&mut *tx).await?;
        for sink in &shelving.sinks {
            sqlx::query(TELL)
                .bind(shelving.delivery_id(sink, entry_id).to_string())
                .bind(sink)
                .bind(&evaluation_id)
                .bind(&golden_id)
                .execute(&mut *tx)
                .await?;
        }
        notices::write(&mut tx, &shelving.notices).await?;
        tx.commit().await?;
        Ok(if before.is_some() { Shelved::Changed } else { Shelved::New })
    }

    async fn unshelve(&self, golden_id: Uuid, by: &str) -> Result<bool, StoreError> {
        let mut tx = self.database.write().await?;
        let gone = sqlx::query(
            "DELETE FROM golden WHERE golden_id = ?
             RETURNING content, evaluation_id, digest, promoted_ms, changed_ms",
        );
        let Some(gone) = gone.bind(golden_id.to_string()).fetch_optional(&mut *tx).await? else {
            return Ok(false);
        };
        let gone = rows::row(&gone)?;
        enter(&mut tx, &gone.golden, (GoldenChange::Removed, by), &gone.digest).await?;
        let unsent = sqlx::query(UNSENT).bind(gone.evaluation_id.to_string());
        unsent.bind(golden_id.to_string()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn golden(&self, golden_id: Uuid) -> Result<Option<GoldenRow>, StoreError> {
        let select = AssertSqlSafe(format!("{ROWS} WHERE golden_id = ?"));
        let row =
            sqlx::query(select).bind(golden_id.to_string()).fetch_optional(self.database.read()).await?;
        row.as_ref().map(rows::row).transpose()
    }

    async fn goldens(&self, page: &GoldenPage) -> Result<Vec<GoldenRow>, StoreError> {
        let select = AssertSqlSafe(format!(
            "{ROWS} WHERE (?1 IS NULL OR dataset = ?1) AND golden_id > ?2
                 AND (?3 IS NULL OR tenant_id IN (SELECT value FROM json_each(?3)))
                 AND (?4 IS NULL OR feature IN (SELECT value FROM json_each(?4)))
             ORDER BY golden_id LIMIT ?5"
        ));
        let found = sqlx::query(select)
            .bind(&page.dataset)
            .bind(page.after.map(|id| id.to_string()).unwrap_or_default())
            .bind(names(&page.scope.tenants)?)
            .bind(names(&page.scope.features)?)
            .bind(page.limit.min(MAX_GOLDENS))
            .fetch_all(self.database.read())
            .await?;
        found.iter().map(rows::row).collect()
    }

    async fn datasets(&self, scope: &Scope) -> Result<Vec<(String, u64)>, StoreError> {
        let found: Vec<(String, i64)> = sqlx::query_as(
            "SELECT dataset, count(*) FROM golden
             WHERE (?1 IS NULL OR tenant_id IN (SELECT value FROM json_each(?1)))
                 AND (?2 IS NULL OR feature IN (SELECT value FROM json_each(?2))) GROUP BY 1 ORDER BY 1",
        )
        .bind(names(&scope.tenants)?)
        .bind(names(&scope.features)?)
        .fetch_all(self.database.read())
        .await?;
        Ok(found.into_iter().map(|(dataset, count)| (dataset, count.unsigned_abs())).collect())
    }

    async fn golden_history(
        &self,
        golden_id: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<GoldenEntry>, StoreError> {
        let found = sqlx::query(
            "SELECT entry_id, golden_id, dataset, tenant_id, request_id, change, done_by, digest, at_ms
             FROM golden_history WHERE ?1 IS NULL OR golden_id = ?1 ORDER BY entry_id DESC LIMIT ?2",
        )
        .bind(golden_id.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.database.read())
        .await?;
        found.iter().map(rows::entry).collect()
    }

    async fn final_label(&self, evaluation_id: Uuid) -> Result<Option<FinalLabel>, StoreError> {
        let found = sqlx::query(FINAL).bind(evaluation_id.to_string());
        let row = found.fetch_optional(self.database.read()).await?;
        row.as_ref().map(reviewing::final_label).transpose()
    }
}

/// Whether the label counts still that a row was made of. Only one writes at a time: it stays so until the transaction ends.
async fn counts_still(tx: &mut SqliteConnection, shelving: &Shelving) -> Result<bool, StoreError> {
    let Some(entry_id) = shelving.label_entry else { return Ok(true) };
    let counts = sqlx::query_scalar(COUNTS).bind(shelving.evaluation_id.to_string()).bind(entry_id);
    Ok(counts.fetch_one(&mut *tx).await?)
}

/// Adds an entry to the history; gives its number.
async fn enter(
    tx: &mut SqliteConnection,
    golden: &Golden,
    (change, by): (GoldenChange, &str),
    digest: &str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(ENTER)
        .bind(golden.golden_id.to_string())
        .bind(&golden.dataset)
        .bind(&golden.tenant_id)
        .bind(&golden.request_id)
        .bind(change.as_str())
        .bind(by)
        .bind(digest)
        .fetch_one(&mut *tx)
        .await?)
}

/// Whether a row was made of an evaluation.
pub(super) async fn has(tx: &mut SqliteConnection, evaluation_id: &str) -> Result<bool, StoreError> {
    let asked = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM golden WHERE evaluation_id = ?)");
    Ok(asked.bind(evaluation_id).fetch_one(&mut *tx).await?)
}

/// Deletes the rows of evaluations, which are given as a JSON array; the history says so.
pub(super) async fn erase(tx: &mut SqliteConnection, evaluations: &str) -> Result<(), StoreError> {
    for statement in [ERASED, "DELETE FROM golden WHERE evaluation_id IN (SELECT value FROM json_each(?))"] {
        sqlx::query(statement).bind(evaluations).execute(&mut *tx).await?;
    }
    Ok(())
}

/// The row that a sink is told, as it is now.
pub(super) async fn told(database: &Database, golden_id: &str) -> Result<Golden, StoreError> {
    let content: Option<String> = sqlx::query_scalar("SELECT content FROM golden WHERE golden_id = ?")
        .bind(golden_id)
        .fetch_optional(database.read())
        .await?;
    let gone = || StoreError::Corrupt { what: "golden row", detail: "it was taken out of the set".into() };
    rows::content(&content.ok_or_else(gone)?)
}
