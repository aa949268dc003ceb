//! The queue table of the SQLite file: leases with fencing tokens, so that a worker paused past its lease can harm
//! nothing, and lanes that are served in turn.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::Row;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Delivery, Depth, Disposition, LANES, Message, Publisher, Source, SourceError, lane,
    table::{Leases, Settlement, Table, millis},
};
use crate::{database::sqlite::Database, faults::broken};

/// How often an empty queue is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The next rows, lane by lane in turn and the oldest of each lane first. `lanes` jumps from lane to lane along the
/// index and `heads` walks down each of them; its ORDER BY makes the recursion take first what comes first, so that no
/// more rows are touched than are taken: what is due in the same millisecond by id, what is due later by time, each
/// with an index probe of its own. Each lane has a second turn for rows that are due later than anything is put
/// off: a clock that was set back has stranded them.
///
/// Parameters: 1 the furthest that anything is put off, 2 the lane whose turn it is, 3 the lanes, 4 how many.
const PICK: &str = "
WITH RECURSIVE
    clock (now_ms) AS MATERIALIZED (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    span (part, since_ms, until_ms) AS MATERIALIZED (
        SELECT 0, 0, now_ms FROM clock UNION ALL SELECT 1, now_ms + ?1 + 1, 9223372036854775807 FROM clock),
    lanes (lane) AS (
        SELECT min(lane) FROM queue
        UNION ALL
        SELECT (SELECT min(lane) FROM queue WHERE queue.lane > lanes.lane) FROM lanes WHERE lane IS NOT NULL),
    heads (turn, place, part, since_ms, until_ms, lane, id) AS (
        SELECT 1, (lane - ?2 + ?3) % ?3, part, since_ms, until_ms, lane,
            (SELECT id FROM queue
             WHERE queue.lane = lanes.lane AND available_ms BETWEEN since_ms AND until_ms
             ORDER BY available_ms, id LIMIT 1)
        FROM lanes CROSS JOIN span WHERE lane IS NOT NULL
        UNION ALL
        SELECT turn + 1, place, part, since_ms, until_ms, lane,
            coalesce(
                (SELECT next.id FROM queue AS here CROSS JOIN queue AS next
                 WHERE here.id = heads.id
                   AND next.lane = heads.lane AND next.available_ms = here.available_ms AND next.id > here.id
                 ORDER BY next.id LIMIT 1),
                (SELECT next.id FROM queue AS here CROSS JOIN queue AS next
                 WHERE here.id = heads.id
                   AND next.lane = heads.lane AND next.available_ms > here.available_ms
                   AND next.available_ms <= until_ms
                 ORDER BY next.available_ms, next.id LIMIT 1))
        FROM heads WHERE id IS NOT NULL
        ORDER BY 1, 2, 3)
SELECT id, lane FROM heads WHERE id IS NOT NULL LIMIT ?4";

/// The consumer and producer of the queue table.
#[derive(Debug, Clone)]
pub struct SqliteSource {
    database: Database,
    leases: Leases<Database>,
    /// The lane whose turn it is.
    next_lane: u16,
}

impl SqliteSource {
    /// A queue in an open database whose deliveries are leased for `lease`. Starts the task that settles them.
    pub fn new(database: Database, lease: Duration) -> Self {
        Self { leases: Leases::new(database.clone(), lease), database, next_lane: 0 }
    }

    /// Leases what is due: lanes in turn, the oldest first within each.
    async fn lease(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let mut tx = self.database.write().await?;
        let picked: Vec<(i64, u16)> = sqlx::query_as(PICK)
            .bind(self.leases.furthest())
            .bind(self.next_lane)
            .bind(LANES)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&mut *tx)
            .await?;
        let Some((_, last)) = picked.last() else { return Ok(Vec::new()) };
        let next_lane = (last + 1) % LANES;
        let ids: Vec<i64> = picked.iter().map(|(id, _)| *id).collect();
        let token = Uuid::now_v7();
        let rows = sqlx::query(
            "UPDATE queue SET lease_token = ?, deliveries = deliveries + 1,
                 available_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
             WHERE id IN (SELECT value FROM json_each(?)) RETURNING id, payload",
        )
        .bind(token.to_string())
        .bind(millis(self.leases.length))
        .bind(sqlx::types::Json(&ids))
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        self.next_lane = next_lane;
        // RETURNING gives rows in any order.
        let mut payloads: HashMap<i64, Vec<u8>> = HashMap::with_capacity(rows.len());
        for row in rows {
            payloads.insert(row.try_get("id")?, row.try_get("payload")?);
        }
        let deliveries = ids.into_iter().filter_map(|id| Some((id, payloads.remove(&id)?)));
        Ok(deliveries.map(|(id, payload)| self.leases.delivery(id, token, payload)).collect())
    }
}

#[async_trait]
impl Source for SqliteSource {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, SourceError> {
        let until = Instant::now() + wait;
        loop {
            let deliveries = self.lease(max).await?;
            if !deliveries.is_empty() || Instant::now() + POLL_INTERVAL > until {
                return Ok(deliveries);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn depth(&mut self) -> Result<Depth, SourceError> {
        let (messages, oldest_ms): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM queue), coalesce(
                 (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) - enqueued_ms FROM queue ORDER BY id LIMIT 1), 0)",
        )
        .fetch_one(self.database.read())
        .await?;
        let oldest = Duration::from_millis(u64::try_from(oldest_ms).unwrap_or(0));
        Ok(Depth { messages: messages.unsigned_abs(), oldest: Some(oldest) })
    }
}

#[async_trait]
impl Publisher for SqliteSource {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), SourceError> {
        let mut tx = self.database.write().await?;
        for message in messages {
            sqlx::query(
                "INSERT INTO queue (lane, payload, enqueued_ms, available_ms)
                 VALUES (?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER), CAST(unixepoch('subsec') * 1000 AS INTEGER))",
            )
            .bind(lane(message.tenant_id.as_deref(), LANES))
            .bind(&message.payload[..])
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl Table for Database {
    async fn settle(&self, group: &[Settlement]) -> Result<HashSet<i64>, sqlx::Error> {
        let mut tx = self.write().await?;
        let mut found = HashSet::with_capacity(group.len());
        for settlement in group {
            let query = match settlement.disposition {
                // The deliberately broken build without a fence.
                Disposition::Ack if broken("no_fencing") => {
                    sqlx::query("DELETE FROM queue WHERE id = ? AND coalesce(?, '') <> ''")
                }
                Disposition::Ack => sqlx::query("DELETE FROM queue WHERE id = ? AND lease_token = ?"),
                Disposition::Retry(after) => sqlx::query(
                    "UPDATE queue SET lease_token = NULL,
                         available_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ? WHERE id = ? AND lease_token = ?",
                )
                .bind(millis(after)),
            };
            let query = query.bind(settlement.row).bind(settlement.token.to_string());
            if query.execute(&mut *tx).await?.rows_affected() == 1 {
                found.insert(settlement.row);
            }
        }
        tx.commit().await?;
        Ok(found)
    }

    async fn extend(&self, row: i64, token: Uuid, length: Duration) -> Result<bool, sqlx::Error> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "UPDATE queue SET available_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
             WHERE id = ? AND lease_token = ?",
        )
        .bind(millis(length))
        .bind(row)
        .bind(token.to_string())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::sqlite::SqliteConfig;

    #[tokio::test]
    async fn a_look_probes_the_index_and_scans_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&SqliteConfig { path: folder.path().join("a.db") }).await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {PICK}"));
        let plan = sqlx::query(explain).bind(0).bind(0).bind(LANES).bind(8);
        let plan = plan.fetch_all(database.read()).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let of_queue =
            |verb: &str| steps.iter().filter(|step| step.starts_with(verb)).cloned().collect::<Vec<_>>();
        assert!(of_queue("SCAN queue").is_empty() && of_queue("USE TEMP").is_empty(), "{steps:#?}");
        assert!(
            of_queue("SEARCH").iter().all(|step| step.contains("queue_due") || step.contains("PRIMARY KEY"))
        );
        assert_eq!(of_queue("SEARCH").len(), 7, "{steps:#?}");
    }
}
