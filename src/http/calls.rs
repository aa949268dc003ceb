//! `POST /v1/calls`: one call as `application/json`, or one a line as `application/x-ndjson`.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use serde_json::json;

use super::{doors::only, refusal::refuse};
use crate::{
    domain::{Person, Role},
    pipeline::ingest::{Ingest, Refused},
};

/// Largest body in bytes: a few messages of the largest size, or a thousand ordinary ones.
const MAX_BODY_BYTES: usize = 8 << 20;

/// The route over an ingest.
pub(super) fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route("/v1/calls", post(accept))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .route_layer(from_fn(|request, next| only(Role::Ingest, request, next)))
        .with_state(ingest)
}

/// 202 once every call is on the queue; any other status means that the request as a whole was not accepted.
async fn accept(
    State(ingest): State<Arc<Ingest>>,
    Extension(person): Extension<Person>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // Without sign-in a page in a browser on this machine reaches us too, but it cannot leave out its origin.
    if headers.contains_key(header::ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "calls are not taken from browsers", json!([]));
    }
    let messages = match (kind(&headers), body) {
        (None, _) => {
            let remedy = "set content-type to application/json or application/x-ndjson";
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, remedy, json!([]));
        }
        (_, Err(rejection)) => {
            let message = format!("{}; at most {MAX_BODY_BYTES} bytes", rejection.body_text());
            return refuse(rejection.status(), &message, json!([]));
        }
        (Some(Kind::One), Ok(body)) => vec![body],
        (Some(Kind::Lines), Ok(body)) => lines(&body),
    };
    match ingest.accept(messages, person.tenants).await {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(json!({ "accepted": accepted }))).into_response(),
        Err(error) => refused(&error),
    }
}

/// How calls are packed.
enum Kind {
    /// The body is one call.
    One,
    /// Each line is one.
    Lines,
}

/// What the content type says, parameters such as a charset aside.
fn kind(headers: &HeaderMap) -> Option<Kind> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    match kind.to_ascii_lowercase().as_str() {
        "application/json" => Some(Kind::One),
        "application/x-ndjson" | "application/jsonl" => Some(Kind::Lines),
        _ => None,
    }
}

/// Lines that are not blank; they share the body's memory.
fn lines(body: &Bytes) -> Vec<Bytes> {
    let lines = body.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.iter().all(u8::is_ascii_whitespace)).map(|line| body.slice_ref(line)).collect()
}

/// Status and body of a refusal.
fn refused(error: &Refused) -> Response {
    let (status, faults) = match error {
        Refused::Bad(_, faults) => (StatusCode::UNPROCESSABLE_ENTITY, json!(faults)),
        // Sent again it would be refused again; perhaps it is the queue's limit that has to be raised.
        Refused::Unfit(why) => {
            tracing::warn!(why, "a call was refused that the queue cannot hold");
            (StatusCode::UNPROCESSABLE_ENTITY, json!([]))
        }
        Refused::NotGranted(_) => (StatusCode::FORBIDDEN, json!([])),
        Refused::Count(_) => (StatusCode::BAD_REQUEST, json!([])),
        Refused::Panicked(_) => (StatusCode::INTERNAL_SERVER_ERROR, json!([])),
        Refused::Busy | Refused::Queue(_) | Refused::Late => (StatusCode::SERVICE_UNAVAILABLE, json!([])),
    };
    if let Refused::Queue(source) = error {
        tracing::error!(error = %source, "calls could not be queued");
        // What the database says is for the log, not for the wire.
        return refuse(status, "the queue has not confirmed, send the request again", faults);
    }
    refuse(status, &error.to_string(), faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_queue_can_never_hold_is_the_callers_to_mend() {
        let unfit = refused(&Refused::Unfit("message 1: 2 MB, at most 1".into()));
        assert_eq!(unfit.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(!unfit.headers().contains_key(header::RETRY_AFTER));
        let late = refused(&Refused::Late);
        assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(late.headers().contains_key(header::RETRY_AFTER));
    }
}
