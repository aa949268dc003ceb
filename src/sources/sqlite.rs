//! The queue table: leases with fencing tokens, so that a worker paused past its lease can harm nothing.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{Delivery, Depth, Disposition, Message, Publisher, Settler, Source, SourceError};
use crate::{database::sqlite::Database, faults::broken};

/// How often an empty queue is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Nothing is put off for longer, a longer lease aside: a row that is due later still was written before the clock was
/// set back, and is due.
const FURTHEST: Duration = Duration::from_secs(900);

/// Most deliveries settled in one transaction.
const MAX_GROUP: usize = 64;

/// The consumer and producer of the queue table.
#[derive(Debug, Clone)]
pub struct SqliteSource {
    database: Database,
    settlements: mpsc::Sender<Settlement>,
    lease: Duration,
}

impl SqliteSource {
    /// A queue in an open database whose deliveries are leased for `lease`. Starts the task that settles them.
    pub fn new(database: Database, lease: Duration) -> Self {
        let (settlements, waiting) = mpsc::channel(MAX_GROUP);
        tokio::spawn(settle_together(database.clone(), waiting));
        Self { database, settlements, lease }
    }

    /// Leases what is due, oldest first.
    async fn lease(&self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let token = Uuid::now_v7().to_string();
        let mut tx = self.database.write().await?;
        let mut rows = sqlx::query(
            "UPDATE queue SET lease_token = ?, deliveries = deliveries + 1,
                 available_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
             WHERE id IN (SELECT id FROM queue
                          WHERE available_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER)
                             OR available_ms > CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
                          ORDER BY available_ms, id LIMIT ?)
             RETURNING id, payload",
        )
        .bind(&token)
        .bind(millis(self.lease))
        .bind(millis(self.lease.max(FURTHEST)))
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        // RETURNING gives rows in any order.
        rows.sort_by_key(|row| row.get::<i64, _>("id"));
        rows.into_iter()
            .map(|row| {
                let lease = Lease {
                    database: self.database.clone(),
                    settlements: self.settlements.clone(),
                    id: row.try_get("id")?,
                    token: token.clone(),
                    length: self.lease,
                };
                let payload: Vec<u8> = row.try_get("payload")?;
                Ok(Delivery::new(payload, self.lease, Box::new(lease)))
            })
            .collect()
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
                "INSERT INTO queue (payload, enqueued_ms, available_ms)
                 VALUES (?, CAST(unixepoch('subsec') * 1000 AS INTEGER), CAST(unixepoch('subsec') * 1000 AS INTEGER))",
            )
            .bind(&message.payload[..])
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// The lease on one row.
struct Lease {
    database: Database,
    settlements: mpsc::Sender<Settlement>,
    id: i64,
    token: String,
    length: Duration,
}

/// How one delivery ends, and who waits for it.
struct Settlement {
    id: i64,
    token: String,
    disposition: Disposition,
    reply: oneshot::Sender<Result<(), SourceError>>,
}

#[async_trait]
impl Settler for Lease {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), SourceError> {
        let (reply, answer) = oneshot::channel();
        let Self { settlements, id, token, .. } = *self;
        let gone = || SourceError::Gone;
        settlements.send(Settlement { id, token, disposition, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn extend(&self) -> Result<(), SourceError> {
        let mut tx = self.database.write().await?;
        let done = sqlx::query(
            "UPDATE queue SET available_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
             WHERE id = ? AND lease_token = ?",
        )
        .bind(millis(self.length))
        .bind(self.id)
        .bind(&self.token)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if broken("no_fencing") {
            return Ok(());
        }
        held(done.rows_affected())
    }
}

/// Settles deliveries that wait for the same disk flush in one transaction, until every lease is gone.
async fn settle_together(database: Database, mut waiting: mpsc::Receiver<Settlement>) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    while waiting.recv_many(&mut group, MAX_GROUP).await > 0 {
        let outcome = settle_group(&database, &group).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, deliveries = group.len(), "deliveries could not be settled, they will come again");
        }
        let found = outcome.unwrap_or_default();
        for (place, settlement) in group.drain(..).enumerate() {
            let settled = match found.get(place) {
                Some(rows) => held(*rows),
                None => Err(SourceError::Gone),
            };
            // Who settled may have been cut off by the end of the grace time.
            drop(settlement.reply.send(settled));
        }
    }
}

/// Settles a group; gives how many rows each settlement found.
async fn settle_group(database: &Database, group: &[Settlement]) -> Result<Vec<u64>, sqlx::Error> {
    let mut tx = database.write().await?;
    let mut found = Vec::with_capacity(group.len());
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
        let done = query.bind(settlement.id).bind(&settlement.token).execute(&mut *tx).await?;
        found.push(done.rows_affected());
    }
    tx.commit().await?;
    Ok(found)
}

/// Whether the fenced statement found its row.
fn held(rows: u64) -> Result<(), SourceError> {
    if rows == 1 { Ok(()) } else { Err(SourceError::LeaseLost) }
}

/// A duration as the queue's columns count it.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
