//! What a store promises of sinks: the order of a call's deliveries, pauses, and what was given up.

use aftercheck::store::{DeadDelivery, Due, OutboxRow, SinkState, Undelivered, reviewing::Scope};
use uuid::Uuid;

use super::{call, delivered, on_both, place::Place, record, records, undelivered};

on_both! {
    rows_of_one_call_keep_their_order_and_hold_up_no_other_call
    due_rows_come_oldest_first
    who_comes_late_changes_no_end
    a_paused_sink_has_nothing_due
    what_was_given_up_is_listed_requeued_and_dropped
    all_that_a_sink_has_given_up_is_requeued_page_by_page
    how_each_sink_stands_is_told
}

/// The versions of the evaluations of rows.
fn versions(due: &[OutboxRow]) -> Vec<String> {
    let version = |row: &OutboxRow| match &row.due {
        Due::Evaluation(evaluation) => evaluation.evaluator_version.clone(),
        Due::Label(_) => "label".into(),
        Due::Golden(_) => "golden".into(),
        Due::Retraction(_) => "retracts".into(),
    };
    let mut versions: Vec<String> = due.iter().map(version).collect();
    versions.sort();
    versions
}

async fn rows_of_one_call_keep_their_order_and_hold_up_no_other_call(place: Place) {
    let store = &place.store;
    store.record(&[record(&call("Yes."), "v1").await]).await.unwrap();
    place.sql("UPDATE outbox SET created_ms = created_ms - 10").await;
    store.record(&[record(&call("Yes."), "v2").await]).await.unwrap();
    store.record(&[record(&super::numbered(7, "Yes."), "v3").await]).await.unwrap();
    // The later row waits while the earlier is at work, and while it is put off.
    let due = store.due("one", 10, 60_000).await.unwrap();
    assert_eq!(versions(&due), ["v1", "v3"]);
    let earlier = due.iter().find(|row| versions(std::slice::from_ref(row)) == ["v1"]).unwrap().delivery_id;
    assert!(store.due("one", 10, 60_000).await.unwrap().is_empty());
    store.undelivered(&[undelivered(earlier, Some(60_000), "later")]).await.unwrap();
    assert!(store.due("one", 10, 60_000).await.unwrap().is_empty());
    // Another sink has an order of its own.
    assert_eq!(versions(&store.due("two", 10, 60_000).await.unwrap()), ["v1", "v3"]);
    // One that is dead, or delivered, is waited for no more.
    store.undelivered(&[undelivered(earlier, None, "never")]).await.unwrap();
    assert_eq!(versions(&store.due("one", 10, 0).await.unwrap()), ["v2"]);
    assert!(store.requeue_delivery(earlier, "erika").await.unwrap());
    assert_eq!(versions(&store.due("one", 10, 0).await.unwrap()), ["v1"]);
    store.delivered(&[delivered(earlier)]).await.unwrap();
    assert_eq!(versions(&store.due("one", 10, 0).await.unwrap()), ["v2"]);
}

async fn due_rows_come_oldest_first(place: Place) {
    let store = &place.store;
    store.record(&records(0..12).await).await.unwrap();
    let mut ids: Vec<Uuid> =
        store.due("one", 20, 0).await.unwrap().iter().map(|row| row.delivery_id).collect();
    // An order that is neither that of their ids nor that in which they were written.
    ids.sort();
    ids.reverse();
    ids.rotate_left(5);
    for (place_in_line, id) in ids.iter().enumerate() {
        place.sql(&format!("UPDATE outbox SET due_ms = {place_in_line} WHERE delivery_id = '{id}'")).await;
    }
    for some in [&ids[..7], &ids[7..]] {
        let due: Vec<Uuid> =
            store.due("one", 7, 60_000).await.unwrap().iter().map(|row| row.delivery_id).collect();
        assert_eq!(due, some);
    }
    // Where they are due at the same time, their ids decide.
    place.sql("UPDATE outbox SET due_ms = 0").await;
    ids.sort();
    let due: Vec<Uuid> =
        store.due("one", 20, 60_000).await.unwrap().iter().map(|row| row.delivery_id).collect();
    assert_eq!(due, ids);
}

async fn who_comes_late_changes_no_end(place: Place) {
    let store = &place.store;
    store.record(&records(1..3).await).await.unwrap();
    let due = store.due("one", 10, 0).await.unwrap();
    let [first, second] = [due[0].delivery_id, due[1].delivery_id];
    // Another worker gave it up; the slow one has delivered it.
    store.undelivered(&[undelivered(first, None, "no answer")]).await.unwrap();
    assert!(store.drop_delivery(first, "erika").await.unwrap());
    store.delivered(&[delivered(first)]).await.unwrap();
    let ended = "SELECT count(*) FROM outbox WHERE delivered_ms IS NOT NULL";
    let both = "SELECT count(*) FROM outbox WHERE delivered_ms IS NOT NULL AND dead_reason IS NOT NULL";
    assert_eq!((place.count(ended).await, place.count(both).await), (1, 0));
    // One that was delivered is neither put off nor given up.
    let late = [undelivered(first, None, "no answer"), undelivered(first, Some(0), "no answer")];
    for late in late {
        store.undelivered(&[late]).await.unwrap();
        assert_eq!((place.count(ended).await, place.count(both).await), (1, 0));
        assert!(store.dead_deliveries(None, &Scope::default(), 10).await.unwrap().is_empty());
    }
    // Nor requeued, also where an older version left it both.
    place.sql(&format!("UPDATE outbox SET dead_reason = 'x' WHERE delivery_id = '{first}'")).await;
    assert!(!store.requeue_delivery(first, "erika").await.unwrap());
    assert!(store.requeue_deliveries("one", None, 10, "erika").await.unwrap().is_empty());
    assert_eq!(place.count(&by_erika("requeued", first)).await, 0);
    // One that was given up is not put off: somebody may have seen that it is dead.
    store.undelivered(&[undelivered(second, None, "status 422")]).await.unwrap();
    store.undelivered(&[undelivered(second, Some(0), "no answer")]).await.unwrap();
    let dead = store.dead_delivery(second).await.unwrap().unwrap();
    assert_eq!((dead.reason.as_str(), dead.attempts), ("status 422", 1));
    assert!(store.due("one", 10, 0).await.unwrap().is_empty());
}

async fn a_paused_sink_has_nothing_due(Place { store, .. }: Place) {
    store.record(&records(1..3).await).await.unwrap();
    assert!(store.pause_sink("one", true).await.unwrap());
    assert!(!store.pause_sink("one", true).await.unwrap(), "it is paused already");
    assert!(store.due("one", 10, 0).await.unwrap().is_empty());
    assert_eq!(store.due("two", 10, 0).await.unwrap().len(), 2, "no other sink is");
    // What was at work is marked, and verdicts go on.
    store.record(&records(3..4).await).await.unwrap();
    assert_eq!(store.outbox_open().await.unwrap(), 6);
    assert!(store.pause_sink("one", false).await.unwrap());
    assert!(!store.pause_sink("one", false).await.unwrap());
    assert_eq!(store.due("one", 10, 0).await.unwrap().len(), 3);
}

/// Counts what ledgers of calls say somebody did with a delivery.
fn by_erika(event: &str, delivery_id: Uuid) -> String {
    format!(
        "SELECT count(*) FROM ledger JOIN evaluations USING (tenant_id, request_id)
         WHERE event = '{event}' AND detail LIKE '{delivery_id} of sink one by erika %'"
    )
}

async fn what_was_given_up_is_listed_requeued_and_dropped(place: Place) {
    let store = &place.store;
    store.record(&records(1..3).await).await.unwrap();
    let due = store.due("one", 10, 0).await.unwrap();
    let [first, second] = [due[0].delivery_id, due[1].delivery_id];
    assert!(!store.requeue_delivery(first, "erika").await.unwrap(), "it is not dead");
    assert!(!store.drop_delivery(first, "erika").await.unwrap());
    assert_eq!(store.dead_delivery(first).await.unwrap(), None);
    let dead = [undelivered(first, None, "status 422"), undelivered(second, None, "status 400")];
    store.undelivered(&dead).await.unwrap();
    assert_eq!(store.dead_deliveries(None, &Scope::default(), 10).await.unwrap().len(), 2);
    assert_eq!(store.dead_deliveries(Some("one"), &Scope::default(), 1).await.unwrap().len(), 1);
    assert!(store.dead_deliveries(Some("two"), &Scope::default(), 10).await.unwrap().is_empty());
    let of = |tenant: &str, feature: &str| Scope {
        tenants: Some(vec![tenant.to_owned()]),
        features: Some(vec![feature.to_owned()]),
    };
    for (scope, seen) in [(of("acme", "f"), 2), (of("acme", "another"), 0), (of("globex", "f"), 0)] {
        assert_eq!(store.dead_deliveries(None, &scope, 10).await.unwrap().len(), seen, "{scope:?}");
    }
    let shown = store.dead_delivery(first).await.unwrap().unwrap();
    assert_eq!(shown.feature.as_deref(), Some("f"));
    let DeadDelivery { sink, reason, attempts, retracts, request_id, .. } = shown;
    assert_eq!((sink.as_str(), reason.as_str(), attempts, retracts), ("one", "status 422", 1, false));
    assert!(request_id.unwrap().starts_with("kill-"));
    // Requeued it is as if it were new, and erasing knows all the same that it may have arrived.
    place.sql("UPDATE outbox SET created_ms = created_ms - 1000000").await;
    assert!(store.requeue_delivery(first, "erika").await.unwrap());
    assert_eq!(place.count(&by_erika("requeued", first)).await, 1);
    let again = store.due("one", 10, 60_000).await.unwrap();
    assert_eq!((again.len(), again[0].delivery_id, again[0].attempts), (1, first, 0));
    assert!(again[0].age_ms < 500_000, "its age counts from then: {}", again[0].age_ms);
    assert_eq!(
        place.count("SELECT count(*) FROM outbox WHERE sink = 'one' AND due_ms > created_ms").await,
        2
    );
    // Dropped it is on no list, and is known all the same.
    assert!(store.drop_delivery(second, "erika").await.unwrap());
    assert!(!store.drop_delivery(second, "erika").await.unwrap());
    assert_eq!(place.count(&by_erika("dropped", second)).await, 1, "what did nothing is no entry");
    assert!(store.dead_deliveries(None, &Scope::default(), 10).await.unwrap().is_empty());
    assert_eq!(place.count("SELECT count(*) FROM outbox WHERE dead_reason IS NOT NULL").await, 1);
    assert!(!store.drop_delivery(Uuid::nil(), "erika").await.unwrap());
}

async fn all_that_a_sink_has_given_up_is_requeued_page_by_page(place: Place) {
    let store = &place.store;
    store.record(&records(0..8).await).await.unwrap();
    let due = store.due("one", 10, 0).await.unwrap();
    let mut ids: Vec<Uuid> = due.iter().map(|row| row.delivery_id).collect();
    ids.sort();
    let dead: Vec<Undelivered> = ids.iter().map(|id| undelivered(*id, None, "status 422")).collect();
    store.undelivered(&dead[..7]).await.unwrap();
    let other = store.due("two", 1, 0).await.unwrap().remove(0).delivery_id;
    store.undelivered(&[undelivered(other, None, "status 422")]).await.unwrap();
    assert!(store.drop_delivery(ids[2], "erika").await.unwrap());
    let (mut after, mut all) = (None, Vec::new());
    for expected in [3, 3, 0] {
        let page = store.requeue_deliveries("one", after, 3, "erika").await.unwrap();
        assert_eq!(page.len(), expected);
        // It fails again while we are at it: this is no endless work.
        let again: Vec<Undelivered> = page.iter().map(|id| undelivered(*id, None, "status 422")).collect();
        store.undelivered(&again).await.unwrap();
        after = page.last().copied().or(after);
        all.extend(page);
    }
    assert_eq!(
        all,
        [ids[0], ids[1], ids[3], ids[4], ids[5], ids[6]],
        "not what is dropped, not what is open"
    );
    assert_eq!(store.requeue_deliveries("one", None, 10, "erika").await.unwrap().len(), 6);
    assert_eq!(
        place.count("SELECT count(*) FROM outbox WHERE requeued_ms IS NOT NULL AND attempts = 0").await,
        6
    );
    // Each time is an entry in the ledger of its call.
    assert_eq!(place.count(&by_erika("requeued", ids[0])).await, 2);
    assert_eq!(place.count(&by_erika("requeued", ids[2])).await, 0);
    assert_eq!(
        store.dead_deliveries(None, &Scope::default(), 10).await.unwrap()[0].delivery_id,
        other,
        "no other sink's"
    );
    assert_eq!(store.due("one", 10, 0).await.unwrap().len(), 7);
}

async fn how_each_sink_stands_is_told(place: Place) {
    let store = &place.store;
    assert!(store.sink_states().await.unwrap().is_empty());
    store.record(&records(1..4).await).await.unwrap();
    place.sql("UPDATE outbox SET created_ms = created_ms - 60000 WHERE sink = 'one'").await;
    let due = store.due("one", 10, 0).await.unwrap();
    let [one, two, three] = [0, 1, 2].map(|at| due[at].delivery_id);
    let waits = Undelivered { is_attempt: false, ..undelivered(two, Some(9000), "no answer") };
    store.undelivered(&[undelivered(one, None, "status 422"), waits]).await.unwrap();
    store.delivered(&[delivered(three)]).await.unwrap();
    store.pause_sink("three", true).await.unwrap();
    let states = store.sink_states().await.unwrap();
    let names: Vec<&str> = states.iter().map(|state| state.sink.as_str()).collect();
    assert_eq!(names, ["one", "three", "two"]);
    let SinkState { pending, oldest_ms, dead, paused_ms, last_error, .. } = &states[0];
    assert_eq!((*pending, *dead, *paused_ms, last_error.as_deref()), (1, 1, None, Some("no answer")));
    assert!((60_000..120_000).contains(&oldest_ms.unwrap()), "{oldest_ms:?}");
    assert!(states[1].paused_ms.is_some() && states[1].pending == 0 && states[1].oldest_ms.is_none());
    assert_eq!((states[2].pending, &states[2].last_error), (3, &None));
    store.delivered(&[delivered(two)]).await.unwrap();
    let state = store.sink_states().await.unwrap().remove(0);
    assert_eq!((state.pending, state.last_error.as_deref()), (0, Some("status 422")), "why the dead is dead");
}
