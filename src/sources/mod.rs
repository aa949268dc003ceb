//! Sources: where calls come from. A delivery is settled exactly once, by value.
//!
//! Three ways to settle, as every queue knows them: it is done ([`Disposition::Ack`]), it should come again
//! later ([`Disposition::Retry`]), or nothing is said (dropped: the broker's lease runs out and it comes again).
//! Dead letters are ours: they are committed to the store first and then acked.

pub mod held;
pub mod kafka;
pub mod postgres;
pub mod rabbitmq;
pub mod sqlite;
pub mod sqs;
mod table;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::rabbitmq::{RabbitmqConfig, RabbitmqPublisher, RabbitmqSource};
use crate::database::{DatabaseError, DatabaseKind, Databases};

/// `[source]`: the queue that calls are pulled from.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Which queue.
    pub kind: SourceKind,
    /// How long a worker may hold a delivery without a sign of life, in seconds.
    pub lease_secs: u64,
    /// The broker, where the queue is RabbitMQ.
    pub rabbitmq: RabbitmqConfig,
    /// Queues of Amazon SQS.
    pub sqs: sqs::SqsConfig,
    /// The topic, where the queue is Kafka.
    pub kafka: kafka::KafkaConfig,
}

/// What the pipeline keeps to, for queues that have to know.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Deliveries that may be unsettled at a time.
    pub in_flight: usize,
    /// Attempts until a call is a dead letter of ours.
    pub max_attempts: u32,
}

/// Queues that calls can be pulled from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// The queue table of the SQLite file.
    #[default]
    Sqlite,
    /// The queue table of the Postgres server.
    Postgres,
    /// A quorum queue of RabbitMQ.
    Rabbitmq,
    /// Amazon SQS, or a service that speaks its protocol.
    Sqs,
    /// A topic of Kafka. Needs a build with the feature `kafka`.
    Kafka,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            kind: SourceKind::Sqlite,
            lease_secs: 60,
            rabbitmq: RabbitmqConfig::default(),
            sqs: sqs::SqsConfig::default(),
            kafka: kafka::KafkaConfig::default(),
        }
    }
}

impl SourceKind {
    /// The database that the queue lives in, where it lives in one.
    pub fn database(self) -> Option<DatabaseKind> {
        match self {
            Self::Sqlite => Some(DatabaseKind::Sqlite),
            Self::Postgres => Some(DatabaseKind::Postgres),
            Self::Rabbitmq => None,
            Self::Sqs => None,
            Self::Kafka => None,
        }
    }
}

/// The consumer's side of the queue that is configured. Nothing is connected yet where the queue is a broker:
/// [`Source::receive`] does that, as often as it takes.
///
/// # Errors
/// When the settings cannot be used; the message names the key.
pub fn source(
    config: &SourceConfig,
    databases: &Databases,
    limits: Limits,
) -> Result<Box<dyn Source>, SourceError> {
    let lease = Duration::from_secs(config.lease_secs);
    Ok(match config.kind {
        SourceKind::Sqlite => Box::new(sqlite::SqliteSource::new(databases.sqlite()?, lease)),
        SourceKind::Postgres => Box::new(postgres::PostgresSource::new(databases.postgres()?, lease)),
        SourceKind::Rabbitmq => Box::new(RabbitmqSource::new(&config.rabbitmq, lease, limits.in_flight)?),
        SourceKind::Sqs => Box::new(sqs::SqsSource::new(config, limits.max_attempts)),
        SourceKind::Kafka => kafka::source(&config.kafka, lease)?,
    })
}

/// The producer's side of the queue that is configured; connected when it is first used.
///
/// # Errors
/// As [`source`].
pub fn publisher(config: &SourceConfig, databases: &Databases) -> Result<Arc<dyn Publisher>, SourceError> {
    let lease = Duration::from_secs(config.lease_secs);
    Ok(match config.kind {
        SourceKind::Sqlite => Arc::new(sqlite::SqliteSource::new(databases.sqlite()?, lease)),
        SourceKind::Postgres => Arc::new(postgres::PostgresSource::new(databases.postgres()?, lease)),
        SourceKind::Rabbitmq => Arc::new(RabbitmqPublisher::new(&config.rabbitmq)?),
        SourceKind::Sqs => sqs::publisher(config),
        SourceKind::Kafka => kafka::publisher(&config.kafka)?,
    })
}

/// Lanes of the queues that have them. A tenant that shares one with another's flood waits behind it: with so many, one
/// in 64 does.
pub const LANES: u16 = 64;

/// The lane of a tenant among so many: the same for the same tenant, everywhere (CRC-32 of its UTF-8 bytes, as zlib
/// computes it, modulo the number of lanes). A call without a tenant is in lane 0.
pub fn lane(tenant_id: Option<&str>, lanes: u16) -> u16 {
    let crc = tenant_id.map_or(0, |tenant| crc32fast::hash(tenant.as_bytes()));
    // The remainder is below `lanes`.
    (crc % u32::from(lanes.max(1))) as u16
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

    /// How much waits, this worker's own deliveries included, and the age of the oldest where the queue knows it.
    async fn depth(&mut self) -> Result<Depth, SourceError>;

    /// Ends the consumer once nothing of it is in work: what was settled is confirmed to the queue, what was not comes
    /// again. Nothing to do where every settlement is confirmed by itself.
    async fn close(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}

/// A queue as its producer sees it.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Puts payloads on the queue; returns once the queue has confirmed that it keeps them.
    /// After an error some may be there: publishing again is safe, evaluation happens once.
    async fn publish(&self, messages: Vec<Message>) -> Result<(), SourceError>;
}

/// One message to be queued.
#[derive(Debug, Clone)]
pub struct Message {
    /// The raw bytes; clones share them.
    pub payload: Bytes,
    /// Whose call it is, where that can be read: it chooses the lane.
    pub tenant_id: Option<String>,
}

/// One message in our hands. Dropping it unsettled leaves it to the lease; a queue that has no leases gives a dropped one
/// out again after the time of one.
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
    /// Age of the oldest; none where the queue cannot tell.
    pub oldest: Option<Duration>,
}

/// Why a queue could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The lease has passed to someone else: this worker's part is over.
    #[error("the lease on this delivery was lost")]
    LeaseLost,
    /// The database that holds the queue failed.
    #[error("queue: {0}")]
    Database(#[from] sqlx::Error),
    /// The broker cannot be reached, or broke off.
    #[error("{queue} is not available: {source}")]
    Broker {
        /// Which broker.
        queue: &'static str,
        /// What its client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database did not take the settlements of a group, of which this is one.
    #[error("queue: {0}")]
    Unsettled(Arc<sqlx::Error>),
    /// The queue did not answer in time.
    #[error("no answer in time: {0}")]
    Late(&'static str),
    /// The queue answered and did not take it.
    #[error("{0}")]
    Refused(String),
    /// The queue can never hold one of the messages as it is: sending it again gives the same.
    #[error("message {} of this batch: {why}", .place + 1)]
    Unfit {
        /// Which of those that were to be published, from 0.
        place: usize,
        /// Why, and what can be done.
        why: String,
    },
    /// The task that talks to the queue has ended.
    #[error("the queue's task has ended")]
    Gone,
    /// The settings cannot be used.
    #[error("[source] {0}")]
    Settings(String),
    /// The database that holds the queue is not open.
    #[error(transparent)]
    NotOpen(#[from] DatabaseError),
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
