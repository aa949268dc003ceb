//! Rows 1, 2, 33: the process dies, where it hurts most, at random, and because of what a call holds.

use std::{
    process::Child,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Chance,
    ledger::{Line, Row, call, id},
    within,
};
use crate::service::{Parts, ended};

/// Crash points, each armed in turn.
const POINTS: [&str; 10] = ["K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K11"];
/// How long an armed worker may take to come to its point.
const TO_THE_POINT: Duration = Duration::from_secs(90);

/// Starts a worker with these variables, without waiting for it.
pub fn spawn(row: &Row, variables: &[(&str, &str)]) -> Child {
    let mut command = row.service.command(&["run"]);
    command.env("AFTERCHECK__HTTP__LISTEN", "127.0.0.1:0").envs(variables.iter().copied()).spawn().unwrap()
}

/// Whether an armed worker died at its point; it is ended either way.
fn dies(row: &Row, armed: &str) -> bool {
    // Few at a time, so that points which are passed once a batch are passed often.
    let mut worker = spawn(row, &[("AFTERCHECK_CRASH", armed), ("AFTERCHECK__PIPELINE__IN_FLIGHT", "4")]);
    let status = within(TO_THE_POINT, || worker.try_wait().unwrap());
    drop(worker.kill());
    drop(worker.wait());
    status.is_some_and(|status| status.code().is_none())
}

/// Works off what is left, undisturbed, and closes the row.
pub fn finish(mut row: Row) -> Line {
    row.fault_over();
    let worker = row.worker(&[]);
    row.await_all();
    row.stop(vec![worker]);
    row.close()
}

/// Row 1: calls come, and the worker dies at each crash point.
pub fn dies_at_every_point(name: &'static str, parts: Parts) -> Line {
    let mut row = Row::new("1", format!("kill -9 at K1…K11, {name}"), parts);
    for point in POINTS {
        if point == "K4" && !row.service.has_model {
            continue;
        }
        row.send(20);
        let died = dies(&row, &format!("{point}:2"));
        row.expect(died, &format!("{point} was not passed twice"));
    }
    finish(row)
}

/// Waits until a call has been begun since a time, ten seconds at most.
fn await_work(row: &Row, since_ms: i64) {
    let begun = format!(
        "SELECT (SELECT count(*) FROM attempts WHERE last_ms >= {since_ms})
             + (SELECT count(*) FROM evaluations WHERE evaluated_ms >= {since_ms})"
    );
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until && row.service.tables.number(&begun).unwrap_or_default() == 0 {
        sleep(Duration::from_millis(5));
    }
}

/// Row 2: two workers are killed at random moments while calls come.
pub fn dies_at_random(name: &'static str, parts: Parts, kills: usize, calls: usize) -> Line {
    let seed = 2;
    let mut row = Row::new("2", format!("{kills} kill -9 at random, seed {seed}, {name}"), parts);
    let (mut chance, mut hits) = (Chance(seed), 0);
    for round in 0..kills {
        row.send(calls / kills);
        let began_ms = jiff::Timestamp::now().as_millisecond();
        let mut workers = [spawn(&row, &[]), spawn(&row, &[])];
        // Every other time from the moment when they work: how long they take to come to it depends on the machine.
        let (from, to) = if round.is_multiple_of(2) { (100, 500) } else { (0, 40) };
        if from == 0 {
            await_work(&row, began_ms);
        }
        for worker in &mut workers {
            sleep(chance.millis(from, to));
            worker.kill().unwrap();
        }
        workers.iter_mut().for_each(|worker| drop(worker.wait()));
        // Attempts of this round: what earlier ones left behind proves nothing of this one.
        let of_round = format!("SELECT count(*) FROM attempts WHERE last_ms >= {began_ms}");
        let in_work = row.service.tables.number(&of_round).unwrap();
        hits += usize::from(in_work > 0);
    }
    println!("{hits} of {kills} kills came while calls were in work");
    row.expect(hits >= kills / 10, "the kills come too early or too late to prove anything");
    finish(row)
}

#[test]
fn row_01_sqlite_dies_at_every_point() {
    let model = Parts { model: true, ..Parts::default() };
    dies_at_every_point("sqlite", model).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_02_sqlite_dies_at_random() {
    dies_at_random("sqlite", Parts::default(), 20, 800).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_02_sqlite_dies_at_random_long() {
    dies_at_random("sqlite", Parts::default(), 200, 10_000).must_hold();
}

/// Row 33: one call aborts the process whenever it is worked on. It becomes a dead letter, and the others do not.
pub fn one_call_kills(name: &'static str, parts: Parts) -> Line {
    let mut row = Row::new("33", format!("a call that aborts the process, {name}"), parts);
    let ids = (1..40).filter(|number| !usize::is_multiple_of(*number, 10));
    let calls: Vec<_> = ids.map(|number| (id(number), call(number).to_string().into_bytes())).collect();
    let neighbours = calls.len() - 1;
    row.send_payloads(calls);
    let armed = [("AFTERCHECK_CRASH_ON", "kill-15"), ("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "3")];
    let mut deaths = 0;
    while row.ended() < row.accepted() && deaths <= 10 {
        let mut worker = spawn(&row, &armed);
        let over =
            || worker.try_wait().unwrap().map(|_| true).or((row.ended() >= row.accepted()).then_some(false));
        deaths += usize::from(within(TO_THE_POINT, over) == Some(true));
        drop(worker.kill());
        ended(&mut worker);
    }
    row.expect(deaths == 3, &format!("it died {deaths} times, 3 attempts are allowed"));
    row.await_all();
    let line = row.close();
    println!("the process died {deaths} times");
    assert_eq!((line.evaluations, line.dead), (neighbours, 1), "its neighbours are evaluated");
    line
}

#[test]
fn row_33_sqlite_one_call_kills() {
    one_call_kills("sqlite", Parts::default()).must_hold();
}
