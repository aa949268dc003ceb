//! What tells a hung model from an idle one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Counts requests that wait, and when a batch last came to its end.
pub(super) struct Progress {
    /// The clock of the times below.
    started: Instant,
    /// Requests that wait for their answer.
    open: AtomicUsize,
    /// When the first of them came, in milliseconds.
    busy_since_ms: AtomicU64,
    /// When a batch last came to its end, in milliseconds.
    last_run_ms: AtomicU64,
}

/// One request that waits.
pub(super) struct Open(Arc<Progress>);

impl Progress {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            open: AtomicUsize::new(0),
            busy_since_ms: AtomicU64::new(0),
            last_run_ms: AtomicU64::new(0),
        }
    }

    /// Counts a request until the guard is dropped, by an answer or by a caller that goes.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        if self.open.fetch_add(1, Ordering::SeqCst) == 0 {
            self.busy_since_ms.store(self.now_ms(), Ordering::SeqCst);
        }
        Open(Arc::clone(self))
    }

    /// Notes that a batch has come to its end.
    pub(super) fn ran(&self) {
        self.last_run_ms.store(self.now_ms(), Ordering::SeqCst);
    }

    /// How long ago a batch last came to its end.
    pub(super) fn since_last_run(&self) -> Duration {
        self.since(&self.last_run_ms)
    }

    /// How long requests have been waiting without any batch coming to its end; zero when none waits.
    pub(super) fn stuck(&self) -> Duration {
        match self.open.load(Ordering::SeqCst) {
            0 => Duration::ZERO,
            _ => self.since_last_run().min(self.since(&self.busy_since_ms)),
        }
    }

    fn since(&self, then_ms: &AtomicU64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(then_ms.load(Ordering::SeqCst)))
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
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
