//! The OpenAPI document.

use std::sync::OnceLock;

use aide::{
    axum::ApiRouter,
    generate,
    openapi::{ApiKeyLocation, OpenApi, SecurityScheme},
    transform::TransformOpenApi,
};
use axum::Router;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::http::{House, doors};

/// What the document says of itself.
const DESCRIPTION: &str = "\
What the pages show and do, and who may come in. A program sends a key, a browser the cookie of its session. A key may be held to tenants: \
what it does not see is not there for it. Times are Unix milliseconds where a field ends in `_ms`, else RFC 3339. Errors have one \
shape, Refusal. `x-role` names the role that an operation needs.";

/// The document as it is served.
pub(in crate::http) fn json() -> &'static Map<String, Value> {
    static JSON: OnceLock<Map<String, Value>> = OnceLock::new();
    JSON.get_or_init(|| {
        let (_, document) = of(super::routes());
        // It is an object, and has no map with other keys than texts: neither can fail.
        match serde_json::to_value(document) {
            Ok(Value::Object(document)) => document,
            _ => Map::new(),
        }
    })
}

/// Has the schemas that are collected from now on be those of OpenAPI 3.1: JSON Schema 2020-12.
pub(super) fn begin() {
    generate::reset_context();
    generate::in_context(|ctx| {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "#/components/schemas/".into();
            settings.meta_schema = None;
        });
        ctx.schema = settings.into_generator();
    });
}

/// The routes, and the document of them.
pub(super) fn of(routes: ApiRouter<House>) -> (Router<House>, OpenApi) {
    let mut document = OpenApi::default();
    let router = routes.finish_api_with(&mut document, about);
    (router, document)
}

/// What is said beside the operations.
fn about(document: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let key = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: None,
        description: Some("A key that `aftercheck keys add` has made.".to_owned()),
        extensions: Default::default(),
    };
    let session = SecurityScheme::ApiKey {
        location: ApiKeyLocation::Cookie,
        name: doors::COOKIE.to_owned(),
        description: Some("The cookie that /sign-in sets; over TLS its name begins with __Host-.".to_owned()),
        extensions: Default::default(),
    };
    document
        .title("aftercheck")
        .version("1")
        .description(DESCRIPTION)
        .security_scheme("key", key)
        .security_scheme("session", session)
}
