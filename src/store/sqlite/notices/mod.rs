//! Notices in the SQLite file.
//!
//! * `next`: what a route sends next.
//! * `vitals`: how the outgoing side is.

mod next;
mod vitals;

use async_trait::async_trait;
use serde_json::{Map, Value};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{SqliteStore, StoreError, json};
use crate::{
    domain::{Addressed, Severity},
    store::notices::{
        KEPT_MS, LEFT_MS, Lasting, Notices, RouteState, Sending, Untold, Vitals, Wanted, Watched, lasting,
        short,
    },
};

/// Now, in Unix milliseconds.
const NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";
/// Writes a notice that is not there.
const WRITE: &str =
    "INSERT INTO notices (notice_id, route, notice, critical, condition, evaluation_id, created_ms, due_ms)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST(unixepoch('subsec') * 1000 AS INTEGER),
         CAST(unixepoch('subsec') * 1000 AS INTEGER))
     ON CONFLICT (notice_id, route) DO NOTHING";
/// Marks a message as told.
const TOLD: &str =
    "UPDATE notices SET told_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER), attempts = attempts + 1
     WHERE route = ? AND message_id = ? AND told_ms IS NULL";
/// Puts a message off or gives it up.
const UNTOLD: &str =
    "UPDATE notices SET due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + coalesce(?3, 0),
         attempts = attempts + 1, dead_reason = iif(?3 IS NULL, ?4, NULL)
     WHERE route = ?1 AND message_id = ?2 AND told_ms IS NULL AND dead_reason IS NULL";
/// Lets a route rest.
const REST: &str = "INSERT INTO notice_routes (route, rest_ms, last_error)
     VALUES (?1, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?2, ?3)
     ON CONFLICT (route) DO UPDATE SET rest_ms = excluded.rest_ms, last_error = excluded.last_error";
/// Ends the rest of a route to which a message has come: the next comes no sooner than its spacing says.
const RESTED: &str = "UPDATE notice_routes SET last_error = NULL, rest_ms = 0,
         next_ms = max(next_ms, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?2)
     WHERE route = ?1";
/// How routes are.
const ROUTES: &str = "SELECT route, count(notice_id) FILTER (WHERE told_ms IS NULL AND dead_reason IS NULL),
         count(told_ms), count(dead_reason), max(told_ms), max(last_error), max(off)
     FROM (SELECT route FROM notices UNION SELECT route FROM notice_routes)
     LEFT JOIN notices USING (route) LEFT JOIN notice_routes USING (route)
     GROUP BY route ORDER BY route";
/// Notices that are still to be told.
const OPEN: &str = "SELECT count(*) FROM notices WHERE told_ms IS NULL AND dead_reason IS NULL
     AND route IN (SELECT value FROM json_each(?))
     AND route NOT IN (SELECT route FROM notice_routes WHERE off IS NOT NULL)";
/// Deletes what was told or given up long ago, and what nobody sends.
const EXPIRE: &str = "DELETE FROM notices WHERE seq IN (
         SELECT seq FROM notices WHERE created_ms < ?1 AND (told_ms IS NOT NULL OR dead_reason IS NOT NULL)
             OR created_ms < ?2 LIMIT ?3)";
/// Deletes notices of evaluations, which are given as a JSON array; says which route may have told them.
const ERASE: &str = "DELETE FROM notices WHERE evaluation_id IN (SELECT value FROM json_each(?))
     RETURNING route, told_ms IS NOT NULL OR message_id IS NOT NULL";

/// How a route is: its name, counts of notices that wait, were told and given up, when one was told last, error and switch.
type Row = (String, i64, i64, i64, Option<i64>, Option<String>, Option<String>);

/// Writes notices within a transaction; gives back how many were new.
pub(super) async fn write(tx: &mut SqliteConnection, notices: &[Addressed]) -> Result<u64, StoreError> {
    let mut new = 0;
    for Addressed { route, notice } in notices {
        let written = sqlx::query(WRITE)
            .bind(notice.notice_id.to_string())
            .bind(route)
            .bind(json("notice", notice)?)
            .bind(notice.severity == Severity::Critical)
            .bind(&notice.condition)
            .bind(notice.evaluation_id.map(|id| id.to_string()))
            .execute(&mut *tx)
            .await?;
        new += written.rows_affected();
    }
    Ok(new)
}

/// Deletes notices of evaluations; gives back the routes that may have told them, each as often as it may.
pub(super) async fn erase(tx: &mut SqliteConnection, evaluations: &str) -> Result<Vec<String>, sqlx::Error> {
    let gone: Vec<(String, bool)> = sqlx::query_as(ERASE).bind(evaluations).fetch_all(&mut *tx).await?;
    Ok(gone.into_iter().filter(|(_, told)| *told).map(|(route, _)| route).collect())
}

/// Deletes old notices, at most so many; gives back how many went.
pub(super) async fn expire(tx: &mut SqliteConnection, limit: u32) -> Result<u64, sqlx::Error> {
    let now: i64 = sqlx::query_scalar(NOW).fetch_one(&mut *tx).await?;
    let expired = sqlx::query(EXPIRE).bind(now - KEPT_MS).bind(now - LEFT_MS).bind(limit);
    Ok(expired.execute(&mut *tx).await?.rows_affected())
}

#[async_trait]
impl Notices for SqliteStore {
    async fn notify(&self, notices: &[Addressed]) -> Result<u64, StoreError> {
        let mut tx = self.database.write().await?;
        let new = write(&mut tx, notices).await?;
        tx.commit().await?;
        Ok(new)
    }

    async fn next_message(&self, wanted: &Wanted) -> Result<Option<Sending>, StoreError> {
        // Most looks find nothing, and need not wait for whoever writes.
        let any: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM notices WHERE route = ? AND told_ms IS NULL AND dead_reason IS NULL)",
        )
        .bind(&wanted.route)
        .fetch_one(self.database.read())
        .await?;
        if !any {
            return Ok(None);
        }
        let mut tx = self.database.write().await?;
        let sending = next::take(&mut tx, wanted).await?;
        tx.commit().await?;
        Ok(sending)
    }

    async fn told(&self, route: &str, message_id: Uuid, spacing_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        sqlx::query(TOLD).bind(route).bind(message_id.to_string()).execute(&mut *tx).await?;
        sqlx::query(RESTED).bind(route).bind(spacing_ms).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn untold(&self, untold: &Untold<'_>) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        let error = short(untold.error);
        sqlx::query(UNTOLD)
            .bind(untold.route)
            .bind(untold.message_id.to_string())
            .bind(untold.after_ms)
            .bind(error)
            .execute(&mut *tx)
            .await?;
        sqlx::query(REST).bind(untold.route).bind(untold.rest_ms).bind(error).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn switch_route(&self, route: &str, off: Option<&str>) -> Result<bool, StoreError> {
        let mut tx = self.database.write().await?;
        let switched = match off {
            Some(reason) => sqlx::query(
                "INSERT INTO notice_routes (route, off) VALUES (?1, ?2)
                 ON CONFLICT (route) DO UPDATE SET off = excluded.off WHERE notice_routes.off IS NULL",
            )
            .bind(route)
            .bind(short(reason)),
            None => sqlx::query(
                "UPDATE notice_routes SET off = NULL, rest_ms = 0, last_error = NULL
                 WHERE route = ? AND off IS NOT NULL",
            )
            .bind(route),
        };
        let switched = switched.execute(&mut *tx).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(switched)
    }

    async fn routes(&self) -> Result<Vec<RouteState>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(ROUTES).fetch_all(self.database.read()).await?;
        Ok(rows.into_iter().map(route_state).collect())
    }

    async fn vitals(&self, watched: &Watched) -> Result<Vitals, StoreError> {
        vitals::vitals(&self.database, watched).await
    }

    async fn begin_condition(
        &self,
        condition: &str,
        details: &Map<String, Value>,
    ) -> Result<i64, StoreError> {
        let lasts = sqlx::query_scalar("SELECT began_ms FROM conditions WHERE condition = ?").bind(condition);
        if let Some(began_ms) = lasts.fetch_optional(self.database.read()).await? {
            return Ok(began_ms);
        }
        let mut tx = self.database.write().await?;
        let began_ms = sqlx::query_scalar(
            "INSERT INTO conditions (condition, began_ms, details)
             VALUES (?, CAST(unixepoch('subsec') * 1000 AS INTEGER), ?)
             ON CONFLICT (condition) DO UPDATE SET began_ms = conditions.began_ms RETURNING began_ms",
        )
        .bind(condition)
        .bind(json("details", details)?)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(began_ms)
    }

    async fn conditions(&self) -> Result<Vec<Lasting>, StoreError> {
        let rows = sqlx::query_as("SELECT condition, began_ms, details FROM conditions ORDER BY condition");
        Ok(lasting(rows.fetch_all(self.database.read()).await?))
    }

    async fn end_condition(&self, lasting: &Lasting) -> Result<bool, StoreError> {
        let mut tx = self.database.write().await?;
        let ended = sqlx::query("DELETE FROM conditions WHERE condition = ? AND began_ms = ?")
            .bind(&lasting.condition)
            .bind(lasting.began_ms)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(ended.rows_affected() > 0)
    }

    async fn notices_open(&self, routes: &[String]) -> Result<u64, StoreError> {
        let open = sqlx::query_scalar(OPEN).bind(json("routes", &routes)?);
        let open: i64 = open.fetch_one(self.database.read()).await?;
        Ok(open.unsigned_abs())
    }
}

/// A row as a state.
fn route_state((route, waiting, told, dead, last_told_ms, last_error, off): Row) -> RouteState {
    let count = |rows: i64| rows.unsigned_abs();
    let (waiting, told, dead) = (count(waiting), count(told), count(dead));
    RouteState { route, waiting, told, dead, last_told_ms, last_error, off }
}
