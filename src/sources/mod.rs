//! Sources: where calls come from. A delivery is settled exactly once, by value.
//!
//! Three ways to settle, as every queue knows them: it is done ([`Disposition::Ack`]), it should come again
//! later ([`Disposition::Retry`]), or nothing is said (dropped: the broker's lease runs out and it comes again).
//! Dead letters are ours: they are committed to the store first and then acked.

pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[source]`: the queue that calls are pulled from.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Which queue: `sqlite`.
    pub kind: SourceKind,
    /// How long a worker may hold a delivery without a sign of life, in seconds.
    pub lease_secs: u64,
}

/// Queues that calls can be pulled from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// The queue table of the SQLite file.
    #[default]
    Sqlite,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self { kind: SourceKind::Sqlite, lease_secs: 60 }
    }
}

/// A queue as its consumer sees it.
#[async_trait]
pub trait Source: Send {
    /// Short name for metrics and ledger.
    fn name(&self) -> &'static str;

    /// Takes up to `max` deliveries, waiting up to `wait` for the first. Empty when there is nothing.
    /// Cancelling may leave deliveries leased; they come again when the lease ends.
    ///
    /// # Errors
    /// [`SourceError`] when the queue does not answer; the caller waits and asks again.
    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, SourceError>;

    /// How much waits, delivered ones included, and the age of the oldest.
    async fn depth(&mut self) -> Result<Depth, SourceError>;
}

/// A queue as its producer sees it.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Puts payloads on the queue; returns once the queue has confirmed that it keeps them.
    /// After an error some may be there: publishing again is safe, evaluation happens once.
    async fn publish(&self, payloads: Vec<Bytes>) -> Result<(), SourceError>;
}

/// One message in our hands. Dropping it unsettled leaves it to the lease.
pub struct Delivery {
    /// The raw bytes; clones share them.
    pub payload: Bytes,
    /// How long we may hold it without [`Settler::extend`].
    pub lease: Duration,
    settler: Box<dyn Settler>,
}

/// The queue's side of one delivery.
#[async_trait]
pub trait Settler: Send + Sync {
    /// Ends the delivery.
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), SourceError>;

    /// Holds it for another full lease from now.
    async fn extend(&self) -> Result<(), SourceError>;
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Its effect is committed: it must not come again.
    Ack,
    /// It should come again after this time.
    Retry(Duration),
}

/// How much waits in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages, those in work included.
    pub messages: u64,
    /// Age of the oldest.
    pub oldest: Duration,
}

/// Why a queue could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The lease has passed to someone else: this worker's part is over.
    #[error("the lease on this delivery was lost")]
    LeaseLost,
    /// The SQLite queue failed.
    #[error("sqlite queue: {0}")]
    Sqlite(#[from] sqlx::Error),
}

impl Delivery {
    /// A delivery that this settler ends.
    pub fn new(payload: impl Into<Bytes>, lease: Duration, settler: Box<dyn Settler>) -> Self {
        Self { payload: payload.into(), lease, settler }
    }

    /// Ends the delivery.
    ///
    /// # Errors
    /// [`SourceError::LeaseLost`] when someone else has it by now; nothing is lost by that.
    pub async fn settle(self, disposition: Disposition) -> Result<(), SourceError> {
        self.settler.settle(disposition).await
    }

    /// Holds it for another full lease.
    ///
    /// # Errors
    /// [`SourceError::LeaseLost`] when someone else has it by now.
    pub async fn extend(&self) -> Result<(), SourceError> {
        self.settler.extend().await
    }
}
