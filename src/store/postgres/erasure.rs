//! What is erased from Postgres on somebody's demand, and the sealed messages that somebody asks for.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{
    Erased, StoreError, Whose,
    attempts::{end_attempts, lock_attempts},
    golden, note, note_all, notices,
};
use crate::{
    database::postgres::{Database, bounded, within},
    store::{
        retracting::{Deleted, Left},
        rows,
    },
};

/// How long counting may take.
const COUNT_LIMIT: Duration = Duration::from_secs(600);
/// Evaluations of calls: nobody adds one while the calls are locked.
const EVALUATIONS: &str = "SELECT evaluation_id FROM evaluations
     JOIN unnest($1::text[], $2::text[]) AS given (request_id, tenant_id) USING (tenant_id, request_id)";
/// Deletes deliveries of evaluations. Of one that was made the time is 0, of one that was tried or begun it is when that would have
/// been due next: nobody is at it any more then. One that was never begun has none. Of a row of the golden set the history knows
/// the data set also where the row was taken out.
const DELIVERIES: &str = "DELETE FROM outbox WHERE evaluation_id = ANY($1)
     RETURNING sink, delivery_id::text, evaluation_id::text, receipt, golden_id::text,
         (SELECT dataset FROM golden_history h WHERE h.golden_id = outbox.golden_id LIMIT 1) AS dataset,
         CASE WHEN delivered_ms IS NOT NULL THEN 0 WHEN attempts > 0 OR due_ms > created_ms THEN due_ms END AS until_ms";
/// Tells sinks what to delete, also what they were told before: the call came again since.
const RETRACT: &str = "INSERT INTO outbox (delivery_id, sink, retracts, created_ms, due_ms)
     SELECT (item ->> 'delivery_id')::uuid, item ->> 'sink', item -> 'retracts', aftercheck_now_ms(),
         greatest(aftercheck_now_ms(), (item ->> 'due_ms')::bigint)
     FROM jsonb_array_elements($1::jsonb) AS given (item) ON CONFLICT (delivery_id) DO UPDATE
     SET due_ms = excluded.due_ms, attempts = 0, dead_reason = NULL, dead_ms = NULL,
         retracts = excluded.retracts";
/// What else belongs to evaluations, children first.
const CHILDREN: [&str; 8] = [
    "DELETE FROM claims WHERE evaluation_id = ANY($1)",
    "DELETE FROM scores WHERE evaluation_id = ANY($1)",
    "DELETE FROM final_labels WHERE evaluation_id = ANY($1)",
    "DELETE FROM standing_labels WHERE evaluation_id = ANY($1)",
    "DELETE FROM labels WHERE evaluation_id = ANY($1)",
    "DELETE FROM review_skips USING review_items r
     WHERE r.evaluation_id = ANY($1) AND review_skips.review_id = r.review_id",
    "DELETE FROM review_items WHERE evaluation_id = ANY($1)",
    "DELETE FROM evaluations WHERE evaluation_id = ANY($1)",
];
/// What is left of calls, and what else is known under their keys.
const CONTENT: [&str; 5] = [
    "UPDATE calls SET body = '', body_digest = '', user_key = NULL, feature = '', received_ms = aftercheck_now_ms()
     FROM unnest($1::text[], $2::text[]) AS given (request_id, tenant_id)
     WHERE calls.request_id = given.request_id AND calls.tenant_id = given.tenant_id",
    "DELETE FROM sealed USING unnest($1::text[], $2::text[]) AS given (request_id, tenant_id)
     WHERE sealed.request_id = given.request_id AND sealed.tenant_id = given.tenant_id",
    "DELETE FROM deferred USING unnest($1::text[], $2::text[]) AS given (request_id, tenant_id)
     WHERE deferred.request_id = given.request_id AND deferred.tenant_id = given.tenant_id",
    "DELETE FROM judge_answers USING unnest($1::text[], $2::text[]) AS given (request_id, tenant_id)
     WHERE judge_answers.request_id = given.request_id AND judge_answers.tenant_id = given.tenant_id",
    "DELETE FROM ledger USING unnest($1::text[], $2::text[]) AS given (request_id, tenant_id)
     WHERE ledger.request_id = given.request_id AND ledger.tenant_id = given.tenant_id AND event <> 'revealed'",
];
/// The key of a call that was never evaluated, as of an erased one.
const TOMBSTONE: &str =
    "INSERT INTO calls (tenant_id, request_id, body_digest, body, feature, occurred_ms, received_ms, source)
     VALUES ($1, $2, '', '', '', 0, aftercheck_now_ms(), 'erased') ON CONFLICT DO NOTHING";
/// Calls of a tenant: no index of calls begins with it, and every call that is not erased has an evaluation or waits for one.
const OF_TENANT: &str = "SELECT c.request_id, c.tenant_id FROM (
         (SELECT DISTINCT request_id FROM evaluations WHERE tenant_id = $1 AND request_id > $2
          ORDER BY request_id LIMIT $3)
         UNION (SELECT DISTINCT request_id FROM deferred WHERE tenant_id = $1 AND request_id > $2
          ORDER BY request_id LIMIT $3)
         ORDER BY request_id LIMIT $3) e
     JOIN calls c ON c.request_id = e.request_id AND c.tenant_id = $1
     WHERE body_digest <> '' ORDER BY c.request_id, c.tenant_id FOR UPDATE OF c";

/// The conditions of a statement about whom it is, the first value under this number.
fn conditions(whose: &Whose, first: usize) -> String {
    let numbered = whose.columns().into_iter().zip(first..);
    numbered.map(|((column, _), number)| format!(" AND {column} = ${number}")).collect()
}

/// Erases one batch.
pub(super) async fn erase(
    database: &Database,
    whose: &Whose,
    after: Option<&(String, String)>,
    limit: u32,
    retracting: &[String],
) -> Result<Erased, StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let erased = batch(&mut tx, whose, after, limit, retracting).await?;
        tx.commit().await?;
        Ok(erased)
    })
    .await?)
}

/// Erases one batch within a transaction.
async fn batch(
    tx: &mut PgConnection,
    whose: &Whose,
    after: Option<&(String, String)>,
    limit: u32,
    retracting: &[String],
) -> Result<Erased, sqlx::Error> {
    let (after_request, after_tenant) = after.map_or(("", ""), |(request, tenant)| (request, tenant));
    let calls: Vec<(String, String)> = match whose {
        Whose::Tenant(tenant) => {
            let chosen = sqlx::query_as(OF_TENANT).bind(tenant).bind(after_request);
            chosen.bind(i64::from(limit)).fetch_all(&mut *tx).await?
        }
        Whose::Call { .. } | Whose::User { .. } => {
            let choose = format!(
                "SELECT request_id, tenant_id FROM calls
                 WHERE body_digest <> '' AND (request_id, tenant_id) > ($1, $2){}
                 ORDER BY request_id, tenant_id LIMIT $3 FOR UPDATE",
                conditions(whose, 4)
            );
            let chosen = sqlx::query_as(AssertSqlSafe(choose)).bind(after_request).bind(after_tenant);
            let mut chosen = chosen.bind(i64::from(limit));
            for (_, value) in whose.columns() {
                chosen = chosen.bind(value);
            }
            chosen.fetch_all(&mut *tx).await?
        }
    };
    let (evaluations, delivered) = erase_calls(tx, &calls, retracting).await?;
    let dead_letters = erase_letters(tx, whose, limit).await?;
    let (count, reached) = (calls.len() as u64, calls.into_iter().next_back());
    Ok(Erased { calls: count, evaluations, dead_letters, delivered, reached })
}

/// Erases calls; gives the number of their evaluations, and of deliveries by sink.
async fn erase_calls(
    tx: &mut PgConnection,
    calls: &[(String, String)],
    retracting: &[String],
) -> Result<(u64, BTreeMap<String, u64>), sqlx::Error> {
    let (requests, tenants): (Vec<&str>, Vec<&str>) =
        calls.iter().map(|(request, tenant)| (request.as_str(), tenant.as_str())).unzip();
    let ids: Vec<Uuid> =
        sqlx::query_scalar(EVALUATIONS).bind(&requests).bind(&tenants).fetch_all(&mut *tx).await?;
    let deleted: Vec<Deleted> = sqlx::query_as(DELIVERIES).bind(&ids).fetch_all(&mut *tx).await?;
    let mut left = Left::of(deleted, retracting);
    left.told(notices::erase(tx, &ids).await?);
    golden::erase(tx, &ids).await?;
    if let Some(rows) = left.json() {
        sqlx::query(RETRACT).bind(rows).execute(&mut *tx).await?;
    }
    for statement in CHILDREN {
        sqlx::query(statement).bind(&ids).execute(&mut *tx).await?;
    }
    for statement in CONTENT {
        sqlx::query(statement).bind(&requests).bind(&tenants).execute(&mut *tx).await?;
    }
    let entries: Vec<_> =
        calls.iter().map(|(request, tenant)| (tenant.as_str(), request.as_str(), "")).collect();
    note_all(tx, "erased", &entries).await?;
    Ok((ids.len() as u64, left.delivered))
}

/// Erases dead letters with their attempts and their history. Of their calls the keys stay, as of those that were evaluated.
async fn erase_letters(tx: &mut PgConnection, whose: &Whose, limit: u32) -> Result<u64, sqlx::Error> {
    let choose = format!(
        "SELECT dead_letter_id FROM dead_letters WHERE TRUE{} ORDER BY dead_letter_id LIMIT $1",
        conditions(whose, 2)
    );
    let mut chosen = sqlx::query_scalar(AssertSqlSafe(choose)).bind(i64::from(limit));
    for (_, value) in whose.columns() {
        chosen = chosen.bind(value);
    }
    let chosen: Vec<Uuid> = chosen.fetch_all(&mut *tx).await?;
    lock_attempts(tx, &chosen).await?;
    let letters: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "DELETE FROM dead_letters WHERE dead_letter_id = ANY($1) RETURNING payload_digest, tenant_id, request_id",
    )
    .bind(&chosen)
    .fetch_all(&mut *tx)
    .await?;
    let digests: Vec<&str> = letters.iter().map(|(digest, ..)| digest.as_str()).collect();
    end_attempts(tx, &digests).await?;
    for (_, tenant, request) in &letters {
        // Of a letter without a request id the history is not told from that of others.
        let Some(request) = request else { continue };
        if let Some(tenant) = tenant {
            sqlx::query(TOMBSTONE).bind(tenant).bind(request).execute(&mut *tx).await?;
        }
        sqlx::query(
            "DELETE FROM ledger WHERE tenant_id IS NOT DISTINCT FROM $1 AND request_id = $2
                 AND event NOT IN ('erased', 'revealed') AND NOT EXISTS (
                     SELECT 1 FROM calls WHERE tenant_id = $1 AND request_id = $2 AND body_digest <> '')",
        )
        .bind(tenant)
        .bind(request)
        .execute(&mut *tx)
        .await?;
        note(tx, tenant.as_deref(), Some(request), "erased", "").await?;
    }
    Ok(letters.len() as u64)
}

/// Counts what could be erased.
pub(super) async fn erasable(database: &Database, whose: &Whose) -> Result<Erased, StoreError> {
    let asked = conditions(whose, 1);
    let evaluated = "evaluations JOIN calls USING (tenant_id, request_id)";
    let counts = [
        format!("SELECT count(*) FROM calls WHERE body_digest <> ''{asked}"),
        format!("SELECT count(*) FROM {evaluated} WHERE TRUE{asked}"),
        format!("SELECT count(*) FROM dead_letters WHERE TRUE{asked}"),
    ];
    let sent = format!(
        "SELECT sink, count(*) FROM outbox JOIN {evaluated} USING (evaluation_id)
         WHERE (delivered_ms IS NOT NULL OR attempts > 0 OR due_ms > created_ms){asked} GROUP BY sink"
    );
    let (counted, delivered) = within(COUNT_LIMIT, || async {
        let mut tx = database.snapshot(COUNT_LIMIT).await?;
        let mut counted = Vec::with_capacity(counts.len());
        for count in &counts {
            let mut asking = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.clone()));
            for (_, value) in whose.columns() {
                asking = asking.bind(value);
            }
            counted.push(asking.fetch_one(&mut *tx).await?.unsigned_abs());
        }
        let mut asking = sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(sent.clone()));
        for (_, value) in whose.columns() {
            asking = asking.bind(value);
        }
        let delivered = asking.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok((counted, delivered))
    })
    .await?;
    let [calls, evaluations, dead_letters] = [0, 1, 2].map(|at| counted.get(at).copied().unwrap_or(0));
    Ok(Erased { calls, evaluations, dead_letters, delivered: rows::counts(delivered), reached: None })
}

/// Sealed messages of a request id; the ledger says that they were asked for.
pub(super) async fn reveal(
    database: &Database,
    tenant_id: Option<&str>,
    request_id: &str,
    detail: &str,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let sealed: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT tenant_id, message FROM sealed
             WHERE request_id = $1 AND ($2::text IS NULL OR tenant_id = $2) AND expires_ms > aftercheck_now_ms()
             ORDER BY tenant_id",
        )
        .bind(request_id)
        .bind(tenant_id)
        .fetch_all(&mut *tx)
        .await?;
        for (tenant, _) in &sealed {
            note(&mut tx, Some(tenant), Some(request_id), "revealed", detail).await?;
        }
        tx.commit().await?;
        Ok(sealed)
    })
    .await?)
}
