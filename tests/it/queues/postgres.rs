//! The queue table of Postgres, on the server that `AFTERCHECK_TEST_POSTGRES` names
//! (`postgres://postgres@127.0.0.1:5432/postgres`): each test makes a database of its own there and drops it.

use std::{env, sync::Arc, thread, time::Duration};

use aftercheck::{
    database::postgres::{Database, PostgresConfig},
    sources::{LANES, Publisher, Source, lane, postgres::PostgresSource},
};
use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::{LONG, Queue, message, numbered, suite};

suite!(open);

/// A queue in a database of its own.
pub struct PostgresQueue {
    pub database: Database,
    pub url: String,
    server: String,
    name: String,
}

/// An empty queue; none without a server.
pub async fn open() -> Option<PostgresQueue> {
    let Ok(server) = env::var("AFTERCHECK_TEST_POSTGRES") else {
        println!("skipped: AFTERCHECK_TEST_POSTGRES names no server");
        return None;
    };
    let name = format!("aftercheck_{}", Uuid::now_v7().simple());
    execute(&server, &format!("CREATE DATABASE {name}")).await;
    let (place, _) = server.rsplit_once('/').unwrap();
    let url = format!("{place}/{name}");
    let config = PostgresConfig { url: Some(url.clone().into()), connections: 6, ..Default::default() };
    let database = Database::open(&config).await.unwrap();
    Some(PostgresQueue { database, url, server, name })
}

/// Runs a statement on the server's own database.
async fn execute(server: &str, statement: &str) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

impl Drop for PostgresQueue {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A test's own runtime may be about to end.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)")));
        });
        drop(dropped.join());
    }
}

#[async_trait]
impl Queue for PostgresQueue {
    async fn consumer(&self, lease: Duration) -> Box<dyn Source> {
        Box::new(PostgresSource::new(self.database.clone(), lease))
    }

    async fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(PostgresSource::new(self.database.clone(), LONG))
    }
}

/// Process ids of the sessions of this database that listen.
async fn listeners(queue: &PostgresQueue) -> Vec<i32> {
    let query =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    sqlx::query_scalar(query).fetch_all(queue.database.pool()).await.unwrap()
}

/// Waits until a session other than `not` listens.
async fn listener(queue: &PostgresQueue, not: Option<i32>) -> i32 {
    for _ in 0..600 {
        if let Some(&pid) = listeners(queue).await.iter().find(|&&pid| Some(pid) != not) {
            return pid;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody listens")
}

/// Publishes while a consumer waits that polls once an hour, and says whether it was woken.
async fn is_woken(queue: &PostgresQueue, source: &mut PostgresSource) -> bool {
    let publish = async {
        // The consumer has looked by then, and found nothing.
        tokio::time::sleep(Duration::from_millis(300)).await;
        queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    };
    let (deliveries, ()) = tokio::join!(source.receive(1, Duration::from_secs(10)), publish);
    !deliveries.unwrap().is_empty()
}

#[tokio::test]
async fn a_consumer_is_woken_and_its_listener_is_built_anew() {
    let Some(queue) = open().await else { return };
    let hour = Duration::from_secs(3600);
    let mut source = PostgresSource::new(queue.database.clone(), LONG).polling_every(hour);
    assert!(source.receive(1, Duration::ZERO).await.unwrap().is_empty());
    let first = listener(&queue, None).await;
    assert!(is_woken(&queue, &mut source).await);
    let ended = sqlx::query("SELECT pg_terminate_backend($1)").bind(first);
    ended.execute(queue.database.pool()).await.unwrap();
    listener(&queue, Some(first)).await;
    assert!(is_woken(&queue, &mut source).await);
    drop(source);
    for _ in 0..600 {
        if listeners(&queue).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the listener outlives its consumer");
}

#[tokio::test]
async fn without_word_the_queue_is_looked_at_all_the_same() {
    let Some(queue) = open().await else { return };
    let mut source = queue.consumer(LONG).await;
    let insert = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let insert = sqlx::query("INSERT INTO queue (lane, payload) VALUES (0, 'x')");
        insert.execute(queue.database.pool()).await.unwrap();
    };
    let (deliveries, ()) = tokio::join!(source.receive(1, Duration::from_secs(20)), insert);
    assert_eq!(deliveries.unwrap().len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_strands_nothing() {
    let Some(queue) = open().await else { return };
    let mut source = queue.consumer(Duration::from_secs(60)).await;
    queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    // Written an hour from now, as this clock sees it.
    let later = sqlx::query("UPDATE queue SET available_ms = available_ms + 3600000");
    later.execute(queue.database.pool()).await.unwrap();
    assert_eq!(source.receive(10, Duration::ZERO).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_row_behind_the_floor_is_found() {
    let Some(queue) = open().await else { return };
    let mut source = queue.consumer(LONG).await;
    queue.publisher().await.publish(numbered("acme", 10)).await.unwrap();
    assert_eq!(super::some(&mut *source, 10).await.len(), 10);
    // Due long before the row that was taken last, as if its publisher had committed late.
    let insert = sqlx::query("INSERT INTO queue (lane, payload, available_ms) VALUES ($1, 'late', 1)");
    let insert = insert.bind(lane(Some("acme"), LANES) as i16);
    insert.execute(queue.database.pool()).await.unwrap();
    assert_eq!(&super::one(&mut *source).await.payload[..], b"late");
}

#[tokio::test]
async fn a_backlog_that_is_not_counted_is_estimated() {
    let Some(queue) = open().await else { return };
    let mut source = queue.consumer(LONG).await;
    let insert = sqlx::query(
        "INSERT INTO queue (lane, payload) SELECT n % 64, 'x' FROM generate_series(1, 50000) AS n",
    );
    insert.execute(queue.database.pool()).await.unwrap();
    super::depth(&mut *source, |messages| (25_000..=100_000).contains(&messages)).await;
}
