//! Calls on Postgres whose judge could not be asked yet.

use std::io::ErrorKind;

use sqlx::PgConnection;

use super::{Record, Recorded, StoreError, end_attempts, harmless_json, note, writing};
use crate::{
    database::postgres::{Database, bounded},
    store::{Deferred, Until, deferral::told},
};

/// Keeps a call.
const DEFER: &str =
    "INSERT INTO deferred (tenant_id, request_id, evaluator_version, body_digest, call, payload_digest,
         user_key, since_ms, due_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, aftercheck_now_ms(), $8) ON CONFLICT DO NOTHING";
/// When a call is due: after so long, or when the next day begins (UTC), spread over ten minutes.
const DUE: &str = "SELECT least(aftercheck_now_ms() + $1, CASE WHEN $2
         THEN (aftercheck_now_ms() / 86400000 + 1) * 86400000 + (random() * 600000)::bigint END)";
/// Leases the oldest due call of a version, or of another one where nobody has for a day.
const LEASE: &str = "WITH mine AS MATERIALIZED (
         SELECT tenant_id, request_id, evaluator_version FROM deferred
         WHERE due_ms <= (SELECT aftercheck_now_ms())
             AND (evaluator_version = $1 OR due_ms <= (SELECT aftercheck_now_ms()) - 86400000)
         ORDER BY since_ms LIMIT 1 FOR UPDATE SKIP LOCKED)
     UPDATE deferred d SET due_ms = aftercheck_now_ms() + $2, tries = tries + 1 FROM mine
     WHERE d.tenant_id = mine.tenant_id AND d.request_id = mine.request_id
         AND d.evaluator_version = mine.evaluator_version
     RETURNING d.tenant_id, d.request_id, d.evaluator_version, body_digest, call, payload_digest, user_key,
         aftercheck_now_ms() - since_ms AS age_ms, tries";
/// Puts a call off.
const PUT_OFF: &str = "UPDATE deferred SET due_ms = $4, tries = CASE WHEN $5 THEN tries ELSE 0 END
     WHERE tenant_id = $1 AND request_id = $2 AND evaluator_version = $3";
/// Ends a call's waiting.
const END: &str = "DELETE FROM deferred WHERE tenant_id = $1 AND request_id = $2 AND evaluator_version = $3";
/// Ends the waiting of calls that are decided.
const DECIDED: &str = "DELETE FROM deferred USING unnest($1::text[], $2::text[], $3::text[])
         AS given (tenant_id, request_id, evaluator_version)
     WHERE deferred.tenant_id = given.tenant_id AND deferred.request_id = given.request_id
         AND deferred.evaluator_version = given.evaluator_version";
/// Counts the calls that wait.
pub(super) const COUNT: &str = "SELECT count(*) FROM deferred";

/// Keeps a call until its judge can be asked.
pub(super) async fn defer(
    database: &Database,
    record: &Record,
    call: &str,
    until: Until,
    why: &str,
) -> Result<Recorded, StoreError> {
    let group = writing::Group::new(std::slice::from_ref(record))?;
    let evaluation = &record.evaluation;
    let (tenant, request) = (evaluation.tenant_id.as_str(), evaluation.request_id.as_str());
    let digest = record.kept.body_digest.as_str();
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let recorded = match group.write_call(&mut tx).await?.as_deref() {
            // It was pruned while this waited for it: made again, it is written.
            None => return Err(sqlx::Error::Io(ErrorKind::Interrupted.into())),
            Some("") => Recorded::Erased,
            Some(kept) if kept != digest => {
                note(&mut tx, Some(tenant), Some(request), "conflict", digest).await?;
                Recorded::Conflict
            }
            Some(_) => {
                let due = due_ms(&mut tx, until).await?;
                sqlx::query(DEFER)
                    .bind(tenant)
                    .bind(request)
                    .bind(&evaluation.evaluator_version)
                    .bind(digest)
                    .bind(harmless_json(call))
                    .bind(&record.payload_digest)
                    .bind(&record.kept.user_key)
                    .bind(due)
                    .execute(&mut *tx)
                    .await?;
                note(&mut tx, Some(tenant), Some(request), "deferred", &told(why, due)).await?;
                Recorded::New
            }
        };
        end_attempts(&mut tx, &[&record.payload_digest]).await?;
        tx.commit().await?;
        Ok(recorded)
    })
    .await?)
}

/// When a call is due.
async fn due_ms(tx: &mut PgConnection, until: Until) -> Result<i64, sqlx::Error> {
    let (most_ms, tomorrow) = until.ms();
    sqlx::query_scalar(DUE).bind(most_ms).bind(tomorrow).fetch_one(&mut *tx).await
}

/// The oldest call that is due, leased.
pub(super) async fn due(
    database: &Database,
    evaluator_version: &str,
    lease_ms: i64,
) -> Result<Option<Deferred>, StoreError> {
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        let query = sqlx::query_as(LEASE).bind(evaluator_version).bind(lease_ms);
        let due = query.fetch_optional(&mut *lent).await?;
        lent.give_back();
        Ok(due)
    })
    .await?)
}

/// Puts a call off.
pub(super) async fn put_off(
    database: &Database,
    call: &Deferred,
    until: Until,
    failed: bool,
) -> Result<(), StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let due = due_ms(&mut tx, until).await?;
        let query = sqlx::query(PUT_OFF).bind(&call.tenant_id).bind(&call.request_id);
        query.bind(&call.evaluator_version).bind(due).bind(failed).execute(&mut *tx).await?;
        tx.commit().await
    })
    .await?)
}

/// Ends a call's waiting.
pub(super) async fn end(database: &Database, call: &Deferred) -> Result<(), StoreError> {
    Ok(bounded(|| async {
        let mut lent = database.connection().await?;
        let query = sqlx::query(END).bind(&call.tenant_id).bind(&call.request_id);
        query.bind(&call.evaluator_version).execute(&mut *lent).await?;
        lent.give_back();
        Ok(())
    })
    .await?)
}

/// Ends the waiting of calls that are decided: one may have come again meanwhile.
pub(super) async fn decided(tx: &mut PgConnection, records: &[Record]) -> Result<(), sqlx::Error> {
    let of = |part: fn(&Record) -> &str| records.iter().map(part).collect::<Vec<_>>();
    sqlx::query(DECIDED)
        .bind(of(|record| &record.evaluation.tenant_id))
        .bind(of(|record| &record.evaluation.request_id))
        .bind(of(|record| &record.evaluation.evaluator_version))
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// How many calls wait.
pub(super) async fn count(database: &Database) -> Result<u64, StoreError> {
    let count: i64 = bounded(|| async {
        let mut lent = database.connection().await?;
        let count = sqlx::query_scalar(COUNT).fetch_one(&mut *lent).await?;
        lent.give_back();
        Ok(count)
    })
    .await?;
    Ok(count.unsigned_abs())
}
