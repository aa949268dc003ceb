//! Where a check runs: a store in a database of its own, which is gone afterwards.

use std::sync::Arc;

use aftercheck::{
    database::{postgres, sqlite},
    store::{Store, postgres::PostgresStore, sqlite::SqliteStore},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::{LocalSet, spawn_local};

/// Names the server that tests may use.
const SERVER: &str = "AFTERCHECK_TEST_POSTGRES";

/// A store and the database under it.
#[derive(Clone)]
pub struct Place {
    pub store: Arc<dyn Store>,
    database: Database,
}

/// Either database.
#[derive(Clone)]
enum Database {
    Sqlite(sqlite::Database),
    Postgres { open: postgres::Database, url: String },
}

impl Place {
    /// Runs SQL beside the store.
    pub async fn sql(&self, statement: &str) {
        match &self.database {
            Database::Sqlite(database) => {
                let mut tx = database.write().await.unwrap();
                sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await.unwrap();
                tx.commit().await.unwrap();
            }
            Database::Postgres { open, .. } => {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(open.pool()).await.unwrap();
            }
        }
    }

    /// Asks for a number beside the store.
    pub async fn count(&self, query: &'static str) -> i64 {
        match &self.database {
            Database::Sqlite(database) => sqlx::query_scalar(query).fetch_one(database.read()).await.unwrap(),
            Database::Postgres { open, .. } => {
                sqlx::query_scalar(query).fetch_one(open.pool()).await.unwrap()
            }
        }
    }

    /// The URL of the Postgres database.
    pub fn url(&self) -> &str {
        match &self.database {
            Database::Sqlite(_) => panic!("SQLite has none"),
            Database::Postgres { url, .. } => url,
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite(database) => database.close().await,
            Database::Postgres { open, .. } => open.close().await,
        }
    }

    /// Another worker on the same Postgres database.
    pub async fn another(&self, config: impl FnOnce(&mut postgres::PostgresConfig)) -> Self {
        open_postgres(self.url().to_owned(), config).await
    }
}

/// Runs a check on SQLite.
pub async fn on_sqlite<F, Fut>(check: F)
where
    F: FnOnce(Place) -> Fut,
    Fut: Future<Output = ()>,
{
    let folder = tempfile::tempdir().unwrap();
    let config = sqlite::SqliteConfig { path: folder.path().join("a.db") };
    let database = sqlite::Database::open(&config).await.unwrap();
    let store = Arc::new(SqliteStore::new(database.clone()));
    check(Place { store, database: Database::Sqlite(database) }).await;
}

/// Runs a check on Postgres, where there is a server.
pub async fn on_postgres<F, Fut>(check: F)
where
    F: FnOnce(Place) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let Ok(server) = std::env::var(SERVER) else {
        return println!("skipped: {SERVER} names no server");
    };
    let name = format!("aftercheck_test_{}", uuid::Uuid::new_v5(&uuid::Uuid::now_v7(), b"").simple());
    let (head, _) = server.rsplit_once('/').expect("a URL that ends with a database");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
    let place = open_postgres(format!("{head}/{name}"), |_| {}).await;
    // A task of its own: the database goes also where the check fails.
    let local = LocalSet::new();
    let outcome = local.run_until(async { spawn_local(check(place)).await }).await;
    let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::raw_sql(drop).execute(&mut admin).await.unwrap();
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// The URL of a server that tests may use; says so where there is none.
pub fn server() -> Option<String> {
    let server = std::env::var(SERVER).ok();
    if server.is_none() {
        println!("skipped: {SERVER} names no server");
    }
    server
}

/// A store on a Postgres database that is there.
async fn open_postgres(url: String, configure: impl FnOnce(&mut postgres::PostgresConfig)) -> Place {
    let mut config =
        postgres::PostgresConfig { url: Some(url.clone().into()), connections: 4, ..Default::default() };
    configure(&mut config);
    let open = postgres::Database::open(&config).await.unwrap();
    let store = Arc::new(PostgresStore::new(open.clone()));
    Place { store, database: Database::Postgres { open, url } }
}
