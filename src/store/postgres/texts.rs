//! Every text of the Postgres store that came from a call, for whoever searches it.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::StoreError;
use crate::{
    database::postgres::{Database, within},
    store::StoredText,
};

/// How long reading everything may take.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
/// Rows that are fetched at a time.
const FETCH: usize = 200;
/// Place, key and text.
const TEXTS: [(&str, &str, &str); 17] = [
    ("calls.body", "tenant_id || '/' || request_id, convert_to(body, 'UTF8')", "calls"),
    ("dead_letters.payload", "dead_letter_id::text, payload", "dead_letters"),
    ("ledger.detail", "entry_id::text, convert_to(detail, 'UTF8')", "ledger"),
    (
        "calls.user_key",
        "tenant_id || '/' || request_id, convert_to(user_key, 'UTF8')",
        "calls WHERE user_key IS NOT NULL",
    ),
    ("dead_letters.detail", "dead_letter_id::text, convert_to(detail, 'UTF8')", "dead_letters"),
    (
        "evaluations.judge",
        "evaluation_id::text, convert_to(judge::text, 'UTF8')",
        "evaluations WHERE judge IS NOT NULL",
    ),
    ("evaluations.rules", "evaluation_id::text, convert_to(rules::text, 'UTF8')", "evaluations"),
    (
        "evaluations.failures",
        "evaluation_id::text, convert_to(one ->> 'failures', 'UTF8')",
        "evaluations, jsonb_array_elements(stages) AS one WHERE one ->> 'failures' IS NOT NULL",
    ),
    ("deferred.call", "tenant_id || '/' || request_id, convert_to(call, 'UTF8')", "deferred"),
    ("judge_answers.answer", "judging_key, convert_to(answer, 'UTF8')", "judge_answers"),
    (
        "outbox.last_error",
        "delivery_id::text, convert_to(last_error, 'UTF8')",
        "outbox WHERE last_error IS NOT NULL",
    ),
    ("notices.notice", "seq::text, convert_to(notice, 'UTF8')", "notices"),
    ("labels.note", "saying_id::text, convert_to(note, 'UTF8')", "labels"),
    ("labels.expected", "saying_id::text, convert_to(expected, 'UTF8')", "labels WHERE expected IS NOT NULL"),
    ("outbox.label", "delivery_id::text, convert_to(label, 'UTF8')", "outbox WHERE label IS NOT NULL"),
    ("golden.content", "golden_id::text, convert_to(content, 'UTF8')", "golden"),
    ("queue.payload", "id::text, payload", "queue"),
];

/// Shows each text once, as one state of everything.
pub(super) async fn each(
    database: &Database,
    visit: &mut (dyn for<'t> FnMut(StoredText<'t>) + Send),
) -> Result<(), StoreError> {
    let visit = tokio::sync::Mutex::new(visit);
    Ok(within(LIMIT, || async {
        let mut visit = visit.lock().await;
        let mut tx = database.snapshot(LIMIT).await?;
        for (place, columns, rows) in TEXTS {
            let declare = format!("DECLARE texts NO SCROLL CURSOR FOR SELECT {columns} FROM {rows}");
            sqlx::query(AssertSqlSafe(declare)).execute(&mut *tx).await?;
            loop {
                let fetch = AssertSqlSafe(format!("FETCH {FETCH} FROM texts"));
                let page: Vec<(String, Vec<u8>)> = sqlx::query_as(fetch).fetch_all(&mut *tx).await?;
                for (key, text) in &page {
                    visit(StoredText { place, key: key.into(), text });
                }
                if page.len() < FETCH {
                    break;
                }
            }
            sqlx::query("CLOSE texts").execute(&mut *tx).await?;
        }
        tx.commit().await
    })
    .await?)
}
