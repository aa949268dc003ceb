//! The queue of reviews on SQLite: who gets what, and what is read of it.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, StoreError, hearing, json, labelling};
use crate::{
    database::sqlite::Database,
    domain::ReviewState,
    store::reviewing::{
        Asking, Audited, Changed, Dialect, FinalLabel, Heard, Held, LabelEntry, Labelled, QueueState,
        QueuedReview, Refusal, Reviews, Saying, Scope, Taken, TakingBack, first_free, listed, merged, page,
        rows,
    },
};

/// How this database writes what differs.
pub const DIALECT: Dialect = Dialect {
    parameter: "?",
    now: "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    tenants: "(SELECT value AS name FROM json_each(?3))",
    features: "(SELECT value AS name FROM json_each(?4))",
};
/// Items with what is shown of them and what a change needs to know.
const ITEMS: &str = "SELECT review_id, r.evaluation_id, r.tenant_id, e.request_id, r.feature, reason, r.probability, r.created_ms,
         rank_ms, wanted, state, held_by, hold_token, held_until_ms, e.trace_id, e.span_id, e.occurred_at,
         CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms,
         (SELECT count(*) FROM standing_labels s WHERE s.evaluation_id = r.evaluation_id) AS labels
     FROM review_items r JOIN evaluations e USING (evaluation_id)";
/// What a scope holds, and of which states: all but the closed unless one is named.
const WITHIN: &str = "(?1 IS NULL OR r.tenant_id IN (SELECT value FROM json_each(?1)))
         AND (?2 IS NULL OR r.feature IN (SELECT value FROM json_each(?2)))";
/// Holds an item.
const HOLD: &str = "UPDATE review_items SET held_by = ?1, hold_token = ?2,
         held_until_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?3 WHERE review_id = ?4";
/// Lets go of an item.
pub(super) const LET_GO: &str =
    "UPDATE review_items SET held_by = NULL, hold_token = NULL, held_until_ms = 0 WHERE review_id = ?";
/// Lets go of an item that a reviewer holds.
const LET_GO_OF_OWN: &str = "UPDATE review_items SET held_by = NULL, hold_token = NULL, held_until_ms = 0
     WHERE review_id = ? AND held_by = ?";
/// What is read of an entry.
pub(super) const ENTRIES: &str = "SELECT l.entry_id, saying_id, l.evaluation_id, l.reviewer, kind, said, note, expected, at_ms FROM labels l";
/// What counts, with what it is about.
const FINALS: &str = "SELECT l.entry_id, saying_id, l.evaluation_id, l.reviewer, kind, said, note, expected, at_ms,
         f.decided_ms, e.tenant_id, e.request_id, e.feature, e.evaluator_version, e.verdict, e.decided_by, e.reasons
     FROM final_labels f JOIN labels l USING (entry_id) JOIN evaluations e ON e.evaluation_id = f.evaluation_id
     WHERE (f.decided_ms, f.evaluation_id) > (?1, ?2) ORDER BY f.decided_ms, f.evaluation_id LIMIT ?3";
/// The audit slice, of the times from which everything is there: of what was pruned the golden set keeps what people failed.
const AUDITED: &str = "SELECT e.verdict, e.feature, e.probability AS sampled, r.probability AS drawn, l.said
     FROM review_items r JOIN evaluations e USING (evaluation_id)
         LEFT JOIN final_labels f USING (evaluation_id) LEFT JOIN labels l ON l.entry_id = f.entry_id
     WHERE reason = 'audit_slice' AND r.created_ms >= ?3
         AND e.evaluated_ms >= (SELECT evaluated_ms FROM prune_horizon)
         AND (?1 IS NULL OR r.tenant_id IN (SELECT value FROM json_each(?1)))
         AND (?2 IS NULL OR r.feature IN (SELECT value FROM json_each(?2))) ORDER BY r.created_ms, review_id";

/// The statement that reads a page of the items of a state.
pub fn page_of(state: ReviewState) -> String {
    page(ITEMS, WITHIN, "?", state)
}

/// Names of a scope as the statements want them.
pub(super) fn names(names: &Option<Vec<String>>) -> Result<Option<String>, StoreError> {
    names.as_ref().map(|names| json("names", names)).transpose()
}

/// An item within a transaction.
pub(super) async fn changed(
    tx: &mut SqliteConnection,
    review_id: &str,
) -> Result<Option<Changed>, StoreError> {
    let select = AssertSqlSafe(format!("{ITEMS} WHERE review_id = ?"));
    let row = sqlx::query(select).bind(review_id).fetch_optional(&mut *tx).await?;
    row.as_ref().map(rows::changed).transpose()
}

/// Holds an item for a reviewer.
pub(super) async fn hold(
    tx: &mut SqliteConnection,
    review_id: &str,
    reviewer: &str,
    token: Uuid,
    hold_ms: i64,
) -> Result<(), StoreError> {
    let query = sqlx::query(HOLD).bind(reviewer).bind(token.to_string()).bind(hold_ms).bind(review_id);
    query.execute(&mut *tx).await?;
    Ok(())
}

/// The item that a reviewer holds already, if it is one of those they ask for.
async fn held(tx: &mut SqliteConnection, asking: &Asking) -> Result<Option<Changed>, StoreError> {
    let select = AssertSqlSafe(format!(
        "{ITEMS} WHERE held_by = ? AND state = ? AND held_until_ms > CAST(unixepoch('subsec') * 1000 AS INTEGER)
         ORDER BY rank_ms"
    ));
    let found =
        sqlx::query(select).bind(&asking.reviewer).bind(asking.state.as_str()).fetch_all(&mut *tx).await?;
    for row in &found {
        let changed = rows::changed(row)?;
        if asking.scope.holds(&changed.item.tenant_id, &changed.item.feature) {
            return Ok(Some(changed));
        }
    }
    Ok(None)
}

/// The next item for a reviewer.
async fn next(database: &Database, asking: &Asking) -> Result<Option<Held>, StoreError> {
    let mut tx = database.write().await?;
    let (review_id, token) = match held(&mut tx, asking).await? {
        Some(changed) => (changed.item.review_id.to_string(), changed.token.unwrap_or_else(Uuid::now_v7)),
        None => {
            let select = AssertSqlSafe(first_free(&asking.scope, DIALECT));
            let mut query =
                sqlx::query_scalar::<_, String>(select).bind(asking.state.as_str()).bind(&asking.reviewer);
            if asking.scope.tenants.is_some() || asking.scope.features.is_some() {
                query = query.bind(names(&asking.scope.tenants)?).bind(names(&asking.scope.features)?);
            }
            match query.fetch_optional(&mut *tx).await? {
                Some(review_id) => (review_id, Uuid::now_v7()),
                None => return Ok(None),
            }
        }
    };
    hold(&mut tx, &review_id, &asking.reviewer, token, asking.hold_ms).await?;
    let changed = changed(&mut tx, &review_id).await?;
    tx.commit().await?;
    Ok(changed.map(|changed| Held { item: changed.item, token, until_ms: changed.held_until_ms }))
}

#[async_trait]
impl Reviews for SqliteStore {
    async fn next_review(&self, asking: &Asking) -> Result<Option<Held>, StoreError> {
        next(&self.database, asking).await
    }

    async fn reviews(
        &self,
        scope: &Scope,
        state: Option<ReviewState>,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<QueuedReview>, StoreError> {
        let (after_ms, after_id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let mut items = Vec::new();
        for state in listed(state) {
            let found = sqlx::query(AssertSqlSafe(page_of(state)))
                .bind(names(&scope.tenants)?)
                .bind(names(&scope.features)?)
                .bind(after_ms)
                .bind(after_id.to_string())
                .bind(limit)
                .fetch_all(self.database.read())
                .await?;
            for row in &found {
                items.push(rows::item(row)?);
            }
        }
        Ok(merged(items, limit))
    }

    async fn review(&self, review_id: Uuid) -> Result<Option<QueuedReview>, StoreError> {
        let select = AssertSqlSafe(format!("{ITEMS} WHERE review_id = ?"));
        let row =
            sqlx::query(select).bind(review_id.to_string()).fetch_optional(self.database.read()).await?;
        row.as_ref().map(rows::item).transpose()
    }

    async fn review_state(&self, scope: &Scope) -> Result<QueueState, StoreError> {
        let select = AssertSqlSafe(format!(
            "SELECT count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'disputed'), min(created_ms)
             FROM review_items r WHERE state <> 'closed' AND {WITHIN}"
        ));
        let (open, disputed, oldest_ms): (i64, i64, Option<i64>) = sqlx::query_as(select)
            .bind(names(&scope.tenants)?)
            .bind(names(&scope.features)?)
            .fetch_one(self.database.read())
            .await?;
        Ok(QueueState { open: open.unsigned_abs(), disputed: disputed.unsigned_abs(), oldest_ms })
    }

    async fn skip_review(
        &self,
        review_id: Uuid,
        reviewer: &str,
        scope: &Scope,
        token: Option<Uuid>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let (mut tx, id) = (self.database.write().await?, review_id.to_string());
        let Some(changed) = changed(&mut tx, &id).await? else { return Ok(Err(Refusal::Missing)) };
        let skipped = sqlx::query("SELECT 1 FROM review_skips WHERE review_id = ? AND reviewer = ?");
        if skipped.bind(&id).bind(reviewer).fetch_optional(&mut *tx).await?.is_some() {
            // They may hold it all the same: what is skipped and held would come to them for ever.
            sqlx::query(LET_GO_OF_OWN).bind(&id).bind(reviewer).execute(&mut *tx).await?;
            tx.commit().await?;
            return Ok(Ok(()));
        }
        if let Some(refusal) = changed.fences(reviewer, scope, token) {
            return Ok(Err(refusal));
        }
        sqlx::query(
            "INSERT INTO review_skips (review_id, reviewer, at_ms)
             VALUES (?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
        )
        .bind(&id)
        .bind(reviewer)
        .execute(&mut *tx)
        .await?;
        sqlx::query(LET_GO).bind(&id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    async fn say(&self, saying: &Saying) -> Result<Result<Labelled, Refusal>, StoreError> {
        labelling::say(&self.database, saying).await
    }

    async fn take_back(&self, taking: &TakingBack) -> Result<Result<QueuedReview, Refusal>, StoreError> {
        labelling::take_back(&self.database, taking).await
    }

    async fn labels(&self, evaluation_id: Uuid) -> Result<Vec<LabelEntry>, StoreError> {
        history(&self.database, &evaluation_id.to_string()).await
    }

    async fn standing_labels(&self, evaluation_id: Uuid) -> Result<Vec<LabelEntry>, StoreError> {
        let mut connection = self.database.read().acquire().await?;
        labelling::standing(&mut connection, &evaluation_id.to_string()).await
    }

    async fn final_labels(
        &self,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<FinalLabel>, StoreError> {
        let (after_ms, after_id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let found = sqlx::query(FINALS)
            .bind(after_ms)
            .bind(after_id.to_string())
            .bind(limit)
            .fetch_all(self.database.read())
            .await?;
        found.iter().map(rows::final_label).collect()
    }

    async fn hear(&self, heard: &Heard) -> Result<Option<Taken>, StoreError> {
        hearing::hear(&self.database, heard).await
    }

    async fn audited(&self, scope: &Scope, since_ms: i64) -> Result<Vec<Audited>, StoreError> {
        let found = sqlx::query(AUDITED)
            .bind(names(&scope.tenants)?)
            .bind(names(&scope.features)?)
            .bind(since_ms)
            .fetch_all(self.database.read())
            .await?;
        found.iter().map(rows::audited).collect()
    }
}

/// Everything that was said of an evaluation, oldest first.
pub(super) async fn history(database: &Database, id: &str) -> Result<Vec<LabelEntry>, StoreError> {
    let select = AssertSqlSafe(format!("{ENTRIES} WHERE l.evaluation_id = ? ORDER BY l.entry_id"));
    let found = sqlx::query(select).bind(id).fetch_all(database.read()).await?;
    found.iter().map(rows::entry).collect()
}

/// The item of an evaluation.
pub(super) async fn of_evaluation(
    tx: &mut SqliteConnection,
    evaluation_id: &str,
) -> Result<Option<Changed>, StoreError> {
    let select = AssertSqlSafe(format!("{ITEMS} WHERE r.evaluation_id = ?"));
    let row = sqlx::query(select).bind(evaluation_id).fetch_optional(&mut *tx).await?;
    row.as_ref().map(rows::changed).transpose()
}
