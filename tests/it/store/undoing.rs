//! What a store promises where people change their minds: what sinks hear of a label that was taken back, and who holds the item.

use aftercheck::{
    domain::{Label, ReviewState, Said},
    store::{
        ReviewItem,
        golden::{Shelved, Shelving},
        reviewing::{Labelled, Refusal, Saying, Scope, TakingBack},
    },
};
use uuid::Uuid;

use super::{
    delivered, golden, on_both,
    place::Place,
    reviewing::{asking, items, next, plain, saying, scored, taking, told},
    undelivered,
};

on_both! {
    what_was_given_up_does_not_bring_a_label_back
    what_fails_later_does_not_bring_a_label_back
    another_label_does_not_keep_back_that_one_was_taken_back
    an_item_that_was_skipped_and_labelled_can_be_skipped_again
    a_named_label_is_taken_back_and_no_other
    whoever_took_the_item_meanwhile_keeps_it
    what_was_taken_back_meanwhile_becomes_no_row_of_the_golden_set
}

/// What a sink hears of labels next, each delivered.
async fn heard(place: &Place, sink: &str) -> Vec<(Uuid, Said)> {
    let mut heard = Vec::new();
    loop {
        // Rows of one evaluation are a millisecond apart, the last perhaps ahead of the clock.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        place
            .sql("UPDATE outbox SET due_ms = created_ms + 1 WHERE label IS NOT NULL AND due_ms > created_ms")
            .await;
        let due: Vec<(Uuid, Label)> = told(&place.store, sink).await;
        let Some((delivery_id, label)) = due.into_iter().next() else { return heard };
        place.store.delivered(&[delivered(delivery_id)]).await.unwrap();
        heard.push((label.label_id, label.label));
    }
}

async fn what_was_given_up_does_not_bring_a_label_back(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    scored(&place).await;
    let held = next(store, "ana").await.unwrap();
    store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
    let dead = told(store, "one").await.remove(0);
    store.undelivered(&[undelivered(dead.0, None, "status 422")]).await.unwrap();
    let dropped = told(store, "two").await.remove(0);
    store.undelivered(&[undelivered(dropped.0, None, "status 422")]).await.unwrap();
    assert!(store.drop_delivery(dropped.0, "erika").await.unwrap());
    store.take_back(&taking("ana")).await.unwrap().unwrap();
    for (delivery_id, sink) in [(dead.0, "one"), (dropped.0, "two")] {
        store.requeue_delivery(delivery_id, "erika").await.unwrap();
        let heard = heard(&place, sink).await;
        assert!(!heard.is_empty(), "it may have arrived before it was given up");
        assert!(heard.iter().all(|(_, said)| *said == Said::Unsure), "{sink}: {heard:?}");
    }
    // Said anew and given up again: what counts by then is what is requeued, at whatever time.
    let held = next(store, "ana").await.unwrap();
    store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
    let dead = told(store, "one").await.remove(0);
    store.undelivered(&[undelivered(dead.0, None, "status 422")]).await.unwrap();
    store.take_back(&taking("ana")).await.unwrap().unwrap();
    let held = next(store, "ana").await.unwrap();
    store.say(&saying(&held, "ana", Said::Pass)).await.unwrap().unwrap();
    assert_eq!(heard(&place, "one").await.last().map(|one| one.1), Some(Said::Pass));
    store.requeue_delivery(dead.0, "erika").await.unwrap();
    let late = heard(&place, "one").await;
    assert!(late.iter().all(|(_, said)| *said == Said::Pass), "{late:?}");
}

async fn what_fails_later_does_not_bring_a_label_back(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    scored(&place).await;
    let held = next(store, "ana").await.unwrap();
    store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
    // A sink that is away is tried again and again; it is given up once the label is taken back.
    let (tried, _) = told(store, "one").await.remove(0);
    store.undelivered(&[undelivered(tried, Some(60_000), "no answer")]).await.unwrap();
    store.take_back(&taking("ana")).await.unwrap().unwrap();
    store.undelivered(&[undelivered(tried, None, "no answer")]).await.unwrap();
    assert_eq!(heard(&place, "one").await.iter().map(|one| one.1).collect::<Vec<_>>(), [Said::Unsure]);
    assert!(store.requeue_delivery(tried, "erika").await.unwrap());
    assert_eq!(heard(&place, "one").await.iter().map(|one| one.1).collect::<Vec<_>>(), [Said::Unsure]);
}

async fn another_label_does_not_keep_back_that_one_was_taken_back(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, |_| ReviewItem { wanted: 2, ..plain(0) }).await).await.unwrap();
    scored(&place).await;
    for reviewer in ["ana", "ben"] {
        let held = next(store, reviewer).await.unwrap();
        store.say(&saying(&held, reviewer, Said::Fail)).await.unwrap().unwrap();
    }
    let [(bens, Said::Fail)] = heard(&place, "one").await[..] else { panic!("the newest counts") };
    // What sinks have is of ben, whoever takes theirs back; and eve labels before they hear of it.
    store.take_back(&taking("ana")).await.unwrap().unwrap();
    place.sql("UPDATE review_items SET held_until_ms = 1").await;
    let held = next(store, "eve").await.unwrap();
    store.say(&saying(&held, "eve", Said::Fail)).await.unwrap().unwrap();
    let heard = heard(&place, "one").await;
    assert_eq!((heard.len(), heard[0], heard[1].1), (2, (bens, Said::Unsure), Said::Fail), "{heard:?}");
    assert_ne!(heard[1].0, bens);
}

async fn an_item_that_was_skipped_and_labelled_can_be_skipped_again(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, plain).await).await.unwrap();
    let held = next(store, "ana").await.unwrap();
    let (id, scope) = (held.item.review_id, Scope::default());
    store.skip_review(id, "ana", &scope, Some(held.token)).await.unwrap().unwrap();
    assert_eq!(next(store, "ana").await, None);
    // By its address, and she thinks again.
    let by_address = Saying { token: None, ..saying(&held, "ana", Said::Pass) };
    store.say(&by_address).await.unwrap().unwrap();
    store.take_back(&taking("ana")).await.unwrap().unwrap();
    let again = next(store, "ana").await.expect("it is hers again");
    for token in [Some(again.token), None] {
        store.skip_review(id, "ana", &scope, token).await.unwrap().unwrap();
    }
    assert_eq!(next(store, "ana").await, None, "skipped is skipped");
    assert_eq!(next(store, "ben").await.unwrap().item.review_id, id);
    // One that was skipped and is held all the same, as a version before this left it.
    place.sql("UPDATE review_items SET held_by = 'ana', held_until_ms = 9000000000000").await;
    store.skip_review(id, "eve", &scope, None).await.unwrap().unwrap_err();
    store.skip_review(id, "ana", &scope, None).await.unwrap().unwrap();
    assert_eq!(store.review(id).await.unwrap().unwrap().held_by, None);
}

async fn a_named_label_is_taken_back_and_no_other(place: Place) {
    let store = &place.store;
    store.record(&items(1..4, plain).await).await.unwrap();
    let mut labelled = Vec::new();
    for _ in 0..3 {
        let held = next(store, "ana").await.unwrap();
        store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
        labelled.push(held.item);
    }
    let of = |item: Uuid| TakingBack { review_id: Some(item), ..taking("ana") };
    // The last but one; then again, as a hasty finger or a lost answer has it.
    for _ in 0..3 {
        let item = store.take_back(&of(labelled[1].review_id)).await.unwrap().unwrap();
        assert_eq!((item.review_id, item.state), (labelled[1].review_id, ReviewState::Open));
        assert_eq!(place.count("SELECT count(*) FROM standing_labels").await, 2, "the others stand");
    }
    assert_eq!(place.count("SELECT count(*) FROM labels WHERE kind = 'undo'").await, 1);
    let other = TakingBack { reviewer: "ben".into(), ..of(labelled[0].review_id) };
    assert_eq!(store.take_back(&other).await.unwrap(), Err(Refusal::Missing), "it is not ben's");
    assert_eq!(store.take_back(&of(Uuid::nil())).await.unwrap(), Err(Refusal::Missing));
    let foreign = Scope { tenants: Some(vec!["nobody".into()]), features: None };
    let foreign = TakingBack { scope: foreign, ..of(labelled[0].review_id) };
    assert_eq!(store.take_back(&foreign).await.unwrap(), Err(Refusal::Missing));
    // Without a name it is the last.
    let item = store.take_back(&taking("ana")).await.unwrap().unwrap();
    assert_eq!(item.review_id, labelled[2].review_id);
}

async fn whoever_took_the_item_meanwhile_keeps_it(place: Place) {
    let store = &place.store;
    store.record(&items(1..2, |_| ReviewItem { wanted: 2, ..plain(0) }).await).await.unwrap();
    let ana = next(store, "ana").await.unwrap();
    store.say(&saying(&ana, "ana", Said::Pass)).await.unwrap().unwrap();
    let ben = next(store, "ben").await.unwrap();
    let item = store.take_back(&taking("ana")).await.unwrap().unwrap();
    assert_eq!((item.labels, item.held_by.as_deref()), (0, Some("ben")));
    let one_more = Labelled { state: ReviewState::Open, decided: None };
    assert_eq!(store.say(&saying(&ben, "ben", Said::Fail)).await.unwrap(), Ok(one_more));
    // Free again, it comes to who thought again.
    assert_eq!(store.next_review(&asking("ana")).await.unwrap().unwrap().item.review_id, item.review_id);
    place.sql("UPDATE review_items SET held_by = 'eve', held_until_ms = 1").await;
    let item = store.take_back(&taking("ben")).await.unwrap().unwrap();
    assert_eq!(item.held_by.as_deref(), Some("ben"), "a hold that has lapsed is nobody's");
}

async fn what_was_taken_back_meanwhile_becomes_no_row_of_the_golden_set(place: Place) {
    let store = &place.store;
    let recorded = items(1..2, plain).await;
    store.record(&recorded).await.unwrap();
    let held = next(store, "ana").await.unwrap();
    let id = held.item.evaluation_id;
    store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
    let read = store.final_label(id).await.unwrap().unwrap().entry.entry_id;
    let shelving = Shelving { label_entry: Some(read), ..golden::of(&recorded[0].evaluation) };
    store.take_back(&taking("ana")).await.unwrap().unwrap();
    assert_eq!(store.shelve(&shelving).await.unwrap(), Shelved::Stale, "nothing counts");
    store.say(&Saying { token: None, ..saying(&held, "ana", Said::Pass) }).await.unwrap().unwrap();
    assert_eq!(store.shelve(&shelving).await.unwrap(), Shelved::Stale, "another label counts");
    assert_eq!(place.count("SELECT count(*) FROM golden").await, 0);
    // Side by side, one of both is refused.
    for number in 2..12 {
        let recorded = items(number..number + 1, plain).await;
        store.record(&recorded).await.unwrap();
        let held = next(store, "ana").await.unwrap();
        store.say(&saying(&held, "ana", Said::Fail)).await.unwrap().unwrap();
        let read = store.final_label(held.item.evaluation_id).await.unwrap().unwrap().entry.entry_id;
        let shelving = Shelving { label_entry: Some(read), ..golden::of(&recorded[0].evaluation) };
        let back = taking("ana");
        let (shelved, taken) = tokio::join!(store.shelve(&shelving), store.take_back(&back));
        match (shelved.unwrap(), taken.unwrap()) {
            (Shelved::New, Err(Refusal::Golden)) => {}
            (Shelved::Stale, Ok(item)) => {
                let later =
                    Saying { review_id: item.review_id, token: None, ..saying(&held, "ana", Said::Pass) };
                store.say(&later).await.unwrap().unwrap();
            }
            both => panic!("{both:?}"),
        }
    }
}
