//! What Langfuse drops without a word, what it says of errors, and what a check finds.

use std::time::Duration;

use aftercheck::sinks::SinkError;
use serde_json::{Value, json};

use super::{
    super::{
        faults::{Fault, Plan},
        items,
    },
    SECRET, Server, Version, is_clean, sink, sink_at,
};

fn config(id: &str, name: &str, data_type: &str, more: Value) -> Value {
    let mut config = json!({"id": id, "name": name, "dataType": data_type, "isArchived": false});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn words(words: &[&str]) -> Value {
    json!({"categories": words.iter().map(|word| json!({"label": word, "value": 0})).collect::<Vec<_>>()})
}

const WANTED: &str = "score_configs = { faithfulness = 'c1', verdict = 'c2', judge = 'c3', \
                      'rule.format.json' = 'c4', 'rule.grounding.citations' = 'c5' }";

#[tokio::test]
async fn a_score_that_its_config_does_not_allow_arrives_without_it() {
    let server = Server::of(Version::V416);
    // More than a page of others.
    let others = (0..150).map(|number| config(&format!("o{number}"), "other", "TEXT", json!({})));
    server.state().configs = others
        .chain([
            config("c1", "faithfulness", "NUMERIC", json!({"minValue": 0.3, "maxValue": 1})),
            config("c2", "verdict", "CATEGORICAL", words(&["pass", "fail"])),
            config("c3", "judge", "NUMERIC", json!({"isArchived": true})),
            config("c4", "format", "BOOLEAN", json!({})),
            config("c5", "rule.grounding.citations", "BOOLEAN", json!({})),
        ])
        .collect();
    let sink = sink(&server, WANTED).await;
    let batch = items::batch(4);
    items::deliver(&*sink, &batch).await;
    for number in 0..4 {
        assert_eq!(server.values(&items::trace(number)), items::expected(number, items::verdict(number)));
    }
    is_clean(&server);
    let with = |name: &str| {
        let state = server.state();
        let named =
            state.scores.values().filter(|score| score["name"] == name && score["configId"].is_string());
        named.count()
    };
    let found =
        ["faithfulness", "verdict", "judge", "rule.format.json", "rule.grounding.citations"].map(with);
    assert_eq!(found, [1, 2, 0, 0, 4], "1/3 is in the range, pass and fail are categories");
    let said = sink.check().await.unwrap_err().to_string();
    for part in [
        "faithfulness: the config has to allow values from 0 to 1",
        "lacks the category review",
        "archived",
        "another name",
    ] {
        assert!(said.contains(part), "{said}");
    }
    server.state().configs.truncate(150);
    let said = super::sink(&server, WANTED).await.check().await.unwrap_err().to_string();
    assert!(said.contains("score_configs.judge: the project has no score config of this id"), "{said}");
}

#[tokio::test]
async fn a_check_says_what_is_there_and_what_to_fix() {
    let server = Server::of(Version::V416);
    server.state().configs =
        vec![config("c1", "faithfulness", "NUMERIC", json!({"minValue": 0, "maxValue": 1}))];
    let url = server.serve().await;
    let more = "queue = 'q1'\nscore_configs = { faithfulness = 'c1' }";
    let found = sink_at(&url, SECRET, more).check().await.unwrap();
    assert_eq!(found, "project \"shop\", 1 score configs, annotation queue \"to look at\"");
    let denied = async |secret: &str, more: &str| match sink_at(&url, secret, more).check().await {
        Err(SinkError::Denied(said)) => said,
        other => panic!("{other:?}"),
    };
    let said = denied("sk-lf-other", "").await;
    assert!(said.contains("401") && said.contains("check it") && !said.contains("sk-lf-other"), "{said}");
    let said = denied(SECRET, "queue = 'q2'").await;
    assert!(said.starts_with("queue: "), "{said}");
    let elsewhere = sink_at(&format!("{url}/elsewhere"), SECRET, "");
    let Err(SinkError::Denied(said)) = elsewhere.check().await else { panic!() };
    assert!(said.contains("check url"), "{said}");
    let nobody = sink_at("http://127.0.0.1:9", SECRET, "");
    assert!(matches!(nobody.check().await, Err(SinkError::Again { .. })));
    is_clean_but_for_elsewhere(&server);
}

fn is_clean_but_for_elsewhere(server: &Server) {
    let state = server.state();
    assert!(state.wrong.iter().all(|wrong| wrong.contains("/elsewhere")), "{:?}", state.wrong);
    assert!(state.requests.iter().all(|request| request.starts_with("GET ")), "a check changes nothing");
}

#[tokio::test]
async fn an_interface_that_is_not_there_keeps_scores_waiting_and_says_what_to_set() {
    let server = Server::of(Version::Newer);
    server.state().ingests = false;
    let ingestion = sink(&server, "").await;
    let Err(SinkError::Denied(said)) = ingestion.deliver(&items::batch(2)).await else { panic!() };
    assert!(said.contains("set api"), "{said}");
    items::deliver(&*sink(&server, "api = 'scores'").await, &items::batch(2)).await;
    assert_eq!(server.values(&items::trace(1)), items::expected(1, "fail"));
}

#[tokio::test]
async fn errors_wait_as_long_as_langfuse_says_and_tell_no_secret_and_no_text() {
    for api in ["ingestion", "scores"] {
        let server = Server::of(Version::Newer);
        let url = server.serve().await;
        let sink = sink_at(&url, SECRET, &format!("api = '{api}'\nqueue = 'q1'"));
        server.state().plan = Plan::only(Fault::Says(429), 1);
        let Err(SinkError::Again { after, .. }) = sink.deliver(&items::batch(4)).await else { panic!() };
        assert_eq!(after, Some(Duration::from_secs(7)), "{api}");
        // The fake repeats the key that it was sent.
        let wrong = sink_at(&url, "sk-lf-other", &format!("api = '{api}'"));
        let Err(SinkError::Denied(said)) = wrong.deliver(&items::batch(1)).await else { panic!() };
        assert!(!said.contains("sk-lf") && !said.contains("Basic") && said.contains("401"), "{said}");
        server.state().plan = Plan::only(Fault::Says(503), 1);
        assert!(matches!(sink.deliver(&items::batch(1)).await, Err(SinkError::Again { .. })), "{api}");
    }
}

#[tokio::test]
async fn a_long_comment_is_cut_and_the_rest_arrives() {
    let server = Server::of(Version::V416);
    let sink = sink(&server, "").await;
    let mut evaluation = items::evaluation(1, "fail");
    evaluation["judge"]["reason"] = json!("ä".repeat(100_000));
    items::deliver(&*sink, &[items::scored(evaluation)]).await;
    assert_eq!(server.values(&items::trace(1)), items::expected(1, "fail"));
    let state = server.state();
    let judge = state.scores.values().find(|score| score["name"] == "judge").unwrap();
    let comment = judge["comment"].as_str().unwrap();
    assert!(comment.len() <= 4000 && comment.ends_with('…'), "{}", comment.len());
}

#[test]
fn what_cannot_be_used_is_refused_with_its_key() {
    let wrong = |more: &str| {
        items::try_sink(&format!("kind = 'langfuse'\nurl = 'https://h.example'\n{more}")).err().unwrap()
    };
    assert!(wrong("public_key = 'pk-lf-1'").contains("secret_key_file"));
    assert!(wrong("public_key = 'pk-lf-1'\nsecret_key_env = 'AFTERCHECK_TEST_NOT_SET'").contains("not set"));
    assert!(wrong("secret_key_env = 'A'").contains("public_key"));
    assert!(wrong("public_key = 'pk-lf-1'\nsecret_key = 'x'").contains("secret_key"));
}
