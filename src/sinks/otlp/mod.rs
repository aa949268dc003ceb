//! OpenTelemetry: each score as a log event `gen_ai.evaluation.result` that is linked to the trace and the span of its call,
//! and totals as metrics.
//!
//! A receiver keeps what it gets twice: each record has the same `log.record.uid` whenever it is sent, by which repeats can be
//! told and dropped. And it deletes nothing: a retraction is refused with a reason, and whoever runs the store behind the
//! receiver has to delete there what has this `aftercheck.evaluation.id`.
//!
//! * `records`: scores as log records.
//! * `totals`: the metrics.
//! * `transport`: HTTP and gRPC, and what answers mean.

mod records;
mod totals;
mod transport;

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    resource::v1::Resource,
};
use reqwest::header::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use self::{
    totals::Totals,
    transport::{Signal, export},
};
use super::{
    Item, Outcome, Retraction, Sink, SinkError,
    wire::{self, Wire, WireConfig},
};

pub use transport::Protocol;

/// How long the receiver may take for totals. It is short, because a batch has a deadline over all of it: past that, events that
/// were taken would be sent again.
const COUNT_WAIT: Duration = Duration::from_secs(5);

/// `kind = "otlp"`: any receiver of OTLP, such as an OpenTelemetry Collector.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// Where, how fast, how long.
    #[serde(flatten)]
    pub wire: WireConfig,
    /// `http` (protobuf, usually port 4318) or `grpc` (usually port 4317).
    #[serde(default)]
    pub protocol: Protocol,
    /// `service.name` of what is sent.
    #[serde(default = "default_service")]
    pub service: String,
    /// Whether totals are sent as metrics.
    #[serde(default = "default_metrics")]
    pub metrics: bool,
    /// Evaluations in one request, 1 to 500. A receiver that refuses part of a request does not say which: all of it is dead.
    #[serde(default = "default_batch")]
    pub batch: u32,
    /// Header that the key stands in.
    #[serde(default = "default_header")]
    pub key_header: String,
    /// What stands before the key there.
    #[serde(default = "default_prefix")]
    pub key_prefix: String,
    /// File with the key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Environment variable with the key.
    #[serde(default)]
    pub key_env: Option<String>,
}

/// `service.name` of a sink that names none.
fn default_service() -> String {
    "aftercheck".to_owned()
}

/// Metrics are sent unless somebody says no.
fn default_metrics() -> bool {
    true
}

/// Deliveries in one request.
fn default_batch() -> u32 {
    50
}

/// The header of a key.
fn default_header() -> String {
    "authorization".to_owned()
}

/// What stands before the key in its header.
fn default_prefix() -> String {
    "Bearer ".to_owned()
}

/// Sends to a receiver of OTLP.
pub struct OtlpSink {
    wire: Wire,
    protocol: Protocol,
    resource: Resource,
    batch: u32,
    /// When counting began, in Unix nanoseconds.
    since: u64,
    totals: Option<Mutex<Totals>>,
}

impl OtlpSink {
    /// A receiver of this configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn new(config: &OtlpConfig) -> Result<Self, String> {
        if !(1..=500).contains(&config.batch) {
            return Err("batch: need 1 to 500".into());
        }
        let mut headers = HeaderMap::new();
        if let Some(key) = wire::secret("key", config.key_file.as_deref(), config.key_env.as_deref())? {
            let name: HeaderName =
                config.key_header.parse().map_err(|_| "key_header: not the name of a header".to_owned())?;
            let (name, value) = wire::secret_header(name, &config.key_prefix, &key)?;
            headers.insert(name, value);
        }
        let wire = match config.protocol {
            Protocol::Http => Wire::new(&config.wire, headers)?,
            Protocol::Grpc => Wire::http2(&config.wire, headers)?,
        };
        Ok(Self {
            wire,
            protocol: config.protocol,
            resource: records::resource(&config.service, Uuid::new_v4()),
            batch: config.batch,
            since: nanoseconds(Timestamp::now()),
            totals: config.metrics.then(Mutex::default),
        })
    }

    /// Counts what was delivered and sends the totals. Where that fails, the next batch sends them: they say all since the start.
    async fn count(&self, items: &[Item], outcomes: &[Outcome]) {
        let Some(totals) = &self.totals else { return };
        let request = {
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            for (item, outcome) in items.iter().zip(outcomes) {
                if matches!(outcome, Outcome::Delivered { .. }) {
                    totals.count(item);
                }
            }
            totals.request(&self.resource, self.since, nanoseconds(Timestamp::now()))
        };
        // The events were taken: that is not given up for totals.
        let counted = timeout(COUNT_WAIT, export(&self.wire, self.protocol, Signal::Metrics, &request)).await;
        let late = || SinkError::Again {
            reason: format!("no answer within {} s", COUNT_WAIT.as_secs()),
            after: None,
        };
        match counted.unwrap_or_else(|_| Err(late())) {
            Ok(0) => {}
            Ok(rejected) => tracing::warn!(rejected, "the receiver of OTLP refuses points of our metrics"),
            Err(error) => tracing::warn!(%error, "no metrics over OTLP; the next batch sends them"),
        }
    }
}

#[async_trait]
impl Sink for OtlpSink {
    fn batch(&self) -> u32 {
        self.batch
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        let (mut sent, mut outcomes) = (Vec::new(), Vec::with_capacity(items.len()));
        for item in items {
            outcomes.push(match records::records(item) {
                Ok(records) if records.is_empty() => Outcome::NO_PLACE,
                Ok(records) => {
                    sent.extend(records);
                    Outcome::DELIVERED
                }
                Err(reason) => Outcome::unfit(reason),
            });
        }
        let all = sent.len();
        if all > 0 {
            let request = records::request(&self.resource, sent);
            let rejected = export(&self.wire, self.protocol, Signal::Logs, &request).await?;
            if rejected > 0 {
                let reason = format!("the receiver refuses {rejected} of the {all} records of its request");
                let never = |outcome: &mut Outcome| *outcome = Outcome::Never { reason: reason.clone() };
                outcomes.iter_mut().filter(|outcome| **outcome == Outcome::DELIVERED).for_each(never);
            }
            self.count(items, &outcomes).await;
        }
        Ok(outcomes)
    }

    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        // Of a row of the golden set nothing was sent.
        if retractions.iter().all(|one| one.golden.is_some()) {
            return Ok(Vec::new());
        }
        Err(SinkError::Refused(
            "OTLP cannot delete: delete at the store behind the receiver what has this aftercheck.evaluation.id".into(),
        ))
    }

    async fn check(&self) -> Result<String, SinkError> {
        // Without records and points, which every receiver takes.
        export(&self.wire, self.protocol, Signal::Logs, &ExportLogsServiceRequest::default()).await?;
        if self.totals.is_some() {
            let none = ExportMetricsServiceRequest::default();
            export(&self.wire, self.protocol, Signal::Metrics, &none).await?;
            return Ok("takes logs and metrics over OTLP".to_owned());
        }
        Ok("takes logs over OTLP".to_owned())
    }
}

/// A time in Unix nanoseconds.
fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or(0)
}
