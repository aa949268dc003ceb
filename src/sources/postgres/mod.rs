//! The queue table of a Postgres server that any number of workers share: leases with fencing tokens, lanes that are
//! served in turn, and word of new messages by NOTIFY.
//!
//! Only publishing waits for the server's disk. Leases and settlements commit without: a server that crashes may forget
//! those of its last half second, their messages come again and are found decided.

mod floors;
mod listener;
mod statements;

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use sqlx::Row;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use self::{
    floors::Floors,
    listener::{CHANNEL, Listener},
};
use super::{
    Delivery, Depth, Disposition, LANES, Message, Publisher, Source, SourceError, lane,
    table::{Leases, Settlement, Table, millis},
};
use crate::database::postgres::{Database, bounded};

/// How often an empty queue is looked at when no word comes: retries and leases that end send none.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Most rows of one lease: the heads of the lanes are read to this depth.
const MAX_LEASED: usize = 256;
/// Most bytes of one INSERT; a message that is larger has one of its own.
const INSERT_BYTES: usize = 16 << 20;
/// How long sending word of new messages may take.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages that are counted one by one; more are estimated.
const COUNTED: i64 = 10_000;

/// The consumer and producer of the queue table.
#[derive(Debug)]
pub struct PostgresSource {
    database: Database,
    leases: Leases<Database>,
    /// Started by the first look: a producer needs none.
    listener: Option<Listener>,
    poll_interval: Duration,
    /// The lane whose turn it is.
    next_lane: i16,
    floors: Floors,
}

impl PostgresSource {
    /// A queue in an open database whose deliveries are leased for `lease`. Starts the task that settles them.
    pub fn new(database: Database, lease: Duration) -> Self {
        Self {
            leases: Leases::new(database.clone(), lease),
            database,
            listener: None,
            poll_interval: POLL_INTERVAL,
            next_lane: 0,
            floors: Floors::new(),
        }
    }

    /// Looks at an empty queue this often when no word comes.
    pub fn polling_every(self, poll_interval: Duration) -> Self {
        Self { poll_interval, ..self }
    }

    /// Leases what is due: lanes in turn, the oldest first within each.
    async fn lease(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let asked = Instant::now();
        self.floors.sweep(asked);
        let (database, leases, floors) = (&self.database, &self.leases, self.floors.due_ms());
        let (max, next_lane) = (max.min(MAX_LEASED) as i64, self.next_lane);
        let token = Uuid::now_v7();
        let rows = bounded(|| async {
            let mut connection = database.connection().await?;
            let query = sqlx::query(statements::LEASE).persistent(false).bind(max).bind(next_lane);
            let query = query.bind(floors).bind(leases.furthest()).bind(token).bind(millis(leases.length));
            let rows = query.fetch_all(&mut *connection).await?;
            connection.give_back();
            Ok(rows)
        })
        .await?;
        let mut deliveries = Vec::with_capacity(rows.len());
        for row in rows {
            let (lane, due_ms): (i16, Option<i64>) = (row.try_get("lane")?, row.try_get("due_ms")?);
            self.floors.raise(lane, due_ms);
            self.next_lane = (lane + 1) % LANES as i16;
            let payload: Vec<u8> = row.try_get("payload")?;
            deliveries.push(self.leases.delivery(row.try_get("id")?, token, payload));
        }
        self.floors.looked(asked, asked.elapsed());
        Ok(deliveries)
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, SourceError> {
        let until = Instant::now() + wait;
        if self.listener.is_none() {
            self.listener = Some(Listener::start(self.database.clone()));
        }
        loop {
            let deliveries = self.lease(max).await?;
            let now = Instant::now();
            if !deliveries.is_empty() || now >= until {
                return Ok(deliveries);
            }
            // Word that came while we looked is kept, and ends the wait at once.
            let next = until.min(now + self.poll_interval);
            if let Some(listener) = &self.listener
                && timeout_at(next, listener.woken()).await.is_err()
                && next == until
            {
                return Ok(Vec::new());
            }
        }
    }

    async fn depth(&mut self) -> Result<Depth, SourceError> {
        let database = &self.database;
        let (counted, estimate, oldest_ms): (i64, i64, i64) = bounded(|| async {
            let mut connection = database.connection().await?;
            let query = sqlx::query_as(statements::DEPTH).persistent(false).bind(COUNTED);
            let depth = query.fetch_one(&mut *connection).await?;
            connection.give_back();
            Ok(depth)
        })
        .await?;
        let messages = if counted < COUNTED { counted } else { estimate.max(counted) };
        let oldest = Duration::from_millis(u64::try_from(oldest_ms).unwrap_or(0));
        Ok(Depth { messages: messages.unsigned_abs(), oldest: Some(oldest) })
    }
}

#[async_trait]
impl Publisher for PostgresSource {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), SourceError> {
        let mut rest = &messages[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_length(rest));
            rest = later;
            let lanes: Vec<i16> =
                batch.iter().map(|message| lane(message.tenant_id.as_deref(), LANES) as i16).collect();
            let payloads: Vec<&[u8]> = batch.iter().map(|message| &message.payload[..]).collect();
            let (lanes, payloads) = (&lanes, &payloads);
            bounded(|| async {
                let mut connection = self.database.connection().await?;
                sqlx::query(statements::PUBLISH).bind(lanes).bind(payloads).execute(&mut *connection).await?;
                connection.give_back();
                Ok(())
            })
            .await?;
        }
        match timeout(NOTIFY_TIMEOUT, notify(&self.database)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "no word of new messages could be sent, they will be found")
            }
            Err(_) => tracing::debug!("no word of new messages could be sent in time, they will be found"),
        }
        Ok(())
    }
}

#[async_trait]
impl Table for Database {
    async fn settle(&self, group: &[Settlement]) -> Result<HashSet<i64>, sqlx::Error> {
        let (mut acked, mut retried) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new()));
        for Settlement { row, token, disposition, .. } in group {
            match disposition {
                Disposition::Ack => {
                    acked.0.push(*row);
                    acked.1.push(*token);
                }
                Disposition::Retry(after) => {
                    retried.0.push(*row);
                    retried.1.push(*token);
                    retried.2.push(millis(*after));
                }
            }
        }
        let (acked, retried) = (&acked, &retried);
        let found: Vec<i64> = bounded(|| async {
            let mut connection = self.connection().await?;
            let query = sqlx::query_scalar(statements::SETTLE).persistent(false);
            let query = query.bind(&acked.0).bind(&acked.1);
            let query = query.bind(&retried.0).bind(&retried.1).bind(&retried.2);
            let found = query.fetch_all(&mut *connection).await?;
            connection.give_back();
            Ok(found)
        })
        .await?;
        Ok(found.into_iter().collect())
    }

    async fn extend(&self, row: i64, token: Uuid, length: Duration) -> Result<bool, sqlx::Error> {
        bounded(|| async {
            let mut connection = self.connection().await?;
            let query = sqlx::query(statements::EXTEND).bind(row).bind(token).bind(millis(length));
            let done = query.execute(&mut *connection).await?;
            connection.give_back();
            Ok(done.rows_affected() == 1)
        })
        .await
    }
}

/// How many of these messages go into one INSERT.
fn batch_length(messages: &[Message]) -> usize {
    let mut bytes = 0;
    let fit = messages.iter().take_while(|message| {
        bytes += message.payload.len();
        bytes <= INSERT_BYTES
    });
    fit.count().max(1)
}

/// Sends word of new messages. After their commit and without the disk: NOTIFY holds a lock of the whole server until its
/// own commit is through, and publishers would wait for each other's disk.
async fn notify(database: &Database) -> Result<(), sqlx::Error> {
    let mut connection = database.connection().await?;
    sqlx::query(statements::NOTIFY).bind(CHANNEL).execute(&mut *connection).await?;
    connection.give_back();
    Ok(())
}
