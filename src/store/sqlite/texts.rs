//! Every text of the SQLite store that came from a call, for whoever searches it.

use futures_lite::StreamExt;
use sqlx::AssertSqlSafe;

use super::StoreError;
use crate::{database::sqlite::Database, store::StoredText};

/// Place, key and text.
const TEXTS: [(&str, &str, &str); 17] = [
    ("calls.body", "tenant_id || '/' || request_id, CAST(body AS BLOB)", "calls"),
    ("dead_letters.payload", "dead_letter_id, payload", "dead_letters"),
    ("ledger.detail", "CAST(rowid AS TEXT), CAST(detail AS BLOB)", "ledger"),
    (
        "calls.user_key",
        "tenant_id || '/' || request_id, CAST(user_key AS BLOB)",
        "calls WHERE user_key IS NOT NULL",
    ),
    ("dead_letters.detail", "dead_letter_id, CAST(detail AS BLOB)", "dead_letters"),
    ("evaluations.judge", "evaluation_id, CAST(judge AS BLOB)", "evaluations WHERE judge IS NOT NULL"),
    ("evaluations.rules", "evaluation_id, CAST(rules AS BLOB)", "evaluations"),
    (
        "evaluations.failures",
        "evaluation_id, CAST(value ->> 'failures' AS BLOB)",
        "evaluations, json_each(stages) WHERE value ->> 'failures' IS NOT NULL",
    ),
    ("deferred.call", "tenant_id || '/' || request_id, CAST(call AS BLOB)", "deferred"),
    ("judge_answers.answer", "judging_key, CAST(answer AS BLOB)", "judge_answers"),
    ("outbox.last_error", "delivery_id, CAST(last_error AS BLOB)", "outbox WHERE last_error IS NOT NULL"),
    ("notices.notice", "CAST(seq AS TEXT), CAST(notice AS BLOB)", "notices"),
    ("labels.note", "saying_id, CAST(note AS BLOB)", "labels"),
    ("labels.expected", "saying_id, CAST(expected AS BLOB)", "labels WHERE expected IS NOT NULL"),
    ("outbox.label", "delivery_id, CAST(label AS BLOB)", "outbox WHERE label IS NOT NULL"),
    ("golden.content", "golden_id, CAST(content AS BLOB)", "golden"),
    ("queue.payload", "CAST(id AS TEXT), payload", "queue"),
];

/// Shows each text once, each table as one state.
pub(super) async fn each(
    database: &Database,
    visit: &mut (dyn for<'t> FnMut(StoredText<'t>) + Send),
) -> Result<(), StoreError> {
    for (place, columns, rows) in TEXTS {
        let select = AssertSqlSafe(format!("SELECT {columns} FROM {rows}"));
        let mut found = sqlx::query_as::<_, (String, Vec<u8>)>(select).fetch(database.read());
        while let Some((key, text)) = found.try_next().await? {
            visit(StoredText { place, key: key.into(), text: &text });
        }
    }
    Ok(())
}
