//! When to try again: one pure policy for calls and deliveries.

use std::time::Duration;

use crate::domain::id::sha256_hex;

/// Shortest wait.
const BASE: Duration = Duration::from_millis(500);
/// Longest wait.
const CAP: Duration = Duration::from_secs(600);

/// Wait before attempt `attempt` + 1 (from 1): doubling from half a second to ten minutes, spread by ±20 % so
/// that what failed together does not come back together. `key` makes the spread repeatable.
pub fn backoff(attempt: u32, key: &str) -> Duration {
    let doubled = BASE.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(CAP).mul_f64(0.8 + 0.4 * share(&format!("{key}:{attempt}")))
}

/// A number in [0, 1) that is the same for the same key and looks random between keys.
pub fn share(key: &str) -> f64 {
    let hex = sha256_hex(key.as_bytes());
    // 13 hex digits are 52 bits: exact in a double.
    let bits = u64::from_str_radix(&hex[..13], 16).unwrap_or(0);
    bits as f64 / (1u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn backoff_grows_and_is_bounded(attempt in 1u32..100, key in ".*") {
            let wait = backoff(attempt, &key);
            prop_assert!(wait >= BASE.mul_f64(0.8) && wait <= CAP.mul_f64(1.2));
            prop_assert_eq!(wait, backoff(attempt, &key));
        }

        #[test]
        fn share_is_a_share(key in ".*") {
            prop_assert!((0.0..1.0).contains(&share(&key)));
        }
    }
}
