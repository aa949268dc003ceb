//! Notices in the SQLite file.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{SqliteStore, StoreError, json};
use crate::{
    domain::{Addressed, Message, Notice, Severity},
    store::{
        notices::{
            DAY_MS, KEPT_MS, LEFT_MS, Lasting, MOST_SPENT, Notices, OPEN_ROWS, OVERDUE_MS, RouteState,
            Sending, Untold, Vitals, Wanted, Watched, read_all, short,
        },
        rows,
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
/// The message that failed and is due, or whose sender is gone, that was tried least.
const BEGUN: &str = "SELECT message_id, attempts, due_ms FROM notices
     WHERE route = ?1 AND told_ms IS NULL AND dead_reason IS NULL AND message_id IS NOT NULL AND due_ms <= ?2
         AND (critical OR NOT ?3)
     ORDER BY attempts, due_ms LIMIT 1";
/// Notices of a message.
const OF_MESSAGE: &str = "SELECT seq, notice FROM notices
     WHERE route = ? AND message_id = ? AND told_ms IS NULL AND dead_reason IS NULL ORDER BY seq";
/// Notices that wait, but for those whose condition has one before them on its way.
const WAITING: &str = "SELECT seq, notice FROM notices n
     WHERE route = ?1 AND told_ms IS NULL AND dead_reason IS NULL AND message_id IS NULL AND (critical OR NOT ?2)
         AND (condition IS NULL OR NOT EXISTS (
             SELECT 1 FROM notices before WHERE before.route = n.route AND before.condition = n.condition
                 AND before.seq < n.seq AND before.told_ms IS NULL AND before.dead_reason IS NULL
                 AND before.message_id IS NOT NULL))
     ORDER BY seq LIMIT ?3";
/// Makes a message of notices.
const GATHER: &str =
    "UPDATE notices SET message_id = ?1, due_ms = ?2 WHERE seq IN (SELECT value FROM json_each(?3))";
/// Gives up notices that cannot be read.
const GIVE_UP: &str =
    "UPDATE notices SET dead_reason = 'cannot be read' WHERE seq IN (SELECT value FROM json_each(?))";
/// Takes a message that was begun.
const TAKE: &str = "UPDATE notices SET due_ms = ?3
     WHERE route = ?1 AND message_id = ?2 AND told_ms IS NULL AND dead_reason IS NULL";
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
/// When the oldest open delivery of each sink was written, or asked for again; of sinks that somebody has paused nothing is late.
/// A row that was tried twice has failed by itself, for a sink that is down uses up no attempt.
const OLDEST: &str = "SELECT value, (SELECT min(since_ms) FROM (
         SELECT coalesce(requeued_ms, created_ms) AS since_ms FROM outbox WHERE sink = value AND delivered_ms IS NULL AND dead_reason IS NULL
             AND attempts <= 1
         ORDER BY due_ms LIMIT ?2))
     FROM json_each(?1) WHERE value NOT IN (SELECT sink FROM paused_sinks)";
/// Deliveries of each sink that were given up.
const GIVEN_UP: &str = "SELECT sink, count(*) FROM outbox
     WHERE sink IN (SELECT value FROM json_each(?)) AND dead_reason IS NOT NULL AND dropped_ms IS NULL AND created_ms >= ? GROUP BY sink";
/// Whose budget of judges is spent: the empty name stands for all.
const SPENT: &str = "SELECT tenant_id FROM judge_spending WHERE day = ?1
     AND CASE tenant_id WHEN '' THEN calls >= ?2 OR usd >= ?3 ELSE calls >= ?4 OR usd >= ?5 END
     ORDER BY tenant_id LIMIT ?6";
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

/// Notices of rows; what cannot be read is given up, so that it holds up none behind it.
async fn readable(tx: &mut SqliteConnection, rows: &[(i64, String)]) -> Result<Vec<Notice>, StoreError> {
    let (notices, unreadable) = read_all(rows);
    if !unreadable.is_empty() {
        sqlx::query(GIVE_UP).bind(json("places", &unreadable)?).execute(&mut *tx).await?;
    }
    Ok(notices)
}

/// Takes what a route sends next.
async fn take(tx: &mut SqliteConnection, wanted: &Wanted) -> Result<Option<Sending>, StoreError> {
    let now: i64 = sqlx::query_scalar(NOW).fetch_one(&mut *tx).await?;
    let state: Option<(i64, i64, bool)> =
        sqlx::query_as("SELECT next_ms, rest_ms, off IS NOT NULL FROM notice_routes WHERE route = ?")
            .bind(&wanted.route)
            .fetch_optional(&mut *tx)
            .await?;
    let (next_ms, rest_ms, off) = state.unwrap_or_default();
    if off || rest_ms > now {
        return Ok(None);
    }
    let begun: Option<(String, u32, i64)> = sqlx::query_as(BEGUN)
        .bind(&wanted.route)
        .bind(now)
        .bind(wanted.critical_only)
        .fetch_optional(&mut *tx)
        .await?;
    // What is new goes before what failed, unless that has waited long: one that always fails keeps no other back.
    let first = begun.as_ref().is_some_and(|(_, attempts, due)| *attempts == 0 || due + OVERDUE_MS <= now);
    if !first
        && next_ms <= now
        && let Some(message) = gather(tx, wanted, now).await?
    {
        return Ok(Some(Sending { message, attempts: 0 }));
    }
    let Some((message_id, attempts, _)) = begun else { return Ok(None) };
    let lease = now + wanted.lease_ms;
    sqlx::query(TAKE).bind(&wanted.route).bind(&message_id).bind(lease).execute(&mut *tx).await?;
    let rows: Vec<(i64, String)> =
        sqlx::query_as(OF_MESSAGE).bind(&wanted.route).bind(&message_id).fetch_all(&mut *tx).await?;
    let notices = readable(tx, &rows).await?;
    let message = Message { message_id: rows::uuid("message id", &message_id)?, notices };
    Ok((!message.notices.is_empty()).then_some(Sending { message, attempts }))
}

/// Makes a message of what waits; none where nothing does.
async fn gather(tx: &mut SqliteConnection, wanted: &Wanted, now: i64) -> Result<Option<Message>, StoreError> {
    let waiting: Vec<(i64, String)> = sqlx::query_as(WAITING)
        .bind(&wanted.route)
        .bind(wanted.critical_only)
        .bind(wanted.together)
        .fetch_all(&mut *tx)
        .await?;
    let notices = readable(tx, &waiting).await?;
    if notices.is_empty() {
        return Ok(None);
    }
    let message = Message::of(&wanted.route, notices);
    let places: Vec<i64> = waiting.iter().map(|(seq, _)| *seq).collect();
    sqlx::query(GATHER)
        .bind(message.message_id.to_string())
        .bind(now + wanted.lease_ms)
        .bind(json("places", &places)?)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "INSERT INTO notice_routes (route, next_ms) VALUES (?1, ?2)
         ON CONFLICT (route) DO UPDATE SET next_ms = excluded.next_ms",
    )
    .bind(&wanted.route)
    .bind(now + wanted.spacing_ms)
    .execute(&mut *tx)
    .await?;
    Ok(Some(message))
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
        let sending = take(&mut tx, wanted).await?;
        tx.commit().await?;
        Ok(sending)
    }

    async fn told(&self, route: &str, message_id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.database.write().await?;
        sqlx::query(TOLD).bind(route).bind(message_id.to_string()).execute(&mut *tx).await?;
        sqlx::query("UPDATE notice_routes SET last_error = NULL, rest_ms = 0 WHERE route = ?")
            .bind(route)
            .execute(&mut *tx)
            .await?;
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
        let read = self.database.read();
        let now_ms: i64 = sqlx::query_scalar(NOW).fetch_one(read).await?;
        let since = now_ms - watched.recent_ms;
        let dead_letters: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE created_ms >= ?")
            .bind(since)
            .fetch_one(read)
            .await?;
        let sinks = json("sinks", &watched.sinks)?;
        let oldest: Vec<(String, Option<i64>)> =
            sqlx::query_as(OLDEST).bind(&sinks).bind(OPEN_ROWS).fetch_all(read).await?;
        let given_up: Vec<(String, i64)> =
            sqlx::query_as(GIVEN_UP).bind(&sinks).bind(since).fetch_all(read).await?;
        let off = sqlx::query_scalar("SELECT route FROM notice_routes WHERE off IS NOT NULL ORDER BY route")
            .fetch_all(read)
            .await?;
        let [all, each] = watched.limits.pairs();
        let spent = sqlx::query_scalar(SPENT).bind(now_ms / DAY_MS).bind(all.0).bind(all.1).bind(each.0);
        let spent = spent.bind(each.1).bind(MOST_SPENT).fetch_all(read).await?;
        Ok(Vitals {
            now_ms,
            dead_letters: dead_letters.unsigned_abs(),
            oldest_open_ms: oldest.into_iter().filter_map(|(sink, at)| Some((sink, now_ms - at?))).collect(),
            given_up: rows::counts(given_up),
            off,
            spent,
        })
    }

    async fn begin_condition(&self, condition: &str) -> Result<i64, StoreError> {
        let lasts = sqlx::query_scalar("SELECT began_ms FROM conditions WHERE condition = ?").bind(condition);
        if let Some(began_ms) = lasts.fetch_optional(self.database.read()).await? {
            return Ok(began_ms);
        }
        let mut tx = self.database.write().await?;
        let began_ms = sqlx::query_scalar(
            "INSERT INTO conditions (condition, began_ms) VALUES (?, CAST(unixepoch('subsec') * 1000 AS INTEGER))
             ON CONFLICT (condition) DO UPDATE SET began_ms = conditions.began_ms RETURNING began_ms",
        )
        .bind(condition)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(began_ms)
    }

    async fn conditions(&self) -> Result<Vec<Lasting>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT condition, began_ms FROM conditions ORDER BY condition")
                .fetch_all(self.database.read())
                .await?;
        Ok(rows.into_iter().map(|(condition, began_ms)| Lasting { condition, began_ms }).collect())
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
