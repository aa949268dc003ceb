//! Crash points and deliberately broken builds, compiled in with the Cargo feature `faults` only.
//!
//! `AFTERCHECK_CRASH=K6:40` aborts the process the 40th time it passes K6. The points are those of the
//! fault matrix: K1 received · K2 parsed · K3 rules done · K4 in NLI · K6 commit outstanding · K7 committed,
//! before the ack · K8 acked · K9 delivered to a sink, before its mark · K10 a notice told, before
//! its mark · K11 dead letter written, before the ack. K5 (judge answered) stands where the
//! verdict is known and the transaction has not begun.
//! `AFTERCHECK_CRASH_ON=id` aborts whenever the call with this request id is worked on, `AFTERCHECK_PANIC_ON=id`
//! panics within its rules, and `AFTERCHECK_SLOW_MS=500` makes every call take that long before its verdict is written.
//!
//! `AFTERCHECK_BROKEN=stalled_model` lets the model's thread hang: the watchdog must end the process, `stalled_consumer`
//! stalls the first Kafka consumer: its watchdog must build another. The others are builds that break one promise each, for the checker of the fault matrix to find: `ack_before_commit` settles first
//! and commits later; `forgetful_key` gives each attempt a key of its own; `missing_outbox` forgets the sinks;
//! `random_delivery_id` sends under another id each time, `random_score_id` each score; `idle_after_error` never asks a queue again that failed once,
//! and looks alive; `greedy_receive` takes more than it has permits for; `chatty` logs answers; `deaf` does not hear
//! SIGTERM; `no_fencing` settles whoever holds the lease by now. Three more are about judges: `patient_judge` has no deadline,
//! `insistent_judge` asks again whatever was said, `gullible_judge` believes any answer. Of notices: `random_webhook_id` tells
//! each under another id each time, `deaf_to_410` goes on where a receiver wants no more, `open_guard` lets webhooks lead anywhere.

#[cfg(feature = "faults")]
use std::{
    env, process,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Aborts here when this crash point is armed and has been passed often enough.
#[cfg(feature = "faults")]
pub fn crash_point(point: &str) {
    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let armed = ARMED.get_or_init(|| {
        let setting = env::var("AFTERCHECK_CRASH").ok()?;
        let (point, count) = setting.split_once(':').unwrap_or((&setting, "1"));
        Some((point.to_owned(), count.parse().ok()?))
    });
    if let Some((armed_point, count)) = armed
        && armed_point == point
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        process::abort();
    }
}

/// Aborts when the call with this request id is to kill the process.
#[cfg(feature = "faults")]
pub fn crash_on(request_id: &str) {
    if env::var("AFTERCHECK_CRASH_ON").is_ok_and(|armed| armed == request_id) {
        process::abort();
    }
}

/// Panics when the call with this request id is to bring out a fault of ours.
#[cfg(feature = "faults")]
#[expect(clippy::panic, reason = "the fault that is injected")]
pub fn panic_on(request_id: &str) {
    if env::var("AFTERCHECK_PANIC_ON").is_ok_and(|armed| armed == request_id) {
        panic!("injected, with 4111 1111 1111 1111 in its words");
    }
}

/// Takes as long as every call is to take.
#[cfg(feature = "faults")]
pub async fn slow() {
    let millis = env::var("AFTERCHECK_SLOW_MS").ok().and_then(|millis| millis.parse().ok());
    if let Some(millis) = millis {
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
    }
}

/// Whether this deliberately broken behaviour is switched on.
#[cfg(feature = "faults")]
pub fn broken(name: &str) -> bool {
    env::var("AFTERCHECK_BROKEN").is_ok_and(|setting| setting == name)
}

/// Nothing, outside the fault tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn crash_point(_: &str) {}

/// Nothing, outside the fault tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn crash_on(_: &str) {}

/// Nothing, outside the fault tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn panic_on(_: &str) {}

/// Nothing, outside the fault tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn slow() -> std::future::Ready<()> {
    std::future::ready(())
}

/// Never, outside the fault tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn broken(_: &str) -> bool {
    false
}
