//! A consumer that only acknowledges: what the queue itself can give. `benches/queues` runs it beside `run`.
//!
//! `cargo bench --bench bare_consumer -- SOURCE QUEUE COUNT IN_FLIGHT` receives COUNT messages as `run` does (prefetch, batches,
//! offsets stored), settles each, and prints one line of JSON. SOURCE is `rabbitmq` (the broker's URL is in
//! `AMQP_URL`), `sqs` (the emulator's address is in `AFTERCHECK_TEST_SQS`) or `kafka` (brokers in `KAFKA_BROKERS`).

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use futures_lite::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

/// Longest wait for one message.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let [source, queue, count, in_flight] = &arguments[..] else {
        anyhow::bail!("usage: bare_consumer SOURCE QUEUE COUNT IN_FLIGHT")
    };
    let in_flight: u16 = in_flight.parse().context("IN_FLIGHT")?;
    let count: u64 = count.parse().context("COUNT")?;
    // The clock starts once it consumes; on Kafka with the first record, which waits for the group.
    let seconds = match source.as_str() {
        "rabbitmq" => rabbitmq(queue, count, in_flight).await,
        "sqs" => sqs(queue, count, in_flight).await,
        #[cfg(feature = "kafka")]
        "kafka" => kafka(queue, count),
        other => anyhow::bail!("no source {other:?} here"),
    }?;
    println!("{}", json!({"messages": count, "seconds": seconds}));
    Ok(())
}

/// One message after the other, with the prefetch of `run`.
async fn rabbitmq(queue: &str, count: u64, in_flight: u16) -> anyhow::Result<f64> {
    let url = std::env::var("AMQP_URL").context("AMQP_URL")?;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(in_flight, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = channel.basic_consume(queue.into(), "".into(), options, arguments).await?;
    let begun = Instant::now();
    for _ in 0..count {
        let delivery = timeout(PATIENCE, deliveries.next()).await.context("no message in time")?;
        let delivery = delivery.context("the queue ended")??;
        ensure!(delivery.ack(BasicAckOptions::default()).await?, "an acknowledgement was not sent");
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Receives of ten side by side, as many as `run` has permits for; each deletes what it got in one call.
async fn sqs(queue: &str, count: u64, in_flight: u16) -> anyhow::Result<f64> {
    let endpoint = std::env::var("AFTERCHECK_TEST_SQS").context("AFTERCHECK_TEST_SQS")?;
    let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .load()
        .await;
    let client = aws_sdk_sqs::Client::new(&shared);
    let found = client.get_queue_url().queue_name(queue).send().await?;
    let url = found.queue_url().context("no URL")?.to_owned();
    let begun = Instant::now();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut pollers = JoinSet::new();
    for _ in 0..in_flight / 10 {
        let (client, url, done) = (client.clone(), url.clone(), done.clone());
        pollers.spawn(async move {
            use std::sync::atomic::Ordering::SeqCst;
            while done.load(SeqCst) < count {
                let received =
                    client.receive_message().queue_url(&url).max_number_of_messages(10).send().await?;
                let entries: Vec<_> = received
                    .messages()
                    .iter()
                    .enumerate()
                    .filter_map(|(place, message)| {
                        let entry = DeleteMessageBatchRequestEntry::builder().id(place.to_string());
                        entry.set_receipt_handle(message.receipt_handle.clone()).build().ok()
                    })
                    .collect();
                if entries.is_empty() {
                    continue;
                }
                let deleted =
                    client.delete_message_batch().queue_url(&url).set_entries(Some(entries)).send().await?;
                ensure!(deleted.failed().is_empty(), "a message was not deleted");
                done.fetch_add(deleted.successful().len() as u64, SeqCst);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = pollers.join_next().await {
        ended??;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// One record after the other; offsets are stored, and committed in the background.
#[cfg(feature = "kafka")]
fn kafka(topic: &str, count: u64) -> anyhow::Result<f64> {
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer},
    };

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", std::env::var("KAFKA_BROKERS").context("KAFKA_BROKERS")?);
    config
        .set("group.id", "bare")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false");
    // As `benches/queues` sets them for `run`.
    config.set("session.timeout.ms", "4000").set("heartbeat.interval.ms", "200");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[topic])?;
    // A poll that handles a rebalance gives nothing.
    let next = || {
        let until = Instant::now() + PATIENCE;
        std::iter::from_fn(|| (Instant::now() < until).then(|| consumer.poll(PATIENCE)))
            .find_map(|polled| polled)
            .context("no record in time")
    };
    let (mut record, begun) = (next()??, Instant::now());
    for _ in 1..count {
        consumer.store_offset_from_message(&record)?;
        record = next()??;
    }
    Ok(begun.elapsed().as_secs_f64())
}
