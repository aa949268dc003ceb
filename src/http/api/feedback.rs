//! `POST /v1/feedback`: what a user did with an answer, where it comes later than the call.

use aide::axum::{ApiRouter, routing::post_with};
use axum::{extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{
    asked::{Ingests, Sent, Text, Who},
    told::{Told, described, failed},
};
use crate::{
    domain::call::{Feedback, Thumbs},
    http::{
        House,
        refusal::{Away, plain},
    },
    pipeline::{feedback, priority::Priorities},
    store::reviewing::Taken,
};

/// What a user did with an answer: at least one of the three.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 3))]
struct Late {
    /// Tenant of the call, as the producer wrote it.
    tenant_id: Text,
    /// The producer's id of the call, as the producer wrote it.
    request_id: Text,
    /// Thumb.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Thumbs")]
    thumbs: Option<Thumbs>,
    /// Whether the user asked for a person.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "bool")]
    escalated: Option<bool>,
    /// Customer satisfaction, 1 to 5.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "u8", range(min = 1, max = 5))]
    csat: Option<u8>,
}

/// A field that may be left out, but is something where it stands.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The route.
pub(super) fn routes() -> ApiRouter<House> {
    let feedback = post_with(take, |operation| {
        let summary =
            "Takes what a user did with an answer after its call was evaluated; a repeat changes nothing";
        described(operation, "sendFeedback", summary, &[404])
    });
    ApiRouter::new().api_route("/v1/feedback", feedback)
}

/// Takes it.
async fn take(
    Who { person, .. }: Who<Ingests>,
    State(house): State<House>,
    Sent(late): Sent<Late>,
) -> Result<Told<Taken>, Away> {
    let Late { tenant_id, request_id, thumbs, escalated, csat } = late;
    if thumbs.is_none() && escalated.is_none() && csat.is_none() {
        let remedy = "say at least one of thumbs, escalated and csat";
        return Err(plain(StatusCode::UNPROCESSABLE_ENTITY, remedy).into());
    }
    if csat.is_some_and(|csat| !(1..=5).contains(&csat)) {
        return Err(plain(StatusCode::UNPROCESSABLE_ENTITY, "csat: need 1 to 5").into());
    }
    let redactor = &house.shelf.redactor;
    let (tenant_id, request_id) = (redactor.identity(&tenant_id.0), redactor.identity(&request_id.0));
    if !person.sees(&tenant_id) {
        return Err(unknown());
    }
    let (tenant_weights, second_share) = (house.review.tenant_weights.clone(), house.review.second_share);
    let priorities = Priorities { tenant_weights, second_share };
    let feedback = Feedback { thumbs, escalated: escalated.unwrap_or(false), csat };
    let taken = feedback::hear(&*house.store, &priorities, (&tenant_id, &request_id), &feedback).await;
    taken.map_err(|error| failed(&error))?.map(Told).ok_or_else(unknown)
}

/// The call is not there, not yet, or not for who asks.
fn unknown() -> Away {
    let remedy = "no call of these ids has been evaluated here: send it again later where the call is still on its way";
    plain(StatusCode::NOT_FOUND, remedy).into()
}
