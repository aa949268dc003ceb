//! A Helicone that keeps to the contract: scores come into effect minutes later, of several messages about a request the last one
//! counts, and what is no whole number is lost without a word.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::super::faults::{self, Plan};

/// The key that is let in.
pub const KEY: &str = "sk-helicone-0123-secret";

/// A server.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Held>>);

/// What it holds.
#[derive(Default)]
pub struct Held {
    /// Requests that it has logged, and when.
    pub logged: BTreeMap<Uuid, Timestamp>,
    /// The last message of scores of each request, before its time has come.
    waiting: BTreeMap<Uuid, Map<String, Value>>,
    /// Scores of requests.
    pub scores: BTreeMap<Uuid, Map<String, Value>>,
    /// Properties of requests.
    pub properties: BTreeMap<Uuid, Map<String, Value>>,
    /// What fails.
    pub plan: Plan,
    /// So many answers of success have an error in them.
    pub stumbles: usize,
    /// Method and path of what came.
    pub requests: Vec<String>,
    /// What was not as the contract has it.
    pub wrong: Vec<String>,
}

type Said = (u16, Value);

impl Server {
    /// What it holds.
    pub fn held(&self) -> MutexGuard<'_, Held> {
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

    /// Ten minutes later.
    pub fn later(&self) {
        let mut held = self.held();
        for (id, scores) in std::mem::take(&mut held.waiting) {
            let is_there = held
                .logged
                .get(&id)
                .is_some_and(|at| Timestamp::now().duration_since(*at) < SignedDuration::from_hours(30 * 24));
            if !is_there {
                continue;
            }
            let kept = held.scores.entry(id).or_default();
            for (name, value) in scores {
                match &value {
                    Value::Bool(flag) => {
                        drop(kept.insert(format!("{name}-hcone-bool"), json!(u8::from(*flag))))
                    }
                    // A double that is whole is an integer to it.
                    Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
                        kept.insert(name, value);
                    }
                    _ => {}
                }
            }
        }
    }
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    let key = parts.headers.get(header::AUTHORIZATION).and_then(|key| key.to_str().ok()).unwrap_or_default();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let fault = {
        let mut held = server.held();
        held.requests.push(format!("{method} {path}"));
        held.plan.next()
    };
    let work = || {
        let (status, body) = server.held().answer(key, method, path, &bytes);
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

impl Held {
    fn answer(&mut self, key: &str, method: &str, path: &str, bytes: &[u8]) -> Said {
        if key != format!("Bearer {KEY}") {
            return (401, json!({"data": null, "error": format!("Invalid API key {key}")}));
        }
        let body: Value = serde_json::from_slice(bytes).unwrap();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let id = |id: &str| Uuid::try_parse(id).ok();
        let done: Result<(), &str> = match (method, parts.as_slice()) {
            ("POST", ["v1", "request", "query"]) => {
                let said = self.done(if body["filter"].is_object() { Ok(()) } else { Err("filter") });
                return if said.0 == 201 { (200, json!({"data": [], "error": null})) } else { said };
            }
            ("POST", ["v1", "request", request, "score"]) => match (id(request), only(&body, &["scores"])) {
                (Some(id), true) => self.take(id, &body["scores"]),
                _ => Err("score"),
            },
            ("PUT", ["v1", "request", request, "property"]) => {
                match (id(request), only(&body, &["key", "value"]), body["key"].as_str()) {
                    (Some(id), true, Some(key)) if body["value"].is_string() => {
                        let kept = self.properties.entry(id).or_default();
                        kept.insert(key.to_owned(), body["value"].clone());
                        Ok(())
                    }
                    _ => Err("property"),
                }
            }
            _ => return (404, json!("Not found")),
        };
        self.done(done)
    }

    fn done(&mut self, done: Result<(), &str>) -> Said {
        if let Err(why) = done {
            self.wrong.push(why.to_owned());
            return (500, json!({"data": null, "error": "Error adding scores to request."}));
        }
        if self.stumbles > 0 {
            self.stumbles -= 1;
            return (201, json!({"data": null, "error": "Could not reach the queue"}));
        }
        (201, json!({"data": null, "error": null}))
    }

    fn take(&mut self, id: Uuid, scores: &Value) -> Result<(), &'static str> {
        let scores = scores.as_object().ok_or("scores")?;
        if scores.values().any(|value| !value.is_number() && !value.is_boolean()) {
            return Err("scores are numbers and flags");
        }
        self.waiting.insert(id, scores.clone());
        Ok(())
    }
}

/// Whether an object has these keys and no other.
fn only(body: &Value, keys: &[&str]) -> bool {
    let body = body.as_object().unwrap();
    body.len() == keys.len() && keys.iter().all(|key| body.contains_key(*key))
}
