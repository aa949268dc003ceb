//! MLflow itself: what we believe about it, and a worker that dies again and again while it delivers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aftercheck::{
    domain::Evaluation,
    sinks::{
        Scored,
        scores::{self, Value as Said},
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::{config, named, server::Server};
use crate::{
    service::{Parts, Service, ended},
    sinks::items::{deliver, evaluation, expected, golden, label, retractions, scored, sink, span, trace},
};

/// Calls of the example traffic.
const CALLS: usize = 100;
/// Those whose trace comes late.
const LATE: usize = 30;
/// Where the worker dies, in turn: after a verdict is committed, and after a batch is delivered and before it is marked.
const POINTS: [&str; 6] = ["K9:1", "K7:2", "K9:2", "K9:3", "K7:1", "K9:1"];

/// Calls that can be decoded, each trace once.
fn calls() -> Vec<Value> {
    let traffic = include_str!("../../../../examples/traffic.jsonl");
    let mut by_trace = BTreeMap::new();
    for line in traffic.lines() {
        let Ok(call) = serde_json::from_str::<Value>(line) else { continue };
        if let (Some(trace), Some(_), true) =
            (call["trace_id"].as_str(), call["span_id"].as_str(), call["tokens_in"].is_u64())
        {
            by_trace.entry(trace.to_owned()).or_insert(call);
        }
    }
    by_trace.into_values().take(CALLS).collect()
}

/// What the archive says was decided, by trace; each call is decided once.
fn decided(service: &Service) -> BTreeMap<String, BTreeMap<String, Value>> {
    let lines = std::fs::read_to_string(service.path("out.jsonl")).unwrap();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let scores = |mut line: Value| {
        let evaluation: Evaluation = serde_json::from_value(line["evaluation"].take()).unwrap();
        let trace = evaluation.trace_id.clone();
        let written =
            scores::scores(&Scored { evaluation, quote: None, link: None }).into_iter().map(|score| {
                let value = match score.value {
                    Said::Number(number) => json!(number),
                    Said::Flag(flag) => json!(flag),
                    Said::Label(label) => json!(label),
                };
                (score.name, value)
            });
        (trace, named(written.collect()))
    };
    lines.map(scores).collect()
}

/// What is wrong with the assessments of the traces: what is missing, what is there twice, what says something else.
async fn wrong(server: &Server, decided: &BTreeMap<String, BTreeMap<String, Value>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (trace, expected) in decided {
        let found = server.assessments(trace).await;
        let mut by_name: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for one in &found {
            by_name
                .entry(one["assessment_name"].as_str().unwrap())
                .or_default()
                .push(&one["feedback"]["value"]);
        }
        for (name, value) in expected {
            match by_name.remove(name.as_str()).as_deref() {
                Some([only]) if same(only, value) => {}
                other => wrong.push(format!("{trace} {name}: {value} is {other:?}")),
            }
        }
        wrong.extend(by_name.keys().map(|name| format!("{trace} {name}: nobody said that")));
    }
    wrong
}

fn same(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => found == expected,
        _ => found == expected,
    }
}

/// A service that delivers to the server, with these calls queued.
fn service(server: &Server, calls: &[Value]) -> Service {
    let (url, experiment) = (&server.url, &server.experiment);
    let config = format!(
        "[source]\nlease_secs = 1\n[sinks.mlflow]\nkind = 'mlflow'\nurl = {url:?}\nexperiment = {experiment:?}\n"
    );
    let service = Service::of(Parts { config: Some(config), model: true, ..Parts::default() });
    let lines: Vec<String> = calls.iter().map(Value::to_string).collect();
    std::fs::write(service.path("calls.jsonl"), lines.join("\n")).unwrap();
    let file = service.path("calls.jsonl").display().to_string();
    assert!(service.command(&["enqueue", &file]).status().unwrap().success());
    service
}

/// Rows that MLflow has not taken yet.
fn open(service: &Service) -> i64 {
    service.tables.number("SELECT count(*) FROM outbox WHERE delivered_ms IS NULL").unwrap()
}

/// Lets the worker die at each point and at random moments; says how often it did at its point.
fn die_again_and_again(service: &Service) -> usize {
    let mut deaths = 0;
    for point in POINTS {
        service.let_outbox_leases_end();
        let status = ended(
            &mut service.drain(&[("AFTERCHECK_CRASH", point), ("AFTERCHECK__PIPELINE__IN_FLIGHT", "4")]),
        );
        deaths += usize::from(status.is_some_and(|status| status.code().is_none()));
    }
    for ms in [300, 700, 1100] {
        service.let_outbox_leases_end();
        let mut worker = service.drain(&[]);
        std::thread::sleep(Duration::from_millis(ms));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    deaths
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: scripts/faults --all"]
async fn mlflow_has_each_assessment_once_however_often_the_worker_dies() {
    let Some(server) = Server::start().await else { return };
    let calls = calls();
    assert_eq!(calls.len(), CALLS);
    let id = |call: &Value, name: &str| call[name].as_str().unwrap().to_owned();
    let spans: Vec<(String, String)> =
        calls.iter().map(|call| (id(call, "trace_id"), id(call, "span_id"))).collect();
    server.trace(&spans[LATE..]).await;
    let service = service(&server, &calls);
    let deaths = block_in_place(|| die_again_and_again(&service));
    assert!(deaths >= 4, "it died at {deaths} of {} points", POINTS.len());
    let waiting = block_in_place(|| open(&service));
    assert!(waiting >= LATE as i64, "{waiting} rows wait for their trace");
    server.trace(&spans[..LATE]).await;
    let until = Instant::now() + Duration::from_secs(120);
    while block_in_place(|| open(&service)) > 0 {
        assert!(Instant::now() < until, "{} rows are left", block_in_place(|| open(&service)));
        block_in_place(|| {
            service.let_outbox_leases_end();
            ended(&mut service.drain(&[]));
        });
    }
    let decided = decided(&service);
    assert_eq!(decided.len(), CALLS);
    let wrong_now = wrong(&server, &decided).await;
    let scores: usize = decided.values().map(BTreeMap::len).sum();
    println!(
        "mlflow · traces {CALLS} · late {LATE} · deaths {deaths} · assessments {scores} · wrong {}",
        wrong_now.len()
    );
    assert!(wrong_now.is_empty(), "{wrong_now:#?}");
    // The checker finds what is there twice.
    let trace = &spans[0].0;
    let twice = json!({"assessment": {"assessment_name": "verdict", "source": {"source_type": "CODE", "source_id": "x"},
        "feedback": {"value": "pass"}}});
    server.ask(Method::POST, &format!("/api/3.0/mlflow/traces/tr-{trace}/assessments"), &twice).await;
    assert_eq!(wrong(&server, &decided).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: scripts/faults --all"]
async fn mlflow_is_what_its_fake_is() {
    let Some(server) = Server::start().await else { return };
    let experiment = &server.experiment;
    server.trace(&(0..4).map(|number| (trace(number), span(number))).collect::<Vec<_>>()).await;
    let made = json!({"experiment_id": experiment, "name": "reviews", "queue_type": "CUSTOM"});
    let queue = server.ask(Method::POST, "/api/3.0/mlflow/review-queues/create", &made).await;
    let queue = queue["review_queue"]["queue_id"].as_str().unwrap();
    let made = json!({"name": "gold", "experiment_ids": [experiment], "tags": "{}"});
    let dataset = server.ask(Method::POST, "/api/3.0/mlflow/datasets/create", &made).await;
    let dataset = dataset["dataset"]["dataset_id"].as_str().unwrap();
    let more = format!("queue = {queue:?}\nexperiment = {experiment:?}\ntimeout_ms = 20000");
    let config = config(&server.url, "").replace("experiment = '1'\ntimeout_ms = 300\n", &more);
    let sink = sink(&config);
    assert!(sink.check().await.unwrap().contains("review queue is there"));
    let items = [
        scored(evaluation(3, "review")),
        scored(evaluation(1, "fail")),
        label(3, "fail"),
        golden(2, "gold", Some("Two.")),
    ];
    let (outcomes, _) = deliver(sink.as_ref(), &items).await;
    deliver(sink.as_ref(), &items).await;
    deliver(sink.as_ref(), &[label(3, "pass")]).await;
    let mut all = named(expected(3, "review"));
    all.insert("review".into(), json!("pass"));
    let decided = BTreeMap::from([(trace(3), all), (trace(1), named(expected(1, "fail")))]);
    assert_eq!(wrong(&server, &decided).await, [""; 0]);
    let one = &server.assessments(&trace(3)).await[0];
    assert_eq!((&one["metadata"]["who"], &one["span_id"]), (&json!("sha256:0123"), &json!(span(3))));
    let items_path = format!("/api/3.0/mlflow/review-queues/items/list?queue_id={queue}");
    let records_path = format!("/api/3.0/mlflow/datasets/{dataset}/records");
    let queued = server.ask(Method::GET, &items_path, &Value::Null).await;
    assert_eq!(queued["items"].as_array().map(Vec::len), Some(1), "{queued}");
    let records = server.ask(Method::GET, &records_path, &Value::Null).await;
    let records: Value = serde_json::from_str(records["records"].as_str().unwrap()).unwrap();
    assert_eq!(records.as_array().map(Vec::len), Some(1), "{records}");
    assert_eq!(records[0]["expectations"], json!({"answer": "Two."}));
    let gone = retractions(&items, &outcomes);
    for _ in 0..2 {
        assert!(sink.retract(&[gone[0].clone(), gone[2].clone(), gone[3].clone()]).await.unwrap().is_empty());
    }
    assert!(server.assessments(&trace(3)).await.is_empty());
    assert_eq!(server.assessments(&trace(1)).await.len(), 5);
    let queued = server.ask(Method::GET, &items_path, &Value::Null).await;
    assert_eq!(queued["items"].as_array().map_or(0, Vec::len), 0, "{queued}");
    let records = server.ask(Method::GET, &records_path, &Value::Null).await;
    assert_eq!(records["records"], "[]");
    let late = scored(evaluation(77, "pass"));
    assert!(matches!(sink.deliver(&[late]).await.unwrap()[0], aftercheck::sinks::Outcome::Again { .. }));
}
