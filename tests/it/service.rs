//! aftercheck as a process: a database of its own, calls that flow in, signals, HTTP, and what became of the calls.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

use aftercheck::database::sqlite::{Database, SqliteConfig};
use serde_json::{Value, json};

use super::tables::Tables;

/// Longest that anything here may take before the test says so; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The password for a server that takes any; no log may show it.
pub const SECRET: &str = "hunter2-secret";

/// What a service is made of, beside its folder.
#[derive(Default)]
pub struct Parts {
    /// `[source]` and whatever else belongs into the configuration file; none: the queue table, short leases.
    pub config: Option<String>,
    /// The server that keeps the verdicts; none: the file in the folder.
    pub postgres: Option<String>,
    /// Whether the tiny models judge too, where there are some.
    pub model: bool,
    /// Its folder; none: a new one.
    pub folder: Option<tempfile::TempDir>,
    /// Environment of every process of it.
    pub variables: Vec<(String, String)>,
}

/// A service in a folder of its own.
pub struct Service {
    folder: tempfile::TempDir,
    /// Where queue, verdicts and dead letters are counted.
    pub tables: Tables,
    /// Environment of every process.
    pub variables: Vec<(String, String)>,
    /// Messages queued so far.
    pub accepted: usize,
    /// Whether the tiny model is there.
    pub has_model: bool,
}

/// What became of the accepted calls.
#[derive(Debug)]
pub struct Count {
    pub evaluations: i64,
    pub dead_letters: i64,
    pub lost: i64,
    pub duplicated: i64,
    pub queued: i64,
}

impl Service {
    /// An empty database, short leases, and the tiny model where there is one.
    pub fn new() -> Self {
        Self::of(Parts { model: true, ..Parts::default() })
    }

    /// A service of these parts.
    pub fn of(parts: Parts) -> Self {
        let folder = parts.folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let model = parts.model.then(|| super::models::tiny("three_labels")).flatten();
        let has_model = model.is_some();
        let inference = match model {
            Some(model) => {
                let library = model.library.unwrap_or_default();
                let encoder = super::models::tiny_encoder().unwrap_or_default();
                format!(
                    "model = {:?}\nembedding = {encoder:?}\nlibrary = {library:?}\nthreads = 1\n",
                    model.model
                )
            }
            None => "enabled = false\n".into(),
        };
        let store = parts.postgres.as_ref().map_or(String::new(), |url| {
            let file = folder.path().join("password");
            std::fs::write(&file, SECRET).unwrap();
            format!(
                "[postgres]\nurl = {url:?}\npassword_file = {file:?}\nconnections = 6\n\
                 [store]\nkind = \"postgres\"\n"
            )
        });
        let config = format!(
            "[sqlite]\npath = {:?}\n{}{store}[inference]\n{inference}\
             [sinks.archive]\nkind = \"jsonl\"\npath = {:?}\n",
            folder.path().join("a.db"),
            parts.config.unwrap_or_else(|| "[source]\nlease_secs = 1\n".into()),
            folder.path().join("out.jsonl")
        );
        std::fs::write(folder.path().join("c.toml"), config).unwrap();
        let tables = match parts.postgres {
            Some(url) => Tables::Postgres(url),
            None => Tables::Sqlite(folder.path().join("a.db")),
        };
        Self { folder, tables, variables: parts.variables, accepted: 0, has_model }
    }

    /// The program with this service's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aftercheck"));
        command.arg("--config").arg(self.path("c.toml")).args(arguments).env("AFTERCHECK_LOG", "off");
        // A backtrace of a debug build reads 200 MB of symbols, which are none of the product's memory.
        command.env("RUST_BACKTRACE", "0");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// A file of this service.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Queues calls; every tenth is malformed and must become a dead letter, every seventh comes twice.
    pub fn enqueue(&mut self, calls: usize) {
        let mut enqueue = self.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = enqueue.stdin.take().unwrap();
        for number in self.accepted..self.accepted + calls {
            writeln!(stdin, "{}", call(number)).unwrap();
            if number.is_multiple_of(7) {
                writeln!(stdin, "{}", call(number)).unwrap();
            }
        }
        drop(stdin);
        assert!(enqueue.wait().unwrap().success());
        self.accepted += calls;
    }

    /// Starts `run --drain` with these variables.
    pub fn drain(&self, variables: &[(&str, &str)]) -> Child {
        self.command(&["run", "--drain"]).envs(variables.iter().copied()).spawn().unwrap()
    }

    /// Starts `run` on a free port and returns once it says that it is ready.
    pub fn start(&self, variables: &[(&str, &str)]) -> Running {
        let mut command = self.command(&["run"]);
        command.env("AFTERCHECK_LOG", "info").env("AFTERCHECK__HTTP__LISTEN", "127.0.0.1:0");
        let mut child = command.envs(variables.iter().copied()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(Vec::new()));
        let address = lines.by_ref().find_map(|line| {
            log.lock().unwrap().push(line.clone());
            let line: Value = serde_json::from_str(&line).ok()?;
            (line["message"] == "ready").then(|| line["address"].as_str().unwrap().to_owned())
        });
        // Read on, so that the process never finds its log full.
        let kept = Arc::clone(&log);
        std::thread::spawn(move || lines.for_each(|line| kept.lock().unwrap().push(line)));
        let Some(address) = address else {
            panic!("the service does not say that it is ready: {:?}", log.lock().unwrap())
        };
        Running { child, log, address }
    }

    /// What a subcommand prints, as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [&["--format", "json"], arguments].concat();
        let output = self.command(&arguments).stdout(Stdio::piped()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs something on the database, beside the service.
    pub fn database<T>(&self, work: impl AsyncFnOnce(Database) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let database = Database::open(&SqliteConfig { path: self.path("a.db") }).await.unwrap();
            let done = work(database.clone()).await;
            database.close().await;
            done
        })
    }

    /// Payloads whose work has begun and not ended.
    pub fn in_work(&self) -> i64 {
        self.database(async |database| {
            sqlx::query_scalar("SELECT count(*) FROM attempts").fetch_one(database.read()).await.unwrap()
        })
    }

    /// Lets the leases of dispatchers that were killed run out, which takes two minutes otherwise.
    pub fn let_outbox_leases_end(&self) {
        self.database(async |database| {
            let mut tx = database.write().await.unwrap();
            sqlx::query("UPDATE outbox SET due_ms = 0").execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        });
    }

    /// Counts what became of the accepted calls.
    pub fn count(&self) -> Count {
        let one = |query: &str| self.tables.number(query).unwrap();
        let unsent = one("SELECT count(*) FROM evaluations e WHERE
                          (SELECT count(*) FROM outbox o WHERE o.evaluation_id = e.evaluation_id) <> 1");
        assert_eq!(unsent, 0, "each evaluation has exactly one outbox row per sink");
        let ended = one("SELECT count(*) FROM (SELECT request_id FROM evaluations
                         UNION SELECT request_id FROM dead_letters) AS ended");
        let evaluations = one("SELECT count(*) FROM evaluations");
        let dead_letters = one("SELECT count(*) FROM dead_letters");
        Count {
            evaluations,
            dead_letters,
            lost: self.accepted as i64 - ended,
            duplicated: evaluations + dead_letters - ended,
            queued: one("SELECT count(*) FROM queue"),
        }
    }

    /// Prints the count the way the fault matrix does.
    pub fn report(&self, name: &str) -> Count {
        let count = self.count();
        println!(
            "{name} · accepted {} · evaluations {} · dead_letters {} · lost {} · duplicated {}",
            self.accepted, count.evaluations, count.dead_letters, count.lost, count.duplicated
        );
        count
    }
}

/// A service that is up.
pub struct Running {
    /// The process.
    pub child: Child,
    /// What it has logged so far, a line each.
    pub log: Arc<Mutex<Vec<String>>>,
    /// Where it listens.
    pub address: String,
}

impl Running {
    /// Sends one request; returns status and body.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        headers.iter().for_each(|header| request.push_str(&format!("{header}\r\n")));
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(request.as_bytes()).unwrap();
        // A refused body may be answered before it is sent to its end.
        drop(stream.write_all(body));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        (status.unwrap_or_else(|| panic!("no answer to {method} {path}: {answer:?}")), body)
    }

    /// Sends a GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, &[], b"")
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The sum of a metric's series that carry all of these labels; none where there is no such series.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.get("/metrics").1;
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let series =
            text.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
        series
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .reduce(|sum, value| sum + value)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a child.
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
}

/// One message; every tenth has its tokens in words.
pub fn call(number: usize) -> Value {
    let mut call = json!({
        "version": 1, "request_id": format!("kill-{number}"), "trace_id": "t", "tenant_id": "acme",
        "occurred_at": "2026-11-02T10:00:00Z", "feature": "f", "prompt_version": "v", "model_requested": "m",
        "model_resolved": "m", "provider": "p", "tokens_in": 1, "tokens_out": 2, "latency_ms": {"total": 3.0},
        "finish_reason": "stop", "messages_hash": "h",
        "content": {"answer": "The answer is yes.", "contexts": [{"id": "c1", "text": "The answer is yes."}]}
    });
    if number.is_multiple_of(10) {
        call["tokens_in"] = json!("many");
    }
    call
}

/// Waits for the end of a child; none when it has not ended by itself and was killed.
pub fn ended(child: &mut Child) -> Option<ExitStatus> {
    let status = eventually(|| child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    status
}

/// Asks again and again until there is an answer; none when patience is over.
pub fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        sleep(Duration::from_millis(20));
    }
    None
}
