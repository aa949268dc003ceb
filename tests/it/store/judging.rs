//! What the store keeps of judges: answers, budgets, and calls that wait for them.

use aftercheck::store::{Deferred, JudgeLimits, Record, Recorded, TooOld, Until, Whose};

use super::{numbered, on_both, place::Place, record, records};

on_both! {
    an_answer_is_kept_until_it_expires_or_its_call_is_erased
    a_budget_is_shared_and_never_exceeded
    a_deferred_call_waits_and_is_taken_by_one
    a_deferred_call_is_erased_with_its_tenant
    a_call_stays_while_another_version_waits_for_its_judge
}

/// A key and an answer.
fn answer(name: &str) -> (String, String) {
    (name.to_owned(), format!("{{\"reason\":\"{name}\"}}"))
}

async fn an_answer_is_kept_until_it_expires_or_its_call_is_erased(place: Place) {
    let store = &place.store;
    let keys = ["a", "b", "c"].map(str::to_owned);
    assert!(store.judged(&keys).await.unwrap().is_empty());
    store.remember_judged(("acme", "kill-1"), &[answer("a"), answer("b")], 60_000).await.unwrap();
    store.remember_judged(("acme", "kill-2"), &[answer("b"), answer("c")], 60_000).await.unwrap();
    let known = store.judged(&keys).await.unwrap();
    assert_eq!((known.len(), known["b"].as_str()), (3, answer("b").1.as_str()));
    place.sql("UPDATE judge_answers SET expires_ms = 1 WHERE judging_key = 'c'").await;
    assert_eq!(store.judged(&keys).await.unwrap().len(), 2);
    assert_eq!(store.expire(TooOld::default(), 10).await.unwrap(), 1);
    place.sql("UPDATE judge_answers SET expires_ms = 1 WHERE judging_key = 'b'").await;
    let newer = ("b".to_owned(), "{}".to_owned());
    store.remember_judged(("acme", "kill-1"), &[newer, answer("a")], 60_000).await.unwrap();
    let known = store.judged(&keys).await.unwrap();
    assert_eq!(
        (known["b"].as_str(), known["a"].as_str()),
        ("{}", answer("a").1.as_str()),
        "what expired is replaced"
    );
    // Erased with the call about which it was given, and nothing is kept of an erased call again.
    store.record(&records(1..2).await).await.unwrap();
    let one = Whose::Call { request_id: "kill-1".into(), tenant_id: None };
    store.erase(&one, None, 10, &[]).await.unwrap();
    assert!(store.judged(&keys).await.unwrap().is_empty());
    store.remember_judged(("acme", "kill-1"), &[answer("a")], 60_000).await.unwrap();
    assert!(store.judged(&keys).await.unwrap().is_empty());
}

async fn a_budget_is_shared_and_never_exceeded(place: Place) {
    let limits = JudgeLimits { calls: 10, usd: 0.0, tenant_calls: 4, tenant_usd: 0.0 };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let store = std::sync::Arc::clone(&place.store);
        tasks.spawn(async move {
            let tenant = format!("tenant-{}", number % 4);
            store.reserve_judging(&tenant, 0.5, &limits).await.unwrap().is_some()
        });
    }
    let granted = tasks.join_all().await.into_iter().filter(|granted| *granted).count();
    assert_eq!(granted, 10, "of forty, by four tenants, side by side");
    assert!(place.count("SELECT max(calls) FROM judge_spending WHERE tenant_id <> ''").await <= 4);
    assert_eq!(
        place.count("SELECT CAST(sum(usd) AS bigint) FROM judge_spending WHERE tenant_id = ''").await,
        5
    );
    let dollars = JudgeLimits { usd: 6.0, ..JudgeLimits::default() };
    let store = &place.store;
    let taken = store.reserve_judging("tenant-9", 1.5, &dollars).await.unwrap().unwrap();
    assert!(store.reserve_judging("tenant-9", 0.1, &dollars).await.unwrap().is_none(), "6.5 of 6");
    store.correct_judging("tenant-9", taken, -1.0).await.unwrap();
    assert!(store.reserve_judging("tenant-9", 0.1, &dollars).await.unwrap().is_some(), "it cost less");
    let none = JudgeLimits::default();
    assert!(store.reserve_judging("tenant-0", 1e6, &none).await.unwrap().is_some(), "no limit");
    let tenant = JudgeLimits { tenant_usd: 1.0, ..none };
    assert!(store.reserve_judging("tenant-1", 0.1, &tenant).await.unwrap().is_none());
    assert!(store.reserve_judging("tenant-8", 0.1, &tenant).await.unwrap().is_some());
}

async fn a_deferred_call_waits_and_is_taken_by_one(place: Place) {
    let store = &place.store;
    let record = record(&numbered(1, "Yes."), "v1").await;
    store.count_attempts(&["digest".to_owned()], uuid::Uuid::now_v7()).await.unwrap();
    for _ in 0..2 {
        let deferred = store.defer(&record, "{\"a\":1}", Until::In(0), "budget").await.unwrap();
        assert_eq!(deferred, Recorded::New);
    }
    assert_eq!(store.attempts(&["digest".to_owned()]).await.unwrap(), [0], "its payload has come to its end");
    assert_eq!(store.deferred_calls().await.unwrap(), 1);
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert!(story.received.is_some() && story.evaluations.is_empty());
    let entry = &story.ledger[0];
    assert!(entry.event == "deferred" && entry.detail.starts_with("budget, at first until 20"), "{entry:?}");
    assert_eq!(store.report(0, 0).await.unwrap().deferred, 1);
    assert!(store.deferred("v2", 60_000).await.unwrap().is_none(), "another version leaves it");
    let taken = store.deferred("v1", 60_000).await.unwrap().unwrap();
    let Deferred { request_id, body_digest, call, payload_digest, tries, .. } = &taken;
    assert_eq!(
        (request_id.as_str(), call.as_str(), payload_digest.as_str()),
        ("kill-1", "{\"a\":1}", "digest")
    );
    assert_eq!((body_digest, *tries), (&record.kept.body_digest, 1));
    assert!(store.deferred("v1", 60_000).await.unwrap().is_none(), "leased");
    store.put_off(&taken, Until::Tomorrow { most_ms: i64::MAX / 2 }, false).await.unwrap();
    assert!(place.count("SELECT (due_ms - since_ms) / 3600000 FROM deferred").await <= 24, "the next day");
    store.put_off(&taken, Until::Tomorrow { most_ms: 60_000 }, false).await.unwrap();
    assert!(place.count("SELECT (due_ms - since_ms) / 3600000 FROM deferred").await < 1, "or before it");
    // A failure is counted, an orderly end is not.
    for (failed, tries) in [(false, 1), (true, 2), (true, 3), (false, 1)] {
        store.put_off(&taken, Until::In(0), failed).await.unwrap();
        assert_eq!(store.deferred("v1", 0).await.unwrap().unwrap().tries, tries);
    }
    // Nobody of its version has taken it for two days.
    place.sql("UPDATE deferred SET due_ms = due_ms - 172800000").await;
    assert!(store.deferred("v2", 0).await.unwrap().is_some());
    // It stays while it waits, and is judged: the verdict stands beside the call that is there.
    assert_eq!(store.prune(0..i64::MAX, 10).await.unwrap().calls, 0);
    assert_eq!(store.record(std::slice::from_ref(&record)).await.unwrap(), [Recorded::New]);
    assert_eq!(store.deferred_calls().await.unwrap(), 0, "a verdict ends the waiting, however it came about");
    store.end_deferred(&taken).await.unwrap();
    // Another body under the same key is not kept, and said to be another.
    let mut other = super::record(&numbered(1, "No."), "v2").await;
    other.payload_digest = "other".into();
    assert_eq!(store.defer(&other, "{}", Until::In(0), "budget").await.unwrap(), Recorded::Conflict);
    assert_eq!(store.deferred_calls().await.unwrap(), 0);
    assert_eq!(place.count("SELECT count(*) FROM ledger WHERE event = 'conflict'").await, 1);
}

async fn a_call_stays_while_another_version_waits_for_its_judge(place: Place) {
    let store = &place.store;
    let (old, new) = (record(&numbered(1, "Yes."), "v1").await, record(&numbered(1, "Yes."), "v2").await);
    store.record(&[Record { review: None, sinks: Vec::new(), ..old }]).await.unwrap();
    assert_eq!(store.defer(&new, "{}", Until::In(0), "budget").await.unwrap(), Recorded::New);
    let pruned = store.prune(0..i64::MAX, 10).await.unwrap();
    assert_eq!((pruned.evaluations, pruned.calls), (1, 0), "the old verdict goes, the call is needed");
    assert_eq!(store.deferred_calls().await.unwrap(), 1);
    assert_eq!(
        store.record(&[Record { review: None, sinks: Vec::new(), ..new }]).await.unwrap(),
        [Recorded::New]
    );
    let pruned = store.prune(0..i64::MAX, 10).await.unwrap();
    assert_eq!((pruned.evaluations, pruned.calls), (1, 1), "nobody waits any more");
}

async fn a_deferred_call_is_erased_with_its_tenant(place: Place) {
    let store = &place.store;
    let record = record(&numbered(1, "Yes."), "v1").await;
    store.defer(&record, "{}", Until::In(0), "budget").await.unwrap();
    let tenant = Whose::Tenant("acme".into());
    assert_eq!(store.erasable(&tenant).await.unwrap().calls, 1);
    assert_eq!(store.erase(&tenant, None, 10, &[]).await.unwrap().calls, 1);
    assert_eq!(store.deferred_calls().await.unwrap(), 0);
    assert_eq!(store.defer(&record, "{}", Until::In(0), "budget").await.unwrap(), Recorded::Erased);
    assert_eq!(store.deferred_calls().await.unwrap(), 0, "nor does it come back");
}
