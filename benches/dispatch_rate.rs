//! Scores a second from the outbox to a backend that takes 50 ms for each request, beside a client that sends one after the other.
//!
//! `cargo bench --bench dispatch_rate -- 2000` fills an SQLite outbox with so many evaluations, has the dispatcher deliver them to
//! a fake backend in this process, each score with a request of its own, as the dearest backends want them, and then has a plain
//! client send the first of them one by one. It prints one line of JSON. The backend counts the connections that it had at a
//! time, and whether each score came exactly once.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aftercheck::{
    database::sqlite::{Database, SqliteConfig},
    domain::{Evaluation, Retraction},
    pipeline::dispatch::{self, DeliveryConfig, Dispatcher},
    redaction::Redactor,
    sinks::{
        self, Content, Item, Outcome, Sink, SinkError, scores,
        wire::{Wire, WireConfig, accepted},
    },
    store::{Kept, Record, Store, evaluation_id, sqlite::SqliteStore},
};
use anyhow::Context;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What each request takes.
const LATENCY: Duration = Duration::from_millis(50);
/// Requests at a time.
const CONCURRENCY: usize = 96;
/// Evaluations of one batch.
const BATCH: u32 = 40;
/// Rules that each evaluation has: their scores, verdict and faithfulness make five.
const RULES: usize = 3;
/// Scores that the plain client sends.
const PLAIN: usize = 60;
/// Evaluations that are written at a time.
const GROUP: usize = 64;

/// What the backend has seen.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    requests: usize,
    in_flight: usize,
    most: usize,
}

/// The backend.
type Backend = Arc<Mutex<Seen>>;

/// What it has seen.
fn seen(backend: &Backend) -> std::sync::MutexGuard<'_, Seen> {
    backend.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one score.
async fn take(State(backend): State<Backend>, Json(score): Json<Value>) -> StatusCode {
    {
        let mut seen = seen(&backend);
        seen.in_flight += 1;
        seen.most = seen.most.max(seen.in_flight);
    }
    sleep(LATENCY).await;
    let mut seen = seen(&backend);
    seen.in_flight -= 1;
    seen.requests += 1;
    seen.ids.insert(score["id"].to_string());
    StatusCode::CREATED
}

/// A sink that has a request for each score.
struct EachScore(Arc<Wire>);

impl EachScore {
    /// A sink of this address.
    fn new(url: &str) -> anyhow::Result<Self> {
        let config = json!({"url": url, "concurrency": CONCURRENCY, "timeout_ms": 10_000});
        let config: WireConfig = serde_json::from_value(config)?;
        let wire = Wire::new(&config, HeaderMap::new()).map_err(anyhow::Error::msg)?;
        Ok(Self(Arc::new(wire)))
    }
}

#[async_trait::async_trait]
impl Sink for EachScore {
    fn batch(&self) -> u32 {
        BATCH
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        let mut sent = JoinSet::new();
        for (at, item) in items.iter().enumerate() {
            let Content::Evaluation(scored) = &item.content else { continue };
            for score in scores::scores(scored) {
                let wire = Arc::clone(&self.0);
                let body = json!({"id": score.id, "name": score.name, "comment": score.comment});
                sent.spawn(async move {
                    let answer = wire.send(wire.request(Method::POST, "scores").json(&body)).await;
                    (at, answer.and_then(accepted))
                });
            }
        }
        let mut outcomes: Vec<Result<Outcome, SinkError>> = vec![Ok(Outcome::DELIVERED); items.len()];
        for (at, answer) in sent.join_all().await {
            if let Err(error) = answer {
                outcomes[at] = Err(error);
            }
        }
        sinks::each(outcomes)
    }

    async fn retract(&self, _: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        Ok(Vec::new())
    }

    async fn check(&self) -> Result<String, SinkError> {
        Ok("there".into())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let evaluations: usize =
        arguments.as_deref().unwrap_or("2000").parse().context("how many evaluations?")?;
    let folder = tempfile::tempdir()?;
    let database = Database::open(&SqliteConfig { path: folder.path().join("bench.db") }).await?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::new(database.clone()));
    let numbers: Vec<usize> = (0..evaluations).collect();
    for group in numbers.chunks(GROUP) {
        let records: Vec<Record> =
            group.iter().map(|number| record(*number)).collect::<anyhow::Result<_>>()?;
        store.record(&records).await?;
    }
    let backend = Backend::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/scores", post(take)).with_state(Arc::clone(&backend));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let dispatcher = Dispatcher {
        name: "bench".into(),
        sink: Arc::new(EachScore::new(&url)?),
        quotes: true,
        pages: None,
        config: DeliveryConfig::default(),
        store: Arc::clone(&store),
        redactor: Arc::new(Redactor::shipped()),
    };
    let begun = Instant::now();
    dispatch::run(dispatcher, CancellationToken::new(), true).await;
    let took = begun.elapsed().as_secs_f64();
    let (scores, requests, most) = {
        let seen = seen(&backend);
        (seen.ids.len(), seen.requests, seen.most)
    };
    anyhow::ensure!(scores == evaluations * (RULES + 2), "{scores} scores of {evaluations} evaluations");
    anyhow::ensure!(requests == scores, "{scores} scores came with {requests} requests");
    anyhow::ensure!(most <= CONCURRENCY, "{most} requests at a time, of at most {CONCURRENCY}");
    let plain = plain(&url).await?;
    let rate = scores as f64 / took;
    println!(
        "{}",
        json!({
            "evaluations": evaluations, "scores": scores, "requests": requests, "seconds": took,
            "scores_per_s": rate, "connections": most, "plain_scores_per_s": plain, "ratio": rate / plain,
        })
    );
    database.close().await;
    Ok(())
}

/// Scores a second of a client that waits for each answer.
async fn plain(url: &str) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let begun = Instant::now();
    for number in 0..PLAIN {
        let body = json!({"id": format!("plain-{number}"), "name": "verdict", "comment": ""});
        client.post(format!("{url}/scores")).json(&body).send().await?.error_for_status()?;
    }
    Ok(PLAIN as f64 / begun.elapsed().as_secs_f64())
}

/// One evaluation with its call.
fn record(number: usize) -> anyhow::Result<Record> {
    let answer = "The order was sent on Monday. It arrives within two days.";
    let call = json!({
        "version": 1, "request_id": format!("bench-{number}"), "trace_id": "t", "tenant_id": "acme",
        "occurred_at": "2026-11-02T10:00:00Z", "feature": "f", "prompt_version": "v", "model_requested": "m",
        "model_resolved": "m", "provider": "p", "tokens_in": 1, "tokens_out": 2, "latency_ms": {"total": 3.0},
        "finish_reason": "stop", "messages_hash": "h",
        "content": {"answer": answer, "contexts": [{"id": "c1", "text": "Orders are sent on Tuesdays."}]},
    });
    let read = serde_json::from_value(call.clone())?;
    let rules: Vec<Value> =
        (0..RULES).map(|rule| json!({"rule": format!("bench.{rule}"), "outcome": "pass"})).collect();
    let evaluation: Evaluation = serde_json::from_value(json!({
        "evaluation_id": evaluation_id(&read, "bench"), "tenant_id": "acme", "request_id": format!("bench-{number}"),
        "evaluator_version": "bench", "trace_id": "t", "feature": "f", "occurred_at": "2026-11-02T10:00:00Z",
        "evaluated_at": "2026-11-02T10:00:01Z", "verdict": "fail", "decided_by": "nli", "reasons": ["not_supported"],
        "faithfulness": 0.1, "truncated": false, "tokens_cut": 0, "rules": rules, "judge": null, "stages": [],
        "claims": [{"start": 0, "end": 29, "entailment": 0.1, "neutral": 0.1, "contradiction": 0.8, "chunk_id": "c1",
            "chunk_start": 0, "chunk_end": 28, "label": "contradicted"}],
        "cost_usd": 0.0, "judge_avoided_usd": null, "probability": 1.0,
    }))?;
    let body = call.to_string();
    let kept = Kept { body_digest: number.to_string(), body, user_key: None, sealed: None };
    let payload_digest = number.to_string();
    Ok(Record {
        kept,
        payload_digest,
        source: "bench",
        evaluation,
        review: None,
        notices: Vec::new(),
        sinks: vec!["bench".into()],
    })
}
