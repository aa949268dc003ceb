//! What a request is answered with, and what the OpenAPI document says of it.

use aide::{
    OperationOutput,
    generate::GenContext,
    openapi::{MediaType, Operation, Response as Answer, SchemaObject, StatusCode as Code},
    transform::TransformOperation,
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    http::refusal::{Away, Refusal, plain},
    store::StoreError,
};

/// Answers that any request may get: nobody can be told who asks or what is stored, we are at fault, it took too long, or a name
/// was rebound to loopback where nobody signs in.
const ALWAYS: [u16; 4] = [408, 421, 500, 503];

/// 200 with JSON.
pub(super) struct Told<T>(pub T);

impl<T: Serialize> IntoResponse for Told<T> {
    fn into_response(self) -> Response {
        Json(self.0).into_response()
    }
}

impl<T: JsonSchema> OperationOutput for Told<T> {
    type Inner = T;

    fn operation_response(ctx: &mut GenContext, _: &mut Operation) -> Option<Answer> {
        Some(with_schema::<T>(ctx, "Done."))
    }

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Answer)> {
        vec![(Some(Code::Code(200)), with_schema::<T>(ctx, "Done."))]
    }
}

/// 200 with JSON, or 204 where there is none.
pub(super) struct Perhaps<T>(pub Option<T>);

impl<T: Serialize> IntoResponse for Perhaps<T> {
    fn into_response(self) -> Response {
        match self.0 {
            Some(value) => Json(value).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        }
    }
}

impl<T: JsonSchema> OperationOutput for Perhaps<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Answer)> {
        let nothing = Answer { description: "There is none.".to_owned(), ..Answer::default() };
        vec![
            (Some(Code::Code(200)), with_schema::<T>(ctx, "There is one.")),
            (Some(Code::Code(204)), nothing),
        ]
    }
}

impl OperationOutput for Away {
    type Inner = Refusal;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Answer)> {
        refusals(ctx, &ALWAYS)
    }
}

/// An answer whose body is JSON of a type.
pub(in crate::http) fn with_schema<T: JsonSchema>(ctx: &mut GenContext, description: &str) -> Answer {
    let json_schema = ctx.schema.subschema_for::<T>();
    let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
    let content = [("application/json".to_owned(), MediaType { schema, ..MediaType::default() })].into();
    Answer { description: description.to_owned(), content, ..Answer::default() }
}

/// Refusals of these statuses.
pub(super) fn refusals(ctx: &mut GenContext, statuses: &[u16]) -> Vec<(Option<Code>, Answer)> {
    let one = |status: &u16| (Some(Code::Code(*status)), with_schema::<Refusal>(ctx, why(*status)));
    statuses.iter().map(one).collect()
}

/// Why something is refused with a status.
fn why(status: u16) -> &'static str {
    match status {
        400 => "The path, the query or the body cannot be read.",
        401 => "Nobody is signed in, or the key is wrong.",
        403 => "Who asks may not, or a page of another site asks.",
        404 => "It is not there, or not for who asks.",
        408 => "The request took too long.",
        409 => "It is not, or no more, as the request thinks.",
        413 => "The body is too large.",
        415 => "The body is of a kind that is not taken here.",
        421 => "Nobody signs in here, and the request does not name loopback as its host.",
        422 => "The body can be read and does not fit.",
        500 => "A fault of ours.",
        _ => "It does not work now: try again.",
    }
}

/// Names an operation, says in a sentence what it does, and what it may be refused with beside what its parts refuse.
pub(in crate::http) fn described<'t>(
    operation: TransformOperation<'t>,
    id: &str,
    summary: &str,
    statuses: &[u16],
) -> TransformOperation<'t> {
    let mut operation = operation.id(id).summary(summary);
    let refused = aide::generate::in_context(|ctx| refusals(ctx, statuses));
    let answers = operation.inner_mut().responses.get_or_insert_default();
    for (status, answer) in refused {
        if let Some(status) = status {
            answers.responses.entry(status).or_insert(aide::openapi::ReferenceOr::Item(answer));
        }
    }
    answers.responses.sort_unstable_keys();
    operation
}

/// What is told of a fault of the store. What the database says is for the log, not for the wire.
pub(super) fn failed(error: &StoreError) -> Away {
    tracing::error!(%error, "the API could not do what was asked");
    match error {
        StoreError::Unavailable(_) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer, try again").into()
        }
        StoreError::Refused(_) | StoreError::Corrupt { .. } => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the store could not do it; the log says why").into()
        }
    }
}

/// What is not there, or not for who asks.
pub(super) fn missing(what: &str) -> Away {
    plain(StatusCode::NOT_FOUND, &format!("there is no such {what} for you")).into()
}
