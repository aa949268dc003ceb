//! Whose turn it is to scan what the SQLite file keeps.

use super::StoreError;
use crate::{database::sqlite::Database, store::ScanTurn};

/// Takes the scan that is due.
pub(super) async fn take(database: &Database, lease_ms: i64) -> Result<ScanTurn, StoreError> {
    let mut tx = database.write().await?;
    let taken = sqlx::query(
        "UPDATE scan SET due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
         WHERE due_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    )
    .bind(lease_ms)
    .execute(&mut *tx)
    .await?;
    let found: i64 = sqlx::query_scalar("SELECT found FROM scan").fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(ScanTurn { is_ours: taken.rows_affected() > 0, found: found.unsigned_abs() })
}

/// Keeps what a scan found, until the next one.
pub(super) async fn end(database: &Database, found: i64, next_ms: i64) -> Result<(), StoreError> {
    let mut tx = database.write().await?;
    sqlx::query("UPDATE scan SET found = ?, due_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?")
        .bind(found)
        .bind(next_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
