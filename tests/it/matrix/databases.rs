//! Rows 12 to 15 with Postgres behind: a cluster of the tests' own that restarts, is cut off, locked, and lost in the
//! moment of a commit.

use std::{thread::sleep, time::Duration};

use super::{
    contention::{comes_again, two_have_it},
    crashes::{dies_at_every_point, dies_at_random, one_call_kills},
    ledger::Row,
    poison::is_poisoned,
    proxy::{Proxy, Toxic},
    servers::{Postgres, Rabbit},
    startup::tables_are_of_another_version,
    stops::{clock_jumps, good_calls, is_paused},
    versions::is_rolled,
    within,
};
use crate::service::Parts;

/// A service whose queue and verdicts are on the server at this port.
fn parts(port: u16) -> Parts {
    Parts {
        config: Some("[source]\nkind = \"postgres\"\nlease_secs = 2\n".into()),
        postgres: Some(Postgres::url(port)),
        ..Parts::default()
    }
}

#[test]
fn row_01_postgres_dies_at_every_point() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    dies_at_every_point("postgres", parts(postgres.port)).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_02_postgres_dies_at_random() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    dies_at_random("postgres", parts(postgres.port), 20, 800).must_hold();
}

/// A service whose queue is in RabbitMQ, and whose verdicts are on the server at this port.
fn apart(rabbit: &Rabbit, port: u16) -> Parts {
    let config = format!(
        "[source]\nkind = \"rabbitmq\"\nlease_secs = 5\n[source.rabbitmq]\nurl = {:?}\npassword_file = {:?}\nqueue = \"faults\"\n",
        Rabbit::url(rabbit.port),
        rabbit.password_file()
    );
    Parts { config: Some(config), postgres: Some(Postgres::url(port)), ..Parts::default() }
}

/// Row 12: the store restarts under work.
fn restarts(fault: &str, parts: Parts, postgres: &mut Postgres) {
    let row = Row::new("12", fault, parts);
    let workers = vec![row.worker(&[]), row.worker(&[])];
    let flow = row.flow(5, Duration::from_millis(50));
    for round in 0..4 {
        row.await_more(20);
        match round {
            3 => postgres.kill(),
            _ => postgres.stop_immediately(),
        }
        postgres.start_again();
    }
    row.settle(flow, workers).must_hold();
}

#[test]
fn row_12_postgres_restarts() {
    let Some(mut postgres) = super::with(Postgres::start) else { return };
    let parts = parts(postgres.port);
    restarts("postgres restarts at once ×3, killed once", parts, &mut postgres);
}

/// The queue goes on delivering meanwhile.
#[test]
#[ignore = "long: scripts/faults --all"]
fn row_12_rabbitmq_postgres_restarts() {
    let (Some(rabbit), Some(mut postgres)) = super::with(|| (Rabbit::start(), Postgres::start())) else {
        return;
    };
    let parts = apart(&rabbit, postgres.port);
    restarts("postgres restarts at once ×3, killed once, rabbitmq stays", parts, &mut postgres);
}

/// Row 13: the server says nothing any more.
fn server_is_silent(silence: Duration, frozen: bool) {
    let Some(postgres) = super::with(Postgres::start) else { return };
    let proxy = Proxy::before(postgres.port);
    let mut row = Row::new(
        "13",
        format!(
            "postgres {} for {} s",
            if frozen { "stopped" } else { "behind a black hole" },
            silence.as_secs()
        ),
        parts(proxy.port()),
    );
    // Beside the proxy the tests look themselves.
    row.service.tables = crate::tables::Tables::Postgres(Postgres::url(postgres.port));
    let worker = row.worker(&[]);
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    let silent = |silent: bool| match frozen {
        true => postgres.freeze(silent),
        false => proxy.set(if silent { Toxic::BlackHole } else { Toxic::None }),
    };
    silent(true);
    let begun = std::time::Instant::now();
    let unready = within(Duration::from_secs(35), || (worker.get("/readyz").0 == 503).then_some(()));
    row.expect(unready.is_some(), "L: ready while the server is silent");
    sleep(silence.saturating_sub(begun.elapsed()));
    silent(false);
    row.settle(flow, vec![worker]).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_13_postgres_black_hole() {
    server_is_silent(Duration::from_secs(40), false);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_13_postgres_is_frozen_long() {
    server_is_silent(Duration::from_secs(60), true);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_13_postgres_black_hole_long() {
    server_is_silent(Duration::from_secs(300), false);
}

/// Row 13: the same with the queue elsewhere, which answers all the time.
#[test]
#[ignore = "long: scripts/faults --all"]
fn row_13_rabbitmq_postgres_black_hole() {
    let (Some(rabbit), Some(postgres)) = super::with(|| (Rabbit::start(), Postgres::start())) else { return };
    let proxy = Proxy::before(postgres.port);
    let parts = apart(&rabbit, proxy.port());
    let mut row = Row::new("13", "black hole before postgres for 40 s, rabbitmq answers", parts);
    row.service.tables = crate::tables::Tables::Postgres(Postgres::url(postgres.port));
    let worker = row.worker(&[]);
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    proxy.set(Toxic::BlackHole);
    let begun = std::time::Instant::now();
    let unready = within(Duration::from_secs(35), || (worker.get("/readyz").0 == 503).then_some(()));
    row.expect(unready.is_some(), "L: ready while the store is silent");
    sleep(Duration::from_secs(40).saturating_sub(begun.elapsed()));
    proxy.set(Toxic::None);
    row.settle(flow, vec![worker]).must_hold();
}

/// Row 14: a session holds the tables, and there are two connections. How many calls used up their attempts.
fn tables_are_locked(seconds: u32, tables: &str, max_attempts: &str) -> i64 {
    let Some(postgres) = super::with(Postgres::start) else { return 0 };
    let mut row =
        Row::new("14", format!("{tables} locked for {seconds} s, 2 connections"), parts(postgres.port));
    // Were waiting for the store an attempt, or part of the deadline, calls would be buried in this time.
    let few = [
        ("AFTERCHECK__POSTGRES__CONNECTIONS", "2"),
        ("AFTERCHECK__POSTGRES__LOCK_TIMEOUT_SECS", "2"),
        ("AFTERCHECK__PIPELINE__CALL_DEADLINE_SECS", "3"),
        ("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", max_attempts),
    ];
    let worker = row.worker(&few);
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    let server = row.service.tables.clone();
    let lock = format!("BEGIN; LOCK TABLE {tables}; SELECT pg_sleep({seconds}); COMMIT");
    let holder = std::thread::spawn(move || server.execute(&lock).unwrap());
    sleep(Duration::from_secs(1));
    let begun = std::time::Instant::now();
    let body = super::ledger::call(9001).to_string();
    let (status, _) =
        worker.request("POST", "/v1/calls", &["content-type: application/json"], body.as_bytes());
    row.note_tried(super::ledger::id(9001));
    row.expect(status == 503 || status == 202, &format!("a producer was told {status}"));
    println!("a producer was told {status} after {:.1} s", begun.elapsed().as_secs_f64());
    row.expect(worker.get("/healthz").0 == 200, "health does not answer");
    holder.join().unwrap();
    let server = row.service.tables.clone();
    row.settle(flow, vec![worker]).must_hold();
    server.number("SELECT count(*) FROM dead_letters WHERE class = 'attempts_exhausted'").unwrap()
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_14_postgres_tables_are_locked() {
    tables_are_locked(8, "queue, evaluations, calls, attempts", "2");
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_14_postgres_tables_are_locked_long() {
    // Attempts can be counted meanwhile: they must not be used up by a store that takes no verdicts.
    let buried = tables_are_locked(25, "evaluations, calls", "1");
    assert_eq!(buried, 0, "calls that nothing is wrong with");
}

/// Row 15: what was committed is not told.
fn goes_between_commit_and_answer(fault: &str, parts: Parts, proxy: &Proxy, postgres: &Postgres) {
    let mut row = Row::new("15", fault, parts);
    row.service.tables = crate::tables::Tables::Postgres(Postgres::url(postgres.port));
    let worker = row.worker(&[]);
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    // The server says that it has committed; nobody hears it.
    proxy.set(Toxic::CutAnswer(b"COMMIT\0".to_vec(), 20));
    let cut = within(Duration::from_secs(60), || (proxy.cuts() >= 20).then_some(())).is_some();
    row.expect(cut, &format!("{} commits were cut, this shows little", proxy.cuts()));
    proxy.set(Toxic::None);
    row.settle(flow, vec![worker]).must_hold();
}

#[test]
fn row_15_postgres_goes_between_commit_and_answer() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    let proxy = Proxy::before(postgres.port);
    let fault = "connection cut between COMMIT and its answer ×20";
    goes_between_commit_and_answer(fault, parts(proxy.port()), &proxy, &postgres);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_15_rabbitmq_postgres_goes_between_commit_and_answer() {
    let (Some(rabbit), Some(postgres)) = super::with(|| (Rabbit::start(), Postgres::start())) else { return };
    let proxy = Proxy::before(postgres.port);
    let fault = "connection cut between COMMIT and its answer ×20, rabbitmq stays";
    goes_between_commit_and_answer(fault, apart(&rabbit, proxy.port()), &proxy, &postgres);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_11_postgres_resets_slow_and_sliced() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    let proxy = Proxy::before(postgres.port);
    let mut row =
        Row::new("11", "postgres: resets each 50 kB, 50 kB/s, bytes alone, refused", parts(proxy.port()));
    row.service.tables = crate::tables::Tables::Postgres(Postgres::url(postgres.port));
    let workers = vec![row.worker(&[]), row.worker(&[])];
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    for toxic in [
        Toxic::ResetAfter(50_000),
        Toxic::Bandwidth(50_000),
        Toxic::Slice,
        Toxic::Down,
        Toxic::Limit(20_000),
        Toxic::Reset,
    ] {
        proxy.set(toxic);
        sleep(Duration::from_secs(3));
    }
    proxy.set(Toxic::None);
    row.settle(flow, workers).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_23_postgres_comes_again() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    comes_again("postgres", parts(postgres.port)).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_24_postgres_two_have_it() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    two_have_it("postgres", parts(postgres.port)).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_32_postgres_is_poisoned() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    is_poisoned("postgres", parts(postgres.port), usize::MAX).must_hold();
}

/// One call that the store never takes, in words that say it may later, among calls that are well.
#[test]
fn row_32_postgres_takes_all_but_one() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    let mut row = Row::new("32", "postgres takes all calls but one, and calls it busy", parts(postgres.port));
    let mut payloads = good_calls(1..30);
    payloads.insert(3, (super::ledger::id(9001), super::ledger::call(9001).to_string().into_bytes()));
    row.send_payloads(payloads);
    let busy = "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '55P03'; END $$;
        CREATE TRIGGER busy BEFORE INSERT ON evaluations FOR EACH ROW WHEN (NEW.request_id = 'kill-9001')
            EXECUTE FUNCTION busy()";
    row.service.tables.execute(busy).unwrap();
    let worker = row.worker(&[("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "3")]);
    // Others come while it is tried again: that they are committed tells that the store is up.
    let flow = row.flow(5, Duration::from_millis(300));
    let letters =
        "SELECT count(*) FROM dead_letters WHERE request_id = 'kill-9001' AND class = 'attempts_exhausted'";
    let buried = within(Duration::from_secs(60), || {
        row.service.tables.number(letters).is_ok_and(|letters| letters == 1).then_some(())
    });
    row.expect(buried.is_some(), "the call is tried for ever");
    let line = row.settle(flow, vec![worker]);
    assert!(line.evaluations >= 29, "the neighbours are unharmed");
    line.must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_33_postgres_one_call_kills() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    one_call_kills("postgres", parts(postgres.port)).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_36_postgres_clock_jumps() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    if let Some(line) = clock_jumps("postgres", parts(postgres.port)) {
        line.must_hold();
    }
}

#[test]
fn row_37_postgres_is_paused() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    is_paused("postgres", parts(postgres.port), &[]).must_hold();
}

#[test]
fn row_38_postgres_is_rolled() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    is_rolled("postgres", parts(postgres.port)).must_hold();
}

#[test]
fn row_39_postgres_tables_are_of_another_version() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    tables_are_of_another_version("postgres", parts(postgres.port)).must_hold();
}
