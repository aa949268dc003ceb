//! What a request brings: who asks, a place in its path, wishes in its query, a body. What does not fit is refused in the shape of
//! all errors, and each of these says in the OpenAPI document what it takes and how it refuses.

use std::marker::PhantomData;

use aide::{
    OperationInput,
    generate::GenContext,
    openapi::{
        MediaType, Operation, ReferenceOr, RequestBody, Response as Answer, SchemaObject, StatusCode as Code,
    },
    operation::{ParamLocation, add_parameters, parameters_from_schema, set_body},
};
use axum::{
    body::{Bytes, HttpBody},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use serde_json::json;

use super::told::refusals;
use crate::{
    domain::{Person, Role},
    http::{
        doors,
        refusal::{Away, plain, refuse},
    },
};

/// Largest body of a request that is no call, in bytes: a note and an expected answer fit, escaped as they may be.
pub(super) const MAX_BODY_BYTES: usize = 256 << 10;
/// Rows of a page where nobody says how many.
const PAGE: u32 = 50;
/// Most rows of a page.
const MAX_PAGE: u32 = 200;

/// What an id, or a name, in an address is: no text with U+0000 in it, as [`without_nul`] holds it to.
pub(super) const WITHOUT_NUL: &str = "^[^\\u0000]*$";

/// A role that a route needs.
pub(in crate::http) trait Needs: Send + Sync + 'static {
    /// The role; none where it is enough to be in.
    const ROLE: Option<Role>;
}

/// It is enough to be in.
pub(super) struct Anybody;
/// The route needs [`Role::Ingest`].
pub(in crate::http) struct Ingests;
/// The route needs [`Role::Read`].
pub(super) struct Reads;
/// The route needs [`Role::Review`].
pub(super) struct Reviews;
/// The route needs [`Role::Admin`].
pub(super) struct Administers;

impl Needs for Anybody {
    const ROLE: Option<Role> = None;
}
impl Needs for Ingests {
    const ROLE: Option<Role> = Some(Role::Ingest);
}
impl Needs for Reads {
    const ROLE: Option<Role> = Some(Role::Read);
}
impl Needs for Reviews {
    const ROLE: Option<Role> = Some(Role::Review);
}
impl Needs for Administers {
    const ROLE: Option<Role> = Some(Role::Admin);
}

/// Who asks, who has the role that the route needs. It stands first among what a route takes: who may not ask is told nothing of
/// what is wrong with the rest.
pub(in crate::http) struct Who<N> {
    /// Who it is.
    pub person: Person,
    needs: PhantomData<N>,
}

impl<N: Needs, S: Send + Sync> FromRequestParts<S> for Who<N> {
    type Rejection = Away;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Away> {
        Ok(Self { person: doors::with_role(&parts.extensions, N::ROLE)?, needs: PhantomData })
    }
}

impl<N: Needs> OperationInput for Who<N> {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        operation.security = ["key", "session"].map(|name| [(name.to_owned(), Vec::new())].into()).into();
        let role = N::ROLE.map_or("any", Role::as_str);
        operation.extensions.insert("x-role".to_owned(), role.into());
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Answer)> {
        refusals(ctx, &[401, 403])
    }
}

/// What stands in the path.
pub(super) struct At<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Away;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Away> {
        without_nul(parts)?;
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(at)) => Ok(Self(at)),
            Err(rejection) => Err(plain(StatusCode::BAD_REQUEST, &rejection.body_text()).into()),
        }
    }
}

impl<T: JsonSchema> OperationInput for At<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.root_schema_for::<T>();
        let parameters = parameters_from_schema(ctx, schema, ParamLocation::Path);
        add_parameters(ctx, operation, parameters);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Answer)> {
        refusals(ctx, &[400])
    }
}

/// What is wished for in the query.
pub(super) struct Wish<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Wish<T> {
    type Rejection = Away;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Away> {
        without_nul(parts)?;
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(wish)) => Ok(Self(wish)),
            Err(rejection) => Err(plain(StatusCode::BAD_REQUEST, &rejection.body_text()).into()),
        }
    }
}

impl<T: JsonSchema> OperationInput for Wish<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.root_schema_for::<T>();
        let parameters = parameters_from_schema(ctx, schema, ParamLocation::Query);
        add_parameters(ctx, operation, parameters);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Answer)> {
        refusals(ctx, &[400])
    }
}

/// Refuses an address with U+0000 in it: no id has it, and not every store can be asked for one.
fn without_nul(parts: &Parts) -> Result<(), Away> {
    match parts.uri.path_and_query().is_some_and(|address| address.as_str().contains("%00")) {
        true => Err(plain(StatusCode::BAD_REQUEST, "the address holds U+0000, which no id has").into()),
        false => Ok(()),
    }
}

/// A body of JSON.
pub(super) struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Away;

    async fn from_request(request: Request, state: &S) -> Result<Self, Away> {
        if !is_json(request.headers()) {
            let remedy = "set content-type to application/json";
            return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, remedy).into());
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            let error = format!("{}; at most {MAX_BODY_BYTES} bytes", rejection.body_text());
            plain(rejection.status(), &error)
        })?;
        Ok(Self(read(&body)?))
    }
}

/// A body of JSON, or none: then it is as if nothing stood in it.
pub(super) struct Optional<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Away;

    async fn from_request(request: Request, state: &S) -> Result<Self, Away> {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            return Ok(Self(T::default()));
        }
        Sent::from_request(Request::from_parts(parts, body), state).await.map(|Sent(body)| Self(body))
    }
}

impl<T: JsonSchema> OperationInput for Optional<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Sent::<T>::operation_input(ctx, operation);
        if let Some(ReferenceOr::Item(body)) = &mut operation.request_body {
            body.required = false;
        }
    }

    fn inferred_early_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<Code>, Answer)> {
        Sent::<T>::inferred_early_responses(ctx, operation)
    }
}

/// Reads a body, which is an object; says at which field it does not fit.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Away> {
    // An array would be taken for the fields in their order.
    if body.trim_ascii_start().starts_with(b"[") && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        return Err(
            plain(StatusCode::UNPROCESSABLE_ENTITY, "the body is an array, and has to be an object").into()
        );
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json);
    let fault = match read {
        Ok(value) => match json.end() {
            Ok(()) => return Ok(value),
            Err(error) => return Err(no_json(&error)),
        },
        Err(fault) => fault,
    };
    let path = fault.path().iter().fold(String::new(), |path, segment| format!("{path}/{segment}"));
    let error = fault.into_inner();
    if !error.is_data() {
        return Err(no_json(&error));
    }
    let fault = json!({ "pointer": path, "detail": error.to_string() });
    let told = "the body is not what this path takes; GET /v1/openapi.json tells what it is";
    Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, told, json!([fault])).into())
}

/// The body is no JSON.
fn no_json(error: &serde_json::Error) -> Away {
    plain(StatusCode::BAD_REQUEST, &format!("the body is not one JSON value: {error}")).into()
}

/// Whether a body says that it is JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

impl<T: JsonSchema> OperationInput for Sent<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let json_schema = ctx.schema.subschema_for::<T>();
        let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
        let content = [("application/json".to_owned(), MediaType { schema, ..MediaType::default() })].into();
        let body = RequestBody { content, required: true, ..RequestBody::default() };
        set_body(ctx, operation, body);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Answer)> {
        refusals(ctx, &[400, 413, 415, 422])
    }
}

/// A text as it is kept: what takes the place of U+0000, which not every store can keep, is what decoding puts there.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent, inline)]
pub(super) struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }))
    }
}

/// How many rows of a page are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(transparent, inline)]
pub(super) struct Limit(#[schemars(range(min = 1, max = MAX_PAGE))] pub u32);

impl Default for Limit {
    fn default() -> Self {
        Self(PAGE)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = u32::deserialize(deserializer)?;
        match (1..=MAX_PAGE).contains(&limit) {
            true => Ok(Self(limit)),
            false => Err(D::Error::custom(format!("need 1 to {MAX_PAGE}"))),
        }
    }
}

/// The ids of a call, as the producer wrote them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ids {
    /// Its tenant.
    pub tenant_id: Text,
    /// The producer's id of it.
    pub request_id: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        limit: Limit,
    }

    #[test]
    fn a_body_that_does_not_fit_is_refused_with_its_field() {
        assert_eq!(read::<Body>(b" {\"limit\": 7} ").unwrap(), Body { limit: Limit(7) });
        use axum::response::IntoResponse;
        let status = |body: &[u8]| read::<Body>(body).unwrap_err().into_response().status().as_u16();
        for (body, expected) in [
            (&b"{\"limit\": 0}"[..], 422),
            (b"{\"limit\": 201}", 422),
            (b"{\"limit\": 7, \"more\": 1}", 422),
            (b"{\"limit\": 7, \"limit\": 7}", 422),
            (b"{}", 422),
            (b"[]", 422),
            (b" [7]", 422),
            (b"[7", 400),
            (b"{\"limit\": 7", 400),
            (b"{\"limit\": 7} x", 400),
            (b"", 400),
            (b"\xff", 400),
        ] {
            assert_eq!(status(body), expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
