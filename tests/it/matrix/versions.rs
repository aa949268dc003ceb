//! Row 38: two evaluator versions side by side, and the change from one to the other while calls come.

use std::time::Duration;

use super::ledger::{Line, Row, drain};
use crate::service::Parts;

/// What makes the evaluator another version: its hash covers the thresholds.
const NEXT: (&str, &str) = ("AFTERCHECK__CASCADE__AUDIT_RATE", "0.5");

/// Row 38: old and new workers on one queue, the old ones go, then all calls come again.
pub fn is_rolled(name: &'static str, parts: Parts) -> Line {
    let mut row =
        Row::new("38", format!("two evaluator versions at once, then the next one only, {name}"), parts);
    row.versions = 2;
    let slow = ("AFTERCHECK_SLOW_MS", "20");
    let (old, new) = (row.worker(&[slow]), row.worker(&[slow, NEXT]));
    let flow = row.flow(5, Duration::from_millis(50));
    assert!(row.await_ended(60));
    row.stop(vec![old]);
    let newer = row.worker(&[slow, NEXT]);
    std::thread::sleep(Duration::from_secs(1));
    flow.stop();
    row.fault_over();
    row.await_all();
    row.stop(vec![new, newer]);
    let versions = row.service.tables.texts("SELECT DISTINCT evaluator_version FROM evaluations").unwrap();
    row.expect(versions.len() == 2, &format!("{} evaluator versions have decided", versions.len()));
    // All of it again, for the next version: the calls that it has decided are no news.
    row.send_again();
    let drained = drain(&row, 2, &[NEXT]);
    row.expect(drained, "the last run did not drain");
    let query = "SELECT count(*) FROM calls c WHERE NOT EXISTS (SELECT 1 FROM evaluations e
        WHERE e.tenant_id = c.tenant_id AND e.request_id = c.request_id AND e.evaluator_version = (
            SELECT evaluator_version FROM evaluations ORDER BY evaluated_ms DESC LIMIT 1))";
    let without = row.service.tables.number(query).unwrap();
    row.expect(without == 0, &format!("C: {without} calls without an evaluation of the next version"));
    row.close()
}

#[test]
fn row_38_sqlite_is_rolled() {
    is_rolled("sqlite", Parts::default()).must_hold();
}
