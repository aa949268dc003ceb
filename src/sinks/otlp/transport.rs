//! OTLP over HTTP with protobuf, and over gRPC: one exchange each, and what its answer means. After the specification only
//! what it calls retryable is tried again; a record that was refused is not.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message;
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    outbound::Answer,
    sinks::{
        SinkError,
        wire::{self, Wire},
    },
};

/// Longest wait that a receiver may ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Bytes before each gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Protobuf over HTTP, at `/v1/logs` and `/v1/metrics` below the address; usually port 4318.
    #[default]
    Http,
    /// gRPC; usually port 4317.
    Grpc,
}

/// A signal of OTLP.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    Logs,
    Metrics,
}

impl Signal {
    /// Where it is sent to, below the URL of the receiver.
    fn path(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::Logs, Protocol::Http) => "v1/logs",
            (Self::Metrics, Protocol::Http) => "v1/metrics",
            (Self::Logs, Protocol::Grpc) => "opentelemetry.proto.collector.logs.v1.LogsService/Export",
            (Self::Metrics, Protocol::Grpc) => {
                "opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            }
        }
    }
}

/// What both answers, of logs and of metrics, consist of.
#[derive(Clone, PartialEq, Message)]
struct Exported {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Partial>,
}

/// How many records or points were refused. Why it says is not read: it may repeat what was sent.
#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
}

/// `google.rpc.Status`, as far as it says when to come again.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Seconds>,
}

#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Sends a request; says how many of its records or points the receiver refused.
///
/// # Errors
/// [`SinkError`] where it took none of them, or nobody knows.
pub(super) async fn export(
    wire: &Wire,
    protocol: Protocol,
    signal: Signal,
    message: &impl Message,
) -> Result<u64, SinkError> {
    let request = wire.request(Method::POST, signal.path(protocol));
    let exported = match protocol {
        Protocol::Http => {
            let request = request.header(CONTENT_TYPE, "application/x-protobuf");
            let answer = wire.send(request.body(message.encode_to_vec())).await?;
            if !answer.status.is_success() {
                return Err(fault(&answer));
            }
            Exported::decode(answer.body.as_slice())
        }
        Protocol::Grpc => {
            let request = request.header(CONTENT_TYPE, "application/grpc").header("te", "trailers");
            let answer = wire.send(request.body(framed(message))).await?;
            Exported::decode(unframed(&answer)?)
        }
    };
    let exported = exported.map_err(|_| {
        SinkError::Denied(
            "its answer is not OTLP: write in url where the receiver is, without /v1/logs".into(),
        )
    })?;
    let rejected = exported.partial_success.map_or(0, |partial| partial.rejected);
    Ok(u64::try_from(rejected).unwrap_or(0))
}

/// What an answer without success means over HTTP: only these four statuses may pass.
fn fault(answer: &Answer) -> SinkError {
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => wire::fault(answer),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            SinkError::Denied(format!(
                "status {}: nothing takes OTLP there, check url and protocol",
                answer.status
            ))
        }
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            SinkError::Refused(format!("status {status}: OTLP does not let it be sent again"))
        }
        _ => wire::fault(answer),
    }
}

/// A message behind its prefix.
fn framed(message: &impl Message) -> Vec<u8> {
    let mut framed = vec![0; PREFIX];
    framed.extend(message.encode_to_vec());
    let length = u32::try_from(framed.len() - PREFIX).unwrap_or(u32::MAX);
    framed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    framed
}

/// The message of an answer.
///
/// # Errors
/// What its status means, over gRPC or where no gRPC came back.
fn unframed(answer: &Answer) -> Result<&[u8], SinkError> {
    let word = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    match word("grpc-status").and_then(|code| code.parse().ok()) {
        Some(0) => {}
        Some(code) => return Err(grpc_fault(code, word("grpc-status-details-bin").and_then(retry_delay))),
        // What stands between has answered, or the connection broke before the end.
        None if !answer.status.is_success() => return Err(fault(answer)),
        None => return Err(SinkError::Again { reason: "an answer without grpc-status".into(), after: None }),
    }
    match answer.body.split_at_checked(PREFIX) {
        Some((prefix, message)) if prefix[0] == 0 => Ok(message),
        Some(_) => Err(SinkError::Denied("its answer is compressed, which nobody asked for".into())),
        // An empty answer says that all is well.
        None => Ok(&[]),
    }
}

/// What a gRPC status means. That of exhausted resources may pass only where it says when.
fn grpc_fault(code: u32, after: Option<Duration>) -> SinkError {
    let said = format!("gRPC status {code}");
    match (code, after) {
        (16, _) => SinkError::Denied(format!("{said}: the receiver does not know this key, check it")),
        (7, _) => SinkError::Denied(format!("{said}: this key may not write here")),
        (12, _) => SinkError::Denied(format!("{said}: it takes no such signal, check url and protocol")),
        (1 | 4 | 10 | 11 | 14 | 15, after) | (8, after @ Some(_)) => SinkError::Again { reason: said, after },
        _ => SinkError::Refused(said),
    }
}

/// When to come again, of the details of a status.
fn retry_delay(details: &str) -> Option<Duration> {
    let bytes = STANDARD_NO_PAD.decode(details.trim_end_matches('=')).ok()?;
    let status = Status::decode(bytes.as_slice()).ok()?;
    let retry = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(retry.value.as_slice()).ok()?.delay.unwrap_or_default();
    let (seconds, nanos) = (u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?);
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())).min(MAX_WAIT))
}
