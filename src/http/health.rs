//! Health, readiness and metrics.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::{metrics, pipeline::Pulse};

/// What health is made of.
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
    /// Why the process is not ready, if it is not. The worker looks at its queue every second, or its calls end, or it
    /// asks a store again that is down: silence means a stall.
    pub fn fault(&self) -> Option<&'static str> {
        if self.shutdown.is_cancelled() {
            return Some("stopping");
        }
        if self.pulse.silent() > self.stall {
            return Some("stalled: nothing moves in the pipeline");
        }
        if self.pulse.without_store() > self.stall {
            return Some("stalled: the store does not answer");
        }
        (self.pulse.fruitless() > self.stall).then_some("stalled: the queue does not answer")
    }
}

/// `/healthz`, `/readyz` and `/metrics`. None of them tells anything of a call.
pub(super) fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .with_state(health)
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
    ([("content-type", "text/plain; version=0.0.4")], health.prometheus.render())
}
