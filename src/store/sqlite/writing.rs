//! What one verdict writes, within the transaction of its group.

use sqlx::SqliteConnection;

use super::{StoreError, json, note, notices, word};
use crate::{
    domain::{
        Evaluation, id,
        review::{FRESH_MS, HEAD_START_MS},
    },
    store::{Record, Recorded, ReviewItem},
};

/// Writes a review item. A version is as old as its first item.
const REVIEW: &str =
    "INSERT INTO review_items (review_id, evaluation_id, tenant_id, feature, prompt_version, model, reason,
         probability, wanted, created_ms, rank_ms)
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, now_ms,
         now_ms - CAST(?10 + ?11 * max(0.0, 1.0 - (now_ms - first_ms) * 1.0 / ?12) AS INTEGER)
     FROM (SELECT now_ms, coalesce(
         (SELECT min(created_ms) FROM review_items WHERE feature = ?4 AND prompt_version = ?5 AND model = ?6),
         now_ms) AS first_ms FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms))";

/// Writes one record within the transaction, unless its key is there.
pub(super) async fn insert(tx: &mut SqliteConnection, record: &Record) -> Result<Recorded, StoreError> {
    let evaluation = &record.evaluation;
    if let Some(refused) = insert_call(tx, record).await? {
        return Ok(refused);
    }
    if !insert_evaluation(tx, evaluation).await? {
        return Ok(Recorded::AlreadyThere);
    }
    let id = evaluation.evaluation_id.to_string();
    insert_evidence(tx, &id, evaluation).await?;
    if let Some(review) = &record.review {
        insert_review(tx, evaluation, review).await?;
    }
    for sink in &record.sinks {
        sqlx::query(
            "INSERT INTO outbox (delivery_id, sink, evaluation_id, created_ms, due_ms)
             VALUES (?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER), CAST(unixepoch('subsec') * 1000 AS INTEGER))",
        )
        .bind(id::derived_at(evaluation.occurred_at, "delivery", &[sink, &id]).to_string())
        .bind(sink)
        .bind(&id)
        .execute(&mut *tx)
        .await?;
    }
    notices::write(tx, &record.notices).await?;
    let (tenant, request) = (Some(evaluation.tenant_id.as_str()), Some(evaluation.request_id.as_str()));
    note(tx, tenant, request, "evaluated", &evaluation.evaluator_version).await?;
    Ok(Recorded::New)
}

/// Writes the review item: behind what came before, less its head start.
pub(super) async fn insert_review(
    tx: &mut SqliteConnection,
    evaluation: &Evaluation,
    item: &ReviewItem,
) -> Result<(), StoreError> {
    let id = evaluation.evaluation_id.to_string();
    sqlx::query(REVIEW)
        .bind(id::derived_at(evaluation.occurred_at, "review", &[&id]).to_string())
        .bind(&id)
        .bind(&evaluation.tenant_id)
        .bind(&evaluation.feature)
        .bind(&item.prompt_version)
        .bind(&item.model)
        .bind(word(&item.reason)?)
        .bind(item.probability)
        .bind(item.wanted)
        .bind(item.value * HEAD_START_MS as f64)
        .bind(item.newness * HEAD_START_MS as f64)
        .bind(FRESH_MS)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Writes the call; the first body wins. Says why it is refused when another body is there, which becomes a ledger entry, or
/// when it was erased.
pub(super) async fn insert_call(
    tx: &mut SqliteConnection,
    record: &Record,
) -> Result<Option<Recorded>, StoreError> {
    let Record { kept, evaluation: call, .. } = record;
    let written = sqlx::query(
        "INSERT INTO calls (tenant_id, request_id, body_digest, body, user_key, feature, occurred_ms, received_ms, source)
         VALUES (?, ?, ?, ?, ?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER), ?)
         ON CONFLICT (tenant_id, request_id) DO NOTHING",
    )
    .bind(&call.tenant_id)
    .bind(&call.request_id)
    .bind(&kept.body_digest)
    .bind(&kept.body)
    .bind(&kept.user_key)
    .bind(&call.feature)
    .bind(call.occurred_at.as_millisecond())
    .bind(record.source)
    .execute(&mut *tx)
    .await?;
    if written.rows_affected() == 1 {
        if let Some(sealed) = &kept.sealed {
            sqlx::query(
                "INSERT INTO sealed (tenant_id, request_id, message, expires_ms) VALUES (?, ?, ?, ?)",
            )
            .bind(&call.tenant_id)
            .bind(&call.request_id)
            .bind(&sealed.message)
            .bind(sealed.expires_ms)
            .execute(&mut *tx)
            .await?;
        }
        return Ok(None);
    }
    let there: String =
        sqlx::query_scalar("SELECT body_digest FROM calls WHERE tenant_id = ? AND request_id = ?")
            .bind(&call.tenant_id)
            .bind(&call.request_id)
            .fetch_one(&mut *tx)
            .await?;
    // An erased call has no digest, and is no conflict: nothing of it is written.
    if there.is_empty() {
        return Ok(Some(Recorded::Erased));
    }
    if there == kept.body_digest {
        return Ok(None);
    }
    note(tx, Some(&call.tenant_id), Some(&call.request_id), "conflict", &kept.body_digest).await?;
    Ok(Some(Recorded::Conflict))
}

/// Writes the evaluation row; false when its key is there already.
async fn insert_evaluation(tx: &mut SqliteConnection, evaluation: &Evaluation) -> Result<bool, StoreError> {
    let written = sqlx::query(
        "INSERT INTO evaluations (evaluation_id, tenant_id, request_id, evaluator_version, trace_id, span_id,
             feature, occurred_at, evaluated_at, evaluated_ms, verdict, decided_by, reasons, rules, faithfulness,
             truncated, tokens_cut, judge, stages, cost_usd, judge_avoided_usd, probability)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (tenant_id, request_id, evaluator_version) DO NOTHING",
    )
    .bind(evaluation.evaluation_id.to_string())
    .bind(&evaluation.tenant_id)
    .bind(&evaluation.request_id)
    .bind(&evaluation.evaluator_version)
    .bind(&evaluation.trace_id)
    .bind(&evaluation.span_id)
    .bind(&evaluation.feature)
    .bind(evaluation.occurred_at.to_string())
    .bind(evaluation.evaluated_at.to_string())
    .bind(evaluation.evaluated_at.as_millisecond())
    .bind(evaluation.verdict.as_str())
    .bind(word(&evaluation.decided_by)?)
    .bind(json("reasons", &evaluation.reasons)?)
    .bind(json("rules", &evaluation.rules)?)
    .bind(evaluation.faithfulness)
    .bind(evaluation.truncated)
    .bind(i64::try_from(evaluation.tokens_cut).unwrap_or(i64::MAX))
    .bind(evaluation.judge.as_ref().map(|judge| json("judge", judge)).transpose()?)
    .bind(json("stages", &evaluation.stages)?)
    .bind(evaluation.cost_usd)
    .bind(evaluation.judge_avoided_usd)
    .bind(evaluation.probability)
    .execute(&mut *tx)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Writes claims and scores of a new evaluation. One statement a table, its rows as JSON: a statement
/// a row would be most of what a call costs.
async fn insert_evidence(
    tx: &mut SqliteConnection,
    id: &str,
    evaluation: &Evaluation,
) -> Result<(), StoreError> {
    if !evaluation.claims.is_empty() {
        sqlx::query(
            "INSERT INTO claims (evaluation_id, position, claim_start, claim_end, entailment, neutral, contradiction,
                 chunk_id, chunk_start, chunk_end, label, doubt)
             SELECT ?, key, value ->> 'start', value ->> 'end', value ->> 'entailment',
                 value ->> 'neutral', value ->> 'contradiction', value ->> 'chunk_id', value ->> 'chunk_start',
                 value ->> 'chunk_end', value ->> 'label', value ->> 'doubt' FROM json_each(?)",
        )
        .bind(id)
        .bind(json("claims", &evaluation.claims)?)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query(
        "INSERT INTO scores (score_id, evaluation_id, name, value, label)
         SELECT ?1, ?3, 'verdict', NULL, ?4
         UNION ALL SELECT ?2, ?3, 'faithfulness', ?5, NULL WHERE ?5 IS NOT NULL",
    )
    .bind(id::derived_at(evaluation.occurred_at, "score", &[id, "verdict"]).to_string())
    .bind(id::derived_at(evaluation.occurred_at, "score", &[id, "faithfulness"]).to_string())
    .bind(id)
    .bind(evaluation.verdict.as_str())
    .bind(evaluation.faithfulness)
    .execute(&mut *tx)
    .await?;
    Ok(())
}
