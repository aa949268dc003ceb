//! Labels on SQLite: what is said and taken back, and what sinks are told of it, in one transaction.

use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::{
    StoreError, golden, json, note,
    reviewing::{ENTRIES, LET_GO, changed, hold, of_evaluation},
};
use crate::{
    database::sqlite::Database,
    store::reviewing::{
        Changed, LabelEntry, LabelKind, Labelled, QueuedReview, Refusal, Saying, TakingBack, rows, withdrawn,
    },
};

/// Adds an entry to the history.
const ENTER: &str =
    "INSERT INTO labels (saying_id, evaluation_id, reviewer, kind, said, note, expected, at_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER))
     RETURNING entry_id, saying_id, evaluation_id, reviewer, kind, said, note, expected, at_ms";
/// Whether a reviewer has taken back a label of theirs.
const UNDONE: &str =
    "SELECT EXISTS (SELECT 1 FROM labels WHERE evaluation_id = ? AND reviewer = ? AND kind = 'undo')";
/// Forgets that who labels an item has skipped it: taken back, it is theirs again.
const UNSKIP: &str = "DELETE FROM review_skips WHERE review_id = ? AND reviewer = ?";
/// Deletes what sinks were to be told of a label and were not: nobody has begun with it. Not what they are to be told of another
/// person's: that theirs was taken back.
const UNSENT: &str =
    "DELETE FROM outbox WHERE evaluation_id = ?1 AND label IS NOT NULL AND delivered_ms IS NULL
         AND dead_reason IS NULL AND attempts = 0 AND due_ms = created_ms AND label ->> 'label_id' = ?2";
/// Has deliveries of a label that was said anew say what counts now, whenever they are sent: those that are tried again, and
/// those that were given up, which somebody may requeue years later. Not before the time for second thoughts is over.
const OVERWRITE: &str = "UPDATE outbox
     SET label = ?3, due_ms = max(due_ms, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?4)
     WHERE evaluation_id = ?1 AND label IS NOT NULL AND delivered_ms IS NULL AND label ->> 'label_id' = ?2";
/// Sinks that were told of an evaluation's label, or may have been: also what was given up may have arrived.
const TOLD: &str =
    "SELECT DISTINCT sink FROM outbox WHERE evaluation_id = ? AND label IS NOT NULL ORDER BY sink";
/// Tells a sink. Behind everything else that it has of the evaluation, so that they arrive in this order.
const TELL: &str = "INSERT INTO outbox (delivery_id, sink, evaluation_id, label, created_ms, due_ms)
     SELECT ?1, ?2, ?3, ?4, at_ms, at_ms
     FROM (SELECT max(CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?5, 1 + coalesce(
         (SELECT max(created_ms) FROM outbox WHERE evaluation_id = ?3 AND sink = ?2), 0)) AS at_ms)
     WHERE TRUE ON CONFLICT (delivery_id) DO NOTHING";

/// Takes a label.
pub(super) async fn say(
    database: &Database,
    saying: &Saying,
) -> Result<Result<Labelled, Refusal>, StoreError> {
    let (mut tx, id) = (database.write().await?, saying.review_id.to_string());
    let Some(changed) = changed(&mut tx, &id).await? else { return Ok(Err(Refusal::Missing)) };
    let evaluation_id = changed.item.evaluation_id.to_string();
    let before = standing(&mut tx, &evaluation_id).await?;
    if before.iter().any(|entry| entry.saying_id == saying.saying_id) {
        return Ok(Ok(changed.settled(&before).0));
    }
    if let Some(refusal) = changed.refuses(saying, &before) {
        return Ok(Err(refusal));
    }
    let kind = if saying.adjudicates { LabelKind::Adjudication } else { LabelKind::Label };
    let row = sqlx::query(ENTER)
        .bind(saying.saying_id.to_string())
        .bind(&evaluation_id)
        .bind(&saying.reviewer)
        .bind(kind.as_str())
        .bind(saying.said.as_str())
        .bind(&saying.note)
        .bind(&saying.expected)
        .fetch_one(&mut *tx)
        .await?;
    let entry = rows::entry(&row)?;
    sqlx::query("INSERT INTO standing_labels (evaluation_id, reviewer, entry_id) VALUES (?, ?, ?)")
        .bind(&evaluation_id)
        .bind(&saying.reviewer)
        .bind(entry.entry_id)
        .execute(&mut *tx)
        .await?;
    sqlx::query(LET_GO).bind(&id).execute(&mut *tx).await?;
    sqlx::query(UNSKIP).bind(&id).bind(&saying.reviewer).execute(&mut *tx).await?;
    let (labelled, counts) = resettle(&mut tx, &changed).await?;
    if let Some(counts) = counts {
        replace(&mut tx, &changed, &counts, saying.undo_ms).await?;
        for sink in &saying.sinks {
            tell(&mut tx, &changed, &counts, (sink, saying.undo_ms)).await?;
        }
    }
    enter(&mut tx, &changed, &entry, "labelled").await?;
    tx.commit().await?;
    Ok(Ok(labelled))
}

/// Which evaluation's label is taken back, and whether that was done before.
async fn last(tx: &mut SqliteConnection, taking: &TakingBack) -> Result<Option<(String, bool)>, StoreError> {
    let found = sqlx::query_as(
        "SELECT evaluation_id, TRUE FROM labels WHERE saying_id = ?1
         UNION ALL SELECT evaluation_id, FALSE FROM review_items WHERE review_id = ?3
         UNION ALL SELECT * FROM (
             SELECT evaluation_id, FALSE FROM standing_labels WHERE ?3 IS NULL AND reviewer = ?2
             ORDER BY entry_id DESC LIMIT 1)
         LIMIT 1",
    )
    .bind(taking.saying_id.to_string())
    .bind(&taking.reviewer)
    .bind(taking.review_id.map(|id| id.to_string()))
    .fetch_optional(&mut *tx)
    .await?;
    Ok(found)
}

/// Takes back a label of a reviewer that stands.
pub(super) async fn take_back(
    database: &Database,
    taking: &TakingBack,
) -> Result<Result<QueuedReview, Refusal>, StoreError> {
    let mut tx = database.write().await?;
    let Some((evaluation_id, is_repeated)) = last(&mut tx, taking).await? else {
        return Ok(Err(Refusal::Missing));
    };
    let Some(changed) = of_evaluation(&mut tx, &evaluation_id).await? else {
        return Ok(Err(Refusal::Missing));
    };
    if !taking.scope.holds(&changed.item.tenant_id, &changed.item.feature) {
        return Ok(Err(Refusal::Missing));
    }
    if is_repeated {
        return Ok(Ok(changed.item));
    }
    let before = standing(&mut tx, &evaluation_id).await?;
    let Some(mine) = before.iter().find(|entry| entry.reviewer == taking.reviewer) else {
        // Asked for twice: what was meant is done.
        let done = sqlx::query_scalar(UNDONE).bind(&evaluation_id).bind(&taking.reviewer);
        return Ok(if done.fetch_one(&mut *tx).await? { Ok(changed.item) } else { Err(Refusal::Missing) });
    };
    if mine.kind == LabelKind::Label && before.iter().any(|entry| entry.kind == LabelKind::Adjudication) {
        return Ok(Err(Refusal::TooLate));
    }
    if golden::has(&mut tx, &evaluation_id).await? {
        return Ok(Err(Refusal::Golden));
    }
    let row = sqlx::query(ENTER)
        .bind(taking.saying_id.to_string())
        .bind(&evaluation_id)
        .bind(&taking.reviewer)
        .bind(LabelKind::Undo.as_str())
        .bind(mine.said.as_str())
        .bind("")
        .bind(None::<String>)
        .fetch_one(&mut *tx)
        .await?;
    let undo = rows::entry(&row)?;
    sqlx::query("DELETE FROM standing_labels WHERE evaluation_id = ? AND reviewer = ?")
        .bind(&evaluation_id)
        .bind(&taking.reviewer)
        .execute(&mut *tx)
        .await?;
    resettle(&mut tx, &changed).await?;
    if let (_, Some(counted)) = changed.settled(&before) {
        withdraw(&mut tx, &changed, &withdrawn(&undo, counted)).await?;
    }
    let review_id = changed.item.review_id.to_string();
    if !changed.is_held_from(&taking.reviewer) {
        hold(&mut tx, &review_id, &taking.reviewer, Uuid::now_v7(), taking.hold_ms).await?;
    }
    enter(&mut tx, &changed, &undo, "unlabelled").await?;
    let now = super::reviewing::changed(&mut tx, &review_id).await?;
    tx.commit().await?;
    Ok(now.map(|now| now.item).ok_or(Refusal::Missing))
}

/// What came of the labels that stand: where the item stands, and the entry that counts.
type Resettled = (Labelled, Option<LabelEntry>);

/// Puts an item where the labels that stand have it. Who holds it is for who asks.
async fn resettle(tx: &mut SqliteConnection, changed: &Changed) -> Result<Resettled, StoreError> {
    let evaluation_id = changed.item.evaluation_id.to_string();
    let entries = standing(tx, &evaluation_id).await?;
    let (labelled, counts) = changed.settled(&entries);
    let gone = sqlx::query("DELETE FROM final_labels WHERE evaluation_id = ?");
    gone.bind(&evaluation_id).execute(&mut *tx).await?;
    if let Some(counts) = counts {
        sqlx::query("INSERT INTO final_labels (evaluation_id, entry_id, decided_ms) VALUES (?, ?, ?)")
            .bind(&evaluation_id)
            .bind(counts.entry_id)
            .bind(changed.now_ms)
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query("UPDATE review_items SET state = ? WHERE review_id = ?")
        .bind(labelled.state.as_str())
        .bind(changed.item.review_id.to_string())
        .execute(&mut *tx)
        .await?;
    Ok((labelled, counts.cloned()))
}

/// Has sinks forget a label: those that were not told are not, the others are told that nobody can tell.
async fn withdraw(
    tx: &mut SqliteConnection,
    changed: &Changed,
    withdrawn: &LabelEntry,
) -> Result<(), StoreError> {
    replace(tx, changed, withdrawn, 0).await?;
    let evaluation_id = changed.item.evaluation_id.to_string();
    let told: Vec<String> = sqlx::query_scalar(TOLD).bind(&evaluation_id).fetch_all(&mut *tx).await?;
    for sink in &told {
        tell(tx, changed, withdrawn, (sink, 0)).await?;
    }
    Ok(())
}

/// Has nothing that was not delivered yet say what an entry takes the place of: what nobody has begun with goes, the rest says
/// what the entry says, after so many milliseconds.
async fn replace(
    tx: &mut SqliteConnection,
    changed: &Changed,
    entry: &LabelEntry,
    after_ms: i64,
) -> Result<(), StoreError> {
    let evaluation_id = changed.item.evaluation_id.to_string();
    let label = changed.label(entry);
    let id = label.label_id.to_string();
    sqlx::query(UNSENT).bind(&evaluation_id).bind(&id).execute(&mut *tx).await?;
    sqlx::query(OVERWRITE)
        .bind(&evaluation_id)
        .bind(&id)
        .bind(json("label", &label)?)
        .bind(after_ms)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Has a sink be told after so many milliseconds.
async fn tell(
    tx: &mut SqliteConnection,
    changed: &Changed,
    entry: &LabelEntry,
    (sink, after_ms): (&str, i64),
) -> Result<(), StoreError> {
    sqlx::query(TELL)
        .bind(changed.delivery_id(sink, entry).to_string())
        .bind(sink)
        .bind(changed.item.evaluation_id.to_string())
        .bind(json("label", &changed.label(entry))?)
        .bind(after_ms)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Says in the ledger of the call what was said.
async fn enter(
    tx: &mut SqliteConnection,
    changed: &Changed,
    entry: &LabelEntry,
    event: &str,
) -> Result<(), StoreError> {
    let QueuedReview { tenant_id, request_id, .. } = &changed.item;
    note(tx, Some(tenant_id), Some(request_id), event, &Changed::detail(entry)).await
}

/// Labels of an evaluation that stand, oldest first.
pub(super) async fn standing(
    connection: &mut SqliteConnection,
    evaluation_id: &str,
) -> Result<Vec<LabelEntry>, StoreError> {
    let select = AssertSqlSafe(format!(
        "{ENTRIES} JOIN standing_labels s USING (entry_id) WHERE s.evaluation_id = ? ORDER BY l.entry_id"
    ));
    let found = sqlx::query(select).bind(evaluation_id).fetch_all(&mut *connection).await?;
    found.iter().map(rows::entry).collect()
}
