//! What becomes of a row whose delivery failed: when it is tried again, and when no more. Pure.

use std::time::Duration;

use uuid::Uuid;

use super::DeliveryConfig;
use crate::{pipeline::retry::backoff, sinks, store::Undelivered};

/// Longest wait that a backend may ask for.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Longest reason that is kept, in bytes.
const MAX_REASON_BYTES: usize = 1000;
/// Attempts on a row that is refused without saying whether a repeat can help. Helicone's contract: once or twice more.
const UNCLEAR_ATTEMPTS: u32 = 3;

/// A row that is being delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Which.
    pub delivery_id: Uuid,
    /// Attempts before this one.
    pub attempts: u32,
    /// For how long it has waited.
    pub age_ms: i64,
}

impl Row {
    /// The row failed, and the sink works: it has used up an attempt.
    pub(super) fn failed(
        &self,
        config: &DeliveryConfig,
        reason: &str,
        after: Option<Duration>,
    ) -> Undelivered {
        let attempt = self.attempts.saturating_add(1);
        if attempt >= config.max_attempts {
            return self.never(&format!("given up after {attempt} attempts: {reason}"));
        }
        let asked = after.unwrap_or_default().min(MAX_WAIT);
        let wait = backoff(attempt, &self.delivery_id.to_string()).max(asked);
        self.again(config, reason, wait, true)
    }

    /// The row was refused, and nobody can say whether a repeat helps: it is tried a few times.
    pub(super) fn unclear(&self, config: &DeliveryConfig, reason: &str) -> Undelivered {
        let max_attempts = config.max_attempts.min(UNCLEAR_ATTEMPTS);
        self.failed(&DeliveryConfig { max_attempts, ..*config }, reason, None)
    }

    /// The sink is down: the row waits with it, and uses up no attempt.
    pub(super) fn waits(&self, config: &DeliveryConfig, reason: &str, rest: Duration) -> Undelivered {
        self.again(config, reason, rest, false)
    }

    /// It will never be delivered.
    pub(super) fn never(&self, reason: &str) -> Undelivered {
        Undelivered { delivery_id: self.delivery_id, after_ms: None, is_attempt: true, error: short(reason) }
    }

    /// It is tried again, unless it is too old.
    fn again(&self, config: &DeliveryConfig, reason: &str, wait: Duration, is_attempt: bool) -> Undelivered {
        if self.age_ms >= config.give_up_ms() {
            let days = config.give_up_days;
            return Undelivered {
                is_attempt,
                ..self.never(&format!("given up after {days} days: {reason}"))
            };
        }
        let after_ms = Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        Undelivered { delivery_id: self.delivery_id, after_ms, is_attempt, error: short(reason) }
    }
}

/// A reason that is kept with its row.
fn short(reason: &str) -> String {
    sinks::cut(reason, MAX_REASON_BYTES).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: DeliveryConfig = DeliveryConfig { batches: 4, max_attempts: 10, give_up_days: 2 };
    const DAY_MS: i64 = 86_400_000;

    fn row(attempts: u32, age_ms: i64) -> Row {
        Row { delivery_id: Uuid::from_u128(7), attempts, age_ms }
    }

    proptest! {
        #[test]
        fn a_row_is_tried_again_until_its_attempts_or_its_days_are_over(
            attempts in 0u32..20, age_ms in 0i64..4 * DAY_MS, asked in 0u64..10_000_000, reason in ".{0,2000}",
        ) {
            let row = row(attempts, age_ms);
            let failed = row.failed(&CONFIG, &reason, Some(Duration::from_secs(asked)));
            let is_over = attempts + 1 >= 10 || age_ms >= 2 * DAY_MS;
            prop_assert_eq!(failed.after_ms.is_none(), is_over);
            prop_assert!(failed.is_attempt && failed.error.len() <= MAX_REASON_BYTES);
            if let Some(after_ms) = failed.after_ms {
                let asked = Duration::from_secs(asked).min(MAX_WAIT);
                prop_assert!(after_ms >= i64::try_from(asked.as_millis()).unwrap());
                prop_assert!(after_ms <= 3_600_000, "longer than anybody may ask for: {}", after_ms);
            }
            let waits = row.waits(&CONFIG, &reason, Duration::from_secs(5));
            prop_assert!(!waits.is_attempt, "the sink was down");
            prop_assert_eq!(waits.after_ms, (age_ms < 2 * DAY_MS).then_some(5000));
        }
    }

    #[test]
    fn what_is_refused_without_a_word_on_repeats_is_tried_a_few_times() {
        let after = [0, 1, 2].map(|attempts| row(attempts, 0).unclear(&CONFIG, "odd"));
        assert_eq!(after.each_ref().map(|one| one.after_ms.is_some()), [true, true, false]);
        assert_eq!(after[2].error, "given up after 3 attempts: odd");
        let once = DeliveryConfig { max_attempts: 1, ..CONFIG };
        assert_eq!(row(0, 0).unclear(&once, "odd").after_ms, None, "max_attempts may be less");
    }

    #[test]
    fn the_dead_say_why() {
        assert_eq!(row(9, 0).failed(&CONFIG, "500", None).error, "given up after 10 attempts: 500");
        assert_eq!(row(0, 2 * DAY_MS).waits(&CONFIG, "down", MAX_WAIT).error, "given up after 2 days: down");
        let never = row(0, 0).never("status 422");
        assert_eq!((never.after_ms, never.error.as_str()), (None, "status 422"));
    }
}
