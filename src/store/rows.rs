//! What the rows of both databases read as. Columns that only one of them can type (UUID, JSON) are selected as text
//! there, so that the same code reads both.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type, error::UnexpectedNullError};
use uuid::Uuid;

use super::{
    DeadDelivery, DeadLetterRow, Deferred, LedgerEntry, SinkState, StoreError,
    read::{ClaimTotals, Cut, DeliveryRow, Received, ReviewRow, StageTotals, Stored},
    retracting::Deleted,
};
use crate::domain::{Call, Claim, Evaluation, Label, Retraction};

/// The types that columns have in both databases.
pub(super) trait Columns {
    /// A text column; none where it is NULL.
    fn text(&self, column: &'static str) -> Result<Option<String>, sqlx::Error>;
    /// A whole number.
    fn number(&self, column: &'static str) -> Result<i64, sqlx::Error>;
    /// A whole number; none where it is NULL.
    fn some_number(&self, column: &'static str) -> Result<Option<i64>, sqlx::Error>;
    /// A floating-point number; none where it is NULL.
    fn real(&self, column: &'static str) -> Result<Option<f64>, sqlx::Error>;
    /// A truth value.
    fn flag(&self, column: &'static str) -> Result<bool, sqlx::Error>;
    /// Raw bytes.
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, sqlx::Error>;
}

impl<R: Row> Columns for R
where
    &'static str: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> f64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> bool: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn text(&self, column: &'static str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }

    fn number(&self, column: &'static str) -> Result<i64, sqlx::Error> {
        self.try_get(column)
    }

    fn some_number(&self, column: &'static str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn real(&self, column: &'static str) -> Result<Option<f64>, sqlx::Error> {
        self.try_get(column)
    }

    fn flag(&self, column: &'static str) -> Result<bool, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, sqlx::Error> {
        self.try_get(column)
    }
}

/// Reads an evaluation with its claims.
pub(super) fn evaluation<R: Columns>(row: &R, claims: &[R]) -> Result<Evaluation, StoreError> {
    Ok(Evaluation {
        evaluation_id: uuid("evaluation id", &text(row, "evaluation_id")?)?,
        tenant_id: text(row, "tenant_id")?,
        request_id: text(row, "request_id")?,
        evaluator_version: text(row, "evaluator_version")?,
        trace_id: text(row, "trace_id")?,
        span_id: row.text("span_id")?,
        feature: text(row, "feature")?,
        occurred_at: word(row, "occurred_at")?,
        evaluated_at: word(row, "evaluated_at")?,
        verdict: word(row, "verdict")?,
        decided_by: word(row, "decided_by")?,
        reasons: json(row, "reasons")?,
        faithfulness: row.real("faithfulness")?,
        truncated: row.flag("truncated")?,
        tokens_cut: row.number("tokens_cut")?.unsigned_abs(),
        claims: claims.iter().map(claim).collect::<Result<_, _>>()?,
        rules: json(row, "rules")?,
        judge: row.text("judge")?.map(|_| json(row, "judge")).transpose()?,
        stages: json(row, "stages")?,
        cost_usd: row.real("cost_usd")?,
        judge_avoided_usd: row.real("judge_avoided_usd")?,
        probability: real(row, "probability")?,
    })
}

/// Reads a claim.
fn claim<R: Columns>(row: &R) -> Result<Claim, StoreError> {
    Ok(Claim {
        start: offset(row, "claim_start")?,
        end: offset(row, "claim_end")?,
        entailment: real(row, "entailment")?,
        neutral: real(row, "neutral")?,
        contradiction: real(row, "contradiction")?,
        chunk_id: text(row, "chunk_id")?,
        chunk_start: offset(row, "chunk_start")?,
        chunk_end: offset(row, "chunk_end")?,
        label: word(row, "label")?,
        doubt: row.text("doubt")?.map(|_| word(row, "doubt")).transpose()?,
    })
}

/// Reads what a sink is to delete.
pub(super) fn retraction(retracts: Option<String>) -> Result<Retraction, StoreError> {
    let text = retracts.ok_or_else(|| absent("retracts"))?;
    serde_json::from_str(&text)
        .map_err(|error| StoreError::Corrupt { what: "retracts", detail: error.to_string() })
}

/// Reads what a sink is told that a person said.
pub(super) fn label(text: &str) -> Result<Label, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt { what: "label", detail: error.to_string() })
}

/// What stands beside a call in its stored body.
#[derive(Deserialize)]
struct Beside {
    cut: Option<Cut>,
}

/// Reads a call as it was received; none of an erased one.
pub(super) fn received<R: Columns>(row: &R) -> Result<Option<Received>, StoreError> {
    if text(row, "body")?.is_empty() {
        return Ok(None);
    }
    let Beside { cut } = json(row, "body")?;
    let (at_ms, source) = (row.number("received_ms")?, text(row, "source")?);
    Ok(Some(Received { call: json(row, "body")?, cut, at_ms, source }))
}

/// Reads a call; none of an erased one, or of one that cannot be read.
pub(super) fn call<R: Columns>(row: &R) -> Result<Option<Call>, StoreError> {
    match received(row) {
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::warn!(%error, "call cannot be read, it is left out");
            Ok(None)
        }
        received => Ok(received?.map(|one| one.call)),
    }
}

/// An evaluation with the call of a row; none where one of them is gone or cannot be read.
pub(super) fn stored<R: Columns>(
    row: &R,
    evaluation: Option<Evaluation>,
) -> Result<Option<Stored>, StoreError> {
    let Some(evaluation) = evaluation else { return Ok(None) };
    let received = match received(row) {
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::warn!(%error, request_id = evaluation.request_id, "call cannot be read, it is left out");
            None
        }
        received => received?,
    };
    let stored = |one: Received| Stored { call: one.call, cut: one.cut.is_some(), evaluation };
    Ok(received.map(stored))
}

impl<'r, R: Row + Columns> FromRow<'r, R> for DeliveryRow {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            sink: given(row.text("sink")?, "sink")?,
            attempts: row.number("attempts")?,
            delivered_ms: row.some_number("delivered_ms")?,
            dead_reason: row.text("dead_reason")?,
            last_error: row.text("last_error")?,
        })
    }
}

impl<'r, R: Row + Columns> FromRow<'r, R> for DeadDelivery {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let delivery_id = given(row.text("delivery_id")?, "delivery_id")?;
        Ok(Self {
            delivery_id: delivery_id
                .parse()
                .map_err(|error| sqlx::Error::Decode(Box::<uuid::Error>::new(error)))?,
            sink: given(row.text("sink")?, "sink")?,
            retracts: row.flag("is_retraction")?,
            tenant_id: row.text("tenant_id")?,
            request_id: row.text("request_id")?,
            feature: row.text("feature")?,
            reason: given(row.text("dead_reason")?, "dead_reason")?,
            attempts: row.number("attempts")?,
            created_ms: row.number("created_ms")?,
        })
    }
}

impl<'r, R: Row + Columns> FromRow<'r, R> for Deleted {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            sink: given(row.text("sink")?, "sink")?,
            delivery_id: given(row.text("delivery_id")?, "delivery_id")?,
            evaluation_id: given(row.text("evaluation_id")?, "evaluation_id")?,
            receipt: row.text("receipt")?,
            golden_id: row.text("golden_id")?,
            dataset: row.text("dataset")?,
            until_ms: row.some_number("until_ms")?,
        })
    }
}

impl<'r, R: Row + Columns> FromRow<'r, R> for SinkState {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            sink: given(row.text("sink")?, "sink")?,
            pending: row.number("pending")?.unsigned_abs(),
            oldest_ms: row.some_number("oldest_ms")?,
            dead: row.number("dead")?.unsigned_abs(),
            paused_ms: row.some_number("paused_ms")?,
            last_error: row.text("last_error")?,
        })
    }
}

impl<'r, R: Row + Columns> FromRow<'r, R> for Deferred {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant_id: given(row.text("tenant_id")?, "tenant_id")?,
            request_id: given(row.text("request_id")?, "request_id")?,
            evaluator_version: given(row.text("evaluator_version")?, "evaluator_version")?,
            body_digest: given(row.text("body_digest")?, "body_digest")?,
            call: given(row.text("call")?, "call")?,
            payload_digest: given(row.text("payload_digest")?, "payload_digest")?,
            user_key: row.text("user_key")?,
            age_ms: row.number("age_ms")?,
            tries: row.number("tries")?,
        })
    }
}

impl<'r, R: Row + Columns> FromRow<'r, R> for ReviewRow {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let review_id: String = given(row.text("review_id")?, "review_id")?;
        Ok(Self {
            review_id: review_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            reason: given(row.text("reason")?, "reason")?,
            probability: given(row.real("probability")?, "probability")?,
            state: given(row.text("state")?, "state")?,
        })
    }
}

impl<'r, R: Row + Columns> FromRow<'r, R> for LedgerEntry {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            event: given(row.text("event")?, "event")?,
            detail: given(row.text("detail")?, "detail")?,
            at_ms: row.number("at_ms")?,
        })
    }
}

impl<'r, R: Row + Columns> FromRow<'r, R> for StageTotals {
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            stage: given(row.text("stage")?, "stage")?,
            outcome: given(row.text("outcome")?, "outcome")?,
            calls: row.number("calls")?,
            p50_ms: given(row.real("p50_ms")?, "p50_ms")?,
            p95_ms: given(row.real("p95_ms")?, "p95_ms")?,
            max_ms: given(row.real("max_ms")?, "max_ms")?,
        })
    }
}

/// The value of a column that is never NULL.
fn given<T>(value: Option<T>, column: &str) -> Result<T, sqlx::Error> {
    let null =
        || sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(UnexpectedNullError) };
    value.ok_or_else(null)
}

/// Reads a dead letter.
pub(super) fn letter<R: Columns>(row: &R) -> Result<DeadLetterRow, StoreError> {
    Ok(DeadLetterRow {
        dead_letter_id: uuid("dead letter id", &text(row, "dead_letter_id")?)?,
        payload_bytes: usize::try_from(row.number("payload_bytes")?)
            .map_err(|error| StoreError::Corrupt { what: "size of a payload", detail: error.to_string() })?,
        payload: row.bytes("payload")?,
        class: text(row, "class")?,
        pointer: text(row, "pointer")?,
        detail: text(row, "detail")?,
        remedy: text(row, "remedy")?,
        tenant_id: row.text("tenant_id")?,
        request_id: row.text("request_id")?,
        attempts: row.number("attempts")?,
        source: text(row, "source")?,
        created_ms: row.number("created_ms")?,
    })
}

/// Counts by one word.
pub(super) fn counts(rows: Vec<(String, i64)>) -> BTreeMap<String, u64> {
    rows.into_iter().map(|(word, count)| (word, count.unsigned_abs())).collect()
}

/// Counts by two words.
pub(super) fn table(rows: Vec<(String, String, i64)>) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut table: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (row, column, count) in rows {
        table.entry(row).or_default().insert(column, count.unsigned_abs());
    }
    table
}

/// Claims by doubt; the empty word stands for those without one.
pub(super) fn claim_totals(rows: Vec<(String, i64)>) -> ClaimTotals {
    let mut doubted = counts(rows);
    let judged = doubted.remove("").unwrap_or(0);
    ClaimTotals { claims: judged + doubted.values().sum::<u64>(), doubted }
}

/// Reads a text column that is never NULL.
pub(super) fn text<R: Columns>(row: &R, column: &'static str) -> Result<String, StoreError> {
    row.text(column)?.ok_or_else(|| absent(column))
}

/// Reads a number column that is never NULL.
pub(super) fn real<R: Columns>(row: &R, column: &'static str) -> Result<f64, StoreError> {
    row.real(column)?.ok_or_else(|| absent(column))
}

/// Reads an offset column.
fn offset<R: Columns>(row: &R, column: &'static str) -> Result<usize, StoreError> {
    let value = row.number(column)?;
    usize::try_from(value).map_err(|error| StoreError::Corrupt { what: column, detail: error.to_string() })
}

/// Reads a JSON column.
pub(super) fn json<T: DeserializeOwned, R: Columns>(row: &R, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(&text(row, column)?)
        .map_err(|error| StoreError::Corrupt { what: column, detail: error.to_string() })
}

/// Reads a column that holds one word or time as serde writes it.
pub(super) fn word<T: DeserializeOwned, R: Columns>(row: &R, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text(row, column)?))
        .map_err(|error| StoreError::Corrupt { what: column, detail: error.to_string() })
}

/// Reads a stored UUID.
pub(super) fn uuid(what: &'static str, text: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|error: uuid::Error| StoreError::Corrupt { what, detail: error.to_string() })
}

/// A column that should hold a value and does not.
fn absent(column: &'static str) -> StoreError {
    StoreError::Corrupt { what: column, detail: "there is no value".into() }
}
