//! A breaker: a judge that is out is left alone for a while, then tried with one call at a time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures, one after the other, that open it.
const FAILURES: u32 = 5;
/// First pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Calls go through; so many failures came one after the other.
    Closed(u32),
    /// No call goes through until then; so long is the pause.
    Open { until: Instant, pause: Duration },
    /// One call is on its way to see; no other goes through until then, should it never come back.
    Probing { until: Instant, pause: Duration },
}

/// Shared by the calls of one judge.
#[derive(Debug)]
pub struct Breaker(Mutex<State>);

impl Default for Breaker {
    fn default() -> Self {
        Self(Mutex::new(State::Closed(0)))
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The judge answered, whatever.
    Answered,
    /// It is out: nothing came, or an error of its own.
    Out,
    /// Only a person can mend it: a key, an account, a wrong address.
    Person,
}

impl Breaker {
    /// Whether a call may go through at this time. Who is let through says what came of it.
    pub fn lets_through(&self, now: Instant, deadline: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Closed(_) => true,
            State::Open { until, pause } | State::Probing { until, pause } if until <= now => {
                *state = State::Probing { until: now + deadline, pause };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    /// Takes note of what came of a call; true where this opens the breaker.
    pub fn note(&self, outcome: Outcome, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let longer = |pause: Duration| (pause * 2).min(MAX_PAUSE);
        let (next, opened) = match (outcome, *state) {
            (Outcome::Answered, _) => (State::Closed(0), false),
            (Outcome::Person, _) => (State::Open { until: now + MAX_PAUSE, pause: MAX_PAUSE }, true),
            (Outcome::Out, State::Closed(failures)) if failures + 1 < FAILURES => {
                (State::Closed(failures + 1), false)
            }
            (Outcome::Out, State::Closed(_)) => {
                (State::Open { until: now + FIRST_PAUSE, pause: FIRST_PAUSE }, true)
            }
            (Outcome::Out, State::Probing { pause, .. }) => {
                (State::Open { until: now + longer(pause), pause: longer(pause) }, true)
            }
            // A call that was let through before it opened.
            (Outcome::Out, open @ State::Open { .. }) => (open, false),
        };
        *state = next;
        opened
    }

    /// Whether it is open, for metrics.
    pub fn is_open(&self) -> bool {
        !matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), State::Closed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_see() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let at = |secs: u64| start + Duration::from_secs(secs);
        for _ in 0..4 {
            assert!(breaker.lets_through(start, DEADLINE) && !breaker.note(Outcome::Out, start));
        }
        assert!(!breaker.note(Outcome::Answered, start), "an answer forgets the failures");
        for failure in 0..5 {
            assert_eq!(breaker.note(Outcome::Out, start), failure == 4);
        }
        assert!(breaker.is_open() && !breaker.lets_through(at(9), DEADLINE));
        assert!(breaker.lets_through(at(10), DEADLINE), "one");
        assert!(!breaker.lets_through(at(11), DEADLINE), "and no other");
        assert!(breaker.lets_through(at(41), DEADLINE), "unless that one never came back");
        assert!(breaker.note(Outcome::Out, at(42)));
        assert!(!breaker.lets_through(at(61), DEADLINE), "the pause grows");
        assert!(breaker.lets_through(at(62), DEADLINE) && !breaker.note(Outcome::Answered, at(63)));
        assert!(!breaker.is_open() && breaker.lets_through(at(63), DEADLINE));
    }

    #[test]
    fn what_only_a_person_can_mend_opens_it_at_once_and_for_long() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        assert!(breaker.note(Outcome::Person, start));
        assert!(!breaker.lets_through(start + Duration::from_secs(299), DEADLINE));
        assert!(breaker.lets_through(start + Duration::from_secs(300), DEADLINE));
    }
}
