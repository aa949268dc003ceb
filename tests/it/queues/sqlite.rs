//! The queue table of SQLite.

use std::{sync::Arc, time::Duration};

use aftercheck::{
    database::sqlite::{Database, SqliteConfig},
    sources::{LANES, Publisher, Source, lane, sqlite::SqliteSource},
};
use async_trait::async_trait;

use super::{LONG, Queue, message, numbered, suite};

suite!(open);

/// A queue in a folder of its own.
pub struct SqliteQueue {
    pub database: Database,
    _folder: tempfile::TempDir,
}

/// An empty queue.
pub async fn open() -> Option<SqliteQueue> {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&SqliteConfig { path: folder.path().join("a.db") }).await.unwrap();
    Some(SqliteQueue { database, _folder: folder })
}

impl SqliteQueue {
    /// Runs a statement beside the queue.
    async fn execute(&self, statement: &'static str) {
        let mut tx = self.database.write().await.unwrap();
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn consumer(&self, lease: Duration) -> Box<dyn Source> {
        Box::new(SqliteSource::new(self.database.clone(), lease))
    }

    async fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(SqliteSource::new(self.database.clone(), LONG))
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_strands_nothing() {
    let queue = open().await.unwrap();
    let mut source = queue.consumer(Duration::from_secs(60)).await;
    queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    // Written an hour from now, as this clock sees it.
    queue.execute("UPDATE queue SET available_ms = available_ms + 3600000").await;
    assert_eq!(source.receive(10, Duration::ZERO).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_tenant_has_its_lane() {
    let queue = open().await.unwrap();
    queue.publisher().await.publish(numbered("acme", 3)).await.unwrap();
    let query = sqlx::query_scalar("SELECT DISTINCT lane FROM queue");
    let lanes: Vec<u16> = query.fetch_all(queue.database.read()).await.unwrap();
    assert_eq!(lanes, [lane(Some("acme"), LANES)]);
}
