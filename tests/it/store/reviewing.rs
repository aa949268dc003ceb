//! What a store promises of reviews: who gets which item, what becomes of labels, and what sinks are told.

use std::{collections::HashSet, sync::Arc, time::Instant};

use aftercheck::{
    domain::{
        Label, Reason, ReviewState, Said, Verdict,
        call::{Feedback, Thumbs},
    },
    pipeline::{feedback, priority::Priorities},
    store::{
        Due, Record, ReviewItem, Store, Whose,
        reviewing::{Asking, Held, LabelKind, Labelled, Refusal, Saying, Scope, Taken, TakingBack},
    },
};
use uuid::Uuid;

use super::{delivered, golden, on_both, place::Place, records};

on_both! {
    the_most_telling_is_next_and_the_oldest_of_equals
    a_new_version_goes_before_one_that_is_known
    reviewers_who_ask_at_once_get_different_items
    a_hold_lapses_and_its_token_with_it
    what_was_skipped_or_labelled_comes_to_this_reviewer_no_more
    a_reviewer_gets_only_what_they_may_see
    a_label_is_told_to_every_sink_behind_the_scores
    a_label_that_is_taken_back_is_not_told_or_told_anew
    two_look_blindly_and_a_third_decides
    what_became_a_row_of_the_golden_set_is_not_taken_back
    the_same_saying_again_changes_nothing
    what_was_said_is_erased_and_an_undecided_item_is_not_pruned
    the_audit_slice_is_told_with_its_probability
    late_feedback_brings_a_passed_call_to_review_once
    all_of_a_list_is_reached_page_by_page
    the_next_is_found_quickly_among_100_000
}

async fn late_feedback_brings_a_passed_call_to_review_once(place: Place) {
    let store = &place.store;
    let passed = |record: &mut Record| (record.evaluation.verdict, record.review) = (Verdict::Pass, None);
    let mut group = records(0..3).await;
    passed(&mut group[0]);
    passed(&mut group[1]);
    group[2].evaluation.verdict = Verdict::Fail;
    group[2].review = None;
    store.record(&group).await.unwrap();
    let priorities = Priorities::default();
    let (down, up) = (Some(Thumbs::Down), Some(Thumbs::Up));
    let hear = async |number: usize, thumbs, escalated| {
        let feedback = Feedback { thumbs, escalated, csat: Some(2) };
        let id = format!("kill-{number}");
        feedback::hear(&**store, &priorities, ("acme", &id), &feedback).await.unwrap()
    };
    let taken = |is_new, to_review| Some(Taken { is_new, to_review });
    assert_eq!(hear(0, down, false).await, taken(true, true));
    assert_eq!(hear(0, down, false).await, taken(false, false), "a repeat changes nothing");
    assert_eq!(hear(0, up, true).await, taken(true, false), "no call comes twice");
    assert_eq!(hear(1, up, false).await, taken(true, false), "nothing speaks against the answer");
    assert_eq!(hear(1, None, true).await, taken(true, true));
    assert_eq!(hear(2, down, true).await, taken(true, false), "it failed already");
    assert_eq!(hear(9, down, true).await, None, "it never came");
    let waiting = store.reviews(&Scope::default(), None, None, 10).await.unwrap();
    let reasons: Vec<(&str, Reason)> =
        waiting.iter().map(|item| (item.request_id.as_str(), item.reason)).collect();
    assert_eq!(reasons, [("kill-0", Reason::ThumbsDown), ("kill-1", Reason::Escalated)]);
    let story = store.stories(Some("acme"), "kill-0").await.unwrap().remove(0);
    let told: Vec<&str> = story
        .ledger
        .iter()
        .filter(|entry| entry.event == "feedback")
        .map(|entry| entry.detail.as_str())
        .collect();
    assert_eq!(told, ["thumb down, csat 2", "thumb up, escalated, csat 2"]);
    let whose = Whose::Call { tenant_id: Some("acme".into()), request_id: "kill-0".into() };
    store.erase(&whose, None, 10, &[]).await.unwrap();
    assert_eq!(hear(0, down, false).await, None, "it was erased");
}

/// Records with a review item each.
pub async fn items(numbers: std::ops::Range<usize>, item: impl Fn(usize) -> ReviewItem) -> Vec<Record> {
    let mut group = records(numbers.clone()).await;
    for (number, record) in numbers.zip(&mut group) {
        record.review = Some(item(number));
    }
    group
}

pub fn plain(_: usize) -> ReviewItem {
    ReviewItem::new(Reason::UnsureBand, 1.0)
}

pub fn asking(reviewer: &str) -> Asking {
    Asking { reviewer: reviewer.into(), scope: Scope::default(), state: ReviewState::Open, hold_ms: 60_000 }
}

/// The next item of a reviewer.
pub async fn next(store: &Arc<dyn Store>, reviewer: &str) -> Option<Held> {
    store.next_review(&asking(reviewer)).await.unwrap()
}

/// What a reviewer says of an item that they hold.
pub fn saying(held: &Held, reviewer: &str, said: Said) -> Saying {
    Saying {
        saying_id: Uuid::now_v7(),
        review_id: held.item.review_id,
        reviewer: reviewer.into(),
        scope: Scope::default(),
        token: Some(held.token),
        said,
        note: "because".into(),
        expected: None,
        adjudicates: false,
        sinks: vec!["one".into(), "two".into()],
        undo_ms: 0,
    }
}

pub fn taking(reviewer: &str) -> TakingBack {
    TakingBack {
        saying_id: Uuid::now_v7(),
        reviewer: reviewer.into(),
        review_id: None,
        scope: Scope::default(),
        hold_ms: 60_000,
    }
}

/// Labels that are due at a sink.
pub async fn told(store: &Arc<dyn Store>, sink: &str) -> Vec<(Uuid, Label)> {
    let due = store.due(sink, 10, 60_000).await.unwrap();
    let label = |row: aftercheck::store::OutboxRow| match row.due {
        Due::Label(label) => Some((row.delivery_id, *label)),
        _ => None,
    };
    due.into_iter().filter_map(label).collect()
}

/// Marks the scores of everything as delivered.
pub async fn scored(place: &Place) {
    place.sql("UPDATE outbox SET delivered_ms = 1 WHERE label IS NULL").await;
}

async fn the_most_telling_is_next_and_the_oldest_of_equals(place: Place) {
    let store = &place.store;
    let valued = |value| move |_| ReviewItem { value, ..plain(0) };
    store.record(&items(1..2, valued(0.2)).await).await.unwrap();
    store.record(&items(2..3, valued(0.9)).await).await.unwrap();
    store.record(&items(3..4, valued(0.2)).await).await.unwrap();
    let order = store.reviews(&Scope::default(), None, None, 10).await.unwrap();
    let ids: Vec<&str> = order.iter().map(|item| item.request_id.as_str()).collect();
    assert_eq!(ids, ["kill-2", "kill-1", "kill-3"]);
    assert_eq!(next(store, "ana").await.unwrap().item.request_id, "kill-2");
    // What is old enough goes before the most telling: nothing waits for ever.
    place.sql("UPDATE review_items SET rank_ms = rank_ms - 604800000 WHERE rank_ms = (SELECT max(rank_ms) FROM review_items)").await;
    assert_eq!(next(store, "ben").await.unwrap().item.request_id, "kill-3");
    let state = store.review_state(&Scope::default()).await.unwrap();
    assert_eq!((state.open, state.disputed, state.oldest_ms.is_some()), (3, 0, true));
}

async fn a_new_version_goes_before_one_that_is_known(place: Place) {
    let store = &place.store;
    let version =
        |name: &'static str| move |_| ReviewItem { newness: 0.3, prompt_version: name.into(), ..plain(0) };
    store.record(&items(1..2, version("known")).await).await.unwrap();
    // Eight days later its newness is gone; that of a version that nobody has seen is not.
    place.sql("UPDATE review_items SET created_ms = created_ms - 691200000, state = 'closed'").await;
    store.record(&items(2..3, version("known")).await).await.unwrap();
    store.record(&items(3..4, version("new")).await).await.unwrap();
    let order = store.reviews(&Scope::default(), None, None, 10).await.unwrap();
    let ids: Vec<&str> = order.iter().map(|item| item.request_id.as_str()).collect();
    assert_eq!(ids, ["kill-3", "kill-2"]);
    let ahead = order[1].rank_ms - order[0].rank_ms;
    assert!((ahead - 181_440_000).abs() < 60_000, "three tenths of seven days: {ahead}");
}

async fn reviewers_who_ask_at_once_get_different_items(place: Place) {
    place.store.record(&items(1..9, plain).await).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&place.store);
        tasks.spawn(async move { next(&store, &format!("r{number}")).await.unwrap().item.review_id });
    }
    let got: HashSet<Uuid> = tasks.join_all().await.into_iter().collect();
    assert_eq!(got.len(), 8, "of eight, side by side");
    assert_eq!(next(&place.store, "late").await, None);
    // Who asks again gets the same, under the same token.
    let (first, again) = (next(&place.store, "r1").await.unwrap(), next(&place.store, "r1").await.unwrap());
    assert_eq!((first.token, first.item.review_id), (again.token, again.item.review_id));
}

async fn a_hold_lapses_and_its_token_with_it(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    let ana = next(store, "ana").await.unwrap();
    let other = Saying { token: None, ..saying(&ana, "ben", Said::Pass) };
    assert_eq!(store.say(&other).await.unwrap(), Err(Refusal::Held));
    // A token that another reviewer has seen is theirs no more than the hold is.
    assert_eq!(store.say(&saying(&ana, "ben", Said::Pass)).await.unwrap(), Err(Refusal::Held));
    let skipped = store.skip_review(ana.item.review_id, "ben", &Scope::default(), Some(ana.token)).await;
    assert_eq!(skipped.unwrap(), Err(Refusal::Held));
    place.sql("UPDATE review_items SET held_until_ms = 1").await;
    let ben = next(store, "ben").await.unwrap();
    assert_eq!(ben.item.review_id, ana.item.review_id);
    assert_ne!(ben.token, ana.token);
    let late = store.say(&saying(&ana, "ana", Said::Fail)).await.unwrap();
    assert_eq!(late, Err(Refusal::Lapsed), "fenced: somebody has it since");
    let skipped = store.skip_review(ana.item.review_id, "ana", &Scope::default(), Some(ana.token)).await;
    assert_eq!(skipped.unwrap(), Err(Refusal::Lapsed));
    // One that has lapsed and that nobody has taken is still good.
    place.sql("UPDATE review_items SET held_until_ms = 1").await;
    let decided = Labelled { state: ReviewState::Closed, decided: Some(Said::Pass) };
    assert_eq!(store.say(&saying(&ben, "ben", Said::Pass)).await.unwrap(), Ok(decided));
    let closed = store.say(&Saying { token: None, ..saying(&ana, "ana", Said::Fail) }).await.unwrap();
    assert_eq!(closed, Err(Refusal::Closed));
    let gone = Saying { review_id: Uuid::nil(), ..saying(&ana, "ana", Said::Fail) };
    assert_eq!(store.say(&gone).await.unwrap(), Err(Refusal::Missing));
}

async fn what_was_skipped_or_labelled_comes_to_this_reviewer_no_more(place: Place) {
    let store = &place.store;
    store.record(&items(1..4, |_| ReviewItem { wanted: 2, ..plain(0) }).await).await.unwrap();
    let mut seen = HashSet::new();
    let skipped = next(store, "ana").await.unwrap();
    seen.insert(skipped.item.review_id);
    for _ in 0..2 {
        let skip =
            store.skip_review(skipped.item.review_id, "ana", &Scope::default(), Some(skipped.token)).await;
        assert_eq!(skip.unwrap(), Ok(()), "a repeat changes nothing");
    }
    while let Some(held) = next(store, "ana").await {
        assert!(seen.insert(held.item.review_id), "no item twice");
        let one_more = Labelled { state: ReviewState::Open, decided: None };
        assert_eq!(store.say(&saying(&held, "ana", Said::Pass)).await.unwrap(), Ok(one_more));
        let twice = Saying { token: None, ..saying(&held, "ana", Said::Pass) };
        assert_eq!(store.say(&twice).await.unwrap(), Err(Refusal::AlreadySaid));
    }
    assert_eq!(seen.len(), 3);
    let ben = next(store, "ben").await.unwrap();
    assert!(seen.contains(&ben.item.review_id), "another reviewer gets them");
}

async fn a_reviewer_gets_only_what_they_may_see(place: Place) {
    let store = &place.store;
    // Longer than what Postgres calls a name.
    let (other, search) = (&*"other".repeat(20), &*"search".repeat(20));
    let mut group = items(1..7, plain).await;
    for (number, record) in group.iter_mut().enumerate() {
        record.evaluation.tenant_id = if number < 3 { "acme" } else { other }.into();
        record.evaluation.feature = if number % 2 == 0 { "chat" } else { search }.into();
    }
    store.record(&group).await.unwrap();
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    for (tenants, features, count) in [
        (names(&["acme"]), None, 3),
        (None, names(&["chat"]), 3),
        (names(&[other]), names(&[search]), 2),
        (names(&["acme", other]), names(&["chat", search]), 6),
        (names(&[]), None, 0),
        (names(&["nobody"]), None, 0),
    ] {
        let scope = Scope { tenants, features };
        let mut found = 0;
        let reviewer = format!("{scope:?}");
        while let Some(held) =
            store.next_review(&Asking { scope: scope.clone(), ..asking(&reviewer) }).await.unwrap()
        {
            assert!(scope.holds(&held.item.tenant_id, &held.item.feature));
            found += 1;
            let skip = store.skip_review(held.item.review_id, &reviewer, &scope, Some(held.token)).await;
            assert_eq!(skip.unwrap(), Ok(()));
        }
        assert_eq!(found, count, "{scope:?}");
        assert_eq!(store.reviews(&scope, None, None, 10).await.unwrap().len(), count, "{scope:?}");
        assert_eq!(store.review_state(&scope).await.unwrap().open, count as u64);
    }
    // Whoever knows an id may do nothing with it for that.
    let held = next(store, "ana").await.unwrap();
    let foreign = Scope { tenants: names(&["nobody"]), features: None };
    let said = Saying { scope: foreign.clone(), ..saying(&held, "ana", Said::Pass) };
    assert_eq!(store.say(&said).await.unwrap(), Err(Refusal::Missing));
    let skip = store.skip_review(held.item.review_id, "ana", &foreign, Some(held.token)).await.unwrap();
    assert_eq!(skip, Err(Refusal::Missing));
}

async fn a_label_is_told_to_every_sink_behind_the_scores(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    let held = next(store, "ana").await.unwrap();
    store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
    assert_eq!(told(store, "one").await, [], "the scores go first");
    scored(&place).await;
    let [one, two] = [told(store, "one").await.remove(0), told(store, "two").await.remove(0)];
    assert_ne!(one.0, two.0);
    assert_eq!((one.1.label, one.1.note.as_str(), one.1.reviewer.as_str()), (Said::Fail, "because", "ana"));
    assert_eq!(one.1.evaluation_id, held.item.evaluation_id);
    store.delivered(&[delivered(one.0)]).await.unwrap();
    let story = &store.stories(None, "kill-1").await.unwrap()[0];
    assert_eq!((story.labels.len(), story.labels[0].said), (1, Said::Fail));
    assert_eq!(story.reviews[0].state, "closed");
    assert!(
        story.ledger.iter().any(|entry| entry.event == "labelled" && entry.detail.contains("fail by ana"))
    );
    let counts = store.final_labels(None, 10).await.unwrap();
    assert_eq!(
        (counts.len(), counts[0].entry.said, counts[0].request_id.as_str()),
        (1, Said::Fail, "kill-1")
    );
    let after = Some((counts[0].decided_ms, counts[0].entry.evaluation_id));
    assert_eq!(store.final_labels(after, 10).await.unwrap(), []);
}

async fn a_label_that_is_taken_back_is_not_told_or_told_anew(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    scored(&place).await;
    let held = next(store, "ana").await.unwrap();
    assert_eq!(store.take_back(&taking("ana")).await.unwrap(), Err(Refusal::Missing), "nothing was said");
    let later = Saying { undo_ms: 60_000, ..saying(&held, "ana", Said::Fail) };
    store.say(&later).await.unwrap().unwrap();
    assert_eq!(told(store, "one").await, [], "not before the time for second thoughts is over");
    let back = taking("ana");
    let item = store.take_back(&back).await.unwrap().unwrap();
    assert_eq!((item.state, item.held_by.as_deref()), (ReviewState::Open, Some("ana")));
    assert_eq!(store.take_back(&back).await.unwrap().unwrap().review_id, item.review_id, "a repeat");
    assert_eq!(place.count("SELECT count(*) FROM outbox WHERE label IS NOT NULL").await, 0);
    assert_eq!(store.final_labels(None, 10).await.unwrap(), []);
    // Said anew and sent, it is overwritten where it was sent, and nowhere else.
    let held = next(store, "ana").await.unwrap();
    assert_eq!(held.item.review_id, item.review_id);
    store.say(&saying(&held, "ana", Said::Pass)).await.unwrap().unwrap();
    let sent = told(store, "one").await.remove(0);
    store.delivered(&[delivered(sent.0)]).await.unwrap();
    store.take_back(&taking("ana")).await.unwrap().unwrap();
    let anew = told(store, "one").await;
    assert_eq!((anew.len(), anew[0].1.label, anew[0].1.note.as_str()), (1, Said::Unsure, "taken back"));
    assert_eq!(anew[0].1.label_id, sent.1.label_id, "it overwrites");
    assert_eq!(told(store, "two").await, [], "it never heard of it");
    let history = store.labels(item.evaluation_id).await.unwrap();
    let kinds: Vec<LabelKind> = history.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [LabelKind::Label, LabelKind::Undo, LabelKind::Label, LabelKind::Undo]);
    assert_eq!(store.standing_labels(item.evaluation_id).await.unwrap(), []);
}

async fn two_look_blindly_and_a_third_decides(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, |_| ReviewItem { wanted: 2, ..plain(0) }).await).await.unwrap();
    scored(&place).await;
    let ana = next(store, "ana").await.unwrap();
    let early = Saying { adjudicates: true, ..saying(&ana, "ana", Said::Pass) };
    assert_eq!(store.say(&early).await.unwrap(), Err(Refusal::NotDisputed));
    store.say(&saying(&ana, "ana", Said::Pass)).await.unwrap().unwrap();
    assert_eq!(told(store, "one").await, [], "one label decides nothing");
    let ben = next(store, "ben").await.unwrap();
    let differs = store.say(&saying(&ben, "ben", Said::Fail)).await.unwrap().unwrap();
    assert_eq!(differs, Labelled { state: ReviewState::Disputed, decided: None });
    assert_eq!(next(store, "eve").await, None, "it wants no other label");
    let disputed = |reviewer: &str| Asking { state: ReviewState::Disputed, ..asking(reviewer) };
    assert_eq!(store.next_review(&disputed("ana")).await.unwrap(), None, "she is a party");
    let eve = store.next_review(&disputed("eve")).await.unwrap().unwrap();
    let label = store.say(&saying(&eve, "eve", Said::Fail)).await.unwrap();
    assert_eq!(label, Err(Refusal::Disputed));
    let decides = Saying { adjudicates: true, ..saying(&eve, "eve", Said::Fail) };
    let party = Saying { reviewer: "ben".into(), token: None, ..decides.clone() };
    assert_eq!(store.say(&party).await.unwrap(), Err(Refusal::AlreadySaid));
    let decided = Labelled { state: ReviewState::Closed, decided: Some(Said::Fail) };
    assert_eq!(store.say(&decides).await.unwrap(), Ok(decided));
    let sent = told(store, "one").await;
    assert_eq!((sent.len(), sent[0].1.label, sent[0].1.reviewer.as_str()), (1, Said::Fail, "eve"));
    assert_eq!(store.take_back(&taking("ana")).await.unwrap(), Err(Refusal::TooLate));
    // Who decided may think again.
    let item = store.take_back(&taking("eve")).await.unwrap().unwrap();
    assert_eq!((item.state, item.labels), (ReviewState::Disputed, 2));
    store.take_back(&taking("ben")).await.unwrap().unwrap();
    assert_eq!(store.review(item.review_id).await.unwrap().unwrap().state, ReviewState::Open);
}

async fn what_became_a_row_of_the_golden_set_is_not_taken_back(place: Place) {
    let store = &place.store;
    let recorded = items(1..2, plain).await;
    store.record(&recorded).await.unwrap();
    let held = next(store, "ana").await.unwrap();
    store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
    let shelving = golden::of(&recorded[0].evaluation);
    store.shelve(&shelving).await.unwrap();
    assert_eq!(store.take_back(&taking("ana")).await.unwrap(), Err(Refusal::Golden));
    assert_eq!(store.standing_labels(held.item.evaluation_id).await.unwrap().len(), 1);
    store.unshelve(shelving.golden.golden_id, "eve").await.unwrap();
    store.take_back(&taking("ana")).await.unwrap().unwrap();
}

async fn the_same_saying_again_changes_nothing(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    let held = next(store, "ana").await.unwrap();
    let said = saying(&held, "ana", Said::Pass);
    let first = store.say(&said).await.unwrap();
    assert_eq!(store.say(&said).await.unwrap(), first);
    assert_eq!(place.count("SELECT count(*) FROM labels").await, 1);
    assert_eq!(place.count("SELECT count(*) FROM outbox WHERE label IS NOT NULL").await, 2);
    // Many say something at once: one label is taken.
    store.record(&items(2..3, plain).await).await.unwrap();
    let held = next(store, "ana").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, said) = (Arc::clone(store), saying(&held, "ana", Said::Fail));
        tasks.spawn(async move { store.say(&said).await.unwrap().is_ok() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|taken| *taken).count(), 1);
    assert_eq!(place.count("SELECT count(*) FROM final_labels").await, 2);
}

async fn what_was_said_is_erased_and_an_undecided_item_is_not_pruned(place: Place) {
    let store = &place.store;
    store.record(&items(1..4, |_| ReviewItem { wanted: 2, ..plain(0) }).await).await.unwrap();
    for (reviewer, said) in [("ana", Said::Pass), ("ben", Said::Fail)] {
        let held = next(store, reviewer).await.unwrap();
        store.say(&saying(&held, reviewer, said)).await.unwrap().unwrap();
    }
    let skipped = next(store, "eve").await.unwrap();
    store.skip_review(skipped.item.review_id, "eve", &Scope::default(), None).await.unwrap().unwrap();
    place.sql("UPDATE outbox SET delivered_ms = 1").await;
    place.sql("UPDATE review_items SET state = 'closed' WHERE state = 'open'").await;
    assert_eq!(store.prune(0..i64::MAX, 10).await.unwrap().evaluations, 2, "not the disputed one");
    let decider = Asking { state: ReviewState::Disputed, ..asking("eve") };
    let eve = store.next_review(&decider).await.unwrap().unwrap();
    let decides = Saying { adjudicates: true, ..saying(&eve, "eve", Said::Fail) };
    store.say(&decides).await.unwrap().unwrap();
    let one = Whose::Tenant(eve.item.tenant_id);
    store.erase(&one, None, 10, &[]).await.unwrap();
    for rows in [
        "SELECT count(*) FROM labels",
        "SELECT count(*) FROM standing_labels",
        "SELECT count(*) FROM final_labels",
        "SELECT count(*) FROM review_skips",
        "SELECT count(*) FROM review_items",
        "SELECT count(*) FROM outbox",
    ] {
        assert_eq!(place.count(rows).await, 0, "{rows}");
    }
}

async fn the_audit_slice_is_told_with_its_probability(place: Place) {
    let store = &place.store;
    let item = |number| match number {
        1 | 2 => ReviewItem { probability: 0.25, ..ReviewItem::new(Reason::AuditSlice, 0.25) },
        _ => plain(0),
    };
    store.record(&items(1..4, item).await).await.unwrap();
    let audited = store.audited(&Scope::default(), 0).await.unwrap();
    assert_eq!(audited.len(), 2, "what is reviewed for another reason is no sample");
    assert!(audited.iter().all(|one| one.said.is_none() && one.drawn == 0.25 && one.sampled == 1.0));
    while let Some(held) = next(store, "ana").await {
        store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
    }
    assert!(
        store.audited(&Scope::default(), 0).await.unwrap().iter().all(|one| one.said == Some(Said::Fail))
    );
    assert_eq!(store.audited(&Scope::default(), i64::MAX).await.unwrap(), []);
}

async fn all_of_a_list_is_reached_page_by_page(place: Place) {
    let store = &place.store;
    store.record(&items(1..8, plain).await).await.unwrap();
    // Several of one rank, and of every state.
    place
        .sql("UPDATE review_items SET rank_ms = 5 WHERE rank_ms <> (SELECT min(rank_ms) FROM review_items)")
        .await;
    let of = |state: &str, number: usize| {
        let id = aftercheck::store::evaluation_id(&super::numbered(number, "Yes."), "v1");
        format!("UPDATE review_items SET state = '{state}' WHERE evaluation_id = '{id}'")
    };
    for (state, number) in [("disputed", 2), ("disputed", 5), ("closed", 3), ("closed", 6), ("closed", 7)] {
        place.sql(&of(state, number)).await;
    }
    for (state, count) in [(None, 4), (Some(ReviewState::Open), 2), (Some(ReviewState::Closed), 3)] {
        let all = store.reviews(&Scope::default(), state, None, 10).await.unwrap();
        assert_eq!(all.len(), count);
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = store.reviews(&Scope::default(), state, after, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.rank_ms, last.review_id));
            paged.extend(page);
        }
        assert_eq!(paged, all, "{state:?}");
    }
}

async fn the_next_is_found_quickly_among_100_000(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    place.many_reviews(100_000).await;
    let names = |name: &str| Some(vec![name.to_owned()]);
    let few = Scope { tenants: names("tenant-7"), features: None };
    let rare = Scope { tenants: names("tenant-7"), features: names("feature-rare") };
    let feature = Scope { tenants: None, features: names("feature-3") };
    for (number, scope) in [Scope::default(), few, rare, feature].into_iter().enumerate() {
        let mut best = f64::MAX;
        for turn in 0..12 {
            let ask = Asking { scope: scope.clone(), ..asking(&format!("r{number}-{turn}")) };
            let begun = Instant::now();
            let held = store.next_review(&ask).await.unwrap();
            best = best.min(begun.elapsed().as_secs_f64() * 1000.0);
            assert_eq!(held.is_some(), number != 2, "{scope:?}");
        }
        // Shown and not asserted: on a busy machine it says more about the neighbours. The plan is what keeps it short.
        println!("{scope:?}: {best:.2} ms");
        let plan = place.plan_of_next(&scope).await;
        println!("{plan}");
        let index =
            ["review_items_next", "review_items_by_", "review_items_by_", "review_items_by_feature"][number];
        assert!(plan.contains(index) && !plan.contains("Seq Scan on review_items"), "need {index}: {plan}");
    }
    // A page of the list is read from its place, not sorted out of all.
    place.sql("UPDATE review_items SET state = 'closed' WHERE created_ms % 2 = 0").await;
    place.sql("ANALYZE").await;
    for (state, index) in
        [(ReviewState::Open, "review_items_next"), (ReviewState::Closed, "review_items_closed")]
    {
        let plan = place.plan_of_page(state).await;
        println!("{plan}");
        assert!(plan.contains(index), "need {index}: {plan}");
        assert!(!plan.contains("Sort") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}
