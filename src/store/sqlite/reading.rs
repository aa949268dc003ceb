//! Reading from the SQLite store.

use sqlx::{FromRow, Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{StoreError, json, reviewing::history};
use crate::{
    database::sqlite::Database,
    domain::{Call, Evaluation},
    store::{
        DeadLetterRow, LedgerEntry, Page, Stored, Story,
        read::{DeliveryRow, ReviewRow},
        rows,
    },
};

/// By name: another process may migrate the file, which moves columns, beside this one.
const EVALUATION: &str = "SELECT evaluation_id, tenant_id, request_id, evaluator_version, trace_id, span_id, feature,
         occurred_at, evaluated_at, verdict, decided_by, reasons, rules, faithfulness, truncated, tokens_cut, judge,
         stages, cost_usd, judge_avoided_usd, probability
     FROM evaluations WHERE evaluation_id = ?";

/// One evaluation with its claims.
pub(super) async fn evaluation(database: &Database, id: &str) -> Result<Evaluation, StoreError> {
    let row = sqlx::query(EVALUATION).bind(id).fetch_one(database.read()).await?;
    let claims = sqlx::query("SELECT * FROM claims WHERE evaluation_id = ? ORDER BY position")
        .bind(id)
        .fetch_all(database.read())
        .await?;
    rows::evaluation(&row, &claims)
}

/// A page of evaluations with their calls.
pub(super) async fn page(
    database: &Database,
    page: &Page,
) -> Result<(Vec<Stored>, Option<Page>), StoreError> {
    let (after_ms, after_id) = page.begin();
    let found = sqlx::query(
        "SELECT evaluation_id, evaluated_ms, body, received_ms, source
         FROM evaluations JOIN calls USING (tenant_id, request_id)
         WHERE evaluated_ms >= ?1 AND (evaluated_ms, evaluation_id) > (?1, ?2)
         ORDER BY evaluated_ms, evaluation_id LIMIT ?3",
    )
    .bind(after_ms)
    .bind(after_id.to_string())
    .bind(page.limit)
    .fetch_all(database.read())
    .await?;
    let (mut stored, mut next) = (Vec::with_capacity(found.len()), None);
    for row in &found {
        let id: &str = row.try_get("evaluation_id")?;
        next = Some(page.behind(row.try_get("evaluated_ms")?, rows::uuid("evaluation id", id)?));
        let evaluation = match evaluation(database, id).await {
            Err(StoreError::Corrupt { .. } | StoreError::Refused(sqlx::Error::RowNotFound)) => None,
            read => Some(read?),
        };
        stored.extend(rows::stored(row, evaluation)?);
    }
    Ok((stored, next))
}

/// Calls by tenant and request id.
pub(super) async fn calls(
    database: &Database,
    keys: &[(String, String)],
) -> Result<Vec<Option<Call>>, StoreError> {
    let found = sqlx::query(
        "SELECT coalesce(body, '') AS body, coalesce(received_ms, 0) AS received_ms, coalesce(source, '') AS source
         FROM json_each(?) LEFT JOIN calls ON tenant_id = value ->> 0 AND request_id = value ->> 1 ORDER BY key",
    )
    .bind(json("keys", &keys)?)
    .fetch_all(database.read())
    .await?;
    found.iter().map(rows::call).collect()
}

/// Everything about a request id, one story per tenant.
pub(super) async fn stories(
    database: &Database,
    tenant_id: Option<&str>,
    request_id: &str,
) -> Result<Vec<Story>, StoreError> {
    let tenants: Vec<Option<String>> = sqlx::query_scalar(
        "SELECT tenant_id FROM calls WHERE request_id = ?1
         UNION SELECT tenant_id FROM dead_letters WHERE request_id = ?1
         UNION SELECT tenant_id FROM ledger WHERE request_id = ?1 ORDER BY 1",
    )
    .bind(request_id)
    .fetch_all(database.read())
    .await?;
    let mut stories = Vec::new();
    for tenant in tenants {
        if tenant_id.is_none() || tenant.as_deref() == tenant_id {
            stories.push(story(database, tenant, request_id).await?);
        }
    }
    Ok(stories)
}

/// The story of one call.
pub(super) async fn story(
    database: &Database,
    tenant: Option<String>,
    request_id: &str,
) -> Result<Story, StoreError> {
    let (pool, tenant_id) = (database.read(), tenant.as_deref());
    let received =
        sqlx::query("SELECT body, received_ms, source FROM calls WHERE tenant_id = ? AND request_id = ?")
            .bind(tenant_id)
            .bind(request_id)
            .fetch_optional(pool)
            .await?;
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT evaluation_id FROM evaluations WHERE tenant_id = ? AND request_id = ?
         ORDER BY evaluated_ms, evaluator_version",
    )
    .bind(tenant_id)
    .bind(request_id)
    .fetch_all(pool)
    .await?;
    let (mut evaluations, mut deliveries, mut reviews) = (Vec::new(), Vec::new(), Vec::new());
    let mut labels = Vec::new();
    for id in &ids {
        evaluations.push(evaluation(database, id).await?);
        let sent = "SELECT * FROM outbox WHERE evaluation_id = ? ORDER BY sink";
        deliveries.extend(by_evaluation::<DeliveryRow>(database, sent, id).await?);
        let reviewed = "SELECT * FROM review_items WHERE evaluation_id = ?";
        reviews.extend(by_evaluation::<ReviewRow>(database, reviewed, id).await?);
        labels.extend(history(database, id).await?);
    }
    let letters =
        sqlx::query("SELECT *, length(payload) AS payload_bytes FROM dead_letters WHERE tenant_id IS ? AND request_id = ? ORDER BY created_ms")
            .bind(tenant_id)
            .bind(request_id)
            .fetch_all(pool)
            .await?;
    let ledger = sqlx::query_as::<_, LedgerEntry>(
        "SELECT event, detail, at_ms FROM ledger WHERE tenant_id IS ? AND request_id = ? ORDER BY entry_id",
    )
    .bind(tenant_id)
    .bind(request_id)
    .fetch_all(pool)
    .await?;
    Ok(Story {
        received: received.as_ref().map(rows::received).transpose()?.flatten(),
        evaluations,
        deliveries,
        reviews,
        labels,
        dead_letters: letters.iter().map(rows::letter).collect::<Result<_, _>>()?,
        ledger,
        tenant_id: tenant,
        request_id: request_id.to_owned(),
    })
}

/// Rows that belong to one evaluation.
async fn by_evaluation<T>(database: &Database, query: &'static str, id: &str) -> Result<Vec<T>, StoreError>
where
    T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
{
    Ok(sqlx::query_as::<_, T>(query).bind(id).fetch_all(database.read()).await?)
}

/// Dead letters, newest first.
pub(super) async fn dead_letters(
    database: &Database,
    class: Option<&str>,
    tenants: Option<&[String]>,
    limit: u32,
) -> Result<Vec<DeadLetterRow>, StoreError> {
    let letters = sqlx::query(
        "SELECT dead_letter_id, x'' AS payload, length(payload) AS payload_bytes, class, pointer, detail, remedy, tenant_id,
             request_id, attempts, source, created_ms
         FROM dead_letters WHERE (?1 IS NULL OR class = ?1)
             AND (?2 IS NULL OR tenant_id IN (SELECT value FROM json_each(?2)))
         ORDER BY created_ms DESC, dead_letter_id LIMIT ?3",
    )
    .bind(class)
    .bind(tenants.map(|tenants| json("tenants", &tenants)).transpose()?)
    .bind(limit)
    .fetch_all(database.read())
    .await?;
    letters.iter().map(rows::letter).collect()
}

/// One dead letter.
pub(super) async fn dead_letter(database: &Database, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
    let row =
        sqlx::query("SELECT *, length(payload) AS payload_bytes FROM dead_letters WHERE dead_letter_id = ?")
            .bind(id.to_string())
            .fetch_optional(database.read())
            .await?;
    row.as_ref().map(rows::letter).transpose()
}
