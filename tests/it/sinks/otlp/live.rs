//! A collector that others wrote (Rotel, `scripts/rotel`) between the sink and ours: it takes what we send by both protocols, reads
//! it, and writes it anew. What comes out is what OpenTelemetry understands of it.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use aftercheck::sinks::Outcome;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use super::{
    super::items::{batch, expected, sink, verdict},
    collector::Collector,
    deliver, scores, totals,
};

/// How long it may take to pass something on.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with the test.
struct Rotel(Child);

impl Drop for Rotel {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts it before a collector; gives it, and its ports for gRPC and HTTP. None, with a word on it, where it is not installed.
async fn rotel(behind: &str) -> Option<(Rotel, u16, u16)> {
    let Some(program) = std::env::var_os("AFTERCHECK_TEST_ROTEL").map(PathBuf::from) else {
        println!("skipped: AFTERCHECK_TEST_ROTEL is not set, scripts/rotel installs what it names");
        return None;
    };
    let (grpc, http) = (port(), port());
    let mut command = Command::new(program);
    command.args(["start", "--exporter", "otlp", "--otlp-exporter-protocol", "http", "--disable-batching"]);
    command.args(["--otlp-exporter-endpoint", behind]);
    command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")]);
    command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")]);
    let child = command.env_clear().stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let started = Rotel(child);
    for port in [grpc, http] {
        let is_up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_up).await.expect("it listens");
    }
    Some((started, grpc, http))
}

#[tokio::test]
async fn a_collector_of_others_reads_what_is_sent_by_both_protocols() {
    let behind = Collector::default();
    let url = behind.serve().await;
    let Some((_rotel, grpc, http)) = rotel(&url).await else { return };
    for (round, (protocol, port)) in [("http", http), ("grpc", grpc)].into_iter().enumerate() {
        let sink = sink(&format!(
            "kind = 'otlp'\nprotocol = '{protocol}'\nurl = 'http://127.0.0.1:{port}'\ntimeout_ms = 5000\n"
        ));
        sink.check().await.unwrap();
        let outcomes = deliver(sink.as_ref(), &batch(12)).await;
        assert_eq!(outcomes, vec![Outcome::DELIVERED; 12]);
        let all = async {
            // The check sends messages with nothing in them.
            let is_told = |metrics: &[ExportMetricsServiceRequest]| {
                metrics.last().is_some_and(|last| !last.resource_metrics.is_empty())
            };
            while behind.records().len() < (round + 1) * 60 || !is_told(&behind.metrics()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("it passes everything on");
        let records = behind.records().split_off(round * 60);
        assert_eq!(records.len(), 60);
        let (counts, scores_of) = totals(&behind);
        assert_eq!((counts.values().sum::<i64>(), scores_of.is_empty()), (12, false), "{protocol}");
        for number in 0..12 {
            assert_eq!(scores(&records, number), expected(number, verdict(number)), "{protocol} {number}");
        }
    }
}
