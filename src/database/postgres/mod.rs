//! The Postgres server: how it is reached, and how every use of it is bounded.
//!
//! The driver has no keepalive and no read deadline, so a server that is cut off would hang a query until the kernel
//! gives up. Every use therefore runs under [`bounded`], and a connection that was not given back by its user, after an
//! error or a deadline, is thrown away: the server rolls back, and the pool opens another.

mod bounded;
mod config;
mod relay;

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, LazyLock},
    time::Duration,
};

use sqlx::{
    Connection, PgConnection, PgPool, Postgres,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use self::{bounded::refused_login, relay::Relay};
pub use self::{
    bounded::{bounded, needs_operator, passes, within},
    config::{LONGEST_STATEMENT_SECS, PostgresConfig},
};
use super::{DatabaseError, migrations::migrator};

/// What makes the tables.
pub(super) const MIGRATION_FILES: &[(&str, &str)] =
    &[("queue and store", include_str!("../../../migrations/postgres/0001_queue_and_store.sql"))];
/// The same as the driver wants them.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(MIGRATION_FILES));
/// How long a use may wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long migrations may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the farewell to a server may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open server.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    place: String,
    config: Arc<PostgresConfig>,
    /// What the pool connects through.
    _relay: Option<Relay>,
}

impl Database {
    /// Connects and applies what migrations are missing.
    ///
    /// # Errors
    /// [`DatabaseError`] when the settings cannot be used, the server does not answer, or it holds a migration that is
    /// unknown to this binary.
    pub async fn open(config: &PostgresConfig) -> Result<Self, DatabaseError> {
        let (options, place) = config.options()?;
        let failed = |source| DatabaseError::Postgres { place: place.clone(), source };
        // Straight to the server, whose errors are then told as they are.
        migrate(&options).await.map_err(failed)?;
        let (options, relay) = Relay::lead(options);
        let pool = PgPoolOptions::new()
            .max_connections(config.connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Ok(Self { pool, place, config: Arc::new(config.clone()), _relay: relay })
    }

    /// A connection; one that is dropped without [`Lent::give_back`] is thrown away.
    ///
    /// # Errors
    /// When none is free in time, or the server cannot be reached.
    pub async fn connection(&self) -> Result<Lent, sqlx::Error> {
        let acquired = match self.pool.acquire().await {
            Err(error) if refused_login(&error) && self.read_password() => self.pool.acquire().await,
            acquired => acquired,
        };
        Ok(Lent { connection: Some(acquired?) })
    }

    /// How who wants a connection of its own connects now: with the password that its file holds, where there is one that can
    /// be read, else with that of the last connection.
    pub fn options_now(&self) -> PgConnectOptions {
        let options = self.pool.connect_options().as_ref().clone();
        match self.config.password() {
            Ok(Some(password)) => options.password(&password),
            Ok(None) | Err(_) => options,
        }
    }

    /// Reads the password again, which may have been changed; false where there is no file or it cannot be read.
    fn read_password(&self) -> bool {
        match self.config.password() {
            Ok(Some(password)) => {
                self.pool
                    .set_connect_options(self.pool.connect_options().as_ref().clone().password(&password));
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::error!(%error, "postgres refused the login, and the password cannot be read again");
                false
            }
        }
    }

    /// A connection on which a transaction has begun; without [`Lent::commit`] it is rolled back, by
    /// [`Lent::roll_back`] or by throwing the connection away.
    ///
    /// # Errors
    /// As [`Database::connection`].
    pub async fn transaction(&self) -> Result<Lent, sqlx::Error> {
        let mut lent = self.connection().await?;
        sqlx::query("BEGIN").execute(&mut *lent).await?;
        Ok(lent)
    }

    /// A connection on which a transaction has begun that only reads, sees one state of everything, and whose
    /// statements may take longer than others.
    ///
    /// # Errors
    /// As [`Database::connection`].
    pub async fn snapshot(&self, limit: Duration) -> Result<Lent, sqlx::Error> {
        let mut lent = self.connection().await?;
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *lent).await?;
        // The planner's default is for disks that turn: it would read whole tables for the last hour's rows.
        sqlx::query(
            "SELECT set_config('statement_timeout', $1, true), set_config('random_page_cost', '1.1', true),
                 set_config('enable_seqscan', 'on', true)",
        )
        .bind(limit.as_millis().to_string())
        .execute(&mut *lent)
        .await?;
        Ok(lent)
    }

    /// The pool, for those that listen.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Host, port and database.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Migrations that the server has, newest last: version and description.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn migrations(&self) -> Result<Vec<(i64, String)>, sqlx::Error> {
        sqlx::query_as("SELECT version, description FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&self.pool)
            .await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Applies missing migrations without the limits that are meant for short statements: an index on a large table takes
/// its time. The driver's advisory lock lets one process do it while the others wait. A connection of its own: unlike
/// the pool's it is not tried again until the time is over, and its error is that of the server.
async fn migrate(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let late = |_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
    let connecting = PgConnection::connect_with(options);
    let mut connection = timeout(ACQUIRE_TIMEOUT, connecting).await.unwrap_or_else(late)?;
    sqlx::raw_sql(
        "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0",
    )
    .execute(&mut connection)
    .await?;
    match timeout(MIGRATION_TIMEOUT, MIGRATIONS.run_direct(None, &mut connection, false)).await {
        Ok(done) => done?,
        Err(_) => return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
    // It has no limits and is not for others.
    drop(timeout(CLOSE_TIMEOUT, connection.close()).await);
    Ok(())
}

/// A connection that its user gives back, or that is thrown away.
pub struct Lent {
    connection: Option<PoolConnection<Postgres>>,
}

impl Lent {
    /// Ends the transaction for good and gives the connection back.
    ///
    /// # Errors
    /// What the server said. Lost in between, nobody knows whether it was committed: ask by key.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        sqlx::query("COMMIT").execute(&mut *self).await?;
        self.give_back();
        Ok(())
    }

    /// Ends the transaction as if it had never been and gives the connection back: for one that came to nothing, where throwing
    /// the connection away would cost whoever asks next a new one.
    ///
    /// # Errors
    /// What the server said.
    pub async fn roll_back(mut self) -> Result<(), sqlx::Error> {
        sqlx::query("ROLLBACK").execute(&mut *self).await?;
        self.give_back();
        Ok(())
    }

    /// Gives the connection back to the pool, ready for others.
    pub fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Something may be under way on it. Closing the socket makes the server roll back, and frees the place.
            drop(connection.detach());
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "only `commit`, `roll_back`, `give_back` and `drop` take the connection, and they end it"
)]
impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("a lent connection is there until it ends")
    }
}

#[expect(clippy::expect_used, reason = "as for `Deref`")]
impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("a lent connection is there until it ends")
    }
}
