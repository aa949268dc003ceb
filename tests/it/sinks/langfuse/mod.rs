//! Langfuse by contract: every score once, with its value, however often it is sent and whatever fails meanwhile.

mod bites;
#[cfg(feature = "faults")]
mod kills;
mod server;
mod traps;

use std::sync::Arc;

use aftercheck::sinks::{Item, Outcome, Sink, SinkError};
use serde_json::{Value, json};

use self::server::{PUBLIC, SECRET, Server, Version};
use super::{
    faults::{Fault, Plan},
    items,
};

/// A sink that writes to a server.
async fn sink(server: &Server, more: &str) -> Arc<dyn Sink> {
    sink_at(&server.serve().await, SECRET, more)
}

fn sink_at(url: &str, secret: &str, more: &str) -> Arc<dyn Sink> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let keys = format!("public_key = '{PUBLIC}'\nsecret_key_file = '{}'", file.display());
    items::sink(&format!("kind = 'langfuse'\nurl = '{url}'\ntimeout_ms = 300\n{keys}\n{more}"))
}

/// Nothing was sent that the official document does not have, and nothing was dropped.
fn is_clean(server: &Server) {
    let state = server.state();
    assert!(state.wrong.is_empty(), "{:#?}", state.wrong);
    assert!(state.dropped.is_empty(), "{:?}", state.dropped);
}

/// Objects on the queue.
fn queued(server: &Server) -> Vec<String> {
    let state = server.state();
    let mut ids: Vec<String> =
        state.queue.iter().map(|item| item["objectId"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// The servers and the interfaces that they have.
const WAYS: [(Version, &str); 4] = [
    (Version::V416, "api = 'ingestion'"),
    (Version::Newer, "api = 'ingestion'"),
    (Version::V416, "api = 'scores'"),
    (Version::Newer, "api = 'scores'"),
];

#[tokio::test]
async fn each_score_is_there_once_whatever_fails_and_however_often_it_is_sent() {
    for (version, way) in WAYS {
        let server = Server::of(version);
        let sink = sink(&server, &format!("{way}\nqueue = 'q1'\nenvironment = 'staging'")).await;
        let batch = items::batch(12);
        server.state().plan = Plan::mixed(12);
        server.state().stumbles = 7;
        for _ in 0..2 {
            let (outcomes, _) = items::deliver(&*sink, &batch).await;
            assert!(
                outcomes.iter().all(|outcome| matches!(outcome, Outcome::Delivered { .. })),
                "{outcomes:?}"
            );
        }
        assert_eq!(server.state().plan.left(), 0, "all the faults came");
        for number in 0..12 {
            let expected = items::expected(number, items::verdict(number));
            assert_eq!(server.values(&items::trace(number)), expected, "{version:?} {way}");
        }
        let looked_at: Vec<String> =
            (0..12).filter(|number| items::verdict(*number) == "review").map(items::span).collect();
        assert_eq!(queued(&server), looked_at, "{version:?} {way}");
        is_clean(&server);
        let state = server.state();
        let mut of_first = state.scores.values().filter(|score| score["traceId"] == items::trace(0));
        let score = of_first.find(|score| score["name"] == "rule.format.json").unwrap();
        assert_eq!((&score["dataType"], &score["value"]), (&json!("BOOLEAN"), &json!(0)));
        assert_eq!(score["environment"], "staging");
        assert_eq!(score["observationId"], items::span(0));
        assert_eq!(score["metadata"]["by"], "code");
        if way.contains("ingestion") {
            assert_eq!(score["timestamp"], "2026-11-02T10:00:00Z");
        }
    }
}

#[tokio::test]
async fn a_repeat_on_another_day_is_the_same_score() {
    for (version, way) in [WAYS[0], WAYS[1], WAYS[3]] {
        let server = Server::of(version);
        let sink = sink(&server, way).await;
        for now in ["2026-11-02T23:59:59Z", "2026-11-03T00:00:01Z", "2026-12-01T00:00:00Z"] {
            server.state().now = now.parse().unwrap();
            items::deliver(&*sink, &items::batch(2)).await;
        }
        assert_eq!(server.values(&items::trace(1)), items::expected(1, "fail"), "{version:?} {way}");
    }
}

#[tokio::test]
async fn a_score_that_is_refused_keeps_no_other_from_arriving() {
    for (version, way) in WAYS {
        let server = Server::of(version);
        let sink = sink(&server, way).await;
        server.state().refuses.insert("rule.format.json".into());
        let mut good = items::evaluation(7, "pass");
        good["rules"] = json!([]);
        let batch = [items::batch(2), vec![items::scored(good)]].concat();
        let (outcomes, _) = items::deliver(&*sink, &batch).await;
        for outcome in &outcomes[..2] {
            let Outcome::Never { reason } = outcome else { panic!("{outcome:?}") };
            assert!(reason.starts_with("rule.format.json: "), "{reason}");
        }
        assert!(matches!(outcomes[2], Outcome::Delivered { .. }), "{version:?} {way}: {outcomes:?}");
        let mut expected = items::expected(1, "fail");
        expected.remove("rule.format.json");
        assert_eq!(server.values(&items::trace(1)), expected, "{version:?} {way}");
        assert_eq!(server.values(&items::trace(7)).len(), 3);
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_sent_in_parts() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "").await;
    server.state().limit = 5000;
    let (outcomes, rounds) = items::deliver(&*sink, &items::batch(12)).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Delivered { .. })), "{outcomes:?}");
    assert_eq!(rounds, 1);
    assert_eq!(server.state().scores.len(), 12 * 5);
}

#[tokio::test]
async fn the_newest_label_of_a_batch_counts() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "target = 'trace'").await;
    let batch =
        [items::scored(items::evaluation(1, "review")), items::label(1, "fail"), items::label(1, "pass")];
    for _ in 0..2 {
        items::deliver(&*sink, &batch).await;
    }
    let values = server.values(&items::trace(1));
    assert_eq!((values.len(), &values["review"]), (6, &json!("pass")));
    let state = server.state();
    let review = state.scores.values().find(|score| score["name"] == "review").unwrap();
    assert_eq!(
        (&review["metadata"]["by"], &review["comment"]),
        (&json!("human"), &json!("jo\nhttps://h.example/calls/t/r\nlooked"))
    );
    assert!(review["observationId"].is_null(), "scores are on the trace");
    drop(state);
    is_clean(&server);
}

#[tokio::test]
async fn a_call_to_look_at_is_queued_once_also_where_somebody_has_done_it_meanwhile() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "queue = 'q1'\ntarget = 'trace'").await;
    // More than a page was there before, some of it done long ago.
    let old = |number: usize| {
        let status = if number.is_multiple_of(2) { "PENDING" } else { "COMPLETED" };
        json!({"id": format!("old{number}"), "queueId": "q1", "objectId": format!("t{number}"), "objectType": "TRACE",
            "status": status, "createdAt": "2026-01-02T10:00:00Z", "updatedAt": "2026-01-02T10:00:00Z"})
    };
    server.state().queue = (0..250).map(old).collect();
    let mut second = items::evaluation(4, "review");
    second["trace_id"] = json!(items::trace(3));
    let batch = [items::scored(items::evaluation(3, "review")), items::scored(second)];
    items::deliver(&*sink, &batch).await;
    for item in &mut server.state().queue {
        item["status"] = json!("COMPLETED");
    }
    let (one, two) = (sink.deliver(&batch), sink.deliver(&batch));
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert_eq!(server.state().queue.len(), 251);
    // A call of the same trace that was done before this one was evaluated says nothing of it.
    server.state().queue[1]["objectId"] = json!(items::trace(9));
    items::deliver(&*sink, &[items::scored(items::evaluation(9, "review"))]).await;
    assert_eq!(server.state().queue.len(), 252);
    is_clean(&server);
}

#[tokio::test]
async fn a_call_that_slips_between_two_pages_is_not_queued_again() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "queue = 'q1'\ntarget = 'trace'").await;
    // The newest last: the call is the first of the second page.
    let open = |number: usize| {
        let object = if number == 49 { items::trace(3) } else { format!("t{number}") };
        json!({"id": format!("old{number}"), "queueId": "q1", "objectId": object, "objectType": "TRACE",
            "status": "PENDING", "createdAt": "2026-01-02T10:00:00Z", "updatedAt": "2026-01-02T10:00:00Z"})
    };
    server.state().queue = (0..150).map(open).collect();
    server.state().works_off = 1;
    let review = [items::scored(items::evaluation(3, "review"))];
    items::deliver(&*sink, &review).await;
    assert_eq!(server.state().works_off, 0);
    assert_eq!(server.state().queue.len(), 150, "it is there");
    // Where people are quicker than we can read, nothing is said to be missing; it waits.
    server.state().works_off = 30;
    let other = [items::scored(items::evaluation(7, "review"))];
    assert!(matches!(sink.deliver(&other).await, Err(SinkError::Again { .. })));
    server.state().works_off = 0;
    items::deliver(&*sink, &other).await;
    assert_eq!(server.state().queue.len(), 151);
    is_clean(&server);
}

#[tokio::test]
async fn golden_rows_are_items_of_a_dataset_that_is_there_or_made() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "").await;
    let batch =
        [items::golden(1, "prod/regressions", None), items::golden(2, "prod/regressions", Some("Two."))];
    server.state().plan = Plan::mixed(5);
    items::deliver(&*sink, &batch).await;
    items::deliver(&*sink, &batch).await;
    let items_: Vec<Value> = server.state().items.values().cloned().collect();
    assert_eq!(items_.len(), 2);
    let said: Vec<&Value> = items_.iter().map(|item| &item["expectedOutput"]).collect();
    assert!(said.contains(&&json!("Two.")) && said.contains(&&Value::Null), "{said:?}");
    assert_eq!(items_[0]["input"]["contexts"][0]["text"], "A number.");
    assert_eq!(items_[0]["metadata"]["reviewers"], json!(["jo", "al"]));
    assert_eq!(items_[0]["metadata"]["policy"], "Say the number.");
    assert_eq!(items_[0]["metadata"]["feature"], "numbers");
    // The same row of another set would be another item of the same id.
    server.state().datasets.insert("other".into());
    let (outcomes, _) = items::deliver(&*sink, &[items::golden(1, "other", None)]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Never { reason } if reason.contains("another dataset")),
        "{outcomes:?}"
    );
    server.state().plan = Plan::only(Fault::Says(409), 2);
    let (outcomes, rounds) = items::deliver(&*sink, &batch[..1]).await;
    assert!(matches!(outcomes[0], Outcome::Delivered { .. }) && rounds == 3, "{outcomes:?} {rounds}");
    is_clean(&server);
}

/// An item of an evaluation with an id as ours have it: it begins with the time of the call.
fn dated(number: u128) -> Item {
    let mut evaluation = items::evaluation(number, "review");
    let at = evaluation["occurred_at"].as_str().unwrap().parse().unwrap();
    let id = aftercheck::domain::id::derived_at(at, "evaluation", &[&number.to_string()]);
    evaluation["evaluation_id"] = json!(id);
    items::scored(evaluation)
}

#[tokio::test]
async fn what_was_delivered_is_deleted_with_and_without_its_receipt() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "queue = 'q1'").await;
    let batch = [dated(1), dated(2), dated(3), items::label(9, "fail"), items::golden(5, "set", None)];
    let (outcomes, _) = items::deliver(&*sink, &batch).await;
    let mut retractions = items::retractions(&batch, &outcomes);
    assert!(retractions.iter().all(|one| one.receipt.as_ref().unwrap().len() <= 2000));
    retractions[1].receipt = None;
    // The third stays.
    retractions.remove(2);
    server.state().plan = Plan::mixed(4);
    let mut tries = 0;
    let unknown = loop {
        tries += 1;
        if let Ok(unknown) = sink.retract(&retractions).await {
            break unknown;
        }
        assert!(tries < 20);
    };
    assert!(unknown.is_empty());
    assert_eq!(server.state().scores.len(), 5);
    assert_eq!(server.values(&items::trace(3)).len(), 5);
    assert_eq!(server.state().items.len(), 0);
    // Without its receipt nobody knows the item of the queue: it shows the trace, and nothing of ours.
    assert_eq!(queued(&server), [items::span(2), items::span(3)]);
    retractions.remove(1);
    assert!(sink.retract(&retractions).await.unwrap().is_empty(), "again");
    retractions[0].receipt = None;
    assert_eq!(
        sink.retract(&retractions[..1]).await.unwrap(),
        [retractions[0].delivery_id],
        "it is not there"
    );
    assert_eq!(server.state().scores.len(), 5);
    is_clean(&server);
}

#[tokio::test]
async fn a_golden_row_that_arrived_and_was_not_marked_is_deleted() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "").await;
    let batch = [items::golden(5, "set", None), items::golden(6, "set", None)];
    let (outcomes, _) = items::deliver(&*sink, &batch).await;
    let mut retraction = items::retractions(&batch, &outcomes).remove(0);
    retraction.receipt = None;
    assert!(sink.retract(std::slice::from_ref(&retraction)).await.unwrap().is_empty());
    assert_eq!(server.state().items.len(), 1, "the other stays");
    let unknown = sink.retract(std::slice::from_ref(&retraction)).await.unwrap();
    assert_eq!(unknown, [retraction.delivery_id], "one that never arrived is asked for again");
    is_clean(&server);
}
