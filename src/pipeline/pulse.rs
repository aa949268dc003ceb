//! Signs of life. A process that is up but idle while calls wait is a fault: it says so on `/readyz`, and ends
//! itself when it cannot go on, so that whoever supervises it starts it again and the leases give the calls back.

use std::{
    collections::BTreeMap,
    pin::pin,
    process,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use crate::inference::Batcher;

/// Exit code of a process that stalled: an internal software error (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_STALLED: i32 = 70;
/// How often the watchdog looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What the parts of a run tell about themselves, for readiness, progress and the watchdog.
#[derive(Default)]
pub struct Pulse {
    turned: Clock,
    contact: Clock,
    store: Asked,
    settled: AtomicU64,
    ended: AtomicBool,
    model: OnceLock<Batcher>,
}

/// How long ago something last happened; counts from its creation.
struct Clock {
    started: Instant,
    last_ms: AtomicU64,
}

/// Questions that wait for their answers, by the order in which they were asked: the first is the oldest.
#[derive(Default)]
struct Asked(Mutex<BTreeMap<u64, Instant>>);

/// A question to the store that waits for its answer; dropped, it waits no more.
pub(super) struct Owed<'a> {
    asked: &'a Asked,
    number: u64,
}

impl Pulse {
    /// Counts finished batches of this model as signs of life. The first model given stays.
    pub fn listen_to(&self, model: Batcher) {
        // A second model would be a second run in one process, which has its own pulse.
        drop(self.model.set(model));
    }

    /// Notes that the worker's loop goes round, whether or not the queue answered.
    pub fn turn(&self) {
        self.turned.touch();
    }

    /// Waits for what has a deadline of its own, which makes the wait no stall.
    pub(super) async fn turning<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK_INTERVAL) => self.turn(),
            }
        }
    }

    /// Notes that the queue answered or that a call came to its end.
    pub fn beat(&self) {
        self.turned.touch();
        self.contact.touch();
    }

    /// Notes that the store is asked; it owes the answer until what this gives is dropped.
    pub(super) fn ask_store(&self) -> Owed<'_> {
        let mut waiting = self.store.waiting();
        let number = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        waiting.insert(number, Instant::now());
        Owed { asked: &self.store, number }
    }

    /// How long the store has owed its oldest answer; zero while nobody waits. Where the queue is a broker, only this
    /// tells that the database is down.
    pub fn without_store(&self) -> Duration {
        self.store.waiting().first_key_value().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Notes that the worker has ended; what follows may take its time.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Counts a settled delivery.
    pub(super) fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// Deliveries settled so far.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// How long nothing has been achieved: no answer of the queue, no call ended, no batch finished. A queue that
    /// is down makes it grow; the process is not ready then, and goes on asking.
    pub fn fruitless(&self) -> Duration {
        self.contact.since().min(self.since_model())
    }

    /// How long nothing has moved at all, or how long calls have waited for a model that finishes no batch. Only a
    /// stall makes it grow: a queue or a store that is down and is asked again does not.
    pub fn silent(&self) -> Duration {
        let stuck = self.model.get().map_or(Duration::ZERO, Batcher::stuck);
        self.turned.since().min(self.since_model()).max(stuck)
    }

    /// How long ago the model finished a batch; for ever without a model.
    fn since_model(&self) -> Duration {
        self.model.get().map_or(Duration::MAX, Batcher::since_last_run)
    }
}

impl Asked {
    /// Questions to the store that wait for their answer, by number.
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        // It is written whole: a panic elsewhere leaves it readable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.asked.waiting().remove(&self.number);
    }
}

impl Clock {
    /// Now is the last time.
    fn touch(&self) {
        self.last_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago the last time was.
    fn since(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { started: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

/// Ends the process with [`EXIT_STALLED`] once nothing has moved for `limit`. On a thread of its own, because a
/// stalled runtime would stall a task of its own too. The thread ends when the worker has.
///
/// # Errors
/// When the system gives no thread.
pub fn watch(pulse: &Arc<Pulse>, limit: Duration) -> std::io::Result<()> {
    // Loading the model before this is no stall.
    pulse.beat();
    let pulse = Arc::clone(pulse);
    thread::Builder::new().name("watchdog".into()).spawn(move || {
        while !pulse.ended.load(Ordering::Relaxed) {
            let silent = pulse.silent();
            if silent > limit {
                tracing::error!(silent_s = silent.as_secs(), "stalled: ending, the calls in work come again");
                process::exit(EXIT_STALLED);
            }
            sleep(LOOK_INTERVAL);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_owes_its_oldest_answer_whatever_else_it_answers() {
        let pulse = Pulse::default();
        assert_eq!(pulse.without_store(), Duration::ZERO);
        let first = pulse.ask_store();
        sleep(Duration::from_millis(30));
        let second = pulse.ask_store();
        drop(second);
        assert!(pulse.without_store() >= Duration::from_millis(30), "another answer is not this one");
        let third = pulse.ask_store();
        drop(first);
        assert!(pulse.without_store() < Duration::from_millis(30));
        drop(third);
        assert_eq!(pulse.without_store(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_wait_with_a_deadline_is_fruitless_but_not_silent() {
        let pulse = Pulse::default();
        pulse.turning(tokio::time::sleep(LOOK_INTERVAL * 3)).await;
        assert!(pulse.silent() <= LOOK_INTERVAL * 2 && pulse.fruitless() >= LOOK_INTERVAL * 3);
    }

    #[test]
    fn a_queue_that_is_down_is_fruitless_but_not_silent() {
        let pulse = Pulse::default();
        sleep(Duration::from_millis(30));
        pulse.turn();
        assert!(pulse.fruitless() >= Duration::from_millis(30));
        assert!(pulse.silent() < pulse.fruitless());
        pulse.beat();
        assert!(pulse.fruitless() < Duration::from_millis(30));
    }
}
