//! `/dead`: calls that could not be checked and scores that could not be delivered, and what can be done about them.

use askama::Template;
use axum::{
    Extension, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    away::{Away, needs},
    calls, page,
    text::{Shown, shown},
    top::{Top, moment, plain},
};
use crate::{
    domain::{Person, Role},
    http::house::House,
    pipeline::dead_letters::Dead,
    store::{DeadDelivery, DeadLetterRow},
};

/// Most rows of each list.
const MAX_ROWS: u32 = 100;
/// Most bytes of the page for a dead letter.
const LETTER_BYTES: usize = 60_000;

/// The routes.
pub(super) fn router() -> Router<House> {
    Router::new()
        .route("/dead", get(list))
        .route("/dead/{id}", get(one))
        .route("/dead/{id}/requeue", post(requeue))
        .route("/dead/{id}/drop", post(drop_it))
}

/// What was just done, in a word.
#[derive(Deserialize)]
struct Wish {
    said: Option<String>,
}

/// The page of all.
#[derive(Template)]
#[template(path = "dead.html")]
struct DeadPage {
    top: Top,
    message: &'static str,
    /// What the rows of each list are.
    lists: [(&'static str, Vec<Row>); 2],
    most: usize,
}

/// The page of one.
#[derive(Template)]
#[template(path = "letter.html")]
struct LetterPage {
    top: Top,
    row: Row,
    payload: Shown,
}

/// One that is dead.
struct Row {
    id: Uuid,
    what: String,
    place: Shown,
    detail: Shown,
    remedy: Shown,
    request: Shown,
    path: String,
    tries: i64,
    at: String,
}

/// Shows all, newest first.
async fn list(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Query(wish): Query<Wish>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    let office = house.office(&person);
    let letters = office.letters(None, MAX_ROWS).await?;
    let deliveries = office.deliveries(None, MAX_ROWS).await?;
    let message = match wish.said.as_deref() {
        Some("requeued") => "It is tried again.",
        Some("dropped") => "It is gone; the ledger keeps that it was.",
        _ => "",
    };
    let lists = [
        ("Calls that could not be checked", letters.iter().map(letter).collect()),
        ("Scores that could not be delivered", deliveries.iter().map(delivery).collect()),
    ];
    let (top, most) = (Top::of(&person, "/dead"), MAX_ROWS as usize);
    Ok(page(StatusCode::OK, &DeadPage { top, message, lists, most }))
}

/// Shows one, with what redaction left of it.
async fn one(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(id): Path<Uuid>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    let (row, payload) = match house.office(&person).find(id).await? {
        Dead::Letter(found) => {
            (letter(&found), shown(&String::from_utf8_lossy(&found.payload), LETTER_BYTES))
        }
        Dead::Delivery(found) => (delivery(&found), Shown::default()),
    };
    Ok(page(StatusCode::OK, &LetterPage { top: Top::of(&person, "/dead"), row, payload }))
}

/// Tries one again.
async fn requeue(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(id): Path<Uuid>,
) -> Result<Response, Away> {
    needs(&person, Role::Admin)?;
    house.office(&person).requeue(id).await?;
    Ok(Redirect::to("/dead?said=requeued").into_response())
}

/// Lets one go.
async fn drop_it(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(id): Path<Uuid>,
) -> Result<Response, Away> {
    needs(&person, Role::Admin)?;
    house.office(&person).drop(id).await?;
    Ok(Redirect::to("/dead?said=dropped").into_response())
}

/// A dead letter as a row.
fn letter(row: &DeadLetterRow) -> Row {
    Row {
        id: row.dead_letter_id,
        what: plain(&row.class),
        place: shown(row.place(), 300),
        detail: shown(&row.detail, 400),
        remedy: shown(&row.remedy, 400),
        request: shown(row.request_id.as_deref().unwrap_or("–"), 200),
        path: story(row.tenant_id.as_deref(), row.request_id.as_deref()),
        tries: row.attempts,
        at: moment(row.created_ms),
    }
}

/// A dead delivery as a row.
fn delivery(row: &DeadDelivery) -> Row {
    Row {
        id: row.delivery_id,
        what: if row.retracts { "not taken back".to_owned() } else { "not delivered".to_owned() },
        place: shown(&row.sink, 300),
        detail: shown(&row.reason, 400),
        remedy: shown("mend what the sink says, then try it again", 400),
        request: shown(row.request_id.as_deref().unwrap_or("–"), 200),
        path: story(row.tenant_id.as_deref(), row.request_id.as_deref()),
        tries: row.attempts,
        at: moment(row.created_ms),
    }
}

/// The address of a call's page; empty where the call is not known.
fn story(tenant: Option<&str>, request: Option<&str>) -> String {
    request.map_or_else(String::new, |request| calls::path(tenant.unwrap_or("-"), request))
}
