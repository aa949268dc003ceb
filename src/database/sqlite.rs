//! The one SQLite file that holds queue and store: how it is opened and brought up to date.
//!
//! WAL with synchronous FULL: WAL with NORMAL may lose the last commits in a power cut. One writer
//! connection, because SQLite has one writer anyway and a queue of ours waits better than its busy handler;
//! writers begin with `BEGIN IMMEDIATE`, because a read transaction that upgrades fails at once with
//! BUSY_SNAPSHOT however long the busy timeout is. WAL does not work on network filesystems.

use std::{path::PathBuf, sync::LazyLock, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{
    Connection, Sqlite, SqlitePool, Transaction,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::migrations::migrator;

/// What makes the tables.
pub(super) const MIGRATION_FILES: &[(&str, &str)] = &[
    ("first light", include_str!("../../migrations/sqlite/0001_first_light.sql")),
    ("find by request", include_str!("../../migrations/sqlite/0002_find_by_request.sql")),
    ("doubts", include_str!("../../migrations/sqlite/0003_doubts.sql")),
    ("lanes", include_str!("../../migrations/sqlite/0004_lanes.sql")),
    ("redacted letters", include_str!("../../migrations/sqlite/0005_redacted_letters.sql")),
    ("erased and sealed", include_str!("../../migrations/sqlite/0006_erased_and_sealed.sql")),
    (
        "rules with their evaluation",
        include_str!("../../migrations/sqlite/0007_rules_with_their_evaluation.sql"),
    ),
    ("retractions", include_str!("../../migrations/sqlite/0008_retractions.sql")),
    ("judging", include_str!("../../migrations/sqlite/0009_judging.sql")),
    ("scan", include_str!("../../migrations/sqlite/0010_scan.sql")),
    ("cost unknown", include_str!("../../migrations/sqlite/0011_cost_unknown.sql")),
    ("receipts", include_str!("../../migrations/sqlite/0012_receipts.sql")),
    ("sinks", include_str!("../../migrations/sqlite/0013_sinks.sql")),
    ("notices", include_str!("../../migrations/sqlite/0014_notices.sql")),
    ("review", include_str!("../../migrations/sqlite/0015_review.sql")),
    ("golden", include_str!("../../migrations/sqlite/0016_golden.sql")),
    ("people", include_str!("../../migrations/sqlite/0017_people.sql")),
    ("details of conditions", include_str!("../../migrations/sqlite/0018_details_of_conditions.sql")),
    ("sinks watched", include_str!("../../migrations/sqlite/0019_sinks_watched.sql")),
    (
        "prune horizon and closed reviews",
        include_str!("../../migrations/sqlite/0020_prune_horizon_and_closed_reviews.sql"),
    ),
];
/// The same as the driver wants them.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(MIGRATION_FILES));
/// How long another process may hold the write lock before we give up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a query may wait for a connection of its pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often migrations are tried, and the pause between two tries.
const MIGRATION_TRIES: u32 = 5;
const MIGRATION_PAUSE: Duration = Duration::from_millis(200);
/// Read connections; the pages, `why` and `report` share them.
const READERS: u32 = 4;

/// `[sqlite]`: where queue and store live when they are SQLite.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteConfig {
    /// The database file, created when absent. Not on a network filesystem.
    pub path: PathBuf,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self { path: PathBuf::from("aftercheck.db") }
    }
}

/// An open database: one writer, several readers.
#[derive(Debug, Clone)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens the file, creating it when absent, and applies what migrations are missing.
    ///
    /// # Errors
    /// When the file cannot be opened or a migration of this file is unknown to this binary.
    pub async fn open(config: &SqliteConfig) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(&config.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            // Always, not only while something is erased: pages that are moved leave copies behind.
            .pragma("secure_delete", "on");
        let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
        // SQLite itself rolls back when the disk is full. The driver's own rollback then fails, and it takes the
        // connection for one in a transaction for ever: such a one is closed, and the pool opens another.
        let writer = pool()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await?;
        migrate(&writer).await?;
        let readers = pool().max_connections(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers })
    }

    /// Begins a write transaction; waits for the one before.
    ///
    /// # Errors
    /// When the write lock cannot be had in time.
    pub async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// Connections for reading.
    pub fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// Migrations that this file has, newest last: version and description.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn migrations(&self) -> Result<Vec<(i64, String)>, sqlx::Error> {
        sqlx::query_as("SELECT version, description FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&self.readers)
            .await
    }

    /// Closes all connections, checkpointing the log.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Applies missing migrations. SQLite has no lock for this as servers have: where several processes start at once, one
/// may find a table that another has made since it looked. It looks again then; each migration is one transaction.
async fn migrate(writer: &SqlitePool) -> Result<(), sqlx::Error> {
    for _ in 1..MIGRATION_TRIES {
        if MIGRATIONS.run(writer).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(MIGRATION_PAUSE).await;
    }
    Ok(MIGRATIONS.run(writer).await?)
}
