//! What the rows of both databases read as.

use super::{GoldenEntry, GoldenRow};
use crate::{
    domain::Golden,
    store::{
        StoreError,
        rows::{Columns, text, uuid, word},
    },
};

/// Reads a row as it is kept.
pub(in crate::store) fn row<R: Columns>(row: &R) -> Result<GoldenRow, StoreError> {
    Ok(GoldenRow {
        golden: content(&text(row, "content")?)?,
        evaluation_id: uuid("evaluation id", &text(row, "evaluation_id")?)?,
        digest: text(row, "digest")?,
        promoted_ms: row.number("promoted_ms")?,
        changed_ms: row.number("changed_ms")?,
    })
}

/// Reads what a sink is told.
pub(in crate::store) fn content(text: &str) -> Result<Golden, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt { what: "golden row", detail: error.to_string() })
}

/// Reads an entry.
pub(in crate::store) fn entry<R: Columns>(row: &R) -> Result<GoldenEntry, StoreError> {
    Ok(GoldenEntry {
        entry_id: row.number("entry_id")?,
        golden_id: uuid("golden id", &text(row, "golden_id")?)?,
        dataset: text(row, "dataset")?,
        tenant_id: text(row, "tenant_id")?,
        request_id: text(row, "request_id")?,
        change: word(row, "change")?,
        by: text(row, "done_by")?,
        digest: text(row, "digest")?,
        at_ms: row.number("at_ms")?,
    })
}
