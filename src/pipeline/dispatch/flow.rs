//! How much a sink is sent at a time: a sink that is down rests, is then asked with one row, and gets more as it takes more. So
//! nobody runs into it with all that has gathered, and a row that brings a whole batch down is found.

use std::time::{Duration, Instant};

use super::policy::MAX_WAIT;
use crate::{
    pipeline::retry::{backoff, share},
    sinks::SinkError,
};

/// Longest rest of a sink that is down and says nothing.
const MAX_REST: Duration = Duration::from_secs(300);
/// A sink that does not let us in rests as one that has failed so many times before: a minute at first, ten at last.
const DENIED: u32 = 7;
/// Failures, one after the other, from which on one row alone is sent.
const ONE_ROW: u32 = 2;
/// Part of a wait that is asked for by which workers come back at different times.
const SPREAD: f64 = 0.2;

/// How a sink stands, as one worker sees it.
#[derive(Debug)]
pub(super) struct Flow {
    /// Tells this worker from others, so that they do not come back together.
    key: String,
    /// Most rows of a batch.
    most: u32,
    /// Rows of the next batch.
    size: u32,
    /// Batches that failed one after the other.
    failures: u32,
    /// When it may be asked again.
    until: Option<Instant>,
    /// When it began to rest.
    since: Option<Instant>,
}

impl Flow {
    /// A sink that takes so many rows at a time.
    pub(super) fn new(key: String, most: u32) -> Self {
        let most = most.max(1);
        Self { key, most, size: most, failures: 0, until: None, since: None }
    }

    /// The sink takes so many rows at a time from now on.
    pub(super) fn takes(&mut self, most: u32) {
        let most = most.max(1);
        self.size = if self.size == self.most { most } else { self.size.min(most) };
        self.most = most;
    }

    /// For how long it rests yet.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// Rows of the next batch.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Batches that may be at work at a time, of so many.
    pub(super) fn batches(&self, most: usize) -> usize {
        if self.failures > 0 || self.size < self.most { 1 } else { most }
    }

    /// Whether the last batch did not fail as a whole.
    pub(super) fn is_up(&self) -> bool {
        self.failures == 0
    }

    /// A batch was answered, whatever became of its items.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.size = self.size.saturating_mul(2).min(self.most);
    }

    /// Answers wanted the sink to be left alone for so long.
    pub(super) fn leave_alone(&mut self, asked: Duration, now: Instant) {
        let spread = 1.0 + SPREAD * share(&self.key);
        self.until = self.until.max(now.checked_add(asked.min(MAX_WAIT).mul_f64(spread)));
    }

    /// A batch that was sent at `sent` failed as a whole; says for how long the sink rests from now on. Several batches that were
    /// sent before it began to rest have failed for one reason.
    pub(super) fn failed(&mut self, error: &SinkError, sent: Instant, now: Instant) -> Duration {
        let is_new = self.since.is_none_or(|since| sent >= since);
        if is_new {
            self.failures += 1;
            self.since = Some(now);
        }
        if self.failures >= ONE_ROW {
            self.size = 1;
        }
        let (harder, after) = match error {
            SinkError::Denied(_) => (DENIED, None),
            SinkError::Again { after, .. } => (0, *after),
            SinkError::Refused(_) => (0, None),
        };
        let pause = match harder {
            0 => backoff(self.failures, &self.key).min(MAX_REST),
            harder => backoff(self.failures + harder, &self.key),
        };
        let asked = after.unwrap_or_default().min(MAX_WAIT);
        let spread = 1.0 + SPREAD * share(&format!("{}:{}", self.key, self.failures));
        let rest = pause.max(asked.mul_f64(spread));
        self.until = self.until.max(now.checked_add(rest));
        self.rest(now).unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(after: Option<u64>) -> SinkError {
        SinkError::Again { reason: "down".into(), after: after.map(Duration::from_secs) }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_sink_that_has_learnt_to_take_more_gets_more() {
        let mut flow = Flow::new("w".into(), 5);
        flow.takes(100);
        assert_eq!((flow.size(), flow.batches(4)), (100, 4));
        flow.takes(7);
        assert_eq!(flow.size(), 7);
        let now = Instant::now();
        flow.failed(&down(None), now, now);
        flow.failed(&down(None), now + secs(1), now + secs(1));
        flow.takes(100);
        assert_eq!(flow.size(), 1, "while it is down it gets little");
    }

    #[test]
    fn a_sink_that_takes_a_part_and_wants_to_be_left_alone_is() {
        let (mut flow, now) = (Flow::new("w".into(), 100), Instant::now());
        flow.answered();
        flow.leave_alone(secs(30), now);
        assert!(flow.rest(now).is_some_and(|rest| rest >= secs(30) && rest <= secs(36)));
        flow.leave_alone(secs(1), now);
        assert!(flow.rest(now).is_some_and(|rest| rest >= secs(30)), "the longest wait holds");
        assert!(flow.is_up() && flow.size() == 100);
        flow.leave_alone(Duration::MAX, now);
        assert!(flow.rest(now).is_some_and(|rest| rest <= MAX_WAIT.mul_f64(1.2)));
    }

    #[test]
    fn a_sink_that_is_down_rests_longer_and_longer_and_is_then_asked_with_little() {
        let (mut flow, mut now) = (Flow::new("w".into(), 100), Instant::now());
        assert_eq!((flow.size(), flow.batches(4), flow.rest(now)), (100, 4, None));
        let mut last = Duration::ZERO;
        for failure in 1..40 {
            let rest = flow.failed(&down(None), now, now);
            assert!(rest <= MAX_REST && (failure > 9 || rest > last), "{failure}: {rest:?} after {last:?}");
            assert_eq!((flow.rest(now), flow.batches(4)), (Some(rest), 1));
            assert_eq!(flow.size(), if failure == 1 { 100 } else { 1 });
            (last, now) = (rest, now + rest);
            assert_eq!(flow.rest(now), None);
        }
        for (size, batches) in [(2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (64, 1), (100, 4), (100, 4)] {
            flow.answered();
            assert_eq!((flow.size(), flow.batches(4)), (size, batches));
        }
    }

    #[test]
    fn batches_that_were_on_their_way_count_once() {
        let (mut flow, sent) = (Flow::new("w".into(), 10), Instant::now());
        let first = flow.failed(&down(None), sent, sent + secs(1));
        for _ in 0..5 {
            flow.failed(&down(None), sent, sent + secs(1));
        }
        assert_eq!(flow.rest(sent + secs(1)), Some(first));
        assert_eq!(flow.size(), 10, "one failure is no outage");
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_and_capped_and_spread() {
        let now = Instant::now();
        let rest = |key: &str, after| Flow::new(key.into(), 1).failed(&down(Some(after)), now, now);
        for key in ["a", "b", "c"] {
            assert!((secs(60)..secs(72)).contains(&rest(key, 60)));
            assert!((secs(3600)..secs(4320)).contains(&rest(key, 1_000_000)));
        }
        assert_ne!(rest("a", 60), rest("b", 60));
    }

    #[test]
    fn a_sink_that_lets_nobody_in_rests_long() {
        let (mut flow, now) = (Flow::new("w".into(), 1), Instant::now());
        let denied = SinkError::Denied("key".into());
        assert!((secs(50)..secs(80)).contains(&flow.failed(&denied, now, now)));
        let later = (1..20).fold(now, |now, _| now + flow.failed(&denied, now, now));
        assert!(flow.failed(&denied, later, later) <= secs(720));
        flow.answered();
        assert!(flow.is_up());
    }
}
