//! The tables of queue and store, read beside the service, in whichever database they are.

use std::{path::PathBuf, time::Duration};

use sqlx::{ConnectOptions, Connection, PgConnection, Row, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

/// Longest that one question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the tables are.
#[derive(Debug, Clone)]
pub enum Tables {
    /// In this file.
    Sqlite(PathBuf),
    /// On this server.
    Postgres(String),
}

impl Tables {
    /// The one number that a query gives.
    pub fn number(&self, query: &str) -> Result<i64, sqlx::Error> {
        let rows = self.rows(query, |row| row.number())?;
        rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    /// The texts of a query with one column.
    pub fn texts(&self, query: &str) -> Result<Vec<String>, sqlx::Error> {
        self.rows(query, |row| row.text(0))
    }

    /// The texts of a query with two columns.
    pub fn pairs(&self, query: &str) -> Result<Vec<(String, String)>, sqlx::Error> {
        self.rows(query, |row| (row.text(0), row.text(1)))
    }

    /// Whether nobody is in the middle of a write that keeps all others from theirs.
    pub fn is_writable(&self) -> bool {
        match self {
            Self::Sqlite(_) => self.execute("PRAGMA busy_timeout = 200; BEGIN IMMEDIATE; ROLLBACK").is_ok(),
            Self::Postgres(_) => true,
        }
    }

    /// Runs statements that give nothing.
    pub fn execute(&self, statements: &str) -> Result<(), sqlx::Error> {
        let statements = statements.to_owned();
        wait(async {
            match self {
                Self::Sqlite(path) => {
                    let mut connection = sqlite(path).connect().await?;
                    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut connection).await?;
                    connection.close().await
                }
                Self::Postgres(url) => {
                    let mut connection = PgConnection::connect(url).await?;
                    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut connection).await?;
                    connection.close().await
                }
            }
        })
    }

    /// What `read` makes of each row; a connection for each question, so that a server that was restarted is no matter.
    fn rows<T>(&self, query: &str, read: impl Fn(&dyn Columns) -> T) -> Result<Vec<T>, sqlx::Error> {
        let query = sqlx::AssertSqlSafe(query.to_owned());
        wait(async {
            match self {
                Self::Sqlite(path) => {
                    let mut connection = sqlite(path).connect().await?;
                    let rows = sqlx::query(query).fetch_all(&mut connection).await?;
                    connection.close().await?;
                    Ok(rows.iter().map(|row| read(row)).collect())
                }
                Self::Postgres(url) => {
                    let mut connection = PgConnection::connect(url).await?;
                    let rows = sqlx::query(query).fetch_all(&mut connection).await?;
                    connection.close().await?;
                    Ok(rows.iter().map(|row| read(row)).collect())
                }
            }
        })
    }
}

/// A row of either database.
trait Columns {
    /// The number in the first column.
    fn number(&self) -> i64;
    /// The text in a column; empty where it is null.
    fn text(&self, column: usize) -> String;
}

impl Columns for sqlx::sqlite::SqliteRow {
    fn number(&self) -> i64 {
        self.get(0)
    }

    fn text(&self, column: usize) -> String {
        self.get::<Option<String>, _>(column).unwrap_or_default()
    }
}

impl Columns for sqlx::postgres::PgRow {
    fn number(&self) -> i64 {
        self.get(0)
    }

    fn text(&self, column: usize) -> String {
        self.get::<Option<String>, _>(column).unwrap_or_default()
    }
}

/// How the file is opened: by a guest, who creates nothing.
fn sqlite(path: &PathBuf) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE / 2)
}

/// Waits for an answer.
fn wait<T>(question: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, question).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) })
}
