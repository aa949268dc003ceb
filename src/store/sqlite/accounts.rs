//! Accounts on SQLite.

use sqlx::SqliteConnection;

use super::{SqliteStore, StoreError};
use crate::{
    domain::Person,
    store::accounts::{
        Account, AccountColumns, ApiKey, AuditEntry, Change, DAY_MS, Entry, KeyColumns, Lasting,
        MAX_SESSIONS, SEEN_MS, account_of, keep_accounts, key_of, listed,
    },
};

/// Runs work in one transaction.
macro_rules! transact {
    ($store:expr, $tx:ident => $work:expr) => {{
        let mut $tx = $store.database.write().await?;
        let done = $work;
        $tx.commit().await?;
        Ok(done)
    }};
}

keep_accounts!(SqliteStore, transact);

/// Enters something in the audit log.
async fn enter(tx: &mut SqliteConnection, entry: &Entry<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO audit_log (who, what, about, at_ms) VALUES ($1, $2, $3, $4)")
        .bind(entry.who)
        .bind(entry.what)
        .bind(entry.about)
        .bind(entry.at_ms)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
