//! What a store and a queue promise, whoever keeps them: the suite takes the traits, SQLite is the first to pass it.

use std::time::Duration;

use aftercheck::{
    database::sqlite::{Database, SqliteConfig},
    domain::{Call, Claim, ClaimLabel, DeadClass, DeadLetter, Doubt, Evaluation},
    evaluators::{
        nli::{calibration::Scale, evidence::WindowConfig},
        rules::Rules,
    },
    pipeline::{
        cascade::{Cascade, Judged},
        decode::decode,
    },
    sources::{Disposition, Message, Publisher, Source, SourceError, sqlite::SqliteSource},
    store::{Burial, Decided, Record, Recorded, Store, Undelivered, dead_letter_id, sqlite::SqliteStore},
};
use bytes::Bytes;

use super::service::call as message;

/// A store in a folder of its own, which must outlive it.
async fn open() -> (tempfile::TempDir, Database, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&SqliteConfig { path: folder.path().join("a.db") }).await.unwrap();
    let store = SqliteStore::new(database.clone());
    (folder, database, store)
}

/// A message to be queued.
fn queued(payload: &'static [u8]) -> Message {
    Message { payload: Bytes::from_static(payload), tenant_id: None }
}

/// A call whose answer is this.
fn call(answer: &str) -> Call {
    let mut message = message(1);
    message["content"]["answer"] = answer.into();
    decode(message.to_string().as_bytes()).unwrap().call
}

/// A claim with this doubt.
fn claim(doubt: Option<Doubt>) -> Claim {
    Claim {
        start: 0,
        end: 4,
        entailment: 0.5,
        neutral: 0.25,
        contradiction: 0.25,
        chunk_id: "chk_0".into(),
        chunk_start: 1,
        chunk_end: 9,
        label: ClaimLabel::Unsure,
        doubt,
    }
}

/// The record of a call, judged by rules alone, under this evaluator version.
async fn record(call: &Call, version: &str) -> Record {
    let (nli, scale) = (WindowConfig::default(), Scale::default());
    let cascade = Cascade::new(Rules::shipped().unwrap(), None, nli, scale, 0.01);
    let Judged { evaluation, review, .. } = cascade.judge(&call.clone().into()).await.unwrap();
    let evaluation_id = aftercheck::store::evaluation_id(&call.tenant_id, &call.request_id, version);
    let claims = [None, Some(Doubt::Language), Some(Doubt::Short)].map(claim).to_vec();
    let evaluation = Evaluation { evaluation_id, evaluator_version: version.into(), claims, ..evaluation };
    Record {
        call: call.clone(),
        payload_digest: "digest".into(),
        source: "test",
        evaluation,
        review,
        sinks: vec!["one".into(), "two".into()],
    }
}

#[tokio::test]
async fn a_verdict_is_written_once_with_all_that_belongs_to_it() {
    let (_folder, _, store) = open().await;
    let first = record(&call("Yes."), "v1").await;
    assert_eq!(
        store.record(&[first.clone(), first.clone()]).await.unwrap(),
        [Recorded::New, Recorded::AlreadyThere]
    );
    assert_eq!(store.record(std::slice::from_ref(&first)).await.unwrap(), [Recorded::AlreadyThere]);
    let second = record(&call("Yes."), "v2").await;
    assert_eq!(store.record(&[second]).await.unwrap(), [Recorded::New], "one verdict per version");
    let story = &store.stories(Some("acme"), "kill-1").await.unwrap()[0];
    assert_eq!(story.evaluations.len(), 2);
    assert_eq!(story.evaluations[0], first.evaluation, "it reads back as it was written");
    assert_eq!((story.deliveries.len(), story.reviews.len()), (4, 2));
    assert!(store.stories(Some("other"), "kill-1").await.unwrap().is_empty());
}

#[tokio::test]
async fn the_first_body_of_a_call_is_kept_and_another_gets_no_verdict() {
    let (_folder, _, store) = open().await;
    let (first, other) = (call("Yes."), call("No."));
    assert_eq!(store.decided(&first, "v1").await.unwrap(), Decided::No);
    store.record(&[record(&first, "v1").await]).await.unwrap();
    assert_eq!(store.decided(&first, "v1").await.unwrap(), Decided::Same);
    assert_eq!(store.decided(&first, "v2").await.unwrap(), Decided::No);
    assert_eq!(store.decided(&other, "v1").await.unwrap(), Decided::Conflict);
    assert_eq!(store.decided(&other, "v2").await.unwrap(), Decided::Conflict);
    // Both were undecided when they were looked up: the transaction settles it.
    assert_eq!(store.record(&[record(&other, "v2").await]).await.unwrap(), [Recorded::Conflict]);
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert_eq!(story.evaluations.len(), 1);
    assert_eq!(story.received.as_ref().unwrap().call, first);
    assert_eq!(story.ledger.iter().filter(|entry| entry.event == "conflict").count(), 1);
}

/// A dead letter of this class.
fn burial(class: DeadClass) -> Burial {
    let letter = DeadLetter {
        class,
        pointer: String::new(),
        detail: "d".into(),
        remedy: "r".into(),
        tenant_id: None,
        request_id: Some("r1".into()),
    };
    Burial { payload: Bytes::from_static(b"payload"), letter, attempts: 5, source: "test" }
}

#[tokio::test]
async fn attempts_that_were_used_up_stay_used_up_until_the_letter_goes() {
    let (_folder, _, store) = open().await;
    let digests = [aftercheck::domain::id::sha256_hex(b"payload")];
    store.count_attempts(&digests).await.unwrap();
    assert_eq!(store.count_attempts(&digests).await.unwrap(), [2]);
    let burial = burial(DeadClass::AttemptsExhausted);
    store.bury(&burial).await.unwrap();
    assert_eq!(store.attempts(&digests).await.unwrap(), [2], "a crash before the ack brings it again");
    let letter = store.dead_letter(dead_letter_id(b"payload")).await.unwrap().unwrap();
    assert!(store.remove_dead_letter(letter.dead_letter_id, letter.created_ms, "requeued").await.unwrap());
    assert_eq!(store.attempts(&digests).await.unwrap(), [0], "a requeue is a new beginning");
}

#[tokio::test]
async fn a_letter_that_was_written_again_is_not_removed_by_who_read_the_older() {
    let (_folder, _, store) = open().await;
    let burial = burial(DeadClass::BadJson);
    store.bury(&burial).await.unwrap();
    let read = store.dead_letter(dead_letter_id(b"payload")).await.unwrap().unwrap();
    // Requeued, taken by a worker and buried anew before the letter that was read is removed.
    store.bury(&burial).await.unwrap();
    assert!(!store.remove_dead_letter(read.dead_letter_id, read.created_ms, "requeued").await.unwrap());
    assert_eq!(store.dead_letters(None, 10).await.unwrap().len(), 1, "nothing is lost");
}

#[tokio::test]
async fn an_evaluation_that_cannot_be_read_holds_up_no_other() {
    let (_folder, database, store) = open().await;
    let records = [record(&call("Yes."), "v1").await, record(&call("Yes."), "v2").await];
    store.record(&records).await.unwrap();
    let mut tx = database.write().await.unwrap();
    sqlx::query("UPDATE evaluations SET occurred_at = 'nonsense' WHERE evaluator_version = 'v1'")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let due = store.due("one", 10, 0).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].evaluation.evaluator_version, "v2");
    let report = store.report(0, 0).await.unwrap();
    assert_eq!(report.deliveries["one"], [("dead".into(), 1), ("open".into(), 1)].into());
}

#[tokio::test]
async fn each_delivery_has_its_own_schedule_and_end() {
    let (_folder, _, store) = open().await;
    store.record(&[record(&call("Yes."), "v1").await, record(&call("Yes."), "v2").await]).await.unwrap();
    let due = store.due("one", 10, 60_000).await.unwrap();
    assert_eq!(due.len(), 2);
    assert!(store.due("one", 10, 60_000).await.unwrap().is_empty(), "leased to who took them");
    let rows = [
        Undelivered { delivery_id: due[0].delivery_id, after_ms: Some(0) },
        Undelivered { delivery_id: due[1].delivery_id, after_ms: None },
    ];
    store.undelivered(&rows, "down").await.unwrap();
    let again = store.due("one", 10, 60_000).await.unwrap();
    assert_eq!(again.len(), 1, "one was put off, one given up");
    assert_eq!((again[0].delivery_id, again[0].attempts), (due[0].delivery_id, 1));
    store.delivered(&[again[0].delivery_id]).await.unwrap();
    assert_eq!(store.outbox_open().await.unwrap(), 2, "those of the other sink");
    let report = store.report(0, 0).await.unwrap();
    assert_eq!(report.deliveries["one"], [("dead".into(), 1), ("delivered".into(), 1)].into());
    let evaluations: u64 = report.verdicts.values().sum();
    assert_eq!(report.claims.claims, 3 * evaluations);
    assert_eq!(
        report.claims.doubted,
        [("language".into(), evaluations), ("short".into(), evaluations)].into(),
        "{:?}",
        report.claims
    );
}

#[tokio::test]
async fn a_worker_that_was_paused_past_its_lease_can_settle_nothing() {
    let (_folder, database, _) = open().await;
    let wait = Duration::from_secs(5);
    let mut paused = SqliteSource::new(database.clone(), Duration::from_millis(50));
    let mut other = SqliteSource::new(database, Duration::from_secs(60));
    paused.publish(vec![queued(b"x")]).await.unwrap();
    let stale = paused.receive(10, wait).await.unwrap().remove(0);
    let fresh = other.receive(10, wait).await.unwrap().remove(0);
    assert!(matches!(stale.extend().await, Err(SourceError::LeaseLost)));
    assert!(matches!(stale.settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
    assert_eq!(other.depth().await.unwrap().messages, 1, "the stale ack removed nothing");
    fresh.settle(Disposition::Ack).await.unwrap();
    assert_eq!(other.depth().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_retried_delivery_comes_again_and_not_before_its_time() {
    let (_folder, database, _) = open().await;
    let mut queue = SqliteSource::new(database, Duration::from_secs(60));
    queue.publish(vec![queued(b"x")]).await.unwrap();
    let delivery = queue.receive(10, Duration::ZERO).await.unwrap().remove(0);
    delivery.settle(Disposition::Retry(Duration::from_millis(300))).await.unwrap();
    assert!(queue.receive(10, Duration::ZERO).await.unwrap().is_empty());
    assert_eq!(queue.receive(10, Duration::from_secs(30)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_strands_nothing() {
    let (_folder, database, _) = open().await;
    let mut queue = SqliteSource::new(database.clone(), Duration::from_secs(60));
    queue.publish(vec![queued(b"x")]).await.unwrap();
    // Written an hour from now, as this clock sees it.
    let mut tx = database.write().await.unwrap();
    sqlx::query("UPDATE queue SET available_ms = available_ms + 3600000").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(queue.receive(10, Duration::ZERO).await.unwrap().len(), 1);
}
