//! Whose turn it is to scan what is kept on Postgres.

use super::StoreError;
use crate::{
    database::postgres::{Database, bounded},
    store::ScanTurn,
};

/// Takes the scan that is due. A commit whose answer is lost looks like another worker's turn: the lease brings it back.
pub(super) async fn take(database: &Database, lease_ms: i64) -> Result<ScanTurn, StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        let taken = sqlx::query(
            "UPDATE scan SET due_ms = aftercheck_now_ms() + $1 WHERE due_ms <= aftercheck_now_ms()",
        )
        .bind(lease_ms)
        .execute(&mut *tx)
        .await?;
        let found: i64 = sqlx::query_scalar("SELECT found FROM scan").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(ScanTurn { is_ours: taken.rows_affected() > 0, found: found.unsigned_abs() })
    })
    .await?)
}

/// Keeps what a scan found, until the next one.
pub(super) async fn end(database: &Database, found: i64, next_ms: i64) -> Result<(), StoreError> {
    Ok(bounded(|| async {
        let mut tx = database.transaction().await?;
        sqlx::query("UPDATE scan SET found = $1, due_ms = aftercheck_now_ms() + $2")
            .bind(found)
            .bind(next_ms)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    })
    .await?)
}
