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

/// Reads beside whoever writes.
macro_rules! look {
    ($store:expr, $lent:ident => $work:expr) => {{
        let mut $lent = $store.database.read().acquire().await?;
        Ok($work)
    }};
}

keep_accounts!(SqliteStore, SqliteConnection, transact, look);
