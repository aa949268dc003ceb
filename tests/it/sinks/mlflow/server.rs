//! MLflow itself, from `.runtime/mlflow`, with a database of its own.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::time::sleep;

/// How long it may take to come up; on a busy machine it has been seen to take a minute.
const PATIENCE: Duration = Duration::from_secs(240);

/// A server that ends with the test.
pub struct Server {
    child: Child,
    client: Client,
    /// Where it is.
    pub url: String,
    /// The experiment that traces go to.
    pub experiment: String,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has workers of its own, in its group.
        let group = format!("-{}", self.child.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts one on a free port; none where it is not installed, which is said.
    pub async fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/mlflow/bin/mlflow");
        if !program.exists() {
            println!("skipped: no MLflow in .runtime/mlflow, scripts/faults --all installs it");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let database = format!("sqlite:///{}", folder.path().join("mlflow.db").display());
        let mut command = Command::new(program);
        command.args([
            "server",
            "--backend-store-uri",
            &database,
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--workers",
            "1",
        ]);
        command.arg("--default-artifact-root").arg(folder.path()).current_dir(folder.path());
        command.env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false").env("MLFLOW_DISABLE_TELEMETRY", "true");
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let mut server =
            Self { child, client: Client::new(), url, experiment: String::new(), _folder: folder };
        let until = Instant::now() + PATIENCE;
        while server.client.get(format!("{}/health", server.url)).send().await.is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "MLflow has ended");
            assert!(Instant::now() < until, "MLflow does not come up");
            sleep(Duration::from_millis(200)).await;
        }
        let made =
            server.ask(Method::POST, "/api/2.0/mlflow/experiments/create", &json!({"name": "support"})).await;
        server.experiment = made["experiment_id"].as_str().unwrap().to_owned();
        Some(server)
    }

    /// Asks and expects success.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = self.client.request(method.clone(), format!("{}{path}", self.url));
        let request = if method == Method::GET { request } else { request.json(body) };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Sends a span of each trace over OTLP, as an exporter does.
    pub async fn trace(&self, spans: &[(String, String)]) {
        let span = |(trace, span): &(String, String)| {
            json!({"traceId": trace, "spanId": span, "name": "chat", "kind": 3, "startTimeUnixNano": "1795700000000000000",
                "endTimeUnixNano": "1795700001000000000", "status": {}})
        };
        let spans: Vec<Value> = spans.iter().map(span).collect();
        let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "support"}}]});
        let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "it"}, "spans": spans}]}]});
        let request = self
            .client
            .post(format!("{}/v1/traces", self.url))
            .header("x-mlflow-experiment-id", &self.experiment);
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }

    /// The assessments of a trace.
    pub async fn assessments(&self, trace: &str) -> Vec<Value> {
        let mut found =
            self.ask(Method::GET, &format!("/api/3.0/mlflow/traces/tr-{trace}"), &Value::Null).await;
        match found["trace"]["trace_info"]["assessments"].take() {
            Value::Array(all) => all,
            _ => Vec::new(),
        }
    }
}
