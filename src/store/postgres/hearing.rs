//! What users did with answers after their calls were evaluated, on Postgres.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{StoreError, harmless, note};
use crate::{
    database::postgres::{Database, bounded},
    domain::{
        Evaluation, id,
        review::{FRESH_MS, HEAD_START_MS},
    },
    store::{
        ReviewItem, json,
        reviewing::{Heard, Taken},
        short,
    },
};

/// The evaluation stays until the transaction ends: it is not erased in between.
const KEPT: &str = "SELECT true FROM evaluations WHERE evaluation_id = $1 FOR KEY SHARE";
/// Whether the ledger has it.
const KNOWN: &str = "SELECT EXISTS (
         SELECT 1 FROM ledger WHERE request_id = $1 AND tenant_id = $2 AND event = $3 AND detail = $4)";
/// Writes a review item, as `verdicts.sql` does: behind what came before, less the head start.
const REVIEW: &str =
    "INSERT INTO review_items (review_id, evaluation_id, tenant_id, feature, prompt_version, model, reason,
         probability, wanted, created_ms, rank_ms)
     SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9::integer, now.at_ms,
         now.at_ms - ($10 + $11 * greatest(
             0, 1 - (now.at_ms - coalesce(first_ms, now.at_ms)) / $12::double precision))::bigint
     FROM (SELECT aftercheck_now_ms() AS at_ms OFFSET 0) AS now,
         LATERAL (
             SELECT min(created_ms) AS first_ms FROM review_items
             WHERE feature = $4 AND prompt_version = $5 AND model = $6
         ) AS since
     ON CONFLICT DO NOTHING";

/// Enters it in the ledger and writes the item, in one transaction.
pub(super) async fn hear(database: &Database, heard: &Heard) -> Result<Option<Taken>, StoreError> {
    let Heard { evaluation, item, event, detail } = heard;
    let Evaluation { tenant_id, request_id, .. } = evaluation;
    let reason = item.as_ref().map(|item| json("reason", &item.reason)).transpose()?;
    let reason = reason.as_deref().unwrap_or_default().trim_matches('"');
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let kept = sqlx::query_scalar::<_, bool>(KEPT).bind(evaluation.evaluation_id);
        if kept.fetch_optional(&mut *tx).await?.is_none() {
            tx.roll_back().await?;
            return Ok(None);
        }
        let known = sqlx::query_scalar::<_, bool>(KNOWN).bind(request_id).bind(tenant_id);
        let known = known.bind(event).bind(harmless(short(detail))).fetch_one(&mut *tx).await?;
        note(&mut tx, Some(tenant_id), Some(request_id), event, detail).await?;
        let to_review = match item {
            Some(item) => insert_review(&mut tx, evaluation, item, reason).await?,
            None => false,
        };
        tx.commit().await?;
        Ok(Some(Taken { is_new: !known, to_review }))
    })
    .await?)
}

/// Writes the item; false where the evaluation has one.
async fn insert_review(
    tx: &mut PgConnection,
    evaluation: &Evaluation,
    item: &ReviewItem,
    reason: &str,
) -> Result<bool, sqlx::Error> {
    let id: Uuid = evaluation.evaluation_id;
    let written = sqlx::query(REVIEW)
        .bind(id::derived_at(evaluation.occurred_at, "review", &[&id.to_string()]))
        .bind(id)
        .bind(&evaluation.tenant_id)
        .bind(&evaluation.feature)
        .bind(&item.prompt_version)
        .bind(&item.model)
        .bind(reason)
        .bind(item.probability)
        .bind(i64::from(item.wanted))
        .bind(item.value * HEAD_START_MS as f64)
        .bind(item.newness * HEAD_START_MS as f64)
        .bind(FRESH_MS)
        .execute(&mut *tx)
        .await?;
    Ok(written.rows_affected() == 1)
}
