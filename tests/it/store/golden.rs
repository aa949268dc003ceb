//! What a store promises of the golden set.

use std::{sync::Arc, time::Duration};

use aftercheck::{
    domain::{Evaluation, Golden, GoldenKey, Said},
    golden::{Most, Shelf},
    redaction::Redactor,
    store::{
        Due, Whose,
        golden::{GoldenChange, GoldenPage, Shelved, Shelving},
        reviewing::Scope,
    },
};

use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};

use super::{
    delivered, on_both,
    place::{self, Place},
    records,
};

on_both! {
    a_row_is_written_once_with_its_history_and_told_to_every_sink
    a_row_that_was_changed_since_is_not_overwritten
    what_was_taken_out_is_not_told_and_the_history_stays
    rows_are_read_by_data_set_tenant_and_page
    pruning_leaves_rows_and_erasing_takes_them
}

/// What makes a row of the first call.
async fn shelving(place: &Place) -> Shelving {
    let record = records(1..2).await.remove(0);
    place.store.record(std::slice::from_ref(&record)).await.unwrap();
    of(&record.evaluation)
}

/// What makes a row of an evaluation.
pub fn of(evaluation: &Evaluation) -> Shelving {
    let golden = serde_json::json!({
        "golden_id": Golden::id("d", &evaluation.tenant_id, &evaluation.request_id), "dataset": "d",
        "tenant_id": evaluation.tenant_id, "request_id": evaluation.request_id, "trace_id": evaluation.trace_id,
        "feature": evaluation.feature, "occurred_at": evaluation.occurred_at, "input": "Why? \u{0}", "contexts": [],
        "actual": "Because.", "expected": "Therefore.", "label": "fail", "reviewers": ["ana"],
        "evaluator_version": "v1", "prompt_version": "p", "model": "m", "source": "production",
    });
    Shelving {
        golden: serde_json::from_value(golden).unwrap(),
        evaluation_id: evaluation.evaluation_id,
        by: "ana".into(),
        change: GoldenChange::Promoted,
        over: None,
        label_entry: None,
        sinks: vec!["one".into(), "two".into()],
        notices: Vec::new(),
    }
}

/// The row that is due at a sink, once the scores are delivered.
async fn told(place: &Place, sink: &str) -> Option<(uuid::Uuid, Golden)> {
    place.sql("UPDATE outbox SET delivered_ms = 1 WHERE golden_id IS NULL AND retracts IS NULL").await;
    place.sql("UPDATE outbox SET due_ms = 0, created_ms = 0 WHERE golden_id IS NOT NULL").await;
    let due = place.store.due(sink, 10, 60_000).await.unwrap();
    due.into_iter().find_map(|row| match row.due {
        Due::Golden(golden) => Some((row.delivery_id, *golden)),
        _ => None,
    })
}

async fn a_row_is_written_once_with_its_history_and_told_to_every_sink(place: Place) {
    let (store, mut shelving) = (&place.store, shelving(&place).await);
    let id = shelving.golden.golden_id;
    assert_eq!(store.shelve(&shelving).await.unwrap(), Shelved::New);
    assert_eq!(store.shelve(&shelving).await.unwrap(), Shelved::Same);
    assert_eq!(place.count("SELECT count(*) FROM outbox WHERE golden_id IS NOT NULL").await, 2);
    shelving.golden.label = Said::Pass;
    assert_eq!(store.shelve(&shelving).await.unwrap(), Shelved::Changed);
    assert_eq!(place.count("SELECT count(*) FROM golden").await, 1, "promoted again, it overwrites");
    assert_eq!(place.count("SELECT count(*) FROM outbox WHERE golden_id IS NOT NULL").await, 2, "told once");
    let history = store.golden_history(Some(id), 10).await.unwrap();
    let said: Vec<_> = history.iter().map(|entry| (entry.change, entry.by.as_str())).collect();
    assert_eq!(said, [(GoldenChange::Promoted, "ana"); 2]);
    let (delivery_id, golden) = told(&place, "one").await.unwrap();
    assert_eq!((golden.golden_id, golden.label), (id, Said::Pass));
    assert_eq!(golden.expected.as_deref(), Some("Therefore."));
    store.delivered(&[delivered(delivery_id)]).await.unwrap();
    assert!(told(&place, "one").await.is_none());
    let mut texts = 0;
    let mut count =
        |text: aftercheck::store::StoredText<'_>| texts += u32::from(text.place == "golden.content");
    store.each_text(&mut count).await.unwrap();
    assert_eq!(texts, 1, "it is searched for what should have been redacted");
}

async fn a_row_that_was_changed_since_is_not_overwritten(place: Place) {
    let (store, mut shelving) = (&place.store, shelving(&place).await);
    store.shelve(&shelving).await.unwrap();
    let row = store.golden(shelving.golden.golden_id).await.unwrap().unwrap();
    let (first, mut second) = (shelving.clone(), shelving.clone());
    shelving.golden.expected = Some("a".into());
    shelving.over = Some(row.digest.clone());
    shelving.change = GoldenChange::Edited;
    assert_eq!(store.shelve(&shelving).await.unwrap(), Shelved::Changed);
    second.golden.expected = Some("b".into());
    second.over = Some(row.digest);
    assert_eq!(store.shelve(&second).await.unwrap(), Shelved::Stale);
    let kept = store.golden(first.golden.golden_id).await.unwrap().unwrap();
    assert_eq!(kept.golden.expected.as_deref(), Some("a"));
    let missing = Shelving { evaluation_id: uuid::Uuid::from_u128(9), ..second };
    assert_eq!(store.shelve(&missing).await.unwrap(), Shelved::Missing);
}

async fn what_was_taken_out_is_not_told_and_the_history_stays(place: Place) {
    let (store, shelving) = (&place.store, shelving(&place).await);
    let id = shelving.golden.golden_id;
    store.shelve(&shelving).await.unwrap();
    assert!(store.unshelve(id, "eve").await.unwrap());
    assert!(!store.unshelve(id, "eve").await.unwrap());
    assert!(store.golden(id).await.unwrap().is_none());
    assert!(told(&place, "one").await.is_none());
    let history = store.golden_history(None, 10).await.unwrap();
    let said: Vec<_> = history.iter().map(|entry| (entry.change, entry.by.as_str())).collect();
    assert_eq!(said, [(GoldenChange::Removed, "eve"), (GoldenChange::Promoted, "ana")]);
    // Promoted anew, and taken out while a sink is at it: that delivery ends.
    store.shelve(&shelving).await.unwrap();
    assert!(told(&place, "one").await.is_some());
    store.unshelve(id, "eve").await.unwrap();
    assert!(told(&place, "one").await.is_none());
    assert_eq!(store.dead_deliveries(Some("one"), &Scope::default(), 10).await.unwrap().len(), 1);
}

async fn rows_are_read_by_data_set_tenant_and_page(place: Place) {
    let (store, first) = (&place.store, shelving(&place).await);
    for number in 0..5_u128 {
        let mut shelving = first.clone();
        shelving.golden.golden_id = uuid::Uuid::from_u128(number);
        shelving.golden.dataset = if number == 4 { "other".into() } else { "d".into() };
        store.shelve(&shelving).await.unwrap();
    }
    let page = |dataset: Option<&str>, after: Option<u128>, limit| GoldenPage {
        scope: Scope::default(),
        dataset: dataset.map(str::to_owned),
        after: after.map(uuid::Uuid::from_u128),
        limit,
    };
    let ids = |rows: Vec<aftercheck::store::golden::GoldenRow>| {
        rows.iter().map(|row| row.golden.golden_id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(ids(store.goldens(&page(None, None, 10)).await.unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(ids(store.goldens(&page(Some("d"), None, 2)).await.unwrap()), [0, 1]);
    assert_eq!(ids(store.goldens(&page(Some("d"), Some(1), 9)).await.unwrap()), [2, 3]);
    let scope = |tenants: Vec<String>| Scope { tenants: Some(tenants), features: None };
    let nobody = GoldenPage { scope: scope(Vec::new()), ..page(None, None, 9) };
    assert!(store.goldens(&nobody).await.unwrap().is_empty());
    let own = GoldenPage { scope: scope(vec![first.golden.tenant_id.clone()]), ..page(None, None, 9) };
    assert_eq!(store.goldens(&own).await.unwrap().len(), 5);
}

async fn pruning_leaves_rows_and_erasing_takes_them(place: Place) {
    let (store, shelving) = (&place.store, shelving(&place).await);
    let Golden { golden_id, tenant_id, request_id, .. } = shelving.golden.clone();
    store.shelve(&shelving).await.unwrap();
    let (delivery_id, _) = told(&place, "one").await.unwrap();
    store.delivered(&[delivered(delivery_id)]).await.unwrap();
    place.sql("UPDATE outbox SET delivered_ms = 1").await;
    place.sql("UPDATE review_items SET state = 'closed'").await;
    assert_eq!(store.prunable(i64::MAX).await.unwrap().evaluations, 0);
    assert_eq!(store.prune(0..i64::MAX, 10).await.unwrap().evaluations, 0);
    assert!(store.golden(golden_id).await.unwrap().is_some());
    let whose = Whose::Call { tenant_id: Some(tenant_id), request_id };
    store.erase(&whose, None, 10, &["one".into()]).await.unwrap();
    assert!(store.golden(golden_id).await.unwrap().is_none());
    assert_eq!(
        place.count("SELECT count(*) FROM outbox WHERE retracts IS NOT NULL").await,
        2,
        "scores and row"
    );
    let due = store.due("one", 10, 60_000).await.unwrap();
    let keys = due.into_iter().filter_map(|row| match row.due {
        Due::Retraction(retraction) => retraction.golden,
        _ => None,
    });
    let key = GoldenKey { golden_id, dataset: "d".into() };
    assert_eq!(keys.collect::<Vec<_>>(), [key], "the sink finds the row also without a receipt");
    let last = store.golden_history(Some(golden_id), 10).await.unwrap().remove(0);
    assert_eq!((last.change, last.by.as_str()), (GoldenChange::Erased, ""));
    assert_eq!(store.shelve(&shelving).await.unwrap(), Shelved::Missing);
}

#[test]
fn who_hangs_up_lets_no_other_file_begin_beside_theirs() {
    // One thread for work that takes long.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(place::on_sqlite(async |place: Place| {
        let shelving = shelving(&place).await;
        place.store.shelve(&shelving).await.unwrap();
        let shelf = Shelf {
            store: Arc::clone(&place.store),
            redactor: Arc::new(Redactor::shipped()),
            sinks: Vec::new(),
            announce: Arc::new(|_, _| Vec::new()),
            by: "ana".into(),
            scope: Scope::default(),
        };
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let other = spawn_blocking(move || busy.recv());
        let turns = Arc::new(Mutex::new(()));
        let turn = Arc::clone(&turns).lock_owned().await;
        let asking = shelf.export("d", Most::ALL, turn);
        assert!(timeout(Duration::from_secs(2), asking).await.is_err(), "its work waits for the thread");
        assert!(turns.try_lock().is_err(), "the work is still to be done");
        drop(free);
        assert!(other.await.unwrap().is_err());
        drop(timeout(Duration::from_secs(60), turns.lock()).await.expect("the work is over"));
    }));
}
