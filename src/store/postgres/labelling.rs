//! Labels on Postgres: what is said and taken back, and what sinks are told of it, in one transaction.

use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::{
    StoreError, golden, harmless, harmless_json, note,
    reviewing::{ENTRIES, LET_GO, changed, hold, of_evaluation},
};
use crate::{
    database::postgres::{Database, Lent, bounded},
    store::{
        json,
        reviewing::{
            Changed, LabelEntry, LabelKind, Labelled, QueuedReview, Refusal, Saying, TakingBack, rows,
            withdrawn,
        },
    },
};

/// Adds an entry to the history.
const ENTER: &str =
    "INSERT INTO labels (saying_id, evaluation_id, reviewer, kind, said, note, expected, at_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, aftercheck_now_ms())
     RETURNING entry_id, saying_id::text, evaluation_id::text, reviewer, kind, said, note, expected, at_ms";
/// Whether a reviewer has taken back a label of theirs.
const UNDONE: &str =
    "SELECT EXISTS (SELECT 1 FROM labels WHERE evaluation_id = $1 AND reviewer = $2 AND kind = 'undo')";
/// Forgets that who labels an item has skipped it: taken back, it is theirs again.
const UNSKIP: &str = "DELETE FROM review_skips WHERE review_id = $1 AND reviewer = $2";
/// Deletes what sinks were to be told of a label and were not: nobody has begun with it. Not what they are to be told of another
/// person's: that theirs was taken back.
const UNSENT: &str =
    "DELETE FROM outbox WHERE evaluation_id = $1 AND label IS NOT NULL AND delivered_ms IS NULL
         AND dead_reason IS NULL AND attempts = 0 AND due_ms = created_ms AND label::jsonb ->> 'label_id' = $2";
/// Has deliveries of a label that was said anew say what counts now, whenever they are sent: those that are tried again, and
/// those that were given up, which somebody may requeue years later. Not before the time for second thoughts is over.
const OVERWRITE: &str =
    "UPDATE outbox SET label = $3, due_ms = greatest(due_ms, aftercheck_now_ms() + $4)
     WHERE evaluation_id = $1 AND label IS NOT NULL AND delivered_ms IS NULL AND label::jsonb ->> 'label_id' = $2";
/// Sinks that were told of an evaluation's label, or may have been: also what was given up may have arrived.
const TOLD: &str =
    "SELECT DISTINCT sink FROM outbox WHERE evaluation_id = $1 AND label IS NOT NULL ORDER BY sink";
/// Tells a sink. Behind everything else that it has of the evaluation, so that they arrive in this order.
const TELL: &str = "INSERT INTO outbox (delivery_id, sink, evaluation_id, label, created_ms, due_ms)
     SELECT $1, $2, $3, $4, at_ms, at_ms
     FROM (SELECT greatest(aftercheck_now_ms() + $5, 1 + coalesce(
         (SELECT max(created_ms) FROM outbox WHERE evaluation_id = $3 AND sink = $2), 0)) AS at_ms OFFSET 0) AS given
     ON CONFLICT (delivery_id) DO NOTHING";

/// What a transaction comes to: an answer, or why it cannot be read. Refused, it has changed nothing.
type Answer<T> = Result<Result<T, Refusal>, StoreError>;

/// Gives back what is there, or leaves the transaction with what is wrong.
macro_rules! readable {
    ($read:expr) => {
        match $read {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

/// Takes a label.
pub(super) async fn say(database: &Database, saying: &Saying) -> Answer<Labelled> {
    bounded(|| async {
        let mut tx = database.transaction().await?;
        let answer = said(&mut tx, saying).await?;
        end(tx, &answer).await?;
        Ok(answer)
    })
    .await?
}

/// Ends a transaction: what was refused, or cannot be read, has changed nothing.
async fn end<T>(tx: Lent, answer: &Answer<T>) -> Result<(), sqlx::Error> {
    match answer {
        Ok(Ok(_)) => tx.commit().await,
        _ => tx.roll_back().await,
    }
}

/// Takes a label within a transaction.
async fn said(tx: &mut PgConnection, saying: &Saying) -> Result<Answer<Labelled>, sqlx::Error> {
    let Some(changed) = changed(tx, saying.review_id).await? else { return Ok(Ok(Err(Refusal::Missing))) };
    let changed = readable!(changed);
    let before = readable!(entries(&standing(tx, changed.item.evaluation_id).await?));
    if before.iter().any(|entry| entry.saying_id == saying.saying_id) {
        return Ok(Ok(Ok(changed.settled(&before).0)));
    }
    if let Some(refusal) = changed.refuses(saying, &before) {
        return Ok(Ok(Err(refusal)));
    }
    let kind = if saying.adjudicates { LabelKind::Adjudication } else { LabelKind::Label };
    let row = sqlx::query(ENTER)
        .bind(saying.saying_id)
        .bind(changed.item.evaluation_id)
        .bind(harmless(&saying.reviewer))
        .bind(kind.as_str())
        .bind(saying.said.as_str())
        .bind(harmless(&saying.note))
        .bind(saying.expected.as_deref().map(harmless))
        .fetch_one(&mut *tx)
        .await?;
    let entry = readable!(rows::entry(&row));
    sqlx::query("INSERT INTO standing_labels (evaluation_id, reviewer, entry_id) VALUES ($1, $2, $3)")
        .bind(changed.item.evaluation_id)
        .bind(&entry.reviewer)
        .bind(entry.entry_id)
        .execute(&mut *tx)
        .await?;
    sqlx::query(LET_GO).bind(saying.review_id).execute(&mut *tx).await?;
    sqlx::query(UNSKIP).bind(saying.review_id).bind(&entry.reviewer).execute(&mut *tx).await?;
    let (labelled, counts) = readable!(resettle(tx, &changed).await?);
    if let Some(counts) = counts {
        readable!(replace(tx, &changed, &counts, saying.undo_ms).await?);
        for sink in &saying.sinks {
            readable!(tell(tx, &changed, &counts, (sink, saying.undo_ms)).await?);
        }
    }
    enter(tx, &changed, &entry, "labelled").await?;
    Ok(Ok(Ok(labelled)))
}

/// Takes back a label of a reviewer that stands.
pub(super) async fn take_back(database: &Database, taking: &TakingBack) -> Answer<QueuedReview> {
    bounded(|| async {
        let mut tx = database.transaction().await?;
        let answer = taken_back(&mut tx, taking).await?;
        end(tx, &answer).await?;
        Ok(answer)
    })
    .await?
}

/// Which evaluation's label is taken back, and whether that was done before.
async fn last(tx: &mut PgConnection, taking: &TakingBack) -> Result<Option<(Uuid, bool)>, sqlx::Error> {
    sqlx::query_as(
        "(SELECT evaluation_id, TRUE FROM labels WHERE saying_id = $1)
         UNION ALL
         (SELECT evaluation_id, FALSE FROM review_items WHERE review_id = $3)
         UNION ALL
         (SELECT evaluation_id, FALSE FROM standing_labels WHERE $3::uuid IS NULL AND reviewer = $2
          ORDER BY entry_id DESC LIMIT 1)
         ORDER BY 2 DESC LIMIT 1",
    )
    .bind(taking.saying_id)
    .bind(&taking.reviewer)
    .bind(taking.review_id)
    .fetch_optional(&mut *tx)
    .await
}

/// Takes it back within a transaction.
async fn taken_back(tx: &mut PgConnection, taking: &TakingBack) -> Result<Answer<QueuedReview>, sqlx::Error> {
    let missing = Ok(Ok(Err(Refusal::Missing)));
    let Some((evaluation_id, is_repeated)) = last(tx, taking).await? else { return missing };
    let Some(changed) = of_evaluation(tx, evaluation_id).await? else { return missing };
    let changed = readable!(changed);
    if !taking.scope.holds(&changed.item.tenant_id, &changed.item.feature) {
        return missing;
    }
    if is_repeated {
        return Ok(Ok(Ok(changed.item)));
    }
    let before = readable!(entries(&standing(tx, evaluation_id).await?));
    let Some(mine) = before.iter().find(|entry| entry.reviewer == taking.reviewer) else {
        // Asked for twice: what was meant is done.
        let done = sqlx::query_scalar(UNDONE).bind(evaluation_id).bind(&taking.reviewer);
        return if done.fetch_one(&mut *tx).await? { Ok(Ok(Ok(changed.item))) } else { missing };
    };
    if mine.kind == LabelKind::Label && before.iter().any(|entry| entry.kind == LabelKind::Adjudication) {
        return Ok(Ok(Err(Refusal::TooLate)));
    }
    if golden::has(tx, evaluation_id).await? {
        return Ok(Ok(Err(Refusal::Golden)));
    }
    let row = sqlx::query(ENTER)
        .bind(taking.saying_id)
        .bind(evaluation_id)
        .bind(&mine.reviewer)
        .bind(LabelKind::Undo.as_str())
        .bind(mine.said.as_str())
        .bind("")
        .bind(None::<String>)
        .fetch_one(&mut *tx)
        .await?;
    let undo = readable!(rows::entry(&row));
    sqlx::query("DELETE FROM standing_labels WHERE evaluation_id = $1 AND reviewer = $2")
        .bind(evaluation_id)
        .bind(&mine.reviewer)
        .execute(&mut *tx)
        .await?;
    readable!(resettle(tx, &changed).await?);
    if let (_, Some(counted)) = changed.settled(&before) {
        readable!(withdraw(tx, &changed, &withdrawn(&undo, counted)).await?);
    }
    if !changed.is_held_from(&taking.reviewer) {
        hold(tx, changed.item.review_id, &taking.reviewer, Uuid::now_v7(), taking.hold_ms).await?;
    }
    enter(tx, &changed, &undo, "unlabelled").await?;
    let now = super::reviewing::changed(tx, changed.item.review_id).await?;
    Ok(match now {
        Some(Ok(now)) => Ok(Ok(now.item)),
        Some(Err(error)) => Err(error),
        None => Ok(Err(Refusal::Missing)),
    })
}

/// What came of the labels that stand: where the item stands, and the entry that counts.
type Resettled = (Labelled, Option<LabelEntry>);

/// Puts an item where the labels that stand have it. Who holds it is for who asks.
async fn resettle(
    tx: &mut PgConnection,
    changed: &Changed,
) -> Result<Result<Resettled, StoreError>, sqlx::Error> {
    let evaluation_id = changed.item.evaluation_id;
    let standing = readable!(entries(&standing(tx, evaluation_id).await?));
    let (labelled, counts) = changed.settled(&standing);
    let gone = sqlx::query("DELETE FROM final_labels WHERE evaluation_id = $1");
    gone.bind(evaluation_id).execute(&mut *tx).await?;
    if let Some(counts) = counts {
        sqlx::query("INSERT INTO final_labels (evaluation_id, entry_id, decided_ms) VALUES ($1, $2, $3)")
            .bind(evaluation_id)
            .bind(counts.entry_id)
            .bind(changed.now_ms)
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query("UPDATE review_items SET state = $1 WHERE review_id = $2")
        .bind(labelled.state.as_str())
        .bind(changed.item.review_id)
        .execute(&mut *tx)
        .await?;
    Ok(Ok((labelled, counts.cloned())))
}

/// Has sinks forget a label: those that were not told are not, the others are told that nobody can tell.
async fn withdraw(
    tx: &mut PgConnection,
    changed: &Changed,
    withdrawn: &LabelEntry,
) -> Result<Result<(), StoreError>, sqlx::Error> {
    readable!(replace(tx, changed, withdrawn, 0).await?);
    let evaluation_id = changed.item.evaluation_id;
    let told: Vec<String> = sqlx::query_scalar(TOLD).bind(evaluation_id).fetch_all(&mut *tx).await?;
    for sink in &told {
        readable!(tell(tx, changed, withdrawn, (sink, 0)).await?);
    }
    Ok(Ok(()))
}

/// Has nothing that was not delivered yet say what an entry takes the place of: what nobody has begun with goes, the rest says
/// what the entry says, after so many milliseconds.
async fn replace(
    tx: &mut PgConnection,
    changed: &Changed,
    entry: &LabelEntry,
    after_ms: i64,
) -> Result<Result<(), StoreError>, sqlx::Error> {
    let evaluation_id = changed.item.evaluation_id;
    let label = changed.label(entry);
    let (id, content) = (label.label_id.to_string(), readable!(json("label", &label)));
    sqlx::query(UNSENT).bind(evaluation_id).bind(&id).execute(&mut *tx).await?;
    sqlx::query(OVERWRITE)
        .bind(evaluation_id)
        .bind(&id)
        .bind(harmless_json(&content))
        .bind(after_ms)
        .execute(&mut *tx)
        .await?;
    Ok(Ok(()))
}

/// Has a sink be told after so many milliseconds.
async fn tell(
    tx: &mut PgConnection,
    changed: &Changed,
    entry: &LabelEntry,
    (sink, after_ms): (&str, i64),
) -> Result<Result<(), StoreError>, sqlx::Error> {
    let label = readable!(json("label", &changed.label(entry)));
    sqlx::query(TELL)
        .bind(changed.delivery_id(sink, entry))
        .bind(sink)
        .bind(changed.item.evaluation_id)
        .bind(harmless_json(&label))
        .bind(after_ms)
        .execute(&mut *tx)
        .await?;
    Ok(Ok(()))
}

/// Says in the ledger of the call what was said.
async fn enter(
    tx: &mut PgConnection,
    changed: &Changed,
    entry: &LabelEntry,
    event: &str,
) -> Result<(), sqlx::Error> {
    let QueuedReview { tenant_id, request_id, .. } = &changed.item;
    note(tx, Some(tenant_id), Some(request_id), event, &Changed::detail(entry)).await
}

/// Rows of the labels of an evaluation that stand, oldest first.
pub(super) async fn standing(
    connection: &mut PgConnection,
    evaluation_id: Uuid,
) -> Result<Vec<PgRow>, sqlx::Error> {
    let select = AssertSqlSafe(format!(
        "{ENTRIES} JOIN standing_labels s USING (entry_id) WHERE s.evaluation_id = $1 ORDER BY l.entry_id"
    ));
    sqlx::query(select).bind(evaluation_id).fetch_all(&mut *connection).await
}

/// What rows of entries read as.
fn entries(found: &[PgRow]) -> Result<Vec<LabelEntry>, StoreError> {
    found.iter().map(rows::entry).collect()
}
