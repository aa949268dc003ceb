//! The checker bites: one deliberately broken build for each promise, and the promise that the checker finds broken.
//! A checker that never said no would prove nothing.

use std::{thread::sleep, time::Duration};

use super::{
    crashes::{finish, spawn},
    ledger::{Line, Row},
    stops::{good_calls, is_paused},
    within,
};
use crate::service::Parts;

/// A row of a broken build.
fn row(broken: &str) -> Row {
    let mut row = Row::new("broken", broken, Parts::default());
    row.patience = Duration::from_secs(30);
    row
}

/// The variable that switches a broken build on.
fn broken(name: &str) -> (&str, &str) {
    ("AFTERCHECK_BROKEN", name)
}

/// A row in which nothing happens but work, by a broken build.
fn quiet(name: &str) -> Line {
    let mut row = row(name);
    row.send(40);
    let worker = row.worker(&[broken(name)]);
    row.await_all();
    row.stop(vec![worker]);
    row.close()
}

/// A row in which the worker dies at a crash point and the next one goes on, both of a broken build.
fn crashed(name: &str, point: &str) -> Line {
    let mut row = row(name);
    row.send_payloads(good_calls(1..30));
    let mut worker = spawn(&row, &[broken(name), ("AFTERCHECK_CRASH", point)]);
    assert!(
        within(Duration::from_secs(30), || worker.try_wait().unwrap()).is_some(),
        "{point} was not passed"
    );
    row.service.let_outbox_leases_end();
    let worker = row.worker(&[broken(name)]);
    row.await_all();
    let unsent = "SELECT count(*) FROM outbox WHERE delivered_ms IS NULL";
    within(Duration::from_secs(30), || (row.service.tables.number(unsent).ok()? == 0).then_some(()));
    row.stop(vec![worker]);
    row.close()
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn c_and_a_an_ack_before_the_commit_is_found() {
    let row = row("ack_before_commit");
    row.send_payloads(good_calls(1..200));
    for _ in 0..4 {
        let left = || row.service.tables.number("SELECT count(*) FROM queue").ok();
        let before = left().unwrap();
        let mut worker = spawn(&row, &[broken("ack_before_commit")]);
        // Between the ack and the commit, which comes 300 ms later.
        within(Duration::from_secs(10), || (left()? < before).then_some(()));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let line = finish(row);
    assert!(line.finds("C") && line.lost > 0, "{line:?}");
}

#[test]
fn u_a_key_that_is_not_derived_is_found() {
    // Killed after a commit, so that calls come again.
    let line = crashed("forgetful_key", "K7:1");
    assert!(line.finds("U") && line.duplicated > 0, "{line:?}");
}

#[test]
fn o_a_verdict_without_its_outbox_row_is_found() {
    let line = quiet("missing_outbox");
    assert!(line.finds("O"), "{line:?}");
}

#[test]
fn w_a_delivery_under_another_id_is_found() {
    let line = crashed("random_delivery_id", "K9:1");
    assert!(line.finds("W"), "{line:?}");
}

#[test]
fn s_an_answer_in_the_log_is_found() {
    let line = quiet("chatty");
    assert!(line.finds("S"), "{line:?}");
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn g_a_process_that_does_not_hear_is_found() {
    let line = quiet("deaf");
    assert!(line.finds("G"), "{line:?}");
}

#[test]
fn b_more_leases_than_permits_are_found() {
    assert!(leases("greedy_receive").finds("B"), "more leases than permits must be found");
    leases("none").must_hold();
}

/// Counts leases while two slow calls are in work.
fn leases(name: &str) -> Line {
    let mut row = row(name);
    row.send_payloads(good_calls(1..60));
    let slow = [("AFTERCHECK__PIPELINE__IN_FLIGHT", "2"), ("AFTERCHECK_SLOW_MS", "150"), broken(name)];
    let worker = row.worker(&slow);
    row.await_ended(4);
    let leased = "SELECT count(*) FROM queue WHERE lease_token IS NOT NULL";
    let most = (0..20).map(|_| {
        sleep(Duration::from_millis(50));
        row.service.tables.number(leased).unwrap()
    });
    let most = most.max().unwrap();
    row.expect(most <= 2, &format!("B: {most} calls leased, 2 are allowed"));
    row.await_all();
    row.stop(vec![worker]);
    row.close()
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn l_a_worker_that_is_up_but_idle_is_found() {
    assert!(queue_away("idle_after_error").finds("L"), "a worker that is up but idle must be found");
    queue_away("none").must_hold();
}

/// The queue fails for a moment while a worker runs.
fn queue_away(name: &str) -> Line {
    let mut row = row(name);
    row.patience = Duration::from_secs(20);
    row.send(20);
    let worker = row.worker(&[broken(name)]);
    row.await_all();
    row.service.tables.execute("ALTER TABLE queue RENAME TO away").unwrap();
    let failed =
        || worker.log.lock().unwrap().iter().any(|line| line.contains("queue does not answer")).then_some(());
    within(Duration::from_secs(20), failed).expect("the queue fails");
    row.service.tables.execute("ALTER TABLE away RENAME TO queue").unwrap();
    row.fault_over();
    row.send(20);
    row.await_all();
    row.stop(vec![worker]);
    row.close()
}

#[test]
fn f_a_stale_worker_that_settles_is_found() {
    let line = is_paused("broken build without a fence", Parts::default(), &[broken("no_fencing")]);
    assert!(line.finds("F"), "{line:?}");
}
