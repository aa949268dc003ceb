//! Mock brokers of librdkafka for `benches/queues`: prints their addresses, and ends with its standard input.
//!
//! `cargo bench --features kafka --bench mock_kafka -- TOPIC PARTITIONS`

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[cfg(feature = "kafka")]
fn main() -> anyhow::Result<()> {
    use std::io::Read;

    use anyhow::Context;

    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let [topic, partitions] = &arguments[..] else { anyhow::bail!("usage: mock_kafka TOPIC PARTITIONS") };
    let brokers = rdkafka::mocking::MockCluster::new(1)?;
    brokers.create_topic(topic, partitions.parse().context("PARTITIONS")?, 1)?;
    println!("{}", brokers.bootstrap_servers());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

#[cfg(not(feature = "kafka"))]
fn main() -> anyhow::Result<()> {
    anyhow::bail!("needs --features kafka")
}
