//! The Postgres server: how it is reached, and how every use of it is bounded.
//!
//! The driver has no keepalive and no read deadline, so a server that is cut off would hang a query until the kernel
//! gives up. Every use therefore runs under [`bounded`], and a connection that was not given back by its user, after an
//! error or a deadline, is thrown away: the server rolls back, and the pool opens another.
//!
//! The driver (sqlx 0.9) does not set `TCP_NODELAY` and offers no way to: a statement of several segments waits for the
//! server's delayed acknowledgement, some 40 ms each time. Over a Unix socket the same transactions were four times as
//! fast (166 against 652 messages a second through `benches/queues`).

use std::{
    ops::{Deref, DerefMut},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::{
    Connection, PgConnection, PgPool, Postgres,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions},
};
use tokio::time::{sleep, timeout};

use super::DatabaseError;

/// Migrations, compiled in; forward only, checked by checksum.
static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");
/// How long a use may wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one use may take, waits for its connection and further tries included. Longer than the server's own limits
/// may be, so that the server is heard where it can be.
const USE_TIMEOUT: Duration = Duration::from_secs(25);
/// The longest limit of the server that leaves room for that, in seconds.
pub const LONGEST_STATEMENT_SECS: u64 = 20;
/// How long migrations may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the farewell to a server may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Tries of one use; the waits between them double.
const TRIES: u32 = 3;
/// The first of them.
const PAUSE: Duration = Duration::from_millis(50);

/// `[postgres]`: the server that queue or store live on.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// `postgres://user@host:5432/database`, with `?sslmode=verify-full` where the network is not yours. A password
    /// belongs in the environment (`AFTERCHECK__POSTGRES__URL`) or in `password_file`.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub url: Option<SecretString>,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// Most connections of one process.
    pub connections: u32,
    /// Longest statement in seconds; the server ends it.
    pub statement_timeout_secs: u64,
    /// Longest wait for a lock in seconds; the server ends it.
    pub lock_timeout_secs: u64,
    /// Longest pause inside a transaction in seconds; the server ends the session.
    pub idle_timeout_secs: u64,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            connections: 12,
            statement_timeout_secs: 10,
            lock_timeout_secs: 5,
            idle_timeout_secs: 15,
        }
    }
}

impl PostgresConfig {
    /// Checks ranges, and that the URL can be used where one is needed.
    ///
    /// # Errors
    /// Key and remedy.
    pub fn check(&self, needed: bool) -> Result<(), DatabaseError> {
        let longest = LONGEST_STATEMENT_SECS;
        let checks = [
            ((2..=1000).contains(&self.connections), "connections: need 2 to 1000".to_owned()),
            (
                (1..=longest).contains(&self.statement_timeout_secs),
                format!("statement_timeout_secs: need 1 to {longest}"),
            ),
            (
                (1..=self.statement_timeout_secs).contains(&self.lock_timeout_secs),
                "lock_timeout_secs: need 1 to statement_timeout_secs, or the lock is never what is named"
                    .to_owned(),
            ),
            ((1..=3600).contains(&self.idle_timeout_secs), "idle_timeout_secs: need 1 to 3600".to_owned()),
        ];
        if let Some((_, remedy)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(DatabaseError::Settings(remedy));
        }
        if needed { self.options().map(drop) } else { Ok(()) }
    }

    /// Host, port and database as the URL has them; none where it cannot be used.
    pub fn place(&self) -> Option<String> {
        self.options().ok().map(|(_, place)| place)
    }

    /// How to connect, and the place in words without the password.
    fn options(&self) -> Result<(PgConnectOptions, String), DatabaseError> {
        let Some(url) = &self.url else {
            return Err(DatabaseError::Settings(
                "url: say where the server is, as postgres://user@host:5432/database".into(),
            ));
        };
        let unusable = |error: sqlx::Error| DatabaseError::Settings(format!("url: {error}"));
        let mut options: PgConnectOptions = url.expose_secret().parse().map_err(unusable)?;
        if let Some(file) = &self.password_file {
            let password = std::fs::read_to_string(file).map_err(|error| {
                DatabaseError::Settings(format!("password_file {}: {error}", file.display()))
            })?;
            options = options.password(password.trim_end());
        }
        let place = format!(
            "{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or(options.get_username())
        );
        let secs = |secs: u64| format!("{secs}s");
        let options = options.application_name("aftercheck").options([
            ("statement_timeout", secs(self.statement_timeout_secs)),
            ("lock_timeout", secs(self.lock_timeout_secs)),
            ("idle_in_transaction_session_timeout", secs(self.idle_timeout_secs)),
        ]);
        Ok((options, place))
    }
}

/// An open server.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    place: String,
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
        migrate(&options).await.map_err(failed)?;
        let pool = PgPoolOptions::new()
            .max_connections(config.connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Ok(Self { pool, place })
    }

    /// A connection; one that is dropped without [`Lent::give_back`] is thrown away.
    ///
    /// # Errors
    /// When none is free in time, or the server cannot be reached.
    pub async fn connection(&self) -> Result<Lent, sqlx::Error> {
        Ok(Lent { connection: Some(self.pool.acquire().await?) })
    }

    /// A connection on which a transaction has begun; without [`Lent::commit`] it is rolled back.
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
            "SELECT set_config('statement_timeout', $1, true), set_config('random_page_cost', '1.1', true)",
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
    reason = "only `commit`, `give_back` and `drop` take the connection, and they end it"
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

/// Runs one use of the server under its deadline, and again where it failed in a way that passes soon: a deadlock, a
/// serialisation failure, a lock that was not free, a server that restarts, a connection that was lost. `work` must be
/// safe to repeat: where the connection was lost at the commit, the first try may have taken effect.
///
/// # Errors
/// What the last try gave; a deadline reads as [`sqlx::Error::PoolTimedOut`].
pub async fn bounded<T, F, Fut>(work: F) -> Result<T, sqlx::Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, sqlx::Error>>,
{
    within(USE_TIMEOUT, work).await
}

/// As [`bounded`], for a use that is known to take longer.
///
/// # Errors
/// As [`bounded`].
pub async fn within<T, F, Fut>(limit: Duration, mut work: F) -> Result<T, sqlx::Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, sqlx::Error>>,
{
    let tries = async {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match work().await {
                Err(error) if passes_soon(&error) => tracing::debug!(%error, "postgres: trying again"),
                outcome => return outcome,
            }
            sleep(pause).await;
            pause *= 2;
        }
        work().await
    };
    timeout(limit, tries).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Classes of Appendix A of the Postgres manual whose errors pass: connection, rollback, resources, operator
/// intervention and timeouts, faults of the server's disk.
const PASSING_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];
/// Codes of other classes that pass: lock not available, a session ended because it was idle in a transaction, a server
/// that only reads because another has taken its place; and the foreign key, because no statement of ours breaks one
/// but where `prune` deletes a row at the same moment.
const PASSING_CODES: [&str; 4] = ["55P03", "25P03", "25006", "23503"];
/// Passes, but not soon: the statement would take as long again.
const STATEMENT_TIMEOUT: &str = "57014";

/// Whether the same statement may work later: see the codes above, and whatever broke the connection.
pub fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => code(error).is_some_and(|code| {
            PASSING_CLASSES.iter().any(|class| code.starts_with(class)) || PASSING_CODES.contains(&code)
        }),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        _ => broke_connection(error),
    }
}

/// Whether the same statement may work at once. The wait for a connection has its own limit and is over.
fn passes_soon(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => passes(error) && code(error) != Some(STATEMENT_TIMEOUT),
        _ => broke_connection(error),
    }
}

/// Whether this is the end of a connection.
fn broke_connection(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed
    )
}

/// The SQLSTATE of what the server said.
fn code(error: &sqlx::Error) -> Option<&str> {
    let sqlx::Error::Database(inner) = error else { return None };
    Some(inner.try_downcast_ref::<PgDatabaseError>()?.code())
}
