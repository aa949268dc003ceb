//! The queues and exchanges: declared, or only looked for.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    RabbitmqConfig,
    connection::{Broker, SUCCESS, protocol_code},
};
use crate::sources::{SourceError, lane};

/// Names and arguments, all of them short enough for the protocol.
pub(super) struct Topology {
    /// The queue, or the queue of each lane.
    pub(super) queues: Vec<String>,
    /// Where messages are published; empty for the default exchange, which routes by the queue's name.
    pub(super) exchange: String,
    routing_key: Option<String>,
    /// Exchange and queue of what the broker itself gives up.
    dead: String,
    /// Whether the configuration names it: then it has to be there.
    names_dead: bool,
    declare: bool,
    delivery_limit: u32,
    max_length: Option<u32>,
}

impl Topology {
    /// What a checked configuration names.
    pub(super) fn new(config: &RabbitmqConfig) -> Self {
        let queues = match config.lanes {
            0 | 1 => vec![config.queue.clone()],
            lanes => (0..lanes).map(|lane| format!("{}.{lane}", config.queue)).collect(),
        };
        Self {
            queues,
            exchange: config.exchange.clone(),
            routing_key: config.routing_key.clone(),
            dead: config.dead_letter.clone().unwrap_or_else(|| format!("{}.dead", config.queue)),
            names_dead: config.dead_letter.is_some(),
            declare: config.declare,
            delivery_limit: config.delivery_limit,
            max_length: config.max_length,
        }
    }

    /// The routing key of a tenant's messages.
    pub(super) fn routing_key(&self, tenant_id: Option<&str>) -> &str {
        // At most 64 lanes, by the check of the configuration.
        let lane = lane(tenant_id, self.queues.len() as u16);
        self.routing_key.as_deref().unwrap_or(&self.queues[usize::from(lane)])
    }

    /// Declares everything, or looks for it. On a channel of its own, because the broker closes it when it refuses.
    pub(super) async fn stand_up(&self, broker: &Broker) -> Result<(), SourceError> {
        let channel = broker.channel().await?;
        if self.declare {
            self.declare_dead(broker, &channel).await?;
        } else if self.names_dead {
            let remedy = "with a queue bound to it, or leave [source.rabbitmq] dead_letter out: what the broker gives up would be gone";
            look_for_exchange(broker, &channel, &self.dead, remedy).await?;
        }
        for queue in &self.queues {
            self.declare_queue(broker, &channel, queue, self.arguments()).await?;
        }
        if !self.exchange.is_empty() && self.declare {
            self.declare_exchange(broker, &channel).await?;
        } else if !self.exchange.is_empty() {
            let remedy =
                "and bind it to the queue, set [source.rabbitmq] declare = true, or leave its exchange out";
            look_for_exchange(broker, &channel, &self.exchange, remedy).await?;
        }
        // Its end is of no interest: everything is there.
        drop(channel.close(SUCCESS, "OK".into()).await);
        Ok(())
    }

    /// A direct exchange, and what leads from it to every queue.
    async fn declare_exchange(&self, broker: &Broker, channel: &Channel) -> Result<(), SourceError> {
        let name = self.exchange.as_str();
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let exchange =
            channel.exchange_declare(name.into(), ExchangeKind::Direct, durable, FieldTable::default());
        exchange.await.map_err(|error| self.refused(broker, error, name))?;
        for queue in &self.queues {
            let key = self.routing_key.as_ref().unwrap_or(queue);
            let (queue, key) = (queue.as_str().into(), key.as_str().into());
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            let bind = channel.queue_bind(queue, name.into(), key, options, arguments);
            bind.await.map_err(|error| broker.failed(error))?;
        }
        Ok(())
    }

    /// Where the broker puts what it gives up: over the delivery limit. A backstop, our dead letters are in the store.
    async fn declare_dead(&self, broker: &Broker, channel: &Channel) -> Result<(), SourceError> {
        let name = self.dead.as_str();
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let exchange =
            channel.exchange_declare(name.into(), ExchangeKind::Fanout, durable, FieldTable::default());
        exchange.await.map_err(|error| self.refused(broker, error, name))?;
        self.declare_queue(broker, channel, name, quorum()).await?;
        let bind = channel.queue_bind(
            name.into(),
            name.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.map_err(|error| broker.failed(error))
    }

    /// Declares one queue, or looks for it.
    async fn declare_queue(
        &self,
        broker: &Broker,
        channel: &Channel,
        queue: &str,
        arguments: FieldTable,
    ) -> Result<(), SourceError> {
        let options = QueueDeclareOptions { passive: !self.declare, durable: true, ..Default::default() };
        let declared = channel.queue_declare(queue.into(), options, arguments).await;
        declared.map(drop).map_err(|error| self.refused(broker, error, queue))
    }

    /// Dead letters leave the queue only once the other one has them, which needs all of these arguments together.
    fn arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        let mut set = |name: &str, value| {
            arguments.insert(name.into(), value);
        };
        set("x-delivery-limit", AMQPValue::LongLongInt(self.delivery_limit.into()));
        set("x-dead-letter-exchange", text(&self.dead));
        set("x-dead-letter-strategy", text("at-least-once"));
        set("x-overflow", text("reject-publish"));
        if let Some(max_length) = self.max_length {
            set("x-max-length", AMQPValue::LongLongInt(max_length.into()));
        }
        arguments
    }

    /// What it means that the broker does not accept a declaration.
    fn refused(&self, broker: &Broker, error: lapin::Error, name: &str) -> SourceError {
        match protocol_code(&error) {
            Some(404) => SourceError::Refused(format!(
                "rabbitmq has no queue {name}: create it, or set [source.rabbitmq] declare = true"
            )),
            Some(405 | 406) => SourceError::Refused(format!(
                "rabbitmq has {name} with other settings: set [source.rabbitmq] declare = false to use it as it is, \
                 or delete it once it is empty ({error})"
            )),
            _ => broker.failed(error),
        }
    }
}

/// Looks for an exchange that is somebody else's, of whatever kind.
async fn look_for_exchange(
    broker: &Broker,
    channel: &Channel,
    name: &str,
    remedy: &str,
) -> Result<(), SourceError> {
    let look = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let looked = channel.exchange_declare(name.into(), ExchangeKind::Direct, look, FieldTable::default());
    looked.await.map_err(|error| match protocol_code(&error) {
        Some(404) => SourceError::Refused(format!("rabbitmq has no exchange {name}: create it {remedy}")),
        _ => broker.failed(error),
    })
}

/// The arguments of a replicated queue.
fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// A text as an argument.
fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
