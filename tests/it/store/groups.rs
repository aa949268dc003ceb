//! What a store promises when several calls, or several workers, come at once.

use std::{collections::HashSet, sync::Arc};

use aftercheck::store::Recorded;
use tokio::sync::Barrier;

use uuid::Uuid;

use super::{call, numbered, on_both, place::Place, record, records};

on_both! {
    a_group_tells_of_each_record_what_became_of_it
    two_workers_with_the_same_call_write_one_verdict
    overlapping_groups_in_any_order_all_end
    no_two_dispatchers_take_the_same_delivery
}

async fn a_group_tells_of_each_record_what_became_of_it(place: Place) {
    let store = &place.store;
    let (first, other) = (numbered(7, "Yes."), numbered(7, "No."));
    let known = numbered(9, "Yes.");
    store.record(&[record(&known, "v1").await]).await.unwrap();
    let group = [
        record(&first, "v2").await,
        record(&other, "v1").await,
        record(&numbered(3, "Yes."), "v1").await,
        record(&known, "v1").await,
        record(&first, "v1").await,
        record(&first, "v2").await,
        record(&numbered(9, "No."), "v1").await,
        record(&known, "v2").await,
    ];
    use Recorded::{AlreadyThere, Conflict, New};
    let outcomes = [New, Conflict, New, AlreadyThere, New, AlreadyThere, Conflict, New];
    assert_eq!(store.record(&group).await.unwrap(), outcomes);
    assert_eq!(place.count("SELECT count(*) FROM calls").await, 3);
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 5);
    assert_eq!(place.count("SELECT count(*) FROM claims").await, 15);
    assert_eq!(place.count("SELECT count(*) FROM outbox").await, 10);
    assert_eq!(place.count("SELECT count(*) FROM ledger WHERE event = 'conflict'").await, 2);
    assert_eq!(place.count("SELECT count(*) FROM ledger WHERE event = 'evaluated'").await, 5);
    assert_eq!(store.stories(None, "kill-7").await.unwrap()[0].received.as_ref().unwrap().call, first);
    // The same once more, as after a commit whose answer was lost.
    let again = [
        AlreadyThere,
        Conflict,
        AlreadyThere,
        AlreadyThere,
        AlreadyThere,
        AlreadyThere,
        Conflict,
        AlreadyThere,
    ];
    assert_eq!(store.record(&group).await.unwrap(), again);
    assert_eq!(place.count("SELECT count(*) FROM ledger").await, 7);
    assert!(store.record(&[]).await.unwrap().is_empty());
}

async fn two_workers_with_the_same_call_write_one_verdict(place: Place) {
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        let barrier = Arc::new(Barrier::new(2));
        let record = record(&call("Yes."), version).await;
        let worker = || {
            let (store, barrier, record) = (Arc::clone(&place.store), Arc::clone(&barrier), record.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                store.record(&[record]).await.unwrap()[0]
            })
        };
        let (one, other) = (worker(), worker());
        let outcomes = [one.await.unwrap(), other.await.unwrap()];
        assert!(
            outcomes.contains(&Recorded::New) && outcomes.contains(&Recorded::AlreadyThere),
            "{outcomes:?}"
        );
    }
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 5);
    assert_eq!(place.count("SELECT count(*) FROM outbox").await, 10);
}

/// Workers that commit the same calls, half of them the other way round, again and again. Gives back how many records
/// were written.
pub(super) async fn overlapping(place: &Place, rounds: usize) -> usize {
    let mut written = 0;
    for round in 0..rounds {
        let barrier = Arc::new(Barrier::new(4));
        let group = records(round * 32..round * 32 + 32).await;
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (store, barrier, mut group) =
                    (Arc::clone(&place.store), Arc::clone(&barrier), group.clone());
                if worker % 2 == 1 {
                    group.reverse();
                }
                tokio::spawn(async move {
                    let digests: Vec<String> =
                        group.iter().map(|record| record.payload_digest.clone()).collect();
                    barrier.wait().await;
                    store.count_attempts(&digests, Uuid::now_v7()).await.unwrap();
                    // Counting has put them in a row: they begin together once more.
                    barrier.wait().await;
                    store.record(&group).await.unwrap()
                })
            })
            .collect();
        for worker in workers {
            let outcomes = worker.await.unwrap();
            written += outcomes.iter().filter(|outcome| **outcome == Recorded::New).count();
        }
    }
    written
}

async fn overlapping_groups_in_any_order_all_end(place: Place) {
    assert_eq!(overlapping(&place, 5).await, 160, "each record was written by exactly one");
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 160);
    assert_eq!(place.count("SELECT count(*) FROM claims").await, 480);
}

async fn no_two_dispatchers_take_the_same_delivery(place: Place) {
    place.store.record(&records(0..50).await).await.unwrap();
    let barrier = Arc::new(Barrier::new(4));
    let dispatchers: Vec<_> = (0..4)
        .map(|_| {
            let (store, barrier) = (Arc::clone(&place.store), Arc::clone(&barrier));
            tokio::spawn(async move {
                let mut taken = Vec::new();
                barrier.wait().await;
                loop {
                    let due = store.due("one", 4, 60_000).await.unwrap();
                    if due.is_empty() {
                        return taken;
                    }
                    taken.extend(due.into_iter().map(|row| row.delivery_id));
                }
            })
        })
        .collect();
    let mut taken = Vec::new();
    for dispatcher in dispatchers {
        taken.extend(dispatcher.await.unwrap());
    }
    assert_eq!(taken.len(), 50);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 50, "none was taken twice");
}
