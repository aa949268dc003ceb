//! Pages for people: the queue of reviews. They work without JavaScript, and nothing of a call is ever markup in them.

mod answer;
mod review;
mod text;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use crate::{pipeline::ingest::Ingest, review::ReviewConfig, store::Store};

/// What the pages are made of.
#[derive(Clone)]
pub struct Pages {
    /// Where calls, items and labels are.
    pub store: Arc<dyn Store>,
    /// Redacts what people write.
    pub ingest: Arc<Ingest>,
    /// Times and shares of reviews.
    pub review: ReviewConfig,
    /// Names of the sinks that are told of labels.
    pub sinks: Vec<String>,
}

/// The routes of the pages.
pub(super) fn router(pages: Pages) -> Router {
    Router::new()
        .merge(review::router())
        .with_state(pages)
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
