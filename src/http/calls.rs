//! `POST /v1/calls`: one call as `application/json`, or one a line as `application/x-ndjson`.

use aide::{
    OperationOutput,
    axum::{ApiRouter, routing::post_with},
    generate::GenContext,
    openapi::{
        MediaType, Operation, ReferenceOr, RequestBody, Response as Documented, SchemaObject,
        StatusCode as Code,
    },
    transform::TransformOperation,
};
use axum::{
    Json,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use schemars::{JsonSchema, json_schema};
use serde::Serialize;
use serde_json::{Map, json};

use super::{
    House,
    api::{
        Ingests, Who,
        told::{described, with_schema},
    },
    refusal::{Away, plain, refuse},
};
use crate::{domain::Call, pipeline::ingest::Refused};

/// Largest body in bytes: a few messages of the largest size, or a thousand ordinary ones.
const MAX_BODY_BYTES: usize = 8 << 20;

/// The route.
pub(super) fn routes() -> ApiRouter<House> {
    let calls = post_with(accept, |operation| {
        let summary =
            "Puts calls on the queue: one as JSON, or up to 1000 a line each. Refused, none of them is on it";
        packed(described(operation, "sendCalls", summary, &[400, 413, 415, 422]))
    });
    ApiRouter::new().api_route("/v1/calls", calls).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// Says how calls are packed.
fn packed(mut operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let call = aide::generate::in_context(|ctx| ctx.schema.subschema_for::<Call>());
    // What decoding refuses beside what the contract of a message says: its remedy is better than that of a pattern.
    let counts = ["tokens_in", "tokens_out", "cached_tokens", "eval_judge_tokens", "embedding_tokens"];
    let counts = counts.map(|name| (name.to_owned(), json!({ "maximum": u64::MAX })));
    let mut also = Map::from_iter(counts);
    also.insert("occurred_at".to_owned(), json!({ "pattern": "^(19[7-9]|[2-9][0-9]{2})[0-9]-" }));
    let json_schema = json_schema!({ "allOf": [call, { "properties": also }] });
    let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
    let one = ("application/json".to_owned(), MediaType { schema, ..MediaType::default() });
    let lines = ("application/x-ndjson".to_owned(), MediaType::default());
    let body = RequestBody { content: [one, lines].into(), required: true, ..RequestBody::default() };
    operation.inner_mut().request_body = Some(ReferenceOr::Item(body));
    operation
}

/// What became of a request.
#[derive(Serialize, JsonSchema)]
struct Accepted {
    /// Calls that are on the queue.
    accepted: usize,
}

/// 202: the calls are on the queue, and not evaluated yet.
struct Queued(Accepted);

impl IntoResponse for Queued {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl OperationOutput for Queued {
    type Inner = Accepted;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Documented)> {
        vec![(Some(Code::Code(202)), with_schema::<Accepted>(ctx, "The calls are on the queue."))]
    }
}

/// 202 once every call is on the queue; any other status means that the request as a whole was not accepted.
async fn accept(
    Who { person, .. }: Who<Ingests>,
    State(house): State<House>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Queued, Away> {
    // Without sign-in a page in a browser on this machine reaches us too, but it cannot leave out its origin.
    if headers.contains_key(header::ORIGIN) {
        return Err(plain(StatusCode::FORBIDDEN, "calls are not taken from browsers").into());
    }
    let messages = match (kind(&headers), body) {
        (None, _) => {
            let remedy = "set content-type to application/json or application/x-ndjson";
            return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, remedy).into());
        }
        (_, Err(rejection)) => {
            let message = format!("{}; at most {MAX_BODY_BYTES} bytes", rejection.body_text());
            return Err(plain(rejection.status(), &message).into());
        }
        (Some(Kind::One), Ok(body)) => vec![body],
        (Some(Kind::Lines), Ok(body)) => lines(&body),
    };
    match house.ingest.accept(messages, person.tenants).await {
        Ok(accepted) => Ok(Queued(Accepted { accepted })),
        Err(error) => Err(refused(&error).into()),
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
