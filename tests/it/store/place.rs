//! Where a check runs: a store in a database of its own, which is gone afterwards.

use std::sync::Arc;

use aftercheck::{
    database::{postgres, sqlite},
    domain::ReviewState,
    store::{
        self, Store,
        postgres::PostgresStore,
        reviewing::{Scope, first_free},
        sqlite::SqliteStore,
    },
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
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
    pub async fn count(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query);
        match &self.database {
            Database::Sqlite(database) => sqlx::query_scalar(query).fetch_one(database.read()).await.unwrap(),
            Database::Postgres { open, .. } => {
                sqlx::query_scalar(query).fetch_one(open.pool()).await.unwrap()
            }
        }
    }

    /// Adds so many evaluations that wait for a review, of fifty tenants and ten features, copied from the one that is there.
    pub async fn many_reviews(&self, count: usize) {
        let (tenant, feature) = ("'tenant-' || (n % 50)", "'feature-' || (n % 10)");
        for from in (1..=count).step_by(20_000) {
            let to = count.min(from + 19_999);
            let (rows, id) = match &self.database {
                Database::Sqlite(_) => (
                    format!(
                        "(WITH RECURSIVE n (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM n WHERE n < {to}) SELECT n FROM n)"
                    ),
                    "printf('%08x-0000-4000-8000-%012x', n, n)",
                ),
                Database::Postgres { .. } => (
                    format!("(SELECT n FROM generate_series({from}, {to}) n)"),
                    "(lpad(to_hex(n), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid",
                ),
            };
            let statements = [
                format!(
                    "INSERT INTO calls (tenant_id, request_id, body_digest, body, feature, occurred_ms, received_ms, source)
                     SELECT {tenant}, 'many-' || n, body_digest, body, {feature}, occurred_ms, received_ms, source
                     FROM calls, {rows} AS n WHERE request_id = 'kill-1'"
                ),
                format!(
                    "INSERT INTO evaluations (evaluation_id, tenant_id, request_id, evaluator_version, trace_id, feature,
                         occurred_at, evaluated_at, evaluated_ms, verdict, decided_by, reasons, rules, truncated, tokens_cut,
                         stages, probability)
                     SELECT {id}, {tenant}, 'many-' || n, evaluator_version, trace_id, {feature}, occurred_at, evaluated_at,
                         evaluated_ms, verdict, decided_by, reasons, rules, truncated, tokens_cut, stages, probability
                     FROM evaluations, {rows} AS n WHERE request_id = 'kill-1'"
                ),
                format!(
                    "INSERT INTO review_items (review_id, evaluation_id, tenant_id, feature, prompt_version, model, reason,
                         probability, created_ms, rank_ms)
                     SELECT {id}, {id}, {tenant}, {feature}, 'p', 'm', 'unsure_band', 1, n, n * 7919 % 604800
                     FROM {rows} AS n"
                ),
            ];
            for statement in statements {
                self.sql(&statement).await;
                // Foreign keys are looked up by plans that know how many rows there are.
                self.sql("ANALYZE").await;
            }
        }
    }

    /// How the database finds the next review.
    pub async fn plan_of_next(&self, scope: &Scope) -> String {
        let scoped = scope.tenants.is_some() || scope.features.is_some();
        match &self.database {
            Database::Sqlite(database) => {
                let plan =
                    format!("EXPLAIN QUERY PLAN {}", first_free(scope, store::sqlite::reviewing::DIALECT));
                let rows = sqlx::query(AssertSqlSafe(plan)).fetch_all(database.read()).await.unwrap();
                rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
            }
            Database::Postgres { open, .. } => {
                let plan = format!("EXPLAIN {}", first_free(scope, store::postgres::reviewing::DIALECT));
                let mut query =
                    sqlx::query_scalar::<_, String>(AssertSqlSafe(plan)).bind("open").bind("nobody");
                if scoped {
                    query = query.bind(scope.tenants.clone()).bind(scope.features.clone());
                }
                query.fetch_all(open.pool()).await.unwrap().join("\n")
            }
        }
    }

    /// How the database reads a page of the list of reviews in a state.
    pub async fn plan_of_page(&self, state: ReviewState) -> String {
        match &self.database {
            Database::Sqlite(database) => {
                let plan = format!("EXPLAIN QUERY PLAN {}", store::sqlite::reviewing::page_of(state));
                let rows = sqlx::query(AssertSqlSafe(plan)).fetch_all(database.read()).await.unwrap();
                rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
            }
            Database::Postgres { open, .. } => {
                let plan = format!("EXPLAIN {}", store::postgres::reviewing::page_of(state));
                let all = None::<Vec<String>>;
                let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(plan)).bind(&all).bind(&all);
                let query = query.bind(i64::MIN).bind(uuid::Uuid::nil()).bind(50_i64);
                query.fetch_all(open.pool()).await.unwrap().join("\n")
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
