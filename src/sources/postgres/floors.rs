//! Where the waiting rows of each lane begin.
//!
//! Rows that were deleted stay in the index until the server has vacuumed, and a look that began before them would walk
//! over all of them: a backlog would drain slower and slower. So a look begins where the last one ended. A row behind
//! that point is rare (its publisher committed late, or another worker's lease was rolled back) and is found by a look
//! at everything, every now and then.

use std::time::Duration;

use tokio::time::Instant;

use crate::sources::LANES;

/// How often everything is looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// A look at everything that takes long comes less often: it may take one part in so many of the time.
const SWEEP_SHARE: u32 = 20;

/// The time in Unix milliseconds from which each lane is looked at.
#[derive(Debug)]
pub(super) struct Floors {
    due_ms: Vec<i64>,
    next_sweep: Instant,
    sweeping: bool,
}

impl Floors {
    /// The next look is at everything.
    pub fn new() -> Self {
        Self { due_ms: vec![i64::MIN; usize::from(LANES)], next_sweep: Instant::now(), sweeping: false }
    }

    /// The floor of each lane.
    pub fn due_ms(&self) -> &[i64] {
        &self.due_ms
    }

    /// Before a look: when it is time again, this one is at everything.
    pub fn sweep(&mut self, now: Instant) {
        self.sweeping = now >= self.next_sweep;
        if self.sweeping {
            self.due_ms.fill(i64::MIN);
        }
    }

    /// A row of this lane was taken that was due then; none for one that a clock set back had stranded.
    pub fn raise(&mut self, lane: i16, due_ms: Option<i64>) {
        let floor = usize::try_from(lane).ok().and_then(|lane| self.due_ms.get_mut(lane));
        if let (Some(floor), Some(due_ms)) = (floor, due_ms) {
            *floor = due_ms.max(*floor);
        }
    }

    /// After a look that began then and took so long.
    pub fn looked(&mut self, began: Instant, took: Duration) {
        if self.sweeping {
            self.next_sweep = began + SWEEP_INTERVAL.max(took * SWEEP_SHARE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_begins_where_the_last_one_ended_until_it_is_time_for_everything() {
        let mut floors = Floors::new();
        let began = Instant::now();
        floors.sweep(began);
        floors.raise(3, Some(70));
        floors.raise(3, Some(50));
        floors.raise(4, None);
        floors.looked(began, Duration::ZERO);
        floors.sweep(began);
        assert_eq!((floors.due_ms()[3], floors.due_ms()[4]), (70, i64::MIN));
        let again = began + SWEEP_INTERVAL;
        floors.sweep(again);
        assert_eq!(floors.due_ms()[3], i64::MIN);
        floors.looked(again, SWEEP_INTERVAL);
        floors.raise(3, Some(90));
        floors.sweep(again + SWEEP_INTERVAL * 2);
        assert_eq!(floors.due_ms()[3], 90, "a long look comes less often");
    }
}
