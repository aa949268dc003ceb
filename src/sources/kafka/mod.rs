//! Kafka: a topic as a queue. Cargo feature `kafka`; the settings are there without it.
//!
//! # What is promised, and how
//! A committed offset declares every record below it done, so only the offset after the last record below which all is
//! finished is stored (`offsets`); librdkafka commits what is stored every second. A thread of its own polls all the
//! time (`pump`), whatever the calls take, so that the worker stays a member of its group; partitions that hold enough
//! are paused. There are no queues of single partitions: one consumer, one queue. Records are handed out one partition
//! after the other (`assignment`), and the publisher's key is the tenant, so that one tenant's flood holds up only the
//! tenants whose partition it shares: more partitions, fewer of them.
//!
//! * Ack: finished. Retry: held in this worker for that time and handed out again. There is no retry topic and no
//!   dead-letter topic: attempts are counted in our own database and dead letters are in our own table. Dropped: handed
//!   out again after `lease_secs`.
//! * While one record is stuck, the offset waits and the partition goes on, up to `max_ahead` records; then it is paused
//!   until that one ends. A crash repeats at most these; each is found decided and costs a look into the database.
//! * When a partition is taken away, what is finished is committed before it goes, and what is in work is lost to this
//!   worker: its lease is gone, it stores nothing, and the next owner repeats it.
//! * A consumer that has stalled, or that had a fatal error, is built anew: when [`Source::depth`] finds a lag, nothing
//!   is in work, and nothing has moved for `stall_secs`.
//!
//! # What the tests cannot show
//! They run against the mock brokers that librdkafka ships, on one machine. These have no TLS, no sign-in and no
//! transactions' end marks, do not create topics for us (`declare`), keep every copy in one process (so that `acks=all`
//! and a lost leader mean little), drop nothing by age or compaction, and rebalance after a fixed time. None of that
//! has been run against a real cluster here.

#[cfg(feature = "kafka")]
mod assignment;
#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod consume;
#[cfg(feature = "kafka")]
mod lag;
#[cfg(feature = "kafka")]
mod offsets;
#[cfg(feature = "kafka")]
mod publisher;
#[cfg(feature = "kafka")]
mod pump;
mod settings;
#[cfg(feature = "kafka")]
mod topic;

use std::{sync::Arc, time::Duration};

#[cfg(feature = "kafka")]
pub use self::{consume::KafkaSource, publisher::KafkaPublisher};
pub use settings::{KafkaConfig, PASSWORD_VARIABLE, SaslMechanism, SecurityProtocol};

use super::{Publisher, Source, SourceError};

/// The consumer's side of the topic.
///
/// # Errors
/// When the settings cannot be used.
#[cfg(feature = "kafka")]
pub fn source(config: &KafkaConfig, lease: Duration) -> Result<Box<dyn Source>, SourceError> {
    Ok(Box::new(KafkaSource::new(config, lease)?))
}

/// The producer's side of the topic.
///
/// # Errors
/// When the settings cannot be used.
#[cfg(feature = "kafka")]
pub fn publisher(config: &KafkaConfig) -> Result<Arc<dyn Publisher>, SourceError> {
    Ok(Arc::new(KafkaPublisher::new(config)?))
}

/// Says how to build with Kafka.
///
/// # Errors
/// Always.
#[cfg(not(feature = "kafka"))]
pub fn source(_: &KafkaConfig, _: Duration) -> Result<Box<dyn Source>, SourceError> {
    Err(not_built())
}

/// As [`source`].
///
/// # Errors
/// Always.
#[cfg(not(feature = "kafka"))]
pub fn publisher(_: &KafkaConfig) -> Result<Arc<dyn Publisher>, SourceError> {
    Err(not_built())
}

/// Why there is no Kafka here.
#[cfg(not(feature = "kafka"))]
fn not_built() -> SourceError {
    SourceError::Settings(
        "kind = \"kafka\": built without the feature kafka: cargo build --features kafka".into(),
    )
}
