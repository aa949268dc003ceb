//! HTTP on loopback: calls come in, health, readiness and metrics go out.

mod calls;
mod health;
mod pages;

use std::{future::IntoFuture, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::pipeline::ingest::Ingest;
pub use health::Health;
pub use pages::Pages;

/// How long open connections may take to end after shutdown.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// How long one request may take, reading its body included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Serves until closed, then lets open connections end. A stopping process is not closed yet: while calls in work
/// end, `/readyz` says so and `/metrics` goes on.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    ingest: Arc<Ingest>,
    pages: Pages,
    close: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .merge(health::router(health))
        .merge(calls::router(ingest))
        .merge(pages::router(pages))
        .layer(from_fn(deadline));
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
