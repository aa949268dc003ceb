//! What became of a call: its evaluations, and all that is known of it.

use aide::axum::{ApiRouter, routing::get_with};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    asked::{At, Reads, WITHOUT_NUL, Who},
    told::{Told, described, failed, missing},
};
use crate::{
    domain::Evaluation,
    http::{House, refusal::Away},
    store::Story,
};

/// A call.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfCall {
    /// Its tenant, as the producer wrote it.
    #[schemars(length(min = 1), regex(pattern = WITHOUT_NUL))]
    tenant: String,
    /// The producer's id of it, as the producer wrote it.
    #[schemars(length(min = 1), regex(pattern = WITHOUT_NUL))]
    request_id: String,
}

/// Evaluations of one call.
#[derive(Debug, Serialize, JsonSchema)]
struct Evaluations {
    /// One for each evaluator version, oldest first; none where the call is known and not decided yet.
    evaluations: Vec<Evaluation>,
}

/// The routes.
pub(super) fn routes() -> ApiRouter<House> {
    let evaluations = get_with(evaluations, |operation| {
        described(operation, "evaluations", "What each evaluator version found out about a call", &[404])
    });
    let why = get_with(why, |operation| {
        let summary = "All that is known of a call; what people said of it once it is decided";
        described(operation, "why", summary, &[404])
    });
    ApiRouter::new()
        .api_route("/v1/evaluations/{tenant}/{request_id}", evaluations)
        .api_route("/v1/why/{tenant}/{request_id}", why)
}

/// The evaluations of a call.
async fn evaluations(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    At(OfCall { tenant, request_id }): At<OfCall>,
) -> Result<Told<Evaluations>, Away> {
    let story = house.story(&person, &tenant, &request_id).await.map_err(|error| failed(&error))?;
    let evaluations = story.ok_or_else(|| missing("call"))?.evaluations;
    Ok(Told(Evaluations { evaluations }))
}

/// The story of a call.
async fn why(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    At(OfCall { tenant, request_id }): At<OfCall>,
) -> Result<Told<Story>, Away> {
    let story = house.story(&person, &tenant, &request_id).await.map_err(|error| failed(&error))?;
    story.map(Told).ok_or_else(|| missing("call"))
}
