//! Phoenix itself: traces over OTLP, a worker that is killed again and again, and every annotation read back through Phoenix's
//! own API. Log events go to a collector of ours at the same time, because Phoenix takes no logs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use aftercheck::{
    domain::Evaluation,
    pipeline::decode::decode,
    redaction::Redactor,
    sinks::{
        Scored,
        scores::{Annotator, Score, Value as Scoring, scores},
    },
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    service::{Parts, Service},
    sinks::otlp::{self, collector::Collector},
};

/// Calls of the journey.
const CALLS: usize = 200;
/// Those whose traces come late.
const LATE: usize = 20;
/// Where the worker is killed, in turn: before and after a verdict's commit is said, and after a backend took a batch that is
/// not marked yet.
const KILLS: [&str; 7] = ["K7:1", "K9:1", "K7:3", "K9:2", "K9:1", "K9:3", "K9:1"];
/// Longest that a step may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Calls of the example traffic, with traces of their own: nobody else writes to them, also where the server is shared.
fn calls() -> Vec<Value> {
    let traffic = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/traffic.jsonl")).unwrap();
    let mut seen = BTreeSet::new();
    let is_whole = |call: &Value| decode(call.to_string().as_bytes(), &Redactor::shipped()).is_ok();
    let calls = traffic.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(is_whole);
    let calls = calls.filter(|call| seen.insert(call["request_id"].to_string()));
    let with_ids = calls.map(|mut call| {
        let id = Uuid::new_v4();
        call["trace_id"] = json!(id.simple().to_string());
        call["span_id"] = json!(id.simple().to_string()[16..]);
        call
    });
    with_ids.take(CALLS).collect()
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The trace of a call: one span of a model, as OpenInference has it.
fn trace(call: &Value) -> Span {
    let at: jiff::Timestamp = call["occurred_at"].as_str().unwrap().parse().unwrap();
    let start = u64::try_from(at.as_nanosecond()).unwrap();
    let word = |key: &str| call[key].as_str().unwrap_or_default();
    let mut attributes = vec![
        text("openinference.span.kind", "LLM"),
        text("llm.model_name", word("model_resolved")),
        text("input.value", call["content"]["input"].as_str().unwrap_or_default()),
        text("output.value", call["content"]["answer"].as_str().unwrap_or_default()),
    ];
    for (at, context) in call["content"]["contexts"].as_array().into_iter().flatten().enumerate() {
        for part in ["id", "text"] {
            let name = if part == "text" { "content" } else { part };
            attributes.push(text(
                &format!("retrieval.documents.{at}.document.{name}"),
                context[part].as_str().unwrap_or_default(),
            ));
        }
    }
    Span {
        trace_id: bytes(&call["trace_id"]),
        span_id: bytes(&call["span_id"]),
        name: word("feature").to_owned(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 380_000_000,
        attributes,
        ..Span::default()
    }
}

/// A Phoenix, and the project that the traces are in.
struct Phoenix {
    url: String,
    project: String,
    runtime: Runtime,
    client: reqwest::Client,
}

impl Phoenix {
    /// The one that `scripts/phoenix` started; none, with a word on it, where there is none.
    fn find() -> Option<Self> {
        let Ok(url) = std::env::var("AFTERCHECK_TEST_PHOENIX") else {
            println!("skipped: AFTERCHECK_TEST_PHOENIX is not set, scripts/phoenix starts what it names");
            return None;
        };
        let runtime = Runtime::new().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let project = std::env::var("AFTERCHECK_TEST_PHOENIX_PROJECT")
            .unwrap_or_else(|_| format!("aftercheck-{}", Uuid::new_v4().simple()));
        Some(Self { url, project, runtime, client })
    }

    /// Sends traces, and waits until they are to be seen.
    fn takes(&self, calls: &[Value], until: usize) {
        let resource = Resource {
            attributes: vec![text("openinference.project.name", &self.project), text("service.name", "shop")],
            ..Resource::default()
        };
        let scope_spans = ScopeSpans { spans: calls.iter().map(trace).collect(), ..ScopeSpans::default() };
        let spans = ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        };
        let body = ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec();
        let request = self
            .client
            .post(format!("{}/v1/traces", self.url))
            .header("content-type", "application/x-protobuf");
        let status = self.runtime.block_on(async { request.body(body).send().await.unwrap().status() });
        assert!(status.is_success(), "{status}");
        let begun = Instant::now();
        while self.get("spans?limit=1000").map_or(0, |body| body["data"].as_array().unwrap().len()) < until {
            assert!(begun.elapsed() < PATIENCE, "Phoenix does not show the traces");
            sleep(Duration::from_millis(300));
        }
    }

    /// An answer about the project; none where it has no such thing yet.
    fn get(&self, what: &str) -> Option<Value> {
        let url = format!("{}/v1/projects/{}/{what}", self.url, self.project);
        self.runtime.block_on(async {
            let answer = self.client.get(url).send().await.unwrap();
            let is_there = answer.status().is_success();
            let body = answer.bytes().await.unwrap();
            is_there.then(|| serde_json::from_slice(&body).unwrap())
        })
    }

    /// All annotations of spans, by span.
    fn annotations(&self, spans: &[&str]) -> BTreeMap<String, Vec<Value>> {
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for part in spans.chunks(50) {
            let ids: Vec<String> = part.iter().map(|id| format!("span_ids={id}")).collect();
            let body = self.get(&format!("span_annotations?limit=10000&{}", ids.join("&"))).unwrap();
            assert_eq!(body["next_cursor"], Value::Null, "all on one page");
            for one in body["data"].as_array().unwrap() {
                found.entry(one["span_id"].as_str().unwrap().to_owned()).or_default().push(one.clone());
            }
        }
        found
    }
}

/// The service with both sinks.
fn service(phoenix: &Phoenix, collector: &str) -> Service {
    let url = &phoenix.url;
    Service::of(Parts {
        model: true,
        config: Some(format!(
            "[source]\nlease_secs = 1\n[pipeline]\nin_flight = 8\n[sinks.phoenix]\nkind = \"phoenix\"\nurl = {url:?}\n\
             timeout_ms = 30000\n[sinks.telemetry]\nkind = \"otlp\"\nurl = {collector:?}\n"
        )),
        ..Parts::default()
    })
}

/// Runs a worker that kills itself at a point; says whether it did.
fn is_killed(service: &Service, point: &str) -> bool {
    let mut worker = service.drain(&[("AFTERCHECK_CRASH", point)]);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = worker.try_wait().unwrap() {
            return status.code().is_none();
        }
        sleep(Duration::from_millis(20));
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    false
}

/// Works until so many rows of the outbox are still to be delivered.
fn work_until(service: &Service, open: i64) {
    let begun = Instant::now();
    let left = || {
        let query = "SELECT (SELECT count(*) FROM queue)
                     + (SELECT count(*) FROM outbox WHERE delivered_ms IS NULL AND dead_reason IS NULL)";
        service.tables.number(query).unwrap()
    };
    while left() > open {
        assert!(begun.elapsed() < PATIENCE, "{} rows are still to be delivered: {:?}", left(), service.tables.texts(
            "SELECT DISTINCT sink || ': ' || last_error FROM outbox WHERE delivered_ms IS NULL AND last_error IS NOT NULL"));
        service.let_outbox_leases_end();
        assert!(service.drain(&[]).wait().unwrap().success());
    }
}

/// Evaluations as the jsonl sink has them, each once.
fn evaluations(service: &Service) -> Vec<Evaluation> {
    let lines = fs::read_to_string(service.path("out.jsonl")).unwrap();
    let mut found = BTreeMap::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let evaluation: Evaluation = serde_json::from_value(line["evaluation"].clone()).unwrap();
        found.insert(evaluation.evaluation_id, evaluation);
    }
    found.into_values().collect()
}

fn expected(evaluation: &Evaluation) -> Vec<Score> {
    scores(&Scored { evaluation: evaluation.clone(), quote: None, link: None })
}

/// An annotation as Phoenix should show it: name, kind, label, score.
fn shown(score: &Score) -> (String, &'static str, Value, Value) {
    let kind = match score.by {
        Annotator::Code => "CODE",
        Annotator::Model => "LLM",
        Annotator::Human => "HUMAN",
    };
    let (label, number) = match &score.value {
        Scoring::Number(value) => (json!(score.label), json!(value)),
        Scoring::Flag(holds) => (json!(score.label), json!(f64::from(*holds))),
        Scoring::Label(word) => (json!(word), Value::Null),
    };
    (score.name.clone(), kind, label, number)
}

/// Holds an explanation to the comment of its score: the same, with the quotation behind it where there is one, which the lines of
/// the other sink have not.
fn explained(said: &Value, name: &str, evaluation: &Evaluation) {
    let score = expected(evaluation).into_iter().find(|score| score.name == name).unwrap();
    let said = said.as_str().unwrap_or_default();
    let behind = said.strip_prefix(&score.comment);
    let behind = behind.unwrap_or_else(|| panic!("{name}: {said:?} does not begin with {:?}", score.comment));
    let is_quote = behind.starts_with("\nclaim: “") && behind.contains("\ncompared with: “");
    let has_quotes = matches!(name, "verdict" | "faithfulness");
    assert!(behind.is_empty() || (has_quotes && is_quote), "{name}: {said:?}");
}

/// Holds what Phoenix shows to what was found out: each annotation once, with its values; says how many there are.
fn compare(phoenix: &Phoenix, evaluations: &[Evaluation]) -> usize {
    let spans: Vec<&str> = evaluations.iter().map(|one| one.span_id.as_deref().unwrap()).collect();
    let found = phoenix.annotations(&spans);
    for evaluation in evaluations {
        let span = evaluation.span_id.as_deref().unwrap();
        let mut expected: Vec<_> = expected(evaluation).iter().map(shown).collect();
        let all = found.get(span).unwrap_or_else(|| panic!("span {span} has no annotations"));
        let mut there: Vec<_> = all
            .iter()
            .map(|one| {
                assert_eq!(one["identifier"], format!("aftercheck:{}", evaluation.evaluation_id));
                assert_eq!(one["metadata"]["request_id"], evaluation.request_id);
                let kind =
                    ["CODE", "LLM", "HUMAN"].into_iter().find(|kind| one["annotator_kind"] == *kind).unwrap();
                let name = one["name"].as_str().unwrap().to_owned();
                explained(&one["result"]["explanation"], &name, evaluation);
                (name, kind, one["result"]["label"].clone(), one["result"]["score"].clone())
            })
            .collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        there.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(there, expected, "span {span}");
    }
    found.values().map(Vec::len).sum()
}

/// Holds the events to the same: each uid at least once, repeats like the first; gives events and uids.
fn events(collector: &Collector, evaluations: &[Evaluation]) -> (usize, usize) {
    let records = collector.records();
    let mut by_uid = BTreeMap::new();
    for record in &records {
        let said = otlp::attributes(&record.attributes);
        let first = by_uid.entry(said["log.record.uid"].as_str().unwrap().to_owned()).or_insert(record);
        assert_eq!(*first, record, "a repeat is the same");
    }
    let mut expected_uids = BTreeSet::new();
    for evaluation in evaluations {
        for score in expected(evaluation) {
            let record = by_uid.get(&score.id.to_string()).unwrap_or_else(|| panic!("no event of {score:?}"));
            let said = otlp::attributes(&record.attributes);
            let (name, _, label, number) = shown(&score);
            assert_eq!(said["gen_ai.evaluation.name"], name);
            assert_eq!(said.get("gen_ai.evaluation.score.value").unwrap_or(&Value::Null), &number);
            assert_eq!(said.get("gen_ai.evaluation.score.label").unwrap_or(&Value::Null), &label);
            assert_eq!(otlp::hex(&record.trace_id), evaluation.trace_id);
            assert_eq!(Some(otlp::hex(&record.span_id)), evaluation.span_id);
            expected_uids.insert(score.id.to_string());
        }
    }
    assert_eq!(by_uid.len(), expected_uids.len(), "no event of anything else");
    (records.len(), by_uid.len())
}

#[test]
fn phoenix_has_each_annotation_once_however_often_the_worker_is_killed() {
    let Some(phoenix) = Phoenix::find() else { return };
    let begun = Instant::now();
    let collector = Collector::default();
    let service = service(&phoenix, &phoenix.runtime.block_on(collector.serve()));
    let calls = calls();
    assert_eq!(calls.len(), CALLS);
    let (early, late) = calls.split_at(CALLS - LATE);
    phoenix.takes(early, early.len());
    let mut enqueue = service.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    calls.iter().for_each(|call| writeln!(stdin, "{call}").unwrap());
    drop(stdin);
    assert!(enqueue.wait().unwrap().success());

    for point in KILLS {
        assert!(is_killed(&service, point), "{point} was not passed");
        // Leases of the queue and of the outbox outlive the worker.
        sleep(Duration::from_millis(1100));
        service.let_outbox_leases_end();
    }
    work_until(&service, LATE as i64);
    let waiting =
        service.tables.texts("SELECT DISTINCT last_error FROM outbox WHERE delivered_ms IS NULL").unwrap();
    assert_eq!(waiting, ["no such span yet"]);
    phoenix.takes(late, CALLS);
    work_until(&service, 0);

    assert_eq!(
        service.tables.number("SELECT count(*) FROM outbox WHERE dead_reason IS NOT NULL").unwrap(),
        0
    );
    let mut found = evaluations(&service);
    assert_eq!(found.len(), CALLS);
    let annotations = compare(&phoenix, &found);
    let (sent, uids) = events(&collector, &found);
    assert_eq!(annotations, uids);
    println!(
        "{CALLS} traces, {} kills: {annotations} annotations, each once with its value; {sent} events with {uids} uids; {:.0} s",
        KILLS.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(sent > uids, "no kill came between an answer and its mark");

    // Erased: gone from Phoenix, and a reason where nothing can be deleted.
    if std::env::var_os("AFTERCHECK_TEST_PHOENIX_PROJECT").is_some() {
        return;
    }
    let gone = found.remove(7);
    let erase = ["erase", "--request", &gone.request_id, "--tenant", &gone.tenant_id];
    assert!(service.command(&erase).status().unwrap().success());
    work_until(&service, 0);
    assert!(phoenix.annotations(&[gone.span_id.as_deref().unwrap()]).is_empty());
    compare(&phoenix, &found);
    let dead = service
        .tables
        .texts("SELECT sink || ': ' || dead_reason FROM outbox WHERE dead_reason IS NOT NULL")
        .unwrap();
    assert!(matches!(dead.as_slice(), [one] if one.starts_with("telemetry: OTLP cannot delete")), "{dead:?}");
}
