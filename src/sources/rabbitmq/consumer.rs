//! The consumer's side. See the module above for the supervisor that it is.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_core::Stream;
use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::{sleep, timeout};

use super::{
    MAX_PREFETCH, RabbitmqConfig, Settings, age,
    connection::{ASK_DEADLINE, Broker, CONNECT_DEADLINE, SUCCESS},
    delivery::{Life, Taken},
};
use crate::sources::{Delivery, Depth, Source, SourceError, held::Held};

/// What a queue answers whose members have no leader: nothing.
const NO_CONSUMER: &str = "rabbitmq did not set up the consumer: does its quorum queue have a leader? \
     (rabbitmq-queues quorum_status)";

/// How long a broker that has messages may deliver none to a consumer that holds none.
const MAX_STARVING: Duration = Duration::from_secs(20);

/// The consumer of the queue, or of all its lanes.
pub struct RabbitmqSource {
    settings: Settings,
    /// Most unacked deliveries, all lanes together.
    in_flight: usize,
    lease: Duration,
    held: Held<Taken>,
    link: Option<Link>,
}

impl RabbitmqSource {
    /// A consumer that has at most `in_flight` deliveries unacked. One that was dropped comes again after `lease`.
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`SourceError::Settings`] naming the key.
    pub fn new(config: &RabbitmqConfig, lease: Duration, in_flight: usize) -> Result<Self, SourceError> {
        let settings = config.settings()?;
        let lanes = settings.topology.queues.len();
        if lanes > in_flight {
            let text = format!("rabbitmq.lanes: need at most [pipeline] in_flight, which is {in_flight}");
            return Err(SourceError::Settings(text));
        }
        Ok(Self { settings, in_flight, lease, held: Held::new(in_flight), link: None })
    }

    /// The live connection, opened where there is none; with its consumers, where they are asked for.
    async fn linked(&mut self, consume: bool) -> Result<&mut Link, SourceError> {
        let live = self.link.take().filter(|link| !link.life.has_ended());
        let linking = async {
            let mut link = match live {
                Some(link) => link,
                None => {
                    // The broker gives them out again.
                    self.held.forget();
                    Link::open(&self.settings, self.lease).await?
                }
            };
            if consume && link.lanes.is_empty() {
                link.consume(&self.settings, self.in_flight).await?;
            }
            Ok::<_, SourceError>(link)
        };
        let late = |_| SourceError::Late(NO_CONSUMER);
        let link = timeout(CONNECT_DEADLINE, linking).await.map_err(late)??;
        Ok(self.link.insert(link))
    }

    /// Takes what is there, waiting for the first.
    async fn look(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, SourceError> {
        let Self { held, link, .. } = self;
        let Some(link) = link else { return Err(SourceError::Gone) };
        let life = link.life.clone();
        let mut deliveries = Vec::new();
        tokio::select! {
            biased;
            () = life.ended() => Err(broken("the connection has ended")),
            outcome = poll_fn(|context| link.poll(context, held, max, &mut deliveries)) => outcome,
            () = sleep(wait) => Ok(()),
        }?;
        Ok(deliveries)
    }
}

#[async_trait]
impl Source for RabbitmqSource {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, SourceError> {
        self.linked(true).await?;
        let outcome = self.look(max, wait).await;
        if outcome.is_err() {
            self.link = None;
        }
        outcome
    }

    async fn depth(&mut self) -> Result<Depth, SourceError> {
        self.linked(false).await?;
        let Self { settings, link: Some(link), .. } = self else { return Err(SourceError::Gone) };
        let outcome = match timeout(ASK_DEADLINE, link.depth(&settings.topology.queues)).await {
            Ok(outcome) => outcome,
            // A broker that was killed and starts again accepts connections and consumers before its queues work: only a
            // new connection brings messages then.
            Err(_) => Err(SourceError::Late("rabbitmq did not say how much waits")),
        };
        if outcome.is_err() {
            self.link = None;
        }
        outcome
    }

    async fn close(&mut self) -> Result<(), SourceError> {
        match self.link.take().filter(|link| !link.life.has_ended()) {
            Some(link) => link.close().await,
            None => Ok(()),
        }
    }
}

/// A connection that consumes.
struct Link {
    /// Given away when it is closed.
    broker: Option<Broker>,
    /// What the broker is asked on: a question about a queue that is gone closes the channel it is asked on.
    asking: Channel,
    /// None before the first receive.
    consuming: Option<Channel>,
    lanes: Vec<Lane>,
    /// The lane that is next.
    turn: usize,
    /// Since when something has been waiting that the broker could deliver and does not.
    starving: Option<Instant>,
    lease: Duration,
    life: Life,
}

/// One queue.
struct Lane {
    consumer: Consumer,
    /// When the message that came last was published, where it says so.
    published: Option<u64>,
}

impl Link {
    /// Connects and sets up the queues.
    async fn open(settings: &Settings, lease: Duration) -> Result<Self, SourceError> {
        let broker = Broker::open(&settings.address, "consumer").await?;
        settings.topology.stand_up(&broker).await?;
        let asking = broker.channel().await?;
        tracing::info!(queues = settings.topology.queues.len(), "connected to rabbitmq");
        let (lanes, life) = (Vec::new(), Life::default());
        let (broker, consuming, starving) = (Some(broker), None, None);
        Ok(Self { broker, asking, consuming, lanes, turn: 0, starving, lease, life })
    }

    /// Begins to consume. The prefetch comes first: without one the broker would send everything it has.
    async fn consume(&mut self, settings: &Settings, in_flight: usize) -> Result<(), SourceError> {
        let Some(broker) = &self.broker else { return Err(SourceError::Gone) };
        let channel = broker.channel().await?;
        let queues = &settings.topology.queues;
        for (place, queue) in queues.iter().enumerate() {
            // Holds for the consumers that come after it, each by itself; quorum queues know no other kind.
            let prefetch = share(in_flight, queues.len(), place);
            let set = channel.basic_qos(prefetch, BasicQosOptions::default()).await;
            set.map_err(|error| broker.failed(error))?;
            let (options, tag) = (BasicConsumeOptions::default(), "".into());
            let consumer =
                channel.basic_consume(queue.as_str().into(), tag, options, FieldTable::default()).await;
            let consumer = consumer.map_err(|error| broker.failed(error))?;
            self.lanes.push(Lane { consumer, published: None });
        }
        self.consuming = Some(channel);
        Ok(())
    }

    /// Takes at most `max`: first those that were held and are due, then one of each lane in turn, so that a tenant's
    /// flood in one lane is not in the way of the others.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        held: &mut Held<Taken>,
        max: usize,
        deliveries: &mut Vec<Delivery>,
    ) -> Poll<Result<(), SourceError>> {
        while deliveries.len() < max
            && let Poll::Ready(taken) = held.poll_due(context)
        {
            if taken.is_ours() {
                deliveries.push(taken.hand_out(self.lease, held.back()));
            }
        }
        let mut empty = 0;
        while deliveries.len() < max && empty < self.lanes.len() {
            let place = self.turn;
            self.turn = (place + 1) % self.lanes.len();
            let lane = &mut self.lanes[place];
            match Pin::new(&mut lane.consumer).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => {
                    empty = 0;
                    self.starving = None;
                    lane.published = *message.properties.timestamp();
                    deliveries.push(Taken::new(message, &self.life).hand_out(self.lease, held.back()));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failed(error))),
                Poll::Ready(None) => {
                    let error = broken("it has ended the consumer: a queue was deleted or has moved");
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => empty += 1,
            }
        }
        if deliveries.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// What waits in the queues and in this worker. A queue is first in, first out: what came last was about the oldest.
    ///
    /// # Errors
    /// [`SourceError`], also where the broker answers but delivers nothing of what waits: only a new connection helps then.
    async fn depth(&mut self, queues: &[String]) -> Result<Depth, SourceError> {
        let unsettled = self.life.unsettled() as u64;
        let (mut messages, mut oldest) = (unsettled, None);
        for (place, queue) in queues.iter().enumerate() {
            let look = QueueDeclareOptions { passive: true, ..Default::default() };
            let found = self.asking.queue_declare(queue.as_str().into(), look, FieldTable::default()).await;
            let waiting = found.map_err(|error| self.failed(error))?.message_count();
            messages += u64::from(waiting);
            let published = self.lanes.get(place).and_then(|lane| lane.published);
            oldest = oldest.max(published.filter(|_| waiting > 0).map(age));
        }
        // Nothing of the prefetch is used, so the broker should have delivered at once.
        let starves = unsettled == 0 && messages > 0 && !self.lanes.is_empty();
        let since = self.starving.filter(|_| starves).or_else(|| starves.then(Instant::now));
        self.starving = since;
        if since.is_some_and(|since| since.elapsed() > MAX_STARVING) {
            return Err(broken("it has messages and delivers nothing"));
        }
        let oldest = if messages == 0 { Some(Duration::ZERO) } else { oldest };
        Ok(Depth { messages, oldest })
    }

    /// What a failure means.
    fn failed(&self, error: lapin::Error) -> SourceError {
        match &self.broker {
            Some(broker) => broker.failed(error),
            None => SourceError::Gone,
        }
    }

    /// Closes the channel, which comes after the acks on it, and the connection.
    async fn close(mut self) -> Result<(), SourceError> {
        if let Some(channel) = self.consuming.take() {
            match timeout(ASK_DEADLINE / 2, channel.close(SUCCESS, "OK".into())).await {
                Ok(outcome) => outcome.map_err(|error| self.failed(error))?,
                Err(_) => return Err(SourceError::Late("rabbitmq did not close the channel")),
            }
        }
        match self.broker.take() {
            Some(broker) => broker.close().await,
            None => Ok(()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.life.end();
    }
}

/// One lane's part of the prefetch: they differ by one at most and come to the whole together.
fn share(in_flight: usize, lanes: usize, lane: usize) -> u16 {
    let share = in_flight / lanes + usize::from(lane < in_flight % lanes);
    // At most 2000.
    share.clamp(1, MAX_PREFETCH) as u16
}

/// The connection is of no more use.
fn broken(why: &'static str) -> SourceError {
    SourceError::Broker { queue: "rabbitmq", source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lanes_share_the_prefetch() {
        for (in_flight, lanes) in [(32, 1), (32, 5), (7, 7), (64, 64), (1999, 1)] {
            let shares: Vec<u16> = (0..lanes).map(|lane| share(in_flight, lanes, lane)).collect();
            assert_eq!(shares.iter().map(|share| usize::from(*share)).sum::<usize>(), in_flight);
            assert!(shares.iter().all(|share| *share >= 1), "{shares:?}");
        }
        assert_eq!(share(10_000, 1, 0), 2000);
    }
}
