//! An MLflow that answers as version 3.17.2 does, and is stricter where other stores are.

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
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::faults::{Plan, answer, query};

/// The data set called `gold`.
pub const DATASET: &str = "d-901d";
/// The review queue.
pub const QUEUE: &str = "rq-1";

/// The fake.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Inner>>);

/// What it holds.
#[derive(Default)]
pub struct Inner {
    /// What happens to the writes to come.
    pub plan: Plan,
    /// Traces that it has; none: all that are asked for.
    pub traces: Option<BTreeSet<String>>,
    /// Assessments by trace and id.
    pub assessments: BTreeMap<(String, String), Value>,
    /// Traces on the review queue.
    pub items: BTreeSet<String>,
    /// Records of the data set, by their inputs.
    pub records: BTreeMap<String, Value>,
    /// Whether it is too old for review queues.
    pub has_no_queues: bool,
    /// The header that it asks for, if any.
    pub authorization: Option<String>,
    /// Whether it takes the caller for one that rebinds names.
    pub refuses_host: bool,
    /// How often it was asked whether an assessment is there, and to change one.
    pub reads: usize,
    pub changes: usize,
}

impl Inner {
    fn has_trace(&self, trace: &str) -> bool {
        trace.starts_with("tr-")
            && trace != "tr-aftercheck"
            && self.traces.as_ref().is_none_or(|traces| traces.contains(trace))
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
            .route("/api/2.0/mlflow/experiments/get", get(experiment))
            .route("/api/3.0/mlflow/traces/{trace}", get(trace))
            .route("/api/3.0/mlflow/traces/{trace}/assessments", post(create))
            .route("/api/3.0/mlflow/traces/{trace}/assessments/{id}", get(read).patch(change).delete(remove))
            .route("/api/3.0/mlflow/datasets/search", post(datasets))
            .route(
                "/api/3.0/mlflow/datasets/{id}/records",
                post(add_records).get(records).merge(delete(delete_records)),
            )
            .route("/api/3.0/mlflow/review-queues/get", get(queue))
            .route("/api/3.0/mlflow/review-queues/items/add", post(add_items))
            .route("/api/3.0/mlflow/review-queues/items/remove", post(remove_items))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// A read: let in or not.
    fn read(&self, headers: &HeaderMap, work: impl FnOnce(&mut Inner) -> Response) -> Response {
        let mut inner = self.inner();
        if let Some(refused) = turned_away(&inner, headers) {
            return refused;
        }
        work(&mut inner)
    }

    /// A write: let in or not, failing by plan.
    async fn write(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        work: impl FnOnce(&mut Inner, Value) -> Response,
    ) -> Response {
        let fault = {
            let mut inner = self.inner();
            if let Some(refused) = turned_away(&inner, headers) {
                return refused;
            }
            inner.plan.next()
        };
        let body = serde_json::from_slice(body).unwrap_or_default();
        answer(fault, || work(&mut self.inner(), body)).await
    }
}

fn said(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn error(status: u16, code: &str, message: &str) -> Response {
    said(status, json!({"error_code": code, "message": message}))
}

fn missing(what: &str) -> Response {
    error(404, "RESOURCE_DOES_NOT_EXIST", &format!("{what} not found"))
}

fn invalid(what: &str) -> Response {
    error(400, "INVALID_PARAMETER_VALUE", what)
}

/// A path that is not there, as Flask has it.
fn no_path() -> Response {
    (StatusCode::NOT_FOUND, "<!doctype html>\n<title>404 Not Found</title>").into_response()
}

/// The answer to who may not come in.
fn turned_away(inner: &Inner, headers: &HeaderMap) -> Option<Response> {
    if inner.refuses_host {
        return Some(
            (StatusCode::FORBIDDEN, "Invalid Host header - possible DNS rebinding attack detected")
                .into_response(),
        );
    }
    let said = headers.get("authorization").and_then(|value| value.to_str().ok());
    match inner.authorization.as_deref() == said {
        true => None,
        false => Some((StatusCode::UNAUTHORIZED, "You are not authenticated.").into_response()),
    }
}

async fn experiment(State(fake): State<Fake>, headers: HeaderMap, uri: Uri) -> Response {
    fake.read(&headers, |_| match query(&uri)["experiment_id"].as_str() {
        "1" => said(200, json!({"experiment": {"experiment_id": "1", "name": "support"}})),
        _ => missing("Experiment"),
    })
}

async fn trace(State(fake): State<Fake>, headers: HeaderMap, Path(trace): Path<String>) -> Response {
    fake.read(&headers, |inner| {
        if !inner.has_trace(&trace) {
            return missing("Trace");
        }
        let of_trace = inner.assessments.iter().filter(|((of, _), _)| *of == trace);
        let assessments: Vec<&Value> = of_trace.map(|(_, one)| one).collect();
        said(200, json!({"trace": {"trace_info": {"trace_id": trace, "assessments": assessments}}}))
    })
}

/// Why an assessment is refused.
fn wrong_with(assessment: &Value) -> Option<&'static str> {
    let text = |name: &str| assessment[name].as_str().unwrap_or_default();
    let is_text = |value: &Value| value.is_string();
    let kinds =
        ["feedback", "expectation", "issue"].iter().filter(|kind| !assessment[**kind].is_null()).count();
    let source = &assessment["source"];
    match () {
        () if kinds != 1 => Some("exactly one of feedback, expectation, issue"),
        () if text("assessment_name").is_empty() || text("assessment_name").chars().count() > 250 => {
            Some("name")
        }
        () if text("assessment_name").contains('.') => Some("name with a dot"),
        () if text("assessment_id").len() > 50 => Some("id"),
        () if !matches!(source["source_type"].as_str(), Some("HUMAN" | "LLM_JUDGE" | "CODE")) => {
            Some("source_type")
        }
        () if source["source_id"].as_str().is_none_or(|id| id.chars().count() > 250) => Some("source_id"),
        // 3.17.2 drops such metadata without a word; that is no better.
        () if !assessment["metadata"].as_object().is_none_or(|all| all.values().all(is_text)) => {
            Some("metadata")
        }
        () if assessment["feedback"]["value"].is_null() => Some("value"),
        () => None,
    }
}

async fn create(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Path(trace): Path<String>,
    body: Bytes,
) -> Response {
    let work = |inner: &mut Inner, mut body: Value| {
        let assessment = body["assessment"].take();
        if let Some(what) = wrong_with(&assessment) {
            return invalid(what);
        }
        if !inner.has_trace(&trace) {
            return missing("Trace");
        }
        // Without an id each repeat is another one.
        let count = inner.assessments.len();
        let id = assessment["assessment_id"].as_str().map_or_else(|| format!("a-own{count}"), str::to_owned);
        let known = inner.assessments.keys().any(|(_, one)| *one == id);
        if known {
            return error(
                500,
                "INTERNAL_ERROR",
                "Failed to create assessment due to a constraint violation.",
            );
        }
        inner.assessments.insert((trace.clone(), id), assessment.clone());
        said(200, json!({"assessment": assessment}))
    };
    fake.write(&headers, &body, work).await
}

async fn read(State(fake): State<Fake>, headers: HeaderMap, Path(key): Path<(String, String)>) -> Response {
    fake.read(&headers, |inner| {
        inner.reads += 1;
        match inner.assessments.get(&key) {
            Some(assessment) => said(200, json!({"assessment": assessment})),
            None => missing("Assessment"),
        }
    })
}

async fn change(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Path(key): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        let Some(mask) = body["update_mask"].as_str() else { return invalid("update_mask") };
        inner.changes += 1;
        let Some(assessment) = inner.assessments.get_mut(&key) else { return missing("Assessment") };
        for field in mask.split(',') {
            assessment[field] = body["assessment"][field].clone();
        }
        said(200, json!({"assessment": assessment}))
    };
    fake.write(&headers, &body, work).await
}

async fn remove(State(fake): State<Fake>, headers: HeaderMap, Path(key): Path<(String, String)>) -> Response {
    let work = |inner: &mut Inner, _| {
        inner.assessments.remove(&key);
        said(200, json!({}))
    };
    fake.write(&headers, &Bytes::new(), work).await
}

async fn datasets(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    fake.read(&headers, |_| {
        let found = body["experiment_ids"] == json!(["1"]) && body["filter_string"] == "name = 'gold'";
        let all = if found { json!([{"dataset_id": DATASET, "name": "gold"}]) } else { json!([]) };
        said(200, json!({"datasets": all}))
    })
}

async fn add_records(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Path(dataset): Path<String>,
    body: Bytes,
) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        let records = body["records"].as_str().and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
        let Some(records) = records else { return invalid("records is a string") };
        if dataset != DATASET {
            return error(400, "BAD_REQUEST", "FOREIGN KEY constraint failed");
        }
        for mut record in records {
            if !record["tags"].as_object().is_none_or(|tags| tags.values().all(Value::is_string)) {
                return invalid("tags");
            }
            record["dataset_record_id"] = json!(format!("dr-{}", inner.records.len()));
            inner.records.insert(record["inputs"].to_string(), record);
        }
        said(200, json!({"inserted_count": 1, "updated_count": 0}))
    };
    fake.write(&headers, &body, work).await
}

async fn records(State(fake): State<Fake>, headers: HeaderMap) -> Response {
    fake.read(&headers, |inner| {
        let all: Vec<&Value> = inner.records.values().collect();
        said(200, json!({"records": json!(all).to_string()}))
    })
}

async fn delete_records(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        let ids = body["dataset_record_ids"].as_array().cloned().unwrap_or_default();
        inner.records.retain(|_, record| !ids.contains(&record["dataset_record_id"]));
        said(200, json!({"deleted_count": ids.len()}))
    };
    fake.write(&headers, &body, work).await
}

async fn queue(State(fake): State<Fake>, headers: HeaderMap, uri: Uri) -> Response {
    fake.read(&headers, |inner| match query(&uri)["queue_id"].as_str() {
        _ if inner.has_no_queues => no_path(),
        QUEUE => said(200, json!({"review_queue": {"queue_id": QUEUE}})),
        _ => missing("Review queue"),
    })
}

async fn add_items(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        if inner.has_no_queues {
            return no_path();
        }
        if body["item_type"] != "TRACE" {
            return invalid("item_type");
        }
        let traces: Vec<String> = body["item_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|id| Some(id.as_str()?.to_owned()))
            .collect();
        if body["queue_id"] != QUEUE || !traces.iter().all(|trace| inner.has_trace(trace)) {
            return missing("Review queue or trace");
        }
        inner.items.extend(traces);
        said(200, json!({"items": []}))
    };
    fake.write(&headers, &body, work).await
}

async fn remove_items(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let work = |inner: &mut Inner, body: Value| {
        for trace in body["item_ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            inner.items.remove(trace);
        }
        said(200, json!({}))
    };
    fake.write(&headers, &body, work).await
}
