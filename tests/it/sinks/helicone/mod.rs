//! Helicone by contract: whole numbers in one call, words as properties, and what it would lose is not sent.

mod server;

use std::{sync::Arc, time::Duration};

use aftercheck::sinks::{Content, Item, Outcome, Sink, SinkError};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::server::{KEY, Server};
use super::{
    faults::{Fault, Plan},
    items,
};

fn sink_at(url: &str, key: &str, more: &str) -> Arc<dyn Sink> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, key).unwrap();
    items::sink(&format!(
        "kind = 'helicone'\nurl = '{url}'\ntimeout_ms = 300\nkey_file = '{}'\n{more}",
        file.display()
    ))
}

/// A server that has logged the requests of so many calls, and a sink that writes to it.
async fn served(calls: u128, more: &str) -> (Server, Arc<dyn Sink>) {
    let server = Server::default();
    server.held().logged = (0..calls).map(|number| (id(number), Timestamp::now())).collect();
    let sink = sink_at(&server.serve().await, KEY, more);
    (server, sink)
}

/// Helicone's id of the request of a number: the trace's.
fn id(number: u128) -> Uuid {
    Uuid::try_parse(&items::trace(number)).unwrap()
}

/// The evaluation of a number, of a call that was made this long ago.
fn aged(number: u128, verdict: &str, age: SignedDuration) -> Item {
    let mut evaluation = items::evaluation(number, verdict);
    evaluation["occurred_at"] = json!(Timestamp::now() - age);
    items::scored(evaluation)
}

fn scored(number: u128, verdict: &str) -> Item {
    aged(number, verdict, SignedDuration::ZERO)
}

fn label(number: u128, said: &str) -> Item {
    let mut item = items::label(number, said);
    let Content::Label(said) = &mut item.content else { panic!() };
    said.label.occurred_at = Timestamp::now();
    item
}

/// What Helicone should have of the evaluation of a number.
fn expected(number: u128) -> Map<String, Value> {
    let share = (100.0 / (number as f64 + 3.0)).round() as i64;
    let scores = json!({"faithfulness": share, "judge": 13, "rule.grounding.citations-hcone-bool": 1,
        "rule.format.json-hcone-bool": 0});
    scores.as_object().unwrap().clone()
}

fn is_delivered(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Delivered { .. }))
}

#[tokio::test]
async fn each_value_is_there_as_a_whole_number_whatever_fails_and_however_often_it_is_sent() {
    let (server, sink) = served(9, "").await;
    let batch: Vec<Item> = (0..9).map(|number| scored(number, items::verdict(number))).collect();
    server.held().plan = Plan::mixed(15);
    server.held().stumbles = 4;
    for _ in 0..2 {
        let (outcomes, _) = items::deliver(&*sink, &batch).await;
        assert!(is_delivered(&outcomes), "{outcomes:?}");
        server.later();
    }
    let held = server.held();
    assert_eq!((held.plan.left(), held.stumbles), (0, 0), "all the faults came");
    assert!(held.wrong.is_empty(), "{:?}", held.wrong);
    for number in 0..9 {
        assert_eq!(held.scores[&id(number)], expected(number), "{number}");
        let properties = &held.properties[&id(number)];
        assert_eq!(properties["aftercheck_verdict"], items::verdict(number));
        assert!(properties["aftercheck_why"].as_str().unwrap().contains("It costs 5."), "{properties:?}");
    }
    let calls = held.requests.iter().filter(|request| request.ends_with(&format!("{}/score", id(8))));
    assert!(calls.count() >= 2, "one call for all scores of a request, twice");
}

#[tokio::test]
async fn one_call_has_all_scores_of_a_request_and_a_label_does_not_push_them_out() {
    let (server, sink) = served(2, "").await;
    let mut second = items::evaluation(7, "pass");
    second["trace_id"] = json!(items::trace(1));
    second["occurred_at"] = json!(Timestamp::now());
    second["rules"] = json!([{"rule": "late.one", "outcome": "pass", "detail": ""}]);
    let batch = [scored(1, "review"), items::scored(second)];
    let (outcomes, _) = items::deliver(&*sink, &batch).await;
    assert!(is_delivered(&outcomes));
    items::deliver(&*sink, &[label(1, "fail")]).await;
    server.later();
    let held = server.held();
    let posts: Vec<&String> = held.requests.iter().filter(|request| request.starts_with("POST")).collect();
    assert_eq!(posts.len(), 1, "{posts:?}");
    let mut all = expected(1);
    all.insert("faithfulness".into(), json!(10));
    all.insert("rule.late.one-hcone-bool".into(), json!(1));
    assert_eq!(held.scores[&id(1)], all, "what came last, and what only the first one has");
    assert_eq!(held.properties[&id(1)]["aftercheck_review"], "fail");
}

#[tokio::test]
async fn what_helicone_would_lose_is_not_sent() {
    let (server, sink) = served(2, "").await;
    let old = aged(0, "pass", SignedDuration::from_hours(31 * 24));
    let mut foreign = items::evaluation(1, "pass");
    foreign["occurred_at"] = json!(Timestamp::now());
    foreign["trace_id"] = json!("trace-1");
    let batch = [old, items::scored(foreign), scored(1, "pass"), items::golden(1, "set", None)];
    let (outcomes, _) = items::deliver(&*sink, &batch).await;
    for (outcome, said) in outcomes.iter().zip(["30 days", "trace_id is no UUID"]) {
        assert!(
            matches!(outcome, Outcome::Unsent { reason: Some(reason) } if reason.contains(said)),
            "{outcome:?}"
        );
    }
    assert!(is_delivered(&outcomes[2..3]), "{outcomes:?}");
    assert_eq!(outcomes[3], Outcome::NO_PLACE, "a golden row has no place there");
    let requests = server.held().requests.clone();
    assert!(requests.iter().all(|request| request.contains(&id(1).to_string())), "{requests:?}");
    let (server, sink) = served(0, "request = 'request_id'\nproperties = false").await;
    let mut named = items::evaluation(1, "pass");
    named["occurred_at"] = json!(Timestamp::now());
    named["request_id"] = json!(Uuid::from_u128(77));
    server.held().logged.insert(Uuid::from_u128(77), Timestamp::now());
    items::deliver(&*sink, &[items::scored(named)]).await;
    server.later();
    assert_eq!(server.held().scores[&Uuid::from_u128(77)], expected(1));
    assert!(server.held().properties.is_empty());
}

#[tokio::test]
async fn errors_say_what_they_mean_and_no_key() {
    let (server, sink) = served(1, "").await;
    let batch = [scored(0, "fail")];
    server.held().stumbles = 1;
    let outcome = sink.deliver(&batch).await.unwrap().remove(0);
    let Outcome::Unclear { reason } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "an error in the answer: Could not reach the queue");
    server.held().plan = Plan::only(Fault::Says(429), 1);
    let after = Some(Duration::from_secs(7));
    assert!(matches!(sink.deliver(&batch).await, Err(SinkError::Again { after: said, .. }) if said == after));
    let url = server.serve().await;
    let denied = async |url: &str, key: &str| match sink_at(url, key, "").deliver(&batch).await {
        Err(SinkError::Denied(said)) => said,
        other => panic!("{other:?}"),
    };
    let said = denied(&url, "sk-helicone-other").await;
    assert!(said.contains("401") && !said.contains("sk-helicone"), "{said}");
    assert!(denied(&format!("{url}/elsewhere"), KEY).await.contains("check url"));
}

#[tokio::test]
async fn a_check_asks_for_the_key_and_changes_nothing() {
    let (server, sink) = served(1, "").await;
    assert_eq!(sink.check().await.unwrap(), "Helicone knows the key");
    let url = server.serve().await;
    let wrong = sink_at(&url, "sk-helicone-other", "");
    assert!(matches!(wrong.check().await, Err(SinkError::Denied(said)) if said.contains("check it")));
    server.later();
    assert!(server.held().scores.is_empty() && server.held().properties.is_empty());
    let refused = items::try_sink("kind = 'helicone'\nurl = 'https://api.helicone.ai'").err().unwrap();
    assert!(refused.contains("key_file"), "{refused}");
}

#[tokio::test]
async fn taking_back_overwrites_our_words() {
    let (server, sink) = served(2, "").await;
    let batch = [scored(1, "review"), label(1, "fail")];
    let (outcomes, _) = items::deliver(&*sink, &batch).await;
    let mut retractions = items::retractions(&batch, &outcomes);
    server.held().plan = Plan::only(Fault::Says(503), 1);
    assert!(sink.retract(&retractions).await.is_err());
    for _ in 0..2 {
        assert!(sink.retract(&retractions).await.unwrap().is_empty());
    }
    let properties = server.held().properties[&id(1)].clone();
    assert_eq!(properties.len(), 3);
    assert!(properties.values().all(|value| value == "erased"), "{properties:?}");
    retractions[0].receipt = None;
    assert_eq!(sink.retract(&retractions).await.unwrap(), [retractions[0].delivery_id]);
    let row = [items::golden(1, "set", None)];
    let (outcomes, _) = items::deliver(&*sink, &row).await;
    assert!(
        sink.retract(&items::retractions(&row, &outcomes)).await.unwrap().is_empty(),
        "it never was there"
    );
}

#[tokio::test]
async fn the_fake_loses_what_helicone_loses() {
    let (server, _) = served(2, "").await;
    let url = server.serve().await;
    server.held().logged.insert(id(1), Timestamp::now() - SignedDuration::from_hours(31 * 24));
    let post = async |number: u128, scores: Value| {
        let request = reqwest::Client::new().post(format!("{url}/v1/request/{}/score", id(number)));
        let answer = request.bearer_auth(KEY).json(&json!({"scores": scores})).send().await.unwrap();
        answer.status().as_u16()
    };
    // Nothing is seen of any of it in the answers.
    assert_eq!(post(0, json!({"early": 1})).await, 201);
    assert_eq!(post(0, json!({"faithfulness": 0.92, "whole": 92, "refused": false})).await, 201);
    assert_eq!(post(1, json!({"whole": 1})).await, 201);
    assert_eq!(post(5, json!({"whole": 1})).await, 201);
    assert!(server.held().scores.is_empty(), "before ten minutes are over");
    server.later();
    let scores = server.held().scores.clone();
    assert_eq!(scores.len(), 1, "too old, and unknown");
    assert_eq!(
        json!(scores[&id(0)]),
        json!({"whole": 92, "refused-hcone-bool": 0}),
        "the last message, less the fraction"
    );
    assert_eq!(post(0, json!({"early": 1})).await, 201);
    server.later();
    assert_eq!(server.held().scores[&id(0)].len(), 3, "merged by name");
    assert_eq!(post(0, json!({"word": "pass"})).await, 500);
}
