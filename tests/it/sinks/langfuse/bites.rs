//! The fake does what Langfuse does: a sink that fell for one of its traps would be seen.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Client;
use serde_json::{Value, json};

use super::{PUBLIC, SECRET, Server, Version};

/// Sends what a careless sink would.
async fn sent(url: &str, path: &str, body: &Value) -> (u16, Value) {
    let key = STANDARD.encode(format!("{PUBLIC}:{SECRET}"));
    let request = Client::new().post(format!("{url}/api/public/{path}")).json(body);
    let answer = request.header("authorization", format!("Basic {key}")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn score(more: Value) -> Value {
    let mut score = json!({"id": "s1", "traceId": "t1", "name": "rule.a", "value": 1, "dataType": "BOOLEAN"});
    score.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    score
}

fn event(timestamp: &str, body: &Value) -> Value {
    json!({"batch": [{"id": "e1", "type": "score-create", "timestamp": timestamp, "body": body}]})
}

#[tokio::test]
async fn a_score_of_another_day_is_a_second_score() {
    let server = Server::of(Version::V416);
    let url = server.serve().await;
    for (at, scores) in
        [("2026-11-02T10:00:00Z", 1), ("2026-11-02T23:00:00Z", 1), ("2026-11-03T00:00:00Z", 2)]
    {
        let (status, answer) = sent(&url, "ingestion", &event(at, &score(json!({})))).await;
        assert_eq!((status, answer["errors"].as_array().unwrap().len()), (207, 0), "{answer}");
        assert_eq!(server.state().scores.len(), scores, "{at}");
    }
    // On 4.16.0 the time of the request counts, whatever the score says.
    server.state().now = "2026-11-04T00:00:00Z".parse().unwrap();
    sent(&url, "scores", &score(json!({"timestamp": "2026-11-02T10:00:00Z"}))).await;
    assert_eq!(server.state().scores.len(), 3);
    assert!(std::panic::catch_unwind(|| server.values("t1")).is_err(), "and the check sees it");
}

#[tokio::test]
async fn types_are_refused_or_become_others() {
    let server = Server::of(Version::V416);
    let url = server.serve().await;
    for bad in [
        json!({"value": true}),
        json!({"value": 0.5}),
        json!({"value": "yes"}),
        json!({"name": ""}),
        json!({"sessionId": "x"}),
    ] {
        let (_, answer) = sent(&url, "ingestion", &event("2026-11-02T10:00:00Z", &score(bad.clone()))).await;
        assert_eq!(answer["errors"][0]["status"], 400, "{bad}");
        assert_eq!(sent(&url, "scores", &score(bad.clone())).await.0, 400, "{bad}");
    }
    sent(&url, "scores", &score(json!({"dataType": null, "environment": "Not One"}))).await;
    {
        let state = server.state();
        let kept = state.scores.values().next().unwrap();
        assert_eq!((&kept["dataType"], &kept["environment"]), (&json!("NUMERIC"), &json!("default")));
    }
    assert_eq!(server.values("t1")["rule.a"], json!(1), "which is not true");
}

#[tokio::test]
async fn scores_are_dropped_without_a_word() {
    let server = Server::of(Version::V416);
    let url = server.serve().await;
    let (_, answer) =
        sent(&url, "ingestion", &event("2026-11-02T10:00:00Z", &score(json!({"id": null})))).await;
    assert_eq!(answer["successes"][0]["status"], 201);
    assert_eq!(sent(&url, "scores", &score(json!({"configId": "none"}))).await.0, 200);
    assert_eq!(server.state().scores.len(), 0);
    assert_eq!(server.state().dropped.len(), 2);
}

#[tokio::test]
async fn a_repeat_on_the_queue_is_a_second_item() {
    let server = Server::of(Version::V416);
    let url = server.serve().await;
    let item = json!({"objectId": "t1", "objectType": "TRACE"});
    for count in 1..=2 {
        assert_eq!(sent(&url, "annotation-queues/q1/items", &item).await.0, 200);
        assert_eq!(server.state().queue.len(), count);
    }
    let strict = json!({"objectId": "t1", "objectType": "TRACE", "note": "x"});
    assert_eq!(sent(&url, "annotation-queues/q1/items", &strict).await.0, 400);
}

#[tokio::test]
async fn an_array_is_refused_by_one_and_one_score_by_the_other_and_a_207_has_no_index() {
    let (old, new) = (Server::of(Version::V416), Server::of(Version::Newer));
    let (old_url, new_url) = (old.serve().await, new.serve().await);
    assert_eq!(sent(&old_url, "scores", &json!([score(json!({}))])).await.0, 400);
    assert_eq!(sent(&new_url, "scores", &score(json!({}))).await.0, 400);
    let array = json!([score(json!({"value": true})), score(json!({}))]);
    let (status, answer) = sent(&new_url, "scores", &array).await;
    assert_eq!(status, 207);
    assert_eq!(answer, json!({"accepted": 1, "rejected": 1, "errors": [{"message": "value and dataType"}]}));
    assert_eq!(new.state().scores.len(), 1);
}

#[tokio::test]
async fn what_the_document_does_not_have_is_seen() {
    let server = Server::of(Version::V416);
    if super::server::DOCUMENT.is_none() {
        return;
    }
    let url = server.serve().await;
    sent(&url, "annotation-queues/q1/items", &json!({"objectId": "t1", "objectType": "CALL"})).await;
    sent(&url, "scores", &json!({"name": "n", "value": true, "traceId": "t"})).await;
    sent(&url, "scores/batch", &json!({})).await;
    assert_eq!(server.state().wrong.len(), 3, "{:?}", server.state().wrong);
}
