//! Rows 29 and 30: a trace backend that takes a part, refuses, forgets to answer, and is down for long.

use std::time::{Duration, Instant};

use aftercheck::{pipeline::dispatch::DeliveryConfig, store::reviewing::Scope};
use tokio::time::sleep;

use super::turn;
use crate::{
    dispatch::{
        DEAD, OPEN, Work,
        backend::{Backend, Mood, Traps},
        until,
    },
    store::{
        place::{Place, on_postgres, on_sqlite},
        records,
    },
};

/// Calls that are recorded at a time.
const GROUP: usize = 50;

/// Records the calls of these numbers.
async fn record(place: &Place, numbers: std::ops::Range<usize>) {
    let mut from = numbers.start;
    while from < numbers.end {
        let to = (from + GROUP).min(numbers.end);
        place.store.record(&records(from..to).await).await.unwrap();
        from = to;
    }
}

/// Prints the row, as the matrix has them: what was accepted is evaluations; what is lost or doubled, scores at the backend.
async fn close(place: &Place, backend: &Backend, row: &str, recovered: Option<Duration>) -> (i64, i64) {
    let accepted = place.count("SELECT count(*) FROM evaluations").await;
    let (dead, scores) = (place.count(DEAD).await, backend.scores().len() as i64);
    let (lost, duplicated) = (accepted - dead - scores, backend.ids() as i64 - scores);
    let ok = if (lost, duplicated) == (0, 0) { "yes" } else { "no: O" };
    let recovered = recovered.map_or("–".into(), |took| format!("{:.1}", took.as_secs_f64()));
    println!("row {row} · {accepted} · {accepted} · {dead} · {lost} · {duplicated} · {recovered} · {ok}");
    (lost, duplicated)
}

/// Row 29: 413 splits, an item that is refused is dead, one that failed is sent again alone, 409 is success, and what was taken and
/// not answered is there once.
async fn takes_a_part(place: Place, name: &str) {
    record(&place, 0..300).await;
    let backend = Backend::default();
    backend.traps(Traps {
        refused: (0..300).filter(|number| number % 50 == 7).collect(),
        hiccups: (0..300).filter(|number| number % 9 == 0).collect(),
        most: Some(30),
        unanswered: 2,
        ..Traps::default()
    });
    let work = Work::begin(&place, &backend, 40, false).await;
    until(&place, OPEN, 0).await;
    work.end().await;
    let fault = format!("29 · 207 in part, 409, 413, 422, 503, taken and not answered, {name}");
    assert_eq!(close(&place, &backend, &fault, None).await, (0, 0));
    assert_eq!(place.count(DEAD).await, 6);
    let dead = place.store.dead_deliveries(Some("one"), &Scope::default(), 10).await.unwrap();
    assert!(dead.iter().all(|one| one.reason == "status 422"), "each with its reason: {dead:?}");
    // Only what nobody had answered about came twice.
    let twice = backend.scores().values().filter(|times| **times > 1).count();
    assert!((1..=2 * 30).contains(&twice), "{twice}");
    assert!(backend.scores().values().all(|times| *times <= 2));
}

/// Row 30: a backend that is down for long, in compressed time: verdicts go on, the outbox keeps them, and what has gathered
/// comes down on nobody.
async fn is_down_for_long(place: Place, name: &str) {
    record(&place, 0..200).await;
    let backend = Backend::default();
    backend.is(Mood::Says(503));
    let work = Work::begin(&place, &backend, 40, false).await;
    let begun = Instant::now();
    for from in (200..600).step_by(100) {
        record(&place, from..from + 100).await;
        sleep(Duration::from_secs(1)).await;
    }
    let down = begun.elapsed();
    let tries = backend.batches().len();
    assert!(
        (3..=12).contains(&tries),
        "{tries} batches in {down:?}: the pauses do not grow, or it is not asked"
    );
    assert_eq!(place.count(OPEN).await, 600, "the outbox keeps all of it");
    // A pause that began while it was down is waited for: the longest here is eight seconds, of a day five minutes.
    backend.takes(Duration::from_millis(20));
    backend.is(Mood::Kind);
    let back = Instant::now();
    until(&place, OPEN, 0).await;
    let fault = format!("30 · backend down, {tries} tries in {:.0} s, {name}", down.as_secs_f64());
    assert_eq!(close(&place, &backend, &fault, Some(back.elapsed())).await, (0, 0));
    work.end().await;
    let after: Vec<usize> = backend.batches()[tries..].iter().map(|(_, size)| *size).collect();
    assert_eq!(after[..4], [1, 2, 4, 8], "it is asked with one, then with more: {after:?}");
    assert!(after.iter().all(|size| *size <= 40));
    let most = DeliveryConfig::default().batches;
    assert!(backend.most_in_flight() <= most, "{} at a time", backend.most_in_flight());
    assert_eq!(place.count(DEAD).await, 0);
    let attempts = "SELECT count(*) FROM outbox WHERE sink = 'one' AND attempts <> 1";
    assert_eq!(place.count(attempts).await, 0, "while it was down no attempt was used up");
    assert!(backend.scores().values().all(|times| *times == 1));
}

#[test]
fn row_29_backend_takes_a_part() {
    run(|| async { on_sqlite(async |place: Place| takes_a_part(place, "sqlite").await).await });
    run(|| async { on_postgres(|place| takes_a_part(place, "postgres")).await });
}

#[test]
fn row_30_backend_is_down_for_long() {
    run(|| async { on_sqlite(async |place: Place| is_down_for_long(place, "sqlite").await).await });
    run(|| async { on_postgres(|place| is_down_for_long(place, "postgres")).await });
}

/// Runs one row while no other runs.
fn run<F: Future<Output = ()>>(row: impl FnOnce() -> F) {
    let _turn = turn();
    tokio::runtime::Runtime::new().unwrap().block_on(row());
}
