//! MLflow, by contract, and where it is installed for real.

mod fake;
mod live;
mod server;

use std::{collections::BTreeMap, sync::Arc};

use aftercheck::{
    domain::GoldenKey,
    sinks::{Outcome, Sink, SinkError},
};
use serde_json::{Value, json};

use self::fake::{Fake, Inner, QUEUE};
use super::{
    faults::{Fault, Plan},
    items::{
        batch, deliver, evaluation, expected, golden, label, retractions, scored, sink, trace, try_sink,
        verdict,
    },
};

/// Configuration of a sink.
fn config(url: &str, more: &str) -> String {
    format!("kind = 'mlflow'\nurl = {url:?}\nexperiment = '1'\ntimeout_ms = 300\n{more}\n")
}

/// A fake, and a sink that writes to it.
async fn pair() -> (Fake, Arc<dyn Sink>) {
    let fake = Fake::default();
    let sink = sink(&config(&fake.serve().await, &format!("queue = '{QUEUE}'")));
    (fake, sink)
}

/// What stands on the trace of a number: values by name.
fn on_trace(inner: &Inner, number: u128) -> BTreeMap<String, Value> {
    let id = format!("tr-{}", trace(number));
    let of_trace = inner.assessments.iter().filter(|((trace, _), _)| *trace == id);
    let row =
        |one: &Value| (one["assessment_name"].as_str().unwrap().to_owned(), one["feedback"]["value"].clone());
    let rows: Vec<(String, Value)> = of_trace.map(|(_, one)| row(one)).collect();
    let by_name: BTreeMap<String, Value> = rows.iter().cloned().collect();
    assert_eq!(by_name.len(), rows.len(), "each assessment once");
    by_name
}

/// The expected assessments, by the names that MLflow takes.
pub fn named(scores: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    scores.into_iter().map(|(name, value)| (name.replace('.', "/"), value)).collect()
}

/// Each trace has each assessment once, and each review is on the queue.
fn is_exact(inner: &Inner, count: u128) {
    for number in 0..count {
        assert_eq!(on_trace(inner, number), named(expected(number, verdict(number))));
    }
    let reviews = (0..count)
        .filter(|number| verdict(*number) == "review")
        .map(|number| format!("tr-{}", trace(number)));
    assert_eq!(inner.items, reviews.collect());
}

#[tokio::test]
async fn every_assessment_arrives_once_however_often_it_is_sent() {
    let (fake, sink) = pair().await;
    let items = batch(20);
    deliver(sink.as_ref(), &items).await;
    is_exact(&fake.inner(), 20);
    assert_eq!(fake.inner().reads, 0, "nothing is asked where nothing went wrong");
    let (outcomes, rounds) = deliver(sink.as_ref(), &items).await;
    assert!(
        outcomes.iter().all(|one| matches!(one, Outcome::Delivered { receipt: Some(_) })),
        "{outcomes:?}"
    );
    assert_eq!(rounds, 1, "500 is what a repeat is answered with, and no reason to try again");
    is_exact(&fake.inner(), 20);
    assert_eq!(fake.inner().changes, 0, "what says the same is left alone");
    let inner = fake.inner();
    let judge = inner.assessments.values().find(|one| one["assessment_name"] == "judge").unwrap();
    assert_eq!(judge["source"]["source_type"], "LLM_JUDGE");
    assert_eq!(judge["source"]["source_id"], "aftercheck/sha256:0123");
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
async fn an_error_that_did_nothing_is_tried_again() {
    let (fake, sink) = pair().await;
    fake.inner().plan = Plan::only(Fault::Says(500), 1);
    let items = [scored(evaluation(0, "pass"))];
    assert!(matches!(sink.deliver(&items).await, Err(SinkError::Again { .. })));
    assert!(
        fake.inner().assessments.is_empty() && fake.inner().reads == 1,
        "it was asked whether it is there"
    );
    deliver(sink.as_ref(), &items).await;
    is_exact(&fake.inner(), 1);
}

#[tokio::test]
async fn a_trace_is_waited_for_and_not_for_ever() {
    let (fake, sink) = pair().await;
    fake.inner().traces = Some([format!("tr-{}", trace(0))].into());
    let mut old = evaluation(2, "fail");
    old["evaluated_at"] = json!("2026-11-02T10:00:00Z");
    let mut never = evaluation(4, "fail");
    never["trace_id"] = json!("../../experiments");
    let items = [scored(evaluation(0, "pass")), scored(evaluation(3, "review")), scored(old), scored(never)];
    let outcomes = sink.deliver(&items).await.unwrap();
    assert!(matches!(outcomes[0], Outcome::Delivered { .. }), "its neighbours are none of its business");
    assert!(matches!(&outcomes[1], Outcome::Again { .. }), "{outcomes:?}");
    assert!(
        matches!(&outcomes[2], Outcome::Never { reason } if reason.contains("trace_wait_secs")),
        "{outcomes:?}"
    );
    assert!(
        matches!(&outcomes[3], Outcome::Unsent { reason: Some(reason) } if reason.contains("trace_id")),
        "{outcomes:?}"
    );
    fake.inner().traces = None;
    assert!(matches!(sink.deliver(&items[1..2]).await.unwrap()[0], Outcome::Delivered { .. }));
    assert_eq!(on_trace(&fake.inner(), 3).len(), 5);
    assert_eq!(fake.inner().items.len(), 1);
}

#[tokio::test]
async fn what_a_person_says_later_replaces_what_was_said() {
    let (fake, sink) = pair().await;
    for said in ["fail", "pass"] {
        deliver(sink.as_ref(), &[label(0, said)]).await;
        assert_eq!(on_trace(&fake.inner(), 0), [("review".to_owned(), json!(said))].into());
    }
    let inner = fake.inner();
    let source = &inner.assessments.values().next().unwrap()["source"];
    assert_eq!(*source, json!({"source_type": "HUMAN", "source_id": "jo"}));
}

#[tokio::test]
async fn a_server_without_queues_is_left_alone() {
    let (fake, sink) = pair().await;
    fake.inner().has_no_queues = true;
    deliver(sink.as_ref(), &[scored(evaluation(3, "review"))]).await;
    assert_eq!(on_trace(&fake.inner(), 3).len(), 5, "the scores are there");
    assert!(sink.check().await.unwrap().contains("no review queues"));
}

#[tokio::test]
async fn what_was_delivered_is_deleted_again_and_nothing_else() {
    let (fake, sink) = pair().await;
    let items = [
        scored(evaluation(3, "review")),
        label(3, "fail"),
        scored(evaluation(4, "pass")),
        golden(3, "gold", None),
        golden(4, "gold", Some("Four.")),
    ];
    let (outcomes, _) = deliver(sink.as_ref(), &items).await;
    let theirs =
        json!({"assessment_id": "a-theirs", "assessment_name": "verdict", "feedback": {"value": "pass"}});
    fake.inner().assessments.insert((format!("tr-{}", trace(3)), "a-theirs".into()), theirs);
    assert_eq!(fake.inner().records.len(), 2);
    let all = retractions(&items, &outcomes);
    let gone = [all[0].clone(), all[1].clone(), all[3].clone()];
    for _ in 0..2 {
        assert!(sink.retract(&gone).await.unwrap().is_empty(), "a repeat changes nothing");
        let inner = fake.inner();
        assert_eq!(on_trace(&inner, 3).len(), 1, "what others wrote stays");
        assert_eq!(on_trace(&inner, 4).len(), 5, "and what is still wanted");
        assert!(inner.items.is_empty());
        assert_eq!(
            inner.records.values().map(|one| one["expectations"].clone()).collect::<Vec<_>>(),
            [json!({"answer": "Four."})]
        );
    }
    let unknown = aftercheck::domain::Retraction { receipt: None, ..all[2].clone() };
    assert_eq!(sink.retract(std::slice::from_ref(&unknown)).await.unwrap(), [unknown.delivery_id]);
}

#[tokio::test]
async fn a_golden_row_that_arrived_and_was_not_marked_is_deleted() {
    let (fake, sink) = pair().await;
    let items = [golden(3, "gold", None), golden(4, "gold", None)];
    let (outcomes, _) = deliver(sink.as_ref(), &items).await;
    let mut retraction = retractions(&items, &outcomes).remove(0);
    retraction.receipt = None;
    assert!(sink.retract(std::slice::from_ref(&retraction)).await.unwrap().is_empty());
    assert_eq!(fake.inner().records.len(), 1, "the other stays");
    let unknown = sink.retract(std::slice::from_ref(&retraction)).await.unwrap();
    assert_eq!(unknown, [retraction.delivery_id], "one that never arrived is asked for again");
    retraction.golden = retraction.golden.map(|key| GoldenKey { dataset: "none".into(), ..key });
    let unknown = sink.retract(std::slice::from_ref(&retraction)).await.unwrap();
    assert_eq!(unknown, [retraction.delivery_id], "nor where its data set is not there");
}

#[tokio::test]
async fn a_golden_row_is_a_record_once() {
    let (fake, sink) = pair().await;
    fake.inner().plan = Plan::only(Fault::DoesAndIsSilent, 2);
    let items = [golden(0, "gold", Some("0")), golden(0, "gold", Some("Zero."))];
    deliver(sink.as_ref(), &items[..1]).await;
    deliver(sink.as_ref(), &items[1..]).await;
    {
        let inner = fake.inner();
        let [record] = &inner.records.values().collect::<Vec<_>>()[..] else { panic!("{:?}", inner.records) };
        assert_eq!(record["expectations"], json!({"answer": "Zero."}));
        assert_eq!(record["source"]["source_data"]["trace_id"], format!("tr-{}", trace(0)));
    }
    let outcomes = sink.deliver(&[golden(2, "none", None)]).await.unwrap();
    assert!(matches!(&outcomes[0], Outcome::Again { reason, .. } if reason.contains("none")), "{outcomes:?}");
}

#[tokio::test]
async fn check_says_what_to_fix() {
    let fake = Fake::default();
    let url = fake.serve().await;
    let check = async |more: &str, url: &str| {
        let mut table: toml::Table = toml::from_str(&config(url, "")).unwrap();
        table.extend(toml::from_str::<toml::Table>(more).unwrap());
        sink(&table.to_string()).check().await
    };
    let denied = async |more: &str, url: &str, says: &str| match check(more, url).await {
        Err(SinkError::Denied(said)) => assert!(said.contains(says), "{said}"),
        other => panic!("{more}: {other:?}"),
    };
    assert!(check(&format!("queue = '{QUEUE}'"), &url).await.unwrap().contains("support"));
    denied("experiment = '7'", &url, "experiment").await;
    denied("queue = 'rq-none'", &url, "review queue").await;
    denied("", &format!("{url}/api"), "url").await;
    fake.inner().refuses_host = true;
    denied("", &url, "--allowed-hosts").await;
    fake.inner().refuses_host = false;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "sesame").unwrap();
    fake.inner().authorization = Some("Basic amU6c2VzYW1l".into());
    denied("", &url, "key").await;
    assert!(check(&format!("user = 'je'\npassword_file = {file:?}"), &url).await.is_ok());
    fake.inner().authorization = Some("Bearer sesame".into());
    assert!(check(&format!("token_file = {file:?}"), &url).await.is_ok());
    for (more, says) in [
        (format!("user = 'je'\ntoken_file = {file:?}"), "password"),
        ("user = 'je'".into(), "password"),
        (format!("user = 'je'\npassword_file = {file:?}\ntoken_file = {file:?}"), "token_file"),
        ("trace_wait_secs = 90000".into(), "trace_wait_secs"),
        ("tokens = 'a'".into(), "tokens"),
    ] {
        let wrong = try_sink(&config(&url, &more)).err().unwrap();
        assert!(wrong.contains(says), "{wrong}");
    }
}

/// The fake finds what a careless sink does wrong.
#[tokio::test]
async fn the_fake_bites() {
    let fake = Fake::default();
    let url = fake.serve().await;
    let client = reqwest::Client::new();
    let post = async |trace: &str, body: &Value| {
        let url = format!("{url}/api/3.0/mlflow/traces/{trace}/assessments");
        client.post(url).json(&json!({"assessment": body})).send().await.unwrap().status().as_u16()
    };
    let good = json!({"assessment_id": "a-1", "assessment_name": "faithfulness", "source": {"source_type": "CODE", "source_id": "x"},
        "feedback": {"value": 0.4}, "metadata": {"policy": "p1"}});
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    assert_eq!(post("tr-1", &with("metadata", json!({"policy": 1}))).await, 400, "metadata that is no text");
    assert_eq!(post("tr-1", &with("assessment_name", json!("rule.a"))).await, 400, "a dot");
    assert_eq!(post("tr-1", &with("source", json!({"source_type": "JUDGE"}))).await, 400);
    assert_eq!(post("tr-1", &good).await, 200);
    assert_eq!(post("tr-1", &good).await, 500, "a repeat");
    let nameless = with("assessment_id", Value::Null);
    assert_eq!((post("tr-1", &nameless).await, post("tr-1", &nameless).await), (200, 200));
    assert_eq!(fake.inner().assessments.len(), 3, "without an id a repeat doubles");
    fake.inner().traces = Some([].into());
    assert_eq!(post("tr-1", &with("assessment_id", json!("a-2"))).await, 404, "no trace yet");
    let records = json!({"records": [{"inputs": {}}]});
    let url = format!("{url}/api/3.0/mlflow/datasets/{}/records", fake::DATASET);
    assert_eq!(client.post(url).json(&records).send().await.unwrap().status(), 400, "records are a text");
}
