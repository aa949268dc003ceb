//! The topic: looked for, and created where that is wanted.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{runtime::Handle, task::spawn_blocking};

use super::client::{Clients, Logged, absent, failed, lasting, unavailable};
use crate::sources::SourceError;

/// How long the brokers may take to say whether the topic is there, and then to create it.
const DEADLINE: Duration = Duration::from_secs(3);

/// Sees to it that the topic is there: creates it when it is absent and `declare` is set.
///
/// # Errors
/// When it is absent and must not be created, or the brokers do not answer; the message says what to do.
pub async fn ensure(clients: &Clients) -> Result<(), SourceError> {
    let clients = clients.clone();
    // The client blocks, when it is asked and when it ends.
    spawn_blocking(move || look(&clients)).await.map_err(|_| SourceError::Gone)?
}

/// Looks for the topic, and makes it where it may.
fn look(clients: &Clients) -> Result<(), SourceError> {
    let config = clients.config();
    let admin: AdminClient<Logged> = clients.plain().create_with_context(Logged).map_err(failed)?;
    let metadata = admin.inner().fetch_metadata(Some(&config.topic), DEADLINE);
    let metadata = metadata.map_err(|error| match error {
        KafkaError::MetadataFetch(code) => lasting(config, code).unwrap_or_else(|| unavailable(config, code)),
        error => failed(error),
    })?;
    let found = metadata.topics().iter().find(|topic| topic.name() == config.topic);
    match found.map(|topic| topic.error().map(RDKafkaErrorCode::from)) {
        Some(None) => Ok(()),
        None | Some(Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
            if config.declare {
                create(clients, &admin)
            } else {
                Err(absent(&config.topic))
            }
        }
        Some(Some(code)) => Err(lasting(config, code).unwrap_or_else(|| unavailable(config, code))),
    }
}

/// Makes the topic; another may have been quicker.
fn create(clients: &Clients, admin: &AdminClient<Logged>) -> Result<(), SourceError> {
    let config = clients.config();
    let replication = TopicReplication::Fixed(i32::from(config.replication));
    let topic = NewTopic::new(&config.topic, i32::from(config.partitions), replication);
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE));
    let created = Handle::current().block_on(admin.create_topics([&topic], &options)).map_err(failed)?;
    for outcome in created {
        match outcome {
            Ok(topic) => tracing::info!(topic, partitions = config.partitions, "topic created"),
            // Another worker was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(SourceError::Refused(format!(
                    "kafka: topic {topic} cannot be created: {code}; see [source.kafka] partitions and replication, or create it yourself"
                )));
            }
        }
    }
    Ok(())
}
