//! Rows 19 to 21 with SQS, as `moto` plays it: calls that take longer than their visibility, polls that hang, errors,
//! deletes of which half fail.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    crashes::dies_at_every_point,
    ledger::Row,
    proxy::{Proxy, Toxic},
    servers::{await_port, free_port},
    stops::good_calls,
    within,
};
use crate::service::Parts;

/// Pythons that may have `moto`.
const PYTHONS: [&str; 2] = [".runtime/servers/bin/python", "python3"];

/// A `moto` of the tests' own.
struct Moto {
    port: u16,
    server: Child,
    _folder: tempfile::TempDir,
}

impl Moto {
    /// None, with a message, where no Python has it.
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let has = |python: &&&str| {
            let mut command =
                Command::new(if python.contains('/') { root.join(python) } else { python.into() });
            command.args(["-c", "import moto.server"]).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let Some(python) = PYTHONS.iter().find(has) else {
            println!("skipped: moto is not installed (pip install 'moto[server]')");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (port, log) = (free_port(), folder.path().join("out"));
        let out = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(if python.contains('/') { root.join(python) } else { python.into() });
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut server = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        await_port(&mut server, port, &log);
        Some(Self { port, server, _folder: folder })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A service whose calls come from the SQS at this port.
fn parts(port: u16, lease_secs: u64) -> Parts {
    let config = format!(
        "[source]\nkind = \"sqs\"\nlease_secs = {lease_secs}\n[source.sqs]\nqueue = \"faults\"\ndeclare = true\n\
         region = \"eu-west-1\"\nendpoint = \"http://127.0.0.1:{port}\"\npoll_secs = 1\nmax_receives = 1000\n"
    );
    let credentials = [("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing-secret")];
    let variables = credentials.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Parts { config: Some(config), variables, ..Parts::default() }
}

/// What is done to requests beside passing them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trick {
    None,
    /// Of each batch of deletes every other entry is refused.
    HalfOfDeletes,
    /// Every request is answered with 500.
    Broken,
    /// Every request is throttled.
    Throttled,
}

/// An HTTP server that passes requests on to `moto`, tricks aside.
struct Front {
    port: u16,
    trick: Arc<Mutex<Trick>>,
    /// Entries of deletes that were refused.
    refused: Arc<AtomicUsize>,
}

/// One request, read.
struct Request {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Front {
    fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self {
            port: listener.local_addr().unwrap().port(),
            trick: Arc::new(Mutex::new(Trick::None)),
            refused: Arc::default(),
        };
        let (trick, refused) = (Arc::clone(&front.trick), Arc::clone(&front.refused));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (trick, refused) = (Arc::clone(&trick), Arc::clone(&refused));
                std::thread::spawn(move || drop(answer(client, port, &trick, &refused)));
            }
        });
        front
    }

    fn set(&self, trick: Trick) {
        *self.trick.lock().unwrap() = trick;
    }
}

/// Answers one request and closes.
fn answer(client: TcpStream, port: u16, trick: &Mutex<Trick>, refused: &AtomicUsize) -> std::io::Result<()> {
    let Some(mut request) = read(&client)? else { return Ok(()) };
    let now = *trick.lock().unwrap();
    let deletes = request.head.iter().any(|line| line.ends_with("AmazonSQS.DeleteMessageBatch"));
    match now {
        Trick::Broken => return respond(client, "500 Internal Server Error", "InternalFailure"),
        Trick::Throttled => return respond(client, "400 Bad Request", "RequestThrottled"),
        Trick::HalfOfDeletes if deletes => {
            let mut batch: Value = serde_json::from_slice(&request.body)?;
            let entries = batch["Entries"].as_array().cloned().unwrap_or_default();
            let (odd, even): (Vec<_>, Vec<_>) =
                entries.into_iter().enumerate().partition(|(at, _)| at % 2 == 1);
            let strip = |entries: Vec<(usize, Value)>| {
                entries.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>()
            };
            let (odd, even) = (strip(odd), strip(even));
            batch["Entries"] = json!(even);
            request.body = batch.to_string().into_bytes();
            refused.fetch_add(odd.len(), Ordering::SeqCst);
            let passed = pass(&request, port)?;
            let mut answer: Value = serde_json::from_slice(&passed.1)?;
            let failed = odd.iter().map(|entry| {
                json!({"Id": entry["Id"], "SenderFault": false, "Code": "InternalError", "Message": "later"})
            });
            answer["Failed"] = failed.collect();
            return send(client, "HTTP/1.1 200 OK", answer.to_string().as_bytes());
        }
        _ => {}
    }
    let (status, body) = pass(&request, port)?;
    send(client, &status, &body)
}

/// Reads a request; none when the client has closed.
fn read(client: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(client);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let mut body = vec![0; length(&head)];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { head, body }))
}

/// What a head says of the length of its body.
fn length(head: &[String]) -> usize {
    let lower = head.iter().map(|line| line.to_ascii_lowercase());
    lower.filter_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).next().unwrap_or(0)
}

/// Has `moto` answer; gives status line and body.
fn pass(request: &Request, port: u16) -> std::io::Result<(String, Vec<u8>)> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let mut text = String::new();
    for line in &request.head {
        let lower = line.to_ascii_lowercase();
        if !lower.starts_with("content-length:") && !lower.starts_with("connection:") {
            text.push_str(&format!("{line}\r\n"));
        }
    }
    text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", request.body.len()));
    server.write_all(text.as_bytes())?;
    server.write_all(&request.body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(0);
    let status = String::from_utf8_lossy(&answer[..end]).lines().next().unwrap_or_default().to_owned();
    Ok((status, answer[(end + 4).min(answer.len())..].to_vec()))
}

/// Sends an answer and closes.
fn send(mut client: TcpStream, status: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "{status}\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body)
}

/// Sends an error of SQS.
fn respond(client: TcpStream, status: &str, code: &str) -> std::io::Result<()> {
    let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": "fault matrix"});
    send(client, &format!("HTTP/1.1 {status}"), body.to_string().as_bytes())
}

#[test]
fn row_01_sqs_dies_at_every_point() {
    let Some(moto) = super::with(Moto::start) else { return };
    dies_at_every_point("sqs (moto)", parts(moto.port, 2)).must_hold();
}

#[test]
fn row_19_sqs_calls_take_longer_than_their_visibility() {
    let Some(moto) = super::with(Moto::start) else { return };
    let mut row = Row::new("19", "visibility 2 s, calls take 7 s", parts(moto.port, 2));
    row.send_payloads(good_calls(1..16));
    let slow = [("AFTERCHECK_SLOW_MS", "7000"), ("AFTERCHECK__PIPELINE__IN_FLIGHT", "16")];
    let workers = vec![row.worker(&slow), row.worker(&slow)];
    row.await_all();
    let received = |worker: &crate::service::Running| {
        worker.metric("aftercheck_calls_received_total", &[]).unwrap_or(0.0)
    };
    let received: f64 = workers.iter().map(received).sum();
    let sent = row.accepted() as f64;
    row.expect(received < 2.0 * sent, &format!("B: {received} deliveries of {sent} calls: not extended"));
    row.stop(workers);
    row.close().must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_20_sqs_hangs_fails_and_throttles() {
    let Some(moto) = super::with(Moto::start) else { return };
    let (front, mut row);
    front = Front::before(moto.port);
    let proxy = Proxy::before(front.port);
    row = Row::new("20", "long poll hangs 20 s, 500, throttled, reset", parts(proxy.port(), 5));
    let worker = row.worker(&[("AFTERCHECK__HTTP__STALL_SECS", "10")]);
    row.send(40);
    // They may have ended while they were sent.
    assert!(row.await_ended(20), "the worker does not work");
    let flow = row.flow(5, Duration::from_millis(200));
    proxy.set(Toxic::BlackHole);
    let unready = within(Duration::from_secs(40), || (worker.get("/readyz").0 == 503).then_some(()));
    row.expect(unready.is_some(), "L: ready while SQS hangs");
    sleep(Duration::from_secs(10));
    proxy.set(Toxic::None);
    row.await_more(1);
    for trick in [Trick::Broken, Trick::Throttled] {
        front.set(trick);
        sleep(Duration::from_secs(5));
        front.set(Trick::None);
        row.await_more(1);
    }
    proxy.set(Toxic::ResetAfter(3000));
    sleep(Duration::from_secs(5));
    proxy.set(Toxic::None);
    row.settle(flow, vec![worker]).must_hold();
}

#[test]
fn row_21_sqs_half_of_the_deletes_fail() {
    let Some(moto) = super::with(Moto::start) else { return };
    let front = Front::before(moto.port);
    let mut row = Row::new("21", "half of each batch of deletes fails", parts(front.port, 2));
    front.set(Trick::HalfOfDeletes);
    let worker = row.worker(&[]);
    row.send(60);
    row.await_all();
    sleep(Duration::from_secs(4));
    let refused = front.refused.load(Ordering::SeqCst);
    row.expect(refused > 0, "no delete was refused, this shows nothing");
    front.set(Trick::None);
    row.fault_over();
    row.send(20);
    row.await_all();
    row.stop(vec![worker]);
    row.close().must_hold();
}
