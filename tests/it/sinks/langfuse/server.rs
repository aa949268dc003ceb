//! A Langfuse that keeps to the contract: what identifies a score, what it drops without a word, and what it takes twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::super::{
    faults::{self, Plan},
    openapi::{self, Document},
};

/// Keys that are let in.
pub const PUBLIC: &str = "pk-lf-0123";
pub const SECRET: &str = "sk-lf-4567-secret";

/// The official document, read once.
pub static DOCUMENT: LazyLock<Option<Arc<Document>>> =
    LazyLock::new(|| openapi::document("langfuse-openapi-4.16.0.yml").map(Arc::new));

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 4.16.0: `POST /scores` takes one score and stamps it with the time of the request.
    V416,
    /// After it: `POST /scores` takes an array, and the caller's time.
    Newer,
}

/// A server.
#[derive(Clone)]
pub struct Server(Arc<Mutex<State_>>);

/// What it holds.
pub struct State_ {
    version: Version,
    /// By id, name and day: what is not the same in all three is another score.
    pub scores: BTreeMap<(String, String, String), Value>,
    /// What it took and dropped without a word: name and why.
    pub dropped: Vec<(String, &'static str)>,
    /// Items of the queue `q1`, the oldest first.
    pub queue: Vec<Value>,
    /// So many times somebody completes the newest open item once the first page of these was read.
    pub works_off: usize,
    /// Names of datasets.
    pub datasets: BTreeSet<String>,
    /// Items of datasets by id.
    pub items: BTreeMap<String, Value>,
    /// Score configs.
    pub configs: Vec<Value>,
    /// The time that the server stamps.
    pub now: Timestamp,
    /// What fails.
    pub plan: Plan,
    /// Scores of these names are refused for what they are.
    pub refuses: BTreeSet<String>,
    /// So many envelopes of `/ingestion` are answered 500 each.
    pub stumbles: usize,
    /// Whether `/ingestion` is there.
    pub ingests: bool,
    /// Method and path of what came.
    pub requests: Vec<String>,
    /// Most bytes of a request.
    pub limit: usize,
    /// What was not as the official document has it.
    pub wrong: Vec<String>,
    document: Option<Arc<Document>>,
}

/// An answer.
type Said = (u16, Value);

impl Server {
    /// A server of a version.
    pub fn of(version: Version) -> Self {
        let document = DOCUMENT.clone();
        Self(Arc::new(Mutex::new(State_ {
            version,
            scores: BTreeMap::new(),
            dropped: Vec::new(),
            queue: Vec::new(),
            works_off: 0,
            datasets: BTreeSet::new(),
            items: BTreeMap::new(),
            configs: Vec::new(),
            now: "2026-11-02T10:05:00Z".parse().unwrap(),
            plan: Plan::default(),
            refuses: BTreeSet::new(),
            stumbles: 0,
            ingests: true,
            requests: Vec::new(),
            limit: 3_500_000,
            wrong: Vec::new(),
            document,
        })))
    }

    /// What it holds.
    pub fn state(&self) -> MutexGuard<'_, State_> {
        self.0.lock().unwrap()
    }

    /// Serves until the test ends; gives its address.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(handle).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// Values of the scores of a trace by name; each name once, or that is an error.
    pub fn values(&self, trace: &str) -> BTreeMap<String, Value> {
        let state = self.state();
        let mut values = BTreeMap::new();
        for score in state.scores.values().filter(|score| score["traceId"] == trace) {
            let value = match score["dataType"].as_str().unwrap() {
                "BOOLEAN" => json!(score["value"] == 1),
                _ => score["value"].clone(),
            };
            let twice = values.insert(score["name"].as_str().unwrap().to_owned(), value);
            assert_eq!(twice, None, "{score}");
        }
        values
    }
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, 1 << 26).await.unwrap();
    let key = parts.headers.get(header::AUTHORIZATION).and_then(|key| key.to_str().ok()).unwrap_or_default();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let query = parts.uri.query().unwrap_or_default();
    let fault = {
        let mut state = server.state();
        state.requests.push(format!("{method} {path}"));
        state.plan.next()
    };
    let work = || {
        let (status, body) = match key == format!("Basic {}", STANDARD.encode(format!("{PUBLIC}:{SECRET}"))) {
            true => server.state().answer(method, path, query, &bytes),
            false => {
                let said = format!("Invalid credentials. Got {key}");
                (401, json!({"error": "UnauthorizedError", "message": said}))
            }
        };
        (
            StatusCode::from_u16(status).unwrap(),
            [(header::CONTENT_TYPE, "application/json")],
            body.to_string(),
        )
            .into_response()
    };
    let mut answer = faults::answer(fault, work).await;
    if answer.status() == StatusCode::TOO_MANY_REQUESTS {
        answer.headers_mut().insert(header::RETRY_AFTER, "7".parse().unwrap());
    }
    answer
}

fn refused(message: &str) -> Said {
    (400, json!({"message": "Invalid request data", "error": [{"message": message}]}))
}

impl State_ {
    fn answer(&mut self, method: &str, path: &str, query: &str, bytes: &Bytes) -> Said {
        if bytes.len() > self.limit {
            return (413, json!({"message": "Body exceeded"}));
        }
        let body = (!bytes.is_empty()).then(|| serde_json::from_slice::<Value>(bytes).unwrap());
        self.hold_to_document(method, path, body.as_ref());
        let body = body.unwrap_or_default();
        let path = path.strip_prefix("/api/public").unwrap_or(path);
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("POST", ["ingestion"]) if self.ingests => self.ingest(&body),
            ("POST", ["scores"]) => self.scores(&body),
            ("DELETE", ["scores", id]) => self.delete_score(id),
            ("GET", ["v3", "scores"]) => self.list(query),
            ("GET", ["projects"]) => (200, json!({"data": [{"id": "p1", "name": "shop"}]})),
            ("GET", ["score-configs"]) => page(self.configs.iter().cloned(), query),
            (_, ["annotation-queues", rest @ ..]) => self.queues(method, rest, query, &body),
            ("POST", ["dataset-items"]) => self.dataset_item(&body),
            ("DELETE", ["dataset-items", id]) => match self.items.remove(*id) {
                Some(_) => (200, json!({"message": "deleted"})),
                None => (404, json!({"message": "Dataset item not found"})),
            },
            ("POST", ["v2", "datasets"]) => {
                self.datasets.insert(body["name"].as_str().unwrap().to_owned());
                (200, json!({"id": "d1", "name": body["name"]}))
            }
            ("GET", ["v2", "datasets", name]) if self.datasets.contains(*name) => {
                (200, json!({"name": name}))
            }
            _ => (404, json!({"message": "Not found"})),
        }
    }

    fn hold_to_document(&mut self, method: &str, path: &str, body: Option<&Value>) {
        let Some(document) = self.document.clone() else { return };
        if !document.knows(path) {
            self.wrong.push(format!("{method} {path}: no such path"));
        }
        // An array of scores is newer than the document; what is in it is not.
        let wrong: Vec<String> = match body {
            Some(Value::Array(all)) if path.ends_with("/scores") => {
                all.iter().filter_map(|one| document.misfit_of("CreateScoreRequest", one)).collect()
            }
            body => document.wrong(method, path, body).into_iter().collect(),
        };
        self.wrong.extend(wrong);
    }

    fn ingest(&mut self, body: &Value) -> Said {
        let Some(batch) = body["batch"].as_array() else { return refused("batch") };
        let (mut successes, mut errors) = (Vec::new(), Vec::new());
        for event in batch {
            let id = &event["id"];
            let error = |status: u16, said: &str| json!({"id": id, "status": status, "message": "Invalid request data", "error": said});
            let at: Result<Timestamp, _> = event["timestamp"].as_str().unwrap_or_default().parse();
            let fault = match at {
                _ if !id.is_string() => Some(error(400, "id")),
                Err(_) => Some(error(400, "timestamp")),
                Ok(_) if event["type"] != "score-create" => Some(error(400, "event type")),
                Ok(_) if self.stumbles > 0 => {
                    self.stumbles -= 1;
                    Some(error(500, "Internal Server Error"))
                }
                // Without an id of the score it says that it took it, and drops it.
                Ok(_) if !event["body"]["id"].is_string() => {
                    self.dropped.push((event["body"]["name"].to_string(), "no id"));
                    None
                }
                Ok(at) => self.take(&event["body"], at).err().map(|why| error(400, why)),
            };
            match fault {
                Some(fault) => errors.push(fault),
                None => successes.push(json!({"id": id, "status": 201})),
            }
        }
        // In another order than they were sent in.
        successes.reverse();
        (207, json!({"successes": successes, "errors": errors}))
    }

    fn scores(&mut self, body: &Value) -> Said {
        let now = self.now;
        let time = |score: &Value| score["timestamp"].as_str().map_or(now, |at| at.parse().unwrap());
        match (self.version, body) {
            (Version::V416, Value::Object(_)) => match self.take(body, now) {
                Ok(id) => (200, json!({"id": id})),
                Err(why) => refused(why),
            },
            (Version::Newer, Value::Array(all)) => {
                let faults: Vec<&str> =
                    all.iter().filter_map(|score| self.take(score, time(score)).err()).collect();
                if faults.is_empty() {
                    return (202, json!({"message": "Accepted"}));
                }
                let errors: Vec<Value> = faults.iter().map(|why| json!({"message": why})).collect();
                let accepted = all.len() - faults.len();
                (207, json!({"accepted": accepted, "rejected": faults.len(), "errors": errors}))
            }
            _ => refused("expected another shape"),
        }
    }

    /// Takes a score, or says why not. What its config does not allow is dropped without a word.
    fn take(&mut self, score: &Value, at: Timestamp) -> Result<String, &'static str> {
        let name = score["name"].as_str().filter(|name| !name.is_empty()).ok_or("name")?.to_owned();
        if self.refuses.contains(&name) {
            return Err("value out of range");
        }
        let targets = ["traceId", "sessionId", "datasetRunId"];
        if targets.iter().filter(|target| score[**target].is_string()).count() != 1 {
            return Err("exactly one target");
        }
        let value = &score["value"];
        let kind = match (score["dataType"].as_str(), value) {
            (Some("NUMERIC") | None, Value::Number(_)) => "NUMERIC",
            (Some("BOOLEAN"), Value::Number(number)) if matches!(number.as_f64(), Some(0.0 | 1.0)) => {
                "BOOLEAN"
            }
            (Some("CATEGORICAL") | None, Value::String(_)) => "CATEGORICAL",
            (Some("TEXT"), Value::String(text)) if (1..=500).contains(&text.chars().count()) => "TEXT",
            _ => return Err("value and dataType"),
        };
        let mut kept = score.clone();
        kept["dataType"] = json!(kind);
        kept["environment"] = json!(environment(score["environment"].as_str()));
        let id = score["id"].as_str().map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        kept["id"] = json!(id);
        if let Some(config) = score["configId"].as_str()
            && let Some(why) = self.against(config, &name, kind, value)
        {
            self.dropped.push((name, why));
            return Ok(id);
        }
        let day = at.to_string()[..10].to_owned();
        let place = self.scores.entry((id.clone(), name, day)).or_default();
        // What was said first of these stays.
        for (key, said) in [("timestamp", json!(at.to_string())), ("traceId", score["traceId"].clone())] {
            kept[key] = if place[key].is_null() { said } else { place[key].clone() };
        }
        *place = kept;
        Ok(id)
    }

    fn against(&self, config: &str, name: &str, kind: &str, value: &Value) -> Option<&'static str> {
        let Some(config) = self.configs.iter().find(|one| one["id"] == config) else {
            return Some("unknown");
        };
        let number = value.as_f64();
        let is_below = config["minValue"].as_f64().zip(number).is_some_and(|(min, value)| value < min);
        let is_above = config["maxValue"].as_f64().zip(number).is_some_and(|(max, value)| value > max);
        let lacks = |all: &Vec<Value>| !all.iter().any(|one| one["label"] == *value);
        match () {
            () if config["isArchived"] == true => Some("archived"),
            () if config["name"] != name => Some("name"),
            () if config["dataType"] != kind => Some("type"),
            () if kind == "NUMERIC" && (is_below || is_above) => Some("range"),
            () if kind == "CATEGORICAL" && config["categories"].as_array().is_some_and(lacks) => {
                Some("category")
            }
            () => None,
        }
    }

    fn delete_score(&mut self, id: &str) -> Said {
        let before = self.scores.len();
        self.scores.retain(|(other, _, _), _| other != id);
        if self.scores.len() < before {
            (202, json!({"message": "Accepted"}))
        } else {
            (404, json!({"message": "Score not found"}))
        }
    }

    fn list(&self, query: &str) -> Said {
        let query = parsed(query);
        let bound = |key: &str| -> Timestamp { query[key].parse().unwrap() };
        let (from, to) = (bound("fromTimestamp"), bound("toTimestamp"));
        let inside = |score: &&Value| {
            let at: Timestamp = score["timestamp"].as_str().unwrap().parse().unwrap();
            from <= at && at < to
        };
        let skip: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
        // Two at a time, so that there is more than one page.
        let found: Vec<Value> = self.scores.values().filter(inside).skip(skip).take(2).cloned().collect();
        let cursor = (found.len() == 2).then(|| (skip + 2).to_string());
        (200, json!({"data": found, "meta": {"limit": 2, "cursor": cursor}}))
    }

    fn queues(&mut self, method: &str, parts: &[&str], query: &str, body: &Value) -> Said {
        let unknown = (404, json!({"message": "Annotation queue not found"}));
        match (method, parts) {
            (_, [id, ..]) if *id != "q1" => unknown,
            ("GET", [_]) => (200, json!({"id": "q1", "name": "to look at", "scoreConfigIds": []})),
            ("GET", [_, "items"]) => {
                let query_ = parsed(query);
                let status = query_.get("status").cloned();
                let wanted = |item: &&Value| status.as_ref().is_none_or(|status| item["status"] == **status);
                let said = page(self.queue.iter().rev().filter(wanted).cloned(), query);
                let is_first = query_.get("page").is_none_or(|page| page == "1");
                if self.works_off > 0 && is_first && status.as_deref() == Some("PENDING") {
                    self.works_off -= 1;
                    let newest = self.queue.iter_mut().rev().find(|item| item["status"] == "PENDING");
                    newest.unwrap()["status"] = json!("COMPLETED");
                }
                said
            }
            ("POST", [_, "items"]) => {
                let known = ["objectId", "objectType", "status"];
                if body.as_object().unwrap().keys().any(|key| !known.contains(&key.as_str())) {
                    return refused("Unrecognized key");
                }
                let item = json!({"id": format!("item{}", self.queue.len()), "queueId": "q1", "objectId": body["objectId"],
                    "objectType": body["objectType"], "status": "PENDING", "completedAt": null,
                    "createdAt": Timestamp::now(), "updatedAt": Timestamp::now()});
                self.queue.push(item.clone());
                (200, item)
            }
            ("DELETE", [_, "items", id]) => {
                let before = self.queue.len();
                self.queue.retain(|item| item["id"] != **id);
                let status = if self.queue.len() < before { 200 } else { 404 };
                (status, json!({"success": status == 200, "message": ""}))
            }
            _ => unknown,
        }
    }

    fn dataset_item(&mut self, body: &Value) -> Said {
        let (id, dataset) = (body["id"].as_str().unwrap(), body["datasetName"].as_str().unwrap());
        if !self.datasets.contains(dataset) {
            return (404, json!({"message": "Dataset not found"}));
        }
        if self.items.get(id).is_some_and(|item| item["datasetName"] != dataset) {
            return (404, json!({"message": format!("Dataset item with id {id} not found")}));
        }
        self.items.insert(id.to_owned(), body.clone());
        (200, body.clone())
    }
}

/// The environment that a score is kept under.
fn environment(said: Option<&str>) -> String {
    let lower = said.unwrap_or("default").to_lowercase();
    let name: String = lower.strip_prefix("langfuse").unwrap_or(&lower).chars().take(40).collect();
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(is_allowed) { name } else { "default".into() }
}

/// A query by its keys.
fn parsed(query: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://h/?{query}")).unwrap();
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// A page of a list.
fn page(all: impl Iterator<Item = Value>, query: &str) -> Said {
    let query = parsed(query);
    let number = |key: &str, default: usize| query.get(key).map_or(default, |said| said.parse().unwrap());
    let (page, limit) = (number("page", 1), number("limit", 50));
    if limit > 100 {
        return refused("limit");
    }
    let all: Vec<Value> = all.collect();
    let (total, pages) = (all.len(), all.len().div_ceil(limit));
    let data: Vec<Value> = all.into_iter().skip((page - 1) * limit).take(limit).collect();
    (
        200,
        json!({"data": data, "meta": {"page": page, "limit": limit, "totalItems": total, "totalPages": pages}}),
    )
}
