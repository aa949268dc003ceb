//! One tenant's flood and another's few calls through the whole pipeline.

use std::sync::Arc;

use aftercheck::{
    evaluators::{
        nli::{calibration::Scale, evidence::WindowConfig},
        rules::Rules,
    },
    pipeline::{self, Pipeline, PipelineConfig, cascade::Cascade},
    redaction::Redactor,
    sources::Message,
    store::sqlite::SqliteStore,
};
use tokio_util::sync::CancellationToken;

use super::{LONG, Queue, postgres, sqlite};
use crate::service::call;

/// Calls of the flood.
const FLOOD: usize = 1000;
/// Calls of the other tenant, queued after it.
const FEW: usize = 10;

/// Calls of a tenant, all of which can be evaluated.
fn calls(tenant: &str, count: usize) -> Vec<Message> {
    let calls = (0..count).map(|number| {
        let mut call = call(number);
        call["tenant_id"] = tenant.into();
        call["tokens_in"] = 1.into();
        super::message(tenant, call.to_string())
    });
    calls.collect()
}

/// Drains the queue by rules alone, and gives how many calls of the flood were committed before the last of the few.
async fn flood_before_the_few(queue: &dyn Queue) -> i64 {
    let store = sqlite::open().await.unwrap();
    let publisher = queue.publisher().await;
    publisher.publish(calls("flood", FLOOD)).await.unwrap();
    publisher.publish(calls("few", FEW)).await.unwrap();
    let pipeline = Pipeline {
        redactor: Arc::new(Redactor::shipped()),
        cascade: Cascade::new(
            Rules::shipped().unwrap(),
            None,
            WindowConfig::default(),
            Scale::default(),
            0.01,
        ),
        keeper: Arc::default(),
        store: Arc::new(SqliteStore::new(store.database.clone())),
        sinks: Vec::new(),
        routes: Arc::default(),
        config: PipelineConfig { in_flight: 8, ..Default::default() },
        pulse: Arc::default(),
    };
    let settled = pipeline::run(pipeline, queue.consumer(LONG).await, CancellationToken::new(), true).await;
    assert_eq!(settled, (FLOOD + FEW) as u64);
    let count =
        async |query| -> i64 { sqlx::query_scalar(query).fetch_one(store.database.read()).await.unwrap() };
    assert_eq!(count("SELECT count(*) FROM evaluations").await, (FLOOD + FEW) as i64);
    // Rows of this table are numbered as they are written.
    count(
        "SELECT count(*) FROM evaluations WHERE tenant_id = 'flood'
         AND rowid < (SELECT max(rowid) FROM evaluations WHERE tenant_id = 'few')",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_few_are_evaluated_while_the_flood_waits_in_sqlite() {
    let before = flood_before_the_few(&sqlite::open().await.unwrap()).await;
    assert!(before < 100, "{before} calls of the flood came first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_few_are_evaluated_while_the_flood_waits_in_postgres() {
    let Some(queue) = postgres::open().await else { return };
    let before = flood_before_the_few(&queue).await;
    assert!(before < 100, "{before} calls of the flood came first");
}
