//! A LangSmith that holds requests to its contract, and to what its documents warn of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::super::faults::{Plan, answer, query};

/// The key of a workspace.
pub const KEY: &str = "lsv2_pt_0123456789";
/// The key of an organisation, which needs the workspace.
pub const ORGANISATION: &str = "lsv2_org_0123456789";
/// The workspace.
pub const WORKSPACE: Uuid = Uuid::from_u128(0x3051);
/// The tracing project, called `support`.
pub const PROJECT: Uuid = Uuid::from_u128(0x90ec);
/// The annotation queue.
pub const QUEUE: Uuid = Uuid::from_u128(0x40e0e);
/// The data set, called `gold`.
pub const DATASET: Uuid = Uuid::from_u128(0xda7a);

/// The fake.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Inner>>);

/// What it holds.
#[derive(Default)]
pub struct Inner {
    /// What happens to the writes to come.
    pub plan: Plan,
    /// Runs that it has; none: all that are asked for.
    pub runs: Option<BTreeSet<Uuid>>,
    /// Feedback by id.
    pub feedback: BTreeMap<Uuid, Value>,
    /// Queue items: id, run.
    pub items: Vec<(Uuid, Uuid)>,
    /// Examples by id.
    pub examples: BTreeMap<Uuid, Value>,
    /// Traces that were moved to the retention that costs more.
    pub extended: usize,
    /// How often the project was looked up by its name.
    pub lookups: usize,
    /// Whether the first version of that path is gone.
    pub second_version_only: bool,
    /// Writes that it was asked for.
    pub writes: usize,
}

impl Inner {
    fn has_run(&self, run: Uuid) -> bool {
        self.runs.as_ref().is_none_or(|runs| runs.contains(&run))
    }
}

impl Fake {
    /// What it holds.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Serves until the test ends; gives its URL.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/api/v1/sessions", get(projects))
            .route("/api/v2/sessions", get(projects_again))
            .route("/api/v1/sessions/{id}", get(project))
            .route("/api/v1/feedback", post(create_feedback).get(list_feedback))
            .route("/api/v1/feedback/{id}", patch(change_feedback).delete(delete_feedback))
            .route("/api/v1/annotation-queues/{id}", get(queue))
            .route("/api/v1/annotation-queues/{run}/queues", get(queues_of))
            .route("/api/v1/platform/annotation-queues/{queue}/items", post(add_item))
            .route("/api/v1/platform/annotation-queues/{queue}/items/delete", post(delete_items))
            .route("/api/v1/datasets", get(datasets))
            .route("/api/v1/examples", post(create_example))
            .route("/api/v1/examples/{id}", patch(change_example))
            .route("/api/v1/platform/datasets/examples/delete", post(delete_examples))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// A write: let in or not, failing by plan.
    async fn write(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        work: impl FnOnce(&mut Inner, Value) -> Response,
    ) -> Response {
        if let Some(refused) = turned_away(headers) {
            return refused;
        }
        let fault = {
            let mut inner = self.inner();
            inner.writes += 1;
            inner.plan.next()
        };
        let body = serde_json::from_slice(body).unwrap_or_default();
        answer(fault, || work(&mut self.inner(), body)).await
    }
}

fn said(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// 422 as it is written there.
fn invalid(field: &str) -> Response {
    said(422, json!({"detail": [{"loc": ["body", field], "msg": "invalid", "type": "value_error"}]}))
}

fn not_found() -> Response {
    said(404, json!({"detail": "Not found"}))
}

/// The answer to who may not come in.
fn turned_away(headers: &HeaderMap) -> Option<Response> {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (word("x-api-key"), word("x-tenant-id")) {
        (Some(KEY), _) => None,
        (Some(ORGANISATION), Some(workspace)) if workspace == WORKSPACE.to_string() => None,
        (Some(ORGANISATION), None) => Some(said(403, json!({"error": "org_scoped_key_requires_workspace"}))),
        _ => Some(said(401, json!({"detail": "Invalid token"}))),
    }
}

fn id_of(value: &Value) -> Option<Uuid> {
    Uuid::try_parse(value.as_str()?).ok()
}

async fn projects(State(fake): State<Fake>, headers: HeaderMap, uri: Uri) -> Response {
    let query = query(&uri);
    if let Some(refused) = turned_away(&headers) {
        return refused;
    }
    let mut inner = fake.inner();
    if inner.second_version_only {
        return not_found();
    }
    inner.lookups += 1;
    // The filter is about parts of names, as that of the list of projects is.
    let found = "support-old".contains(query["name"].as_str());
    let rows = [json!({"id": Uuid::nil(), "name": "support-old"}), json!({"id": PROJECT, "name": "support"})];
    said(200, if found { json!(rows) } else { json!([]) })
}

async fn projects_again(State(fake): State<Fake>, headers: HeaderMap, uri: Uri) -> Response {
    let query = query(&uri);
    if let Some(refused) = turned_away(&headers) {
        return refused;
    }
    fake.inner().lookups += 1;
    let rows: Vec<Value> =
        (query["name"] == "support").then(|| json!({"id": PROJECT, "name": "support"})).into_iter().collect();
    said(200, json!({"items": rows, "next_cursor": null}))
}

async fn project(headers: HeaderMap, Path(id): Path<Uuid>) -> Response {
    match turned_away(&headers) {
        Some(refused) => refused,
        None if id == PROJECT => said(200, json!({"id": id, "name": "support"})),
        None => not_found(),
    }
}

/// Whether a score has more decimals than four.
fn has_many_decimals(score: &Value) -> bool {
    score.as_f64().is_some_and(|_| {
        score
            .to_string()
            .split_once('.')
            .is_some_and(|(_, decimals)| decimals.len() > 4 || decimals.contains('e'))
    })
}

/// Why feedback is refused, by its field.
fn wrong_with(body: &Map<String, Value>) -> Option<&'static str> {
    let known = [
        "id",
        "run_id",
        "trace_id",
        "session_id",
        "start_time",
        "key",
        "score",
        "value",
        "comment",
        "correction",
        "feedback_source",
        "feedback_config",
        "extra",
        "extend_trace_retention",
        "created_at",
        "modified_at",
    ];
    let field = |name: &str| body.get(name).unwrap_or(&Value::Null);
    let is_score = matches!(field("score"), Value::Null | Value::Bool(_) | Value::Number(_));
    let kind = field("feedback_source")["type"].as_str();
    match () {
        () if body.keys().any(|key| !known.contains(&key.as_str())) => Some("unknown"),
        () if id_of(field("id")).is_none() => Some("id"),
        () if id_of(field("run_id")).is_none() => Some("run_id"),
        () if id_of(field("session_id")) != Some(PROJECT) => Some("session_id"),
        () if field("key").as_str().is_none_or(str::is_empty) => Some("key"),
        () if !is_score || has_many_decimals(field("score")) => Some("score"),
        () if !matches!(kind, Some("api" | "model" | "app" | "auto_eval")) => Some("feedback_source"),
        () => None,
    }
}

async fn create_feedback(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        let Some(fields) = body.as_object() else { return invalid("body") };
        if let Some(field) = wrong_with(fields) {
            return invalid(field);
        }
        if !inner.has_run(id_of(&body["run_id"]).unwrap()) {
            return not_found();
        }
        let id = id_of(&body["id"]).unwrap();
        if inner.feedback.contains_key(&id) {
            return said(409, json!({"detail": "Feedback already exists"}));
        }
        // True where nothing is said.
        inner.extended += usize::from(body["extend_trace_retention"] != false);
        inner.feedback.insert(id, body.clone());
        said(200, body)
    };
    fake.write(&headers, &body, work).await
}

async fn change_feedback(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
    body: Bytes,
) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        let Some(feedback) = inner.feedback.get_mut(&id) else { return not_found() };
        if has_many_decimals(&body["score"]) {
            return invalid("score");
        }
        for (key, value) in body.as_object().unwrap() {
            if !["score", "value", "correction", "comment"].contains(&key.as_str()) {
                return invalid(key);
            }
            feedback[key] = value.clone();
        }
        said(200, feedback.clone())
    };
    fake.write(&headers, &body, work).await
}

async fn delete_feedback(State(fake): State<Fake>, headers: HeaderMap, Path(id): Path<Uuid>) -> Response {
    let work = |inner: &mut Inner, _| match inner.feedback.remove(&id) {
        Some(_) => said(200, json!({})),
        None => not_found(),
    };
    fake.write(&headers, &Bytes::new(), work).await
}

async fn list_feedback(State(fake): State<Fake>, headers: HeaderMap, uri: Uri) -> Response {
    let query = query(&uri);
    if let Some(refused) = turned_away(&headers) {
        return refused;
    }
    let (limit, offset): (usize, usize) = (query["limit"].parse().unwrap(), query["offset"].parse().unwrap());
    if limit > 100 {
        return invalid("limit");
    }
    let inner = fake.inner();
    let of_run = inner
        .feedback
        .values()
        .filter(|one| one["run_id"] == query["run"] && one["session_id"] == query["session"]);
    said(200, of_run.skip(offset).take(limit).cloned().collect())
}

async fn queue(headers: HeaderMap, Path(id): Path<Uuid>) -> Response {
    match turned_away(&headers) {
        Some(refused) => refused,
        None if id == QUEUE => said(200, json!({"id": id, "name": "reviews"})),
        None => not_found(),
    }
}

async fn queues_of(State(fake): State<Fake>, headers: HeaderMap, Path(run): Path<Uuid>) -> Response {
    if let Some(refused) = turned_away(&headers) {
        return refused;
    }
    let is_there = fake.inner().items.iter().any(|(_, queued)| *queued == run);
    said(200, if is_there { json!([{"id": QUEUE, "name": "reviews"}]) } else { json!([]) })
}

/// It asks nobody whether the run is there already.
async fn add_item(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Path(queue): Path<Uuid>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let query = query(&uri);
    let work = |inner: &mut Inner, body: Value| {
        let mut added = Vec::new();
        for item in body["items"].as_array().into_iter().flatten() {
            let Some(run) = id_of(&item["run_id"]).filter(|_| item["item_type"] == "RUN") else {
                return invalid("items");
            };
            if id_of(&item["project_id"]) != Some(PROJECT) || item["start_time"].as_str().is_none() {
                return invalid("items");
            }
            if queue != QUEUE || !inner.has_run(run) {
                return not_found();
            }
            inner.extended +=
                usize::from(query.get("extend_trace_retention").is_some_and(|word| word == "true"));
            let id = Uuid::from_u128(0x17e0 + inner.items.len() as u128);
            inner.items.push((id, run));
            added.push(json!({"id": id, "queue_id": queue, "run_id": run}));
        }
        said(200, json!({"items": added}))
    };
    fake.write(&headers, &body, work).await
}

async fn delete_items(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Path(queue): Path<Uuid>,
    body: Bytes,
) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        if queue != QUEUE {
            return not_found();
        }
        let ids: Vec<Uuid> = body["item_ids"].as_array().into_iter().flatten().filter_map(id_of).collect();
        inner.items.retain(|(id, _)| !ids.contains(id));
        said(200, json!({}))
    };
    fake.write(&headers, &body, work).await
}

async fn datasets(headers: HeaderMap, uri: Uri) -> Response {
    let query = query(&uri);
    if let Some(refused) = turned_away(&headers) {
        return refused;
    }
    let rows: Vec<Value> =
        (query["name"] == "gold").then(|| json!({"id": DATASET, "name": "gold"})).into_iter().collect();
    said(200, json!(rows))
}

async fn create_example(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        if !body["inputs"].is_object() || !body["outputs"].is_object() {
            return invalid("inputs");
        }
        let Some(id) = id_of(&body["id"]) else { return invalid("id") };
        let source = id_of(&body["source_run_id"]);
        if id_of(&body["dataset_id"]) != Some(DATASET) || source.is_some_and(|run| !inner.has_run(run)) {
            return not_found();
        }
        if inner.examples.contains_key(&id) {
            return said(409, json!({"detail": "Example already exists"}));
        }
        inner.examples.insert(id, body.clone());
        said(200, body)
    };
    fake.write(&headers, &body, work).await
}

async fn change_example(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
    body: Bytes,
) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        let Some(example) = inner.examples.get_mut(&id) else { return not_found() };
        for (key, value) in body.as_object().unwrap() {
            example[key] = value.clone();
        }
        said(200, json!({"message": "updated"}))
    };
    fake.write(&headers, &body, work).await
}

async fn delete_examples(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        if body["hard_delete"] != true {
            return invalid("hard_delete");
        }
        for id in body["example_ids"].as_array().into_iter().flatten().filter_map(id_of) {
            inner.examples.remove(&id);
        }
        said(200, json!({}))
    };
    fake.write(&headers, &body, work).await
}
