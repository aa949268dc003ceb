//! Accounts on Postgres.

use sqlx::PgConnection;

use super::{PostgresStore, StoreError};
use crate::{
    database::postgres::bounded,
    domain::Person,
    store::accounts::{
        Account, AccountColumns, ApiKey, AuditEntry, Change, DAY_MS, Entry, KeyColumns, Lasting,
        MAX_SESSIONS, SEEN_MS, account_of, keep_accounts, key_of, listed,
    },
};

/// Runs work in one transaction, once more where that fails in a way that passes.
macro_rules! transact {
    ($store:expr, $tx:ident => $work:expr) => {{
        let done = bounded(|| async {
            let mut $tx = $store.database.transaction().await?;
            let done = $work;
            $tx.commit().await?;
            Ok(done)
        });
        Ok(done.await?)
    }};
}

/// Reads, once more where that fails in a way that passes.
macro_rules! look {
    ($store:expr, $lent:ident => $work:expr) => {{
        let done = bounded(|| async {
            let mut $lent = $store.database.connection().await?;
            let found = $work;
            $lent.give_back();
            Ok(found)
        });
        Ok(done.await?)
    }};
}

keep_accounts!(PostgresStore, PgConnection, transact, look);
