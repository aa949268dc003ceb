//! An analyzer that keeps to Presidio's API or fails in one of its ways.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the analyzer does wrong.
#[derive(Clone)]
pub(super) enum Fault {
    /// It answers this.
    Answers(u16, String),
    /// It answers after so long.
    Late(Duration),
    /// It sends the request elsewhere.
    Elsewhere(String),
    /// It breaks on requests with this in one of their texts.
    BreaksOn(&'static str),
    /// It breaks on so many of them, and then no more.
    BreaksFor(&'static str, usize),
    /// It finds this in each text, by entity, start and end.
    Finds(Vec<(&'static str, i64, i64)>),
}

/// An analyzer that finds the names it knows.
#[derive(Clone, Default)]
pub(super) struct Analyzer {
    names: Vec<(&'static str, &'static str)>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) fault: Option<Fault>,
    /// The texts of each request.
    pub(super) asked: Vec<Vec<String>>,
    /// The entities of the last one.
    pub(super) entities: Vec<String>,
}

impl Analyzer {
    /// One that knows these.
    pub(super) fn knows(names: &[(&'static str, &'static str)]) -> Self {
        Self { names: names.to_vec(), inner: Arc::default() }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Fails from now on.
    pub(super) fn fails(&self, fault: Fault) {
        self.inner().fault = Some(fault);
    }

    /// The texts that it was asked about, together.
    pub(super) fn asked(&self) -> Vec<String> {
        self.inner().asked.concat()
    }

    /// Serves until the test ends; gives its URL.
    pub(super) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/analyze", post(analyze)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// What it finds in a text, as Presidio writes it.
    fn find(&self, text: &str, entities: &[String]) -> Value {
        let found = |entity: &str, start: i64, end: i64| json!({"analysis_explanation": null, "end": end, "entity_type": entity, "score": 0.85, "start": start});
        if let Some(Fault::Finds(spans)) = &self.inner().fault {
            return spans.iter().map(|(entity, start, end)| found(entity, *start, *end)).collect();
        }
        let known = self.names.iter().filter(|(entity, _)| entities.iter().any(|asked| asked == entity));
        let spans = known.flat_map(|(entity, name)| {
            text.match_indices(name).map(move |(at, name)| {
                let start = text[..at].chars().count() as i64;
                found(entity, start, start + name.chars().count() as i64)
            })
        });
        spans.collect()
    }
}

/// An answer of these bytes.
fn answer(status: u16, body: String) -> Response {
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "application/json")], body)
        .into_response()
}

/// An error as Presidio answers it.
fn error(status: u16, what: &str) -> Response {
    answer(status, json!({"error": what}).to_string())
}

/// `POST /analyze`: what its description requires is required, and what it does not have is refused.
async fn analyze(State(analyzer): State<Analyzer>, headers: HeaderMap, body: Bytes) -> Response {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return error(415, "Did not attempt to load JSON data because the request Content-Type was not JSON");
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(&body) else {
        return error(400, "The browser (or proxy) sent a request that this server could not understand.");
    };
    let known = ["text", "language", "entities", "score_threshold"];
    if let Some(unknown) = request.keys().find(|key| !known.contains(&key.as_str())) {
        return error(400, &format!("{unknown} is not in the description"));
    }
    let strings = |key: &str| -> Option<Vec<String>> {
        request[key].as_array()?.iter().map(|one| Some(one.as_str()?.to_owned())).collect()
    };
    let Some(texts) = request.get("text").and(strings("text")).filter(|texts| !texts.is_empty()) else {
        return error(500, "No text provided");
    };
    let Some(entities) = request.get("entities").and(strings("entities")) else {
        return error(400, "entities is no list of strings");
    };
    if !request["score_threshold"].is_f64() {
        return error(400, "Failed to parse /analyze request for AnalyzerEngine.analyze().");
    }
    let served = ["PERSON", "LOCATION", "NRP"];
    if request["language"] != "en" || !entities.iter().any(|asked| served.contains(&asked.as_str())) {
        return error(500, "No matching recognizers were found to serve the request.");
    }
    let found: Value = texts.iter().map(|text| analyzer.find(text, &entities)).collect();
    let fault = {
        let mut inner = analyzer.inner();
        inner.asked.push(texts);
        inner.entities = entities;
        let fault = inner.fault.clone();
        if let Some(Fault::BreaksFor(word, times)) = &mut inner.fault
            && body.windows(word.len()).any(|part| part == word.as_bytes())
        {
            *times = times.saturating_sub(1);
        }
        fault
    };
    match fault {
        Some(Fault::BreaksOn(word) | Fault::BreaksFor(word, 1..))
            if body.windows(word.len()).any(|part| part == word.as_bytes()) =>
        {
            return error(500, "float division by zero");
        }
        Some(Fault::Answers(status, body)) => return answer(status, body),
        Some(Fault::Late(time)) => tokio::time::sleep(time).await,
        Some(Fault::Elsewhere(url)) => {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response();
        }
        Some(Fault::Finds(_) | Fault::BreaksOn(_) | Fault::BreaksFor(..)) | None => {}
    }
    answer(200, found.to_string())
}
