//! `[postgres]`: how the server is reached.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use crate::database::DatabaseError;

/// The longest statement in seconds that leaves a use of the server room for its answer ([`super::bounded`] has 25).
pub const LONGEST_STATEMENT_SECS: u64 = 20;

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
    pub(super) fn options(&self) -> Result<(PgConnectOptions, String), DatabaseError> {
        let Some(url) = &self.url else {
            return Err(DatabaseError::Settings(
                "url: say where the server is, as postgres://user@host:5432/database".into(),
            ));
        };
        let unusable = |error: sqlx::Error| DatabaseError::Settings(format!("url: {error}"));
        known_parameters(url.expose_secret())?;
        let mut options: PgConnectOptions = url.expose_secret().parse().map_err(unusable)?;
        if let Some(password) = self.password()? {
            options = options.password(&password);
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
            // Rows are found by their keys, whatever the planner thinks. `attempts` has some dozens of rows, and a minute's dead
            // ones between two vacuums: its index looks worse than reading all of its pages, eighty times a second.
            ("enable_seqscan", "off".to_owned()),
        ]);
        Ok((options, place))
    }

    /// What the password file holds now; none where none is configured.
    pub(super) fn password(&self) -> Result<Option<String>, DatabaseError> {
        let Some(file) = &self.password_file else { return Ok(None) };
        match std::fs::read_to_string(file) {
            Ok(password) => Ok(Some(password.trim_end().to_owned())),
            Err(error) => Err(DatabaseError::Settings(format!("password_file {}: {error}", file.display()))),
        }
    }
}

/// Parameters that a URL may have after its question mark, as the driver knows them.
const PARAMETERS: &str = "application_name dbname host hostaddr options password port ssl-ca ssl-cert ssl-key ssl-mode \
    ssl-root-cert sslcert sslkey sslmode sslrootcert statement-cache-capacity user";

/// Refuses a parameter that the driver does not know: it would log it with its value, which may be a secret.
fn known_parameters(url: &str) -> Result<(), DatabaseError> {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let names = parameters.split('&').filter(|one| !one.is_empty()).map(|one| one.split(['=', '[']).next());
    match names.flatten().find(|name| !PARAMETERS.split(' ').any(|known| known == *name)) {
        Some(name) => Err(DatabaseError::Settings(format!(
            "url: the parameter {name:?} is not known; known are {}",
            PARAMETERS.replace(' ', ", ")
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_parameter_is_named_without_its_value() {
        let check = |url: &str| {
            let config = PostgresConfig { url: Some(url.into()), ..PostgresConfig::default() };
            config.check(true).map_err(|error| error.to_string())
        };
        check("postgres://me@db/calls?sslmode=verify-full&options[search_path]=mine").unwrap();
        let error = check("postgres://me@db/calls?sslmode=require&pasword=hunter2").unwrap_err();
        assert!(error.contains("\"pasword\"") && !error.contains("hunter2"), "{error}");
    }
}
