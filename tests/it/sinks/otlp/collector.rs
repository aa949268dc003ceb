//! A collector: takes logs and metrics over HTTP and gRPC, decodes them with OpenTelemetry's own types, and fails as told.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Uri},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    },
    logs::v1::LogRecord,
};
use prost::Message;
use tokio::net::TcpListener;

/// What becomes of one request with logs.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is too much at the moment, in the protocol's word for that.
    Busy,
    /// It is taken, and no answer comes.
    DoesAndIsSilent,
    /// A proxy says 502.
    Gone,
    /// This status of HTTP.
    Status(u16),
    /// This status of gRPC, and after how many seconds to come again.
    Code(u32, Option<i64>),
    /// So many of its records are refused.
    Partial(i64),
}

/// A collector.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    records: Vec<LogRecord>,
    metrics: Vec<ExportMetricsServiceRequest>,
    faults: VecDeque<Fault>,
    metrics_to_fail: usize,
    metrics_hang: bool,
    needs: Option<(&'static str, &'static str)>,
}

impl Collector {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// All records that came, repeats included.
    pub fn records(&self) -> Vec<LogRecord> {
        self.inner().records.clone()
    }

    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.inner().metrics.clone()
    }

    /// The next requests with logs fail like this.
    pub fn fails(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner().faults.extend(faults);
    }

    pub fn faults_left(&self) -> usize {
        self.inner().faults.len()
    }

    /// So many requests with metrics fail.
    pub fn fails_metrics(&self, times: usize) {
        self.inner().metrics_to_fail = times;
    }

    /// Requests with metrics get no answer from now on.
    pub fn hangs_on_metrics(&self) {
        self.inner().metrics_hang = true;
    }

    /// A header that is asked for from now on.
    pub fn needs(&self, name: &'static str, value: &'static str) {
        self.inner().needs = Some((name, value));
    }

    /// Serves until the test ends; gives the base of its URLs.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(any).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }
}

/// One request by either protocol.
async fn any(State(collector): State<Collector>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let is_grpc = headers["content-type"] == "application/grpc";
    let (message, path) = if is_grpc {
        assert_eq!(headers["te"], "trailers");
        assert_eq!(
            (body[0], u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize),
            (0, body.len() - 5)
        );
        (body.slice(5..), uri.path())
    } else {
        assert_eq!(headers["content-type"], "application/x-protobuf", "a charset is refused by some");
        (unzipped(&headers, body), uri.path())
    };
    if let Some((name, value)) = collector.inner().needs
        && headers.get(name).is_none_or(|sent| sent != value)
    {
        return if is_grpc { code(16, None) } else { status(401) };
    }
    match path {
        "/v1/logs" | "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => {
            logs(&collector, is_grpc, &message).await
        }
        "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
            let hangs = collector.inner().metrics_hang;
            if hangs {
                std::future::pending::<()>().await;
            }
            let mut inner = collector.inner();
            if inner.metrics_to_fail > 0 {
                inner.metrics_to_fail -= 1;
                return if is_grpc { code(14, None) } else { status(503) };
            }
            inner.metrics.push(ExportMetricsServiceRequest::decode(message).unwrap());
            done(is_grpc, &ExportMetricsServiceResponse::default())
        }
        _ if is_grpc => code(12, None),
        _ => status(404),
    }
}

/// A body as it was before it was compressed, as every receiver of OTLP over HTTP has to read it.
fn unzipped(headers: &HeaderMap, body: Bytes) -> Bytes {
    if headers.get("content-encoding").is_none_or(|coding| coding != "gzip") {
        return body;
    }
    let mut whole = Vec::new();
    GzDecoder::new(body.as_ref()).read_to_end(&mut whole).unwrap();
    whole.into()
}

async fn logs(collector: &Collector, is_grpc: bool, message: &[u8]) -> Response {
    let request = ExportLogsServiceRequest::decode(message).unwrap();
    let fault = collector.inner().faults.pop_front();
    let mut answer = ExportLogsServiceResponse::default();
    match fault {
        Some(Fault::Busy) if is_grpc => return code(8, Some(0)),
        Some(Fault::Busy) => return status(429),
        Some(Fault::Gone) => return status(502),
        Some(Fault::Status(said)) => return status(said),
        Some(Fault::Code(said, after)) => return code(said, after),
        Some(Fault::Partial(rejected)) => {
            let error_message = "what was sent: a secret".to_owned();
            answer.partial_success =
                Some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message });
        }
        Some(Fault::DoesAndIsSilent) | None => {}
    }
    for logs in request.resource_logs {
        let resource = super::attributes(&logs.resource.unwrap().attributes);
        assert_eq!(resource["service.name"], "aftercheck");
        collector.inner().records.extend(logs.scope_logs.into_iter().flat_map(|scoped| scoped.log_records));
    }
    if matches!(fault, Some(Fault::DoesAndIsSilent)) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    done(is_grpc, &answer)
}

fn status(status: u16) -> Response {
    Response::builder().status(status).body(Body::from("refused: what was sent")).unwrap()
}

/// A gRPC status without a message: everything stands in the headers.
fn code(code: u32, after: Option<i64>) -> Response {
    let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", code);
    let response = match after {
        // google.rpc.Status { details: [Any { type_url, value: RetryInfo { retry_delay { seconds } } }] }, by hand.
        Some(seconds) => {
            let url = b"type.googleapis.com/google.rpc.RetryInfo";
            let delay = [0x08, u8::try_from(seconds).unwrap()];
            let info = [&[0x0a, 2], delay.as_slice()].concat();
            let any = [&[0x0a, u8::try_from(url.len()).unwrap()], url.as_slice(), &[0x12, 4], &info].concat();
            let details = [
                &[0x08, u8::try_from(code).unwrap(), 0x1a, u8::try_from(any.len()).unwrap()],
                any.as_slice(),
            ]
            .concat();
            response.header("grpc-status-details-bin", STANDARD_NO_PAD.encode(details))
        }
        None => response,
    };
    response.body(Body::empty()).unwrap()
}

/// A message that was taken.
fn done(is_grpc: bool, message: &impl Message) -> Response {
    let message = message.encode_to_vec();
    if !is_grpc {
        let response = Response::builder().header("content-type", "application/x-protobuf");
        return response.body(Body::from(message)).unwrap();
    }
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0], length.as_slice(), &message].concat();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}
