//! A consumer that only acknowledges: what the queue itself can give. `benches/queues` runs it beside `run`.
//!
//! `cargo bench --bench bare_consumer -- QUEUE COUNT` takes the broker's URL from `AMQP_URL`, receives COUNT messages
//! with the prefetch that `run` has by default, acknowledges each, and prints one line of JSON.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use aftercheck::pipeline::PipelineConfig;
use anyhow::{Context, ensure};
use futures_lite::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde_json::json;
use tokio::time::timeout;

/// Longest wait for one message.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let [queue, count] = &arguments[..] else { anyhow::bail!("usage: bare_consumer QUEUE COUNT") };
    let count: u64 = count.parse().context("COUNT")?;
    let url = std::env::var("AMQP_URL").context("AMQP_URL")?;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let prefetch = u16::try_from(PipelineConfig::default().in_flight)?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let begun = Instant::now();
    let mut deliveries = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut bytes = 0;
    for _ in 0..count {
        let delivery = timeout(PATIENCE, deliveries.next()).await.context("no message in time")?;
        let delivery = delivery.context("the queue ended")??;
        bytes += delivery.data.len();
        ensure!(delivery.ack(BasicAckOptions::default()).await?, "an acknowledgement was not sent");
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{}", json!({"messages": count, "bytes": bytes, "seconds": seconds}));
    Ok(())
}
