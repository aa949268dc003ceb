//! The databases that queue and store stand on, each with its own type: opened once, shared by whoever needs them.

mod migrations;
pub mod postgres;
pub mod sqlite;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Databases that queue or store can live in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseKind {
    /// One file of this machine.
    #[default]
    Sqlite,
    /// A server that any number of workers share.
    Postgres,
}

/// What is open. A part that needs a database which is not open is a configuration that [`Databases::open`] was not
/// told about.
#[derive(Debug, Clone, Default)]
pub struct Databases {
    /// The file.
    pub sqlite: Option<sqlite::Database>,
    /// The server.
    pub postgres: Option<postgres::Database>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be opened or brought up to date.
    #[error("database {path}")]
    Sqlite {
        /// The file.
        path: String,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The server cannot be reached or its tables cannot be brought up to date.
    #[error("[postgres] {place}")]
    Postgres {
        /// Host, port and database; no password.
        place: String,
        /// What the server or the network said.
        source: sqlx::Error,
    },
    /// `[postgres]` does not say where the server is, or not in a usable way.
    #[error("[postgres] {0}")]
    Settings(String),
    /// A part needs a database that was not opened.
    #[error("{0:?} is not open")]
    NotOpen(DatabaseKind),
}

impl Databases {
    /// Opens those that are given, and applies what migrations are missing.
    ///
    /// # Errors
    /// [`DatabaseError`] naming file or server.
    pub async fn open(
        sqlite: Option<&sqlite::SqliteConfig>,
        postgres: Option<&postgres::PostgresConfig>,
    ) -> Result<Self, DatabaseError> {
        let mut open = Self::default();
        if let Some(config) = sqlite {
            open.sqlite = Some(sqlite::Database::open(config).await.map_err(|source| {
                DatabaseError::Sqlite { path: config.path.display().to_string(), source }
            })?);
        }
        if let Some(config) = postgres {
            open.postgres = Some(postgres::Database::open(config).await?);
        }
        Ok(open)
    }

    /// The file.
    ///
    /// # Errors
    /// [`DatabaseError::NotOpen`].
    pub fn sqlite(&self) -> Result<sqlite::Database, DatabaseError> {
        self.sqlite.clone().ok_or(DatabaseError::NotOpen(DatabaseKind::Sqlite))
    }

    /// The server.
    ///
    /// # Errors
    /// [`DatabaseError::NotOpen`].
    pub fn postgres(&self) -> Result<postgres::Database, DatabaseError> {
        self.postgres.clone().ok_or(DatabaseError::NotOpen(DatabaseKind::Postgres))
    }

    /// Closes all connections.
    pub async fn close(&self) {
        if let Some(database) = &self.sqlite {
            database.close().await;
        }
        if let Some(database) = &self.postgres {
            database.close().await;
        }
    }
}
