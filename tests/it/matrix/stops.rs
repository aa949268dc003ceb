//! Rows 3, 36, 37, 43: signals, pauses, clocks, and a log that nobody reads.

use std::{
    fs,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    ledger::{Line, Row, call, id},
    within,
};
use crate::service::{Parts, Running, ended, eventually, signal};

/// Where Debian's `faketime` keeps its library.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Waits until a worker has so many calls in work.
fn await_in_flight(worker: &Running, calls: usize) {
    let busy = || (worker.metric("aftercheck_in_flight", &[])? >= calls as f64).then_some(());
    eventually(busy).expect("the worker takes calls");
}

/// Calls that can be evaluated, by number.
pub fn good_calls(numbers: impl Iterator<Item = usize>) -> Vec<(String, Vec<u8>)> {
    let good = numbers.filter(|number| !number.is_multiple_of(10));
    good.map(|number| (id(number), call(number).to_string().into_bytes())).collect()
}

/// Row 3: SIGTERM while calls are in work; then SIGTERM twice while they hang.
pub fn is_told_to_stop(name: &'static str, parts: Parts) -> Line {
    let mut row = Row::new("3", format!("SIGTERM mid-batch, SIGTERM twice, {name}"), parts);
    row.send_payloads(good_calls(1..40));
    let in_flight = ("AFTERCHECK__PIPELINE__IN_FLIGHT", "8");
    let worker = row.worker(&[in_flight, ("AFTERCHECK_SLOW_MS", "700")]);
    await_in_flight(&worker, 8);
    row.stop(vec![worker]);
    let done = row.ended();
    row.expect(done >= 8, "G: calls in work were not finished within the grace time");
    let mut worker = row.worker(&[in_flight, ("AFTERCHECK_SLOW_MS", "60000")]);
    await_in_flight(&worker, 8);
    worker.signal("TERM");
    eventually(|| (worker.get("/readyz").0 == 503).then_some(())).expect("unready while stopping");
    worker.signal("TERM");
    let code =
        within(Duration::from_secs(5), || worker.child.try_wait().unwrap()).and_then(|status| status.code());
    row.expect(code == Some(143), &format!("G: the second signal gave exit code {code:?}"));
    super::crashes::finish(row)
}

#[test]
fn row_03_sqlite_is_told_to_stop() {
    is_told_to_stop("sqlite", Parts::default()).must_hold();
}

/// Pauses a worker whose eight calls are counted, between two writes: within one it would keep everybody from the file, which
/// is another fault.
fn pause(row: &Row, worker: &Running) {
    let tables = &row.service.tables;
    let counted = || (tables.number("SELECT count(*) FROM attempts").ok()? == 8).then_some(());
    eventually(counted).expect("attempts are counted before the work");
    let pause = || {
        worker.signal("STOP");
        if tables.is_writable() {
            return Some(());
        }
        worker.signal("CONT");
        None
    };
    eventually(pause).expect("there is a moment between two writes");
}

/// Row 37: a worker is paused for longer than its lease while another does its work; then it goes on.
///
/// The other one holds all calls before the paused one goes on, however slow the machine is. It works on them one after
/// the other, as on whatever was begun before.
pub fn is_paused(name: &'static str, parts: Parts, broken: &[(&str, &str)]) -> Line {
    let mut row = Row::new(
        if broken.is_empty() { "37" } else { "broken" },
        format!("SIGSTOP for more than the lease, {name}"),
        parts,
    );
    row.send_payloads(good_calls(1..9));
    let settings = [("AFTERCHECK__PIPELINE__IN_FLIGHT", "8"), ("AFTERCHECK__SOURCE__LEASE_SECS", "3")];
    let paused = row.worker(&[&settings[..], &[("AFTERCHECK_SLOW_MS", "5000")], broken].concat());
    await_in_flight(&paused, 8);
    pause(&row, &paused);
    sleep(Duration::from_millis(3500));
    let other = row.worker(&[&settings[..], &[("AFTERCHECK_SLOW_MS", "3000")]].concat());
    await_in_flight(&other, 8);
    paused.signal("CONT");
    row.fault_over();
    let idle = || (paused.metric("aftercheck_in_flight", &[])? == 0.0).then_some(());
    eventually(idle).expect("the paused worker ends what it had");
    let stale = paused.metric("aftercheck_settled_total", &["ack", "ok"]).unwrap_or(0.0);
    row.expect(
        stale == 0.0,
        &format!("F: {stale} deliveries were settled by a worker that had lost its lease"),
    );
    row.await_all();
    row.stop(vec![paused, other]);
    row.close()
}

#[test]
fn row_37_sqlite_is_paused() {
    is_paused("sqlite", Parts::default(), &[]).must_hold();
}

/// Row 36: the wall clock jumps by an hour, forth and back, under two workers.
pub fn clock_jumps(name: &'static str, parts: Parts) -> Option<Line> {
    if !Path::new(FAKETIME).exists() {
        println!("skipped: faketime is not installed");
        return None;
    }
    let mut row = Row::new("36", format!("clock + 1 h, − 1 h, {name}"), parts);
    let clock = row.service.path("clock");
    let set = |offset: &str| {
        // Whole at once: a worker may be reading it.
        let next = clock.with_extension("next");
        fs::write(&next, offset).unwrap();
        fs::rename(&next, &clock).unwrap();
    };
    set("+0");
    let file = clock.to_str().unwrap().to_owned();
    let fake = [
        ("LD_PRELOAD", FAKETIME),
        ("FAKETIME_TIMESTAMP_FILE", &file),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("AFTERCHECK_SLOW_MS", "50"),
    ];
    let workers = vec![row.worker(&fake), row.worker(&fake)];
    let flow = row.flow(5, Duration::from_millis(100));
    for offset in ["+0", "+3600", "-3600", "+3600", "+0"] {
        set(offset);
        sleep(Duration::from_millis(1500));
    }
    flow.stop();
    row.fault_over();
    row.await_all();
    let received = |worker: &Running| worker.metric("aftercheck_calls_received_total", &[]).unwrap_or(0.0);
    let received: f64 = workers.iter().map(received).sum();
    let sent = row.accepted() as f64;
    row.expect(received <= 3.0 * sent, &format!("B: {received} deliveries of {sent} calls: a storm"));
    row.stop(workers);
    Some(row.close())
}

#[test]
fn row_36_sqlite_clock_jumps() {
    if let Some(line) = clock_jumps("sqlite", Parts::default()) {
        line.must_hold();
    }
}

#[test]
fn row_43_nobody_reads_the_log() {
    let mut row = Row::new("43", "stderr is a full pipe", Parts::default());
    row.send(400);
    let mut command = row.service.command(&["run"]);
    command
        .env("AFTERCHECK__HTTP__LISTEN", "127.0.0.1:0")
        .env("AFTERCHECK_LOG", "trace")
        .stderr(Stdio::piped());
    let mut worker = command.spawn().unwrap();
    row.await_all();
    let (id, begun) = (worker.id(), Instant::now());
    signal(&worker, "TERM");
    let status = within(Duration::from_secs(40), || worker.try_wait().unwrap());
    let took = begun.elapsed().as_secs();
    row.expect(
        status.is_some_and(|status| status.success()),
        &format!("G: {id} ended in {status:?} after {took} s"),
    );
    ended(&mut worker);
    // A pipe holds 64 kB, in pages that need not be full: it was full, or this shows nothing.
    let mut said = Vec::new();
    drop(std::io::Read::read_to_end(&mut worker.stderr.take().unwrap(), &mut said));
    row.expect(said.len() >= 48_000, &format!("only {} bytes were logged", said.len()));
    row.close().must_hold();
}
