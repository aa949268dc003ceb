//! LangSmith, by contract.

mod fake;

use std::collections::BTreeMap;

use aftercheck::sinks::{Outcome, SinkError};
use serde_json::{Value, json};
use uuid::Uuid;

use self::fake::{DATASET, Fake, Inner, KEY, ORGANISATION, PROJECT, QUEUE, WORKSPACE};
use super::{
    faults::{Fault, Plan},
    items::{
        batch, deliver, evaluation, expected, golden, label, retractions, scored, sink, span, try_sink,
        verdict,
    },
};

/// Configuration of a sink with a key, in a file that is gone when the folder is.
fn config(url: &str, key: &str, more: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, key).unwrap();
    let config = format!(
        "kind = 'langsmith'\nurl = {url:?}\nproject = 'support'\nkey_file = {file:?}\ntimeout_ms = 300\nqueue = '{QUEUE}'\n{more}"
    );
    (folder, config)
}

/// A fake, and a sink that writes to it.
async fn pair() -> (Fake, std::sync::Arc<dyn aftercheck::sinks::Sink>) {
    let fake = Fake::default();
    let (_folder, config) = config(&fake.serve().await, KEY, "");
    (fake, sink(&config))
}

/// The run of a number.
fn run(number: u128) -> Uuid {
    Uuid::from_u128(u128::from_str_radix(&span(number), 16).unwrap())
}

/// What stands on a run: values by key.
fn on_run(inner: &Inner, run: Uuid) -> BTreeMap<String, Value> {
    let of_run = inner.feedback.values().filter(|one| one["run_id"] == run.to_string());
    let value =
        |one: &Value| if one["value"].is_null() { one["score"].clone() } else { one["value"].clone() };
    let rows: Vec<(String, Value)> =
        of_run.map(|one| (one["key"].as_str().unwrap().to_owned(), value(one))).collect();
    let by_key: BTreeMap<String, Value> = rows.iter().cloned().collect();
    assert_eq!(by_key.len(), rows.len(), "each score once");
    by_key
}

/// The expected scores, with as many decimals as LangSmith takes.
fn rounded(number: u128) -> BTreeMap<String, Value> {
    let mut scores = expected(number, verdict(number));
    let faithfulness = scores["faithfulness"].as_f64().unwrap();
    scores.insert("faithfulness".into(), json!((faithfulness * 1e4).round() / 1e4));
    scores
}

/// Each run has each score once, and each review is on the queue once.
fn is_exact(inner: &Inner, count: u128) {
    for number in 0..count {
        assert_eq!(on_run(inner, run(number)), rounded(number));
    }
    let reviews: Vec<Uuid> = (0..count).filter(|number| verdict(*number) == "review").map(run).collect();
    let mut queued: Vec<Uuid> = inner.items.iter().map(|(_, run)| *run).collect();
    queued.sort();
    assert_eq!(queued, reviews, "each review once");
    assert_eq!(inner.extended, 0, "no trace is kept longer for a score");
}

#[tokio::test]
async fn every_score_arrives_once_however_often_it_is_sent() {
    let (fake, sink) = pair().await;
    let items = batch(20);
    let (outcomes, _) = deliver(sink.as_ref(), &items).await;
    assert!(
        outcomes.iter().all(|one| matches!(one, Outcome::Delivered { receipt: Some(_) })),
        "{outcomes:?}"
    );
    is_exact(&fake.inner(), 20);
    let (again, _) = deliver(sink.as_ref(), &items).await;
    assert!(again.iter().all(|one| matches!(one, Outcome::Delivered { receipt: Some(_) })), "{again:?}");
    is_exact(&fake.inner(), 20);
    assert_eq!(fake.inner().lookups, 1, "the project's id is kept");
}

#[tokio::test]
async fn failures_and_silence_after_the_work_double_nothing() {
    let (fake, sink) = pair().await;
    fake.inner().plan = Plan::mixed(40);
    let items = batch(20);
    let (outcomes, rounds) = deliver(sink.as_ref(), &items).await;
    assert!(outcomes.iter().all(|one| matches!(one, Outcome::Delivered { .. })), "{outcomes:?}");
    is_exact(&fake.inner(), 20);
    assert_eq!(fake.inner().plan.left(), 0, "all faults came");
    assert!(rounds > 1);
}

#[tokio::test]
async fn a_run_is_waited_for_and_not_for_ever() {
    let (fake, sink) = pair().await;
    fake.inner().runs = Some([run(0)].into());
    let mut old = evaluation(2, "fail");
    old["evaluated_at"] = json!("2026-11-02T10:00:00Z");
    let items = [scored(evaluation(0, "pass")), scored(evaluation(1, "review")), scored(old)];
    let outcomes = sink.deliver(&items).await.unwrap();
    assert!(matches!(outcomes[0], Outcome::Delivered { .. }), "its neighbours are none of its business");
    assert!(matches!(&outcomes[1], Outcome::Again { .. }), "{outcomes:?}");
    assert!(
        matches!(&outcomes[2], Outcome::Never { reason } if reason.contains("trace_wait_secs")),
        "{outcomes:?}"
    );
    fake.inner().runs = None;
    assert!(matches!(sink.deliver(&items[1..2]).await.unwrap()[0], Outcome::Delivered { .. }));
    assert_eq!(on_run(&fake.inner(), run(1)).len(), 5);
    assert_eq!(fake.inner().items.len(), 1);
}

#[tokio::test]
async fn a_call_without_a_run_says_what_to_send() {
    let (fake, sink) = pair().await;
    let mut whole = evaluation(0, "pass");
    whole["span_id"] = Value::Null;
    let mut root = whole.clone();
    root["trace_id"] = json!("4bf92f35-77b3-4da6-a3ce-929d00000000");
    let outcomes = sink.deliver(&[scored(whole), scored(root)]).await.unwrap();
    assert!(
        matches!(&outcomes[0], Outcome::Unsent { reason: Some(reason) } if reason.contains("root run")),
        "{outcomes:?}"
    );
    assert!(matches!(outcomes[1], Outcome::Delivered { .. }));
    let inner = fake.inner();
    let run = "4bf92f35-77b3-4da6-a3ce-929d00000000";
    assert!(inner.feedback.values().all(|one| one["run_id"] == run && one["trace_id"] == run));
}

#[tokio::test]
async fn what_a_person_says_later_replaces_what_was_said() {
    let (fake, sink) = pair().await;
    deliver(sink.as_ref(), &[label(0, "fail")]).await;
    assert_eq!(on_run(&fake.inner(), run(0))["review"], "fail");
    deliver(sink.as_ref(), &[label(0, "pass")]).await;
    assert_eq!(on_run(&fake.inner(), run(0))["review"], "pass");
    assert_eq!(fake.inner().feedback.len(), 1);
}

#[tokio::test]
async fn a_golden_row_is_an_example_once_also_where_its_run_is_gone() {
    let (fake, sink) = pair().await;
    fake.inner().plan = Plan::only(Fault::DoesAndIsSilent, 1);
    fake.inner().runs = Some([run(0)].into());
    let items = [golden(0, "gold", Some("Zero.")), golden(1, "gold", None)];
    deliver(sink.as_ref(), &items).await;
    deliver(sink.as_ref(), &[golden(0, "gold", Some("0"))]).await;
    {
        let inner = fake.inner();
        let [first, second] = &inner.examples.values().collect::<Vec<_>>()[..] else {
            panic!("{:?}", inner.examples)
        };
        assert_eq!(first["outputs"], json!({"answer": "0"}), "promoted again, it is changed");
        assert_eq!(
            (&first["inputs"]["question"], &first["source_run_id"]),
            (&json!("What is 0?"), &json!(run(0)))
        );
        assert_eq!(first["dataset_id"], DATASET.to_string());
        assert_eq!((&second["outputs"], &second["source_run_id"]), (&json!({}), &Value::Null));
        assert_eq!(second["metadata"]["reviewers"], json!(["jo", "al"]));
        assert_eq!(second["metadata"]["policy"], "Say the number.");
    }
    let outcomes = sink.deliver(&[golden(2, "none", None)]).await.unwrap();
    assert!(matches!(&outcomes[0], Outcome::Again { reason, .. } if reason.contains("none")), "{outcomes:?}");
}

#[tokio::test]
async fn what_was_delivered_is_deleted_again_and_nothing_else() {
    let (fake, sink) = pair().await;
    let mut many = evaluation(5, "review");
    let rule = |number| json!({"rule": format!("pack.a_rule_with_a_long_name_{number}"), "outcome": "pass"});
    many["rules"] = (0..120).map(rule).collect();
    let items = [
        scored(evaluation(3, "review")),
        label(3, "fail"),
        scored(evaluation(4, "pass")),
        golden(3, "gold", None),
        scored(many),
    ];
    let (outcomes, _) = deliver(sink.as_ref(), &items).await;
    let mut retractions = retractions(&items, &outcomes);
    assert!(retractions.iter().all(|one| one.receipt.as_ref().unwrap().len() <= 2000));
    let stays = retractions.remove(2);
    assert!(sink.retract(&retractions).await.unwrap().is_empty());
    assert!(sink.retract(&retractions).await.unwrap().is_empty(), "a repeat changes nothing");
    {
        let inner = fake.inner();
        assert_eq!(inner.feedback.len(), 5, "one stays");
        assert_eq!(on_run(&inner, run(4)).len(), 5);
        assert!(inner.items.is_empty() && inner.examples.is_empty());
    }
    // Nobody knows whether this one arrived: what can be named is deleted, and it is said that it is not known.
    let unknown = aftercheck::domain::Retraction { receipt: None, ..stays };
    assert_eq!(sink.retract(std::slice::from_ref(&unknown)).await.unwrap(), [unknown.delivery_id]);
    assert_eq!(on_run(&fake.inner(), run(4)).len(), 2, "the rules");
}

#[tokio::test]
async fn a_golden_row_that_arrived_and_was_not_marked_is_deleted() {
    let (fake, sink) = pair().await;
    let items = [golden(3, "gold", None), golden(4, "gold", None)];
    let (outcomes, _) = deliver(sink.as_ref(), &items).await;
    let mut retraction = retractions(&items, &outcomes).remove(0);
    retraction.receipt = None;
    assert!(sink.retract(std::slice::from_ref(&retraction)).await.unwrap().is_empty());
    assert_eq!(fake.inner().examples.len(), 1, "the other stays");
    let unknown = sink.retract(std::slice::from_ref(&retraction)).await.unwrap();
    assert!(unknown.is_empty(), "LangSmith says that of one that is not there, too");
}

#[tokio::test]
async fn a_sink_that_is_down_or_shut_says_so_as_a_whole() {
    let (fake, sink) = pair().await;
    fake.inner().plan = Plan::only(Fault::Says(503), 8);
    assert!(matches!(sink.deliver(&batch(8)).await, Err(SinkError::Again { .. })));
    assert!(fake.inner().writes <= 8, "each item asks once");
    fake.inner().plan = Plan::only(Fault::Says(422), 5);
    let outcomes = sink.deliver(&[scored(evaluation(0, "pass"))]).await.unwrap();
    assert!(matches!(&outcomes[0], Outcome::Never { reason } if reason.contains("422")), "{outcomes:?}");
    let (_folder, config) = config(&fake.serve().await, "wrong", "");
    let wrong = super::items::sink(&config);
    assert!(matches!(wrong.deliver(&batch(2)).await, Err(SinkError::Denied(_))));
}

#[tokio::test]
async fn check_says_what_to_fix() {
    let fake = Fake::default();
    let url = fake.serve().await;
    let check = async |key: &str, more: &str, url: &str| {
        let (_folder, config) = config(url, key, "");
        let mut table: toml::Table = toml::from_str(&config).unwrap();
        table.extend(toml::from_str::<toml::Table>(more).unwrap());
        sink(&table.to_string()).check().await
    };
    let good = check(KEY, "", &url).await.unwrap();
    assert!(good.contains(&PROJECT.to_string()) && good.contains("queue"), "{good}");
    assert!(check(KEY, &format!("project = '{PROJECT}'"), &url).await.is_ok());
    let workspace = format!("workspace = '{WORKSPACE}'");
    assert!(check(ORGANISATION, &workspace, &url).await.is_ok());
    let nil = Uuid::nil();
    for (key, more, url, says) in [
        ("wrong", "", url.clone(), "key"),
        (ORGANISATION, "", url.clone(), "workspace"),
        (KEY, "project = 'suppor'", url.clone(), "suppor"),
        (KEY, &format!("project = '{nil}'"), url.clone(), "project"),
        (KEY, &format!("queue = '{nil}'"), url.clone(), "annotation queue"),
        (KEY, "", format!("{url}/api/v1"), "url"),
    ] {
        match check(key, more, &url).await {
            Err(SinkError::Denied(said)) => assert!(said.contains(says) && !said.contains(key), "{said}"),
            other => panic!("{more}: {other:?}"),
        }
    }
    fake.inner().second_version_only = true;
    assert!(check(KEY, "", &url).await.is_ok(), "also once the first version of the path is gone");
}

#[tokio::test]
async fn the_configuration_is_checked() {
    let wrong = |more: &str| {
        let (_folder, config) = config("https://api.smith.langchain.com", KEY, more);
        try_sink(&config).err().unwrap()
    };
    assert!(wrong("projekt = 'a'").contains("projekt"));
    assert!(wrong("trace_wait_secs = 100000").contains("trace_wait_secs"));
    assert!(wrong("workspace = 'acme'").contains("UUID") || wrong("workspace = 'acme'").contains("uuid"));
    let without = try_sink("kind = 'langsmith'\nurl = 'https://h.example'\nproject = 'p'").err().unwrap();
    assert!(without.contains("key_file"), "{without}");
}

/// The fake finds what a careless sink does wrong.
#[tokio::test]
async fn the_fake_bites() {
    let fake = Fake::default();
    let url = fake.serve().await;
    let client = reqwest::Client::new();
    let post = async |path: &str, body: &Value| {
        let request = client.post(format!("{url}{path}")).header("x-api-key", KEY).json(body);
        request.send().await.unwrap().status().as_u16()
    };
    let good = json!({"id": Uuid::from_u128(1), "run_id": run(0), "session_id": PROJECT, "key": "faithfulness", "score": 0.3333,
        "feedback_source": {"type": "api"}});
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    assert_eq!(post("/api/v1/feedback", &with("score", json!(0.33333))).await, 422, "too many decimals");
    assert_eq!(post("/api/v1/feedback", &with("score", json!("fail"))).await, 422, "a label is no score");
    assert_eq!(post("/api/v1/feedback", &with("session_id", Value::Null)).await, 422, "no project");
    assert_eq!(post("/api/v1/feedback", &good).await, 200);
    assert_eq!(fake.inner().extended, 1, "a trace is kept longer where nothing is said");
    assert_eq!(post("/api/v1/feedback", &good).await, 409, "a repeat");
    fake.inner().runs = Some([].into());
    assert_eq!(post("/api/v1/feedback", &with("id", json!(Uuid::from_u128(2)))).await, 404, "no run yet");
    fake.inner().runs = None;
    let items = json!({"items": [{"item_type": "RUN", "run_id": run(0), "project_id": PROJECT, "start_time": "2026-11-02T10:00:00Z"}]});
    let path = format!("/api/v1/platform/annotation-queues/{QUEUE}/items");
    assert_eq!((post(&path, &items).await, post(&path, &items).await), (200, 200));
    assert_eq!(fake.inner().items.len(), 2, "a queue item doubles");
    let example = json!({"id": Uuid::from_u128(3), "dataset_id": DATASET, "inputs": "text", "outputs": {}});
    assert_eq!(post("/api/v1/examples", &example).await, 422, "inputs are objects");
    assert_eq!(client.post(format!("{url}/api/v1/feedback")).json(&good).send().await.unwrap().status(), 401);
}
