//! Whether a long backlog drains at its end as it did at its start. A measurement, not a test: it prints.

use std::time::{Duration, Instant};

use super::{LONG, Queue, ack, numbered, postgres, sqlite};

/// Publishes a backlog of one tenant, drains it, and prints the rate of each tenth.
async fn drain(queue: &dyn Queue) {
    let wanted = std::env::var("AFTERCHECK_BACKLOG").ok().and_then(|count| count.parse().ok());
    let (messages, batch) = (wanted.unwrap_or(200_000usize), 1000);
    let publisher = queue.publisher().await;
    let begun = Instant::now();
    for _ in 0..messages / batch {
        publisher.publish(numbered("acme", batch)).await.unwrap();
    }
    println!("{messages} published, {:.0}/s", messages as f64 / begun.elapsed().as_secs_f64());
    let mut source = queue.consumer(LONG).await;
    for tenth in 1..=10 {
        let (begun, mut drained, mut slowest) = (Instant::now(), 0, Duration::ZERO);
        while drained < messages / 10 {
            let asked = Instant::now();
            let deliveries =
                source.receive(64.min(messages / 10 - drained), Duration::from_secs(5)).await.unwrap();
            slowest = slowest.max(asked.elapsed());
            drained += deliveries.len();
            ack(deliveries).await;
        }
        let rate = drained as f64 / begun.elapsed().as_secs_f64();
        let asked = Instant::now();
        let depth = source.depth().await.unwrap().messages;
        println!(
            "tenth {tenth}: {rate:.0}/s, slowest receive {slowest:.1?}, depth {depth} in {:.1?}",
            asked.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: AFTERCHECK_BACKLOG=1000000 cargo test --test it backlog -- --ignored --nocapture"]
async fn a_backlog_in_sqlite() {
    drain(&sqlite::open().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: AFTERCHECK_BACKLOG=1000000 cargo test --test it backlog -- --ignored --nocapture"]
async fn a_backlog_in_postgres() {
    if let Some(queue) = postgres::open().await {
        drain(&queue).await;
    }
}
