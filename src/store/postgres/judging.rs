//! Answers of judges on Postgres, and what they cost.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::{StoreError, harmless};
use crate::{
    database::postgres::{Database, bounded},
    store::judging::{EVERYBODY, JudgeLimits, Reservation},
};

/// Answers that are known.
const JUDGED: &str = "SELECT judging_key, answer FROM judge_answers
     WHERE judging_key = ANY($1) AND expires_ms > aftercheck_now_ms()";
/// Keeps answers, in the order of their keys; one that has expired is replaced.
const REMEMBER: &str = "INSERT INTO judge_answers (judging_key, tenant_id, request_id, answer, expires_ms)
     SELECT judging_key, $1, $2, answer, aftercheck_now_ms() + $5
     FROM unnest($3::text[], $4::text[]) AS given (judging_key, answer)
     ORDER BY judging_key ON CONFLICT (judging_key) DO UPDATE
     SET expires_ms = excluded.expires_ms, answer = excluded.answer, tenant_id = excluded.tenant_id,
         request_id = excluded.request_id WHERE judge_answers.expires_ms <= aftercheck_now_ms()";
/// Whether a call was erased; its key is locked, where it is there: it is not erased meanwhile.
const ERASED: &str =
    "SELECT body_digest = '' FROM calls WHERE tenant_id = $1 AND request_id = $2 FOR KEY SHARE";
/// Takes a question out of a budget, where there is something left of it.
const RESERVE: &str =
    "INSERT INTO judge_spending AS spent (day, tenant_id, calls, usd) VALUES ($1, $2, 1, $3)
     ON CONFLICT (day, tenant_id) DO UPDATE SET calls = spent.calls + 1, usd = spent.usd + excluded.usd
     WHERE spent.calls < $4 AND spent.usd < $5 RETURNING calls";
/// Corrects what was taken.
const CORRECT: &str =
    "UPDATE judge_spending SET usd = greatest(usd + $3, 0) WHERE day = $1 AND tenant_id = $2";

/// Answers by their keys.
pub(super) async fn judged(
    database: &Database,
    keys: &[String],
) -> Result<HashMap<String, String>, StoreError> {
    let rows: Vec<(String, String)> = bounded(|| async {
        let mut lent = database.connection().await?;
        let rows = sqlx::query_as(JUDGED).bind(keys).fetch_all(&mut *lent).await?;
        lent.give_back();
        Ok(rows)
    })
    .await?;
    Ok(rows.into_iter().collect())
}

/// Keeps answers about a call.
pub(super) async fn remember(
    database: &Database,
    (tenant_id, request_id): (&str, &str),
    answers: &[(String, String)],
    keep_ms: i64,
) -> Result<(), StoreError> {
    let (keys, texts): (Vec<&str>, Vec<_>) =
        answers.iter().map(|(key, answer)| (key.as_str(), harmless(answer))).unzip();
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let erased: Option<bool> =
            sqlx::query_scalar(ERASED).bind(tenant_id).bind(request_id).fetch_optional(&mut *tx).await?;
        if erased != Some(true) {
            let remember = sqlx::query(REMEMBER).bind(tenant_id).bind(request_id).bind(&keys).bind(&texts);
            remember.bind(keep_ms).execute(&mut *tx).await?;
        }
        tx.commit().await
    })
    .await?)
}

/// Takes a question out of the budgets of all and of a tenant.
pub(super) async fn reserve(
    database: &Database,
    tenant_id: &str,
    usd: f64,
    limits: &JudgeLimits,
) -> Result<Option<Reservation>, StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let day: i64 =
            sqlx::query_scalar("SELECT aftercheck_now_ms() / 86400000").fetch_one(&mut *tx).await?;
        for (whose, (calls, most_usd)) in [EVERYBODY, tenant_id].into_iter().zip(limits.pairs()) {
            if !take(&mut tx, (day, whose), usd, (calls, most_usd)).await? {
                // And with it what was taken of the other.
                tx.roll_back().await?;
                return Ok(None);
            }
        }
        tx.commit().await?;
        Ok(Some(Reservation { day }))
    })
    .await?)
}

/// Takes a question out of one budget; false where it is spent.
async fn take(
    tx: &mut PgConnection,
    (day, whose): (i64, &str),
    usd: f64,
    (calls, most_usd): (i64, f64),
) -> Result<bool, sqlx::Error> {
    let taken: Option<i64> = sqlx::query_scalar(RESERVE)
        .bind(day)
        .bind(whose)
        .bind(usd)
        .bind(calls)
        .bind(most_usd)
        .fetch_optional(&mut *tx)
        .await?;
    Ok(taken.is_some())
}

/// Corrects what a question was thought to cost.
pub(super) async fn correct(
    database: &Database,
    tenant_id: &str,
    reservation: Reservation,
    usd: f64,
) -> Result<(), StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        for whose in [EVERYBODY, tenant_id] {
            sqlx::query(CORRECT).bind(reservation.day).bind(whose).bind(usd).execute(&mut *tx).await?;
        }
        tx.commit().await
    })
    .await?)
}
