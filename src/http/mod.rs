//! Health, readiness and metrics over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use std::future::IntoFuture;

use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{metrics, pipeline::Pulse};

/// How long open connections may take to end after shutdown.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// What the pages are made of.
#[derive(Clone)]
pub struct Health {
    /// Signs of life of the pipeline.
    pub pulse: Arc<Pulse>,
    /// The metrics.
    pub prometheus: PrometheusHandle,
    /// Cancelled when the process is stopping.
    pub shutdown: CancellationToken,
    /// Silence that counts as a stall.
    pub stall: Duration,
}

impl Health {
    /// Why the process is not ready, if it is not. The worker looks at its queue every second, so silence means
    /// a stall whether or not anything is in work.
    pub fn fault(&self) -> Option<&'static str> {
        if self.shutdown.is_cancelled() {
            return Some("stopping");
        }
        if self.pulse.silent() > self.stall {
            return Some("stalled: nothing moves in the pipeline");
        }
        (self.pulse.fruitless() > self.stall).then_some("stalled: the queue does not answer")
    }
}

/// Serves until shutdown, then lets open connections end.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, health: Health) -> std::io::Result<()> {
    let shutdown = health.shutdown.clone();
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .with_state(health);
    let stopping = shutdown.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move { stopping.cancelled().await });
    let mut server = std::pin::pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return ended,
        () = shutdown.cancelled() => {}
    }
    // Keep-alive connections of a scraper would otherwise hold the process.
    timeout(CLOSE_GRACE, server).await.unwrap_or(Ok(()))
}

/// 200 when ready, 503 with the reason when not.
async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let fault = health.fault();
    metrics::ready(fault.is_none());
    match fault {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")),
    }
}

/// Metrics in Prometheus' text format.
async fn exposition(State(health): State<Health>) -> impl IntoResponse {
    metrics::ready(health.fault().is_none());
    health.prometheus.run_upkeep();
    ([("content-type", "text/plain; version=0.0.4")], health.prometheus.render())
}
