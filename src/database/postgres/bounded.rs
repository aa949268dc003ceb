//! Bounds of every use of the server, and what is tried again.

use std::time::Duration;

use sqlx::postgres::PgDatabaseError;
use tokio::time::{sleep, timeout};

/// How long one use may take, waits for its connection and further tries included. Longer than the server's own limits
/// may be, so that the server is heard where it can be.
const USE_TIMEOUT: Duration = Duration::from_secs(25);
/// Tries of one use; the waits between them double.
const TRIES: u32 = 3;
/// The first of them.
const PAUSE: Duration = Duration::from_millis(50);

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
/// intervention and timeouts, faults of the server's disk; and what an operator mends: a login that is refused, a database
/// that is not there.
const PASSING_CLASSES: [&str; 7] = ["08", "28", "3D", "40", "53", "57", "58"];
/// Codes of other classes that pass: lock not available, a session ended because it was idle in a transaction, a server
/// that only reads because another has taken its place, a right that was taken away; and the foreign key,
/// because no statement of ours breaks one but where `prune` deletes a row at the same moment.
const PASSING_CODES: [&str; 5] = ["55P03", "25P03", "25006", "42501", "23503"];
/// Pass once an operator has mended them: a login that is refused, a database that is not there, a right that is missing.
const OPERATOR: [&str; 3] = ["28", "3D", "42501"];
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
        sqlx::Error::Database(_) => {
            passes(error) && !needs_operator(error) && code(error) != Some(STATEMENT_TIMEOUT)
        }
        _ => broke_connection(error),
    }
}

/// Whether it passes only once somebody has mended it: the login, a right, the database itself.
pub fn needs_operator(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| OPERATOR.iter().any(|class| code.starts_with(class)))
}

/// Whether the server does not let us in.
pub(super) fn refused_login(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code.starts_with("28"))
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
