//! What queues share that are a table of a database: leases with fencing tokens, and settlements in groups.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{Delivery, Disposition, Settler, SourceError};
use crate::faults::broken;

/// Nothing is put off for longer, a longer lease aside: a row that is due later still was written before the clock was
/// set back, and is due.
const FURTHEST: Duration = Duration::from_secs(900);

/// Most deliveries settled in one transaction.
const MAX_GROUP: usize = 64;

/// The table, as its leases use it.
#[async_trait]
pub(super) trait Table: Clone + Send + Sync + 'static {
    /// Ends the leases of a group in one transaction; gives the rows that were still leased under their tokens.
    async fn settle(&self, group: &[Settlement]) -> Result<HashSet<i64>, sqlx::Error>;

    /// Holds a row for another `length` from now; false when it is leased under another token or gone.
    async fn extend(&self, row: i64, token: Uuid, length: Duration) -> Result<bool, sqlx::Error>;
}

/// How one delivery ends, and who waits for it.
pub(super) struct Settlement {
    /// The row.
    pub row: i64,
    /// The token that it was leased under.
    pub token: Uuid,
    /// How it ends.
    pub disposition: Disposition,
    reply: oneshot::Sender<Result<(), SourceError>>,
}

/// Makes the leases of one table.
#[derive(Debug, Clone)]
pub(super) struct Leases<T> {
    table: T,
    settlements: mpsc::Sender<Settlement>,
    /// How long each lasts.
    pub length: Duration,
}

/// The lease on one row.
struct Lease<T> {
    leases: Leases<T>,
    row: i64,
    token: Uuid,
}

impl<T: Table> Leases<T> {
    /// Leases of this length. Starts the task that settles them; it ends with the last of them.
    pub fn new(table: T, length: Duration) -> Self {
        let (settlements, waiting) = mpsc::channel(MAX_GROUP);
        tokio::spawn(settle_together(table.clone(), waiting));
        Self { table, settlements, length }
    }

    /// A delivery of a row that has just been leased under this token.
    pub fn delivery(&self, row: i64, token: Uuid, payload: impl Into<Bytes>) -> Delivery {
        Delivery::new(payload, self.length, Box::new(Lease { leases: self.clone(), row, token }))
    }

    /// How far from now a row may be due, in milliseconds. One that is due later still is due.
    pub fn furthest(&self) -> i64 {
        millis(self.length.max(FURTHEST))
    }
}

#[async_trait]
impl<T: Table> Settler for Lease<T> {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), SourceError> {
        let (reply, answer) = oneshot::channel();
        let Self { leases, row, token } = *self;
        let settlement = Settlement { row, token, disposition, reply };
        leases.settlements.send(settlement).await.map_err(|_| SourceError::Gone)?;
        answer.await.map_err(|_| SourceError::Gone)?
    }

    async fn extend(&self) -> Result<(), SourceError> {
        held(self.leases.table.extend(self.row, self.token, self.leases.length).await?)
    }
}

/// Settles deliveries that wait for the same transaction together, until every lease is gone.
async fn settle_together<T: Table>(table: T, mut waiting: mpsc::Receiver<Settlement>) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    while waiting.recv_many(&mut group, MAX_GROUP).await > 0 {
        // A task of its own, so that a panic ends one group and not all settling.
        let (table, ended) = (table.clone(), std::mem::take(&mut group));
        let settling = tokio::spawn(async move { (table.settle(&ended).await.map_err(Arc::new), ended) });
        let Ok((outcome, mut group)) = settling.await else {
            tracing::error!("settling a group panicked, its deliveries will come again");
            continue;
        };
        if let Err(error) = &outcome {
            tracing::warn!(%error, deliveries = group.len(), "deliveries could not be settled, they will come again");
        }
        for settlement in group.drain(..) {
            let settled = match &outcome {
                Ok(found) => held(found.contains(&settlement.row)),
                Err(error) => Err(SourceError::Unsettled(Arc::clone(error))),
            };
            // Who settled may have been cut off by the end of the grace time.
            drop(settlement.reply.send(settled));
        }
    }
}

/// Whether the fenced statement found its row.
fn held(found: bool) -> Result<(), SourceError> {
    if found || broken("no_fencing") { Ok(()) } else { Err(SourceError::LeaseLost) }
}

/// A duration as the queue's columns count it.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
