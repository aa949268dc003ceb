//! What a queue promises.

use std::time::Duration;

use aftercheck::{
    database::sqlite::{Database, SqliteConfig},
    sources::{Disposition, Message, Publisher, Source, SourceError, sqlite::SqliteSource},
};
use bytes::Bytes;

/// A database in a folder of its own, which must outlive it.
async fn open() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&SqliteConfig { path: folder.path().join("a.db") }).await.unwrap();
    (folder, database)
}

/// A message to be queued.
fn queued(payload: &'static [u8]) -> Message {
    Message { payload: Bytes::from_static(payload), tenant_id: None }
}

#[tokio::test]
async fn a_worker_that_was_paused_past_its_lease_can_settle_nothing() {
    let (_folder, database) = open().await;
    let wait = Duration::from_secs(5);
    let mut paused = SqliteSource::new(database.clone(), Duration::from_millis(50));
    let mut other = SqliteSource::new(database, Duration::from_secs(60));
    paused.publish(vec![queued(b"x")]).await.unwrap();
    let stale = paused.receive(10, wait).await.unwrap().remove(0);
    let fresh = other.receive(10, wait).await.unwrap().remove(0);
    assert!(matches!(stale.extend().await, Err(SourceError::LeaseLost)));
    assert!(matches!(stale.settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
    assert_eq!(other.depth().await.unwrap().messages, 1, "the stale ack removed nothing");
    fresh.settle(Disposition::Ack).await.unwrap();
    assert_eq!(other.depth().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_retried_delivery_comes_again_and_not_before_its_time() {
    let (_folder, database) = open().await;
    let mut queue = SqliteSource::new(database, Duration::from_secs(60));
    queue.publish(vec![queued(b"x")]).await.unwrap();
    let delivery = queue.receive(10, Duration::ZERO).await.unwrap().remove(0);
    delivery.settle(Disposition::Retry(Duration::from_millis(300))).await.unwrap();
    assert!(queue.receive(10, Duration::ZERO).await.unwrap().is_empty());
    assert_eq!(queue.receive(10, Duration::from_secs(30)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_strands_nothing() {
    let (_folder, database) = open().await;
    let mut queue = SqliteSource::new(database.clone(), Duration::from_secs(60));
    queue.publish(vec![queued(b"x")]).await.unwrap();
    // Written an hour from now, as this clock sees it.
    let mut tx = database.write().await.unwrap();
    sqlx::query("UPDATE queue SET available_ms = available_ms + 3600000").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(queue.receive(10, Duration::ZERO).await.unwrap().len(), 1);
}
