//! Pages for people: the queue of reviews. They work without JavaScript, and nothing of a call is ever markup in them.

mod answer;
mod review;
mod text;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use crate::{domain::Person, pipeline::ingest::Ingest, review::ReviewConfig, store::Store};

/// What a page may load and where its forms go: this service, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

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
        .layer(from_fn(guard))
}

/// One of our files.
async fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=3600")], text).into_response()
}

/// Lets no other site send our forms, says who asks, and what the page may load.
async fn guard(mut request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if request.method() == "POST" && !matches!(site, None | Some("same-origin" | "none")) {
        return (StatusCode::FORBIDDEN, "forms of other sites are not taken\n").into_response();
    }
    if request.extensions().get::<Person>().is_none() {
        request.extensions_mut().insert(Person::local());
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
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
