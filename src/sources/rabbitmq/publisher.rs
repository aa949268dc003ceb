//! The producer's side: what it returns for is on the queue, stored by a majority of its replicas.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::{
    RabbitmqConfig, Settings,
    connection::{Broker, CONNECT_DEADLINE},
    unix_secs,
};
use crate::sources::{Message, Publisher, SourceError};

/// How long the broker may take to accept or to confirm the next message. Shorter than the deadline of a request over
/// HTTP, so that its producer hears why.
const STEP_DEADLINE: Duration = Duration::from_secs(8);
/// The message is to survive the broker.
const PERSISTENT: u8 = 2;

/// The producer of the queue, or of all its lanes; connects when it is first used, and again after a failure.
pub struct RabbitmqPublisher {
    settings: Settings,
    /// Held while a batch is sent: the client numbers the messages of a channel before it sends them, so two batches at
    /// a time could take each other's confirms. They wait for the confirms side by side.
    line: Mutex<Option<Arc<Line>>>,
}

/// A connection that publishes.
struct Line {
    broker: Broker,
    channel: Channel,
}

impl RabbitmqPublisher {
    /// A producer for the configured queue.
    ///
    /// # Errors
    /// [`SourceError::Settings`] naming the key.
    pub fn new(config: &RabbitmqConfig) -> Result<Self, SourceError> {
        Ok(Self { settings: config.settings()?, line: Mutex::new(None) })
    }

    /// Opens a connection with a channel that confirms.
    async fn open(&self) -> Result<Line, SourceError> {
        let opening = async {
            let broker = Broker::open(&self.settings.address, "publisher").await?;
            self.settings.topology.stand_up(&broker).await?;
            let channel = broker.channel().await?;
            let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirms.map_err(|error| broker.failed(error))?;
            Ok(Line { broker, channel })
        };
        let late = |_| SourceError::Late("rabbitmq did not set up the producer");
        timeout(CONNECT_DEADLINE, opening).await.map_err(late)?
    }

    /// Sends a batch over the live connection; gives what it will be confirmed with.
    async fn send(&self, messages: Vec<Message>) -> Result<(Arc<Line>, Vec<PublisherConfirm>), SourceError> {
        let mut kept = self.line.lock().await;
        let line = match kept.take().filter(|line| line.stands()) {
            Some(line) => line,
            None => Arc::new(self.open().await?),
        };
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            // After an error nobody uses the connection again: half a batch may be on its way.
            confirms.push(line.in_time(self.send_one(&line, message)).await?);
        }
        *kept = Some(Arc::clone(&line));
        Ok((line, confirms))
    }

    /// Sends one message.
    async fn send_one(&self, line: &Line, message: Message) -> Result<PublisherConfirm, lapin::Error> {
        let topology = &self.settings.topology;
        let key = topology.routing_key(message.tenant_id.as_deref());
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_timestamp(unix_secs())
            .with_message_id(Uuid::now_v7().to_string().into());
        let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
        let exchange = topology.exchange.as_str().into();
        line.channel.basic_publish(exchange, key.into(), mandatory, &message.payload, properties).await
    }

    /// Waits until the broker has confirmed all.
    async fn confirmed(&self, line: &Line, confirms: Vec<PublisherConfirm>) -> Result<(), SourceError> {
        for confirm in confirms {
            match line.in_time(confirm).await? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                    let (key, said) = (&returned.routing_key, &returned.reply_text);
                    return Err(SourceError::Refused(match self.settings.topology.exchange.as_str() {
                        "" => format!(
                            "rabbitmq has no queue {key} any more ({said}): publish again, or create it"
                        ),
                        name => format!(
                            "rabbitmq's exchange {name} routes {key} to no queue ({said}): bind it to the queue"
                        ),
                    }));
                }
                Confirmation::Nack(None) => {
                    return Err(SourceError::Refused(
                        "rabbitmq refuses the message: the queue holds as much as its max-length allows, or has no \
                         majority of its replicas; publish again later"
                            .into(),
                    ));
                }
                Confirmation::NotRequested => {
                    return Err(SourceError::Refused(
                        "rabbitmq's channel does not confirm: publish again".into(),
                    ));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Publisher for RabbitmqPublisher {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), SourceError> {
        let (line, confirms) = self.send(messages).await?;
        let outcome = self.confirmed(&line, confirms).await;
        if outcome.is_err() {
            let mut kept = self.line.lock().await;
            kept.take_if(|kept| Arc::ptr_eq(kept, &line));
        }
        outcome
    }
}

impl Line {
    /// Whether it can be used, as far as the client knows.
    fn stands(&self) -> bool {
        self.broker.stands() && self.channel.status().connected()
    }

    /// Waits for one step of the broker, and says why it may not have come.
    async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, lapin::Error>>,
    ) -> Result<T, SourceError> {
        match timeout(STEP_DEADLINE, step).await {
            Ok(outcome) => outcome.map_err(|error| self.broker.failed(error)),
            Err(_) if self.broker.blocked() => Err(SourceError::Refused(
                "rabbitmq takes no messages: it is short of memory or disk (`rabbitmqctl status` says which); \
                 publish again when the alarm is over"
                    .into(),
            )),
            Err(_) => Err(SourceError::Late("rabbitmq has not confirmed")),
        }
    }
}
