//! The ledger of one row: what was accepted, what became of it, and whether every promise was kept.
//!
//! `row · fault · accepted · evaluations · dead · lost · duplicated · recovered_s · ok`: lost are accepted calls that ended
//! in nothing, duplicated are ends beyond the first (one evaluation for each evaluator version, or one dead letter).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use aftercheck::{config::Config, service as product, sources, sources::Message, store::dead_letter_id};
use serde_json::Value;
use tokio::time::timeout;

use crate::service::{Parts, Running, SECRET, Service, ended, eventually};

/// Longest that calls may take to end; far more than they take.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds after a fault within which everything must have ended.
const RECOVERY_S: f64 = 60.0;
/// Most memory of a worker that judges by rules, in kB.
const MOST_KB: u64 = 500_000;
/// Words of every answer: no log may show them.
const MARKER: &str = "The answer is marker-5f2c9a.";
/// Lines of a log that are shown where calls are left over.
const LAST_WORDS: usize = 20;
/// How long the queue may take to confirm.
const CONFIRM: Duration = Duration::from_secs(15);

/// One row while it runs.
pub struct Row {
    name: &'static str,
    fault: String,
    /// The service that suffers.
    pub service: Service,
    sent: Arc<Mutex<Sent>>,
    /// Evaluator versions at work.
    pub versions: usize,
    /// How long the row waits for its calls to end.
    pub patience: Duration,
    wrong: Vec<String>,
    fault_over: Option<Instant>,
    recovered: Option<f64>,
    unfinished: bool,
    _turn: MutexGuard<'static, ()>,
}

/// What was sent, by the id under which its end is looked for: request id, or id of the dead letter.
#[derive(Default)]
struct Sent {
    next: usize,
    tried: BTreeSet<String>,
    accepted: BTreeSet<String>,
}

/// The end of a row.
#[derive(Debug)]
pub struct Line {
    pub accepted: usize,
    pub evaluations: usize,
    pub dead: usize,
    pub lost: usize,
    pub duplicated: usize,
    pub recovered_s: Option<f64>,
    /// Promises that were not kept, each beginning with its letter.
    pub wrong: Vec<String>,
}

impl Row {
    /// A row with a service of these parts. Waits until no other row runs: two cores are soon too few.
    pub fn new(name: &'static str, fault: impl Into<String>, parts: Parts) -> Self {
        let turn = super::turn();
        Self {
            name,
            fault: fault.into(),
            service: Service::of(parts),
            sent: Arc::default(),
            versions: 1,
            patience: PATIENCE,
            wrong: Vec::new(),
            fault_over: None,
            recovered: None,
            unfinished: false,
            _turn: turn,
        }
    }

    /// Sends so many calls; every tenth is malformed, every seventh comes twice. Returns when the queue has them.
    pub fn send(&self, calls: usize) {
        let producer = Producer::of(&self.service, &self.sent);
        assert!(producer.send_calls(calls, &AtomicBool::new(false)), "the queue does not take calls");
    }

    /// Sends every call so far again, once.
    pub fn send_again(&self) {
        let numbers = 0..self.sent.lock().unwrap().next;
        self.send_payloads(
            numbers.map(|number| (id(number), call(number).to_string().into_bytes())).collect(),
        );
    }

    /// Sends these payloads, each under the id by which its end is known.
    pub fn send_payloads(&self, payloads: Vec<(String, Vec<u8>)>) {
        let producer = Producer::of(&self.service, &self.sent);
        for batch in payloads.chunks(20) {
            let ids: Vec<String> = batch.iter().map(|(id, _)| id.clone()).collect();
            let messages = batch.iter().map(|(_, payload)| message(payload.clone())).collect();
            assert!(
                producer.publish(&ids, messages, &AtomicBool::new(false)),
                "the queue does not take payloads"
            );
        }
    }

    /// Notes calls that another producer has put on the queue.
    pub fn note_accepted(&self, ids: impl Iterator<Item = String>) {
        let mut sent = self.sent.lock().unwrap();
        for id in ids {
            sent.tried.insert(id.clone());
            sent.accepted.insert(id);
        }
    }

    /// Notes a call that may be on the queue or not.
    pub fn note_tried(&self, id: String) {
        self.sent.lock().unwrap().tried.insert(id);
    }

    /// Sends calls all the time, a batch of `batch` every `pause`, until [`Flow::stop`].
    pub fn flow(&self, batch: usize, pause: Duration) -> Flow {
        let (stop, producer) = (Arc::new(AtomicBool::new(false)), Producer::of(&self.service, &self.sent));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                producer.send_calls(batch, &stopped);
                sleep(pause);
            }
        });
        Flow { stop, thread: Some(thread) }
    }

    /// Starts a worker.
    pub fn worker(&self, variables: &[(&str, &str)]) -> Running {
        self.service.start(variables)
    }

    /// Notes a promise that was not kept.
    pub fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// Notes a promise that was not kept, unless this holds.
    pub fn expect(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.wrong(otherwise);
        }
    }

    /// The fault ends now: the time of recovery runs.
    pub fn fault_over(&mut self) {
        self.fault_over = Some(Instant::now());
    }

    /// How many of the accepted calls have ended; 0 where the store cannot be asked.
    pub fn ended(&self) -> usize {
        let ends = self.ends().unwrap_or_default();
        let sent = self.sent.lock().unwrap();
        sent.accepted.iter().filter(|id| ends.contains_key(*id)).count()
    }

    /// How many were accepted.
    pub fn accepted(&self) -> usize {
        self.sent.lock().unwrap().accepted.len()
    }

    /// Waits until so many of the accepted calls have ended.
    pub fn await_ended(&self, calls: usize) -> bool {
        let until = Instant::now() + self.patience;
        while Instant::now() < until {
            if self.ended() >= calls {
                return true;
            }
            sleep(Duration::from_millis(100));
        }
        false
    }

    /// Waits until every accepted call has ended, and measures how long after the fault that was.
    pub fn await_all(&mut self) {
        self.unfinished = !self.await_ended(self.accepted());
        if self.unfinished {
            self.show_queue();
            self.wrong("L: calls are left over and nobody works on them");
        } else if let Some(over) = self.fault_over {
            self.recovered = Some(over.elapsed().as_secs_f64());
        }
    }

    /// Waits until some more calls have ended: the workers work.
    pub fn await_more(&self, calls: usize) {
        let before = self.ended();
        assert!(self.await_ended(before + calls), "the workers do not work");
    }

    /// Ends a row in which calls flowed all the time: the flow stops, all of it must end.
    pub fn settle(mut self, flow: Flow, workers: Vec<Running>) -> Line {
        self.fault_over();
        sleep(Duration::from_secs(1));
        flow.stop();
        self.await_all();
        self.stop(workers);
        self.close()
    }

    /// Prints what is left in the queue, where it is a table.
    fn show_queue(&self) {
        let left = "SELECT 'row ' || id || ' handed out ' || deliveries || ' times, lease '
            || coalesce(CAST(lease_token AS text), 'none') || ', due at ' || available_ms FROM queue ORDER BY id LIMIT 20";
        println!("left in the queue: {:#?}", self.service.tables.texts(left));
    }

    /// Ends workers gracefully and checks what they leave: exit code 0, a clean log, bounded memory.
    pub fn stop(&mut self, workers: Vec<Running>) {
        for mut worker in workers {
            self.check_memory(&worker);
            worker.signal("TERM");
            let patience = Instant::now();
            let status = super::within(Duration::from_secs(40), || worker.child.try_wait().unwrap());
            match status {
                Some(status) if status.success() => {}
                Some(status) => self.wrong(format!("G: SIGTERM ended in {status}")),
                None => {
                    self.wrong(format!("G: {} s after SIGTERM it still runs", patience.elapsed().as_secs()))
                }
            }
            self.check_log(&worker);
            if self.unfinished {
                let log = worker.log.lock().unwrap();
                println!("the last of the log:\n{}", log[log.len().saturating_sub(LAST_WORDS)..].join("\n"));
            }
        }
    }

    /// No log shows what was said, or a password.
    pub fn check_log(&mut self, worker: &Running) {
        let secrets = [MARKER, SECRET];
        let log = worker.log.lock().unwrap();
        if let Some(line) = log.iter().find(|line| secrets.iter().any(|secret| line.contains(secret))) {
            self.wrong.push(format!("S: a log shows content or a secret: {line}"));
        }
    }

    /// Memory of a worker at its highest.
    fn check_memory(&mut self, worker: &Running) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", worker.child.id())).unwrap_or_default();
        let highest = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = highest.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        if let Some(kb) = kb.filter(|&kb| kb > MOST_KB && !self.service.has_model) {
            self.wrong(format!("B: {kb} kB of memory"));
        }
    }

    /// Every evaluation and dead letter by the id of its call: evaluator versions, and `dead` for a letter.
    fn ends(&self) -> Result<HashMap<String, Vec<String>>, sqlx::Error> {
        let tables = &self.service.tables;
        let mut ends: HashMap<String, Vec<String>> = HashMap::new();
        for (id, version) in tables.pairs("SELECT request_id, evaluator_version FROM evaluations")? {
            ends.entry(id).or_default().push(version);
        }
        for (letter, id) in
            tables.pairs("SELECT CAST(dead_letter_id AS text), request_id FROM dead_letters")?
        {
            let known = if id.is_empty() { letter } else { id };
            ends.entry(known).or_default().push("dead".into());
        }
        Ok(ends)
    }

    /// Checks what is left, prints the line and gives it.
    pub fn close(mut self) -> Line {
        let ends = eventually(|| self.ends().ok()).expect("the store answers at the end");
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        let lost: Vec<&String> = sent.accepted.iter().filter(|id| !ends.contains_key(*id)).collect();
        if let Some(id) = lost.first() {
            self.wrong.push(format!("C: {} lost, {id} first", lost.len()));
        }
        let (mut duplicated, mut evaluations, mut dead) = (0, 0, 0);
        for (id, ends) in &ends {
            let letters = ends.iter().filter(|end| *end == "dead").count();
            let versions: BTreeSet<&String> = ends.iter().filter(|end| *end != "dead").collect();
            let allowed = if versions.is_empty() { 1 } else { versions.len().min(self.versions) };
            duplicated += ends.len() - allowed;
            evaluations += ends.len() - letters;
            dead += letters;
            if !sent.tried.contains(id) {
                self.wrong.push(format!("C: {id} was never sent"));
            }
        }
        if duplicated > 0 {
            self.wrong.push(format!("U: {duplicated} ends too many"));
        }
        self.check_outbox();
        self.check_sink();
        let line = Line {
            accepted: sent.accepted.len(),
            evaluations,
            dead,
            lost: lost.len(),
            duplicated,
            recovered_s: self.recovered,
            wrong: std::mem::take(&mut self.wrong),
        };
        println!("{}", line.told(self.name, &self.fault));
        line
    }

    /// One outbox row for each evaluation and sink.
    fn check_outbox(&mut self) {
        let query = "SELECT count(*) FROM evaluations e WHERE
                     (SELECT count(*) FROM outbox o WHERE o.evaluation_id = e.evaluation_id) <> 1";
        let unsent = self.service.tables.number(query).unwrap();
        self.expect(unsent == 0, &format!("O: {unsent} evaluations without exactly one outbox row"));
    }

    /// Whatever was sent twice has the same id and says the same.
    fn check_sink(&mut self) {
        let text = std::fs::read(self.service.path("out.jsonl")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut seen: BTreeMap<String, (String, String)> = BTreeMap::new();
        // A line that was cut off by a kill is written again.
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let delivery = line["delivery_id"].to_string();
            let evaluation = line.get("evaluation").unwrap_or(&line)["evaluation_id"].to_string();
            let line = line.to_string();
            let first = seen.entry(evaluation).or_insert_with(|| (delivery.clone(), line.clone()));
            if *first != (delivery, line) {
                return self.wrong("W: an evaluation was delivered under two ids or with two bodies");
            }
        }
    }
}

impl Line {
    /// Whether every promise was kept, recovery in time included.
    pub fn ok(&self) -> bool {
        self.wrong.is_empty() && self.recovered_s.is_none_or(|seconds| seconds <= RECOVERY_S)
    }

    /// The row with its columns.
    fn told(&self, name: &str, fault: &str) -> String {
        let recovered = self.recovered_s.map_or("–".into(), |seconds| format!("{seconds:.1}"));
        let ok = match (self.ok(), self.wrong.first()) {
            (true, _) => "yes".into(),
            (false, Some(_)) => format!("no: {}", self.wrong.join("; ")),
            (false, None) => "no: L: recovered too late".into(),
        };
        let Self { accepted, evaluations, dead, lost, duplicated, .. } = self;
        format!(
            "row {name} · {fault} · {accepted} · {evaluations} · {dead} · {lost} · {duplicated} · {recovered} · {ok}"
        )
    }

    /// Fails the test where a promise was broken. Not where recovery was late: that depends on the machine.
    pub fn must_hold(&self) {
        assert!(self.wrong.is_empty(), "{:?}", self.wrong);
        assert_eq!((self.lost, self.duplicated), (0, 0));
        assert!(self.accepted > 0, "nothing was tried");
    }

    /// Whether the checker has found this promise broken.
    pub fn finds(&self, promise: &str) -> bool {
        !self.ok() && self.wrong.iter().any(|wrong| wrong.starts_with(promise))
    }
}

/// Calls that are sent all the time.
pub struct Flow {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flow {
    /// Ends it; a batch that the queue does not take is given up.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.end();
    }
}

/// Puts calls on the queue as a producer would, again and again until it has them.
struct Producer {
    way: Way,
    sent: Arc<Mutex<Sent>>,
}

/// How calls come to the queue.
enum Way {
    /// By the library, in this process.
    Inside(tokio::runtime::Runtime, Arc<dyn sources::Publisher>),
    /// By `aftercheck enqueue`, where the queue's client reads the environment.
    Outside(Box<dyn Fn() -> Command + Send>),
}

impl Way {
    /// Whether the queue has confirmed all messages.
    fn publish(&self, messages: &[Message]) -> bool {
        match self {
            Self::Inside(runtime, publisher) => {
                let publishing = async { timeout(CONFIRM, publisher.publish(messages.to_vec())).await };
                matches!(runtime.block_on(publishing), Ok(Ok(())))
            }
            Self::Outside(enqueue) => {
                let mut child = enqueue().stdin(Stdio::piped()).spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                // It may have given up before it has read everything.
                messages.iter().for_each(|message| {
                    drop(stdin.write_all(&message.payload).and_then(|()| stdin.write_all(b"\n")));
                });
                drop(stdin);
                ended(&mut child).is_some_and(|status| status.success())
            }
        }
    }
}

impl Producer {
    fn of(service: &Service, sent: &Arc<Mutex<Sent>>) -> Self {
        let sent = Arc::clone(sent);
        let (file, variables) = (service.path("c.toml"), service.variables.clone());
        if !variables.is_empty() {
            let enqueue = move || {
                let mut command = Command::new(env!("CARGO_BIN_EXE_aftercheck"));
                command.arg("--config").arg(&file).args(["enqueue", "-"]).envs(variables.iter().cloned());
                command.env("AFTERCHECK_LOG", "off").stdout(Stdio::null()).stderr(Stdio::null());
                command
            };
            return Self { way: Way::Outside(Box::new(enqueue)), sent };
        }
        let config = Config::load(Some(&file)).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let publisher = runtime.block_on(async {
            let databases = product::databases(&config).await.unwrap();
            sources::publisher(&config.source, &databases).unwrap()
        });
        Self { way: Way::Inside(runtime, publisher), sent }
    }

    /// Sends the next calls; false when it was stopped before the queue had them.
    fn send_calls(&self, calls: usize, stop: &AtomicBool) -> bool {
        let first = {
            let mut sent = self.sent.lock().unwrap();
            sent.next += calls;
            sent.next - calls
        };
        (first..first + calls).collect::<Vec<_>>().chunks(20).all(|numbers| {
            let (mut ids, mut messages) = (Vec::new(), Vec::new());
            for &number in numbers {
                let payload = call(number).to_string().into_bytes();
                ids.push(id(number));
                messages.push(message(payload.clone()));
                if number.is_multiple_of(7) {
                    messages.push(message(payload));
                }
            }
            self.publish(&ids, messages, stop)
        })
    }

    /// Publishes until the queue has confirmed; what it has not confirmed may be there all the same.
    fn publish(&self, ids: &[String], messages: Vec<Message>, stop: &AtomicBool) -> bool {
        self.sent.lock().unwrap().tried.extend(ids.iter().cloned());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.way.publish(&messages) {
                self.sent.lock().unwrap().accepted.extend(ids.iter().cloned());
                return true;
            }
            if stop.load(Ordering::SeqCst) {
                return false;
            }
            sleep(Duration::from_millis(200));
        }
        false
    }
}

/// A message of these bytes, in the lane of its tenant.
fn message(payload: Vec<u8>) -> Message {
    Message { payload: payload.into(), tenant_id: Some("acme".into()) }
}

/// The request id of a call.
pub fn id(number: usize) -> String {
    format!("kill-{number}")
}

/// One call; every tenth has its tokens in words.
pub fn call(number: usize) -> Value {
    let mut call = crate::service::call(number);
    call["content"]["answer"] = MARKER.into();
    call
}

/// The id under which the end of an unreadable payload is known.
pub fn letter_id(payload: &[u8]) -> String {
    dead_letter_id(&aftercheck::domain::id::sha256_hex(payload)).to_string()
}

/// Runs workers that drain the queue until they end; whether all did so with success.
pub fn drain(row: &Row, workers: usize, variables: &[(&str, &str)]) -> bool {
    let mut workers: Vec<_> = (0..workers).map(|_| row.service.drain(variables)).collect();
    workers.iter_mut().all(|worker| ended(worker).is_some_and(|status| status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(recovered_s: Option<f64>, wrong: &[&str]) -> Line {
        let wrong = wrong.iter().map(|text| (*text).to_owned()).collect();
        Line { accepted: 3, evaluations: 2, dead: 1, lost: 0, duplicated: 0, recovered_s, wrong }
    }

    #[test]
    fn a_line_says_no_when_a_promise_was_broken_or_recovery_was_late() {
        assert_eq!(line(Some(1.25), &[]).told("4", "kill"), "row 4 · kill · 3 · 2 · 1 · 0 · 0 · 1.2 · yes");
        assert!(line(Some(61.0), &[]).told("4", "kill").ends_with("no: L: recovered too late"));
        let broken = line(None, &["U: 1 ends too many"]);
        assert!(broken.told("4", "kill").ends_with("– · no: U: 1 ends too many"));
        assert!(broken.finds("U") && !broken.finds("C"));
    }
}
