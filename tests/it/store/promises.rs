//! What every store promises about one call, one letter and one delivery.

use std::sync::Arc;

use aftercheck::{
    domain::{Call, DeadClass, Evaluation, JudgeFailure, StageReport, evaluation},
    pipeline::decode::decode,
    redaction::Redactor,
    store::{
        Burial, CallKey, DETAIL_BYTES, Decided, Due, Recorded, Sought, StoreError, Undelivered,
        dead_letter_id, reviewing::Scope,
    },
};

use uuid::Uuid;

use super::{burial, call, delivered, message, on_both, place::Place, record, records, undelivered};

on_both! {
    a_verdict_is_written_once_with_all_that_belongs_to_it
    the_first_body_of_a_call_is_kept_and_another_gets_no_verdict
    attempts_that_were_used_up_stay_used_up_until_the_letter_goes
    attempts_of_a_payload_that_is_there_twice_are_counted_twice
    a_letter_that_was_written_again_is_not_removed_by_who_read_the_older
    the_newest_are_found_by_what_they_say
    an_evaluation_that_cannot_be_read_holds_up_no_other
    each_delivery_has_its_own_schedule_and_end
    calls_are_found_by_their_keys
    every_text_is_shown_once
    a_nul_in_a_text_is_no_reason_to_lose_it
    extreme_numbers_read_back
    what_nobody_knows_reads_back_as_that
    a_long_detail_is_cut_and_the_same_entry_is_made_once
    a_verdict_that_breaks_a_constraint_is_refused_and_leaves_nothing
}

async fn a_verdict_is_written_once_with_all_that_belongs_to_it(Place { store, .. }: Place) {
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

async fn the_first_body_of_a_call_is_kept_and_another_gets_no_verdict(Place { store, .. }: Place) {
    let (first, other) = (call("Yes."), call("No."));
    let decided = async |calls: &[&Call], version: &str| {
        let calls: Vec<_> = calls.iter().map(|call| Arc::new(CallKey::of(call).unwrap())).collect();
        store.decided(&calls, version).await.unwrap()
    };
    assert_eq!(decided(&[&first], "v1").await, [Decided::No]);
    store.record(&[record(&first, "v1").await]).await.unwrap();
    let new = Call { request_id: "new".into(), ..first.clone() };
    let asked = [&new, &first, &other, &first];
    let (known, differs) = (Decided::Same, Decided::Conflict);
    assert_eq!(
        decided(&asked, "v1").await,
        [Decided::No, known, differs, known],
        "in the order they were asked"
    );
    assert_eq!(decided(&asked[1..3], "v2").await, [Decided::No, differs]);
    // Both were undecided when they were looked up: the transaction settles it.
    assert_eq!(store.record(&[record(&other, "v2").await]).await.unwrap(), [Recorded::Conflict]);
    store.note_duplicate(&CallKey::of(&other).unwrap(), "digest", true).await.unwrap();
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert_eq!(story.evaluations.len(), 1);
    assert_eq!(story.received.as_ref().unwrap().call, first);
    assert_eq!(story.ledger.iter().filter(|entry| entry.event == "conflict").count(), 1);
}

async fn attempts_that_were_used_up_stay_used_up_until_the_letter_goes(Place { store, .. }: Place) {
    let digests = [aftercheck::domain::id::sha256_hex(b"payload")];
    store.count_attempts(&digests, Uuid::now_v7()).await.unwrap();
    assert_eq!(store.count_attempts(&digests, Uuid::now_v7()).await.unwrap(), [2]);
    let burial = burial(DeadClass::AttemptsExhausted);
    store.bury(&burial).await.unwrap();
    assert_eq!(store.attempts(&digests).await.unwrap(), [2], "a crash before the ack brings it again");
    let letter = store
        .dead_letter(dead_letter_id(&aftercheck::domain::id::sha256_hex(b"payload")))
        .await
        .unwrap()
        .unwrap();
    assert!(
        store.remove_dead_letter(letter.dead_letter_id, letter.created_ms, "requeued", "ana").await.unwrap()
    );
    assert_eq!(store.attempts(&digests).await.unwrap(), [0], "a requeue is a new beginning");
    let again = store.remove_dead_letter(letter.dead_letter_id, letter.created_ms, "requeued", "ana").await;
    assert!(!again.unwrap(), "it is gone");
    let ledger = &store.stories(None, "r1").await.unwrap()[0].ledger;
    assert_eq!(ledger.iter().map(|entry| entry.event.as_str()).collect::<Vec<_>>(), ["dead", "requeued"]);
}

async fn attempts_of_a_payload_that_is_there_twice_are_counted_twice(Place { store, .. }: Place) {
    let digests = ["b", "a", "b"].map(str::to_owned);
    assert_eq!(store.count_attempts(&digests, Uuid::now_v7()).await.unwrap(), [1, 1, 2]);
    assert_eq!(store.count_attempts(&digests, Uuid::now_v7()).await.unwrap(), [3, 2, 4]);
    let asked = ["a", "none", "b"].map(str::to_owned);
    assert_eq!(store.attempts(&asked).await.unwrap(), [2, 0, 4]);
}

async fn a_letter_that_was_written_again_is_not_removed_by_who_read_the_older(Place { store, .. }: Place) {
    let burial = burial(DeadClass::BadJson);
    store.bury(&burial).await.unwrap();
    let read = store
        .dead_letter(dead_letter_id(&aftercheck::domain::id::sha256_hex(b"payload")))
        .await
        .unwrap()
        .unwrap();
    // Requeued, taken by a worker and buried anew before the letter that was read is removed.
    store.bury(&burial).await.unwrap();
    assert!(
        !store.remove_dead_letter(read.dead_letter_id, read.created_ms, "requeued", "ana").await.unwrap()
    );
    assert_eq!(store.dead_letters(None, None, 10).await.unwrap().len(), 1, "nothing is lost");
    assert_eq!(store.dead_letters(Some("bad_json"), None, 10).await.unwrap().len(), 1);
    assert!(store.dead_letters(Some("too_large"), None, 10).await.unwrap().is_empty());
    let listed = store.dead_letters(None, None, 10).await.unwrap().remove(0);
    assert!(listed.payload.is_empty() && listed.payload_bytes > 0, "a list has no payloads, but their size");
    // The limit is of those that somebody may see: what others have before them takes no place.
    let other = [String::from("nobody")];
    assert!(store.dead_letters(None, Some(&other), 10).await.unwrap().is_empty());
    let seen = store.overview(&Scope { tenants: Some(other.to_vec()), features: None }, 0).await.unwrap();
    assert!(seen.dead_letters.is_empty());
    let of_a_feature = Scope { tenants: None, features: Some(vec!["f".into()]) };
    let seen = store.overview(&of_a_feature, 0).await.unwrap();
    assert!(seen.dead_letters.is_empty(), "a letter has no feature");
    let all = store.overview(&Scope::default(), 0).await.unwrap();
    assert_eq!(all.dead_letters.values().sum::<u64>(), 1);
}

async fn the_newest_are_found_by_what_they_say(place: Place) {
    place.store.record(&records(1..8).await).await.unwrap();
    place.sql("UPDATE evaluations SET verdict = 'fail' WHERE request_id IN ('kill-2', 'kill-5')").await;
    place.sql("UPDATE evaluations SET feature = 'g' WHERE request_id = 'kill-5'").await;
    let rules = r#"[{"rule": "r", "outcome": "fail"}, {"rule": "s", "outcome": "pass"}]"#;
    place.sql(&format!("UPDATE evaluations SET rules = '{rules}' WHERE request_id = 'kill-3'")).await;
    // A word that a later version writes hides no list.
    place
        .sql("UPDATE evaluations SET reasons = '[\"of_a_later_version\"]' WHERE request_id = 'kill-4'")
        .await;
    let ids = async |scope: &Scope, sought: Sought<'_>| {
        let found = place.store.checked(scope, &sought).await.unwrap();
        found.into_iter().map(|one| one.request_id).collect::<Vec<String>>()
    };
    let all = Scope::default();
    let wanted = Sought { limit: 3, ..Sought::default() };
    let mut walked = Vec::new();
    let mut before = None;
    loop {
        let page = place.store.checked(&all, &Sought { before, ..wanted }).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.place());
        assert!(page.is_sorted_by_key(|one| std::cmp::Reverse((one.evaluated_ms, one.evaluation_id))));
        walked.extend(page.into_iter().map(|one| one.request_id));
    }
    walked.sort();
    assert_eq!(walked, (1..8).map(|number| format!("kill-{number}")).collect::<Vec<_>>(), "each once");
    let mut failed = ids(&all, Sought { verdict: Some("fail"), ..wanted }).await;
    failed.sort();
    assert_eq!(failed, ["kill-2", "kill-5"]);
    assert_eq!(ids(&all, Sought { verdict: Some("fail"), feature: Some("g"), ..wanted }).await, ["kill-5"]);
    assert_eq!(ids(&all, Sought { since_ms: i64::MAX, ..wanted }).await.len(), 0);
    assert_eq!(ids(&all, Sought { rule: Some("r"), ..wanted }).await, ["kill-3"]);
    assert_eq!(ids(&all, Sought { rule: Some("s"), ..wanted }).await.len(), 0, "it passes");
    let of = |tenants: Option<&str>, features: Option<&str>| Scope {
        tenants: tenants.map(|name| vec![name.to_owned()]),
        features: features.map(|name| vec![name.to_owned()]),
    };
    assert_eq!(ids(&of(Some("nobody"), None), wanted).await.len(), 0);
    assert_eq!(ids(&of(None, Some("g")), wanted).await, ["kill-5"]);
}

async fn an_evaluation_that_cannot_be_read_holds_up_no_other(place: Place) {
    place.store.record(&records(1..3).await).await.unwrap();
    place.sql("UPDATE evaluations SET occurred_at = 'nonsense' WHERE request_id = 'kill-1'").await;
    let due = place.store.due("one", 10, 0).await.unwrap();
    assert_eq!(due.len(), 1);
    assert!(matches!(&due[0].due, Due::Evaluation(one) if one.request_id == "kill-2"));
    let report = place.store.report(0, 0).await.unwrap();
    assert_eq!(report.deliveries["one"], [("dead".into(), 1), ("open".into(), 1)].into());
}

async fn each_delivery_has_its_own_schedule_and_end(Place { store, .. }: Place) {
    store.record(&records(1..3).await).await.unwrap();
    let due = store.due("one", 10, 60_000).await.unwrap();
    assert_eq!(due.len(), 2);
    assert!(store.due("one", 10, 60_000).await.unwrap().is_empty(), "leased to who took them");
    let rows =
        [undelivered(due[0].delivery_id, Some(0), "down"), undelivered(due[1].delivery_id, None, "down")];
    store.undelivered(&rows).await.unwrap();
    let again = store.due("one", 10, 60_000).await.unwrap();
    assert_eq!(again.len(), 1, "one was put off, one given up");
    assert_eq!((again[0].delivery_id, again[0].attempts), (due[0].delivery_id, 1));
    // While the sink is down no attempt is used up, and each row says why it waits.
    let down = Undelivered { is_attempt: false, ..undelivered(due[0].delivery_id, Some(0), "no answer") };
    store.undelivered(&[down]).await.unwrap();
    assert_eq!(store.due("one", 10, 60_000).await.unwrap()[0].attempts, 1);
    let stories =
        [store.stories(None, "kill-1").await.unwrap(), store.stories(None, "kill-2").await.unwrap()];
    let rows: Vec<_> = stories.iter().flatten().flat_map(|story| &story.deliveries).collect();
    let said = |dead: bool| {
        let row = rows.iter().find(|row| row.sink == "one" && row.dead_reason.is_some() == dead);
        row.unwrap().last_error.clone().unwrap()
    };
    assert_eq!((said(false), said(true)), ("no answer".into(), "down".into()));
    store.delivered(&[delivered(again[0].delivery_id)]).await.unwrap();
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

async fn calls_are_found_by_their_keys(place: Place) {
    let store = &place.store;
    store.record(&records(1..4).await).await.unwrap();
    let tenant = call("Yes.").tenant_id;
    let key = |request: &str| (tenant.clone(), request.to_owned());
    let keys =
        [key("kill-3"), key("nobody"), key("kill-1"), key("kill-2"), ("x".to_owned(), "kill-1".to_owned())];
    place.sql("UPDATE calls SET body = 'nonsense' WHERE request_id = 'kill-2'").await;
    let found = store.calls(&keys).await.unwrap();
    let ids: Vec<_> = found.iter().map(|call| call.as_ref().map(|call| call.request_id.as_str())).collect();
    assert_eq!(ids, [Some("kill-3"), None, Some("kill-1"), None, None]);
    assert_eq!(found[0].as_ref().unwrap().content.answer, "Yes.");
    place.sql("UPDATE calls SET body = '' WHERE request_id = 'kill-1'").await;
    assert_eq!(store.calls(&keys[2..3]).await.unwrap(), [None], "it was erased");
}

async fn every_text_is_shown_once(Place { store, .. }: Place) {
    // More rows than are read at a time.
    for group in records(0..450).await.chunks(50) {
        store.record(group).await.unwrap();
    }
    store.bury(&burial(DeadClass::BadJson)).await.unwrap();
    let id = store.due("one", 1, 0).await.unwrap()[0].delivery_id;
    store.undelivered(&[undelivered(id, Some(0), "the sink said no")]).await.unwrap();
    let mut failed = record(&call("Yes."), "v2").await;
    failed.evaluation.stages[0].failures = vec![failure("what a judge wrote")];
    store.record(&[failed]).await.unwrap();
    let mut shown: Vec<(&str, String)> = Vec::new();
    let mut rows = std::collections::BTreeSet::new();
    store
        .each_text(&mut |text| {
            shown.push((text.place, String::from_utf8_lossy(text.text).into_owned()));
            rows.insert((text.place, text.key.into_owned()));
        })
        .await
        .unwrap();
    let count = |place: &str| shown.iter().filter(|(is, _)| *is == place).count();
    assert_eq!((count("calls.body"), count("dead_letters.payload"), count("ledger.detail")), (450, 1, 452));
    assert!(shown.contains(&("dead_letters.payload", "payload".into())));
    assert!(shown.contains(&("outbox.last_error", "the sink said no".into())));
    let failures: Vec<_> = shown.iter().filter(|(place, _)| *place == "evaluations.failures").collect();
    assert!(failures.len() == 1 && failures[0].1.contains("what a judge wrote"), "{failures:?}");
    assert!(shown.iter().any(|(place, text)| *place == "calls.body" && text.contains("\"kill-449\"")));
    assert!(rows.contains(&("calls.body", "acme/kill-449".into())));
}

async fn a_nul_in_a_text_is_no_reason_to_lose_it(Place { store, .. }: Place) {
    let mut message = message(1);
    message["content"]["answer"] = "a\0b".into();
    let decoded = decode(message.to_string().as_bytes(), &Redactor::shipped()).unwrap();
    assert_eq!((decoded.nuls_replaced, decoded.call.content.answer.as_str()), (1, "a\u{fffd}b"));
    store.record(&[record(&decoded.call, "v1").await]).await.unwrap();
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert_eq!(story.received.as_ref().unwrap().call, decoded.call);
    // What decoding does not see: the words of a letter, of a failed attempt and of a sink.
    let Burial { mut letter, payload, payload_digest, .. } = burial(DeadClass::BadJson);
    letter.detail = "d\0".into();
    let burial = Burial { payload, payload_digest, user_key: None, letter, attempts: 1, source: "test" };
    store.bury(&burial).await.unwrap();
    store.enter(Some("acme"), "kill-1", "retried", "why\0").await.unwrap();
    let id = store.due("one", 1, 0).await.unwrap()[0].delivery_id;
    store.undelivered(&[undelivered(id, Some(0), "the sink said \0")]).await.unwrap();
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert!(story.deliveries[0].last_error.as_ref().unwrap().starts_with("the sink said "));
    assert!(story.ledger.last().unwrap().detail.starts_with("why"));
    assert_eq!(store.dead_letters(None, None, 1).await.unwrap().len(), 1);
}

async fn extreme_numbers_read_back(Place { store, .. }: Place) {
    let mut record = record(&call("Yes."), "v1").await;
    let stage = StageReport {
        stage: evaluation::Stage::Nli,
        outcome: evaluation::StageOutcome::Decided,
        detail: String::new(),
        ms: 1e300,
        failures: Vec::new(),
    };
    let judge = serde_json::json!({
        "model": "m", "prompt_version": "p", "score": 0.1, "label": "l", "reason": "r\u{1f600}\\u0000",
        "tokens_in": u64::MAX, "tokens_out": 0, "cost_usd": 1e-320, "cached": false
    });
    record.evaluation = Evaluation {
        tokens_cut: u64::MAX,
        cost_usd: Some(f64::MAX),
        judge_avoided_usd: Some(f64::MIN_POSITIVE),
        faithfulness: Some(0.1 + 0.2),
        probability: 1e-308,
        stages: vec![stage.clone(), StageReport { ms: 5e-324, ..stage }],
        judge: Some(serde_json::from_value(judge).unwrap()),
        ..record.evaluation
    };
    store.record(std::slice::from_ref(&record)).await.unwrap();
    let read = &store.stories(None, "kill-1").await.unwrap()[0].evaluations[0];
    let kept = Evaluation { tokens_cut: i64::MAX as u64, ..record.evaluation };
    assert_eq!(*read, kept, "more tokens than a database counts become as many as it counts");
    assert_eq!(store.due("one", 1, 0).await.unwrap()[0].due, Due::Evaluation(kept.into()));
}

/// A question whose answer was this, and could not be used.
fn failure(answered: &str) -> JudgeFailure {
    JudgeFailure {
        judge: "main".into(),
        class: "invalid".into(),
        tokens_in: 800,
        tokens_out: 0,
        cost_usd: None,
        asked: None,
        answered: Some(answered.into()),
        answered_sha256: None,
    }
}

async fn what_nobody_knows_reads_back_as_that(Place { store, .. }: Place) {
    let mut record = record(&call("Yes."), "v1").await;
    record.evaluation.cost_usd = None;
    record.evaluation.stages[0].failures = vec![failure("?")];
    store.record(std::slice::from_ref(&record)).await.unwrap();
    assert_eq!(store.stories(None, "kill-1").await.unwrap()[0].evaluations[0], record.evaluation);
}

async fn a_long_detail_is_cut_and_the_same_entry_is_made_once(Place { store, .. }: Place) {
    // Characters of four bytes, so that a cut in the middle of one would show; ids as long as decoding lets them be.
    let (detail, tenant, request) =
        ("\u{1f600}".repeat(5000), "\u{1f601}".repeat(200), "\u{1f602}".repeat(200));
    for _ in 0..2 {
        store.enter(Some(&tenant), &request, "retried", &detail).await.unwrap();
    }
    let ledger = &store.stories(Some(&tenant), &request).await.unwrap()[0].ledger;
    assert_eq!((ledger.len(), ledger[0].detail.len()), (1, DETAIL_BYTES));
}

async fn a_verdict_that_breaks_a_constraint_is_refused_and_leaves_nothing(place: Place) {
    let good = record(&call("Yes."), "v1").await;
    let mut bad = record(&call("Yes."), "v2").await;
    bad.evaluation.faithfulness = Some(1.5);
    let error = place.store.record(&[good, bad]).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    for left in
        ["SELECT count(*) FROM calls", "SELECT count(*) FROM evaluations", "SELECT count(*) FROM ledger"]
    {
        assert_eq!(place.count(left).await, 0, "{left}");
    }
}
