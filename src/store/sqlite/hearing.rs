//! What users did with answers after their calls were evaluated, on SQLite.

use super::{StoreError, note, writing::insert_review};
use crate::{
    database::sqlite::Database,
    domain::Evaluation,
    store::{
        reviewing::{Heard, Taken},
        short,
    },
};

/// Event of the ledger.
const EVENT: &str = "feedback";

/// Enters it in the ledger and writes the item, in one transaction. Only one writes at a time: what is not there stays so.
pub(super) async fn hear(database: &Database, heard: &Heard) -> Result<Option<Taken>, StoreError> {
    let Heard { evaluation, item, detail } = heard;
    let Evaluation { tenant_id, request_id, .. } = evaluation;
    let id = evaluation.evaluation_id.to_string();
    let mut tx = database.write().await?;
    let (is_there, is_known, has_item): (bool, bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM evaluations WHERE evaluation_id = ?1),
             EXISTS (SELECT 1 FROM ledger WHERE request_id = ?2 AND tenant_id = ?3 AND event = ?4 AND detail = ?5),
             EXISTS (SELECT 1 FROM review_items WHERE evaluation_id = ?1)",
    )
    .bind(&id)
    .bind(request_id)
    .bind(tenant_id)
    .bind(EVENT)
    .bind(short(detail))
    .fetch_one(&mut *tx)
    .await?;
    if !is_there {
        return Ok(None);
    }
    note(&mut tx, Some(tenant_id), Some(request_id), EVENT, detail).await?;
    let item = item.as_ref().filter(|_| !has_item);
    if let Some(item) = item {
        insert_review(&mut tx, evaluation, item).await?;
    }
    tx.commit().await?;
    Ok(Some(Taken { is_new: !is_known, to_review: item.is_some() }))
}
