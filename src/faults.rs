//! Crash points and deliberately broken builds, compiled in with the Cargo feature `faults` only.
//!
//! `AFTERCHECK_CRASH=K6:40` aborts the process the 40th time it passes K6. The points are those of the
//! fault matrix: K1 received · K2 parsed · K3 rules done · K4 in NLI · K6 commit outstanding · K7 committed,
//! before the ack · K8 acked · K9 delivered to a sink, before its mark · K11 dead letter written, before the ack. K5 (judge answered) stands where the
//! verdict is known and the transaction has not begun.
//! `AFTERCHECK_BROKEN=ack_before_commit` settles first and commits later: the kill test must catch it.
//! `AFTERCHECK_BROKEN=stalled_consumer` stalls the first Kafka consumer: the watchdog must build another.
//! `AFTERCHECK_BROKEN=stalled_model` lets the model's thread hang: the watchdog must end the process.

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

/// Whether this deliberately broken behaviour is switched on.
#[cfg(feature = "faults")]
pub fn broken(name: &str) -> bool {
    env::var("AFTERCHECK_BROKEN").is_ok_and(|setting| setting == name)
}

/// Nothing, outside the fault tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn crash_point(_: &str) {}

/// Never, outside the fault tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn broken(_: &str) -> bool {
    false
}
