//! CPU work leaves the async runtime: a megabyte of text takes a second to split and tokenise, in which leases,
//! health and the other calls must go on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::task::spawn_blocking;

/// Text up to this size is decoded or checked by rules within half a millisecond, which is less than the hop to
/// another thread is worth (`benches/rules_only` judges 12 000 calls of 2 kB a second on one core).
pub const SMALL_BYTES: usize = 8 << 10;

/// The work panicked: a fault of ours that this input brings out. The panic hook has logged where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("evaluation panicked")]
pub struct Panicked;

/// Runs CPU work over so many bytes: at once when they are few, else on the blocking pool. There are at most as many
/// at a time as calls in flight.
///
/// # Errors
/// [`Panicked`], so that one poisonous input ends as its own retry and not as the worker's end.
pub async fn off_runtime<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    if bytes <= SMALL_BYTES {
        // What the work held is dropped with it: nobody sees a half-done state.
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked);
    }
    // The other error of a join is a cancelled task, and a blocking one cannot be cancelled once it runs.
    spawn_blocking(work).await.map_err(|_| Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_nothing_more() {
        for bytes in [0, usize::MAX] {
            assert_eq!(off_runtime(bytes, || 7).await, Ok(7));
            assert_eq!(off_runtime(bytes, || -> u8 { panic!("poison") }).await, Err(Panicked));
        }
    }
}
