//! `/review`: the next item, its label, and taking that back.

use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    answer::Exhibit,
    away::{Away, needs},
    page,
    text::{Shown, shown},
    top::{Top, plain},
};
use crate::{
    domain::{Person, ReviewState, Role, Said},
    http::House,
    review::{self, Case, Desk, DeskError, Opinion},
    store::reviewing::{LabelEntry, LabelKind, QueueState, QueuedReview, Refusal},
};

/// Most bytes of the page for each text of a label that others gave.
const OPINION_BYTES: usize = 4_000;

/// The routes.
pub(super) fn router() -> Router<House> {
    Router::new()
        .route("/review", get(next))
        .route("/review/undo", post(undo))
        .route("/review/{review_id}", get(one))
        .route("/review/{review_id}/label", post(label))
        .route("/review/{review_id}/skip", post(skip))
}

/// What the page was asked for with.
#[derive(Deserialize)]
struct Wish {
    /// What was just said, in a word.
    said: Option<String>,
    /// Of which item.
    of: Option<Uuid>,
    /// Whether the next item whose labels differ is wanted.
    #[serde(default)]
    disputed: bool,
}

/// The form of a label.
#[derive(Default, Deserialize)]
struct Filled {
    #[serde(default)]
    token: String,
    #[serde(default)]
    said: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    expected: String,
    #[serde(default)]
    adjudicates: bool,
}

/// The form that takes a label back.
#[derive(Deserialize)]
struct Undoing {
    /// The item whose label it is; a page of a version before this names none, and means the last.
    review_id: Option<Uuid>,
}

/// The page of one item, or of an empty queue.
#[derive(Template)]
#[template(path = "review.html")]
struct ReviewPage {
    top: Top,
    queue: QueueState,
    told: Told,
    item: Option<Item>,
    filled: Filled,
}

/// What became of what was just done.
#[derive(Default)]
struct Told {
    message: String,
    /// Whether it was a label.
    is_label: bool,
    /// Whose label it was, which can be taken back.
    undo: Option<Uuid>,
}

impl Told {
    /// A message after which there is nothing to take back.
    fn of(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}

/// An item as it is shown.
struct Item {
    review_id: Uuid,
    tenant: Shown,
    request: Shown,
    feature: Shown,
    reason: String,
    labels: String,
    closed: bool,
    /// The labels that differ: what each says, why, and what the answer should have been.
    opinions: Vec<(&'static str, Shown, Option<Shown>)>,
    exhibit: Exhibit,
}

/// Takes the next item and shows it.
async fn next(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Query(wish): Query<Wish>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    let desk = house.desk(&person);
    let said = wish.said.as_deref();
    let told = match said.and_then(Said::of) {
        Some(said) => Told { message: format!("labelled {}", said.as_str()), is_label: true, undo: wish.of },
        None if said == Some("skip") => Told::of("skipped"),
        None => Told::default(),
    };
    let held = desk.next(wish.disputed).await?;
    let mut filled = Filled { adjudicates: wish.disputed, ..Filled::default() };
    let item = match held {
        Some(held) => {
            filled.token = held.token.to_string();
            Some(item(&desk, held.item).await?)
        }
        None => None,
    };
    show((&desk, &person), StatusCode::OK, told, item, filled).await
}

/// Shows one item and takes it from nobody.
async fn one(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(review_id): Path<Uuid>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    let desk = house.desk(&person);
    let queued = desk.find(review_id).await?;
    let filled = Filled {
        adjudicates: queued.state == ReviewState::Disputed,
        ..taken_back(&house, &queued, &person).await?
    };
    let item = item(&desk, queued).await?;
    show((&desk, &person), StatusCode::OK, Told::default(), Some(item), filled).await
}

/// What somebody wrote at the label that they have just taken back, so that they go on from there; nothing where they have not.
async fn taken_back(house: &House, queued: &QueuedReview, person: &Person) -> Result<Filled, Away> {
    if queued.held_by.as_ref() != Some(&person.name) {
        return Ok(Filled::default());
    }
    let entries = house.store.labels(queued.evaluation_id).await?;
    let mut own = entries.into_iter().rev().filter(|entry| entry.reviewer == person.name);
    match (own.next(), own.find(|entry| entry.kind != LabelKind::Undo)) {
        (Some(LabelEntry { kind: LabelKind::Undo, .. }), Some(label)) => {
            Ok(Filled { note: label.note, expected: label.expected.unwrap_or_default(), ..Filled::default() })
        }
        _ => Ok(Filled::default()),
    }
}

/// Takes a label, and goes to the next item. Where it is refused, what was typed stays.
async fn label(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(review_id): Path<Uuid>,
    Form(mut filled): Form<Filled>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    let desk = house.desk(&person);
    let queued = desk.find(review_id).await?;
    let Some(said) = Said::of(&filled.said) else {
        let told = Told::of("choose pass, fail or unsure");
        let item = item(&desk, queued).await?;
        return show((&desk, &person), StatusCode::UNPROCESSABLE_ENTITY, told, Some(item), filled).await;
    };
    let answer = review::Answer {
        review_id,
        token: Uuid::parse_str(&filled.token).ok(),
        said,
        // People quote calls, and more than stands in them.
        note: house.ingest.redacted(&filled.note),
        expected: Some(house.ingest.redacted(&filled.expected)),
    };
    let (status, message) = match desk.label(answer, filled.adjudicates).await {
        Ok(_) => {
            let also = if filled.adjudicates { "&disputed=true" } else { "" };
            let next = format!("/review?said={}&of={review_id}{also}", said.as_str());
            return Ok(Redirect::to(&next).into_response());
        }
        Err(DeskError::Store(error)) => return Err(error.into()),
        Err(DeskError::Refused(Refusal::Missing)) => return Err(Away::missing("item")),
        Err(DeskError::Refused(refusal)) => (StatusCode::CONFLICT, format!("not saved: {refusal}")),
        Err(unfit) => (StatusCode::UNPROCESSABLE_ENTITY, format!("not saved: {unfit}")),
    };
    filled.token.clear();
    let item = item(&desk, queued).await?;
    show((&desk, &person), status, Told::of(message), Some(item), filled).await
}

/// Lets go of an item, and goes to the next.
async fn skip(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(review_id): Path<Uuid>,
    Form(filled): Form<Filled>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    let desk = house.desk(&person);
    desk.skip(review_id, Uuid::parse_str(&filled.token).ok()).await?;
    let also = if filled.adjudicates { "&disputed=true" } else { "" };
    Ok(Redirect::to(&format!("/review?said=skip{also}")).into_response())
}

/// Takes back a label, and shows its item again. Sent twice, it takes back no other.
async fn undo(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Form(Undoing { review_id }): Form<Undoing>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    let item = house.desk(&person).undo(review_id).await?;
    Ok(Redirect::to(&format!("/review/{}", item.review_id)).into_response())
}

/// What is shown of an item.
async fn item(desk: &Desk, queued: QueuedReview) -> Result<Item, Away> {
    let Case { call, evaluation, opinions } = desk.look(&queued).await?;
    Ok(Item {
        review_id: queued.review_id,
        tenant: shown(&queued.tenant_id, 400),
        request: shown(&queued.request_id, 400),
        feature: shown(&queued.feature, 400),
        reason: plain(queued.reason.as_str()),
        labels: format!("{} of {}", queued.labels, queued.wanted),
        closed: queued.state == ReviewState::Closed,
        opinions: opinions.iter().map(opinion).collect(),
        exhibit: match (&call, &evaluation) {
            (Some(call), Some(evaluation)) => Exhibit::of(call, evaluation),
            _ => Exhibit::default(),
        },
    })
}

/// One of the labels that differ.
fn opinion(Opinion { said, note, expected }: &Opinion) -> (&'static str, Shown, Option<Shown>) {
    let text = |text: &String| shown(text, OPINION_BYTES);
    (said.as_str(), text(note), expected.as_ref().map(text))
}

/// The page.
async fn show(
    (desk, person): (&Desk, &Person),
    status: StatusCode,
    told: Told,
    item: Option<Item>,
    filled: Filled,
) -> Result<Response, Away> {
    let queue = desk.state().await?;
    let top = Top::of(person, if filled.adjudicates { "/review?disputed=true" } else { "/review" });
    Ok(page(status, &ReviewPage { top, queue, told, item, filled }))
}
