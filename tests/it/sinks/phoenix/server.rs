//! A Phoenix that keeps to the contract, its traps included: the key by which it overwrites, what `sync` means, one unknown
//! span that refuses a whole request, `update` that deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::schema::Schema;
use crate::sinks::faults::{Plan, answer};

/// The key that is let in, where one is asked for.
pub const KEY: &str = "px-0123456789abcdef";

/// Key of an annotation: what is annotated, its id, name, identifier.
pub type Key = (String, String, String, String);

/// A server.
#[derive(Clone)]
pub struct Server {
    schema: Arc<Option<Schema>>,
    inner: Arc<Mutex<Inner>>,
}

/// What it has, and how it behaves.
#[derive(Default)]
pub struct Inner {
    /// Spans and traces that are there, by id, with the id of their project.
    pub places: BTreeMap<String, String>,
    /// Annotations; `lost` are those that were taken without `sync` and are of nothing that is there.
    pub annotations: BTreeMap<Key, Value>,
    pub lost: usize,
    /// Datasets: examples by their id.
    pub datasets: BTreeMap<String, BTreeMap<String, Value>>,
    pub faults: Plan,
    /// Whether a key is asked for, whether it may write, and whether it may delete what others wrote.
    pub needs_key: bool,
    pub read_only: bool,
    pub keeps: bool,
    /// Names of scores that it refuses.
    pub refuses: BTreeSet<String>,
    /// It does not say which span is missing.
    pub is_terse: bool,
    /// Something else answers 404 in its place: content type and body.
    pub elsewhere: Option<(&'static str, &'static str)>,
    pub posts: Vec<(String, Value)>,
    /// What was wrong with requests by the document.
    pub wrong: Vec<String>,
}

impl Server {
    /// An empty server.
    pub fn new() -> Self {
        Self { schema: Arc::new(Schema::read()), inner: Arc::default() }
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Traces or spans arrive in a project.
    pub fn has(&self, project: &str, ids: impl IntoIterator<Item = String>) {
        self.inner().places.extend(ids.into_iter().map(|id| (id, project.to_owned())));
    }

    /// Fails the test where requests were not as the document has them.
    pub fn sound(&self) {
        let inner = self.inner();
        assert!(inner.wrong.is_empty(), "{:#?}", inner.wrong);
        assert_eq!(inner.lost, 0, "written without sync and lost");
    }

    /// Serves until the test ends; gives the base of its URLs.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(any).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }
}

async fn any(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let query = uri.query().unwrap_or_default().to_owned();
    let body = (!body.is_empty()).then(|| serde_json::from_slice::<Value>(&body).unwrap());
    if uri.path() != "/arize_phoenix_version"
        && let Some(wrong) = server
            .schema
            .as_ref()
            .as_ref()
            .and_then(|schema| schema.wrong(method.as_str(), uri.path(), &query, body.as_ref()))
    {
        server.inner().wrong.push(wrong);
    }
    let is_in = headers.get("authorization").is_some_and(|key| key == &format!("Bearer {KEY}"));
    let fault = {
        let mut inner = server.inner();
        if inner.needs_key && !is_in {
            return said(401, "Invalid token");
        }
        if inner.read_only && method != Method::GET {
            return said(403, "Viewers may not write");
        }
        inner.posts.extend(
            body.clone().filter(|_| method == Method::POST).map(|body| (uri.path().to_owned(), body)),
        );
        if let Some((content_type, body)) = inner.elsewhere {
            return (StatusCode::NOT_FOUND, [("content-type", content_type)], body).into_response();
        }
        inner.faults.next()
    };
    answer(fault, || server.inner().answer(&method, uri.path(), &query, body.as_ref())).await
}

fn said(status: u16, text: &str) -> Response {
    let header = [("content-type", "text/plain; charset=utf-8")];
    (StatusCode::from_u16(status).unwrap(), header, text.to_owned()).into_response()
}

fn json(body: &Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}

fn invalid() -> Response {
    let body = json!({"detail": [{"loc": ["body"], "msg": "refused", "type": "value_error"}]});
    (StatusCode::UNPROCESSABLE_ENTITY, [("content-type", "application/json")], body.to_string())
        .into_response()
}

/// Values of a parameter.
fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.replace("%3A", ":")).collect()
}

impl Inner {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: Option<&Value>) -> Response {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let is_sync = values(query, "sync") == ["true"];
        match (method.as_str(), parts.as_slice(), body) {
            ("POST", ["v1", kind @ ("span_annotations" | "trace_annotations")], Some(body)) => {
                self.annotate(kind, body, is_sync)
            }
            ("POST", ["v1", "document_annotations"], Some(body)) => {
                let has_identifier =
                    |one: &Value| one["identifier"].as_str().is_some_and(|id| !id.is_empty());
                match body["data"].as_array().unwrap().iter().any(has_identifier) {
                    true => invalid(),
                    false => json(&json!({"data": []})),
                }
            }
            ("POST", ["v1", "datasets", "upload"], Some(body)) => self.upload(body, is_sync),
            ("GET", ["v1", "projects"], None) => {
                let all: BTreeSet<&String> = self.places.values().collect();
                page(
                    all.into_iter().map(|id| json!({"id": id, "name": id, "description": null})).collect(),
                    query,
                )
            }
            ("GET", ["v1", "projects", project, kind], None) => {
                let found = self.found(project, kind, query);
                if values(query, "identifier").is_empty() {
                    return invalid();
                }
                page(found.iter().map(|key| self.annotations[key].clone()).collect(), query)
            }
            ("DELETE", ["v1", "projects", project, kind], None) => {
                if values(query, "delete_all") != ["true"] {
                    return invalid();
                }
                for key in self.found(project, kind, query) {
                    if !self.keeps {
                        self.annotations.remove(&key);
                    }
                }
                StatusCode::NO_CONTENT.into_response()
            }
            ("GET", ["arize_phoenix_version"], None) => said(200, "20.3.0"),
            // The page, whatever is asked for.
            ("GET", ..) => said(200, "<!DOCTYPE html>"),
            _ => said(405, "Method Not Allowed"),
        }
    }

    fn annotate(&mut self, kind: &str, body: &Value, is_sync: bool) -> Response {
        let id_key = if kind == "span_annotations" { "span_id" } else { "trace_id" };
        let data = body["data"].as_array().unwrap();
        if data.iter().any(|one| one["name"] == "note") {
            return said(400, "The name 'note' is reserved");
        }
        if data.iter().any(|one| self.refuses.contains(one["name"].as_str().unwrap())) {
            return invalid();
        }
        let ids: BTreeSet<&str> = data.iter().map(|one| one[id_key].as_str().unwrap()).collect();
        let missing: Vec<&str> = ids.into_iter().filter(|id| !self.places.contains_key(*id)).collect();
        if !missing.is_empty() && is_sync {
            let what = if kind == "span_annotations" { "Spans" } else { "Traces" };
            return match self.is_terse {
                true => said(404, &format!("Some {} do not exist.", what.to_lowercase())),
                false => said(404, &format!("{what} with IDs {} do not exist.", missing.join(", "))),
            };
        }
        let mut stored = Vec::new();
        for one in data {
            let word = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            if missing.contains(&one[id_key].as_str().unwrap()) {
                self.lost += 1;
                continue;
            }
            let key = (kind.to_owned(), word(id_key), word("name"), word("identifier"));
            self.annotations.insert(key, one.clone());
            stored.push(json!({"id": format!("{}", self.annotations.len())}));
        }
        json(&json!({"data": if is_sync { stored } else { Vec::new() }}))
    }

    fn found(&self, project: &str, kind: &str, query: &str) -> Vec<Key> {
        let (identifiers, names) = (values(query, "identifier"), values(query, "name"));
        let is_found = |(of, id, name, identifier): &&Key| {
            of == kind
                && self.places.get(id).is_some_and(|of| of == project)
                && identifiers.contains(identifier)
                && (names.is_empty() || names.contains(name))
        };
        self.annotations.keys().filter(is_found).cloned().collect()
    }

    fn upload(&mut self, body: &Value, is_sync: bool) -> Response {
        let column = |name: &str| body[name].as_array().cloned();
        let (inputs, ids) = (column("inputs").unwrap(), column("example_ids").unwrap());
        let distinct: BTreeSet<String> = ids.iter().map(Value::to_string).collect();
        let lengths =
            ["outputs", "metadata", "span_ids", "example_ids"].map(|name| column(name).map(|all| all.len()));
        if distinct.len() < ids.len() || lengths.iter().flatten().any(|length| *length != inputs.len()) {
            return invalid();
        }
        let name = body["name"].as_str().unwrap();
        if self.refuses.iter().any(|word| body["inputs"].to_string().contains(word.as_str())) {
            return invalid();
        }
        match body["action"].as_str().unwrap_or("create") {
            "create" if self.datasets.contains_key(name) => return said(409, "Dataset exists"),
            "update" => drop(self.datasets.remove(name)),
            _ => {}
        }
        let dataset = self.datasets.entry(name.to_owned()).or_default();
        for (at, id) in ids.iter().enumerate() {
            let example = json!({
                "input": inputs[at], "output": body["outputs"][at], "metadata": body["metadata"][at],
                "span_id": body["span_ids"][at],
            });
            dataset.insert(id.as_str().unwrap().to_owned(), example);
        }
        json(&if is_sync { json!({"data": {"dataset_id": "d", "version_id": "v"}}) } else { Value::Null })
    }
}

/// A page of a list, at most two long, so that nobody gets by with the first one.
fn page(all: Vec<Value>, query: &str) -> Response {
    let from = values(query, "cursor").first().map_or(0, |cursor| cursor.parse().unwrap());
    let next = (from + 2 < all.len()).then(|| (from + 2).to_string());
    let data: Vec<Value> = all.into_iter().skip(from).take(2).collect();
    json(&json!({"data": data, "next_cursor": next}))
}

#[tokio::test]
async fn the_fake_has_the_traps_of_the_contract() {
    let mut inner = Inner::default();
    let mut post = |path: &str, query: &str, body: Value| {
        let answer = inner.answer(&Method::POST, path, query, Some(&body)).status();
        (answer.as_u16(), inner.lost, inner.datasets.get("d").map_or(0, BTreeMap::len))
    };
    let document =
        json!({"data": [{"span_id": "s", "name": "a", "document_position": 0, "identifier": "i"}]});
    assert_eq!(post("/v1/document_annotations", "", document), (422, 0, 0));
    let note = json!({"data": [{"span_id": "s", "name": "note"}]});
    assert_eq!(post("/v1/span_annotations", "sync=true", note), (400, 0, 0));
    let unknown = json!({"data": [{"span_id": "s", "name": "a"}]});
    assert_eq!(post("/v1/span_annotations", "sync=true", unknown.clone()), (404, 0, 0));
    assert_eq!(post("/v1/span_annotations", "", unknown), (200, 1, 0), "taken and lost");
    let upload = |action: &str, ids: Value| {
        let inputs = vec![json!({}); ids.as_array().unwrap().len()];
        json!({"action": action, "name": "d", "inputs": inputs, "example_ids": ids})
    };
    let path = "/v1/datasets/upload";
    assert_eq!(post(path, "sync=true", upload("append", json!(["a", "b"]))), (200, 1, 2));
    assert_eq!(post(path, "sync=true", upload("append", json!(["b", "c"]))), (200, 1, 3));
    assert_eq!(post(path, "sync=true", upload("append", json!(["d", "d"]))), (422, 1, 3));
    assert_eq!(post(path, "sync=true", upload("create", json!(["d"]))), (409, 1, 3));
    assert_eq!(post(path, "sync=true", upload("update", json!(["a"]))), (200, 1, 1), "update deletes");
}
