//! The RabbitMQ source on a real broker, whose URL is in `AFTERCHECK_TEST_AMQP`.

mod faults;
mod journey;
mod proxy;

use std::{
    collections::BTreeMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use aftercheck::sources::{
    Delivery, Disposition, Message, Publisher, Source, SourceError,
    rabbitmq::{RabbitmqConfig, RabbitmqPublisher, RabbitmqSource},
};
use bytes::Bytes;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Longest that anything here may take before the test says so; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// One look at the queue.
const WAIT: Duration = Duration::from_secs(1);

/// A queue of this test's own, and a connection beside the ones that are tested.
struct Queue {
    config: RabbitmqConfig,
    channel: Channel,
    _connection: Connection,
}

/// Runs a test on a queue that does not exist yet, and deletes it afterwards.
fn on_a_queue<F: Future<Output = ()>>(lanes: u16, test: impl FnOnce(&'static Queue) -> F) {
    let Ok(url) = std::env::var("AFTERCHECK_TEST_AMQP") else {
        return println!("skipped: AFTERCHECK_TEST_AMQP names no broker");
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Lives to the end of the process, so that tasks of the test may use it.
    let queue: &'static Queue = Box::leak(Box::new(runtime.block_on(Queue::new(&url, lanes))));
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(queue))));
    runtime.block_on(queue.delete());
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl Queue {
    async fn new(url: &str, lanes: u16) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let queue = format!("aftercheck.test.{}", Uuid::now_v7());
        let config = RabbitmqConfig {
            url: Some(url.into()),
            queue,
            lanes,
            heartbeat_secs: 5,
            ..RabbitmqConfig::default()
        };
        Self { config, channel, _connection: connection }
    }

    /// The queues that are consumed.
    fn names(&self) -> Vec<String> {
        let queue = &self.config.queue;
        match self.config.lanes {
            1 => vec![queue.clone()],
            lanes => (0..lanes).map(|lane| format!("{queue}.{lane}")).collect(),
        }
    }

    fn source(&self, in_flight: usize) -> RabbitmqSource {
        RabbitmqSource::new(&self.config, WAIT, in_flight).unwrap()
    }

    async fn publish(&self, payloads: &[&[u8]]) {
        let messages = payloads.iter().map(|payload| message(payload, None)).collect();
        RabbitmqPublisher::new(&self.config).unwrap().publish(messages).await.unwrap();
    }

    /// Messages that the broker has given to nobody.
    async fn ready(&self) -> u32 {
        let mut ready = 0;
        for name in self.names() {
            let look = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = self.channel.queue_declare(name.into(), look, FieldTable::default()).await.unwrap();
            ready += queue.message_count();
        }
        ready
    }

    /// Deletes the queues themselves.
    async fn delete_queues(&self) {
        for name in self.names() {
            self.channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
        }
    }

    /// Deletes everything.
    async fn delete(&self) {
        self.delete_queues().await;
        let dead = format!("{}.dead", self.config.queue);
        self.channel.queue_delete(dead.clone().into(), QueueDeleteOptions::default()).await.unwrap();
        self.channel.exchange_delete(dead.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

/// A message of a tenant.
fn message(payload: &[u8], tenant_id: Option<&str>) -> Message {
    Message { payload: Bytes::copy_from_slice(payload), tenant_id: tenant_id.map(str::to_owned) }
}

/// Receives until there are this many.
async fn take(source: &mut RabbitmqSource, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    timeout(PATIENCE, async {
        while taken.len() < count {
            taken.extend(source.receive(count - taken.len(), WAIT).await.unwrap());
        }
    })
    .await
    .unwrap_or_else(|_| panic!("only {} of {count} came", taken.len()));
    taken
}

/// Receives until it fails.
async fn failure(source: &mut RabbitmqSource) -> SourceError {
    let failing = async {
        loop {
            if let Err(error) = source.receive(1, WAIT).await {
                return error;
            }
        }
    };
    timeout(PATIENCE, failing).await.expect("the source says that its connection is gone")
}

/// Receives, again after every failure, until there are this many.
async fn recover(source: &mut RabbitmqSource, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    let recovering = async {
        while taken.len() < count {
            match source.receive(count, WAIT).await {
                Ok(deliveries) => taken.extend(deliveries),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(PATIENCE, recovering).await.expect("the source recovers");
    taken
}

/// Asks until it holds.
async fn holds<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let asking = async {
        while !ask().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what}"));
}

#[test]
fn deliveries_end_as_they_are_told() {
    on_a_queue(1, async |queue| {
        queue.publish(&[b"acked", b"retried", b"dropped"]).await;
        let mut source = queue.source(8);
        let mut taken = take(&mut source, 3).await.into_iter();
        assert_eq!(source.depth().await.unwrap().messages, 3);
        taken.next().unwrap().settle(Disposition::Ack).await.unwrap();
        taken.next().unwrap().settle(Disposition::Retry(Duration::from_millis(200))).await.unwrap();
        drop(taken.next());
        assert_eq!(queue.ready().await, 0, "what waits is not given back to the broker");
        assert_eq!(source.depth().await.unwrap().messages, 2);
        // The wait of the second is shorter than the lease of the third.
        for payload in ["retried", "dropped"] {
            let again = take(&mut source, 1).await.remove(0);
            assert_eq!(again.payload, payload);
            again.extend().await.unwrap();
            again.settle(Disposition::Ack).await.unwrap();
        }
        assert_eq!(source.depth().await.unwrap().messages, 0);
        source.close().await.unwrap();
        assert_eq!(queue.ready().await, 0, "the broker has every ack");
    });
}

#[test]
fn what_is_unsettled_when_the_source_closes_comes_to_the_next() {
    on_a_queue(1, async |queue| {
        queue.publish(&[b"acked", b"held", b"open"]).await;
        let mut source = queue.source(8);
        let mut taken = take(&mut source, 3).await.into_iter();
        taken.next().unwrap().settle(Disposition::Ack).await.unwrap();
        taken.next().unwrap().settle(Disposition::Retry(PATIENCE)).await.unwrap();
        let open = taken.next().unwrap();
        source.close().await.unwrap();
        assert!(matches!(open.extend().await, Err(SourceError::LeaseLost)));
        assert!(matches!(open.settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
        let mut next = queue.source(8);
        let mut payloads: Vec<Bytes> = take(&mut next, 2).await.iter().map(|it| it.payload.clone()).collect();
        payloads.sort();
        assert_eq!(payloads, ["held", "open"]);
    });
}

#[test]
fn every_byte_comes_as_it_was_sent() {
    on_a_queue(1, async |queue| {
        // Every byte value, in an order that repeats late; a whole MiB, and nothing at all.
        let large: Vec<u8> =
            (0..1_048_576_u32).map(|place| (place ^ (place >> 8) ^ (place >> 16)) as u8).collect();
        queue.publish(&[&large, b"", b"\xff\x00\n"]).await;
        let mut source = queue.source(8);
        let taken = take(&mut source, 3).await;
        assert!(taken[0].payload == large, "a MiB came changed");
        assert_eq!((&taken[1].payload[..], &taken[2].payload[..]), (&b""[..], &b"\xff\x00\n"[..]));
    });
}

#[test]
fn publishing_to_a_queue_that_is_gone_is_an_error_and_the_next_declares_it() {
    on_a_queue(1, async |queue| {
        let publisher = RabbitmqPublisher::new(&queue.config).unwrap();
        publisher.publish(vec![message(b"1", None)]).await.unwrap();
        queue.delete_queues().await;
        let error = publisher.publish(vec![message(b"2", None)]).await.unwrap_err();
        assert!(
            matches!(&error, SourceError::Refused(text) if text.contains(&queue.config.queue)),
            "{error}"
        );
        publisher.publish(vec![message(b"3", None)]).await.unwrap();
        assert_eq!(take(&mut queue.source(1), 1).await[0].payload, "3");
    });
}

#[test]
fn a_full_queue_refuses_what_is_published() {
    on_a_queue(1, async |queue| {
        let config = RabbitmqConfig { max_length: Some(2), ..queue.config.clone() };
        let publisher = RabbitmqPublisher::new(&config).unwrap();
        // Such a queue may take some more than it was told to.
        let filling = async {
            loop {
                if let Err(error) = publisher.publish(vec![message(b"one too many", None)]).await {
                    return error;
                }
            }
        };
        let error = timeout(PATIENCE, filling).await.unwrap().to_string();
        assert!(error.contains("max-length"), "{error}");
        assert!(queue.ready().await < 20, "it is refused, not dropped");
    });
}

#[test]
fn what_is_missing_or_otherwise_is_named_with_its_remedy() {
    on_a_queue(1, async |queue| {
        let looking = RabbitmqConfig { declare: false, ..queue.config.clone() };
        let publisher = RabbitmqPublisher::new(&looking).unwrap();
        let mut source = RabbitmqSource::new(&looking, WAIT, 4).unwrap();
        for error in [
            source.receive(1, WAIT).await.err().unwrap().to_string(),
            source.depth().await.unwrap_err().to_string(),
            publisher.publish(vec![message(b"x", None)]).await.unwrap_err().to_string(),
        ] {
            assert!(error.contains(&queue.config.queue) && error.contains("declare = true"), "{error}");
        }
        queue.publish(&[b"x"]).await;
        let other = RabbitmqConfig { delivery_limit: 7, ..queue.config.clone() };
        let error =
            RabbitmqSource::new(&other, WAIT, 4).unwrap().receive(1, WAIT).await.err().unwrap().to_string();
        assert!(error.contains("declare = false") && error.contains("x-delivery-limit"), "{error}");
        // Now that the queue is there, the ones that only look for it find it.
        publisher.publish(vec![message(b"y", None)]).await.unwrap();
        assert_eq!(take(&mut source, 2).await.len(), 2);
        let exchange = RabbitmqConfig { exchange: "aftercheck.test.nowhere".into(), ..looking.clone() };
        let publisher = RabbitmqPublisher::new(&exchange).unwrap();
        let error = publisher.publish(vec![message(b"x", None)]).await.unwrap_err().to_string();
        assert!(error.contains("aftercheck.test.nowhere") && error.contains("bind it"), "{error}");
        let dead_letter = Some("aftercheck.test.nobody".to_owned());
        let dead = RabbitmqConfig { dead_letter, ..looking.clone() };
        let error =
            RabbitmqSource::new(&dead, WAIT, 4).unwrap().receive(1, WAIT).await.err().unwrap().to_string();
        assert!(error.contains("aftercheck.test.nobody") && error.contains("dead_letter out"), "{error}");
        // The broker's own fanout exchange is there, and bound to nothing.
        let exchange = RabbitmqConfig { exchange: "amq.fanout".into(), ..looking.clone() };
        let publisher = RabbitmqPublisher::new(&exchange).unwrap();
        let error = publisher.publish(vec![message(b"x", None)]).await.unwrap_err().to_string();
        assert!(error.contains("bind it to the queue"), "{error}");
    });
}

#[test]
fn an_exchange_is_declared_and_leads_to_every_lane() {
    on_a_queue(3, async |queue| {
        let name = |what: &str| format!("{}.{what}", queue.config.queue);
        let (exchange, dead) = (name("calls"), name("given-up"));
        let config = RabbitmqConfig {
            exchange: exchange.clone(),
            dead_letter: Some(dead.clone()),
            ..queue.config.clone()
        };
        let publisher = RabbitmqPublisher::new(&config).unwrap();
        let tenants: Vec<String> = (0..12).map(|tenant| format!("tenant-{tenant}")).collect();
        let messages = tenants.iter().map(|tenant| message(tenant.as_bytes(), Some(tenant)));
        publisher.publish(messages.collect()).await.unwrap();
        let taken = take(&mut RabbitmqSource::new(&config, WAIT, 16).unwrap(), 12).await;
        let mut payloads: Vec<_> = taken.iter().map(|taken| taken.payload.to_vec()).collect();
        payloads.sort();
        let mut sent: Vec<_> = tenants.into_iter().map(String::into_bytes).collect();
        sent.sort();
        assert_eq!(payloads, sent);
        drop(taken);
        let look = ExchangeDeclareOptions { passive: true, ..Default::default() };
        for exchange in [exchange, dead.clone()] {
            let (name, kind) = (exchange.as_str().into(), ExchangeKind::Direct);
            queue.channel.exchange_declare(name, kind, look, FieldTable::default()).await.unwrap();
            let delete = ExchangeDeleteOptions::default();
            queue.channel.exchange_delete(exchange.into(), delete).await.unwrap();
        }
        queue.channel.queue_delete(dead.into(), QueueDeleteOptions::default()).await.unwrap();
    });
}

#[test]
fn a_wrong_password_is_an_error_that_does_not_repeat_it() {
    on_a_queue(1, async |queue| {
        let place = std::env::var("AFTERCHECK_TEST_AMQP").unwrap().rsplit('@').next().unwrap().to_owned();
        let url = format!("amqp://sesame-user:sesame-word@{}", place.trim_start_matches("amqp://"));
        let config = RabbitmqConfig { url: Some(url.into()), ..queue.config.clone() };
        let debug = format!("{config:?}");
        let published = RabbitmqPublisher::new(&config).unwrap().publish(vec![message(b"x", None)]).await;
        let received = RabbitmqSource::new(&config, WAIT, 1).unwrap().receive(1, WAIT).await;
        let errors = [published.unwrap_err(), received.err().unwrap()];
        for text in errors.iter().flat_map(|error| [error.to_string(), format!("{error:?}")]) {
            assert!(text.contains("password_file") && !text.contains("sesame"), "{text}");
        }
        assert!(!debug.contains("sesame"), "{debug}");
        queue.publish(&[b"so that there is something to delete"]).await;
    });
}

#[test]
fn never_more_are_unacked_than_may_be_in_flight() {
    for lanes in [1, 3] {
        on_a_queue(lanes, async |queue| {
            let messages: Vec<_> =
                (0..200).map(|number| message(b"x", Some(&format!("tenant-{}", number % 20)))).collect();
            RabbitmqPublisher::new(&queue.config).unwrap().publish(messages).await.unwrap();
            let mut source = queue.source(5);
            let (mut left, mut most) = (200, 0);
            while left > 0 {
                let deliveries = take(&mut source, 1).await;
                let unacked = left - queue.ready().await;
                most = most.max(unacked);
                for delivery in deliveries {
                    delivery.settle(Disposition::Ack).await.unwrap();
                    left -= 1;
                }
            }
            assert!(most <= 5, "{most} unacked at a time");
            assert!(most >= 2, "the broker sends ahead");
        });
    }
}

#[test]
fn one_tenants_flood_does_not_starve_another() {
    on_a_queue(8, async |queue| {
        let flood = (0..3000).map(|_| message(b"flood", Some("flooding tenant")));
        let few = (0..10).map(|_| message(b"few", Some("quiet tenant")));
        let publisher = RabbitmqPublisher::new(&queue.config).unwrap();
        publisher.publish(flood.collect()).await.unwrap();
        publisher.publish(few.collect()).await.unwrap();
        let mut source = queue.source(32);
        let mut order = Vec::new();
        while order.len() < 60 {
            for delivery in take(&mut source, 1).await {
                order.push(delivery.payload.clone());
                delivery.settle(Disposition::Ack).await.unwrap();
            }
        }
        let few = order.iter().filter(|payload| *payload == "few").count();
        assert_eq!(few, 10, "the quiet tenant's ten came among the first sixty");
    });
}

#[test]
fn depth_tells_the_age_of_what_waits() {
    on_a_queue(1, async |queue| {
        let mut source = queue.source(1);
        assert_eq!(source.depth().await.unwrap().oldest, Some(Duration::ZERO), "nothing waits");
        queue.publish(&[b"1", b"2", b"3"]).await;
        assert_eq!(source.depth().await.unwrap().oldest, None, "not known before one has come");
        let _first = take(&mut source, 1).await;
        let depth = source.depth().await.unwrap();
        assert_eq!(depth.messages, 3);
        assert!(depth.oldest.is_some_and(|oldest| oldest < PATIENCE), "{depth:?}");
    });
}

/// The tenants' lanes are those that every producer computes.
#[test]
fn lanes_hold_what_their_tenants_sent() {
    on_a_queue(4, async |queue| {
        let tenants = ["acme", "globex", "initech", "umbrella", "hooli", "vandelay"];
        let messages = tenants.map(|tenant| message(tenant.as_bytes(), Some(tenant))).to_vec();
        RabbitmqPublisher::new(&queue.config).unwrap().publish(messages).await.unwrap();
        let mut expected = BTreeMap::new();
        for tenant in tenants {
            *expected.entry(aftercheck::sources::lane(Some(tenant), 4)).or_insert(0) += 1;
        }
        for (lane, name) in queue.names().into_iter().enumerate() {
            let look = QueueDeclareOptions { passive: true, ..Default::default() };
            let found = queue.channel.queue_declare(name.into(), look, FieldTable::default()).await.unwrap();
            assert_eq!(
                found.message_count(),
                expected.get(&(lane as u16)).copied().unwrap_or(0),
                "lane {lane}"
            );
        }
    });
}
