//! Pages for people: the queue of reviews. They work without JavaScript, and nothing of a call is ever markup in them.

mod answer;
mod review;
mod text;

use askama::Template;
use axum::{
    Router,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use super::House;

/// The routes of the pages.
pub(super) fn router(house: House) -> Router {
    Router::new()
        .merge(review::router())
        .with_state(house)
        .route(
            "/static/pages.css",
            get(|| file("text/css; charset=utf-8", include_str!("../static/pages.css"))),
        )
        .route("/static/pages.js", get(|| file("text/javascript", include_str!("../static/pages.js"))))
}

/// One of our files.
async fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=3600")], text).into_response()
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
