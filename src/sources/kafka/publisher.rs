//! The producer: a message is accepted once every copy of its partition has it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{DeliveryFuture, FutureProducer, FutureRecord},
};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout_at},
};

use super::{
    KafkaConfig,
    client::{Clients, Logged, failed, lasting, unavailable},
    topic,
};
use crate::sources::{Message, Publisher, SourceError};

/// How long publishing may take, the wait for all reports included.
const DEADLINE: Duration = Duration::from_secs(8);
/// Pause while the client's own queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Publishes to the topic.
pub struct KafkaPublisher {
    clients: Clients,
    /// Connected when it is first used; gone after a fatal error.
    producer: Mutex<Option<FutureProducer<Logged>>>,
    /// Set once the topic is known to be there.
    there: OnceCell<()>,
}

impl KafkaPublisher {
    /// A publisher with these settings; nothing is connected.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn new(config: &KafkaConfig) -> Result<Self, SourceError> {
        Ok(Self { clients: Clients::new(config)?, producer: Mutex::new(None), there: OnceCell::new() })
    }

    /// The client, made where there is none.
    fn producer(&self) -> Result<FutureProducer<Logged>, SourceError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let made: FutureProducer<Logged> =
            self.clients.producer().create_with_context(Logged).map_err(failed)?;
        Ok(producer.insert(made).clone())
    }

    /// Hands the message at a place to the client, waiting while its queue is full.
    async fn send(
        &self,
        producer: &FutureProducer<Logged>,
        (place, message): (usize, &Message),
        deadline: Instant,
    ) -> Result<DeliveryFuture, SourceError> {
        loop {
            let mut record = FutureRecord::to(&self.clients.config().topic).payload(&message.payload[..]);
            // Calls of one tenant share a partition: partitions take turns, and so do tenants.
            if let Some(tenant) = &message.tenant_id {
                record = record.key(tenant.as_bytes());
            }
            match producer.send_result(record) {
                Ok(report) => return Ok(report),
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) if Instant::now() < deadline => {
                    sleep(FULL_PAUSE).await;
                }
                Err((error, _)) => return Err(self.refused(place, error)),
            }
        }
    }

    /// What the failed message at a place means to who sent it.
    fn refused(&self, place: usize, error: KafkaError) -> SourceError {
        let config = self.clients.config();
        let KafkaError::MessageProduction(code) = error else { return failed(error) };
        match code {
            Code::Fatal => {
                // The client will take nothing more; the next publish makes another.
                drop(self.producer.lock().unwrap_or_else(PoisonError::into_inner).take());
                failed(error)
            }
            Code::MessageSizeTooLarge => SourceError::Unfit {
                place,
                why: "larger than kafka takes; raise max.message.bytes of the topic, and \"message.max.bytes\" in \
                      [source.kafka] properties"
                    .into(),
            },
            Code::MessageTimedOut | Code::QueueFull => {
                unavailable(config, "messages were not confirmed in time and should be sent again")
            }
            code => lasting(config, code).unwrap_or_else(|| failed(error)),
        }
    }

    /// Hands all messages to the client, then waits for each report.
    async fn publish_until(&self, messages: &[Message], deadline: Instant) -> Result<(), SourceError> {
        self.there.get_or_try_init(|| topic::ensure(&self.clients)).await?;
        let producer = self.producer()?;
        let mut reports = Vec::with_capacity(messages.len());
        for message in messages.iter().enumerate() {
            reports.push(self.send(&producer, message, deadline).await?);
        }
        for (place, report) in reports.into_iter().enumerate() {
            match report.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => return Err(self.refused(place, error)),
                Err(_) => return Err(SourceError::Gone),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), SourceError> {
        let deadline = Instant::now() + DEADLINE;
        match timeout_at(deadline, self.publish_until(&messages, deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unavailable(
                self.clients.config(),
                "messages were not confirmed in time and should be sent again",
            )),
        }
    }
}
