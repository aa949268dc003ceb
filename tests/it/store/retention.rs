//! What is deleted with age, and what never is.

use aftercheck::{
    domain::{DeadClass, Reason},
    store::{Due, Pruned, Recorded, ReviewItem, ScanTurn, evaluation_id, reviewing::Scope},
};

use super::{burial, call, golden, numbered, on_both, place::Place, record, records};

on_both! {
    what_is_old_reviewed_and_delivered_goes_and_nothing_else
    a_call_goes_with_its_last_evaluation
    letters_and_the_history_that_tells_of_them_stay
    batches_go_on_behind_what_is_kept
    a_scan_is_due_for_one_worker
    what_was_pruned_in_part_is_no_sample
}

/// Everything that was evaluated before tomorrow.
const ALL: std::ops::Range<i64> = 0..i64::MAX;

async fn what_is_old_reviewed_and_delivered_goes_and_nothing_else(place: Place) {
    let store = &place.store;
    let mut group = records(1..7).await;
    // 1 may go; 2 is unreviewed; 3 is undelivered; 4 is given up and may go; 5 is too young; 6 has none.
    for record in &mut group {
        record.review = Some(ReviewItem::new(Reason::UnsureBand, 1.0));
    }
    group[5].review = None;
    group[5].sinks.clear();
    store.record(&group).await.unwrap();
    place.sql("UPDATE review_items SET state = 'closed'").await;
    place.sql("UPDATE outbox SET delivered_ms = 1").await;
    of(&place, "UPDATE review_items SET state = 'open'", 2).await;
    of(&place, "UPDATE outbox SET delivered_ms = NULL", 3).await;
    of(&place, "UPDATE outbox SET delivered_ms = NULL, dead_reason = 'x'", 4).await;
    place.sql("UPDATE evaluations SET evaluated_ms = 1000").await;
    place.sql("UPDATE evaluations SET evaluated_ms = 2000 WHERE request_id = 'kill-5'").await;
    let would = Pruned { evaluations: 3, calls: 3, ledger: 3, reached_ms: None };
    assert_eq!(store.prunable(2000).await.unwrap(), would);
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 6, "counting deletes nothing");
    assert_eq!(store.prune(0..2000, 100).await.unwrap(), Pruned { reached_ms: Some(1000), ..would });
    assert_eq!(store.prune(0..2000, 100).await.unwrap(), Pruned::default(), "and then there is no more");
    let left = "SELECT count(*) FROM evaluations WHERE request_id IN ('kill-2', 'kill-3', 'kill-5')";
    assert_eq!((place.count(left).await, place.count("SELECT count(*) FROM evaluations").await), (3, 3));
    assert_eq!(place.count("SELECT count(*) FROM calls").await, 3);
    assert_eq!(place.count("SELECT count(*) FROM claims").await, 9);
    assert_eq!(place.count("SELECT count(*) FROM scores").await, 3);
    assert_eq!(place.count("SELECT count(*) FROM review_items").await, 3);
    assert_eq!(place.count("SELECT count(*) FROM outbox").await, 6);
    let due = store.due("two", 10, 0).await.unwrap();
    assert_eq!(due.len(), 1, "the undelivered can still be delivered");
    assert!(matches!(&due[0].due, Due::Evaluation(one) if one.request_id == "kill-3"));
    assert!(store.stories(None, "kill-1").await.unwrap().is_empty(), "of the pruned nothing is known");
    // It comes again, from a backup say: it is evaluated again.
    assert_eq!(store.record(&group[..1]).await.unwrap(), [Recorded::New]);
}

/// Runs a statement about the evaluation of one call.
async fn of(place: &Place, statement: &str, number: usize) {
    let id = evaluation_id(&numbered(number, "Yes."), "v1");
    place.sql(&format!("{statement} WHERE evaluation_id = '{id}'")).await;
}

async fn a_call_goes_with_its_last_evaluation(place: Place) {
    let store = &place.store;
    store.record(&[record(&call("Yes."), "v1").await, record(&call("Yes."), "v2").await]).await.unwrap();
    place.sql("UPDATE review_items SET state = 'closed'").await;
    place.sql("UPDATE outbox SET delivered_ms = 1").await;
    place.sql("UPDATE evaluations SET evaluated_ms = 1000 WHERE evaluator_version = 'v1'").await;
    place.sql("UPDATE evaluations SET evaluated_ms = 2000 WHERE evaluator_version = 'v2'").await;
    let first = Pruned { evaluations: 1, calls: 0, ledger: 0, reached_ms: None };
    assert_eq!(store.prunable(1500).await.unwrap(), first);
    assert_eq!(store.prune(0..1500, 100).await.unwrap(), Pruned { reached_ms: Some(1000), ..first });
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert_eq!((story.evaluations.len(), story.ledger.len()), (1, 2), "its history is whole");
    assert!(story.received.is_some());
    let last = Pruned { evaluations: 1, calls: 1, ledger: 2, reached_ms: None };
    assert_eq!(store.prunable(i64::MAX).await.unwrap(), last);
    assert_eq!(store.prune(ALL, 100).await.unwrap(), Pruned { reached_ms: Some(2000), ..last });
    assert_eq!(place.count("SELECT count(*) FROM ledger").await, 0);
}

async fn letters_and_the_history_that_tells_of_them_stay(place: Place) {
    let store = &place.store;
    store.record(&[record(&numbered(1, "Yes."), "v1").await]).await.unwrap();
    let mut letter = burial(DeadClass::BadJson);
    (letter.letter.tenant_id, letter.letter.request_id) = (Some("acme".into()), Some("kill-1".into()));
    store.bury(&letter).await.unwrap();
    place.sql("UPDATE review_items SET state = 'closed'").await;
    place.sql("UPDATE outbox SET delivered_ms = 1").await;
    let gone = Pruned { evaluations: 1, calls: 1, ledger: 0, reached_ms: None };
    assert_eq!(store.prunable(i64::MAX).await.unwrap(), gone);
    assert_eq!(Pruned { reached_ms: None, ..store.prune(ALL, 100).await.unwrap() }, gone);
    let story = &store.stories(Some("acme"), "kill-1").await.unwrap()[0];
    assert_eq!((story.dead_letters.len(), story.ledger.len()), (1, 2));
}

async fn batches_go_on_behind_what_is_kept(place: Place) {
    let store = &place.store;
    store.record(&records(1..11).await).await.unwrap();
    place.sql("UPDATE review_items SET state = 'closed'").await;
    place.sql("UPDATE outbox SET delivered_ms = 1").await;
    // Of one millisecond each, but for two of one; the first two are kept.
    place.sql("UPDATE evaluations SET evaluated_ms = CAST(substr(request_id, 6) AS integer)").await;
    place.sql("UPDATE evaluations SET evaluated_ms = 6 WHERE request_id = 'kill-5'").await;
    of(&place, "UPDATE outbox SET delivered_ms = NULL", 1).await;
    of(&place, "UPDATE outbox SET delivered_ms = NULL", 2).await;
    let (mut from, mut reached) = (0, Vec::new());
    while let Some(at) = store.prune(from..11, 3).await.unwrap().reached_ms {
        reached.push(at);
        from = at;
    }
    assert_eq!(reached, [6, 8, 10], "three a batch, two in the last");
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 2);
}

async fn a_scan_is_due_for_one_worker(place: Place) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = std::sync::Arc::clone(&place.store);
        tasks.spawn(async move { store.take_scan(60_000).await.unwrap().is_ours });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|ours| *ours).count(), 1, "of eight, side by side");
    let store = &place.store;
    place.sql("UPDATE scan SET due_ms = 1").await;
    assert!(store.take_scan(60_000).await.unwrap().is_ours, "whoever had it did not end it");
    store.end_scan(3, 60_000).await.unwrap();
    assert_eq!(store.take_scan(60_000).await.unwrap(), ScanTurn { is_ours: false, found: 3 });
    store.end_scan(0, 0).await.unwrap();
    assert_eq!(store.take_scan(60_000).await.unwrap(), ScanTurn { is_ours: true, found: 0 });
}

async fn what_was_pruned_in_part_is_no_sample(place: Place) {
    let store = &place.store;
    let mut group = records(1..9).await;
    for record in &mut group {
        record.review = Some(ReviewItem::new(Reason::AuditSlice, 0.5));
    }
    store.record(&group).await.unwrap();
    place.sql("UPDATE review_items SET state = 'closed'").await;
    place.sql("UPDATE evaluations SET evaluated_ms = CAST(substr(request_id, 6) AS integer)").await;
    // People keep what failed: two of the old ones stay, and they are not what the old ones were like.
    for record in &group[..2] {
        store.shelve(&golden::of(&record.evaluation)).await.unwrap();
    }
    place.sql("UPDATE outbox SET delivered_ms = 1").await;
    let drawn = async || store.audited(&Scope::default(), 0).await.unwrap().len();
    assert_eq!(drawn().await, 8);
    assert_eq!(store.prune(0..2, 10).await.unwrap().evaluations, 0, "what is left alone moves nothing");
    assert_eq!(drawn().await, 8);
    assert_eq!(store.prune(0..6, 10).await.unwrap().evaluations, 3);
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 5);
    assert_eq!(drawn().await, 3, "of the times from which everything is there");
    // A later prune of what is older changes nothing.
    of(&place, "DELETE FROM golden", 1).await;
    assert_eq!(store.prune(0..2, 10).await.unwrap().evaluations, 1);
    assert_eq!(drawn().await, 3);
}
