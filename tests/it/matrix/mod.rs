//! The fault matrix: one test for each row, one line of figures for each test.
//!
//! `scripts/faults` runs the rows and makes a table of their lines; the short ones are ordinary tests, the long ones are
//! ignored there and run with `scripts/faults --all`. What a row needs and does not find it names, and passes.

mod backends;
mod bites;
mod brokers;
mod contention;
mod crashes;
mod databases;
mod disk;
#[cfg(feature = "kafka")]
mod kafka;
mod ledger;
mod notices;
mod poison;
mod proxy;
pub mod servers;
mod sqs;
mod startup;
mod stops;
mod versions;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

/// Which row runs.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other row runs: two cores are soon too few, and a row that is starved shows nothing.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something while no row runs, such as starting a server.
fn with<T>(work: impl FnOnce() -> T) -> T {
    let _turn = turn();
    work()
}

/// Asks until there is an answer, for at most so long.
pub fn within<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > until {
            return None;
        }
        sleep(Duration::from_millis(20));
    }
}

/// A small generator (SplitMix64): the same faults on every run.
struct Chance(u64);

impl Chance {
    /// A number below `most`.
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }

    /// A time between these.
    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }

    /// Another order.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).unwrap();
            items.swap(at, other);
        }
    }
}
