//! The queue of reviews on Postgres: who gets what, and what is read of it.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, StoreError, hearing, labelling};
use crate::{
    database::postgres::{Database, bounded},
    domain::ReviewState,
    store::reviewing::{
        Asking, Audited, Changed, Dialect, FinalLabel, Heard, Held, LabelEntry, Labelled, QueueState,
        QueuedReview, Refusal, Reviews, Saying, Scope, Taken, TakingBack, first_free, listed, merged, page,
        rows,
    },
};

/// How this database writes what differs. The time is asked for once: a function that may change would be asked for every row. The
/// lists name their column: of one without it `t.name` would be the cast to the type `name`, which no index knows and which cuts a
/// text at 63 bytes.
pub const DIALECT: Dialect = Dialect {
    parameter: "$",
    now: "(SELECT aftercheck_now_ms())",
    tenants: "(SELECT name FROM unnest($3::text[]) AS given (name))",
    features: "(SELECT name FROM unnest($4::text[]) AS given (name))",
};
/// How often an item is looked for that nobody else has taken meanwhile.
const TRIES: u32 = 100;
/// Items with what is shown of them and what a change needs to know.
const ITEMS: &str = "SELECT review_id::text, r.evaluation_id::text, r.tenant_id, e.request_id, r.feature, reason, r.probability,
         r.created_ms, rank_ms, wanted::bigint, state, held_by, hold_token::text, held_until_ms, e.trace_id, e.span_id,
         e.occurred_at, aftercheck_now_ms() AS now_ms,
         (SELECT count(*) FROM standing_labels s WHERE s.evaluation_id = r.evaluation_id) AS labels
     FROM review_items r JOIN evaluations e USING (evaluation_id)";
/// What a scope holds.
const WITHIN: &str =
    "($1::text[] IS NULL OR r.tenant_id = ANY($1)) AND ($2::text[] IS NULL OR r.feature = ANY($2))";
/// Holds an item, whoever held it.
const HOLD: &str =
    "UPDATE review_items SET held_by = $1, hold_token = $2, held_until_ms = aftercheck_now_ms() + $3
     WHERE review_id = $4";
/// Holds an item that is still free: another may have taken it since it was found.
const TAKE: &str =
    "UPDATE review_items SET held_by = $1, hold_token = $2, held_until_ms = aftercheck_now_ms() + $3
     WHERE review_id = $4 AND state = $5 AND held_until_ms <= aftercheck_now_ms()";
/// Notes a skip and lets go of the item.
const SKIP: &str = "WITH noted AS (
         INSERT INTO review_skips (review_id, reviewer, at_ms) VALUES ($1, $2, aftercheck_now_ms())
         ON CONFLICT DO NOTHING)
     UPDATE review_items SET held_by = NULL, hold_token = NULL, held_until_ms = 0 WHERE review_id = $1";
/// Lets go of an item.
pub(super) const LET_GO: &str =
    "UPDATE review_items SET held_by = NULL, hold_token = NULL, held_until_ms = 0 WHERE review_id = $1";
/// Lets go of an item that a reviewer holds.
const LET_GO_OF_OWN: &str = "UPDATE review_items SET held_by = NULL, hold_token = NULL, held_until_ms = 0
     WHERE review_id = $1 AND held_by = $2";
/// What is read of an entry.
pub(super) const ENTRIES: &str =
    "SELECT l.entry_id, saying_id::text, l.evaluation_id::text, l.reviewer, kind, said, note, expected,
         at_ms
     FROM labels l";
/// What counts, with what it is about.
const FINALS: &str = "SELECT l.entry_id, saying_id::text, l.evaluation_id::text, l.reviewer, kind, said, note, expected, at_ms,
         f.decided_ms, e.tenant_id, e.request_id, e.feature, e.evaluator_version, e.verdict, e.decided_by, e.reasons::text
     FROM final_labels f JOIN labels l USING (entry_id) JOIN evaluations e ON e.evaluation_id = f.evaluation_id
     WHERE (f.decided_ms, f.evaluation_id) > ($1, $2) ORDER BY f.decided_ms, f.evaluation_id LIMIT $3";
/// The audit slice, of the times from which everything is there: of what was pruned the golden set keeps what people failed.
const AUDITED: &str = "SELECT e.verdict, e.feature, e.probability AS sampled, r.probability AS drawn, l.said
     FROM review_items r JOIN evaluations e USING (evaluation_id)
         LEFT JOIN final_labels f USING (evaluation_id) LEFT JOIN labels l ON l.entry_id = f.entry_id
     WHERE reason = 'audit_slice' AND r.created_ms >= $1
         AND e.evaluated_ms >= (SELECT evaluated_ms FROM prune_horizon)
         AND ($2::text[] IS NULL OR r.tenant_id = ANY($2)) AND ($3::text[] IS NULL OR r.feature = ANY($3))
     ORDER BY r.created_ms, r.review_id";

/// The statement that reads a page of the items of a state.
pub fn page_of(state: ReviewState) -> String {
    page(ITEMS, WITHIN, "$", state)
}

/// An item within a transaction that is about it and no other at this moment.
pub(super) async fn changed(
    tx: &mut PgConnection,
    review_id: Uuid,
) -> Result<Option<Result<Changed, StoreError>>, sqlx::Error> {
    let select = AssertSqlSafe(format!("{ITEMS} WHERE review_id = $1 FOR NO KEY UPDATE OF r"));
    let row = sqlx::query(select).bind(review_id).fetch_optional(&mut *tx).await?;
    Ok(row.as_ref().map(rows::changed))
}

/// The same of an evaluation's item.
pub(super) async fn of_evaluation(
    tx: &mut PgConnection,
    evaluation_id: Uuid,
) -> Result<Option<Result<Changed, StoreError>>, sqlx::Error> {
    let select = AssertSqlSafe(format!("{ITEMS} WHERE r.evaluation_id = $1 FOR NO KEY UPDATE OF r"));
    let row = sqlx::query(select).bind(evaluation_id).fetch_optional(&mut *tx).await?;
    Ok(row.as_ref().map(rows::changed))
}

/// Holds an item for a reviewer.
pub(super) async fn hold(
    tx: &mut PgConnection,
    review_id: Uuid,
    reviewer: &str,
    token: Uuid,
    hold_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(HOLD).bind(reviewer).bind(token).bind(hold_ms).bind(review_id).execute(&mut *tx).await?;
    Ok(())
}

/// Runs a statement that reads rows, on a connection of its own.
macro_rules! read {
    ($database:expr, $query:expr) => {
        bounded(|| async {
            let mut lent = $database.connection().await?;
            let found: Vec<PgRow> = $query.fetch_all(&mut *lent).await?;
            lent.give_back();
            Ok(found)
        })
        .await?
    };
}

/// The item that a reviewer holds already, if it is one of those they ask for.
async fn held(tx: &mut PgConnection, asking: &Asking) -> Result<Option<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT review_id, hold_token FROM review_items r
         WHERE held_by = $3 AND state = $4 AND held_until_ms > aftercheck_now_ms() AND hold_token IS NOT NULL
             AND ($1::text[] IS NULL OR tenant_id = ANY($1)) AND ($2::text[] IS NULL OR feature = ANY($2))
         ORDER BY rank_ms LIMIT 1 FOR NO KEY UPDATE",
    )
    .bind(&asking.scope.tenants)
    .bind(&asking.scope.features)
    .bind(&asking.reviewer)
    .bind(asking.state.as_str())
    .fetch_optional(&mut *tx)
    .await
}

/// Takes the first free item; none where there is none. Between two statements another may be quicker: then the next is looked for.
async fn take(tx: &mut PgConnection, asking: &Asking) -> Result<Option<(Uuid, Uuid)>, sqlx::Error> {
    let scoped = asking.scope.tenants.is_some() || asking.scope.features.is_some();
    for _ in 0..TRIES {
        let select = AssertSqlSafe(first_free(&asking.scope, DIALECT));
        let mut query =
            sqlx::query_scalar::<_, Uuid>(select).bind(asking.state.as_str()).bind(&asking.reviewer);
        if scoped {
            query = query.bind(&asking.scope.tenants).bind(&asking.scope.features);
        }
        let Some(review_id) = query.fetch_optional(&mut *tx).await? else { return Ok(None) };
        let token = Uuid::now_v7();
        let taken = sqlx::query(TAKE)
            .bind(&asking.reviewer)
            .bind(token)
            .bind(asking.hold_ms)
            .bind(review_id)
            .bind(asking.state.as_str())
            .execute(&mut *tx)
            .await?;
        if taken.rows_affected() > 0 {
            return Ok(Some((review_id, token)));
        }
    }
    Ok(None)
}

/// The next item for a reviewer.
async fn next(database: &Database, asking: &Asking) -> Result<Option<Held>, StoreError> {
    let taken = bounded(|| async {
        let mut tx = database.transaction().await?;
        let found = match held(&mut tx, asking).await? {
            Some((review_id, token)) => {
                hold(&mut tx, review_id, &asking.reviewer, token, asking.hold_ms).await?;
                Some((review_id, token))
            }
            None => take(&mut tx, asking).await?,
        };
        let Some((review_id, token)) = found else {
            tx.roll_back().await?;
            return Ok(None);
        };
        let changed = changed(&mut tx, review_id).await?;
        tx.commit().await?;
        Ok(changed.map(|changed| (changed, token)))
    })
    .await?;
    let Some((changed, token)) = taken else { return Ok(None) };
    let changed = changed?;
    Ok(Some(Held { item: changed.item, token, until_ms: changed.held_until_ms }))
}

/// Lets go of an item that a reviewer does not want.
async fn skip(
    tx: &mut PgConnection,
    (review_id, reviewer): (Uuid, &str),
    scope: &Scope,
    token: Option<Uuid>,
) -> Result<Result<Result<(), Refusal>, StoreError>, sqlx::Error> {
    let changed = match changed(tx, review_id).await? {
        None => return Ok(Ok(Err(Refusal::Missing))),
        Some(Err(error)) => return Ok(Err(error)),
        Some(Ok(changed)) => changed,
    };
    let skipped = sqlx::query("SELECT FROM review_skips WHERE review_id = $1 AND reviewer = $2");
    if skipped.bind(review_id).bind(reviewer).fetch_optional(&mut *tx).await?.is_some() {
        // They may hold it all the same: what is skipped and held would come to them for ever.
        sqlx::query(LET_GO_OF_OWN).bind(review_id).bind(reviewer).execute(&mut *tx).await?;
        return Ok(Ok(Ok(())));
    }
    if let Some(refusal) = changed.fences(reviewer, scope, token) {
        return Ok(Ok(Err(refusal)));
    }
    sqlx::query(SKIP).bind(review_id).bind(reviewer).execute(&mut *tx).await?;
    Ok(Ok(Ok(())))
}

#[async_trait]
impl Reviews for PostgresStore {
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
            let select = page_of(state);
            let found = read!(
                self.database,
                sqlx::query(AssertSqlSafe(select.clone()))
                    .bind(&scope.tenants)
                    .bind(&scope.features)
                    .bind(after_ms)
                    .bind(after_id)
                    .bind(i64::from(limit))
            );
            for row in &found {
                items.push(rows::item(row)?);
            }
        }
        Ok(merged(items, limit))
    }

    async fn review(&self, review_id: Uuid) -> Result<Option<QueuedReview>, StoreError> {
        let select = format!("{ITEMS} WHERE review_id = $1");
        let found = read!(self.database, sqlx::query(AssertSqlSafe(select.clone())).bind(review_id));
        found.first().map(rows::item).transpose()
    }

    async fn review_state(&self, scope: &Scope) -> Result<QueueState, StoreError> {
        let select = format!(
            "SELECT count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'disputed'), min(created_ms)
             FROM review_items r WHERE state <> 'closed' AND {WITHIN}"
        );
        let (open, disputed, oldest_ms): (i64, i64, Option<i64>) = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let query =
                sqlx::query_as(AssertSqlSafe(select.clone())).bind(&scope.tenants).bind(&scope.features);
            let counted = query.fetch_one(&mut *lent).await?;
            lent.give_back();
            Ok(counted)
        })
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
        bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let skipped = skip(&mut tx, (review_id, reviewer), scope, token).await?;
            tx.commit().await?;
            Ok(skipped)
        })
        .await?
    }

    async fn say(&self, saying: &Saying) -> Result<Result<Labelled, Refusal>, StoreError> {
        labelling::say(&self.database, saying).await
    }

    async fn take_back(&self, taking: &TakingBack) -> Result<Result<QueuedReview, Refusal>, StoreError> {
        labelling::take_back(&self.database, taking).await
    }

    async fn labels(&self, evaluation_id: Uuid) -> Result<Vec<LabelEntry>, StoreError> {
        let select = format!("{ENTRIES} WHERE l.evaluation_id = $1 ORDER BY l.entry_id");
        let found = read!(self.database, sqlx::query(AssertSqlSafe(select.clone())).bind(evaluation_id));
        found.iter().map(rows::entry).collect()
    }

    async fn standing_labels(&self, evaluation_id: Uuid) -> Result<Vec<LabelEntry>, StoreError> {
        let found = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let found = labelling::standing(&mut lent, evaluation_id).await?;
            lent.give_back();
            Ok(found)
        })
        .await?;
        found.iter().map(rows::entry).collect()
    }

    async fn final_labels(
        &self,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<FinalLabel>, StoreError> {
        let (after_ms, after_id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let found =
            read!(self.database, sqlx::query(FINALS).bind(after_ms).bind(after_id).bind(i64::from(limit)));
        found.iter().map(rows::final_label).collect()
    }

    async fn hear(&self, heard: &Heard) -> Result<Option<Taken>, StoreError> {
        hearing::hear(&self.database, heard).await
    }

    async fn audited(&self, scope: &Scope, since_ms: i64) -> Result<Vec<Audited>, StoreError> {
        let found = read!(
            self.database,
            sqlx::query(AUDITED).bind(since_ms).bind(&scope.tenants).bind(&scope.features)
        );
        found.iter().map(rows::audited).collect()
    }
}

/// Rows of everything that was said of evaluations, in their order, oldest first.
pub(super) async fn history(tx: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<PgRow>, sqlx::Error> {
    let select = AssertSqlSafe(format!(
        "{ENTRIES} JOIN unnest($1::uuid[]) WITH ORDINALITY AS given (evaluation_id, place) USING (evaluation_id)
         ORDER BY place, l.entry_id"
    ));
    sqlx::query(select).bind(ids).fetch_all(&mut *tx).await
}
