//! What is erased on demand and does not come back, and sealed messages.

use std::sync::Arc;

use aftercheck::{
    domain::{DeadClass, Retraction},
    store::{
        Burial, Buried, CallKey, Decided, Delivered, Due, Erased, Recorded, Sealed, TooOld, Whose,
        dead_letter_id,
    },
};
use uuid::Uuid;

use super::{burial, call, delivered, kept, numbered, on_both, place::Place, record, records, undelivered};

on_both! {
    a_call_goes_whole_and_does_not_come_back
    a_customer_and_a_tenant_go_batch_by_batch_and_no_other
    letters_of_whom_it_is_about_go_too
    what_was_erased_comes_back_neither_as_a_letter_nor_from_one
    what_is_sealed_is_shown_to_who_says_so_until_it_expires
    bytes_that_came_through_are_no_dead_letter
    a_letter_whose_attempts_nobody_counts_is_not_written
    sinks_are_told_to_delete_what_they_may_have
    letters_go_with_age_and_their_history_with_them
}

/// One call in one tenant.
fn one(request_id: &str) -> Whose {
    Whose::Call { request_id: request_id.into(), tenant_id: Some("acme".into()) }
}

async fn a_call_goes_whole_and_does_not_come_back(place: Place) {
    let store = &place.store;
    let group = records(1..3).await;
    store.record(&group).await.unwrap();
    let second = record(&numbered(1, "Yes."), "v2").await;
    store.record(std::slice::from_ref(&second)).await.unwrap();
    place.sql("UPDATE outbox SET delivered_ms = 1 WHERE sink = 'one'").await;
    let would =
        Erased { calls: 1, evaluations: 2, delivered: [("one".to_owned(), 2)].into(), ..Erased::default() };
    assert_eq!(store.erasable(&one("kill-1")).await.unwrap(), would);
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 3, "counting erases nothing");
    // Its reviews are open and its other deliveries are not made: that saves nothing.
    let reached = Some(("kill-1".to_owned(), "acme".to_owned()));
    assert_eq!(store.erase(&one("kill-1"), None, 10, &[]).await.unwrap(), Erased { reached, ..would });
    assert_eq!(store.erase(&one("kill-1"), None, 10, &[]).await.unwrap(), Erased::default());
    for (rows, left) in [
        ("SELECT count(*) FROM evaluations", 1),
        ("SELECT count(*) FROM claims", 3),
        ("SELECT count(*) FROM scores", 1),
        ("SELECT count(*) FROM outbox", 2),
        ("SELECT count(*) FROM calls", 2),
        ("SELECT count(*) FROM calls WHERE body LIKE '%kill-1%'", 0),
    ] {
        assert_eq!(place.count(rows).await, left, "{rows}");
    }
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert!(story.received.is_none() && story.evaluations.is_empty());
    let history: Vec<&str> = story.ledger.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(history, ["erased"]);
    // It comes again from the queue: it is known, and no verdict of a worker that was at it is written.
    let key = Arc::new(CallKey::of(&numbered(1, "Yes.")).unwrap());
    assert_eq!(store.decided(&[key], "v3").await.unwrap(), [Decided::Erased]);
    assert_eq!(store.record(&group).await.unwrap(), [Recorded::Erased, Recorded::AlreadyThere]);
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert!(story.received.is_none() && story.evaluations.is_empty() && story.ledger.len() == 1);
    assert_eq!(store.expire(TooOld::default(), 10).await.unwrap(), 0, "its key stays");
    let all = TooOld { erased_ms: i64::MAX, dead_ms: 0 };
    assert_eq!(store.expire(all, 10).await.unwrap(), 1);
    assert_eq!(place.count("SELECT count(*) FROM calls").await, 1, "and goes with age; the other stays");
}

async fn a_customer_and_a_tenant_go_batch_by_batch_and_no_other(place: Place) {
    let store = &place.store;
    let mut group = records(0..30).await;
    for (number, record) in group.iter_mut().enumerate() {
        record.kept.user_key = Some(if number % 3 == 0 { "ana" } else { "ben" }.to_owned());
        record.evaluation.tenant_id = if number < 20 { "acme" } else { "other" }.to_owned();
    }
    store.record(&group).await.unwrap();
    let user =
        |tenant: Option<&str>| Whose::User { user_key: "ana".into(), tenant_id: tenant.map(str::to_owned) };
    assert_eq!(store.erasable(&user(None)).await.unwrap().calls, 10);
    assert_eq!(store.erasable(&user(Some("acme"))).await.unwrap().calls, 7);
    let erase = async |whose: &Whose| {
        let (mut calls, mut batches, mut after) = (0, 0, None);
        loop {
            let batch = store.erase(whose, after.as_ref(), 3, &[]).await.unwrap();
            assert!(batch.calls <= 3);
            calls += batch.calls;
            batches += 1;
            after = match batch.reached {
                Some(reached) => Some(reached),
                None => return (calls, batches),
            };
        }
    };
    assert_eq!(erase(&user(Some("acme"))).await, (7, 4));
    assert_eq!(erase(&user(None)).await, (3, 2));
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 20, "the other customer's");
    assert_eq!(erase(&Whose::Tenant("other".into())).await, (7, 4));
    assert_eq!(place.count("SELECT count(*) FROM calls WHERE user_key = 'ben'").await, 13);
    assert_eq!(place.count("SELECT count(*) FROM evaluations WHERE tenant_id = 'acme'").await, 13);
}

async fn letters_of_whom_it_is_about_go_too(place: Place) {
    let store = &place.store;
    let bury = async |name: &str, request: Option<&str>, user: Option<&str>| {
        let mut burial = burial(DeadClass::BadJson);
        burial.payload_digest = name.to_owned();
        burial.letter.request_id = request.map(str::to_owned);
        burial.letter.tenant_id = request.map(|_| "acme".to_owned());
        burial.user_key = user.map(str::to_owned);
        store.bury(&burial).await.unwrap();
    };
    bury("one", Some("r1"), Some("ana")).await;
    bury("two", Some("r2"), None).await;
    bury("three", None, Some("ana")).await;
    bury("four", None, None).await;
    let user = Whose::User { user_key: "ana".into(), tenant_id: None };
    assert_eq!(store.erasable(&user).await.unwrap().dead_letters, 2);
    assert_eq!(store.erase(&user, None, 10, &[]).await.unwrap().dead_letters, 2);
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 2);
    let story = &store.stories(None, "r1").await.unwrap()[0];
    assert_eq!(story.ledger.iter().map(|entry| entry.event.as_str()).collect::<Vec<_>>(), ["erased"]);
    let of_nobody = "SELECT count(*) FROM ledger WHERE event = 'dead' AND request_id IS NULL";
    assert_eq!(place.count(of_nobody).await, 2, "what cannot be told from others stays");
    assert_eq!(store.erase(&one("r2"), None, 10, &[]).await.unwrap().dead_letters, 1);
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 1);
}

async fn what_is_sealed_is_shown_to_who_says_so_until_it_expires(place: Place) {
    let store = &place.store;
    let mut record = record(&call("Yes."), "v1").await;
    record.kept.sealed = Some(Sealed { message: b"secret".to_vec(), expires_ms: i64::MAX });
    store.record(&[record.clone(), record.clone()]).await.unwrap();
    store.record(std::slice::from_ref(&record)).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM sealed").await, 1);
    let reveal =
        async |tenant: Option<&str>, detail: &str| store.reveal(tenant, "kill-1", detail).await.unwrap();
    assert!(reveal(Some("other"), "by eve").await.is_empty());
    assert_eq!(reveal(None, "by ana").await, [("acme".to_owned(), b"secret".to_vec())]);
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    let asked: Vec<_> = story.ledger.iter().filter(|entry| entry.event == "revealed").collect();
    assert_eq!(asked.iter().map(|entry| entry.detail.as_str()).collect::<Vec<_>>(), ["by ana"]);
    place.sql("UPDATE sealed SET expires_ms = 1").await;
    assert!(reveal(None, "by bob").await.is_empty(), "it has expired");
    assert_eq!(store.expire(TooOld::default(), 10).await.unwrap(), 1);
    assert_eq!(place.count("SELECT count(*) FROM sealed").await, 0);
    // A second evaluation writes no second copy, and erasing takes the first.
    let mut other = super::record(&numbered(2, "Yes."), "v1").await;
    other.kept = kept(&numbered(2, "Yes."));
    other.kept.sealed = Some(Sealed { message: b"secret".to_vec(), expires_ms: i64::MAX });
    store.record(&[other]).await.unwrap();
    store.erase(&one("kill-2"), None, 10, &[]).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM sealed").await, 0);
}

async fn bytes_that_came_through_are_no_dead_letter(place: Place) {
    // Six workers begin the same bytes at once: five attempts are allowed, and the first comes through.
    let store = &place.store;
    let digest = "digest".to_owned();
    let exhausted = || Burial { payload_digest: "digest".into(), ..burial(DeadClass::AttemptsExhausted) };
    for _ in 0..6 {
        store.count_attempts(std::slice::from_ref(&digest), Uuid::now_v7()).await.unwrap();
    }
    store.bury(&exhausted()).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 1);
    store.record(&[record(&call("Yes."), "v1").await]).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 0, "one came through");
    store.bury(&exhausted()).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 0, "and the last finds that");
    let other = Burial { payload_digest: "digest".into(), ..burial(DeadClass::BadJson) };
    store.bury(&other).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 1, "another reason stands");
}

async fn what_was_erased_comes_back_neither_as_a_letter_nor_from_one(place: Place) {
    let store = &place.store;
    store.record(&records(1..2).await).await.unwrap();
    store.erase(&one("kill-1"), None, 10, &[]).await.unwrap();
    // The same call in a form that cannot be read, from a producer that was mended since, say.
    let mut letter = burial(DeadClass::BadJson);
    letter.letter.tenant_id = Some("acme".into());
    letter.letter.request_id = Some("kill-1".into());
    assert_eq!(store.bury(&letter).await.unwrap(), Buried::Erased);
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 0);
    // A call that was never more than a letter: its redelivery is not evaluated.
    letter.letter.request_id = Some("kill-2".into());
    assert_eq!(store.bury(&letter).await.unwrap(), Buried::Written);
    assert_eq!(store.erase(&one("kill-2"), None, 10, &[]).await.unwrap().dead_letters, 1);
    let key = Arc::new(CallKey::of(&numbered(2, "Yes.")).unwrap());
    assert_eq!(store.decided(&[key], "v1").await.unwrap(), [Decided::Erased]);
    assert_eq!(store.record(&records(2..3).await).await.unwrap(), [Recorded::Erased]);
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 0);
}

async fn a_letter_whose_attempts_nobody_counts_is_not_written(place: Place) {
    // The server has forgotten the count: nobody knows whether the payload came to its end. It has to come again.
    let store = &place.store;
    assert_eq!(store.bury(&burial(DeadClass::AttemptsExhausted)).await.unwrap(), Buried::Uncounted);
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 0);
    let digest = burial(DeadClass::AttemptsExhausted).payload_digest;
    let count = async || {
        let counted = store.count_attempts(std::slice::from_ref(&digest), Uuid::now_v7()).await.unwrap();
        counted[0]
    };
    assert_eq!((count().await, count().await), (1, 2));
    assert_eq!(store.bury(&burial(DeadClass::AttemptsExhausted)).await.unwrap(), Buried::Written);
    // What waits for something else has not begun, and is no dead letter either.
    store.forget_attempts(&digest).await.unwrap();
    assert_eq!(store.attempts(std::slice::from_ref(&digest)).await.unwrap(), [0]);
    assert!(store.dead_letter(dead_letter_id(&digest)).await.unwrap().is_none());
}

async fn sinks_are_told_to_delete_what_they_may_have(place: Place) {
    let store = &place.store;
    let told = ["one".to_owned(), "two".to_owned()];
    let retractions = "SELECT count(*) FROM outbox WHERE retracts IS NOT NULL";
    store.record(&records(1..3).await).await.unwrap();
    // Nothing was sent: there is nothing to take back.
    assert_eq!(store.erase(&one("kill-2"), None, 10, &told).await.unwrap().delivered, [].into());
    assert_eq!(place.count(retractions).await, 0);
    // One sink has it; a dispatcher is at it for another.
    let sent = store.due("one", 10, 0).await.unwrap().remove(0);
    let Due::Evaluation(evaluation) = sent.due else { panic!("an evaluation was sent") };
    store
        .delivered(&[Delivered { delivery_id: sent.delivery_id, receipt: Some("at:1".into()) }])
        .await
        .unwrap();
    assert_eq!(store.due("two", 10, 60_000).await.unwrap().len(), 1);
    let erased = store.erase(&one("kill-1"), None, 10, &told).await.unwrap();
    assert_eq!(erased.delivered, [("one".to_owned(), 1), ("two".to_owned(), 1)].into());
    assert_eq!((place.count(retractions).await, store.outbox_open().await.unwrap()), (2, 2));
    let due = store.due("one", 10, 60_000).await.unwrap();
    let (delivery_id, evaluation_id) = (sent.delivery_id, evaluation.evaluation_id);
    assert_eq!(
        due[0].due,
        Due::Retraction(Retraction {
            delivery_id,
            evaluation_id,
            receipt: Some("at:1".into()),
            golden: None
        })
    );
    assert_ne!(due[0].delivery_id, delivery_id, "who marks the delivery does not mark this");
    store.delivered(&[delivered(delivery_id)]).await.unwrap();
    assert!(store.due("two", 10, 0).await.unwrap().is_empty(), "not while somebody may be delivering it");
    // It is tried again like a delivery, and nothing of it stays once it is done.
    store.undelivered(&[undelivered(due[0].delivery_id, Some(0), "down")]).await.unwrap();
    let again = store.due("one", 10, 0).await.unwrap();
    assert_eq!((again.len(), again[0].attempts), (1, 1));
    store.delivered(&[delivered(again[0].delivery_id)]).await.unwrap();
    place.sql("UPDATE outbox SET due_ms = 0").await;
    let last = store.due("two", 10, 0).await.unwrap();
    store.delivered(&[delivered(last[0].delivery_id)]).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM outbox").await, 0);
}

async fn letters_go_with_age_and_their_history_with_them(place: Place) {
    let store = &place.store;
    store.record(&records(1..2).await).await.unwrap();
    let bury = async |name: &str, tenant: Option<&str>, request: Option<&str>| {
        let mut burial = burial(DeadClass::BadJson);
        burial.payload_digest = name.to_owned();
        burial.letter.tenant_id = tenant.map(str::to_owned);
        burial.letter.request_id = request.map(str::to_owned);
        store.bury(&burial).await.unwrap();
    };
    bury("one", Some("acme"), Some("kill-1")).await;
    bury("two", None, Some("r2")).await;
    bury("three", None, None).await;
    place.sql("UPDATE dead_letters SET created_ms = 1000").await;
    bury("four", Some("acme"), Some("r4")).await;
    let old = TooOld { dead_ms: 2000, erased_ms: 0 };
    assert_eq!(store.expire(TooOld { dead_ms: 1000, erased_ms: 0 }, 10).await.unwrap(), 0);
    assert_eq!(store.expire(old, 2).await.unwrap(), 2, "a batch");
    assert_eq!(store.expire(old, 10).await.unwrap(), 1);
    assert_eq!(store.expire(old, 10).await.unwrap(), 0);
    assert_eq!(place.count("SELECT count(*) FROM dead_letters").await, 1, "the new one");
    for (history, left) in [
        ("SELECT count(*) FROM ledger WHERE request_id = 'r2'", 0),
        // The call is known otherwise.
        ("SELECT count(*) FROM ledger WHERE request_id = 'kill-1' AND event = 'dead'", 1),
        ("SELECT count(*) FROM ledger WHERE request_id = 'r4'", 1),
    ] {
        assert_eq!(place.count(history).await, left, "{history}");
    }
}
