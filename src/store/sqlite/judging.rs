//! Answers of judges in the SQLite file, and what they cost.

use std::collections::HashMap;

use super::{StoreError, json};
use crate::{
    database::sqlite::Database,
    store::judging::{EVERYBODY, JudgeLimits, Reservation},
};

/// Answers that are known.
const JUDGED: &str = "SELECT judging_key, answer FROM judge_answers
     WHERE judging_key IN (SELECT value FROM json_each(?)) AND expires_ms > CAST(unixepoch('subsec') * 1000 AS INTEGER)";
/// Keeps an answer, unless its call was erased; one that has expired is replaced.
const REMEMBER: &str = "INSERT INTO judge_answers (judging_key, tenant_id, request_id, answer, expires_ms)
     SELECT ?1, ?2, ?3, ?4, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?5
     WHERE NOT EXISTS (SELECT 1 FROM calls WHERE tenant_id = ?2 AND request_id = ?3 AND body_digest = '')
     ON CONFLICT (judging_key) DO UPDATE SET expires_ms = excluded.expires_ms, answer = excluded.answer,
         tenant_id = excluded.tenant_id, request_id = excluded.request_id
     WHERE judge_answers.expires_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER)";
/// Takes a question out of a budget, where there is something left of it.
const RESERVE: &str = "INSERT INTO judge_spending (day, tenant_id, calls, usd) VALUES (?, ?, 1, ?)
     ON CONFLICT (day, tenant_id) DO UPDATE SET calls = calls + 1, usd = usd + excluded.usd
     WHERE calls < ? AND usd < ? RETURNING calls";
/// Corrects what was taken.
const CORRECT: &str = "UPDATE judge_spending SET usd = max(usd + ?3, 0) WHERE day = ?1 AND tenant_id = ?2";

/// Answers by their keys.
pub(super) async fn judged(
    database: &Database,
    keys: &[String],
) -> Result<HashMap<String, String>, StoreError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as(JUDGED).bind(json("keys", &keys)?).fetch_all(database.read()).await?;
    Ok(rows.into_iter().collect())
}

/// Keeps answers about a call.
pub(super) async fn remember(
    database: &Database,
    (tenant_id, request_id): (&str, &str),
    answers: &[(String, String)],
    keep_ms: i64,
) -> Result<(), StoreError> {
    let mut tx = database.write().await?;
    for (key, answer) in answers {
        sqlx::query(REMEMBER)
            .bind(key)
            .bind(tenant_id)
            .bind(request_id)
            .bind(answer)
            .bind(keep_ms)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Takes a question out of the budgets of all and of a tenant.
pub(super) async fn reserve(
    database: &Database,
    tenant_id: &str,
    usd: f64,
    limits: &JudgeLimits,
) -> Result<Option<Reservation>, StoreError> {
    let mut tx = database.write().await?;
    let day: i64 = sqlx::query_scalar("SELECT unixepoch() / 86400").fetch_one(&mut *tx).await?;
    for (whose, (calls, most_usd)) in [EVERYBODY, tenant_id].into_iter().zip(limits.pairs()) {
        let taken: Option<i64> = sqlx::query_scalar(RESERVE)
            .bind(day)
            .bind(whose)
            .bind(usd)
            .bind(calls)
            .bind(most_usd)
            .fetch_optional(&mut *tx)
            .await?;
        if taken.is_none() {
            // Rolled back, and with it what was taken of the other.
            return Ok(None);
        }
    }
    tx.commit().await?;
    Ok(Some(Reservation { day }))
}

/// Corrects what a question was thought to cost.
pub(super) async fn correct(
    database: &Database,
    tenant_id: &str,
    reservation: Reservation,
    usd: f64,
) -> Result<(), StoreError> {
    let mut tx = database.write().await?;
    for whose in [EVERYBODY, tenant_id] {
        sqlx::query(CORRECT).bind(reservation.day).bind(whose).bind(usd).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}
