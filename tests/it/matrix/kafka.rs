//! Row 22 with Kafka, as librdkafka's own mock cluster plays it: consumers that come and go, a broker that goes.

use std::{thread::sleep, time::Duration};

use rdkafka::mocking::MockCluster;

use super::{
    crashes::{dies_at_every_point, spawn},
    ledger::Row,
};
use crate::service::Parts;

/// The topic of these tests.
const TOPIC: &str = "faults";
/// Its partitions.
const PARTITIONS: i32 = 6;

/// A cluster with the topic.
fn cluster(brokers: i32) -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, brokers.min(3)).unwrap();
    cluster
}

/// A service whose calls come from this cluster.
fn parts(servers: &str) -> Parts {
    let config = format!(
        "[source]\nkind = \"kafka\"\nlease_secs = 2\n[source.kafka]\nbrokers = {servers:?}\ntopic = \"{TOPIC}\"\n\
         properties = {{ \"session.timeout.ms\" = \"6000\" }}\n"
    );
    Parts { config: Some(config), ..Parts::default() }
}

/// Long: the group waits for a dead member until its session ends, at each point.
#[test]
#[ignore = "long: scripts/faults --all"]
fn row_01_kafka_dies_at_every_point() {
    let cluster = super::with(|| cluster(1));
    dies_at_every_point("kafka (mock)", parts(&cluster.bootstrap_servers())).must_hold();
}

/// Row 22: members join and leave, by a signal and by a kill, while calls come; then the brokers go.
fn group_changes(rounds: usize) {
    let cluster = super::with(|| cluster(3));
    let fault = format!("{rounds} members come and go, brokers down and up");
    let mut row = Row::new("22", fault, parts(&cluster.bootstrap_servers()));
    let stays = row.worker(&[("AFTERCHECK_SLOW_MS", "50")]);
    let flow = row.flow(5, Duration::from_millis(200));
    row.await_more(20);
    for round in 0..rounds {
        if round % 2 == 0 {
            let comes = row.worker(&[("AFTERCHECK_SLOW_MS", "50")]);
            sleep(Duration::from_secs(5));
            row.stop(vec![comes]);
        } else {
            let mut comes = spawn(&row, &[("AFTERCHECK_SLOW_MS", "50")]);
            sleep(Duration::from_secs(5));
            comes.kill().unwrap();
            comes.wait().unwrap();
        }
    }
    for broker in 1..=3 {
        cluster.broker_down(broker).unwrap();
    }
    sleep(Duration::from_secs(5));
    for broker in 1..=3 {
        cluster.broker_up(broker).unwrap();
    }
    row.settle(flow, vec![stays]).must_hold();
}

#[test]
fn row_22_kafka_group_changes() {
    group_changes(2);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_22_kafka_group_changes_long() {
    group_changes(12);
}
