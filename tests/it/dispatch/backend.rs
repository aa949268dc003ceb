//! A trace backend that fails in the ways of the fault matrix, and a sink that speaks to it as the real ones do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use aftercheck::{
    domain::Retraction,
    sinks::{Content, Item, Outcome, Sink, SinkError, wire},
};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{delete, post},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};
use uuid::Uuid;

/// What the backend does about requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// It takes what it is sent.
    #[default]
    Kind,
    /// It answers everything with this status.
    Says(u16),
    /// It wants to be left alone for a second.
    Limits,
}

/// What it does about single items, by the number at the end of their request id.
#[derive(Debug, Clone, Default)]
pub struct Traps {
    /// Items that are refused for ever.
    pub refused: BTreeSet<usize>,
    /// Items that are answered 503 the first time.
    pub hiccups: BTreeSet<usize>,
    /// Items of which one is enough to bring a whole batch down.
    pub poison: BTreeSet<usize>,
    /// Batches that are larger are answered 413.
    pub most: Option<usize>,
    /// The first so many batches are taken and not answered in time.
    pub unanswered: usize,
    /// Items that cannot be deleted.
    pub kept: BTreeSet<usize>,
}

#[derive(Default)]
struct Inner {
    mood: Mood,
    traps: Traps,
    latency: Duration,
    /// What is there, by id: whose, and how often it came.
    scores: BTreeMap<String, (String, usize)>,
    deleted: BTreeSet<String>,
    /// When each batch came and how many items it had.
    batches: Vec<(Instant, usize)>,
    in_flight: usize,
    most_in_flight: usize,
}

/// The backend.
#[derive(Clone, Default)]
pub struct Backend(Arc<Mutex<Inner>>);

impl Backend {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Does so from now on.
    pub fn is(&self, mood: Mood) {
        self.inner().mood = mood;
    }

    /// Has these traps from now on.
    pub fn traps(&self, traps: Traps) {
        self.inner().traps = traps;
    }

    /// Takes so long for each request.
    pub fn takes(&self, latency: Duration) {
        self.inner().latency = latency;
    }

    /// Whose scores are there, and how often each came.
    pub fn scores(&self) -> BTreeMap<String, usize> {
        self.inner().scores.values().cloned().collect()
    }

    /// How many scores are there.
    pub fn ids(&self) -> usize {
        self.inner().scores.len()
    }

    /// What was deleted, by receipt.
    pub fn deleted(&self) -> BTreeSet<String> {
        self.inner().deleted.clone()
    }

    /// When each batch came and how many items it had.
    pub fn batches(&self) -> Vec<(Instant, usize)> {
        self.inner().batches.clone()
    }

    /// Most requests at a time.
    pub fn most_in_flight(&self) -> usize {
        self.inner().most_in_flight
    }

    /// Serves until the test ends; gives its address.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/scores", post(take))
            .route("/scores/{id}", delete(remove))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// What becomes of one item.
    fn take(&self, item: &Value) -> u16 {
        let mut inner = self.inner();
        let (id, request) = (item["id"].as_str().unwrap(), item["request_id"].as_str().unwrap());
        let number = number(request);
        if inner.traps.refused.contains(&number) {
            return 422;
        }
        if inner.traps.hiccups.remove(&number) {
            return 503;
        }
        let known = inner.scores.entry(id.to_owned()).or_insert_with(|| (request.to_owned(), 0));
        known.1 += 1;
        if known.1 > 1 { 409 } else { 201 }
    }
}

/// The number at the end of a request id.
fn number(request: &str) -> usize {
    request.rsplit('-').next().unwrap().parse().unwrap()
}

impl Backend {
    /// Whether it forgets to answer this time: asked and counted at once, because batches come side by side.
    fn forgets(&self) -> bool {
        let left = &mut self.inner().traps.unanswered;
        let forgets = *left > 0;
        *left = left.saturating_sub(1);
        forgets
    }
}

/// Takes a batch: 207 with a status for each item.
async fn take(State(backend): State<Backend>, Json(items): Json<Vec<Value>>) -> Response {
    let (mood, traps, latency) = {
        let mut inner = backend.inner();
        inner.batches.push((Instant::now(), items.len()));
        inner.in_flight += 1;
        inner.most_in_flight = inner.most_in_flight.max(inner.in_flight);
        (inner.mood, inner.traps.clone(), inner.latency)
    };
    sleep(latency).await;
    let is_poisoned =
        items.iter().any(|item| traps.poison.contains(&number(item["request_id"].as_str().unwrap())));
    let answer = match mood {
        Mood::Says(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Limits => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        Mood::Kind if traps.most.is_some_and(|most| items.len() > most) => {
            StatusCode::PAYLOAD_TOO_LARGE.into_response()
        }
        Mood::Kind if is_poisoned => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Kind => {
            let statuses: Vec<u16> = items.iter().map(|item| backend.take(item)).collect();
            if backend.forgets() {
                sleep(Duration::from_secs(5)).await;
            }
            (StatusCode::MULTI_STATUS, Json(json!({"statuses": statuses}))).into_response()
        }
    };
    backend.inner().in_flight -= 1;
    answer
}

/// Deletes what a receipt names.
async fn remove(
    State(backend): State<Backend>,
    axum::extract::Path(id): axum::extract::Path<String>,
    _: HeaderMap,
) -> StatusCode {
    let mut inner = backend.inner();
    let request = inner.scores.get(id.trim_start_matches("at-")).map(|(request, _)| number(request));
    if request.is_some_and(|number| inner.traps.kept.contains(&number)) {
        return StatusCode::CONFLICT;
    }
    let is_gone = !inner.deleted.insert(id.clone());
    match inner.scores.remove(id.trim_start_matches("at-")) {
        None if !is_gone => StatusCode::NOT_FOUND,
        _ => StatusCode::NO_CONTENT,
    }
}

/// A sink that writes one score for each delivery.
pub struct PlainSink {
    wire: wire::Wire,
    most: u32,
}

impl PlainSink {
    /// A sink that sends so many items at a time.
    pub fn new(url: &str, most: u32) -> Self {
        let config = json!({"url": url, "timeout_ms": 1000, "concurrency": 64});
        let config: wire::WireConfig = serde_json::from_value(config).unwrap();
        Self { wire: wire::Wire::new(&config, HeaderMap::new()).unwrap(), most }
    }
}

#[async_trait::async_trait]
impl Sink for PlainSink {
    fn batch(&self) -> u32 {
        self.most
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        let body = items.iter().map(|item| match &item.content {
            Content::Evaluation(scored) => {
                json!({"id": item.delivery_id, "request_id": scored.evaluation.request_id})
            }
            Content::Label(_) | Content::Golden(_) => panic!("none was sent"),
        });
        let body: Vec<Value> = body.collect();
        let answer = self.wire.send(self.wire.request(Method::POST, "scores").json(&body)).await?;
        let answer: Value = serde_json::from_slice(&wire::accepted(answer)?.body).unwrap();
        let statuses = answer["statuses"].as_array().unwrap().iter().map(|status| status.as_u64().unwrap());
        let outcomes = statuses.zip(items).map(|(status, item)| match status {
            // The same id is the same score.
            201 | 409 => Outcome::Delivered { receipt: Some(format!("at-{}", item.delivery_id)) },
            503 => Outcome::Again { reason: "status 503".into(), after: None },
            status => Outcome::Never { reason: format!("status {status}") },
        });
        Ok(outcomes.collect())
    }

    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        let mut unknown = Vec::new();
        for one in retractions {
            let Some(receipt) = &one.receipt else {
                unknown.push(one.delivery_id);
                continue;
            };
            let request = self.wire.request(Method::DELETE, &format!("scores/{receipt}"));
            match self.wire.send(request).await?.status {
                StatusCode::NOT_FOUND => unknown.push(one.delivery_id),
                StatusCode::CONFLICT => return Err(SinkError::Refused("it cannot be deleted".into())),
                status => assert_eq!(status, StatusCode::NO_CONTENT),
            }
        }
        Ok(unknown)
    }

    async fn check(&self) -> Result<String, SinkError> {
        Ok("there".into())
    }
}
