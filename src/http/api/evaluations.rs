//! What became of a call: its evaluations, and all that is known of it.

use aide::axum::{ApiRouter, routing::get_with};
use axum::{extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    asked::{At, Limit, Reads, WITHOUT_NUL, Who, Wish},
    told::{Told, described, failed, missing},
};
use crate::{
    domain::{Evaluation, Verdict},
    http::{
        House,
        refusal::{Away, plain},
    },
    store::{Checked, Sought, Story},
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

/// Which evaluations are listed: of the newest 10,000 of fourteen days, which the overview counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// With this verdict.
    #[serde(default)]
    verdict: Option<Verdict>,
    /// Of this feature.
    #[serde(default)]
    #[schemars(regex(pattern = WITHOUT_NUL))]
    feature: Option<String>,
    /// Of which this rule failed, could not tell or could not run.
    #[serde(default)]
    #[schemars(regex(pattern = WITHOUT_NUL))]
    rule: Option<String>,
    /// Older than this one: `evaluated_ms` of the last one of a page, with `before_id`.
    #[serde(default)]
    before_ms: Option<i64>,
    /// `evaluation_id` of the last one of a page.
    #[serde(default)]
    before_id: Option<Uuid>,
    /// At most so many.
    #[serde(default)]
    limit: Limit,
}

/// Evaluations of many calls.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NewestEvaluations")]
struct Newest {
    /// Newest first. Where there are as many as were wanted, there may be more.
    evaluations: Vec<Checked>,
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
    let newest = get_with(newest, |operation| {
        let summary = "The newest evaluations, by verdict, feature or rule that does not pass";
        described(operation, "newest", summary, &[])
    });
    ApiRouter::new()
        .api_route("/v1/evaluations", newest)
        .api_route("/v1/evaluations/{tenant}/{request_id}", evaluations)
        .api_route("/v1/why/{tenant}/{request_id}", why)
}

/// The newest evaluations.
async fn newest(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    Wish(Listed { verdict, feature, rule, before_ms, before_id, limit }): Wish<Listed>,
) -> Result<Told<Newest>, Away> {
    let before = match (before_ms, before_id) {
        (Some(at), Some(id)) => Some((at, id)),
        (None, None) => None,
        _ => return Err(plain(StatusCode::BAD_REQUEST, "before_ms and before_id go together").into()),
    };
    let sought = Sought {
        verdict: verdict.map(Verdict::as_str),
        feature: feature.as_deref(),
        rule: rule.as_deref(),
        before,
        limit: limit.0,
        ..Sought::default()
    };
    let evaluations = house.checked(&person, &sought).await.map_err(|error| failed(&error))?;
    Ok(Told(Newest { evaluations }))
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
