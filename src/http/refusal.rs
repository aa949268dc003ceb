//! The one shape of an error: `{"error": …, "faults": […]}`.

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Longest text of another shape that is taken over into ours, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Why a request was not done. Nothing was changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refusal {
    /// What is wrong, and what to do about it.
    pub error: String,
    /// What is wrong where, where that can be told: each with fields of its own, such as `pointer`, `detail` and `remedy`.
    pub faults: Vec<Map<String, Value>>,
}

/// An error, with a hint when to come back where that helps.
pub(super) fn refuse(status: StatusCode, error: &str, faults: Value) -> Response {
    let body = Json(json!({ "error": error, "faults": faults }));
    match status {
        StatusCode::SERVICE_UNAVAILABLE => (status, [(header::RETRY_AFTER, "1")], body).into_response(),
        _ => (status, body).into_response(),
    }
}

/// An error without faults.
pub(super) fn plain(status: StatusCode, error: &str) -> Response {
    refuse(status, error, json!([]))
}

/// Why a request is not done, on its way out.
#[derive(Debug)]
pub(super) struct Away(Box<Response>);

impl From<Response> for Away {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Away {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// Gives every error of the API its one shape, those too that are made where no route is: of unknown paths, of methods that a
/// path does not have, of a request that takes too long.
pub(super) async fn shaped(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_ours = path == "/v1" || path.starts_with("/v1/");
    let answer = next.run(request).await;
    let is_error = answer.status().is_client_error() || answer.status().is_server_error();
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    match is_ours && is_error && !is_json {
        true => in_shape(answer).await,
        false => answer,
    }
}

/// The same error in our shape.
async fn in_shape(answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    let text = to_bytes(body, MAX_TEXT_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let error = match (parts.status, text.trim()) {
        (StatusCode::NOT_FOUND, "") => {
            "there is nothing at this path; GET /v1/openapi.json tells what there is"
        }
        (StatusCode::METHOD_NOT_ALLOWED, "") => {
            "this path does not have this method; the header allow names those it has"
        }
        (status, "") => status.canonical_reason().unwrap_or("refused"),
        (_, text) => text,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(json!({ "error": error, "faults": [] }).to_string()))
}
