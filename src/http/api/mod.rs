//! The API: all that people see and do at the pages, for programs, under `/v1/`.
//!
//! Each file has the routes of one concern. What a route takes and answers is said once, in the types of its function: from these
//! the OpenAPI document is made ([`document`]), so that it cannot say anything else.

mod asked;
mod dead;
pub(super) mod document;
mod evaluations;
mod feedback;
mod golden;
mod people;
mod report;
mod reviews;
mod sinks;
pub(super) mod told;

use aide::axum::{ApiRouter, routing::get_with};
use axum::{Router, extract::DefaultBodyLimit};
use serde_json::{Map, Value};

use self::{
    asked::{Anybody, MAX_BODY_BYTES},
    told::{Told, described},
};
use super::{House, calls, refusal::Away};
pub(super) use asked::{Ingests, Who};

/// The routes.
pub(super) fn router(house: House) -> Router {
    document::of(routes()).0.with_state(house)
}

/// All routes, with what the document says of them.
fn routes() -> ApiRouter<House> {
    document::begin();
    let openapi = get_with(openapi, |operation| described(operation, "openapi", "This document", &[]));
    let small = ApiRouter::new()
        .merge(evaluations::routes())
        .merge(report::routes())
        .merge(reviews::routes())
        .merge(golden::routes())
        .merge(dead::routes())
        .merge(sinks::routes())
        .merge(people::routes())
        .merge(feedback::routes())
        .api_route("/v1/openapi.json", openapi)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    calls::routes().merge(small)
}

/// The document.
async fn openapi(_: Who<Anybody>) -> Result<Told<&'static Map<String, Value>>, Away> {
    Ok(Told(document::json()))
}
