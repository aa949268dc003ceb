//! Ends what outlives its deadline: one thread that waits beside the one that works.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What the watcher does when the time is over.
type End = Box<dyn FnOnce() + Send>;

/// The clock of a session's runs, one at a time. Its thread ends with it.
pub(super) struct Deadline {
    limit: Duration,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Between the thread that works and the one that watches.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the watcher waits for.
enum State {
    /// The next run.
    Idle,
    /// The end of this run or of its time.
    Armed { until: Instant, end: End },
    /// Word of the run that it has ended.
    Expired,
    /// Nothing any more.
    Closed,
}

impl Deadline {
    /// Starts the watcher.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn new(limit: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::new(State::Idle), changed: Condvar::new() });
        let watched = Arc::clone(&shared);
        let watcher = std::thread::Builder::new().name("model-deadline".into());
        let thread = Some(watcher.spawn(move || watched.watch())?);
        Ok(Self { limit, shared, thread })
    }

    /// Starts the clock of one run, in place of one that was never stopped.
    pub(super) fn start(&self, end: impl FnOnce() + Send + 'static) {
        // A limit beyond the clock's own range is never reached.
        if let Some(until) = Instant::now().checked_add(self.limit) {
            self.shared.change(State::Armed { until, end: Box::new(end) });
        }
    }

    /// Stops the clock; true when the time was over and the run has been told. It is not told later.
    pub(super) fn stop(&self) -> bool {
        // The watcher need not know: it wakes at the old deadline and finds another or none.
        matches!(std::mem::replace(&mut *self.shared.lock(), State::Idle), State::Expired)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.shared.change(State::Closed);
        if let Some(thread) = self.thread.take() {
            // It only waits for the change above.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Waits for runs and ends those whose time is over, until closed.
    fn watch(&self) {
        let mut state = self.lock();
        loop {
            let left = match &*state {
                State::Closed => return,
                State::Armed { until, .. } => Some(until.saturating_duration_since(Instant::now())),
                State::Idle | State::Expired => None,
            };
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    if let State::Armed { end, .. } = std::mem::replace(&mut *state, State::Expired) {
                        end();
                    }
                    state
                }
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Puts another state and wakes the watcher.
    fn change(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_one();
    }

    /// The state; a panic elsewhere leaves it readable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Long enough for any machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Starts a run that tells when it is ended.
    fn start(deadline: &Deadline) -> Receiver<Instant> {
        let (sender, receiver) = channel();
        deadline.start(move || {
            sender.send(Instant::now()).ok();
        });
        receiver
    }

    #[test]
    fn every_run_that_is_late_is_ended() {
        let deadline = Deadline::new(Duration::from_millis(5)).unwrap();
        for _ in 0..3 {
            start(&deadline).recv_timeout(PATIENCE).expect("the run is ended");
            assert!(deadline.stop());
            assert!(!deadline.stop(), "one run is late once");
        }
    }

    #[test]
    fn a_run_in_time_is_left_alone_and_the_next_has_its_own_time() {
        let limit = Duration::from_secs(1);
        let deadline = Deadline::new(limit).unwrap();
        let first = start(&deadline);
        assert!(!deadline.stop());
        std::thread::sleep(limit / 2);
        let begun = Instant::now();
        let ended = start(&deadline).recv_timeout(PATIENCE).expect("the second is ended");
        assert!(ended - begun >= limit, "after {:?}", ended - begun);
        assert!(first.try_recv().is_err(), "the first is not");
    }

    #[test]
    fn a_run_that_was_never_stopped_makes_way_for_the_next() {
        let deadline = Deadline::new(Duration::from_millis(5)).unwrap();
        for _ in 0..2 {
            start(&deadline).recv_timeout(PATIENCE).expect("the run is ended");
        }
        assert!(deadline.stop());
    }

    #[test]
    fn no_limit_is_too_long() {
        let deadline = Deadline::new(Duration::MAX).unwrap();
        start(&deadline);
        assert!(!deadline.stop());
    }
}
