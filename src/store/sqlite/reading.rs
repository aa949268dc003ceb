//! Reading from the SQLite store.

use serde::de::DeserializeOwned;
use sqlx::{FromRow, Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{StoreError, uuid};
use crate::{
    database::sqlite::Database,
    domain::{Claim, Evaluation, RuleResult},
    store::{
        DeadLetterRow, LedgerEntry, Story,
        read::{DeliveryRow, Received, ReviewRow},
    },
};

/// One evaluation with its claims and rule outcomes.
pub(super) async fn evaluation(database: &Database, id: &str) -> Result<Evaluation, StoreError> {
    let row = sqlx::query("SELECT * FROM evaluations WHERE evaluation_id = ?")
        .bind(id)
        .fetch_one(database.read())
        .await?;
    let claims = sqlx::query("SELECT * FROM claims WHERE evaluation_id = ? ORDER BY position")
        .bind(id)
        .fetch_all(database.read())
        .await?;
    let rules = sqlx::query("SELECT * FROM rule_outcomes WHERE evaluation_id = ? ORDER BY position")
        .bind(id)
        .fetch_all(database.read())
        .await?;
    Ok(Evaluation {
        evaluation_id: uuid("evaluation id", row.try_get("evaluation_id")?)?,
        tenant_id: row.try_get("tenant_id")?,
        request_id: row.try_get("request_id")?,
        evaluator_version: row.try_get("evaluator_version")?,
        trace_id: row.try_get("trace_id")?,
        span_id: row.try_get("span_id")?,
        feature: row.try_get("feature")?,
        occurred_at: word(&row, "occurred_at")?,
        evaluated_at: word(&row, "evaluated_at")?,
        verdict: word(&row, "verdict")?,
        decided_by: word(&row, "decided_by")?,
        reasons: json(&row, "reasons")?,
        faithfulness: row.try_get("faithfulness")?,
        truncated: row.try_get("truncated")?,
        tokens_cut: row.try_get::<i64, _>("tokens_cut")?.unsigned_abs(),
        claims: claims.iter().map(claim).collect::<Result<_, _>>()?,
        rules: rules.iter().map(rule).collect::<Result<_, _>>()?,
        judge: match row.try_get::<Option<String>, _>("judge")? {
            Some(_) => Some(json(&row, "judge")?),
            None => None,
        },
        stages: json(&row, "stages")?,
        cost_usd: row.try_get("cost_usd")?,
        judge_avoided_usd: row.try_get("judge_avoided_usd")?,
        probability: row.try_get("probability")?,
    })
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
        "SELECT evaluation_id FROM evaluations WHERE tenant_id = ? AND request_id = ? ORDER BY evaluated_ms",
    )
    .bind(tenant_id)
    .bind(request_id)
    .fetch_all(pool)
    .await?;
    let (mut evaluations, mut deliveries, mut reviews) =
        (Vec::new(), Vec::<DeliveryRow>::new(), Vec::<ReviewRow>::new());
    for id in &ids {
        evaluations.push(evaluation(database, id).await?);
        deliveries.extend(
            by_evaluation::<DeliveryRow>(database, "SELECT * FROM outbox WHERE evaluation_id = ?", id)
                .await?,
        );
        reviews.extend(
            by_evaluation::<ReviewRow>(database, "SELECT * FROM review_items WHERE evaluation_id = ?", id)
                .await?,
        );
    }
    let letters =
        sqlx::query("SELECT * FROM dead_letters WHERE tenant_id IS ? AND request_id = ? ORDER BY created_ms")
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
        received: received
            .map(|row| {
                Ok::<_, StoreError>(Received {
                    call: json(&row, "body")?,
                    at_ms: row.try_get("received_ms")?,
                    source: row.try_get("source")?,
                })
            })
            .transpose()?,
        evaluations,
        deliveries,
        reviews,
        dead_letters: letters.iter().map(letter).collect::<Result<_, _>>()?,
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
    limit: u32,
) -> Result<Vec<DeadLetterRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM dead_letters WHERE ?1 IS NULL OR class = ?1 ORDER BY created_ms DESC, dead_letter_id LIMIT ?2",
    )
    .bind(class)
    .bind(limit)
    .fetch_all(database.read())
    .await?;
    rows.iter().map(letter).collect()
}

/// One dead letter.
pub(super) async fn dead_letter(database: &Database, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM dead_letters WHERE dead_letter_id = ?")
        .bind(id.to_string())
        .fetch_optional(database.read())
        .await?;
    row.as_ref().map(letter).transpose()
}

/// Reads a claim row.
fn claim(row: &SqliteRow) -> Result<Claim, StoreError> {
    Ok(Claim {
        start: offset(row, "claim_start")?,
        end: offset(row, "claim_end")?,
        entailment: row.try_get("entailment")?,
        neutral: row.try_get("neutral")?,
        contradiction: row.try_get("contradiction")?,
        chunk_id: row.try_get("chunk_id")?,
        chunk_start: offset(row, "chunk_start")?,
        chunk_end: offset(row, "chunk_end")?,
        label: word(row, "label")?,
        doubt: match row.try_get::<Option<String>, _>("doubt")? {
            Some(_) => Some(word(row, "doubt")?),
            None => None,
        },
    })
}

/// Reads a rule outcome row.
fn rule(row: &SqliteRow) -> Result<RuleResult, StoreError> {
    Ok(RuleResult {
        rule: row.try_get("rule")?,
        outcome: word(row, "outcome")?,
        detail: row.try_get("detail")?,
        spans: json(row, "spans")?,
    })
}

/// Reads a dead letter row.
fn letter(row: &SqliteRow) -> Result<DeadLetterRow, StoreError> {
    let payload: Vec<u8> = row.try_get("payload")?;
    Ok(DeadLetterRow {
        dead_letter_id: uuid("dead letter id", row.try_get("dead_letter_id")?)?,
        payload_bytes: payload.len(),
        payload,
        class: row.try_get("class")?,
        pointer: row.try_get("pointer")?,
        detail: row.try_get("detail")?,
        remedy: row.try_get("remedy")?,
        tenant_id: row.try_get("tenant_id")?,
        request_id: row.try_get("request_id")?,
        attempts: row.try_get("attempts")?,
        source: row.try_get("source")?,
        created_ms: row.try_get("created_ms")?,
    })
}

/// Reads an offset column.
fn offset(row: &SqliteRow, column: &'static str) -> Result<usize, StoreError> {
    let value: i64 = row.try_get(column)?;
    usize::try_from(value).map_err(|error| StoreError::Corrupt { what: column, detail: error.to_string() })
}

/// Reads a JSON column.
fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| StoreError::Corrupt { what: column, detail: error.to_string() })
}

/// Reads a column that holds one word or time as serde writes it.
fn word<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    serde_json::from_value(serde_json::Value::String(text))
        .map_err(|error| StoreError::Corrupt { what: column, detail: error.to_string() })
}
