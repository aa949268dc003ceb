//! What a route sends next. Whoever takes a message holds its route's row meanwhile, so that no two workers make two messages of
//! the same notices.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::{Message, Notice},
    store::notices::{OVERDUE_MS, Sending, Wanted, read_all},
};

/// The message that failed and is due, or whose sender is gone, that was tried least.
const BEGUN: &str = "SELECT message_id, attempts, due_ms FROM notices
     WHERE route = $1 AND told_ms IS NULL AND dead_reason IS NULL AND message_id IS NOT NULL AND due_ms <= $2
         AND (critical OR NOT $3)
     ORDER BY attempts, due_ms LIMIT 1";
/// Whether a message of a route is begun and neither told nor given up; in quiet hours those count that may be told then.
const IS_BEGUN: &str = "SELECT EXISTS (SELECT 1 FROM notices
     WHERE route = $1 AND told_ms IS NULL AND dead_reason IS NULL AND message_id IS NOT NULL AND (critical OR NOT $2))";
/// Notices of a message, in the order in which they were gathered.
const OF_MESSAGE: &str = "SELECT seq, notice FROM notices
     WHERE route = $1 AND message_id = $2 AND told_ms IS NULL AND dead_reason IS NULL
     ORDER BY critical DESC, seq";
/// Notices that wait, what is critical first, but for those whose condition has one before them on its way. That of a condition
/// which begins and which ends are equally critical.
const WAITING: &str = "SELECT seq, notice FROM notices n
     WHERE route = $1 AND told_ms IS NULL AND dead_reason IS NULL AND message_id IS NULL AND (critical OR NOT $2)
         AND (condition IS NULL OR NOT EXISTS (
             SELECT 1 FROM notices earlier WHERE earlier.route = n.route AND earlier.condition = n.condition
                 AND earlier.seq < n.seq AND earlier.told_ms IS NULL AND earlier.dead_reason IS NULL
                 AND earlier.message_id IS NOT NULL))
     ORDER BY critical DESC, seq LIMIT $3";
/// Makes a message of notices.
const GATHER: &str = "UPDATE notices SET message_id = $1, due_ms = $2 WHERE seq = ANY($3)";
/// Gives up notices that cannot be read.
const GIVE_UP: &str = "UPDATE notices SET dead_reason = 'cannot be read' WHERE seq = ANY($1)";
/// Takes a message that was begun.
const TAKE: &str = "UPDATE notices SET due_ms = $3
     WHERE route = $1 AND message_id = $2 AND told_ms IS NULL AND dead_reason IS NULL";

/// Notices of rows; what cannot be read is given up, so that it holds up none behind it.
async fn readable(tx: &mut PgConnection, rows: &[(i64, String)]) -> Result<Vec<Notice>, sqlx::Error> {
    let (notices, unreadable) = read_all(rows);
    if !unreadable.is_empty() {
        sqlx::query(GIVE_UP).bind(&unreadable).execute(&mut *tx).await?;
    }
    Ok(notices)
}

/// Takes what a route sends next.
pub(super) async fn take(tx: &mut PgConnection, wanted: &Wanted) -> Result<Option<Sending>, sqlx::Error> {
    let route = &wanted.route;
    sqlx::query("INSERT INTO notice_routes (route) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(route)
        .execute(&mut *tx)
        .await?;
    let (next_ms, rest_ms, off): (i64, i64, bool) = sqlx::query_as(
        "SELECT next_ms, rest_ms, off IS NOT NULL FROM notice_routes WHERE route = $1 FOR UPDATE",
    )
    .bind(route)
    .fetch_one(&mut *tx)
    .await?;
    let now: i64 = sqlx::query_scalar("SELECT aftercheck_now_ms()").fetch_one(&mut *tx).await?;
    // One further away than the spacing is of a configuration, or a clock, of before.
    let is_spaced = next_ms > now && next_ms - now <= wanted.spacing_ms;
    if off || rest_ms > now || is_spaced {
        return Ok(None);
    }
    let begun: Option<(Uuid, i32, i64)> = sqlx::query_as(BEGUN)
        .bind(route)
        .bind(now)
        .bind(wanted.critical_only)
        .fetch_optional(&mut *tx)
        .await?;
    // What is new goes before what failed, unless that has waited long: one that always fails keeps no other back.
    let first = begun.as_ref().is_some_and(|(_, attempts, due)| *attempts == 0 || due + OVERDUE_MS <= now);
    if !first
        && may_gather(tx, wanted).await?
        && let Some(message) = gather(tx, wanted, now).await?
    {
        return Ok(Some(Sending { message, attempts: 0 }));
    }
    let Some((message_id, attempts, _)) = begun else { return Ok(None) };
    let lease = now + wanted.lease_ms;
    sqlx::query(TAKE).bind(route).bind(message_id).bind(lease).execute(&mut *tx).await?;
    let rows: Vec<(i64, String)> =
        sqlx::query_as(OF_MESSAGE).bind(route).bind(message_id).fetch_all(&mut *tx).await?;
    let notices = readable(tx, &rows).await?;
    if notices.is_empty() {
        return Ok(None);
    }
    space(tx, wanted, now).await?;
    let (message, attempts) = (Message { message_id, notices }, attempts.unsigned_abs());
    Ok(Some(Sending { message, attempts }))
}

/// Whether what waits may become a message: where messages sum up, not while one is on its way. After an outage all that came
/// meanwhile would otherwise go out in a row, as many messages as there were intervals.
async fn may_gather(tx: &mut PgConnection, wanted: &Wanted) -> Result<bool, sqlx::Error> {
    if wanted.together <= 1 {
        return Ok(true);
    }
    let begun = sqlx::query_scalar(IS_BEGUN).bind(&wanted.route).bind(wanted.critical_only);
    begun.fetch_one(&mut *tx).await.map(|is_begun: bool| !is_begun)
}

/// Makes a message of what waits; none where nothing does.
async fn gather(tx: &mut PgConnection, wanted: &Wanted, now: i64) -> Result<Option<Message>, sqlx::Error> {
    let waiting: Vec<(i64, String)> = sqlx::query_as(WAITING)
        .bind(&wanted.route)
        .bind(wanted.critical_only)
        .bind(i64::from(wanted.together))
        .fetch_all(&mut *tx)
        .await?;
    let notices = readable(tx, &waiting).await?;
    if notices.is_empty() {
        return Ok(None);
    }
    let message = Message::of(&wanted.route, notices);
    let places: Vec<i64> = waiting.into_iter().map(|(place, _)| place).collect();
    sqlx::query(GATHER)
        .bind(message.message_id)
        .bind(now + wanted.lease_ms)
        .bind(&places)
        .execute(&mut *tx)
        .await?;
    space(tx, wanted, now).await?;
    Ok(Some(message))
}

/// Notes when the route may send again, where nobody hears that this message was told: sooner than the whole spacing, or one that
/// failed would wait a day for a digest of a day.
async fn space(tx: &mut PgConnection, wanted: &Wanted, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE notice_routes SET next_ms = $2 WHERE route = $1")
        .bind(&wanted.route)
        .bind(now + wanted.retry_ms())
        .execute(&mut *tx)
        .await?;
    Ok(())
}
