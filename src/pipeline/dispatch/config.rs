//! `[delivery]`: how sinks are delivered to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// `[delivery]`: how much at a time, and when a delivery is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// Batches of one sink that are at work at a time, of one worker; 1 to 64.
    pub batches: usize,
    /// Attempts on one delivery until it is dead, where the sink as a whole works; 1 to 1000. The pauses between them grow to ten
    /// minutes.
    pub max_attempts: u32,
    /// Days after which a delivery that fails is dead, also where the sink was down all the time; 1 to 365.
    pub give_up_days: u32,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self { batches: 4, max_attempts: 100, give_up_days: 7 }
    }
}

impl DeliveryConfig {
    /// Checks ranges; the error is the key and what to write there.
    ///
    /// # Errors
    /// A remedy.
    pub fn check(&self) -> Result<(), &'static str> {
        let checks = [
            ((1..=64).contains(&self.batches), "[delivery] batches: need 1 to 64"),
            ((1..=1000).contains(&self.max_attempts), "[delivery] max_attempts: need 1 to 1000"),
            ((1..=365).contains(&self.give_up_days), "[delivery] give_up_days: need 1 to 365"),
        ];
        checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, remedy)| Err(*remedy))
    }

    /// The age at which a delivery that fails is dead, in milliseconds.
    pub(super) fn give_up_ms(&self) -> i64 {
        i64::from(self.give_up_days) * DAY_MS
    }
}
