//! HTTP: calls come in, people sign in, people and programs look and work, health, readiness and metrics go out.

mod api;
mod calls;
pub mod config;
mod doors;
mod glance;
mod health;
mod house;
mod pages;
mod refusal;
mod sign_in;

use std::{future::IntoFuture, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

pub use doors::Doors;
pub use glance::Glances;
pub use health::Health;
pub use house::House;

/// The OpenAPI document of everything under `/v1/`.
pub fn openapi() -> &'static serde_json::Map<String, serde_json::Value> {
    api::document::json()
}

/// How long open connections may take to end after shutdown.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// How long one request may take, reading its body included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// What is said on every answer: nothing of another site runs, is shown or asked, nothing is kept or guessed.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What is served.
pub struct Served {
    /// How the process is.
    pub health: Health,
    /// Who may come in.
    pub doors: Doors,
    /// What people and programs look at and work with.
    pub house: House,
}

/// Serves until closed, then lets open connections end. A stopping process is not closed yet: while calls in work
/// end, `/readyz` says so and `/metrics` goes on.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, served: Served, close: CancellationToken) -> std::io::Result<()> {
    let Served { health, doors, house } = served;
    let app = Router::new()
        .merge(health::router(health))
        .merge(sign_in::router(doors.clone()))
        .merge(api::router(house.clone()))
        .merge(pages::router(house))
        .layer(from_fn_with_state(doors, doors::enter))
        .layer(from_fn(deadline))
        .layer(from_fn(refusal::shaped))
        .layer(from_fn(guarded))
        .into_make_service_with_connect_info::<SocketAddr>();
    let closing = close.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move { closing.cancelled().await });
    let mut server = std::pin::pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return ended,
        () = close.cancelled() => {}
    }
    // Keep-alive connections of a scraper would otherwise hold the process.
    timeout(CLOSE_GRACE, server).await.unwrap_or(Ok(()))
}

/// Ends a request that takes too long, such as one whose body drips in.
async fn deadline(request: Request, next: Next) -> Response {
    match timeout(REQUEST_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "request took too long\n").into_response(),
    }
}

/// Says on an answer what [`HEADERS`] say, unless its route has said otherwise.
async fn guarded(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    for (name, value) in HEADERS {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}
