//! What became of a call: its evaluations, and all that is known of it.

use aide::axum::{ApiRouter, routing::get_with};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    asked::{At, Limit, Reads, WITHOUT_NUL, Who, Wish},
    told::{Told, described, failed, missing},
};
use crate::{
    domain::{Evaluation, Verdict},
    http::{House, refusal::Away},
    store::{Checked, Place, Sought, Story},
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
    /// Older than what is at this place: `next` of a page.
    #[serde(default, deserialize_with = "place")]
    #[schemars(with = "Option<String>", regex(pattern = PLACE))]
    before: Option<Place>,
    /// At most so many.
    #[serde(default)]
    limit: Limit,
}

/// Evaluations of many calls.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NewestEvaluations")]
struct Newest {
    /// Newest first.
    evaluations: Vec<Checked>,
    /// Where the next page begins, for `before`; null where there is no more.
    next: Option<String>,
}

/// What a place is as a text.
const PLACE: &str = "^[0-9]{1,15}_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// Reads a place.
fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Place>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
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
    Wish(Listed { verdict, feature, rule, before, limit }): Wish<Listed>,
) -> Result<Told<Newest>, Away> {
    let sought = Sought {
        verdict: verdict.map(Verdict::as_str),
        feature: feature.as_deref(),
        rule: rule.as_deref(),
        before,
        limit: limit.0,
        ..Sought::default()
    };
    let evaluations = house.checked(&person, &sought).await.map_err(|error| failed(&error))?;
    let is_full = evaluations.len() >= limit.0 as usize;
    let next = evaluations.last().filter(|_| is_full).map(|last| last.place().to_string());
    Ok(Told(Newest { evaluations, next }))
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
