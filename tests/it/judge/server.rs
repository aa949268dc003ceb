//! A judge's server that holds requests to the provider's contract, and fails in the ways of the fault matrix.

use std::{
    convert::Infallible,
    io::Write,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

/// The key that is let in.
pub const KEY: &str = "sk-judge-0123456789abcdef";

/// What the server does instead of answering well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It answers with this status, these headers and this body.
    Says(u16, Vec<(&'static str, String)>, Value),
    /// It writes this where the verdict should stand.
    Writes(String),
    /// It ends for this reason.
    Ends(&'static str),
    /// It takes the first so many requests and says nothing.
    Hangs,
    /// It answers well, after so long.
    Waits(Duration),
    /// It answers one byte a second.
    Drips,
    /// It answers this many bytes of white space before anything.
    Floods(usize),
    /// The same, packed by gzip: a few kB that would become all of it.
    Explodes(usize),
    /// It answers this, as this type and encoding.
    Raw(Vec<u8>, &'static str, Option<&'static str>),
    /// It knows no structured outputs: 400 for `response_format` of these types.
    Knows(&'static [&'static str]),
}

/// What it answers about a document: verdicts as the schema has them.
pub type Mind = Arc<dyn Fn(&str) -> Value + Send + Sync>;

/// A server.
#[derive(Clone)]
pub struct Server {
    mind: Mind,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    fault: Option<Fault>,
    requests: Vec<Value>,
}

impl Server {
    /// A server that answers as this mind says.
    pub fn of(mind: impl Fn(&str) -> Value + Send + Sync + 'static) -> Self {
        Self { mind: Arc::new(mind), inner: Arc::default() }
    }

    /// A server that finds every claim supported.
    pub fn kind() -> Self {
        Self::of(|text| verdicts(text, "supported", 0.9))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Fails from now on, or no more.
    pub fn fails(&self, fault: impl Into<Option<Fault>>) {
        self.inner().fault = fault.into();
    }

    /// Bodies of the requests that came.
    pub fn requests(&self) -> Vec<Value> {
        self.inner().requests.clone()
    }

    /// Serves until the test ends; gives the base of its URLs.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/chat/completions", post(openai))
            .route("/v1/messages", post(anthropic))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }
}

/// The document of a question, by an honest reader: what stands between the first line and the next one like it.
pub fn document(text: &str) -> Value {
    let mut lines = text.lines();
    let marker = lines.next().unwrap();
    let inside: Vec<&str> = lines.take_while(|line| *line != marker).collect();
    serde_json::from_str(&inside.join("\n")).unwrap()
}

/// The same verdict on every claim of a question.
pub fn verdicts(text: &str, label: &str, support: f64) -> Value {
    let document = document(text);
    let claims = document["claims"].as_array().unwrap().iter();
    let claims: Vec<Value> = claims
        .map(|claim| json!({"id": claim["id"], "reason": "The evidence says so.", "label": label, "support": support}))
        .collect();
    json!({"claims": claims, "score": support})
}

/// A refusal as OpenAI writes it.
fn refusal(status: u16, what: &str) -> Response {
    answer(
        status,
        &json!({"error": {"message": what, "type": "invalid_request_error", "param": null, "code": null}}),
    )
}

fn answer(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "application/json")], body.to_string())
        .into_response()
}

/// `POST /v1/chat/completions`.
async fn openai(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    server.inner().requests.push(body.clone());
    if headers.get("authorization").is_none_or(|key| key != &format!("Bearer {KEY}")) {
        return answer(401, &json!({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}));
    }
    if let Err(wrong) = keeps_to_openai(&body) {
        return refusal(400, &wrong);
    }
    let fault = server.inner().fault.clone();
    let form = body["response_format"]["type"].as_str().unwrap_or("text").to_owned();
    if let Some(Fault::Knows(forms)) = &fault
        && !forms.contains(&form.as_str())
    {
        return refusal(400, "response_format is not supported by this model");
    }
    let text = (server.mind)(body["messages"][1]["content"].as_str().unwrap()).to_string();
    let (text, reason) = match &fault {
        Some(Fault::Writes(text)) => (text.clone(), "stop"),
        Some(Fault::Ends(reason)) => (text, *reason),
        Some(Fault::Knows(_)) if form == "text" => (format!("Here:\n```json\n{text}\n```"), "stop"),
        _ => (text, "stop"),
    };
    let refused = if reason == "refusal" { json!("I cannot judge this.") } else { Value::Null };
    let reason = if reason == "refusal" { "stop" } else { reason };
    let completion = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": format!("{}-2026", body["model"].as_str().unwrap()),
        "choices": [{"index": 0, "finish_reason": reason,
            "message": {"role": "assistant", "content": text, "refusal": refused}}],
        "usage": {"prompt_tokens": 800, "completion_tokens": 60, "total_tokens": 860,
            "prompt_tokens_details": {"cached_tokens": 512}},
    });
    faulty(fault, &completion).await
}

/// `POST /v1/messages`.
async fn anthropic(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    server.inner().requests.push(body.clone());
    let failure = |status, kind: &str| {
        answer(status, &json!({"type": "error", "error": {"type": kind, "message": "m"}}))
    };
    if headers.get("x-api-key").is_none_or(|key| key != KEY) {
        return failure(401, "authentication_error");
    }
    if headers.get("anthropic-version").is_none_or(|version| version != "2023-06-01") {
        return failure(400, "invalid_request_error");
    }
    let tool = &body["tools"][0];
    let is_forced = body["tool_choice"]["type"] == "tool" && body["tool_choice"]["name"] == tool["name"];
    if !body["max_tokens"].is_u64()
        || !body["system"].is_string()
        || !is_forced
        || !tool["input_schema"].is_object()
    {
        return failure(400, "invalid_request_error");
    }
    let fault = server.inner().fault.clone();
    let verdict = (server.mind)(body["messages"][0]["content"].as_str().unwrap());
    let (input, reason) = match &fault {
        Some(Fault::Writes(text)) => (serde_json::from_str(text).unwrap_or_else(|_| json!(text)), "tool_use"),
        Some(Fault::Ends(reason)) => (verdict, *reason),
        _ => (verdict, "tool_use"),
    };
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_reason": reason,
        "content": [{"type": "thinking", "thinking": "…"},
            {"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": input}],
        "usage": {"input_tokens": 288, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 512, "output_tokens": 60},
    });
    faulty(fault, &message).await
}

/// A good answer, unless a fault says otherwise.
async fn faulty(fault: Option<Fault>, good: &Value) -> Response {
    match fault {
        Some(Fault::Says(status, headers, body)) => {
            let mut said = answer(status, &body);
            for (name, value) in headers {
                said.headers_mut().insert(name, value.parse().unwrap());
            }
            said
        }
        Some(Fault::Hangs) => {
            sleep(Duration::from_secs(3600)).await;
            answer(200, good)
        }
        Some(Fault::Waits(time)) => {
            sleep(time).await;
            answer(200, good)
        }
        Some(Fault::Drips) => {
            let bytes = good.to_string().into_bytes();
            let drops = futures_lite::stream::unfold(bytes.into_iter(), |mut left| async {
                sleep(Duration::from_secs(1)).await;
                let byte = left.next()?;
                Some((Ok::<_, Infallible>(Bytes::from(vec![byte])), left))
            });
            ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(drops)).into_response()
        }
        Some(Fault::Floods(bytes)) => {
            let flood = format!("{}{good}", " ".repeat(bytes));
            ([(header::CONTENT_TYPE, "application/json")], flood).into_response()
        }
        Some(Fault::Explodes(bytes)) => {
            let packed = gzipped(format!("{}{good}", " ".repeat(bytes)));
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CONTENT_ENCODING, "gzip")];
            (headers, packed).into_response()
        }
        Some(Fault::Raw(bytes, kind, encoding)) => {
            let mut said = ([(header::CONTENT_TYPE, kind)], bytes).into_response();
            if let Some(encoding) = encoding {
                said.headers_mut().insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
            }
            said
        }
        _ => answer(200, good),
    }
}

/// A text as `gzip` packs it.
fn gzipped(text: String) -> Vec<u8> {
    let mut gzip =
        Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip is there");
    let mut stdin = gzip.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let packed = gzip.wait_with_output().unwrap().stdout;
    writing.join().unwrap();
    packed
}

/// What OpenAI refuses of a request, as far as we come near it (OpenAPI 2.3.0, and the strict subset of JSON schema).
fn keeps_to_openai(body: &Value) -> Result<(), String> {
    let known = [
        "model",
        "messages",
        "response_format",
        "max_completion_tokens",
        "max_tokens",
        "temperature",
        "seed",
        "store",
        "reasoning_effort",
    ];
    if let Some(unknown) = body.as_object().unwrap().keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("unknown parameter {unknown}"));
    }
    let roles: Vec<&str> = body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    if !matches!(roles[..], ["developer" | "system", "user"]) {
        return Err("roles".into());
    }
    let format = &body["response_format"];
    match format["type"].as_str() {
        Some("json_schema") => {
            let schema = &format["json_schema"];
            let name = schema["name"].as_str().unwrap_or_default();
            let is_name = (1..=64).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            if !is_name || schema["strict"] != true || schema["schema"]["type"] != "object" {
                return Err("json_schema".into());
            }
            strict(&schema["schema"])
        }
        Some("json_object") => {
            let said = body["messages"].to_string().to_lowercase();
            if said.contains("json") { Ok(()) } else { Err("'messages' must contain the word 'json'".into()) }
        }
        Some(other) => Err(format!("response_format {other}")),
        None => Ok(()),
    }
}

/// Every object lists all its properties as required and allows no other.
fn strict(schema: &Value) -> Result<(), String> {
    if schema["type"] == "object" {
        let properties = schema["properties"].as_object().ok_or("properties")?;
        let required: Vec<&str> =
            schema["required"].as_array().ok_or("required")?.iter().filter_map(Value::as_str).collect();
        if schema["additionalProperties"] != false
            || properties.keys().any(|key| !required.contains(&key.as_str()))
        {
            return Err("not strict".into());
        }
        return properties.values().try_for_each(strict);
    }
    if schema["type"] == "array" { strict(&schema["items"]) } else { Ok(()) }
}
