//! The golden set on Postgres.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{PostgresStore, StoreError, harmless, harmless_json, notices};
use crate::{
    database::postgres::{Database, bounded},
    domain::Golden,
    store::{
        golden::{
            GoldenChange, GoldenEntry, GoldenPage, GoldenRow, Goldens, MAX_GOLDENS, Shelved, Shelving, rows,
        },
        reviewing::{FinalLabel, Scope, rows as reviewing},
    },
};

/// Whether the evaluation is there; it stays, and its call is not erased, until the transaction ends.
const THERE: &str = "SELECT 1 FROM evaluations e JOIN calls c USING (tenant_id, request_id)
     WHERE evaluation_id = $1 FOR SHARE OF c";
/// Writes a row, or writes it over.
const WRITE: &str =
    "INSERT INTO golden (golden_id, evaluation_id, dataset, tenant_id, feature, content, digest,
         promoted_ms, changed_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, aftercheck_now_ms(), aftercheck_now_ms())
     ON CONFLICT (golden_id) DO UPDATE SET evaluation_id = excluded.evaluation_id, feature = excluded.feature,
         content = excluded.content, digest = excluded.digest, changed_ms = excluded.changed_ms";
/// Adds an entry to the history.
const ENTER: &str =
    "INSERT INTO golden_history (golden_id, dataset, tenant_id, request_id, change, done_by, digest, at_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, aftercheck_now_ms()) RETURNING entry_id";
/// Deletes what sinks were to be told of a row and were not: nobody has begun with it.
const UNSENT: &str = "DELETE FROM outbox WHERE evaluation_id = $1 AND golden_id = $2 AND delivered_ms IS NULL
         AND dead_reason IS NULL AND attempts = 0 AND due_ms = created_ms";
/// Tells a sink. Behind everything else that it has of the evaluation, so that they arrive in this order.
const TELL: &str = "INSERT INTO outbox (delivery_id, sink, evaluation_id, golden_id, created_ms, due_ms)
     SELECT $1, $2, $3, $4, at_ms, at_ms
     FROM (SELECT greatest(aftercheck_now_ms(), 1 + coalesce(
         (SELECT max(created_ms) FROM outbox WHERE evaluation_id = $3 AND sink = $2), 0)) AS at_ms OFFSET 0) AS given";
/// What is read of a row.
const ROWS: &str = "SELECT content, evaluation_id::text, digest, promoted_ms, changed_ms FROM golden";
/// Rows of evaluations, as they are erased.
const ERASED: &str =
    "INSERT INTO golden_history (golden_id, dataset, tenant_id, request_id, change, done_by, digest, at_ms)
     SELECT golden_id, dataset, g.tenant_id, e.request_id, 'erased', '', digest, aftercheck_now_ms()
     FROM golden g JOIN evaluations e USING (evaluation_id) WHERE evaluation_id = ANY($1)";
/// Whether an entry is what counts of an evaluation.
const COUNTS: &str = "SELECT EXISTS (SELECT 1 FROM final_labels WHERE evaluation_id = $1 AND entry_id = $2)";
/// What counts of an evaluation.
const FINAL: &str = "SELECT l.entry_id, saying_id::text, l.evaluation_id::text, l.reviewer, kind, said, note, expected, at_ms,
         f.decided_ms, e.tenant_id, e.request_id, e.feature, e.evaluator_version, e.verdict, e.decided_by,
         e.reasons::text
     FROM final_labels f JOIN labels l USING (entry_id) JOIN evaluations e ON e.evaluation_id = f.evaluation_id
     WHERE f.evaluation_id = $1";
/// The history of one row, or of all.
const HISTORY: &str =
    "SELECT entry_id, golden_id::text, dataset, tenant_id, request_id, change, done_by, digest, at_ms
     FROM golden_history WHERE $1::uuid IS NULL OR golden_id = $1 ORDER BY entry_id DESC LIMIT $2";

#[async_trait]
impl Goldens for PostgresStore {
    async fn shelve(&self, shelving: &Shelving) -> Result<Shelved, StoreError> {
        let (content, digest) = shelving.content()?;
        let content = harmless_json(&content);
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let shelved = shelve(&mut tx, shelving, (&content, &digest)).await?;
            tx.commit().await?;
            Ok(shelved)
        })
        .await?)
    }

    async fn unshelve(&self, golden_id: Uuid, by: &str) -> Result<bool, StoreError> {
        bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let gone = sqlx::query(
                "DELETE FROM golden WHERE golden_id = $1
                 RETURNING content, evaluation_id::text, digest, promoted_ms, changed_ms",
            );
            let Some(gone) = gone.bind(golden_id).fetch_optional(&mut *tx).await? else {
                tx.roll_back().await?;
                return Ok(Ok(false));
            };
            let gone = match rows::row(&gone) {
                Ok(gone) => gone,
                Err(error) => return Ok(Err(error)),
            };
            enter(&mut tx, &gone.golden, (GoldenChange::Removed, by), &gone.digest).await?;
            sqlx::query(UNSENT).bind(gone.evaluation_id).bind(golden_id).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(Ok(true))
        })
        .await?
    }

    async fn golden(&self, golden_id: Uuid) -> Result<Option<GoldenRow>, StoreError> {
        let row = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let select = AssertSqlSafe(format!("{ROWS} WHERE golden_id = $1"));
            let row = sqlx::query(select).bind(golden_id).fetch_optional(&mut *lent).await?;
            lent.give_back();
            Ok(row)
        })
        .await?;
        row.as_ref().map(rows::row).transpose()
    }

    async fn goldens(&self, page: &GoldenPage) -> Result<Vec<GoldenRow>, StoreError> {
        let found = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let select = AssertSqlSafe(format!(
                "{ROWS} WHERE ($1::text IS NULL OR dataset = $1) AND ($2::uuid IS NULL OR golden_id > $2)
                     AND ($3::text[] IS NULL OR tenant_id = ANY($3)) AND ($4::text[] IS NULL OR feature = ANY($4))
                 ORDER BY golden_id LIMIT $5"
            ));
            let found = sqlx::query(select)
                .bind(&page.dataset)
                .bind(page.after)
                .bind(&page.scope.tenants)
                .bind(&page.scope.features)
                .bind(i64::from(page.limit.min(MAX_GOLDENS)))
                .fetch_all(&mut *lent)
                .await?;
            lent.give_back();
            Ok(found)
        })
        .await?;
        found.iter().map(rows::row).collect()
    }

    async fn datasets(&self, scope: &Scope) -> Result<Vec<(String, u64)>, StoreError> {
        let found: Vec<(String, i64)> = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let found = sqlx::query_as(
                "SELECT dataset, count(*) FROM golden
                 WHERE ($1::text[] IS NULL OR tenant_id = ANY($1)) AND ($2::text[] IS NULL OR feature = ANY($2))
                 GROUP BY 1 ORDER BY dataset COLLATE \"C\"",
            );
            let found = found.bind(&scope.tenants).bind(&scope.features).fetch_all(&mut *lent).await?;
            lent.give_back();
            Ok(found)
        })
        .await?;
        Ok(found.into_iter().map(|(dataset, count)| (dataset, count.unsigned_abs())).collect())
    }

    async fn golden_history(
        &self,
        golden_id: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<GoldenEntry>, StoreError> {
        let found = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let query = sqlx::query(HISTORY).bind(golden_id).bind(i64::from(limit));
            let found = query.fetch_all(&mut *lent).await?;
            lent.give_back();
            Ok(found)
        })
        .await?;
        found.iter().map(rows::entry).collect()
    }

    async fn final_label(&self, evaluation_id: Uuid) -> Result<Option<FinalLabel>, StoreError> {
        let row = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let row = sqlx::query(FINAL).bind(evaluation_id).fetch_optional(&mut *lent).await?;
            lent.give_back();
            Ok(row)
        })
        .await?;
        row.as_ref().map(reviewing::final_label).transpose()
    }
}

/// Writes a row within a transaction.
async fn shelve(
    tx: &mut PgConnection,
    shelving: &Shelving,
    (content, digest): (&str, &str),
) -> Result<Shelved, sqlx::Error> {
    let (evaluation_id, golden_id) = (shelving.evaluation_id, shelving.golden.golden_id);
    if sqlx::query(THERE).bind(evaluation_id).fetch_optional(&mut *tx).await?.is_none() {
        return Ok(Shelved::Missing);
    }
    // Two that promote one call at once come one after the other.
    let lock = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))");
    lock.bind(golden_id.to_string()).execute(&mut *tx).await?;
    let before: Option<String> = sqlx::query_scalar("SELECT digest FROM golden WHERE golden_id = $1")
        .bind(golden_id)
        .fetch_optional(&mut *tx)
        .await?;
    if before.as_deref() == Some(digest) {
        return Ok(Shelved::Same);
    }
    let is_stale = shelving.over.is_some() && shelving.over != before;
    if is_stale || !counts_still(tx, shelving).await? {
        return Ok(Shelved::Stale);
    }
    let Golden { dataset, tenant_id, feature, .. } = &shelving.golden;
    sqlx::query(WRITE)
        .bind(golden_id)
        .bind(evaluation_id)
        .bind(dataset)
        .bind(tenant_id)
        .bind(harmless(feature))
        .bind(content)
        .bind(digest)
        .execute(&mut *tx)
        .await?;
    let entry_id = enter(tx, &shelving.golden, (shelving.change, &shelving.by), digest).await?;
    sqlx::query(UNSENT).bind(evaluation_id).bind(golden_id).execute(&mut *tx).await?;
    for sink in &shelving.sinks {
        sqlx::query(TELL)
            .bind(shelving.delivery_id(sink, entry_id))
            .bind(sink)
            .bind(evaluation_id)
            .bind(golden_id)
            .execute(&mut *tx)
            .await?;
    }
    notices::write(tx, &shelving.notices).await?;
    Ok(if before.is_some() { Shelved::Changed } else { Shelved::New })
}

/// Whether the label counts still that a row was made of; it cannot be taken back until the transaction ends.
async fn counts_still(tx: &mut PgConnection, shelving: &Shelving) -> Result<bool, sqlx::Error> {
    let Some(entry_id) = shelving.label_entry else { return Ok(true) };
    // Who takes it back holds the item as well. What they did is seen by the statement after the one that waited for them.
    let lock = sqlx::query("SELECT FROM review_items WHERE evaluation_id = $1 FOR SHARE");
    lock.bind(shelving.evaluation_id).execute(&mut *tx).await?;
    let counts = sqlx::query_scalar(COUNTS).bind(shelving.evaluation_id).bind(entry_id);
    counts.fetch_one(&mut *tx).await
}

/// Adds an entry to the history; gives its number.
async fn enter(
    tx: &mut PgConnection,
    golden: &Golden,
    (change, by): (GoldenChange, &str),
    digest: &str,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(ENTER)
        .bind(golden.golden_id)
        .bind(&golden.dataset)
        .bind(&golden.tenant_id)
        .bind(&golden.request_id)
        .bind(change.as_str())
        .bind(harmless(by))
        .bind(digest)
        .fetch_one(&mut *tx)
        .await
}

/// Whether a row was made of an evaluation.
pub(super) async fn has(tx: &mut PgConnection, evaluation_id: Uuid) -> Result<bool, sqlx::Error> {
    let asked = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM golden WHERE evaluation_id = $1)");
    asked.bind(evaluation_id).fetch_one(&mut *tx).await
}

/// Deletes the rows of evaluations; the history says so.
pub(super) async fn erase(tx: &mut PgConnection, evaluations: &[Uuid]) -> Result<(), sqlx::Error> {
    for statement in [ERASED, "DELETE FROM golden WHERE evaluation_id = ANY($1)"] {
        sqlx::query(statement).bind(evaluations).execute(&mut *tx).await?;
    }
    Ok(())
}

/// The row that a sink is told, as it is now.
pub(super) async fn told(database: &Database, golden_id: Uuid) -> Result<Golden, StoreError> {
    let content: Option<String> = bounded(|| async {
        let mut lent = database.connection().await?;
        let select = sqlx::query_scalar("SELECT content FROM golden WHERE golden_id = $1");
        let content = select.bind(golden_id).fetch_optional(&mut *lent).await?;
        lent.give_back();
        Ok(content)
    })
    .await?;
    let gone = || StoreError::Corrupt { what: "golden row", detail: "it was taken out of the set".into() };
    rows::content(&content.ok_or_else(gone)?)
}
