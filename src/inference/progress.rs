//! What tells a hung model from an idle one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Counts requests that wait, and when a batch last came to its end.
pub(super) struct Progress {
    /// The clock of the times below.
    started: Instant,
    /// Changed and read as one: a count of the present with a time of the past would look like a stall.
    busy: Mutex<Busy>,
    /// When a batch last came to its end, in milliseconds.
    last_run_ms: AtomicU64,
}

/// The requests that wait for their answer.
#[derive(Clone, Copy, Default)]
struct Busy {
    /// How many.
    open: usize,
    /// When the first of them came, in milliseconds.
    since_ms: u64,
}

/// One request that waits.
pub(super) struct Open(Arc<Progress>);

impl Progress {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), busy: Mutex::new(Busy::default()), last_run_ms: AtomicU64::new(0) }
    }

    /// Counts a request until the guard is dropped, by an answer or by a caller that goes.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.change(|busy| {
            if busy.open == 0 {
                busy.since_ms = self.now_ms();
            }
            busy.open += 1;
        });
        Open(Arc::clone(self))
    }

    /// Notes that a batch has come to its end.
    pub(super) fn ran(&self) {
        self.last_run_ms.store(self.now_ms(), Ordering::SeqCst);
    }

    /// How long ago a batch last came to its end.
    pub(super) fn since_last_run(&self) -> Duration {
        self.since(self.last_run_ms.load(Ordering::SeqCst))
    }

    /// How long requests have been waiting without any batch coming to its end; zero when none waits.
    pub(super) fn stuck(&self) -> Duration {
        match self.change(|busy| *busy) {
            Busy { open: 0, .. } => Duration::ZERO,
            Busy { since_ms, .. } => self.since_last_run().min(self.since(since_ms)),
        }
    }

    /// Works on the waiting requests while nobody else does.
    fn change<T>(&self, work: impl FnOnce(&mut Busy) -> T) -> T {
        work(&mut self.busy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long ago that was.
    fn since(&self, then_ms: u64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(then_ms))
    }

    /// Milliseconds since the start.
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.change(|busy| busy.open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn only_a_request_that_waits_makes_it_stuck() {
        let progress = Arc::new(Progress::new());
        let pause = Duration::from_millis(20);
        sleep(pause);
        assert_eq!(progress.stuck(), Duration::ZERO);
        let one = progress.open();
        assert!(progress.stuck() < pause, "waiting begins with the request");
        sleep(pause);
        assert!(progress.stuck() >= pause);
        let another = progress.open();
        assert!(progress.stuck() >= pause, "a second request does not hide how long the first waits");
        progress.ran();
        assert!(progress.stuck() < pause, "a batch is progress");
        drop((one, another));
        assert_eq!(progress.stuck(), Duration::ZERO);
    }
}
