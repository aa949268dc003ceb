//! The dispatcher with a store of each kind and a backend over HTTP that fails: what arrives, how often, and what it costs.

pub mod backend;
#[cfg(feature = "faults")]
mod crash;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aftercheck::{
    pipeline::dispatch::{self, DeliveryConfig, Dispatcher},
    redaction::Redactor,
    store::{Store, Whose, reviewing::Scope},
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use self::backend::{Backend, Mood, PlainSink, Traps};
use crate::store::{on_both, place::Place, records};

on_both! {
    each_item_has_its_own_end
    a_batch_that_is_too_large_goes_in_halves
    a_sink_that_is_down_uses_up_no_attempt
    a_row_that_brings_the_sink_down_holds_up_no_other
    a_paused_sink_is_sent_nothing
    a_drain_outlasts_an_outbox_that_cannot_be_read_for_a_moment
    a_drain_gives_up_an_outbox_that_stays_unreadable
    what_was_erased_is_taken_back_by_its_receipt
    what_cannot_be_taken_back_is_dead_with_its_reason
}

/// A dispatcher at work.
pub struct Work {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Work {
    /// Delivers what the store has for the sink `one`, so many items at a time.
    pub async fn begin(place: &Place, backend: &Backend, most: u32, drain: bool) -> Self {
        let stop = CancellationToken::new();
        let dispatcher = dispatcher(&place.store, &backend.serve().await, most);
        Self { task: tokio::spawn(dispatch::run(dispatcher, stop.clone(), drain)), stop }
    }

    /// Ends it.
    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Waits for its end.
    pub async fn drained(self) {
        self.task.await.unwrap();
    }
}

/// Delivers what the store has for the sink `one` to this address, so many items at a time.
fn dispatcher(store: &Arc<dyn Store>, url: &str, most: u32) -> Dispatcher {
    Dispatcher {
        name: "one".into(),
        sink: Arc::new(PlainSink::new(url, most)),
        quotes: true,
        pages: None,
        config: DeliveryConfig { max_attempts: 4, ..DeliveryConfig::default() },
        store: Arc::clone(store),
        redactor: Arc::new(Redactor::shipped()),
    }
}

/// Rows of the sink that are neither delivered nor dead.
pub const OPEN: &str =
    "SELECT count(*) FROM outbox WHERE sink = 'one' AND delivered_ms IS NULL AND dead_reason IS NULL";
/// Its rows that are dead.
pub const DEAD: &str = "SELECT count(*) FROM outbox WHERE sink = 'one' AND dead_reason IS NOT NULL";

/// Waits until a query says so much; fails after half a minute.
pub async fn until(place: &Place, query: &'static str, count: i64) {
    let begun = Instant::now();
    loop {
        let now = place.count(query).await;
        if now == count {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{query}: {now}, not {count}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn each_item_has_its_own_end(place: Place) {
    place.store.record(&records(0..40).await).await.unwrap();
    let backend = Backend::default();
    backend.traps(Traps { refused: [3, 17].into(), hiccups: [5, 6].into(), ..Traps::default() });
    let work = Work::begin(&place, &backend, 40, false).await;
    until(&place, OPEN, 0).await;
    work.end().await;
    let scores = backend.scores();
    assert_eq!(scores.len(), 38);
    assert!(scores.values().all(|times| *times == 1), "only what failed was sent again: {scores:?}");
    assert_eq!(place.count(DEAD).await, 2);
    let dead = place.store.dead_deliveries(Some("one"), &Scope::default(), 10).await.unwrap();
    assert!(dead.iter().all(|one| one.reason == "status 422" && one.attempts == 1));
    let receipts = "SELECT count(*) FROM outbox WHERE sink = 'one' AND receipt LIKE 'at-%'";
    assert_eq!(place.count(receipts).await, 38);
}

async fn a_batch_that_is_too_large_goes_in_halves(place: Place) {
    place.store.record(&records(0..40).await).await.unwrap();
    let backend = Backend::default();
    backend.traps(Traps { most: Some(6), ..Traps::default() });
    Work::begin(&place, &backend, 40, true).await.drained().await;
    assert_eq!((place.count(OPEN).await, place.count(DEAD).await, backend.ids()), (0, 0, 40));
    // 40, 20, 10 are refused; fives are taken.
    let sizes: Vec<usize> = backend.batches().iter().map(|(_, size)| *size).collect();
    assert_eq!(sizes.iter().filter(|size| **size == 5).count(), 8, "{sizes:?}");
    assert_eq!(sizes.len(), 1 + 2 + 4 + 8);
    // One item that is too large alone is dead, and says why.
    backend.traps(Traps { most: Some(0), ..Traps::default() });
    place.store.record(&records(40..41).await).await.unwrap();
    Work::begin(&place, &backend, 40, true).await.drained().await;
    assert_eq!(
        place.store.dead_deliveries(Some("one"), &Scope::default(), 10).await.unwrap()[0].reason,
        "status 413 Payload Too Large"
    );
}

async fn a_sink_that_is_down_uses_up_no_attempt(place: Place) {
    for mood in [Mood::Says(503), Mood::Limits, Mood::Says(401)] {
        place.sql("DELETE FROM outbox WHERE sink = 'one'").await;
        let number = place.count("SELECT count(*) FROM evaluations").await.unsigned_abs() as usize;
        place.store.record(&records(number..number + 30).await).await.unwrap();
        let backend = Backend::default();
        backend.is(mood);
        let work = Work::begin(&place, &backend, 10, false).await;
        sleep(Duration::from_secs(2)).await;
        let tries = backend.batches().len();
        assert!((1..=8).contains(&tries), "{mood:?}: it was asked {tries} times in two seconds");
        let tried = place
            .count("SELECT CAST(coalesce(sum(attempts), 0) AS bigint) FROM outbox WHERE sink = 'one'")
            .await;
        assert_eq!((tried, place.count(OPEN).await), (0, 30), "{mood:?}");
        let state = place.store.sink_states().await.unwrap().remove(0);
        assert!(state.last_error.unwrap().contains("status"), "{mood:?}");
        if mood != Mood::Says(401) {
            // It comes back, and nothing is lost or sent twice.
            backend.is(Mood::Kind);
            until(&place, OPEN, 0).await;
            let scores = backend.scores();
            assert_eq!((scores.len(), scores.values().max()), (30, Some(&1)), "{mood:?}");
        }
        work.end().await;
    }
}

async fn a_row_that_brings_the_sink_down_holds_up_no_other(place: Place) {
    place.store.record(&records(0..20).await).await.unwrap();
    let backend = Backend::default();
    backend.traps(Traps { poison: [11].into(), ..Traps::default() });
    let work = Work::begin(&place, &backend, 20, false).await;
    let begun = Instant::now();
    while backend.ids() < 19 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} of 19", backend.ids());
        sleep(Duration::from_millis(20)).await;
    }
    work.end().await;
}

async fn a_paused_sink_is_sent_nothing(place: Place) {
    let backend = Backend::default();
    let work = Work::begin(&place, &backend, 10, false).await;
    place.store.pause_sink("one", true).await.unwrap();
    place.store.record(&records(0..10).await).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((backend.batches().len(), place.count(OPEN).await), (0, 10));
    place.store.pause_sink("one", false).await.unwrap();
    until(&place, OPEN, 0).await;
    assert_eq!(backend.ids(), 10);
    work.end().await;
}

async fn a_drain_outlasts_an_outbox_that_cannot_be_read_for_a_moment(place: Place) {
    place.store.record(&records(0..10).await).await.unwrap();
    let backend = Backend::default();
    place.sql("ALTER TABLE outbox RENAME TO away").await;
    let work = Work::begin(&place, &backend, 5, true).await;
    sleep(Duration::from_millis(800)).await;
    place.sql("ALTER TABLE away RENAME TO outbox").await;
    work.drained().await;
    assert_eq!((backend.ids(), place.count(OPEN).await), (10, 0));
}

async fn a_drain_gives_up_an_outbox_that_stays_unreadable(place: Place) {
    place.store.record(&records(0..10).await).await.unwrap();
    let backend = Backend::default();
    place.sql("ALTER TABLE outbox RENAME TO away").await;
    let begun = Instant::now();
    Work::begin(&place, &backend, 5, true).await.drained().await;
    let tried_for = begun.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(20)).contains(&tried_for), "{tried_for:?}");
    assert_eq!(backend.ids(), 0);
}

async fn what_was_erased_is_taken_back_by_its_receipt(place: Place) {
    place.store.record(&records(0..3).await).await.unwrap();
    let backend = Backend::default();
    Work::begin(&place, &backend, 10, true).await.drained().await;
    assert_eq!(backend.ids(), 3);
    let whose = Whose::Call { request_id: "kill-1".into(), tenant_id: None };
    place.store.erase(&whose, None, 10, &["one".to_owned()]).await.unwrap();
    Work::begin(&place, &backend, 10, true).await.drained().await;
    assert_eq!(backend.scores().keys().cloned().collect::<Vec<_>>(), ["kill-0", "kill-2"]);
    assert_eq!(backend.deleted().len(), 1);
    assert_eq!(place.count(OPEN).await, 0);
}

async fn what_cannot_be_taken_back_is_dead_with_its_reason(place: Place) {
    place.store.record(&records(0..8).await).await.unwrap();
    let backend = Backend::default();
    Work::begin(&place, &backend, 10, true).await.drained().await;
    backend.traps(Traps { kept: [2, 5].into(), ..Traps::default() });
    for number in 0..8 {
        let whose = Whose::Call { request_id: format!("kill-{number}"), tenant_id: None };
        place.store.erase(&whose, None, 10, &["one".to_owned()]).await.unwrap();
    }
    Work::begin(&place, &backend, 10, true).await.drained().await;
    assert_eq!(place.count(OPEN).await, 0, "and it is not asked for again");
    assert_eq!(backend.scores().keys().cloned().collect::<Vec<_>>(), ["kill-2", "kill-5"]);
    let dead = place.store.dead_deliveries(Some("one"), &Scope::default(), 10).await.unwrap();
    assert_eq!(dead.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(), ["it cannot be deleted"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_batches_are_at_work_and_no_more_than_may_be() {
    crate::store::place::on_sqlite(async |place: Place| {
        place.store.record(&records(0..60).await).await.unwrap();
        let backend = Backend::default();
        backend.takes(Duration::from_millis(200));
        Work::begin(&place, &backend, 5, true).await.drained().await;
        assert_eq!((backend.ids(), backend.most_in_flight()), (60, DeliveryConfig::default().batches));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_sink_that_is_down() {
    crate::store::place::on_sqlite(async |place: Place| {
        place.store.record(&records(0..5).await).await.unwrap();
        let backend = Backend::default();
        backend.is(Mood::Says(500));
        let begun = Instant::now();
        Work::begin(&place, &backend, 5, true).await.drained().await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(place.count(OPEN).await, 5);
    })
    .await;
}
