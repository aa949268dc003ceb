//! The one shape of an error: `{"error": …, "faults": […]}`.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

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
