//! Notices on Postgres. A message whose taker never heard that it has it comes again with its lease, and is the same.
//!
//! * `next`: what a route sends next.
//! * `vitals`: how the outgoing side is.

mod next;
mod vitals;

use async_trait::async_trait;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{PostgresStore, StoreError, harmless, harmless_json};
use crate::{
    database::postgres::bounded,
    domain::{Addressed, Severity},
    store::{
        json,
        notices::{
            KEPT_MS, LEFT_MS, Lasting, Notices, RouteState, Sending, Untold, Vitals, Wanted, Watched,
            lasting, short,
        },
    },
};

/// Writes notices that are not there, in the order in which they are given.
const WRITE: &str =
    "INSERT INTO notices (notice_id, route, notice, critical, condition, evaluation_id, created_ms, due_ms)
     SELECT notice_id, route, notice, critical, condition, evaluation_id, aftercheck_now_ms(), aftercheck_now_ms()
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::uuid[]) WITH ORDINALITY
         AS given (notice_id, route, notice, critical, condition, evaluation_id, place)
     ORDER BY place ON CONFLICT (notice_id, route) DO NOTHING";
/// Marks a message as told.
const TOLD: &str = "UPDATE notices SET told_ms = aftercheck_now_ms(), attempts = attempts + 1
     WHERE route = $1 AND message_id = $2 AND told_ms IS NULL";
/// Puts a message off or gives it up.
const UNTOLD: &str = "UPDATE notices SET due_ms = aftercheck_now_ms() + coalesce($3::bigint, 0),
         attempts = attempts + 1, dead_reason = CASE WHEN $3::bigint IS NULL THEN $4 END
     WHERE route = $1 AND message_id = $2 AND told_ms IS NULL AND dead_reason IS NULL";
/// Lets a route rest.
const REST: &str = "INSERT INTO notice_routes (route, rest_ms, last_error)
     VALUES ($1, aftercheck_now_ms() + $2, $3)
     ON CONFLICT (route) DO UPDATE SET rest_ms = excluded.rest_ms, last_error = excluded.last_error";
/// Ends the rest of a route to which a message has come: the next comes no sooner than its spacing says.
const RESTED: &str = "UPDATE notice_routes SET last_error = NULL, rest_ms = 0,
         next_ms = greatest(next_ms, aftercheck_now_ms() + $2)
     WHERE route = $1";
/// How routes are.
const ROUTES: &str = "SELECT route, count(notice_id) FILTER (WHERE told_ms IS NULL AND dead_reason IS NULL),
         count(told_ms), count(dead_reason), max(told_ms), max(last_error), max(off)
     FROM (SELECT route FROM notices UNION SELECT route FROM notice_routes) known
     LEFT JOIN notices USING (route) LEFT JOIN notice_routes USING (route)
     GROUP BY route ORDER BY route";
/// Notices that are still to be told.
const OPEN: &str = "SELECT count(*) FROM notices WHERE told_ms IS NULL AND dead_reason IS NULL
     AND route = ANY($1) AND route NOT IN (SELECT route FROM notice_routes WHERE off IS NOT NULL)";
/// Deletes what was told or given up long ago, and what nobody sends. Workers do it side by side.
const EXPIRE: &str = "DELETE FROM notices WHERE seq IN (
         SELECT seq FROM notices WHERE created_ms < aftercheck_now_ms() - $1
             AND (told_ms IS NOT NULL OR dead_reason IS NOT NULL OR created_ms < aftercheck_now_ms() - $2)
         LIMIT $3 FOR UPDATE SKIP LOCKED)";
/// Deletes notices of evaluations; says which route may have told them.
const ERASE: &str = "DELETE FROM notices WHERE evaluation_id = ANY($1)
     RETURNING route, told_ms IS NOT NULL OR message_id IS NOT NULL";

/// How a route is: its name, counts of notices that wait, were told and given up, when one was told last, error and switch.
type Row = (String, i64, i64, i64, Option<i64>, Option<String>, Option<String>);

/// Writes notices within a transaction; gives back how many were new. Each group is written in the order of its keys.
pub(super) async fn write(tx: &mut PgConnection, notices: &[Addressed]) -> Result<u64, sqlx::Error> {
    if notices.is_empty() {
        return Ok(0);
    }
    // JSON of a notice cannot fail: it has no map with other keys than texts.
    let texts = notices.iter().map(|one| json("notice", &one.notice).unwrap_or_default());
    let texts: Vec<String> = texts.map(|text| harmless_json(&text).into_owned()).collect();
    let column = |of: fn(&Addressed) -> Option<String>| notices.iter().map(of).collect::<Vec<_>>();
    let written = sqlx::query(WRITE)
        .bind(notices.iter().map(|one| one.notice.notice_id).collect::<Vec<Uuid>>())
        .bind(notices.iter().map(|one| one.route.as_str()).collect::<Vec<_>>())
        .bind(texts)
        .bind(notices.iter().map(|one| one.notice.severity == Severity::Critical).collect::<Vec<_>>())
        .bind(column(|one| one.notice.condition.as_deref().map(|text| harmless(text).into_owned())))
        .bind(notices.iter().map(|one| one.notice.evaluation_id).collect::<Vec<Option<Uuid>>>())
        .execute(&mut *tx)
        .await?;
    Ok(written.rows_affected())
}

/// Deletes notices of evaluations; gives back the routes that may have told them, each as often as it may.
pub(super) async fn erase(tx: &mut PgConnection, evaluations: &[Uuid]) -> Result<Vec<String>, sqlx::Error> {
    let gone: Vec<(String, bool)> = sqlx::query_as(ERASE).bind(evaluations).fetch_all(&mut *tx).await?;
    Ok(gone.into_iter().filter(|(_, told)| *told).map(|(route, _)| route).collect())
}

/// Deletes old notices, at most so many; gives back how many went.
pub(super) async fn expire(tx: &mut PgConnection, limit: u32) -> Result<u64, sqlx::Error> {
    let expired = sqlx::query(EXPIRE).bind(KEPT_MS).bind(LEFT_MS).bind(i64::from(limit));
    Ok(expired.execute(&mut *tx).await?.rows_affected())
}

#[async_trait]
impl Notices for PostgresStore {
    async fn notify(&self, notices: &[Addressed]) -> Result<u64, StoreError> {
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let new = write(&mut tx, notices).await?;
            tx.commit().await?;
            Ok(new)
        })
        .await?)
    }

    async fn next_message(&self, wanted: &Wanted) -> Result<Option<Sending>, StoreError> {
        Ok(bounded(|| async {
            // Most looks find nothing, and lock nothing.
            let mut lent = self.database.connection().await?;
            let any: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM notices WHERE route = $1 AND told_ms IS NULL AND dead_reason IS NULL)",
            )
            .bind(&wanted.route)
            .fetch_one(&mut *lent)
            .await?;
            lent.give_back();
            if !any {
                return Ok(None);
            }
            let mut tx = self.database.transaction().await?;
            let sending = next::take(&mut tx, wanted).await?;
            tx.commit().await?;
            Ok(sending)
        })
        .await?)
    }

    async fn told(&self, route: &str, message_id: Uuid, spacing_ms: i64) -> Result<(), StoreError> {
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            // The route first, as whoever takes has it.
            sqlx::query(RESTED).bind(route).bind(spacing_ms).execute(&mut *tx).await?;
            sqlx::query(TOLD).bind(route).bind(message_id).execute(&mut *tx).await?;
            tx.commit().await
        })
        .await?)
    }

    async fn untold(&self, untold: &Untold<'_>) -> Result<(), StoreError> {
        let error = harmless(short(untold.error));
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            sqlx::query(REST).bind(untold.route).bind(untold.rest_ms).bind(&error).execute(&mut *tx).await?;
            sqlx::query(UNTOLD)
                .bind(untold.route)
                .bind(untold.message_id)
                .bind(untold.after_ms)
                .bind(&error)
                .execute(&mut *tx)
                .await?;
            tx.commit().await
        })
        .await?)
    }

    async fn switch_route(&self, route: &str, off: Option<&str>) -> Result<bool, StoreError> {
        let off = off.map(|reason| harmless(short(reason)));
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let switched = match &off {
                Some(reason) => sqlx::query(
                    "INSERT INTO notice_routes (route, off) VALUES ($1, $2)
                     ON CONFLICT (route) DO UPDATE SET off = excluded.off WHERE notice_routes.off IS NULL",
                )
                .bind(route)
                .bind(reason),
                None => sqlx::query(
                    "UPDATE notice_routes SET off = NULL, rest_ms = 0, last_error = NULL
                     WHERE route = $1 AND off IS NOT NULL",
                )
                .bind(route),
            };
            let switched = switched.execute(&mut *tx).await?.rows_affected() > 0;
            tx.commit().await?;
            Ok(switched)
        })
        .await?)
    }

    async fn routes(&self) -> Result<Vec<RouteState>, StoreError> {
        let rows: Vec<Row> = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let rows = sqlx::query_as(ROUTES).fetch_all(&mut *lent).await?;
            lent.give_back();
            Ok(rows)
        })
        .await?;
        Ok(rows.into_iter().map(route_state).collect())
    }

    async fn vitals(&self, watched: &Watched) -> Result<Vitals, StoreError> {
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let vitals = vitals::vitals(&mut tx, watched).await?;
            tx.commit().await?;
            Ok(vitals)
        })
        .await?)
    }

    async fn begin_condition(
        &self,
        condition: &str,
        details: &Map<String, Value>,
    ) -> Result<i64, StoreError> {
        let (condition, details) = (harmless(condition), json("details", details)?);
        let details = harmless_json(&details);
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let began_ms = sqlx::query_scalar(
                "INSERT INTO conditions (condition, began_ms, details) VALUES ($1, aftercheck_now_ms(), $2)
                 ON CONFLICT (condition) DO UPDATE SET began_ms = conditions.began_ms RETURNING began_ms",
            )
            .bind(&condition)
            .bind(&details)
            .fetch_one(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(began_ms)
        })
        .await?)
    }

    async fn conditions(&self) -> Result<Vec<Lasting>, StoreError> {
        let rows: Vec<(String, i64, String)> = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let rows =
                sqlx::query_as("SELECT condition, began_ms, details FROM conditions ORDER BY condition");
            let rows = rows.fetch_all(&mut *lent).await?;
            lent.give_back();
            Ok(rows)
        })
        .await?;
        Ok(lasting(rows))
    }

    async fn end_condition(&self, lasting: &Lasting) -> Result<bool, StoreError> {
        Ok(bounded(|| async {
            let mut tx = self.database.transaction().await?;
            let ended = sqlx::query("DELETE FROM conditions WHERE condition = $1 AND began_ms = $2")
                .bind(&lasting.condition)
                .bind(lasting.began_ms)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(ended.rows_affected() > 0)
        })
        .await?)
    }

    async fn notices_open(&self, routes: &[String]) -> Result<u64, StoreError> {
        let open: i64 = bounded(|| async {
            let mut lent = self.database.connection().await?;
            let open = sqlx::query_scalar(OPEN).bind(routes).fetch_one(&mut *lent).await?;
            lent.give_back();
            Ok(open)
        })
        .await?;
        Ok(open.unsigned_abs())
    }
}

/// A row as a state.
fn route_state((route, waiting, told, dead, last_told_ms, last_error, off): Row) -> RouteState {
    let count = |rows: i64| rows.unsigned_abs();
    let (waiting, told, dead) = (count(waiting), count(told), count(dead));
    RouteState { route, waiting, told, dead, last_told_ms, last_error, off }
}
