//! Rows 16, 23, 24, 42: many at once on the same file, the same call, the same lease.

use std::{
    io::Write,
    process::{Child, Stdio},
    thread::sleep,
    time::Duration,
};

use aftercheck::database::sqlite::{Database, SqliteConfig};

use super::{
    Chance,
    ledger::{Line, Row, call, id},
    stops::good_calls,
};
use crate::service::{Parts, Running, ended};

/// Calls of one of the writers of row 16.
const CALLS_PER_WRITER: usize = 120;

#[test]
fn row_16_writers_readers_and_a_backup_share_the_file() {
    let mut row =
        Row::new("16", "8 writers, a reader's transaction, a backup, a second process", Parts::default());
    row.send(20);
    let workers = vec![row.worker(&[]), row.worker(&[])];
    let writers: Vec<Child> = (1..=8).map(|writer| write(&row, writer * 1000)).collect();
    let backup = row.service.path("backup.db");
    row.service.database(async |database| {
        let mut reading = database.read().begin().await.unwrap();
        let count = "SELECT count(*) FROM evaluations";
        let before: i64 = sqlx::query_scalar(count).fetch_one(&mut *reading).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after: i64 = sqlx::query_scalar(count).fetch_one(&mut *reading).await.unwrap();
        assert_eq!(before, after, "a reader's transaction sees one moment");
    });
    row.service.tables.execute(&format!("VACUUM INTO '{}'", backup.display())).unwrap();
    for mut writer in writers {
        let status = ended(&mut writer);
        row.expect(status.is_some_and(|status| status.success()), "a writer failed");
    }
    for writer in 1..=8 {
        row.note_accepted((0..CALLS_PER_WRITER).map(|number| id(writer * 1000 + number)));
    }
    row.fault_over();
    row.await_all();
    let busy = |worker: &Running| {
        worker.log.lock().unwrap().iter().any(|line| line.contains("busy") || line.contains("locked"))
    };
    let surfaced = workers.iter().any(busy);
    row.expect(!surfaced, "BUSY came to the surface");
    row.stop(workers);
    for file in [row.service.path("a.db"), backup] {
        let sound = crate::tables::Tables::Sqlite(file).texts("PRAGMA integrity_check").unwrap();
        row.expect(sound == ["ok"], &format!("integrity_check: {sound:?}"));
    }
    row.close().must_hold();
}

/// A process that queues calls from this number on, in small transactions.
fn write(row: &Row, first: usize) -> Child {
    let mut writer = row.service.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = writer.stdin.take().unwrap();
    std::thread::spawn(move || {
        for number in first..first + CALLS_PER_WRITER {
            writeln!(stdin, "{}", call(number)).unwrap();
        }
    });
    writer
}

/// Row 23: every call three times in any order, all of it again, and some with another body.
pub fn comes_again(name: &'static str, parts: Parts) -> Line {
    let mut row = Row::new("23", format!("duplicates ×3, reordered, replayed, other bodies, {name}"), parts);
    let workers = vec![row.worker(&[]), row.worker(&[])];
    let mut calls = good_calls(1..60);
    let once = calls.clone();
    calls.extend(once.clone());
    calls.extend(once.clone());
    Chance(23).shuffle(&mut calls);
    row.send_payloads(calls);
    row.await_all();
    row.send_payloads(once);
    let others: Vec<_> = (1..6).map(|number| (id(number), changed(number))).collect();
    row.send_payloads(others);
    let conflicts = "SELECT count(*) FROM ledger WHERE event = 'conflict'";
    let five = || (row.service.tables.number(conflicts).ok()? == 5).then_some(());
    let noted = super::within(Duration::from_secs(60), five).is_some();
    row.expect(noted, "a call with another body is not in the ledger");
    let kept =
        row.service.tables.number("SELECT count(*) FROM calls WHERE body LIKE '%something else%'").unwrap();
    row.expect(kept == 0, "U: a later body took the place of the first");
    row.await_all();
    row.stop(workers);
    row.close()
}

/// A call with the id of another and another answer.
fn changed(number: usize) -> Vec<u8> {
    let mut call = call(number);
    call["content"]["answer"] = "something else".into();
    call.to_string().into_bytes()
}

#[test]
fn row_23_sqlite_comes_again() {
    comes_again("sqlite", Parts::default()).must_hold();
}

/// Row 24: two workers have the same call in work at once, again and again.
pub fn two_have_it(name: &'static str, parts: Parts) -> Line {
    let mut row = Row::new("24", format!("the same call on two workers at once, {name}"), parts);
    let one = [("AFTERCHECK__PIPELINE__IN_FLIGHT", "1"), ("AFTERCHECK_SLOW_MS", "800")];
    let workers = vec![row.worker(&one), row.worker(&one)];
    for call in good_calls(1..9) {
        row.send_payloads(vec![call.clone(), call]);
    }
    row.await_all();
    let twice = |worker: &Running| worker.metric("aftercheck_duplicates_total", &["same"]);
    let found = || (workers.iter().filter_map(twice).sum::<f64>() >= 8.0).then_some(());
    let all = super::within(Duration::from_secs(30), found).is_some();
    row.expect(all, "a second delivery was not found to be one");
    row.stop(workers);
    row.close()
}

#[test]
fn row_24_sqlite_two_have_it() {
    two_have_it("sqlite", Parts::default()).must_hold();
}

#[test]
fn row_42_one_stuck_row_behind_ten_thousand_leased_ones() {
    let mut row = Row::new("42", "10 000 leased rows, one whose lease ended", Parts::default());
    row.send_payloads(good_calls(1..2));
    // Leased by somebody who died, for a long time yet; the one that was sent is stuck behind them.
    let leased = "UPDATE queue SET lease_token = 'gone', id = 20001;
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
        INSERT INTO queue (id, lane, payload, enqueued_ms, available_ms, lease_token)
        SELECT i, (SELECT lane FROM queue WHERE id = 20001), x'7b7d', unixepoch() * 1000,
            (unixepoch() + 600) * 1000, 'other' FROM n";
    row.service.tables.execute(leased).unwrap();
    row.fault_over();
    let worker = row.worker(&[]);
    row.await_all();
    row.stop(vec![worker]);
    let left = row.service.tables.number("SELECT count(*) FROM queue WHERE lease_token = 'other'").unwrap();
    row.expect(left == 10_000, &format!("{left} of 10 000 leases were respected"));
    row.close().must_hold();
}

/// Row 16, the other way round: a file that is held for seconds, as a careless script does.
#[test]
fn row_16_the_file_is_locked_for_seconds() {
    let mut row = Row::new("16", "another process holds the write lock for 4 s", Parts::default());
    row.send(60);
    let worker = row.worker(&[]);
    let path = row.service.path("a.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = Database::open(&SqliteConfig { path }).await.unwrap();
        let lock = database.write().await.unwrap();
        sleep(Duration::from_secs(4));
        lock.rollback().await.unwrap();
        database.close().await;
    });
    row.fault_over();
    row.send(20);
    row.await_all();
    row.stop(vec![worker]);
    row.close().must_hold();
}
