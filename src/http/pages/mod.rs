//! Pages for people: how it stands, reviews, calls, dead letters, the golden set. They work without JavaScript, and nothing of a call is ever markup in them.

mod answer;
mod away;
mod calls;
mod chart;
mod checked;
mod dead;
mod golden;
mod overview;
mod review;
mod story;
mod text;
pub(super) mod top;

use askama::Template;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Request},
    http::{HeaderValue, StatusCode, Uri, header, uri::PathAndQuery},
    middleware::{Next, from_fn},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use self::{
    away::Away,
    top::{FILES, Top},
};
use super::{House, refusal};
use crate::domain::Person;

/// The pages of the navigation: address and name.
pub(super) const NAVIGATION: [(&str, &str); 6] = [
    ("/", "Overview"),
    ("/calls", "Calls"),
    ("/review", "Review"),
    ("/review?disputed=true", "Disputed"),
    ("/golden", "Golden set"),
    ("/dead", "Dead letters"),
];

/// Largest form in bytes: two texts of the longest that are taken, each byte written as three.
const MAX_FORM_BYTES: usize = 160_000;

/// The routes of the pages.
pub(super) fn router(house: House) -> Router {
    Router::new()
        .merge(overview::router())
        .merge(review::router())
        .merge(calls::router())
        .merge(dead::router())
        .merge(golden::router())
        .with_state(house)
        .route("/static/{name}", get(file))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(from_fn(without_nul))
        .layer(from_fn(readable))
}

/// Lets no U+0000 in: no name of ours has it, and Postgres takes it in no text.
async fn without_nul(request: Request, next: Next) -> Response {
    match request.uri().path_and_query().map_or("", PathAndQuery::as_str).contains("%00") {
        true => Away::new(StatusCode::BAD_REQUEST, "No name has the character U+0000 (%00).").into_response(),
        false => next.run(request).await,
    }
}

/// What is asked for under an address that there is not: a program is told in its way.
async fn nowhere(uri: Uri) -> Response {
    match uri.path().starts_with("/v1/") {
        true => refusal::plain(
            StatusCode::NOT_FOUND,
            "there is nothing at this path; GET /v1/openapi.json tells what there is",
        ),
        false => Away::new(StatusCode::NOT_FOUND, "There is no page at this address.").into_response(),
    }
}

/// Makes the page of what went wrong for who asked, and one of what would else be a line of text.
async fn readable(request: Request, next: Next) -> Response {
    let person = request.extensions().get::<Person>().cloned();
    let answer = next.run(request).await;
    let Some(away) = answer.extensions().get().cloned().or_else(|| unreadable(&answer)) else {
        return answer;
    };
    match person {
        Some(person) => away.page(Top::of(&person, "")),
        None => away.into_response(),
    }
}

/// What an answer means that is a line of text: an address or a form that is none of ours.
fn unreadable(answer: &Response) -> Option<Away> {
    let is_text = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    let is_ours = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| !is_text(kind));
    let status = answer.status();
    if !status.is_client_error() || is_ours {
        return None;
    }
    let message = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "That is too much text for one form.",
        StatusCode::METHOD_NOT_ALLOWED => "That cannot be done at this address.",
        _ => "The address or the form is not one of ours. Go back and try again.",
    };
    Some(Away::new(status, message))
}

/// One of our files; its address changes when it does.
async fn file(Path(name): Path<String>) -> Response {
    match FILES.into_iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => {
            let keep = "max-age=31536000, immutable";
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep)], text).into_response()
        }
        None => Away::missing("file").into_response(),
    }
}

/// A page; 500 where it cannot be made, which is a fault of ours.
fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, [(header::CACHE_CONTROL, "no-store")], Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n").into_response()
        }
    }
}
