//! The kill test: calls flow while the process dies again and again; afterwards every accepted call has exactly
//! one evaluation or one dead letter. The same checker must find losses in a build that acks before the commit.
//!
//! Needs the feature `faults`: `cargo test --features faults durability`.
#![cfg(feature = "faults")]

use std::{collections::HashSet, thread::sleep, time::Duration};

use serde_json::Value;

use super::service::{Service, ended, eventually};

/// Crash points, each armed once.
const POINTS: [&str; 10] = ["K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K11"];
/// Kills at random moments.
const KILLS: usize = 50;
/// Calls that are queued before each of them.
const CALLS_PER_ROUND: usize = 40;
/// The deliberately broken build in which the model's thread hangs.
const STALLED: (&str, &str) = ("AFTERCHECK_BROKEN", "stalled_model");

/// A small generator (SplitMix64): the same kills on every run.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Runs two workers on the same database and kills both at random times; true when a call was in work then.
fn kill_once(service: &Service, seed: &mut u64, variables: &[(&str, &str)]) -> bool {
    let mut workers = [service.drain(variables), service.drain(variables)];
    for worker in &mut workers {
        sleep(Duration::from_millis(50 + next(seed) % 250));
        worker.kill().unwrap();
    }
    for worker in &mut workers {
        worker.wait().unwrap();
    }
    service.in_work() > 0
}

/// Drains what is left, undisturbed.
fn finish(service: &Service) {
    service.let_outbox_leases_end();
    let status = ended(&mut service.drain(&[]));
    assert!(status.is_some_and(|status| status.success()), "the last run did not drain");
}

#[test]
fn nothing_is_lost_however_often_it_is_killed() {
    let mut service = Service::new();
    for point in POINTS {
        if point == "K4" && !service.has_model {
            continue;
        }
        service.enqueue(CALLS_PER_ROUND);
        let status = ended(&mut service.drain(&[("AFTERCHECK_CRASH", &format!("{point}:2"))]));
        // K1 and K6 are passed once per batch; whichever the count, the process must have died there.
        let died = status.is_some_and(|status| status.code().is_none());
        let again = || ended(&mut service.drain(&[("AFTERCHECK_CRASH", &format!("{point}:1"))]));
        assert!(died || again().is_some_and(|status| status.code().is_none()), "{point} was not passed");
    }
    let (mut seed, mut hits) = (7, 0);
    for _ in 0..KILLS {
        service.enqueue(CALLS_PER_ROUND);
        hits += usize::from(kill_once(&service, &mut seed, &[]));
    }
    finish(&service);
    println!("{hits} of {KILLS} kills came while calls were in work");
    assert!(hits >= 5, "the kills come too early or too late to prove anything");
    let count = service.report("kill test");
    assert!(service.accepted >= 2000);
    assert_eq!((count.lost, count.duplicated, count.queued), (0, 0, 0));
    assert!(count.dead_letters >= service.accepted as i64 / 10);
    // A line may be there twice after a kill; its delivery id tells. No evaluation has two ids, none has no line.
    let lines = std::fs::read_to_string(service.path("out.jsonl")).unwrap();
    let deliveries: HashSet<String> = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["delivery_id"].to_string())
        .collect();
    assert_eq!(deliveries.len() as i64, count.evaluations, "each evaluation reached the sink under one id");
}

#[test]
fn the_checker_finds_losses_when_the_ack_comes_before_the_commit() {
    let mut service = Service::new();
    let mut seed = 11;
    for _ in 0..10 {
        service.enqueue(CALLS_PER_ROUND);
        kill_once(&service, &mut seed, &[("AFTERCHECK_BROKEN", "ack_before_commit")]);
    }
    finish(&service);
    let count = service.report("broken build (ack before commit)");
    assert!(count.lost > 0, "the checker must find what this build loses");
}

#[test]
fn a_stalled_model_makes_the_process_unready_then_end_and_nothing_is_lost() {
    let mut service = Service::new();
    if !service.has_model {
        return println!("skipped: no tiny model, scripts/test makes it");
    }
    // Few calls: the worker goes on looking at its queue, and only the model does not move.
    service.enqueue(3);
    let mut running = service.start(&[STALLED, ("AFTERCHECK__HTTP__STALL_SECS", "2")]);
    let unready = eventually(|| Some(running.get("/readyz")).filter(|(status, _)| *status == 503));
    assert!(unready.unwrap().1.contains("stalled"));
    assert_eq!(running.get("/healthz").0, 200, "unready is not dead");
    let status = ended(&mut running.child);
    assert_eq!(status.and_then(|status| status.code()), Some(aftercheck::pipeline::EXIT_STALLED));
    finish(&service);
    let count = service.report("stalled model");
    assert_eq!((count.lost, count.duplicated, count.queued), (0, 0, 0));
}

#[test]
fn a_call_that_no_attempt_finishes_becomes_a_dead_letter_that_why_explains() {
    let mut service = Service::new();
    if !service.has_model {
        return println!("skipped: no tiny model, scripts/test makes it");
    }
    service.enqueue(2);
    let short =
        [("AFTERCHECK__PIPELINE__CALL_DEADLINE_SECS", "1"), ("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "2")];
    let status = ended(&mut service.drain(&[&short[..], &[STALLED]].concat()));
    assert!(status.is_some_and(|status| status.success()));
    let story = &service.json(&["why", "kill-1"])[0];
    assert_eq!(story["dead_letters"][0]["class"], "attempts_exhausted", "{story:#}");
    let ledger: Vec<&str> =
        story["ledger"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(ledger, ["retried", "retried", "dead"], "{story:#}");
    assert!(story["ledger"][0]["detail"].as_str().unwrap().contains("deadline"), "{story:#}");
}

#[test]
fn a_second_signal_ends_at_once_and_the_calls_in_work_come_again() {
    let mut service = Service::new();
    if !service.has_model {
        return println!("skipped: no tiny model, scripts/test makes it");
    }
    service.enqueue(CALLS_PER_ROUND);
    let mut running = service.start(&[STALLED]);
    let busy = || running.get("/metrics").1.lines().any(|line| line == "aftercheck_in_flight 32");
    eventually(|| busy().then_some(())).expect("every permit is in use");
    running.signal("TERM");
    eventually(|| (running.get("/readyz").0 == 503).then_some(())).expect("unready while stopping");
    running.signal("TERM");
    // Without the second signal it would wait for its grace time and exit 0.
    assert_eq!(ended(&mut running.child).and_then(|status| status.code()), Some(143));
    finish(&service);
    let count = service.report("second signal");
    assert_eq!((count.lost, count.duplicated, count.queued), (0, 0, 0));
}
