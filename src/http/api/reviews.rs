//! The queue of reviews: what waits, the next item, its label, and taking that back. Nothing tells what others said of an item.

use aide::axum::{
    ApiRouter,
    routing::{get_with, post_with},
};
use axum::{extract::State, http::StatusCode, response::NoContent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    asked::{At, Ids, Limit, Optional, Reviews, Sent, Text, Who, Wish},
    told::{Perhaps, Told, described, failed, missing},
};
use crate::{
    domain::{Call, Evaluation, ReviewState, Said},
    http::{
        House,
        refusal::{Away, plain, refuse},
    },
    review::{Answer, Case, Desk, DeskError, Opinion},
    store::reviewing::{Labelled, QueueState, QueuedReview, Refusal, Taken as Asked},
};

/// Which items are listed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Those that stand so; without it, all that are not closed.
    #[serde(default)]
    state: Option<ReviewState>,
    /// Behind this item.
    #[serde(default)]
    after: Option<Uuid>,
    /// At most so many.
    #[serde(default)]
    limit: Limit,
}

/// What waits.
#[derive(Debug, Serialize, JsonSchema)]
struct Waiting {
    /// How the queue stands for who asks.
    queue: QueueState,
    /// Items, in the order of the queue.
    reviews: Vec<QueuedReview>,
    /// Where the next page begins, for `after`; null where there is no more.
    next: Option<Uuid>,
}

/// An item.
#[derive(Debug, Deserialize, JsonSchema)]
struct One {
    /// Its id.
    review_id: Uuid,
}

/// Which item is wanted next.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Next {
    /// Whether one whose labels differ is wanted, to decide between them.
    #[serde(default)]
    disputed: bool,
}

/// An item with what is looked at.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ShownReview")]
struct Shown {
    #[serde(flatten)]
    item: QueuedReview,
    /// The call, as far as it is kept.
    call: Option<Call>,
    /// What the checks found.
    evaluation: Option<Evaluation>,
    /// The labels that differ, without whose they are, for who decides between them; of an item in another state none.
    opinions: Vec<Opinion>,
}

/// An item that who asks holds now.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HeldReview")]
struct Taken {
    #[serde(flatten)]
    shown: Shown,
    /// Proves that it is still held: the label wants it.
    token: Uuid,
    /// Until when, in Unix milliseconds.
    until_ms: i64,
}

/// A label.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Labelling {
    /// What is said of the answer.
    said: Said,
    /// Token of the hold; without one, the item must be free or held by who asks.
    #[serde(default)]
    token: Option<Uuid>,
    /// Why, at most 20,000 bytes; redacted before it is kept.
    #[serde(default)]
    note: Text,
    /// What the answer should have been, at most 20,000 bytes; redacted before it is kept.
    #[serde(default)]
    expected: Option<Text>,
    /// Whether it decides between labels that differ.
    #[serde(default)]
    adjudicates: bool,
}

/// An item that is let go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Skipping {
    /// Token of the hold; without one, the item must be free or held by who asks.
    #[serde(default)]
    token: Option<Uuid>,
}

/// A label that is taken back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Undoing {
    /// The item whose label it is; without it, the one that who asks labelled last.
    #[serde(default)]
    review_id: Option<Uuid>,
}

/// The routes.
pub(super) fn routes() -> ApiRouter<House> {
    let queue = get_with(list, |operation| {
        let summary = "What waits for a label or a decision, or is decided, a page at a time. 404 where `after` is gone";
        described(operation, "reviews", summary, &[404])
    })
    .post_with(ask, |operation| {
        let summary = "Has a call come to review because who asks wants its label; a repeat changes nothing";
        described(operation, "askForReview", summary, &[404])
    });
    let one = get_with(show, |operation| {
        described(operation, "review", "One item, with the call and what the checks found", &[404])
    });
    let next = post_with(next, |operation| {
        let summary = "Takes the next item and holds it; asked again, the same. 204 where none waits";
        described(operation, "nextReview", summary, &[])
    });
    let label = post_with(label, |operation| {
        described(operation, "labelReview", "Labels an item, or decides between its labels", &[404, 409])
    });
    let skip = post_with(skip, |operation| {
        described(
            operation,
            "skipReview",
            "Lets go of an item, for good; a repeat changes nothing",
            &[404, 409],
        )
    });
    let undo = post_with(undo, |operation| {
        let summary = "Takes back the label of who asks on an item, who holds it again unless somebody else does; a repeat changes \
                       nothing. Without an item, their last one";
        described(operation, "undoReview", summary, &[404, 409])
    });
    ApiRouter::new()
        .api_route("/v1/reviews", queue)
        .api_route("/v1/reviews/next", next)
        .api_route("/v1/reviews/undo", undo)
        .api_route("/v1/reviews/{review_id}", one)
        .api_route("/v1/reviews/{review_id}/label", label)
        .api_route("/v1/reviews/{review_id}/skip", skip)
}

/// What waits for who asks.
async fn list(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    Wish(Listed { state, after, limit }): Wish<Listed>,
) -> Result<Told<Waiting>, Away> {
    let desk = house.desk(&person);
    let queue = desk.state().await.map_err(refused)?;
    let reviews = desk.list(state, after, limit.0).await.map_err(refused)?;
    let is_full = u32::try_from(reviews.len()).is_ok_and(|count| count == limit.0);
    let next = reviews.last().filter(|_| is_full).map(|item| item.review_id);
    Ok(Told(Waiting { queue, reviews, next }))
}

/// Has a call come to review.
async fn ask(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    Sent(Ids { tenant_id, request_id }): Sent<Ids>,
) -> Result<Told<Asked>, Away> {
    let asked = house.ask(&person, &tenant_id.0, &request_id.0).await.map_err(|error| failed(&error))?;
    asked.map(Told).ok_or_else(|| missing("evaluated call"))
}

/// One item; it is taken from nobody.
async fn show(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    At(One { review_id }): At<One>,
) -> Result<Told<Shown>, Away> {
    let desk = house.desk(&person);
    let item = desk.find(review_id).await.map_err(refused)?;
    Ok(Told(shown(&desk, item).await?))
}

/// Takes the next item.
async fn next(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    Wish(Next { disputed }): Wish<Next>,
) -> Result<Perhaps<Taken>, Away> {
    let desk = house.desk(&person);
    let Some(held) = desk.next(disputed).await.map_err(refused)? else { return Ok(Perhaps(None)) };
    let shown = shown(&desk, held.item).await?;
    Ok(Perhaps(Some(Taken { shown, token: held.token, until_ms: held.until_ms })))
}

/// Labels an item.
async fn label(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    At(One { review_id }): At<One>,
    Sent(labelling): Sent<Labelling>,
) -> Result<Told<Labelled>, Away> {
    let Labelling { said, token, note, expected, adjudicates } = labelling;
    // People quote calls, and more than stands in them.
    let written = |Text(text): Text| house.ingest.redacted(&text);
    let answer = Answer { review_id, token, said, note: written(note), expected: expected.map(written) };
    house.desk(&person).label(answer, adjudicates).await.map(Told).map_err(refused)
}

/// Lets go of an item.
async fn skip(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    At(One { review_id }): At<One>,
    Sent(Skipping { token }): Sent<Skipping>,
) -> Result<NoContent, Away> {
    house.desk(&person).skip(review_id, token).await.map_err(refused)?;
    Ok(NoContent)
}

/// Takes back a label.
async fn undo(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    Optional(Undoing { review_id }): Optional<Undoing>,
) -> Result<Told<QueuedReview>, Away> {
    match house.desk(&person).undo(review_id).await {
        Err(DeskError::Refused(Refusal::Missing)) => Err(missing("label to take back")),
        undone => undone.map(Told).map_err(refused),
    }
}

/// An item with what is looked at.
async fn shown(desk: &Desk, item: QueuedReview) -> Result<Shown, Away> {
    let Case { call, evaluation, opinions } = desk.look(&item).await.map_err(refused)?;
    Ok(Shown { item, call, evaluation, opinions })
}

/// What is told of what was not done.
fn refused(error: DeskError) -> Away {
    match error {
        DeskError::Store(error) => failed(&error),
        DeskError::Refused(Refusal::Missing) => missing("item"),
        DeskError::Refused(refusal) => {
            refuse(StatusCode::CONFLICT, &refusal.to_string(), json!([{ "class": refusal }])).into()
        }
        unfit @ DeskError::Unfit { .. } => plain(StatusCode::UNPROCESSABLE_ENTITY, &unfit.to_string()).into(),
    }
}
