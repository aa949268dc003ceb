//! What the rows of both databases read as.

use super::{Audited, Changed, FinalLabel, LabelEntry, QueuedReview};
use crate::store::{
    StoreError,
    rows::{Columns, json, real, text, uuid, word},
};

/// Reads an item.
pub(in crate::store) fn item<R: Columns>(row: &R) -> Result<QueuedReview, StoreError> {
    let small = |number: i64| u32::try_from(number).unwrap_or(0);
    let is_held = row.number("held_until_ms")? > row.number("now_ms")?;
    Ok(QueuedReview {
        review_id: uuid("review id", &text(row, "review_id")?)?,
        evaluation_id: uuid("evaluation id", &text(row, "evaluation_id")?)?,
        tenant_id: text(row, "tenant_id")?,
        request_id: text(row, "request_id")?,
        feature: text(row, "feature")?,
        reason: word(row, "reason")?,
        probability: real(row, "probability")?,
        created_ms: row.number("created_ms")?,
        rank_ms: row.number("rank_ms")?,
        wanted: small(row.number("wanted")?),
        labels: small(row.number("labels")?),
        state: word(row, "state")?,
        held_by: row.text("held_by")?.filter(|_| is_held),
    })
}

/// Reads an item that a transaction is about.
pub(in crate::store) fn changed<R: Columns>(row: &R) -> Result<Changed, StoreError> {
    Ok(Changed {
        item: item(row)?,
        token: row.text("hold_token")?.map(|token| uuid("hold token", &token)).transpose()?,
        held_until_ms: row.number("held_until_ms")?,
        now_ms: row.number("now_ms")?,
        trace_id: text(row, "trace_id")?,
        span_id: row.text("span_id")?,
        occurred_at: word(row, "occurred_at")?,
    })
}

/// Reads an entry.
pub(in crate::store) fn entry<R: Columns>(row: &R) -> Result<LabelEntry, StoreError> {
    Ok(LabelEntry {
        entry_id: row.number("entry_id")?,
        saying_id: uuid("saying id", &text(row, "saying_id")?)?,
        evaluation_id: uuid("evaluation id", &text(row, "evaluation_id")?)?,
        reviewer: text(row, "reviewer")?,
        kind: word(row, "kind")?,
        said: word(row, "said")?,
        note: text(row, "note")?,
        expected: row.text("expected")?,
        at_ms: row.number("at_ms")?,
    })
}

/// Reads what counts.
pub(in crate::store) fn final_label<R: Columns>(row: &R) -> Result<FinalLabel, StoreError> {
    Ok(FinalLabel {
        entry: entry(row)?,
        decided_ms: row.number("decided_ms")?,
        tenant_id: text(row, "tenant_id")?,
        request_id: text(row, "request_id")?,
        feature: text(row, "feature")?,
        evaluator_version: text(row, "evaluator_version")?,
        verdict: word(row, "verdict")?,
        decided_by: word(row, "decided_by")?,
        reasons: json(row, "reasons")?,
    })
}

/// Reads an item of the audit slice.
pub(in crate::store) fn audited<R: Columns>(row: &R) -> Result<Audited, StoreError> {
    Ok(Audited {
        verdict: word(row, "verdict")?,
        feature: text(row, "feature")?,
        sampled: real(row, "sampled")?,
        drawn: real(row, "drawn")?,
        said: row.text("said")?.map(|_| word(row, "said")).transpose()?,
    })
}
